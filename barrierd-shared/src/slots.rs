//! The readers' protocol: what a slot says, and what a scan concludes from all of them.
//!
//! This file owns the words `latest` and the slots as pure atomics: no mapping, no system call. The proof is in
//! docs/proofs/shared.md, whose steps are named here.
//!
//! A slot is the latest stamp that its reader had seen when it last pinned. Stamps are even; the lowest bit says that no
//! section is open. Two values stand for themselves: [`NOBODY`]'s and [`TAKEN`]'s.

use crate::steps::{Mutant, broken, unless};
use crate::sync::{AtomicU64, Ordering, fence};
use std::sync::atomic::compiler_fence;

/// No section is open.
pub(crate) const IDLE: u64 = 1;
/// The slot has no reader: evidence for every stamp.
pub(crate) const NOBODY: u64 = u64::MAX;
/// Its reader has not pinned yet: evidence for none.
pub(crate) const TAKEN: u64 = IDLE;

/// Opens a section: two loads' worth of order and a plain store. Returns what it has stored. `barrierd_shared_pin` of the C header
/// is the same in C, and `barrierd_shared_unpin` is [`unpin`], except that it loads the stamp from the slot.
#[inline]
pub(crate) fn pin(latest: &AtomicU64, slot: &AtomicU64) -> u64 {
    // Acquire in effect (the data may be mapped read-only, where only Relaxed loads are promised): pairs with the Release
    // store of `latest` in `stamp`, so that from here on this thread sees all that was unlinked before that stamp.
    let stamp = latest.load(Ordering::Relaxed) & !IDLE;
    if !broken(Mutant::RelaxedLatest) {
        fence(Ordering::Acquire);
    }
    // Release: for whoever finds it there (`Scan::of`, Acquire), all earlier sections have ended.
    slot.store(stamp, unless(Mutant::RelaxedPin, Ordering::Release));
    // The section's loads stay behind the store in program order. The CPU may still swap them: that is what the barrier of
    // step 1 is for.
    compiler_fence(Ordering::SeqCst);
    stamp
}

/// Closes the section that `pin` has opened with this stamp, which stays.
#[inline]
pub(crate) fn unpin(slot: &AtomicU64, stamp: u64) {
    // Release: pairs with the Acquire load in `Scan::of` (step 3).
    slot.store(stamp | IDLE, unless(Mutant::RelaxedUnpin, Ordering::Release));
}

/// Takes the slot for a new reader, whose lock is held: before its first `pin`.
pub(crate) fn take(slot: &AtomicU64) {
    if !broken(Mutant::NotTaken) {
        slot.store(TAKEN, Ordering::Release);
    }
    // Partner: the fence of `stamp`. A scan that follows that fence and still finds NOBODY here was first, so this reader sees
    // all that was unlinked before that stamp (step 4).
    if !broken(Mutant::UnfencedTake) {
        fence(Ordering::SeqCst);
    }
}

/// Leaves the slot to nobody; its lock is still held. Also for a dead reader, by the thread that has taken its lock.
pub(crate) fn leave(slot: &AtomicU64) {
    // Release: whoever finds NOBODY here finds the sections over.
    slot.store(NOBODY, unless(Mutant::RelaxedLeave, Ordering::Release));
}

/// How far stamps may be ahead of the clock, in nanoseconds: an hour. Two are added for each stamp that is taken within one
/// reading of the clock.
const AHEAD: u64 = 3_600_000_000_000;

/// Returns whether `latest` can have become what it is by stamps: else somebody has stored it. Near the greatest
/// number stamps would not rise any more, and every section would look younger than everything.
pub(crate) fn can_be(latest: u64, now: u64) -> bool {
    latest <= now.saturating_add(AHEAD).min(u64::MAX / 2)
}

/// Takes the stamp for what was unlinked before, in a turn. `clock` is read after the fence. `None` if `latest` can't be.
pub(crate) fn stamp(latest: &AtomicU64, clock: impl FnOnce() -> u64) -> Option<u64> {
    // It puts the unlinks before the clock reading, as the evidence of the daemon requires, and before the loads of the slots,
    // as step 4 does.
    if !broken(Mutant::UnfencedStamp) {
        fence(Ordering::SeqCst);
    }
    let now = clock();
    // Relaxed: stamps are taken in turns, whose word orders them. Unique and rising, so that "not less" suffices in a scan; a
    // stamp ahead of the clock is late, never early.
    let last = latest.load(Ordering::Relaxed) & !IDLE;
    if !can_be(last, now) {
        return None;
    }
    let stamp = (now | IDLE).saturating_add(1).max(last.saturating_add(2)) & !IDLE;
    // Release: partner of `pin`.
    latest.store(stamp, Ordering::Release);
    Some(stamp)
}

