//! What all threads of a domain share, and the fence and stamp for what was unlinked before it.

use super::{GRAIN, above};
use crate::sync::{AtomicU64, Mutant, Ordering, broken, fence, raise_to};
// No proof rests on these, so loom does not model them: it would try each value that they ever had.
use crate::sync::real::AtomicU64 as Hint;
use core::sync::atomic::AtomicUsize as Count;
use crossbeam_utils::CachePadded;

/// A thread whose stamp would lead the clock by more than this, nanoseconds, waits for the clock: what such a stamp covers
/// waits for passive evidence, which is a time, by so much longer.
pub(super) const MOST_LEAD_NS: u64 = 100_000;
/// It waits for this many readings at most. One reading takes longer than a stamp's grain, so the lead shrinks, even if a
/// dozen threads take stamps at once. A clock that has fallen keeps no thread for longer than that.
pub(super) const READINGS: usize = 8;

/// The first era. In intervals 0 means that there is none.
const FIRST_ERA: u64 = 1;

/// What all threads of a domain share: written by stamping threads and by scans, read by all threads. In two cache
/// lines: readers load the latest stamp in each section, and a scan that publishes what it has found should not take it
/// from them, nor wait until they give it up.
#[derive(Debug)]
pub(crate) struct Words {
    pub(super) stamps: CachePadded<Stamps>,
    pub(super) found: CachePadded<Found>,
}

// At the start of a padded block: in one line, whatever their order.
#[cfg(not(barrierd_loom))]
const _: () = assert!(size_of::<Stamps>() <= 64 && size_of::<Found>() <= 64);

/// What stamping threads write, together.
#[derive(Debug)]
pub(super) struct Stamps {
    /// The latest stamp, nanoseconds; readers pin it.
    pub(super) latest: AtomicU64,
    /// The latest time that a stamping thread found on the clock, nanoseconds, or some earlier one.
    clock: Hint,
    /// The number of bags sealed since a thread was last told to scan for all. Nothing is reclaimed by this count, so
    /// loom does not model it.
    unscanned: Count,
}

/// What scans write.
#[derive(Debug)]
pub(super) struct Found {
    /// The latest watermark that a scan has learned, nanoseconds.
    pub(super) watermark: AtomicU64,
    /// A stamp that a scan began with: births and the ends of intervals are taken from it, and nothing else.
    pub(super) era: AtomicU64,
    /// Items stamped before this are reclaimable.
    pub(super) safe_ns: AtomicU64,
    /// The same in virtual time.
    safe_vtime: AtomicU64,
    /// When the last scan began of those that threads may make once in a while, nanoseconds. Nothing is reclaimed by it.
    scanned_ns: Hint,
}

/// How far reclamation has come: what was stamped strictly before either may be freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Safe {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
}

/// The result of a fence and stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The stamp, nanoseconds: at least the clock, and the floor; above every stamp before.
    pub(crate) ns: u64,
    /// How far the clock lay behind what it had shown before, nanoseconds.
    pub(crate) lag_ns: u64,
}

impl Words {
    pub(crate) fn new() -> Words {
        let latest = AtomicU64::new(0);
        let (clock, unscanned) = (Hint::new(0), Count::new(0));
        let (watermark, era) = (AtomicU64::new(0), AtomicU64::new(FIRST_ERA));
        let (safe_ns, safe_vtime) = (AtomicU64::new(0), AtomicU64::new(0));
        let scanned_ns = Hint::new(0);
        Words {
            stamps: CachePadded::new(Stamps { latest, clock, unscanned }),
            found: CachePadded::new(Found { watermark, era, safe_ns, safe_vtime, scanned_ns }),
        }
    }

    /// Counts `bags` more that the caller has sealed. Returns whether the caller must scan for all.
    ///
    /// `worth` returns whether a scan is worth its price for that many bags. If it is for one number, it must be for
    /// any larger number too, so that a thread that adds to the count meanwhile does not make the others miss the
    /// moment. Calls that are asked to free scan as well, and do not count: they may buy what a thread that retires
    /// may not.
    ///
    /// Relaxed, all: which thread scans, and whether any does, changes what is kept and for how long, not what is
    /// reclaimable.
    pub(crate) fn must_scan(&self, bags: usize, worth: impl Fn(usize) -> bool) -> bool {
        let unscanned = &self.stamps.unscanned;
        if !worth(unscanned.fetch_add(bags, Ordering::Relaxed) + bags) {
            return false;
        }
        let taken = unscanned.swap(0, Ordering::Relaxed);
        if worth(taken) {
            return true;
        }
        // Another thread was first; these bags came after.
        unscanned.fetch_add(taken, Ordering::Relaxed);
        false
    }

    /// Returns whether the caller, whose stamp is `own`, should scan, where such scans are `apart_ns` from each other: then
    /// this one is counted as the last.
    pub(crate) fn is_turn(&self, own: u64, apart_ns: u64) -> bool {
        // Relaxed, all: as in `must_scan`.
        let last_ns = self.found.scanned_ns.load(Ordering::Relaxed);
        let relaxed = Ordering::Relaxed;
        own.saturating_sub(last_ns) >= apart_ns
            && self.found.scanned_ns.compare_exchange(last_ns, own, relaxed, relaxed).is_ok()
    }

    /// Returns the latest stamp, nanoseconds.
    pub(crate) fn latest(&self) -> u64 {
        self.stamps.latest.load(Ordering::Acquire)
    }

