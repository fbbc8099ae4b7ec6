//! What all threads of a domain share, and the full stop that stamps what was unlinked before it.

use super::{GRAIN, above};
use crate::sync::{AtomicU64, Mutant, Ordering, broken, fence};
// What no proof rests on: no part of what loom looks at, which would try each value that it ever had.
use core::sync::atomic::{AtomicU64 as Hint, AtomicUsize as Count};
use crossbeam_utils::CachePadded;

/// Stamps that lead the clock by more than this, nanoseconds, wait for it: what they cover waits for passive evidence, which is
/// a time, by so much longer.
pub(super) const MOST_LEAD_NS: u64 = 100_000;
/// They wait for so many readings at most. One reading takes longer than a stamp's grain, so that with as many the clock comes
/// nearer, be it that a dozen threads take stamps at once; and a clock that has fallen keeps nobody for longer than that.
pub(super) const READINGS: usize = 8;

/// The first era. Intervals take 0 for none.
const FIRST_ERA: u64 = 1;

/// What all threads of a domain share: written by full stops and scans, read by everyone. In one
/// cache line, since whoever seals a bag writes them together.
#[derive(Debug)]
pub(crate) struct Words(pub(super) CachePadded<Shared>);

// At the start of a padded block: in one line, whatever their order.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Shared>() <= 64);

#[derive(Debug)]
pub(super) struct Shared {
    /// The latest full stop, nanoseconds; what a reader pins.
    pub(super) latest: AtomicU64,
    /// A barrier watermark, nanoseconds; what births and the ends of intervals are made of.
    pub(super) era: AtomicU64,
    /// Items stamped before this are free to go.
    pub(super) safe_ns: AtomicU64,
    /// The same in virtual time.
    safe_vtime: AtomicU64,
    /// The latest time that a stop found on the clock, nanoseconds, or some earlier one.
    clock: Hint,
    /// Bags that were sealed since somebody was last told to scan for all. A count, by which nothing goes: no part of what loom
    /// looks at.
    unscanned: Count,
}

/// How far reclamation has come: what was stamped strictly before either may be freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Safe {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
}

/// A full stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// Its stamp, nanoseconds: at least the clock, and the floor; above every one before.
    pub(crate) ns: u64,
    /// How far the clock lay behind what it had shown before, nanoseconds.
    pub(crate) lag_ns: u64,
}

impl Words {
    pub(crate) fn new() -> Words {
        Words(CachePadded::new(Shared {
            latest: AtomicU64::new(0),
            era: AtomicU64::new(FIRST_ERA),
            safe_ns: AtomicU64::new(0),
            safe_vtime: AtomicU64::new(0),
            clock: Hint::new(0),
            unscanned: Count::new(0),
        }))
    }

    /// The caller has sealed `bags` more. Whether it is the one who scans for all: `worth` says of how many
    /// bags a scan is worth it, and of any larger number too, so that nobody who adds to the count meanwhile
    /// makes the others pass it by. Calls that are asked to free scan beside these, and count for none: what
    /// they may buy is not what a retirer may.
    ///
    /// Relaxed, all: whether anyone scans, and who, changes what is kept and for how long, not what may go.
    pub(crate) fn must_scan(&self, bags: usize, worth: impl Fn(usize) -> bool) -> bool {
        let unscanned = &self.0.unscanned;
        if !worth(unscanned.fetch_add(bags, Ordering::Relaxed) + bags) {
            return false;
        }
        let taken = unscanned.swap(0, Ordering::Relaxed);
        if worth(taken) {
            return true;
        }
        // Somebody else was first; these came after.
        unscanned.fetch_add(taken, Ordering::Relaxed);
        false
    }

    /// The stamp of the latest full stop, nanoseconds.
    pub(crate) fn latest(&self) -> u64 {
        self.0.latest.load(Ordering::Acquire)
    }