/// Returns the stamp below which the barriers for all have passed.
fn strict(watermark: u64) -> u64 {
    if broken(Mutant::LaxWatermark) { watermark.saturating_add(2) } else { watermark }
}

/// What the slots show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// Each reader has seen what was unlinked before this stamp, and before all that are less.
    pub(crate) seen: u64,
    /// The oldest open section's stamp.
    pub(crate) oldest: u64,
}

impl Scan {
    /// Of no reader.
    pub(crate) const EMPTY: Scan = Scan { seen: u64::MAX, oldest: u64::MAX };

    /// Of one reader. The watermark that it goes with must have been learned before.
    pub(crate) fn of(slot: &AtomicU64) -> Scan {
        // Acquire: pairs with `pin`, `unpin` and `leave`.
        let word = slot.load(unless(Mutant::RelaxedScan, Ordering::Acquire));
        let trusted = broken(Mutant::IdleNeedsNothing) && word & IDLE != 0;
        if word == NOBODY || trusted {
            return Scan::EMPTY;
        }
        let seen = word & !IDLE;
        Scan { seen, oldest: if word & IDLE == 0 { seen } else { u64::MAX } }
    }

    pub(crate) fn and(self, other: Scan) -> Scan {
        Scan { seen: self.seen.min(other.seen), oldest: self.oldest.min(other.oldest) }
    }

    /// Returns the latest stamp of those that it frees, none later than `last`.
    pub(crate) fn bound(self, watermark: u64, last: u64) -> u64 {
        strict(watermark).saturating_sub(1).max(self.seen).min(self.oldest).min(last)
    }

    /// Returns whether what was stamped `stamp` has no reader: the barrier for it has passed (`watermark`, of the daemon,
    /// strictly above), or each reader has shown that it has seen it; and no open section is older.
    pub(crate) fn frees(self, stamp: u64, watermark: u64) -> bool {
        (stamp < strict(watermark) || stamp <= self.seen) && stamp <= self.oldest
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_even_rise_and_lead_a_clock_that_stands_still() {
        let latest = AtomicU64::new(0);
        let stamps: Vec<_> = [5, 5, 4, 100, 101].map(|clock| stamp(&latest, || clock)).into();
        assert_eq!(stamps, [6, 8, 10, 102, 104].map(Some));
        for broken in [u64::MAX, u64::MAX - 1, 8 + AHEAD] {
            latest.store(broken, Ordering::Relaxed);
            assert_eq!(stamp(&latest, || 7), None);
            assert_eq!(latest.load(Ordering::Relaxed), broken);
        }
    }

    #[test]
    fn a_slot_shows_what_its_reader_has_seen() {
        let (latest, slot) = (AtomicU64::new(0), AtomicU64::new(NOBODY));
        let unlinked = stamp(&latest, || 10).expect("in time");
        assert!(Scan::of(&slot).frees(unlinked, 0), "nobody holds nothing");
        take(&slot);
        assert!(!Scan::of(&slot).frees(unlinked, 0), "it has shown nothing");
        assert!(Scan::of(&slot).frees(unlinked, unlinked + 1), "the barrier has passed");
        assert!(!Scan::of(&slot).frees(unlinked, unlinked), "strictly");
        let pinned = pin(&latest, &slot);
        assert!(Scan::of(&slot).frees(unlinked, 0), "it pinned after the unlink");
        let later = stamp(&latest, || 20).expect("in time");
        assert!(!Scan::of(&slot).frees(later, u64::MAX), "its section is older");
        unpin(&slot, pinned);
        assert!(!Scan::of(&slot).frees(later, 0), "idle, and has not seen it");
        assert!(Scan::of(&slot).frees(later, later + 1));
        leave(&slot);
        assert!(Scan::of(&slot).frees(later, 0));
    }
}
