//! What single readers hold back, beside the sections that `protocol/mod.rs` knows: one object by a
//! hazard, what is older than a moment by an interval.
//!
//! Pure atomics and plain lists, so that loom runs these very functions. This file knows nothing of
//! threads, queues or where barriers come from. The proofs are in docs/proofs/holders.md, "What a hazard
//! holds" and "What an interval holds".
//!
//! Neither holds back the domain's `safe`. A thread that reclaims a bag loads `safe` first (Acquire), then
//! scans ([`Holders::collect`]) every interval, then every hazard. What is held stays, the rest is
//! free for good: a reader can't find it any more, so no later scan could find it held.
//!
//! The scan of the holders comes after `safe`, and `safe` after the barrier. So it sees what any scan of the readers
//! that led to `safe` would have seen, or newer. And it comes after the slots that that scan saw, intervals before
//! hazards: a reader may move an object from a section to a hazard, never back.

use crate::protocol::{GRAIN, Safe, Words, stamp_of};
use crate::sync::{AtomicU64, Mutant, Ordering, broken, fence, light_barrier, step};

/// No address, no era: nothing is held.
const NOTHING: u64 = 0;

/// A hazard: the address of the one object that its owner may go on to use.
#[derive(Debug)]
pub(crate) struct HazardSlot(AtomicU64);

impl HazardSlot {
    pub(crate) fn new() -> HazardSlot {
        HazardSlot(AtomicU64::new(NOTHING))
    }

    /// Holds what `seen` points to, if the source still shows `seen` afterwards; otherwise returns what it shows, as an
    /// error.
    ///
    /// `load` is an Acquire load of the source that `seen` came from: what was stored into the object
    /// before it was published is visible. `fenced`: no source makes readers pass barriers.
    #[inline]
    pub(crate) fn protect<P: Copy + PartialEq>(
        &self,
        seen: P,
        address: impl FnOnce(P) -> u64,
        load: impl FnOnce() -> P,
        fenced: bool,
    ) -> Result<P, P> {
        self.hold(address(seen));
        // The second load stays after the store in program order; the CPU may still swap them, and
        // the barrier point is what catches that, as in `Reader::open`.
        light_barrier();
        if fenced && !broken(Mutant::UnfencedReader) {
            // Pairs with the scan's fence between its stamp and its loads of the slots.
            fence(Ordering::SeqCst);
        }
        step();
        let again = if broken(Mutant::HazardNoReload) { seen } else { load() };
        step();
        if again == seen { Ok(again) } else { Err(again) }
    }

    /// Holds the object at `address`, which something else of the owner's protects at this moment.
    #[inline]
    pub(crate) fn hold(&self, address: u64) {
        // Release, though nothing is handed over yet: the use of the object that was held before
        // ends here, and a Relaxed store would not continue the release sequence of an earlier
        // `clear`. Partner: the Acquire in `Holders::collect`.
        let order =
            if broken(Mutant::RelaxedHazard) { Ordering::Relaxed } else { Ordering::Release };
        self.0.store(address, order);
    }

    /// Holds nothing.
    #[inline]
    pub(crate) fn clear(&self) {
        step();
        self.hold(NOTHING);
    }

    /// Returns the address that it holds, if any. For reports: proves nothing.
    pub(crate) fn held(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&address| address != NOTHING)
    }
}

/// The interval can't count more guards.
#[derive(Debug)]
pub(crate) struct Full;

/// Guards of an interval, in the bits of its beginning that stamps leave free.
const GUARDS: u64 = GRAIN - 1;

/// An interval: its owner may use what was born in or before the era of its end and retired after the
/// stamp of its beginning (Wen, Izraelevitz, Cai, Beadle, Scott, "Interval-based memory reclamation", PPoPP
/// 2018: 2GE-IBR; here with the domain's stamps in place of fences).
#[derive(Debug)]
pub(crate) struct Interval {
    /// The latest stamp that its owner had seen when it last began, and the number of guards that hold it
    /// open. It alone is compared with stamps.
    lo: AtomicU64,
    /// The era of its last load. It alone is compared with births. It never falls, except
    /// that a signal handler's later end, whose section is over, may be stored over. [`NOTHING`]: it was never
    /// open, whatever `lo` counts.
    up: AtomicU64,
}

