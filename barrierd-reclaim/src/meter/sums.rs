//! The counts of what a domain has retired and freed: kept in each record's [`Meter`] by its owner, summed up by threads
//! that ask.
//!
//! Owns the sums, and the account of records that no thread owns ([`Past`]), so that no thread has to walk over those.
//!
//! # The order
//! A sum may be asked for at any time, and what waits must never look like less than it is: the
//! background thread sleeps by it (docs/proofs/background.md, "When the background thread sleeps"). So `freed` is
//! summed before `retired`, Acquire; and where a record's counts are carried over to the account:
//!
//! - `freed` is taken off the record, then added to the account (Release). The sum reads the account
//!   first (Acquire), then the records: nothing is counted twice, and what is on the way is not counted at all.
//! - `retired` is added to the account, then taken off the record (Release). The sum reads the records
//!   first (Acquire), then the account: nothing is left out, and what is on the way counts twice.
//!
//! A record that a walk does not meet was given back after both, by a Release that the walk acquires. For
//! figures that are right as well as safe, a sum during which a record was carried over is made again, a few times.

use crate::meter::Meter;
use crate::sync::real::AtomicU64;
use core::sync::atomic::{
    Ordering::{Acquire, Relaxed, Release},
    fence,
};

/// How often a sum is made at most.
const TRIES: usize = 4;

/// Items, and their size, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

impl Sum {
    fn of(items: &AtomicU64, bytes: &AtomicU64) -> Sum {
        // Acquire: see the file's documentation.
        Sum { items: items.load(Acquire), bytes: bytes.load(Acquire) }
    }

    pub(crate) fn minus(self, other: Sum) -> Sum {
        Sum {
            items: self.items.saturating_sub(other.items),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    pub(crate) fn plus(self, other: Sum) -> Sum {
        // Bytes wrap as their counts do: sizes may be invented.
        Sum { items: self.items + other.items, bytes: self.bytes.wrapping_add(other.bytes) }
    }
}

/// A count that only rises: items, bytes.
#[derive(Debug, Default)]
pub(super) struct Account {
    items: AtomicU64,
    bytes: AtomicU64,
}

impl Account {
    fn get(&self) -> Sum {
        Sum::of(&self.items, &self.bytes)
    }

    /// Only a thread that holds the lock of the domain's orphans may call this.
    fn add(&self, sum: Sum) {
        // Release: see the file's documentation.
        self.items.fetch_add(sum.items, Release);
        self.bytes.fetch_add(sum.bytes, Release);
    }

    /// As for [`add`](Account::add).
    fn set(&self, sum: Sum) {
        self.items.store(sum.items, Release);
        self.bytes.store(sum.bytes, Release);
    }
}

/// The domain's account: the counts of records that were given back.
#[derive(Debug, Default)]
pub(crate) struct Past {
    retired: Account,
    freed: Account,
    /// Records whose counts have begun to be carried over, and those that are done.
    begun: AtomicU64,
    done: AtomicU64,
}

/// Returns what was retired, and is not in the account.
fn retired(meter: &Meter) -> Sum {
    // What is gone first: it is then no more than what was counted.
    let gone = meter.gone_retired.get();
    meter.retired().minus(gone)
}

/// Returns what was freed, and is not in the account.
fn freed(meter: &Meter) -> Sum {
    let all = meter.freed();
    all.minus(meter.gone_freed.get())
}

impl Past {
    /// Carries a record's counts over: it is about to be given back. The caller owns it, and holds the lock of
    /// the domain's orphans.
    pub(crate) fn absorb(&self, meter: &Meter) {
        let (retired, freed) = (retired(meter), freed(meter));
        if retired == Sum::default() && freed == Sum::default() {
            return;
        }
        let begun = self.begun.load(Relaxed) + 1;
        self.begun.store(begun, Relaxed);
        // Pairs with the fence in `sums`: a thread that sees one of the stores below sees that it has begun.
        fence(Release);
        self.retired.add(retired);
        meter.gone_retired.set(meter.retired());
        meter.gone_freed.set(meter.freed());
        self.freed.add(freed);
        // Release: pairs with the first load in `sums`.
        self.done.store(begun, Release);
    }

    /// Returns what was retired, and what of it was freed, in the whole domain. `meters`: a walk over those of the records
    /// in use.
    pub(crate) fn sums<'m, M>(&self, meters: impl Fn() -> M) -> (Sum, Sum)
    where
        M: Iterator<Item = &'m Meter>,
    {
        let mut tries = TRIES;
        loop {
            let done = self.done.load(Acquire);
            let all_freed = meters().map(freed).fold(self.freed.get(), Sum::plus);
            let here = meters().map(retired).fold(Sum::default(), Sum::plus);
            let all_retired = here.plus(self.retired.get());
            fence(Acquire);
            tries -= 1;
            if self.begun.load(Relaxed) == done || tries == 0 {
                return (all_retired, all_freed);
            }
        }
    }

    /// Returns no less than what waits; exactly that, if nothing is retired meanwhile.
    pub(crate) fn waiting<'m, M>(&self, meters: impl Fn() -> M) -> Sum
    where
        M: Iterator<Item = &'m Meter>,
    {
        let (retired, freed) = self.sums(meters);
        retired.minus(freed)
    }
}
