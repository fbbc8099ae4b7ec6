//! macOS, iOS, the BSDs, illumos and Solaris: by POSIX.
//!
//! None of them has a barrier for the whole process that can be relied on, except FreeBSD on x86-64 (`freebsd.rs`).

#[cfg(not(barrierd_loom))]
pub(crate) use super::by_std::WaitQueue;
#[cfg(not(all(target_os = "freebsd", target_arch = "x86_64")))]
pub(crate) use super::by_std::no_membarrier as membarrier;
pub(crate) use super::by_std::now_ns;
#[cfg(all(target_os = "freebsd", target_arch = "x86_64"))]
pub(crate) use super::freebsd as membarrier;
pub(crate) use super::loaded::stay_loaded;
pub(crate) use super::posix::{at_exit, in_children};
use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering::*};

#[cfg(not(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly")))]
pub(crate) use super::by_std::own_tid;

/// Returns the kernel's number of the calling thread, as far as it fits.
#[cfg(target_vendor = "apple")]
pub(crate) fn own_tid() -> u32 {
    unsafe extern "C" {
        /// Of the thread 0: the calling one.
        fn pthread_threadid_np(thread: usize, id: *mut u64) -> core::ffi::c_int;
    }
    let mut id = 0;
    // SAFETY: room for the answer; the thread is the calling one.
    unsafe { pthread_threadid_np(0, &raw mut id) };
    u32::try_from(id & u64::from(u32::MAX)).unwrap_or(0)
}

/// Returns the kernel's number of the calling thread.
#[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
pub(crate) fn own_tid() -> u32 {
    unsafe extern "C" {
        safe fn pthread_getthreadid_np() -> core::ffi::c_int;
    }
    pthread_getthreadid_np().unsigned_abs()
}

/// Returns the number of the process.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// The word of this process, which [`wipe`] wipes in children.
static WORD: AtomicUsize = AtomicUsize::new(0);

extern "C" fn wipe() {
    WORD.store(0, Relaxed);
}

/// Returns a word that is 0 at first, and again in the child of a fork, unless that is made by `_Fork`, whose child must
/// not use this library; `None` if there is no room for the handler.
pub(crate) fn mark() -> Option<&'static AtomicUsize> {
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;
    static WIPED: AtomicU8 = AtomicU8::new(UNKNOWN);
    // Relaxed: threads that come first together register it twice, which does no harm.
    if WIPED.load(Relaxed) == UNKNOWN {
        let answer = if in_children(wipe) { YES } else { NO };
        // The first answer stays.
        let _ = WIPED.compare_exchange(UNKNOWN, answer, Relaxed, Relaxed);
    }
    (WIPED.load(Relaxed) == YES).then_some(&WORD)
}

/// A new thread has the scheduling of its starter, and keeps it.
pub(crate) fn become_ordinary() {}
