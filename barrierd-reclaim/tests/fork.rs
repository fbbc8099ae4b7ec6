//! After a fork the child may exit, whatever the parent's threads were doing; and what it does with its
//! parent's reclaimers is safe: nothing is freed, and `synchronize` says why.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

mod common;

use barrierd_reclaim::{Reclaimer, Source, SynchronizeError};
use common::alone::is_alone;
use common::child::status_in_child;
use common::seccomp;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

unsafe fn nothing(_: *mut u64) {}

fn retire_nothing(reclaimer: &Reclaimer, times: usize) {
    for _ in 0..times {
        // SAFETY: `nothing` doesn't touch it.
        unsafe { reclaimer.retire_with(std::ptr::without_provenance_mut(8), nothing) };
    }
}

/// The child's exit runs this thread's thread-local destructors, while a lock of the domain may
/// have been held by another thread of the parent at the fork.
#[test]
fn the_child_can_exit() {
    let reclaimer = Reclaimer::builder().source(Source::Fence).build().unwrap();
    under_load(&reclaimer, || {
        let guard = reclaimer.pin();
        for _ in 0..300 {
            // SAFETY: the child only exits, which is what this test is about.
            let status = unsafe { status_in_child(|| libc::exit(0)) };
            assert_eq!(status, 0, "the child hangs in exit()");
        }
        drop(guard);
    });
}

/// Threads that retire, and threads that exit, each with a long queue to hand over.
fn under_load(reclaimer: &Reclaimer, work: impl FnOnce()) {
    struct Stop<'s>(&'s AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                scope.spawn(|| retire_nothing(reclaimer, 64 * 20)).join().unwrap();
                // A fork copies what it finds: garbage that grows behind a guard makes it ever slower.
                thread::sleep(Duration::from_millis(1));
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let _guard = reclaimer.pin();
                retire_nothing(reclaimer, 1000);
                thread::sleep(Duration::from_millis(1));
            }
        });
        work();
    });
}

#[test]
fn a_child_frees_nothing_of_its_parents_on_fences() {
    a_child_frees_nothing_of_its_parents(Source::Fence);
}

#[test]
fn a_child_frees_nothing_of_its_parents_on_membarrier() {
    a_child_frees_nothing_of_its_parents(Source::Membarrier);
}

fn a_child_frees_nothing_of_its_parents(source: Source) {
    static FREED: AtomicUsize = AtomicUsize::new(0);
    unsafe fn count(_: *mut u64) {
        FREED.fetch_add(1, Relaxed);
    }
    let make = || Reclaimer::builder().source(source).build().unwrap();
    // Not dropped twice: the child drops it.
    let reclaimer = ManuallyDrop::new(make());
    let counted = |reclaimer: &Reclaimer| {
        // SAFETY: `count` doesn't touch it.
        unsafe { reclaimer.retire_with(std::ptr::without_provenance_mut(8), count) };
    };
    let child = || {
        let freed = FREED.load(Relaxed);
        (0..1000).for_each(|_| counted(&reclaimer));
        reclaimer.flush();
        if reclaimer.synchronize(Instant::now() + Duration::from_secs(1))
            != Err(SynchronizeError::Forked)
        {
            return 1;
        }
        let node = AtomicPtr::new(Box::into_raw(reclaimer.alloc(5u32)));
        let (guard, robust, owned) =
            (reclaimer.pin(), reclaimer.pin_robust(), reclaimer.pin_owned());
        let [mut one, _two] = reclaimer.hazards();
        let seen = one.protect(&node).as_ptr();
        if guard.protect(&node) != robust.protect(&node) || owned.protect(&node) != seen {
            return 2;
        }
        // SAFETY: from `alloc`, retired once.
        unsafe { reclaimer.retire_born(seen) };
        drop((guard, robust, owned, one));
        let mut handle = reclaimer.handle();
        drop(handle.pin());
        // SAFETY: `count` doesn't touch it.
        unsafe { handle.retire_with(std::ptr::without_provenance_mut(8), count) };
        handle.flush();
        drop(handle);
        // A thread of the child, with its exit. Not one of std's: it takes a lock, which another thread
        // of the parent may have held.
        extern "C" fn retire(reclaimer: *mut libc::c_void) -> *mut libc::c_void {
            // SAFETY: the child's, which waits for this thread.
            let reclaimer = unsafe { &*reclaimer.cast::<Reclaimer>().cast_const() };
            for _ in 0..200 {
                // SAFETY: `count` doesn't touch it.
                unsafe { reclaimer.retire_with(std::ptr::without_provenance_mut(8), count) };
            }
            std::ptr::null_mut()
        }
        // SAFETY: the thread is waited for, and `retire` reads nothing but the reclaimer.
        unsafe {
            let mut thread = std::mem::zeroed();
            let argument = std::ptr::from_ref::<Reclaimer>(&reclaimer).cast_mut().cast();
            if libc::pthread_create(&mut thread, std::ptr::null(), retire, argument) != 0
                || libc::pthread_join(thread, std::ptr::null_mut()) != 0
            {
                return 6;
            }
        }
        // What this thread had found safe before the fork may go on.
        if FREED.load(Relaxed) > freed + 64 {
            return 3;
        }
        // A domain of the child's own is like any other.
        let own = make();
        let before = FREED.load(Relaxed);
        (0..500).for_each(|_| counted(&own));
        if own.synchronize(Instant::now() + Duration::from_secs(5)).is_err()
            || FREED.load(Relaxed) != before + 500
        {
            return 4;
        }
        drop(own);
        // SAFETY: the child's copy, dropped once, and not used again. It is the last.
        drop(unsafe { std::ptr::read(&*reclaimer) });
        if FREED.load(Relaxed) == before + 500 { 0 } else { 5 }
    };
    under_load(&reclaimer, || {
        let guard = reclaimer.pin();
        for _ in 0..100 {
            (0..100).for_each(|_| counted(&reclaimer));
            // SAFETY: all that the child calls is what this test is about, and the C library sees to
            // the allocator.
            assert_eq!(unsafe { status_in_child(child) }, 0);
        }
        drop(guard);
    });
    // The parent goes on as if nothing had been.
    // (A scope does not wait for its threads' thread-local destructors.)
    let limit = Instant::now() + Duration::from_secs(20);
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < limit, "{:?}", reclaimer.stats());
        reclaimer.synchronize(limit).unwrap();
    }
    drop(ManuallyDrop::into_inner(reclaimer));
}

/// An emulator may accept the advice that a page be wiped in children, and not follow it: a filter that answers for the
/// kernel is such a one.
#[test]
fn an_emulator_that_accepts_all_advice_is_not_believed() {
    if !is_alone("an_emulator_that_accepts_all_advice_is_not_believed") {
        return;
    }
    seccomp::answer_to(libc::SYS_madvise, &[], libc::SECCOMP_RET_ERRNO);
    let reclaimer = Reclaimer::builder().source(Source::Fence).background(false).build().unwrap();
    // SAFETY: the child only asks whether it is one.
    let status = unsafe {
        status_in_child(|| {
            let soon = Instant::now() + Duration::from_secs(5);
            i32::from(reclaimer.synchronize(soon) != Err(SynchronizeError::Forked))
        })
    };
    assert_eq!(status, 0, "the child takes itself for its parent");
    assert_eq!(reclaimer.synchronize(Instant::now() + Duration::from_secs(5)), Ok(()));
}
