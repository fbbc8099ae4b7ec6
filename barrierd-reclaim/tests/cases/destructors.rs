//! Destructors that retire, panic, or make handles.

use super::quietly::quietly;
use super::{Log, soon};
use barrierd_reclaim::Reclaimer;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

pub(super) struct Bomb(pub(super) Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
        panic!("a destructor's panic, on purpose");
    }
}

pub(super) fn a_panic_loses_one_object(reclaimer: Reclaimer) {
    let (log, bombs) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    // It keeps a `retire` here from freeing the bomb, whose panic would come out.
    let guard = reclaimer.pin();
    log.retire(&reclaimer, 0);
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(Bomb(bombs.clone())))) };
    log.retire(&reclaimer, 1);
    drop(guard);
    let panicked = quietly(|| catch_unwind(AssertUnwindSafe(|| reclaimer.synchronize(soon()))));
    assert!(panicked.is_err(), "the panic comes out");
    assert_eq!(log.names(), [0]);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0, 1]);
    assert_eq!(bombs.load(Relaxed), 1, "freed once");
    assert_eq!(reclaimer.stats().waiting(), 0);
}

pub(super) fn a_panic_while_dropping_loses_nothing(reclaimer: Reclaimer) {
    let (log, bombs) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    // As above.
    let guard = reclaimer.pin();
    for name in 0..3 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(Bomb(bombs.clone())))) };
        log.retire(&reclaimer, name);
    }
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(Fuse))) };
    log.retire(&reclaimer, 3);
    drop(guard);
    quietly(|| drop(reclaimer));
    assert_eq!((log.names().len(), bombs.load(Relaxed)), (4, 3));
}

/// A panic whose payload panics in its turn when it is dropped.
pub(super) struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("a payload's panic, on purpose");
            }
        }
        std::panic::panic_any(Payload);
    }
}

pub(super) fn destructors_may_retire(reclaimer: Reclaimer) {
    struct Chain(usize, Reclaimer, Log);
    impl Drop for Chain {
        fn drop(&mut self) {
            self.2.0.lock().unwrap().push(self.0);
            let _guard = self.1.pin();
            if self.0 > 0 {
                let next = Chain(self.0 - 1, self.1.clone(), self.2.clone());
                // SAFETY: fresh from a Box, retired once.
                unsafe { self.1.retire(Box::into_raw(Box::new(next))) };
            }
        }
    }
    let log = Log::default();
    let first = Chain(5, reclaimer.clone(), log.clone());
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(first))) };
    let stop = soon();
    while log.names().len() < 6 {
        assert!(Instant::now() < stop);
        reclaimer.synchronize(soon()).unwrap();
    }
    assert_eq!(log.names(), [5, 4, 3, 2, 1, 0]);
}

/// Each destructor makes a handle and retires through it, while thousands of bags of exited threads wait:
/// none runs inside many others.
pub(super) fn destructors_with_handles_do_not_nest(reclaimer: Reclaimer) {
    thread_local! {
        static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    static DEEPEST: AtomicUsize = AtomicUsize::new(0);
    struct Nests(*const Reclaimer);
    // SAFETY: the reclaimer outlives what it frees here (`synchronize` below).
    unsafe impl Send for Nests {}
    impl Drop for Nests {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() + 1);
            DEEPEST.fetch_max(DEPTH.get(), Relaxed);
            // SAFETY: as above; fresh from a Box, retired once.
            unsafe { (*self.0).handle().retire(Box::into_raw(Box::new(0u8))) };
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    let guard = reclaimer.pin();
    for _ in 0..300 {
        thread::scope(|scope| {
            let retire = || {
                // SAFETY: fresh from a Box, retired once.
                unsafe { reclaimer.retire(Box::into_raw(Box::new(Nests(&reclaimer)))) };
            };
            scope.spawn(retire).join().unwrap();
        });
    }
    drop(guard);
    while reclaimer.stats().waiting() > 0 {
        reclaimer.synchronize(soon()).unwrap();
    }
    assert!(DEEPEST.load(Relaxed) <= 2, "{} deep", DEEPEST.load(Relaxed));
}

/// Each destructor retires three more: the frees keep up all the same.
pub(super) fn destructors_that_retire_many(reclaimer: Reclaimer) {
    struct Parent(*const Reclaimer);
    // SAFETY: the reclaimer outlives what it frees here (`synchronize` below).
    unsafe impl Send for Parent {}
    impl Drop for Parent {
        fn drop(&mut self) {
            for name in 0..3u64 {
                // SAFETY: as above; fresh from a Box, retired once.
                unsafe { (*self.0).retire(Box::into_raw(Box::new(name))) };
            }
        }
    }
    let mut most = 0;
    for i in 0..40_000 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(Parent(&reclaimer)))) };
        if i % 2000 == 1999 {
            thread::sleep(Duration::from_millis(10)); // let a barrier pass
            most = most.max(reclaimer.stats().waiting());
        }
    }
    // 160,000 objects in all; without the frees that destructors leave over, half would wait.
    assert!(most < 40_000, "{most} waiting; {:?}", reclaimer.stats());
    while reclaimer.stats().waiting() > 0 {
        reclaimer.synchronize(soon()).unwrap();
    }
}
