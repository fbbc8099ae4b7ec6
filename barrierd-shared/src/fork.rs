//! Tells a forked child from its parent by one load, and keeps forks out of moments that no child may inherit.
//!
//! This file owns a private page that the kernel hands to children as zeros (`MADV_WIPEONFORK`, Linux 4.14). In it are a number, of
//! which each process in a line of forks has another, and the lock that [`NoFork`] takes. What a participant may do, it may do
//! in the process that it was made in. It knows nothing of participants.

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;
use std::{ptr, thread};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

/// The last number given. A child inherits it, so that it takes another than any of its ancestors.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The page, once there is one; it is never unmapped.
static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

/// What a child gets as zeros: no number yet, and nobody keeps forks out.
#[repr(C)]
struct Page {
    number: AtomicU64,
    /// How often the thread has it that keeps forks out, or is in one; above, that thread's id.
    forks: AtomicU64,
}

const DEPTH: u64 = (1 << 32) - 1;
/// Between two looks at a lock that is held for some ten system calls, or for a fork.
const SLEEP: Duration = Duration::from_micros(50);

impl Page {
    /// Waits until no other thread has it. The one that has it may have it again: a fork's handlers may join a region.
    fn enter(&self) {
        let me = me();
        loop {
            let word = self.forks.load(Ordering::Relaxed);
            if word & !DEPTH == me {
                // Relaxed: nobody else changes it meanwhile.
                self.forks.store(word + 1, Ordering::Relaxed);
                return;
            }
            // Acquire: pairs with the Release in `leave`.
            let taken =
                self.forks.compare_exchange(0, me | 1, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return;
            }
            thread::sleep(SLEEP);
        }
    }

    /// In a child it finds a zero, and does nothing.
    fn leave(&self) {
        let word = self.forks.load(Ordering::Relaxed);
        if word & !DEPTH == me() {
            let left = if word & DEPTH > 1 { word - 1 } else { 0 };
            // Release: pairs with the Acquire in `enter`.
            self.forks.store(left, Ordering::Release);
        }
    }
}

fn me() -> u64 {
    u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()) << 32
}

/// While it lives, no `fork` of the C library runs in this process: others wait for it, and it waits for them. So what it
/// embraces must be short and must not allocate, since an allocator may have locks in a fork.
///
/// Four ways around it are left: a fork by a system call of one's own or by `_Fork`, which run no handlers; a fork in a signal handler
/// that has interrupted this very thread here; one that another thread had begun before this process used the crate
/// for the first time; and a library that was loaded and closed again while its fork was under way.
pub(crate) struct NoFork(&'static Page, PhantomData<*const ()>);

impl NoFork {
    pub(crate) fn new() -> io::Result<NoFork> {
        let page = page()?;
        page.enter();
        Ok(NoFork(page, PhantomData))
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        self.0.leave();
    }
}

extern "C" fn before_fork() {
    // SAFETY: it is null or a page, which is never unmapped.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        page.enter();
    }
}

extern "C" fn after_fork() {
    // SAFETY: as in `before_fork`.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        page.leave();
    }
}

/// The process that something was made in.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    page: &'static Page,
    number: u64,
}

impl Process {
    /// Returns the process that this runs in.
    pub(crate) fn current() -> io::Result<Process> {
        let page = page()?;
        let word = &page.number;
        // Relaxed, all: the kernel orders a fork before everything that the child does, and two threads that number the
        // same process settle it by the exchange.
        let mut number = word.load(Ordering::Relaxed);
        if number == 0 {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            number = match word.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new,
                Err(other) => other,
            };
        }
        Ok(Process { page, number })
    }

    /// Returns whether this runs in that process, not in a child of it. It costs a load.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.page.number.load(Ordering::Relaxed) == self.number
    }

    /// Returns the word that is loaded, and what it holds in that process.
    pub(crate) fn parts(self) -> (*const u64, u64) {
        (self.page.number.as_ptr(), self.number)
    }
}

/// Returns the page, which is made by the first call. No call waits for another: a fork could leave it waiting for good.
fn page() -> io::Result<&'static Page> {
    // Acquire: pairs with the exchange below, by which another thread's handlers are there too.
    // SAFETY: it is null or a page, which is never unmapped.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        return Ok(page);
    }
    let page = MmapRaw::from(MmapOptions::new().len(size_of::<Page>()).map_anon()?);
    // SAFETY: the range is the mapping just made, which nobody refers to. The advice changes what a child gets, and
    // zeros are a valid `Page`.
    unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork)? };
    // Two threads may both do it: each pair of handlers then counts for itself (`Page::enter`).
    // SAFETY: functions of this program; where a library that contains them is closed, the C library forgets them.
    let refused = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), None) };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    let new = page.as_mut_ptr().cast::<Page>();
    // Release: pairs with the Acquire of whoever finds it.
    let first = PAGE.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
    let page = match first {
        Ok(_) => {
            std::mem::forget(page);
            new
        }
        Err(other) => other,
    };
    // SAFETY: page-aligned, zeroed by the kernel, large enough, never unmapped, and accessed by atomics alone.
    Ok(unsafe { &*page })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_keeps_forks_out_may_do_so_again_and_fork_itself() {
        let outer = NoFork::new().expect("a page");
        let inner = NoFork::new().expect("a page");
        assert_eq!(outer.0.forks.load(Ordering::Relaxed), me() | 2);
        before_fork();
        drop(inner);
        after_fork();
        after_fork();
        // Not zero if another test has it since.
        assert_ne!(outer.0.forks.load(Ordering::Relaxed) & !DEPTH, me(), "left too often is left");
    }
}
