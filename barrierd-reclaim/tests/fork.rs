//! After a fork the child may exit, whatever the parent's threads were doing.

use barrierd_reclaim::{Reclaimer, Source};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// The child's exit runs this thread's thread-local destructors, while a lock of the domain may
/// have been held by another thread of the parent at the fork.
#[test]
fn the_child_can_exit() {
    unsafe fn nothing(_: *mut u64) {}
    let reclaimer = Reclaimer::builder().source(Source::Fence).build().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Threads that exit, each with a long queue to hand over.
            while !stop.load(Relaxed) {
                scope
                    .spawn(|| {
                        for _ in 0..64 * 200 {
                            let dangling = std::ptr::without_provenance_mut(8);
                            // SAFETY: `nothing` doesn't touch it.
                            unsafe { reclaimer.retire_with(dangling, nothing) };
                        }
                    })
                    .join()
                    .unwrap();
            }
        });
        let guard = reclaimer.pin();
        for _ in 0..300 {
            // SAFETY: the child only exits, which is what this test is about.
            let child = unsafe { libc::fork() };
            assert!(child >= 0, "fork");
            if child == 0 {
                // SAFETY: see above.
                unsafe { libc::exit(0) };
            }
            let limit = Instant::now() + Duration::from_secs(10);
            // SAFETY: a child of this process, waited for once.
            while unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) } != child {
                if Instant::now() > limit {
                    // SAFETY: the child, which is still there.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                    stop.store(true, Relaxed);
                    panic!("the child hangs in exit()");
                }
                thread::sleep(Duration::from_micros(100));
            }
        }
        drop(guard);
        stop.store(true, Relaxed);
    });
}

/// The child has no background thread, and the one of the parent may have been inside a destructor: the
/// last drop does not wait for it.
#[test]
fn the_child_can_drop() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(20));
        }
    }
    for _ in 0..20 {
        let reclaimer = Reclaimer::builder().source(Source::Fence).build().unwrap();
        (0..3).for_each(|_| reclaimer.retire_value(Slow));
        let limit = Instant::now() + Duration::from_secs(10);
        while reclaimer.stats().freed == 0 {
            assert!(Instant::now() < limit, "the background thread frees");
            thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: the child drops and exits, which is what this test is about.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            reclaimer.retire_value(1);
            drop(reclaimer);
            // SAFETY: see above.
            unsafe { libc::exit(0) };
        }
        // SAFETY: a child of this process, waited for once.
        while unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::WNOHANG) } != child {
            if Instant::now() > limit {
                // SAFETY: the child, which is still there.
                unsafe { libc::kill(child, libc::SIGKILL) };
                panic!("the child hangs");
            }
            thread::sleep(Duration::from_micros(100));
        }
    }
}