    /// Returns the latest stamp for an interval's beginning: as in [`Reader::open`](super::Reader::open).
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        let order =
            if broken(Mutant::RelaxedLatest) { Ordering::Relaxed } else { Ordering::Acquire };
        self.stamps.latest.load(order)
    }

    /// Returns the latest watermark that a scan has learned.
    #[inline]
    pub(crate) fn watermark(&self) -> u64 {
        // Acquire: pairs with the Release in `scan` and `glance`. What proved it happens before what the caller does.
        self.found.watermark.load(Ordering::Acquire)
    }

    /// Returns the current era, or an earlier one that this thread has not seen pass.
    #[inline]
    pub(crate) fn era(&self) -> u64 {
        // Relaxed: births and ends are compared with values of this word alone, whose order is all that counts.
        self.found.era.load(Ordering::Relaxed)
    }

    /// Begins another era, with a stamp of the calling thread: what is born from here on is younger than what an interval
    /// has that loads nothing more. An era proves nothing, so no barrier is waited for.
    pub(crate) fn next_era(&self, own: u64) {
        raise_to(&self.found.era, own);
    }

    /// Returns how far items are reclaimable now.
    #[inline]
    pub(crate) fn safe(&self) -> Safe {
        // Acquire: pairs with the Release in `scan`, which itself acquired every unpin; so all
        // accesses of ended sections happen before the caller's free.
        Safe {
            ns: self.found.safe_ns.load(Ordering::Acquire),
            vtime: self.found.safe_vtime.load(Ordering::Acquire),
        }
    }

    /// Returns the same in nanoseconds, for reports.
    pub(crate) fn safe_ns_relaxed(&self) -> u64 {
        self.found.safe_ns.load(Ordering::Relaxed)
    }

    /// Fences, and takes a stamp for what the caller unlinked before.
    ///
    /// The fence puts the unlinks before the clock reading, which the daemon's and membarrier's evidence
    /// requires. Without it a store could still sit in the store buffer when the clock is read, and become
    /// visible after a barrier that "passed" it.
    ///
    /// Between the domain's own threads the clock does not count, but the order of the exchanges of one word does.
    /// The word's values only rise and are never equal. So a stamp that is not greater than one that a thread has
    /// loaded came before that one, or is that one, and its exchange happens before all that the thread does from
    /// there on. Where stamps are taken faster than the clock goes, or the clock steps back, they run ahead of it.
    /// That makes them late, never early.
    ///
    /// Where stamps are taken faster than one in [`GRAIN`], each thread waits until the clock has come within
    /// [`MOST_LEAD_NS`] of its stamp, for [`READINGS`] readings at most.
    ///
    /// Nor does the clock count against barriers that other domains of the process buy: `floor` is the watermark that
    /// the latest of these will prove ([`raise`]).
    #[inline]
    pub(crate) fn fence_and_stamp(&self, floor: &AtomicU64, clock: impl Fn() -> u64) -> Stamp {
        if !broken(Mutant::UnfencedStamp) {
            fence(Ordering::SeqCst);
        }
        // Relaxed: after the fence, whose partner is that in `raise`.
        let floor = if broken(Mutant::FloorUnseen) { 0 } else { floor.load(Ordering::Relaxed) };
        // Relaxed. Loaded before the clock is read: a thread that is preempted between the two would find here what
        // others have seen meanwhile on a clock that has only gone on.
        let seen = self.stamps.clock.load(Ordering::Relaxed);
        let read = clock;
        let clock = read();
        // Loaded again, so that an old time rarely replaces a newer one. It is no exchange: between the two loads it
        // may.
        if clock > self.stamps.clock.load(Ordering::Relaxed) {
            self.stamps.clock.store(clock, Ordering::Relaxed);
        }
        let least = clock.max(floor).next_multiple_of(GRAIN);
        let (mut shows, mut readings) = (clock, READINGS);
        let step = if broken(Mutant::TiedStamps) { 0 } else { GRAIN };
        // AcqRel: each exchange is Release for what came before it and Acquire for the stamps that it follows.
        let order = if broken(Mutant::RelaxedStamp) { Ordering::Relaxed } else { Ordering::AcqRel };
        let mut before = self.stamps.latest.load(Ordering::Relaxed);
        loop {
            let ns = least.max(before + step);
            if leads(ns, shows) && readings > 0 {
                // The stamp stays sound: it is no earlier than the first reading in any case.
                (shows, readings) = (read(), readings - 1);
                before = self.stamps.latest.load(Ordering::Relaxed);
                continue;
            }
            match self.stamps.latest.compare_exchange_weak(before, ns, order, Ordering::Relaxed) {
                Ok(_) => return Stamp { ns, lag_ns: seen.saturating_sub(clock) },
                Err(now) => before = now,
            }
        }
    }

    /// Makes items reclaimable by virtual time: `vtime` had passed, by [`VtimeMemory`](super::VtimeMemory), for every
    /// section that a scan saw.
    pub(crate) fn publish_vtime(&self, vtime: u64) {
        // Release inside: as for `safe_ns` in `scan`.
        raise_to(&self.found.safe_vtime, vtime);
    }
}

/// Returns whether the stamp `ns` leads a clock that shows `clock` by more than it should.
fn leads(ns: u64, clock: u64) -> bool {
    ns.saturating_sub(clock) > MOST_LEAD_NS
}

/// Raises the floor before a barrier is bought for the stamp `own`, which all domains of the process will share.
/// Returns the barrier's watermark.
///
/// Take any stamp in any of the domains. Either its fence comes before the one here: then the bought barrier, which
/// comes after, passes for what was unlinked before that stamp. Or its fence comes after: then its load of `floor`
/// sees the watermark, so the stamp is no less, and needs a later barrier. The clock does not matter.
pub(crate) fn raise(floor: &AtomicU64, own: u64) -> u64 {
    let watermark = above(own);
    floor.fetch_max(watermark, Ordering::Relaxed);
    // The kernel's barrier begins with one of its own; this one puts it into the language's terms.
    fence(Ordering::SeqCst);
    watermark
}
