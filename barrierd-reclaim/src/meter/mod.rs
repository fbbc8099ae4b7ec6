//! Counts for reports: they order nothing and prove nothing, except that what waits never looks like less than it is
//! (`sums.rs`).
//!
//! Owns what is counted for one record. Its owner stores there, and any thread may read it. So does its queue, which
//! counts what leaves it and shows how old it is.

pub(crate) mod ledger;
pub(crate) mod stats;
pub(crate) mod sums;
mod tally;

use crate::sync::real::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use ledger::Ledger;
use sums::{Account, Sum};
use tally::Tally;

/// What the owners of one record have retired and freed, and how old the rest is.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Meter {
    retired: Tally,
    freed: Tally,
    retired_bytes: Tally,
    freed_bytes: Tally,
    // From here on: slow paths.
    /// When the first item came of the queue's oldest bag, except the one that is being freed, nanoseconds;
    /// `u64::MAX`: there is none.
    oldest_ns: AtomicU64,
    /// How much was retired by which time. Not here: it is large, and touched once a bag.
    ledger: Box<Ledger>,
    /// The part of the counts that is in the domain's account, which the rest is counted beside: see `sums.rs`.
    gone_retired: Account,
    gone_freed: Account,
}

impl Meter {
    /// The size of the part that hot calls touch, bytes.
    #[cfg(not(barrierd_loom))]
    #[allow(dead_code, reason = "Rust 1.85 counts no use in a constant without a name")]
    pub(crate) const HOT: usize = core::mem::offset_of!(Meter, oldest_ns);

    pub(crate) fn new() -> Meter {
        Meter {
            retired: Tally::default(),
            freed: Tally::default(),
            retired_bytes: Tally::default(),
            freed_bytes: Tally::default(),
            oldest_ns: AtomicU64::new(u64::MAX),
            ledger: Box::default(),
            gone_retired: Account::default(),
            gone_freed: Account::default(),
        }
    }

    /// Counts objects that are handed to `retire`, and their size, bytes. Owner only.
    #[inline]
    pub(crate) fn retires(&self, items: u64, bytes: u64) {
        self.retired.add(items);
        self.retired_bytes.add(bytes);
    }

    /// Counts an object whose destructor is about to be started. Owner only.
    #[inline]
    pub(crate) fn frees(&self) {
        self.freed.publish(1);
    }

    /// Counts the size, bytes, of a bag whose objects begin to be freed. Owner only.
    pub(crate) fn frees_bytes(&self, bytes: usize) {
        self.freed_bytes.add(bytes as u64);
    }

    /// Returns all that was ever retired.
    pub(crate) fn retired(&self) -> Sum {
        Sum { items: self.retired.read(), bytes: self.retired_bytes.read() }
    }

    /// Returns what of it was freed.
    pub(crate) fn freed(&self) -> Sum {
        Sum { items: self.freed.read(), bytes: self.freed_bytes.read() }
    }

    /// Returns when the first item came of the oldest bag, nanoseconds; `u64::MAX`: there is none. The times are figures
    /// for reports: they follow nothing and lead to nothing, so all loads and stores of them are Relaxed.
    pub(crate) fn oldest_ns(&self) -> u64 {
        self.oldest_ns.load(Relaxed)
    }

    /// Shows that time. Owner only.
    pub(crate) fn show_oldest(&self, ns: u64) {
        self.oldest_ns.store(ns, Relaxed);
    }

    /// Shows that a bag was opened at `ns`, if no other is older. Owner only.
    pub(crate) fn opened(&self, ns: u64) {
        if self.oldest_ns() == u64::MAX {
            self.show_oldest(ns);
        }
    }

    /// Shows that there is no bag, if `ns` is still what is shown: the queue was taken over.
    pub(crate) fn taken_over(&self, ns: u64) {
        let _ = self.oldest_ns.compare_exchange(ns, u64::MAX, Relaxed, Relaxed);
    }

    /// Returns what its owners had retired by which time.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
