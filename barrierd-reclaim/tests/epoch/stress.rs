//! Readers against writers.

use super::{drain, storm};
use barrierd_reclaim::epoch::{Atomic, Collector, Owned, Pointable};
use barrierd_reclaim::{Reclaimer, Source};
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_storm() {
    storm::all(Reclaimer::builder);
    storm::all(|| Reclaimer::builder().source(Source::Fence));
}

/// Arrays that are replaced under readers: their lengths and elements go together.
#[test]
fn arrays_under_readers() {
    type Array = [MaybeUninit<usize>];
    let collector = Collector::new();
    let make = |len: usize| {
        let mut array = Owned::<Array>::init(len);
        array.iter_mut().for_each(|element| _ = element.write(len));
        array
    };
    assert_eq!(<Array as Pointable>::ALIGN, align_of::<usize>());
    let cell: Atomic<Array> = Atomic::from(make(1));
    let end = Instant::now() + Duration::from_millis(400);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (cell, collector) = (&cell, &collector);
            scope.spawn(move || {
                let handle = collector.register();
                let mut len = 1;
                while Instant::now() < end {
                    let guard = handle.pin();
                    // SAFETY: never null, and the guard keeps it.
                    let seen = unsafe { cell.load(Acquire, &guard).deref() };
                    let holds = |element: &MaybeUninit<usize>| {
                        // SAFETY: all elements were written before it was published.
                        unsafe { element.assume_init() == seen.len() }
                    };
                    assert!(seen.iter().all(holds));
                    if thread == 0 {
                        len = len % 300 + 1;
                        let old = cell.swap(make(len), AcqRel, &guard);
                        // SAFETY: unlinked by this thread; never null.
                        unsafe { guard.defer_destroy(old) };
                    }
                }
            });
        }
    });
    // SAFETY: the last pointer.
    drop(unsafe { cell.into_owned() });
    drain(&collector);
}