impl Interval {
    /// It counts as full, so that the first guard that opens it takes the slow path.
    pub(crate) fn new() -> Interval {
        Interval { lo: AtomicU64::new(GUARDS), up: AtomicU64::new(NOTHING) }
    }

    /// Returns whether it was never open. Owner only.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        self.up.load(Ordering::Relaxed) == NOTHING
    }

    /// Returns whether it was open once, and is not now: it may be opened. Owner only.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.lo.load(Ordering::Relaxed) & GUARDS == 0
    }

    /// Returns whether it is open. Owner only.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_idle() && !self.is_new()
    }

    /// Returns whether one guard alone holds it open. Owner only.
    #[inline]
    pub(crate) fn is_sole(&self) -> bool {
        self.lo.load(Ordering::Relaxed) & GUARDS == 1
    }

    /// Opens it, or begins it anew, for one guard. Owner only; nothing that it holds is used any more. Returns
    /// the stamp of its beginning, for [`Reader::show_idle`](crate::protocol::Reader::show_idle).
    #[inline]
    pub(crate) fn open(&self, words: &Words, fenced: bool) -> u64 {
        let era = words.era();
        // Acquire inside, as in `Reader::open`: what was unlinked before this stamp can't be found.
        let seen = words.seen();
        step();
        // Release, both: see `HazardSlot::hold`; partner: the Acquire loads in `Holders::collect`. The
        // upper end first, so that no scan sees the new beginning with the old end. A signal handler in
        // between that opens and closes it leaves a later end at worst, which holds more.
        self.up.store(era, Ordering::Release);
        self.lo.store(seen | 1, Ordering::Release);
        light_barrier();
        if fenced && !broken(Mutant::UnfencedReader) {
            // As in `HazardSlot::protect`.
            fence(Ordering::SeqCst);
        }
        step();
        seen
    }

    /// Counts one more guard. Owner only; it is open.
    pub(crate) fn nest(&self) -> Result<(), Full> {
        let word = self.lo.load(Ordering::Relaxed);
        if word & GUARDS == GUARDS {
            return Err(Full);
        }
        // Release: a Relaxed store would not continue the release sequence of an earlier `close`.
        self.lo.store(word + 1, Ordering::Release);
        Ok(())
    }

    /// Takes back one [`nest`](Interval::nest).
    pub(crate) fn unnest(&self) {
        // Release, as in `nest`.
        self.lo.store(self.lo.load(Ordering::Relaxed) - 1, Ordering::Release);
    }

    /// Does what [`protect`](Interval::protect) does, if the era has not moved since the last load, as nearly always.
    #[inline]
    pub(crate) fn try_protect<P>(&self, words: &Words, load: impl FnOnce() -> P) -> Option<P> {
        let up = self.up.load(Ordering::Relaxed);
        let found = load();
        (words.era() == up).then_some(found)
    }

    /// Loads a pointer whose object it holds from then on. Owner only; it is open.
    ///
    /// `load` is an Acquire load. The era comes after it: a birth is an era that was loaded before the
    /// object was published, so an object that `load` found has a birth that is no later than the era
    /// found here (by coherence: Relaxed is enough). Equal to the upper end, which was stored before
    /// the load, it proves that the object was held when it was found.
    pub(crate) fn protect<P>(&self, words: &Words, load: impl Fn() -> P, fenced: bool) -> P {
        let mut up = self.up.load(Ordering::Relaxed);
        loop {
            let found = load();
            let era = words.era();
            if era == up {
                return found;
            }
            up = era;
            self.raise(up, fenced);
            if broken(Mutant::RobustNoReload) {
                return found;
            }
        }
    }

    /// Moves the upper end to the era `up`: once an era at most.
    #[cold]
    fn raise(&self, up: u64, fenced: bool) {
        step();
        self.up.store(up, Ordering::Release);
        light_barrier();
        if fenced && !broken(Mutant::UnfencedReader) {
            // As in `HazardSlot::protect`.
            fence(Ordering::SeqCst);
        }
        step();
    }

    /// Closes it, however many guards there are. Owner only.
    #[inline]
    pub(crate) fn close(&self) {
        step();
        let order =
            if broken(Mutant::RelaxedInterval) { Ordering::Relaxed } else { Ordering::Release };
        self.lo.store(stamp_of(self.lo.load(Ordering::Relaxed)), order);
        step();
    }

    /// Returns its ends, if it is open: the beginning's stamp, and the era of the end.
    fn see(&self, order: Ordering) -> Option<(u64, u64)> {
        // The beginning before the end: with the end of an older interval it would seem to hold
        // less. (The barrier sees to that as well; this keeps it true without.)
        let lo = self.lo.load(order);
        let up = self.up.load(order);
        // One that is opened for the first time at this moment may seem to have begun before all.
        (lo & GUARDS != 0 && up != NOTHING).then_some((stamp_of(lo), up))
    }

    /// Returns whether it is open and began no later than `stamp`.
    pub(crate) fn holds_back(&self, stamp: u64) -> bool {
        // Acquire: pairs with `close`.
        self.see(Ordering::Acquire).is_some_and(|(lo, _)| lo <= stamp)
    }

    /// Returns its ends, if it is open. For reports: proves nothing.
    pub(crate) fn ends(&self) -> Option<(u64, u64)> {
        self.see(Ordering::Relaxed)
    }
}

