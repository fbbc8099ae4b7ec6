//! Loom's answers: right structures pass, and each wrong one is found.
#![cfg(crossbeam_loom)]

use compat_loom::{Fault, Stack};
use crossbeam_epoch::{self as epoch, Atomic, Collector, Owned};
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn is_found(model: impl Fn() + Send + Sync + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| explore(model))).is_err()
}

/// Two threads push and pop on one stack, by the default collector.
fn stack(fault: Fault) {
    let stack = Arc::new(Stack::new(fault));
    let other = {
        let stack = stack.clone();
        thread::spawn(move || {
            stack.push(1, &epoch::pin());
            assert!(stack.pop(&epoch::pin()).is_some());
        })
    };
    stack.push(2, &epoch::pin());
    assert!(stack.pop(&epoch::pin()).is_some());
    other.join().unwrap();
    assert_eq!(stack.pop(&epoch::pin()), None);
}

#[test]
fn a_right_stack_passes() {
    explore(|| stack(Fault::None));
}

#[test]
fn a_stack_that_publishes_by_relaxed_is_found() {
    assert!(is_found(|| stack(Fault::RelaxedPush)));
}

#[test]
fn a_stack_that_loads_by_relaxed_is_found() {
    assert!(is_found(|| stack(Fault::RelaxedPop)));
}

#[test]
fn a_stack_that_destroys_at_once_is_found() {
    assert!(is_found(|| stack(Fault::AtOnce)));
}

#[test]
fn a_stack_that_defers_in_another_collector_is_found() {
    assert!(is_found(|| stack(Fault::OtherCollector)));
}

#[test]
fn a_stack_that_defers_before_it_unlinks_is_found() {
    assert!(is_found(|| stack(Fault::DeferredFirst)));
}

/// What is replaced is destroyed for good, once, and nothing of it is left at the end; readers of another thread find a
/// live value.
#[test]
fn values_are_destroyed_once_and_all() {
    struct Counted(Arc<AtomicUsize>, u32);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
            self.1 = u32::MAX;
        }
    }
    explore(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let collector = Collector::new();
        let cell = Arc::new(Atomic::new(Counted(drops.clone(), 1)));
        let reader = {
            let (cell, collector) = (cell.clone(), collector.clone());
            thread::spawn(move || {
                let guard = collector.register().pin();
                // SAFETY: never null, and the guard keeps it.
                let value = unsafe { cell.load(Acquire, &guard).deref() }.1;
                assert!(value == 1 || value == 2);
            })
        };
        let handle = collector.register();
        let mut guard = handle.pin();
        let old = cell.swap(Owned::new(Counted(drops.clone(), 2)), AcqRel, &guard);
        // SAFETY: unlinked, once.
        unsafe { guard.defer_destroy(old) };
        guard.repin();
        drop((guard, handle));
        reader.join().unwrap();
        assert_eq!(drops.load(Relaxed), 1);
        // SAFETY: nobody else is left.
        drop(unsafe { Arc::try_unwrap(cell).ok().unwrap().into_owned() });
        assert_eq!(drops.load(Relaxed), 2);
    });
}

/// Each thread stores its word and then, in a section that opens between, looks for the other's.
fn store_then_look(fence: bool) {
    // Who uses the default collector first synchronises with the others.
    drop(epoch::pin());
    let words = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let other = {
        let words = words.clone();
        thread::spawn(move || {
            words.0.store(1, Relaxed);
            if fence {
                assert!(!epoch::is_pinned());
            }
            let _guard = epoch::pin();
            words.1.load(Relaxed)
        })
    };
    words.1.store(1, Relaxed);
    if fence {
        assert!(!epoch::is_pinned());
    }
    let guard = epoch::pin();
    let seen = words.0.load(Relaxed);
    drop(guard);
    assert!(seen + other.join().unwrap() > 0, "each has overlooked the other");
}

/// The one difference that structures must know: `pin` is no fence. Here loom finds who relies on it.
#[test]
fn pin_is_no_fence() {
    assert!(is_found(|| store_then_look(false)));
}

#[test]
fn is_pinned_is_one() {
    explore(|| store_then_look(true));
}

#[test]
fn a_guard_that_protects_nothing_calls_at_once() {
    explore(|| {
        let called = Arc::new(AtomicUsize::new(0));
        let seen = called.clone();
        // SAFETY: there is no other thread.
        unsafe { epoch::unprotected() }.defer(move || seen.store(1, SeqCst));
        assert_eq!(called.load(SeqCst), 1);
        assert!(unsafe { epoch::unprotected() }.collector().is_none());
    });
}

#[test]
fn nested_guards_are_one_section() {
    explore(|| {
        let called = Arc::new(AtomicUsize::new(0));
        let (outer, inner) = (epoch::pin(), epoch::pin());
        let seen = called.clone();
        inner.defer(move || seen.store(1, Relaxed));
        drop(outer);
        assert!(epoch::is_pinned());
        assert_eq!(called.load(Relaxed), 0);
        drop(inner);
        assert_eq!(called.load(Relaxed), 1);
        assert!(!epoch::is_pinned());
    });
}
