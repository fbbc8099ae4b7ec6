//! One thread's place in a domain, and the list of all places.
//!
//! # Who may touch what
//! 1. `slot` is stored by the owning thread and loaded by whoever scans.
//! 2. `own` (depth, bags, flags) belongs to the owning thread: the one whose compare-exchange set
//!    `in_use`, until it stores `in_use = false` again. A record's owner stays on its thread: the
//!    registry, a `Guard` (neither is `Send`) or one call holds it. When the last `Reclaimer` is
//!    dropped, all records belong to that drop (`Domain::close`): no guard and no call can be left,
//!    and threads that exit find the door closed.
//! 3. The tallies are written by the owner and read by anyone.
//! 4. `next` never changes once the record is on the list, and records are freed only with the
//!    list, when the domain is dropped and no thread has a reference to it.

use crate::bag::{Bags, VtimeWord};
use crate::protocol::Slot;
use crate::stats::Tally;
use core::cell::{Cell, UnsafeCell};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use crossbeam_utils::CachePadded;

/// The depth at which a record that was taken for one guard alone starts.
pub(crate) const TRANSIENT: usize = 1 << (usize::BITS - 1);

/// What `pin` and `unpin` touch, in one cache line.
#[derive(Debug)]
struct Hot {
    slot: Slot,
    depth: Cell<usize>,
}

/// One thread's place in a domain.
#[derive(Debug)]
pub(crate) struct Record {
    hot: CachePadded<Hot>,
    own: Own,
    pub(crate) retired: Tally,
    pub(crate) freed: Tally,
    in_use: AtomicBool,
    next: *const Record,
}

#[derive(Debug)]
struct Own {
    freeing: Cell<bool>,
    debt: Cell<usize>,
    bags: UnsafeCell<Bags>,
}

// SAFETY: `own` and `depth` are touched by the record's owner alone (rule 2); the rest is atomic
// or immutable.
unsafe impl Sync for Record {}
// SAFETY: nothing in it is tied to a thread; ownership moves through `in_use`.
unsafe impl Send for Record {}

impl Record {
    fn new(vtime: VtimeWord) -> Record {
        Record {
            hot: CachePadded::new(Hot { slot: Slot::new(), depth: Cell::new(0) }),
            own: Own {
                freeing: Cell::new(false),
                debt: Cell::new(0),
                bags: UnsafeCell::new(Bags::new(vtime)),
            },
            retired: Tally::default(),
            freed: Tally::default(),
            in_use: AtomicBool::new(true),
            next: ptr::null(),
        }
    }

    #[inline]
    pub(crate) fn slot(&self) -> &Slot {
        &self.hot.slot
    }

    /// How many guards are open. Owner only.
    #[inline]
    pub(crate) fn depth(&self) -> &Cell<usize> {
        &self.hot.depth
    }

    /// A destructor of this thread's items is running. Owner only.
    #[inline]
    pub(crate) fn freeing(&self) -> &Cell<bool> {
        &self.own.freeing
    }

    /// Frees that calls from within destructors have left to the calls outside. Owner only.
    #[inline]
    pub(crate) fn debt(&self) -> &Cell<usize> {
        &self.own.debt
    }

    /// Works on the owner's bags. `work` must not run foreign code: a destructor could come back
    /// here.
    ///
    /// # Safety
    /// The caller owns this record (rule 2).
    #[inline]
    pub(crate) unsafe fn with_bags<R>(&self, work: impl FnOnce(&mut Bags) -> R) -> R {
        // SAFETY: only the owner comes here, and `work` does not come back, so this is the only
        // reference.
        work(unsafe { &mut *self.own.bags.get() })
    }
}

/// All records of a domain: a list that only grows, whose records are used again.
#[derive(Debug)]
pub(crate) struct Records {
    head: AtomicPtr<Record>,
}

impl Records {
    pub(crate) fn new() -> Records {
        Records { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Takes a free record, or adds one. The caller owns it until [`Records::release`].
    pub(crate) fn acquire(&self, vtime: VtimeWord) -> &Record {
        for record in self.iter() {
            // Acquire: pairs with `release`, so the last owner's work happens before ours.
            let taken =
                record.in_use.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return record;
            }
        }
        let record = Box::into_raw(Box::new(Record::new(vtime)));
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: not on the list yet, so this thread alone knows it.
            unsafe { (*record).next = head };
            // Release: whoever loads the head (Acquire, in `iter`) sees the record whole.
            match self.head.compare_exchange_weak(
                head,
                record,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                // SAFETY: records live as long as the list.
                Ok(_) => return unsafe { &*record },
                Err(now) => head = now,
            }
        }
    }

    /// Gives a record back. The caller owned it, its slot is clear and its bags are empty.
    pub(crate) fn release(&self, record: &Record) {
        record.in_use.store(false, Ordering::Release);
    }

    /// Every record, in use or not. The head is loaded here, which is what a scan relies on.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        // Acquire: pairs with the Release in `acquire`; records further down were published before.
        let mut next: *const Record = self.head.load(Ordering::Acquire);
        core::iter::from_fn(move || {
            // SAFETY: null, or a record of this list, which lives as long as `self`.
            let record = unsafe { next.as_ref() }?;
            next = record.next;
            Some(record)
        })
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let mut next = *self.head.get_mut();
        while !next.is_null() {
            // SAFETY: made by `Box::into_raw` in `acquire`, on the list once, freed here once.
            let record = unsafe { Box::from_raw(next) };
            next = record.next.cast_mut();
        }
    }
}
