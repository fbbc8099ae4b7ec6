//! Every way to retire frees what it was given, once, and not under a guard.

use super::{Log, Named, soon};
use barrierd_reclaim::Reclaimer;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread;

/// All cases, one after the other, on domains without the background thread.
pub(crate) fn all(make: impl Fn() -> Reclaimer) {
    every_variant_waits_and_frees_once(make());
    the_same_through_a_handle(make());
    batches_of_any_size(make());
    closures_without_captures_run_once(make());
    an_arc_loses_one_count(make());
    a_closure_may_defer(make());
    batches_from_many_threads(make());
}

impl Log {
    fn named(&self, name: usize) -> Named {
        Named { name, log: self.0.clone() }
    }
}

fn every_variant_waits_and_frees_once(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin();
    let closure = log.named(0);
    reclaimer.defer(move || drop(closure));
    reclaimer.retire_value(log.named(1));
    reclaimer.retire_arc(Arc::new(log.named(2)));
    let slice: Box<[Named]> = (3..10).map(|name| log.named(name)).collect();
    let batch: Vec<_> = (10..200).map(|name| Box::into_raw(Box::new(log.named(name)))).collect();
    // SAFETY: fresh from boxes, retired once.
    unsafe {
        reclaimer.retire_slice(Box::into_raw(slice));
        reclaimer.retire_batch(batch);
    }
    reclaimer.flush();
    assert!(log.names().is_empty(), "freed under a guard");
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), (0..200).collect::<Vec<_>>());
    let stats = reclaimer.stats();
    assert_eq!((stats.retired, stats.freed), (194, 194), "a slice is one object");
}

fn the_same_through_a_handle(reclaimer: Reclaimer) {
    let log = Log::default();
    let handle = reclaimer.handle();
    let closure = log.named(0);
    handle.defer(move || drop(closure));
    handle.retire_value(log.named(1));
    handle.retire_arc(Arc::new(log.named(2)));
    let slice: Box<[Named]> = (3..10).map(|name| log.named(name)).collect();
    let batch: Vec<_> = (10..20).map(|name| Box::into_raw(Box::new(log.named(name)))).collect();
    // SAFETY: fresh from boxes, retired once.
    unsafe {
        handle.retire_slice(Box::into_raw(slice));
        handle.retire_batch(batch);
    }
    drop(handle);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), (0..20).collect::<Vec<_>>());
}

fn batches_of_any_size(reclaimer: Reclaimer) {
    let mut total = 0;
    for size in [0u64, 1, 63, 64, 65, 127, 128, 129, 1000] {
        let batch: Vec<_> = (0..size).map(|name| Box::into_raw(Box::new(name))).collect();
        // SAFETY: fresh from boxes, retired once.
        unsafe { reclaimer.retire_batch(batch) };
        reclaimer.retire_value(size);
        total += size + 1;
        assert_eq!(reclaimer.stats().retired, total);
    }
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().freed, total);
}

fn closures_without_captures_run_once(reclaimer: Reclaimer) {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    RUN.store(0, Relaxed);
    for _ in 0..1000 {
        reclaimer.defer(|| {
            RUN.fetch_add(1, Relaxed);
        });
    }
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(RUN.load(Relaxed), 1000);
}

fn an_arc_loses_one_count(reclaimer: Reclaimer) {
    let arc = Arc::new(7u64);
    for _ in 0..100 {
        reclaimer.retire_arc(arc.clone());
    }
    assert!(Arc::strong_count(&arc) > 1);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!((Arc::strong_count(&arc), *arc), (1, 7));
}

fn a_closure_may_defer(reclaimer: Reclaimer) {
    let done = Arc::new(Mutex::new(Vec::new()));
    fn chain(reclaimer: Reclaimer, left: usize, done: Arc<Mutex<Vec<usize>>>) {
        let next = reclaimer.clone();
        reclaimer.defer(move || {
            done.lock().unwrap().push(left);
            if left > 0 {
                chain(next, left - 1, done);
            }
        });
    }
    chain(reclaimer.clone(), 5, done.clone());
    let stop = soon();
    while done.lock().unwrap().len() < 6 {
        assert!(std::time::Instant::now() < stop);
        reclaimer.synchronize(soon()).unwrap();
    }
    assert_eq!(*done.lock().unwrap(), [5, 4, 3, 2, 1, 0]);
}

fn batches_from_many_threads(reclaimer: Reclaimer) {
    let log = Log::default();
    thread::scope(|scope| {
        for thread in 0..3 {
            let (log, reclaimer) = (&log, &reclaimer);
            scope.spawn(move || {
                for round in 0..50 {
                    let names = (0..100).map(|i| (thread * 50 + round) * 100 + i);
                    let batch = names.map(|name| Box::into_raw(Box::new(log.named(name))));
                    // SAFETY: fresh from boxes, retired once.
                    unsafe { reclaimer.retire_batch(batch) };
                }
            });
        }
    });
    drop(reclaimer);
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (0..15_000).collect::<Vec<_>>());
}
