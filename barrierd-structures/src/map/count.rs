//! How many entries there are, counted so that two writers rarely share a cache line.

use core::cell::Cell;
use core::sync::atomic::AtomicIsize;
use core::sync::atomic::Ordering::Relaxed;
use crossbeam_utils::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::thread;

/// More would cost memory in each map.
const MOST_STRIPES: usize = 16;

/// A sum in as many parts as there are CPUs. One part may be negative, if other threads remove what this one inserts.
pub(super) struct Count {
    stripes: Box<[CachePadded<AtomicIsize>]>,
}

impl Count {
    pub(super) fn new() -> Count {
        static STRIPES: OnceLock<usize> = OnceLock::new();
        let stripes = *STRIPES.get_or_init(|| {
            let cpus = thread::available_parallelism().map_or(1, usize::from);
            cpus.next_power_of_two().min(MOST_STRIPES)
        });
        Count { stripes: (0..stripes).map(|_| CachePadded::default()).collect() }
    }

    /// Adds one or takes one, and returns the thread's own part of the sum.
    ///
    /// Relaxed, as all of it: no entry is found by the count.
    #[inline]
    pub(super) fn add(&self, one: isize) -> isize {
        let stripe = &self.stripes[this_thread() & (self.stripes.len() - 1)];
        stripe.fetch_add(one, Relaxed) + one
    }

    /// Returns the sum: exact while nobody adds, else as it may have been at some time, give or take what is under way.
    pub(super) fn sum(&self) -> usize {
        let sum: isize = self.stripes.iter().map(|stripe| stripe.load(Relaxed)).sum();
        usize::try_from(sum).unwrap_or(0)
    }
}

/// A number of this thread's own.
#[inline]
fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! {
        /// 0: none yet. It has no destructor, so it is there until the thread ends.
        static NUMBER: Cell<usize> = const { Cell::new(0) };
    }
    NUMBER.with(|number| match number.get() {
        0 => {
            number.set(NEXT.fetch_add(1, Relaxed));
            number.get()
        }
        number => number,
    })
}
