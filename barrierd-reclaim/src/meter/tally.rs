//! A counter of one thread.

use crate::sync::real::AtomicU64;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// A counter that one thread writes and any may read: a plain add, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Adds `n`. Only the owning thread may call this.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds `n`, after what the caller did before: a thread that [`read`](Tally::read)s the sum sees that. Only
    /// the owning thread may call this.
    #[inline]
    pub(crate) fn publish(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Release);
    }

    /// Returns the count. Partner of [`publish`](Tally::publish).
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Acquire)
    }
}