/// Returns the birth of an object that is published after this call: any earlier era would do as well.
///
/// Never the clock, nor the source's own word: a reader whose upper end equals the era would look
/// harmless to an object that it can find.
#[inline]
pub(crate) fn birth(words: &Words, _clock: impl FnOnce() -> u64) -> u64 {
    if broken(Mutant::BirthFromNow) { _clock() } else { words.era() }
}

/// Returns what is reclaimable: `safe`, then a scan of the holders, in this order.
pub(crate) fn reclaimable(words: &Words, scan: impl FnOnce() -> Holders) -> (Safe, Holders) {
    if broken(Mutant::HolderSetOld) {
        let holders = scan();
        return (words.safe(), holders);
    }
    // Acquire inside: the scan of the holders comes after all that the scan which published `safe` saw.
    let safe = words.safe();
    (safe, scan())
}

/// An interval that holds something back: the address of its words, and when it began. While an interval at this
/// address that began then is open, it holds what it has held: its end never falls, and the same is true if another
/// section began at the same stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    interval: usize,
    lo: u64,
}

/// The result of one scan of the intervals and hazards.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// An open interval and its upper end. Apart from the others, since mostly there is one at most, the caller's
    /// own, and that needs no allocation.
    interval: Option<(Holder, u64)>,
    /// Further ones.
    intervals: Vec<(Holder, u64)>,
    /// Addresses, in order.
    hazards: Vec<u64>,
}

