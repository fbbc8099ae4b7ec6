//! Closures of all sizes, and what their calls may do.

use super::{Counted, counter, drain};
use barrierd_reclaim::epoch::{Collector, Guard, Owned};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

#[repr(align(32))]
#[derive(Clone, Copy)]
struct Wide(u8);

/// Called once each, with what they captured, whatever its size, padding and alignment.
#[test]
fn closures_of_all_sizes() {
    let collector = Collector::new();
    static SUM: AtomicUsize = AtomicUsize::new(0);
    let add = |n: usize| _ = SUM.fetch_add(n, SeqCst);
    let guard = collector.register().pin();
    for n in 1..=100usize {
        let byte = u8::try_from(n).unwrap();
        let padded = (byte, u32::from(byte));
        let (boxed, words, wide) = (Box::new(n), [n; 5], Wide(byte));
        guard.defer(|| SUM.fetch_add(1, SeqCst));
        guard.defer(move || add(byte.into()));
        guard.defer(move || add(padded.0 as usize + padded.1 as usize));
        guard.defer(move || add(*boxed));
        guard.defer(move || add(words.iter().sum()));
        guard.defer(move || add({ wide }.0.into()));
        guard.defer(move || {
            let wide = wide;
            assert_eq!(std::ptr::from_ref(&wide).addr() % 32, 0);
            // Its result is dropped.
            Counted(Box::leak(Box::default()))
        });
    }
    drop(guard);
    drain(&collector);
    assert_eq!(SUM.load(SeqCst), 100 + 5050 * (1 + 2 + 1 + 5 + 1));
}

#[test]
fn what_a_closure_owns_is_dropped_once() {
    let (collector, dropped) = (Collector::new(), counter());
    let guard = collector.register().pin();
    for _ in 0..100 {
        let (small, large) = (Box::new(Counted(dropped)), [Counted(dropped), Counted(dropped)]);
        guard.defer(move || drop(small));
        guard.defer(move || drop(large));
        // By its result.
        let kept = Box::new(Counted(dropped));
        guard.defer(move || kept);
        // SAFETY: nobody knows it.
        unsafe {
            guard.defer_destroy(Owned::new(Counted(dropped)).with_tag(1).into_shared(&guard))
        };
    }
    assert_eq!(dropped.load(SeqCst), 0);
    drop(guard);
    drain(&collector);
    assert_eq!(dropped.load(SeqCst), 500);
}

/// A call may pin, defer, flush and register.
#[test]
fn calls_use_the_collector() {
    fn again(collector: &Collector, guard: &Guard, called: &'static AtomicUsize, left: usize) {
        let own = collector.clone();
        guard.defer(move || {
            called.fetch_add(1, SeqCst);
            if left > 0 {
                let handle = own.register();
                let guard = handle.pin();
                again(&own, &guard, called, left - 1);
                guard.flush();
            }
        });
    }
    let (collector, called) = (Collector::new(), counter());
    again(&collector, &collector.register().pin(), called, 50);
    drain(&collector);
    assert_eq!(called.load(SeqCst), 51);
}

#[test]
fn a_call_that_panics_loses_no_other() {
    let (collector, called) = (Collector::new(), counter());
    let handle = collector.register();
    for n in 0..200 {
        let defer = || {
            handle.pin().defer(move || {
                called.fetch_add(1, SeqCst);
                assert!(n % 10 != 0, "on purpose");
            });
        };
        let _ = catch_unwind(AssertUnwindSafe(defer));
    }
    drop(handle);
    while catch_unwind(AssertUnwindSafe(|| drain(&collector))).is_err() {}
    assert_eq!(called.load(SeqCst), 200);
}