    /// The same, for an interval's beginning: as in [`Reader::open`](super::Reader::open).
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        let order =
            if broken(Mutant::RelaxedLatest) { Ordering::Relaxed } else { Ordering::Acquire };
        self.0.latest.load(order)
    }

    /// The current era.
    #[inline]
    pub(crate) fn era(&self) -> u64 {
        // Acquire: pairs with the scan's Release store, so that a stamp taken after this load is
        // compared with an era that was published before it.
        self.0.era.load(Ordering::Acquire)
    }

    /// The current era, or an earlier one that this thread has not seen pass: for births.
    #[inline]
    pub(crate) fn era_relaxed(&self) -> u64 {
        self.0.era.load(Ordering::Relaxed)
    }

    /// What may be freed now.
    #[inline]
    pub(crate) fn safe(&self) -> Safe {
        // Acquire: pairs with the Release in `scan`, which itself acquired every unpin; so all
        // accesses of ended sections happen before the caller's free.
        Safe {
            ns: self.0.safe_ns.load(Ordering::Acquire),
            vtime: self.0.safe_vtime.load(Ordering::Acquire),
        }
    }

    /// The same in nanoseconds, for reports.
    pub(crate) fn safe_ns_relaxed(&self) -> u64 {
        self.0.safe_ns.load(Ordering::Relaxed)
    }

    /// A full stop: a stamp for what the caller unlinked before.
    ///
    /// The fence puts the unlinks before the clock, as the daemon's and membarrier's evidence has
    /// it; without it a store could still sit in the store buffer when the clock is read, and become
    /// visible after a barrier that "passed" it.
    ///
    /// Between the domain's own threads it is not the clock that counts but the order of the
    /// exchanges of one word, whose values only rise and never tie: a stop whose value is not greater
    /// than one that a thread has loaded came before it, or is it, and happens before all that the
    /// thread does from there on. Where stops come faster than the clock goes, or the clock steps back,
    /// their stamps run ahead of it, which is late and never early.
    ///
    /// Where they come faster than one in [`GRAIN`], each waits until the clock has come within
    /// [`MOST_LEAD_NS`] of its stamp, for a few readings.
    ///
    /// Nor does it count against what other domains of the process buy: `floor` is what the latest of
    /// them will be a watermark for ([`raise`]).
    #[inline]
    pub(crate) fn stop(&self, floor: &AtomicU64, clock: impl Fn() -> u64) -> Stop {
        if !broken(Mutant::UnfencedStamp) {
            fence(Ordering::SeqCst);
        }
        // Relaxed: after the fence, whose partner is that in `raise`.
        let floor = if broken(Mutant::FloorUnseen) { 0 } else { floor.load(Ordering::Relaxed) };
        // Relaxed. Before the clock is read: whoever is preempted between the two finds what others have
        // seen meanwhile on a clock that has only gone on.
        let seen = self.0.clock.load(Ordering::Relaxed);
        let read = clock;
        let clock = read();
        // Loaded again, lest it leave an old time there after all that; no exchange: between the two it may.
        if clock > self.0.clock.load(Ordering::Relaxed) {
            self.0.clock.store(clock, Ordering::Relaxed);
        }
        let least = clock.max(floor).next_multiple_of(GRAIN);
        let (mut shows, mut readings) = (clock, READINGS);
        let step = if broken(Mutant::TiedStops) { 0 } else { GRAIN };
        // AcqRel: each is Release for what came before it and Acquire for the stops that it follows.
        let order = if broken(Mutant::RelaxedStop) { Ordering::Relaxed } else { Ordering::AcqRel };
        let mut before = self.0.latest.load(Ordering::Relaxed);
        loop {
            let ns = least.max(before + step);
            if leads(ns, shows) && readings > 0 {
                // The stamp is none the worse for it: it is no earlier than the first reading in any case.
                (shows, readings) = (read(), readings - 1);
                before = self.0.latest.load(Ordering::Relaxed);
                continue;
            }
            match self.0.latest.compare_exchange_weak(before, ns, order, Ordering::Relaxed) {
                Ok(_) => return Stop { ns, lag_ns: seen.saturating_sub(clock) },
                Err(now) => before = now,
            }
        }
    }

    /// Lets items pass by virtual time: `vtime` had passed, by [`VtimeMemory`](super::VtimeMemory), for every section
    /// that a scan saw.
    pub(crate) fn publish_vtime(&self, vtime: u64) {
        // Release: as for `safe_ns` in `scan`.
        self.0.safe_vtime.fetch_max(vtime, Ordering::Release);
    }
}

/// Whether the stamp `ns` leads a clock that shows `clock` by more than it should.
fn leads(ns: u64, clock: u64) -> bool {
    ns.saturating_sub(clock) > MOST_LEAD_NS
}

/// Before a barrier is bought that all domains of the process will share, for the stop `own`: its
/// watermark.
///
/// Take any stop in any of them. Its fence comes before the one here, so the bought barrier, which
/// comes after, passes for what was unlinked before the stop; or after, then its load of `floor` sees
/// the watermark, its stamp is no less, and needs a later barrier. The clock has no say in it.
pub(crate) fn raise(floor: &AtomicU64, own: u64) -> u64 {
    let watermark = above(own);
    floor.fetch_max(watermark, Ordering::Relaxed);
    // The kernel's barrier begins with one of its own; this one puts it into the language's terms.
    fence(Ordering::SeqCst);
    watermark
}
