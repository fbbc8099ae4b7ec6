//! Faults of the process's own collector: in the child of a fork, and of closures that use it where they
//! run. The names begin with the row of the table in which they were collected.
//!
//! Each test has a process of its own, since the collector is the process's. Here is what they share.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

#[path = "../common/alone.rs"]
mod alone;
#[path = "../common/child.rs"]
mod child;

mod children;
mod closures;
mod made;
mod opened_before;

use barrierd_reclaim::epoch::{self, Guard};
use child::status_in_child;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// A moment that only comes if something hangs.
pub(crate) fn late() -> Instant {
    Instant::now() + Duration::from_secs(40)
}

/// Forks, runs `child` there, and checks that it returned 0. It prints nothing and starts threads by
/// [`on_a_thread`] alone: std's locks may have been held.
pub(crate) fn fork(child: impl FnOnce() -> i32) {
    let child = || {
        std::panic::set_hook(Box::new(|_| {}));
        child()
    };
    // SAFETY: the child runs what is tested here; the C library sees to its allocator.
    assert_eq!(unsafe { status_in_child(child) }, 0, "in the child");
}

/// Runs `work` on another thread, to its end. Not one of std's: these take a lock as they start, which
/// another thread of the parent may have held.
pub(crate) fn on_a_thread(work: impl FnOnce() + Send) {
    type Work<'w> = Option<Box<dyn FnOnce() + Send + 'w>>;
    extern "C" fn run(work: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `on_a_thread`'s, which waits for this thread.
        let work = unsafe { &mut *work.cast::<Work<'_>>() };
        work.take().expect("once")();
        std::ptr::null_mut()
    }
    let mut work: Work<'_> = Some(Box::new(work));
    // SAFETY: the thread is waited for, so what it borrows is there.
    unsafe {
        let mut thread = std::mem::zeroed();
        let argument = std::ptr::from_mut(&mut work).cast();
        assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), run, argument), 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}

/// Calls of [`count`], in this process.
pub(crate) static CALLED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn defer_and_count(guard: &Guard, times: u64) {
    for _ in 0..times {
        guard.defer(|| CALLED.fetch_add(1, Relaxed));
    }
}

/// Defers `times` times, each under a guard of its own, and waits until all was called. 0, or where it
/// went wrong.
pub(crate) fn all_is_called(times: u64) -> i32 {
    let before = CALLED.load(Relaxed);
    for _ in 0..times {
        defer_and_count(&epoch::pin(), 1);
    }
    if epoch::drain(late()).is_err() {
        return 11;
    }
    if CALLED.load(Relaxed) - before == times { 0 } else { 12 }
}

/// Defers some closures in this process which must not be called in another.
pub(crate) fn defer_for_this_process(times: u32) {
    static ELSEWHERE: AtomicU32 = AtomicU32::new(0);
    let here = std::process::id();
    let guard = epoch::pin();
    for _ in 0..times {
        guard.defer(move || {
            if std::process::id() != here {
                ELSEWHERE.fetch_add(1, Relaxed);
                // SAFETY: ends the process.
                unsafe { libc::_exit(77) };
            }
        });
    }
}