impl Holders {
    /// Scans every interval, then every hazard. The caller loaded `safe` before, and reclaims by
    /// that alone. Both lists are loaded when they are called for, not before.
    pub(crate) fn collect<'a, I, H>(
        intervals: impl FnOnce() -> I,
        hazards: impl FnOnce() -> H,
    ) -> Holders
    where
        I: Iterator<Item = &'a Interval>,
        H: Iterator<Item = &'a HazardSlot>,
    {
        // Acquire: pairs with the Release stores of `Interval` and `HazardSlot`: an end of what was
        // held happens before the free.
        let order =
            if broken(Mutant::RelaxedHolderScan) { Ordering::Relaxed } else { Ordering::Acquire };
        let early = broken(Mutant::HazardsBeforeIntervals);
        let see = |hazards: H| -> Vec<u64> {
            let held = hazards.map(|slot| slot.0.load(order));
            held.filter(|&address| address != NOTHING).collect()
        };
        let (mut first, mut later) = (None, Some(hazards));
        if early {
            first = later.take().map(|hazards| see(hazards()));
        }
        let open = |interval: &Interval| {
            let (lo, up) = interval.see(order)?;
            Some((Holder { interval: core::ptr::from_ref(interval).addr(), lo }, up))
        };
        let mut all = Holders::default();
        for held in intervals().filter_map(open) {
            match all.interval {
                None => all.interval = Some(held),
                Some(_) => all.intervals.push(held),
            }
        }
        let mut hazards = first.unwrap_or_else(|| later.map_or(Vec::new(), |list| see(list())));
        hazards.sort_unstable();
        Holders { hazards, ..all }
    }

    #[inline]
    fn all_intervals(&self) -> impl Iterator<Item = &(Holder, u64)> {
        self.interval.iter().chain(&self.intervals)
    }

    /// Returns whether nothing is held except by sections.
    #[cfg(all(test, not(barrierd_loom)))]
    pub(crate) fn is_empty(&self) -> bool {
        self.interval.is_none() && self.hazards.is_empty()
    }

    /// Returns what is safe of objects whose birth is not known, so that each open interval holds all that
    /// was retired since it began.
    ///
    /// Intervals begin at stamps, which are no virtual times: while one is open only nanoseconds count.
    pub(crate) fn without_birth(&self, safe: Safe) -> Safe {
        let first = self.all_intervals().map(|(holder, _)| holder.lo).min();
        first.map_or(safe, |lo| Safe { ns: safe.ns.min(lo), vtime: 0 })
    }

    /// Returns what is safe of objects whose birth is known, before [`holder`](Holders::holder) is asked.
    pub(crate) fn with_birth(&self, safe: Safe) -> Safe {
        if self.interval.is_none() { safe } else { Safe { vtime: 0, ..safe } }
    }

    /// Returns an interval that holds all that was born in `newest` or before and retired with the stamp `ns`. With the
    /// earliest birth of several objects as `newest`, it returns one that holds any of them.
    pub(crate) fn holder(&self, ns: u64, newest: u64) -> Option<Holder> {
        let holds = |(holder, up): &&(Holder, u64)| holder.lo <= ns && newest <= *up;
        self.all_intervals().find(holds).map(|(holder, _)| *holder)
    }

    /// Returns whether `holder` is still there.
    pub(crate) fn has(&self, holder: Holder) -> bool {
        self.all_intervals().any(|&(open, _)| open == holder)
    }

    /// Returns whether a hazard holds anything at all.
    pub(crate) fn has_hazards(&self) -> bool {
        !self.hazards.is_empty()
    }

    /// Returns whether a hazard holds the object at `address`.
    pub(crate) fn has_hazard(&self, address: u64) -> bool {
        self.hazards.binary_search(&address).is_ok()
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::protocol::{GRAIN, Reader, scan};
    use core::iter::{empty, once};

    fn advance(words: &Words, era: u64) {
        words.next_era(era * GRAIN);
    }

    fn stamp(words: &Words, at: u64) {
        assert_eq!(words.fence_and_stamp(&AtomicU64::new(0), || at * GRAIN).ns, at * GRAIN);
    }

    #[test]
    fn a_hazard_holds_what_is_still_there() {
        let slot = HazardSlot::new();
        assert_eq!(slot.protect(8u64, |p| p, || 8, false), Ok(8));
        assert_eq!(slot.protect(8u64, |p| p, || 16, true), Err(16));
        assert_eq!(slot.protect(17u64, |p| p & !7, || 17, false), Ok(17));
        let look = || Holders::collect(empty, || once(&slot));
        assert!(look().has_hazard(16) && !look().has_hazard(17) && !look().is_empty());
        slot.clear();
        assert!(look().is_empty() && slot.held().is_none());
    }

    #[test]
    fn an_interval_holds_what_was_born_before_its_end_and_retired_after_its_beginning() {
        let words = Words::new();
        // The era trails the stamps, as it does.
        advance(&words, 10);
        stamp(&words, 12);
        let interval = Interval::new();
        assert!(interval.is_new() && !interval.is_idle() && !interval.is_open());
        assert!(interval.ends().is_none() && !interval.holds_back(u64::MAX));
        assert!(Holders::collect(|| once(&interval), empty).is_empty());
        interval.open(&words, false);
        assert!(interval.is_open() && interval.is_sole());
        let look = || Holders::collect(|| once(&interval), empty);
        let held = |ns: u64, birth: u64| look().holder(ns * GRAIN, birth * GRAIN).is_some();
        assert!(held(12, 10) && held(20, 5));
        assert!(!held(11, 5), "retired before it began");
        assert!(!held(20, 11), "born after its last load");
        advance(&words, 12);
        assert!(!held(20, 11), "still");
        assert_eq!(interval.protect(&words, || 7, false), 7);
        assert!(held(20, 12) && !held(20, 13));
        let holder = look().holder(20 * GRAIN, 1).expect("held");
        let safe = Safe { ns: 50 * GRAIN, vtime: 9 };
        assert_eq!(look().without_birth(safe), Safe { ns: 12 * GRAIN, vtime: 0 });
        assert_eq!(look().with_birth(safe), Safe { ns: 50 * GRAIN, vtime: 0 });
        assert!(interval.holds_back(12 * GRAIN) && !interval.holds_back(12 * GRAIN - 1));
        interval.close();
        assert!(
            interval.is_idle() && !interval.is_open() && !look().has(holder) && look().is_empty()
        );
        assert_eq!(look().without_birth(safe), safe);
    }

    /// An object that is published while a reader loads is held when it is found.
    #[test]
    fn the_load_is_repeated_until_the_era_stands() {
        let words = Words::new();
        let interval = Interval::new();
        interval.open(&words, false);
        let loads = core::cell::Cell::new(0);
        let load = || {
            loads.set(loads.get() + 1);
            if loads.get() < 4 {
                advance(&words, 10 * loads.get());
            }
            birth(&words, || unreachable!("the clock is for the mutant"))
        };
        let birth = interval.protect(&words, load, false);
        assert_eq!((loads.get(), birth), (4, 30 * GRAIN));
        assert_eq!(interval.ends().map(|ends| ends.1), Some(30 * GRAIN));
    }

    /// A reader may move what it holds from an interval to a hazard while another thread scans.
    #[test]
    fn what_moves_from_an_interval_to_a_hazard_is_seen() {
        let (words, interval, slot) = (Words::new(), Interval::new(), HazardSlot::new());
        interval.open(&words, false);
        let moves = || {
            slot.hold(8);
            interval.close();
            once(&interval)
        };
        let look = Holders::collect(moves, || once(&slot));
        assert!(look.holder(GRAIN, GRAIN).is_some() || look.has_hazard(8));
    }

    /// The set of an older scan with a newer `safe` would lose what moved from a section to a hazard.
    #[test]
    fn the_look_comes_after_safe() {
        let (words, reader, slot) = (Words::new(), Reader::new(), HazardSlot::new());
        reader.pin(&words);
        let retired = 20 * GRAIN;
        let (safe, holders) = reclaimable(&words, || {
            let holders = Holders::collect(empty, || once(&slot));
            slot.hold(8);
            reader.unpin();
            scan(&words, || 30 * GRAIN, || once(&reader));
            holders
        });
        assert!(retired >= safe.ns || holders.has_hazard(8));
        let (safe, holders) = reclaimable(&words, || Holders::collect(empty, || once(&slot)));
        assert!(retired < safe.ns && holders.has_hazard(8));
    }
}
