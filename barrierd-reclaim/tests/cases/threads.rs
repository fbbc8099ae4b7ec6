//! Threads that come, go, sleep, and exit at the last moment.

use super::{Log, soon};
use barrierd_reclaim::Reclaimer;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(super) fn a_thread_exit_loses_nothing(reclaimer: Reclaimer) {
    let log = Log::default();
    // More than a bag, then less than one.
    for count in [70, 3] {
        let before = log.names().len();
        thread::scope(|scope| {
            let thread = scope.spawn(|| (0..count).for_each(|name| log.retire(&reclaimer, name)));
            // Joined by hand: a scope alone does not wait for thread-local destructors.
            thread.join().unwrap();
        });
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(log.names().len() - before, count);
    }
}

/// A thread-local destructor uses the reclaimer, both before and after the crate's own registry is
/// gone: destructors run in the reverse order of first use on some systems, in that order on others.
pub(super) fn late_in_a_thread_exit(reclaimer: Reclaimer) {
    struct Late(Reclaimer, Log, usize);
    impl Drop for Late {
        fn drop(&mut self) {
            let outer = self.0.pin();
            let inner = self.0.pin();
            self.1.retire(&self.0, self.2);
            drop(outer);
            self.0.flush();
            drop(inner);
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let log = Log::default();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            EARLY.set(Some(Late(reclaimer.clone(), log.clone(), 1)));
            drop(reclaimer.pin());
            LATE.set(Some(Late(reclaimer.clone(), log.clone(), 2)));
        });
        thread.join().unwrap();
    });
    reclaimer.synchronize(soon()).unwrap();
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, [1, 2]);
}

pub(super) fn domains_come_and_go(make: impl Fn() -> Reclaimer) {
    let log = Log::default();
    for name in 0..40 {
        let (one, two) = (make(), make());
        let guard = one.pin();
        log.retire(&two, 2 * name);
        two.synchronize(soon()).unwrap(); // another domain's guard holds nothing back here
        drop(guard);
        log.retire(&one, 2 * name + 1);
    }
    assert_eq!(log.names().len(), 80);
}

/// A guard in a thread-local that is dropped after the crate's own: its record goes back, and the
/// next thread takes it.
pub(super) fn a_guard_may_outlive_its_registration(reclaimer: Reclaimer) {
    thread_local! {
        static HELD: RefCell<Option<barrierd_reclaim::Guard<'static>>> =
            const { RefCell::new(None) };
    }
    let reclaimer: &'static Reclaimer = Box::leak(Box::new(reclaimer));
    let log = Log::default();
    for name in 0..3 {
        let log = log.clone();
        let thread = thread::spawn(move || {
            HELD.with_borrow(|_| ()); // first, so that it is destroyed last
            HELD.set(Some(reclaimer.pin()));
            log.retire(reclaimer, name);
        });
        thread.join().unwrap();
        // Its section has ended with it.
        reclaimer.synchronize(soon()).unwrap();
    }
    assert_eq!(log.names(), [0, 1, 2]);
}

/// When the last clone's drop returns, everything is freed, also what a thread that exits at that
/// moment has retired.
pub(super) fn the_last_drop_waits_for_threads_that_exit(make: impl Fn() -> Reclaimer) {
    unsafe fn set(flag: *mut AtomicBool) {
        // SAFETY: the flag outlives the reclaimer.
        unsafe { &*flag }.store(true, SeqCst);
    }
    for round in 0..60 {
        let reclaimer = make();
        let (flag, dropped) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let (clone, address, dropped) = (reclaimer.clone(), &flag, &dropped);
            scope.spawn(move || {
                let log = Log::default();
                (0..20_000).for_each(|name| log.retire(&clone, name));
                // SAFETY: `set` frees nothing.
                unsafe { clone.retire_with(core::ptr::from_ref(address).cast_mut(), set) };
                drop(clone);
                dropped.store(true, SeqCst);
            });
            while !dropped.load(SeqCst) {
                std::hint::spin_loop();
            }
            let until = Instant::now() + Duration::from_micros(round);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            drop(reclaimer);
            assert!(flag.load(SeqCst), "freed after the last clone's drop had returned");
        });
    }
}

pub(super) fn short_lived_threads_leave_little(reclaimer: Reclaimer) {
    let log = Log::default();
    for i in 0..2000 {
        let (log, reclaimer) = (&log, &reclaimer);
        thread::scope(|scope| {
            let thread = scope.spawn(move || (0..20).for_each(|name| log.retire(reclaimer, name)));
            thread.join().unwrap();
        });
        if i % 100 == 99 {
            thread::sleep(Duration::from_millis(10)); // let a barrier pass
        }
    }
    let stats = reclaimer.stats();
    assert!(stats.waiting() < 20_000, "{stats:?}");
}

/// A thread that retires and then sleeps has not taken what an exited thread left.
pub(super) fn sleepers_hold_nothing_of_others(reclaimer: Reclaimer) {
    let log = Log::default();
    thread::scope(|scope| scope.spawn(|| log.retire(&reclaimer, 7)).join().unwrap());
    let (asleep, wait_asleep) = mpsc::channel();
    let (wake, wait_wake) = mpsc::channel::<()>();
    let (shared, other) = (&log, &reclaimer);
    thread::scope(move |scope| {
        let sleeper = Log::default();
        scope.spawn(move || {
            (0..200).for_each(|name| sleeper.retire(other, name));
            asleep.send(()).unwrap();
            let _ = wait_wake.recv();
        });
        wait_asleep.recv().unwrap();
        other.synchronize(soon()).unwrap();
        assert_eq!(shared.names(), [7]);
        drop(wake);
    });
}
