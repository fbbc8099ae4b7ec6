//! Linux and Android: by system calls.

pub(crate) mod membarrier;
mod ordinary;

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::*};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

pub(crate) use super::loaded::stay_loaded;
pub(crate) use super::posix::{at_exit, in_children};
pub(crate) use ordinary::become_ordinary;

/// The clock that the daemon has as well.
#[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
pub(crate) use barrierd_client::clock::now_ns;

/// Returns nanoseconds of `CLOCK_MONOTONIC`. Orders nothing.
#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
#[inline]
#[expect(clippy::cast_sign_loss, reason = "the kernel counts from boot: neither part is negative")]
pub(crate) fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // `tv_nsec` has the width of a C long.
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The threads that sleep on a word: in the kernel.
#[cfg(not(barrierd_loom))]
#[derive(Debug, Default)]
pub(crate) struct WaitQueue(());

#[cfg(not(barrierd_loom))]
impl WaitQueue {
    pub(crate) fn wait(
        &self,
        word: &core::sync::atomic::AtomicU32,
        value: u32,
        longest: Option<core::time::Duration>,
    ) {
        use rustix::thread::futex;
        let timeout = longest.map(|longest| futex::Timespec {
            tv_sec: i64::try_from(longest.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        });
        let _ = futex::wait(word, futex::Flags::PRIVATE, value, timeout.as_ref());
    }

    pub(crate) fn wake(&self, word: &core::sync::atomic::AtomicU32) {
        use rustix::thread::futex;
        let _ = futex::wake(word, futex::Flags::PRIVATE, 1);
    }
}

/// Returns the kernel's number of the calling thread.
pub(crate) fn own_tid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()
}

/// Returns the number of the process, by a system call.
pub(crate) fn process_id() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

/// The word of this process, on a page that the kernel wipes in children.
static WORD: AtomicPtr<AtomicUsize> = AtomicPtr::new(ptr::null_mut());

/// Returns a word that is 0 at first, and again in the child of a fork; `None` where the kernel wipes nothing. The page
/// is made once and kept.
///
/// A `vfork` child shares its parent's memory and is the same process in every respect that counts.
pub(crate) fn mark() -> Option<&'static AtomicUsize> {
    // Acquire: pairs with the exchange below.
    let mut word = WORD.load(Acquire);
    if word.is_null() {
        let page = wiped_page()?;
        // No lock: a fork in the middle would leave it locked in the child.
        match WORD.compare_exchange(ptr::null_mut(), page, AcqRel, Acquire) {
            Ok(_) => word = page,
            Err(other) => {
                // SAFETY: the page was made above, and no other thread knows it.
                let _ = unsafe { munmap(page.cast(), size_of::<AtomicUsize>()) };
                word = other;
            }
        }
    }
    // SAFETY: mapped for the life of the process, aligned, zeros at first and after a fork, and only
    // touched by atomic operations.
    Some(unsafe { &*word })
}

/// An advice that no kernel knows.
const NONSENSE: i32 = 0x6_2f6b;

/// Maps a private page of zeros (`MADV_WIPEONFORK`, Linux 4.14).
///
/// An emulator may accept every advice and follow none (qemu-user before 8.0). So one that takes nonsense is not
/// believed.
fn wiped_page() -> Option<*mut AtomicUsize> {
    let length = size_of::<AtomicUsize>();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, which replaces none; the advice changes nothing here, only what a
    // child gets, and an unknown one changes nothing at all.
    unsafe {
        let page = mmap_anonymous(ptr::null_mut(), length, access, MapFlags::PRIVATE).ok()?;
        let wiped = madvise(page, length, Advice::LinuxWipeOnFork).is_ok();
        if !wiped || takes_nonsense(page, length) {
            let _ = munmap(page, length);
            return None;
        }
        Some(page.cast())
    }
}

/// Returns whether the kernel, or what stands for it, accepts an advice that does not exist.
fn takes_nonsense(page: *mut core::ffi::c_void, length: usize) -> bool {
    unsafe extern "C" {
        /// Of the C library, since rustix has no number that does not exist.
        #[link_name = "madvise"]
        fn advise(page: *mut core::ffi::c_void, length: usize, advice: core::ffi::c_int) -> i32;
    }
    // SAFETY: an advice that does not exist changes nothing, wherever.
    unsafe { advise(page, length, NONSENSE) == 0 }
}
