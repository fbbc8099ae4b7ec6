//! All records of a domain.

use super::Engine;
use super::pool::{Group, Pool};
use super::record::Record;
use crate::protocol::dormant::Asleep;
use crate::protocol::{Bound, VtimeWord};

/// All records of a domain: as many as were ever in use at once, and used again.
#[derive(Debug)]
pub(crate) struct Records(Pool<Record>);

impl Records {
    pub(crate) fn new() -> Records {
        Records(Pool::new())
    }

    /// Takes a free record, or makes one. The caller owns it until it gives it back, and fences and takes a
    /// stamp before it uses it.
    pub(crate) fn acquire(&self, home: *const Engine, vtime: VtimeWord) -> &Record {
        self.0.take(|place| {
            let record = Box::into_raw(Box::new(Record::new(home, vtime, place)));
            // SAFETY: no other thread knows it yet; its queue lives no longer than the record. The domain is the caller.
            unsafe { (*(*record).bags()).serve((*record).meter(), (*home).readers_fence()) };
            record
        })
    }

    /// Gives a record back. The caller owns it, nothing of it is open, its queue is empty, and its counts
    /// are in the domain's account ([`Past`](crate::meter::sums::Past)).
    pub(crate) fn give_back(&self, record: &Record) {
        debug_assert!(!record.reader().is_pinned() && !record.interval().is_open());
        // So that no record is counted as a sleeper that no thread owns.
        record.go_on(record.reader().sleep().is_awake());
        self.0.give_back(record.number());
    }

    /// Returns the records that threads own. Nothing is loaded before it is called for, which is what a scan relies on.
    #[inline]
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &Record> {
        self.0.in_use()
    }

    /// Returns the same, except those that sleep: each is loaded when it is called for, not before.
    #[inline]
    pub(crate) fn awake(&self) -> impl Iterator<Item = &Record> {
        self.0.awake()
    }

    /// Returns the groups of records that there are, with their bounds. Nothing is loaded before it is called for.
    #[inline]
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Bound, Group<'_, Record>)> {
        self.0.groups()
    }

    /// Returns the word that tells whether a record sleeps, and its number there.
    pub(crate) fn bed(&self, record: &Record) -> (&Asleep, usize) {
        self.0.bed(record.number())
    }

    /// Returns every record, in use or not: when the domain ends, and for reports.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Record> {
        self.0.all()
    }

    /// Returns the price of a scan, in records that it reads.
    pub(crate) fn cost(&self) -> usize {
        self.0.cost()
    }
}
