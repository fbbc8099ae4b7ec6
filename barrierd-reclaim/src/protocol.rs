//! The reader protocol: pin, unpin, full stop and scan, over a domain's words and its readers.
//!
//! Pure atomics: this file knows nothing of threads, bags, clocks or where barriers come from, so
//! that loom runs these very functions (`models/`). The proof that governs it is in
//! ARCHITECTURE.md, "Why a freed item has no reader"; the comments below name its steps:
//!
//! - item p was unlinked, then came a full stop that gave it its stamp `t` ([`Words::stop`]);
//! - a watermark `w > t` says that every thread of the domain passed a barrier after `t` and before
//!   `w` was learned: its CPU did (the daemon, membarrier), it came to a full stop itself
//!   ([`Reader::full_stop`]), or it saw one that is no earlier, and showed it ([`Reader::open`], [`collect`]);
//! - a scan that learned `w` first and then looked at every slot found only pins that had seen a stop `>= t`;
//! - of threads that sleep nothing is asked and no slot looked at (`dormant.rs`).

use crate::dormant::Sleep;
use crate::sync::{AtomicU64, Ordering, Twin, broken, fence, light_barrier, step};
// What no proof rests on: no part of what loom looks at, which would try each value that it ever had.
use core::sync::atomic::{AtomicU64 as Hint, AtomicUsize as Count};
use crossbeam_utils::CachePadded;

/// Stamps are multiples of this, nanoseconds; no two stops of a domain have the same. The rest of a
/// slot says whether its thread holds a guard.
pub(crate) const GRAIN: u64 = 16;
/// Stamps lead the clock by no more than this, nanoseconds, where it was stops that drove them there: what they cover
/// waits for passive evidence, which is a time, by so much longer.
const MOST_LEAD_NS: u64 = 100_000;
/// A stop that would lead by more reads the clock so often again, at most.
const READINGS: usize = 64;

/// In a slot: its owner holds no guard. The stamp stays.
const IDLE: u64 = 1;

/// The first era. Intervals take 0 for none.
const FIRST_ERA: u64 = 1;

/// A slot's stamp, and that of an interval's beginning.
#[inline]
pub(crate) fn stamp_of(word: u64) -> u64 {
    word & !(GRAIN - 1)
}

/// What has seen the stop `stamp` has seen all that were stamped before this.
pub(crate) fn behind(stamp: u64) -> u64 {
    stamp.saturating_add(GRAIN)
}

/// What all threads of a domain share: written by full stops and scans, read by everyone. In one
/// cache line, since whoever seals a bag writes them together.
#[derive(Debug)]
pub(crate) struct Words(CachePadded<Shared>);

// At the start of a padded block: in one line, whatever their order.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Shared>() <= 64);

#[derive(Debug)]
struct Shared {
    /// The latest full stop, nanoseconds; what a reader pins.
    latest: AtomicU64,
    /// A barrier watermark, nanoseconds; what births and the ends of intervals are made of.
    era: AtomicU64,
    /// Items stamped before this are free to go.
    safe_ns: AtomicU64,
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
    pub(crate) behind_ns: u64,
}

/// What a source knows: the barrier has passed for every moment before `ns`, and for every virtual
/// time before `vtime` (0 where there is none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
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

    /// The same, for an interval's beginning: as in [`Reader::open`].
    #[inline]
    pub(crate) fn seen(&self) -> u64 {
        let order = if broken(Twin::RelaxedLatest) { Ordering::Relaxed } else { Ordering::Acquire };
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
    /// Where stops come faster than one in [`GRAIN`], each waits until the clock has come within
    /// [`MOST_LEAD_NS`] of its stamp, for a few readings: [`is_driven`].
    ///
    /// Nor does it count against what other domains of the process buy: `floor` is what the latest of
    /// them will be a watermark for ([`raise`]).
    #[inline]
    pub(crate) fn stop(&self, floor: &AtomicU64, clock: impl Fn() -> u64) -> Stop {
        if !broken(Twin::UnfencedStamp) {
            fence(Ordering::SeqCst);
        }
        // Relaxed: after the fence, whose partner is that in `raise`.
        let floor = if broken(Twin::FloorUnseen) { 0 } else { floor.load(Ordering::Relaxed) };
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
        let step = if broken(Twin::TiedStops) { 0 } else { GRAIN };
        // AcqRel: each is Release for what came before it and Acquire for the stops that it follows.
        let order = if broken(Twin::RelaxedStop) { Ordering::Relaxed } else { Ordering::AcqRel };
        let mut before = self.0.latest.load(Ordering::Relaxed);
        loop {
            let ns = least.max(before + step);
            if is_driven(ns, shows) && readings > 0 {
                // The stamp is none the worse for it: it is no earlier than the first reading in any case.
                (shows, readings) = (read(), readings - 1);
                before = self.0.latest.load(Ordering::Relaxed);
                continue;
            }
            match self.0.latest.compare_exchange_weak(before, ns, order, Ordering::Relaxed) {
                Ok(_) => return Stop { ns, behind_ns: seen.saturating_sub(clock) },
                Err(now) => before = now,
            }
        }
    }

    /// Lets items pass by virtual time: `vtime` had passed, by [`VtimeMemory`], for every section
    /// that a scan saw.
    pub(crate) fn publish_vtime(&self, vtime: u64) {
        // Release: as for `safe_ns` in `scan`.
        self.0.safe_vtime.fetch_max(vtime, Ordering::Release);
    }
}

/// Whether the stamp `ns` leads a clock that shows `clock` by more than stops should drive it. By twice as much they
/// don't: each of those that are under way adds a grain, so that takes some 6,000 threads at once. Then it is a clock that
/// has fallen, and nobody waits for it.
fn is_driven(ns: u64, clock: u64) -> bool {
    (MOST_LEAD_NS + 1..2 * MOST_LEAD_NS).contains(&ns.saturating_sub(clock))
}

/// Before a barrier is bought that all domains of the process will share, for the stop `own`: its
/// watermark.
///
/// Take any stop in any of them. Its fence comes before the one here, so the bought barrier, which
/// comes after, passes for what was unlinked before the stop; or after, then its load of `floor` sees
/// the watermark, its stamp is no less, and needs a later barrier. The clock has no say in it.
pub(crate) fn raise(floor: &AtomicU64, own: u64) -> u64 {
    let watermark = behind(own);
    floor.fetch_max(watermark, Ordering::Relaxed);
    // The kernel's barrier begins with one of its own; this one puts it into the language's terms.
    fence(Ordering::SeqCst);
    watermark
}

/// What a domain's scans see of one thread. In one cache line: [`Record`](crate::record::Record)
/// keeps what only its owner touches beside it.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The stamp of the latest stop that the thread had seen when it last pinned; with [`IDLE`], if it holds no
    /// guard. How many it holds is the owner's business alone (`record.rs`).
    slot: AtomicU64,
    /// The thread's last full stop, nanoseconds.
    stopped: AtomicU64,
    /// Whether it sleeps: looked at by its owner in each `pin`.
    sleep: Sleep,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { slot: AtomicU64::new(IDLE), stopped: AtomicU64::new(0), sleep: Sleep::new() }
    }

    /// One that looks pinned for ever: what a thread without a reader finds in its place.
    #[cfg(not(loom))]
    pub(crate) const fn nobody() -> Reader {
        Reader { slot: AtomicU64::new(0), stopped: AtomicU64::new(0), sleep: Sleep::of_nobody() }
    }

    /// Opens a read-side section: a load, a store, and a look whether somebody took the reader for asleep. The
    /// owner holds no other guard. False: it wakes ([`Sleep::wake`]) before it loads anything.
    ///
    /// The stamp is loaded Acquire: it pairs with the exchange in `stop`, so that from here on the owner
    /// sees all that was unlinked before that stop and before those that it followed. The store is
    /// Release: whoever finds the stamp in the slot finds that all earlier sections have ended. It would
    /// have to be anyway: since C++20 a Relaxed store would not continue the release sequence of the
    /// last `unpin`.
    #[inline]
    pub(crate) fn open(&self, words: &Words) -> bool {
        let order = if broken(Twin::RelaxedLatest) { Ordering::Relaxed } else { Ordering::Acquire };
        let stamp = words.0.latest.load(order);
        step();
        let early = broken(Twin::LookBeforePin).then(|| self.sleep.look());
        self.show(stamp);
        early.unwrap_or_else(|| self.sleep.look())
    }

    /// The store of [`open`](Reader::open).
    ///
    /// A signal handler that pins and unpins between the load and this leaves a later stamp there, which
    /// this takes back. What the owner finds in its section it finds after the handler's load, so no less
    /// than it showed is true; and what the section holds back is what its own stamp says.
    #[inline]
    pub(crate) fn show(&self, stamp: u64) {
        let order = if broken(Twin::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
        self.slot.store(stamp, order);
        // The section's loads stay behind the store in program order; the CPU may still swap them,
        // and the barrier point of step 1 is what catches that.
        light_barrier();
    }

    /// The same where nobody is put to sleep; where there is no source of barriers, with the fence which stands for
    /// the barrier point of step 1.
    #[cfg(test)]
    pub(crate) fn pin(&self, words: &Words) {
        if !self.open(words) {
            self.sleep.wake(|| unreachable!("nobody marks it"));
        }
    }

    /// What the owner looks at behind whatever it opens.
    #[inline]
    pub(crate) fn sleep(&self) -> &Sleep {
        &self.sleep
    }

    /// Whether the owner holds a guard. Owner only: Relaxed reads its own last store.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.slot.load(Ordering::Relaxed) & IDLE == 0
    }

    /// [`is_pinned`](Reader::is_pinned) by a plain load, which compilers fold into the test of it.
    ///
    /// # Safety
    /// Nobody but the caller stores to the slot, not even a signal handler on its thread.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn own_is_pinned(&self) -> bool {
        // SAFETY: others load only, as the caller says, so this load races with nothing.
        unsafe { self.slot.as_ptr().read() & IDLE == 0 }
    }

    /// Closes the section, whose guards are gone: the stamp stays. One instruction, where a word in
    /// memory can be changed by one. Owner only; without a section it changes nothing.
    #[inline]
    pub(crate) fn unpin(&self) {
        step();
        // Release: pairs with the Acquire load in `scan` (step 3).
        let order = if broken(Twin::RelaxedUnpin) { Ordering::Relaxed } else { Ordering::Release };
        self.slot.store(self.slot.load(Ordering::Relaxed) | IDLE, order);
        step();
    }

    /// The stamp of the latest stop that the owner is known to have seen, by its own or by a pin, if it holds no
    /// guard. Acquire, both: for whoever finds that, all its sections have ended.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let word = self.slot.load(Ordering::Acquire);
        let seen = stamp_of(word).max(self.stopped.load(Ordering::Acquire));
        (word & IDLE != 0).then_some(seen)
    }

    /// Shows a stamp that the owner has just loaded ([`Words::seen`]), as a section that is over would have: what
    /// reads by intervals alone is evidence, too. Nothing, while the owner holds a guard.
    #[inline]
    pub(crate) fn show_idle(&self, stamp: u64) {
        if !self.is_pinned() {
            // Release, as in `pin`, and for the same reason. A signal handler that pins in between has shown a
            // later one, which this takes back: an earlier stamp is true as well.
            let order =
                if broken(Twin::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
            self.slot.store(stamp | IDLE, order);
        }
    }

    /// The pinned stamp, if any. `Relaxed`: for reports, proves nothing.
    pub(crate) fn pinned(&self) -> Option<u64> {
        Some(self.slot.load(Ordering::Relaxed)).filter(|word| word & IDLE == 0).map(stamp_of)
    }

    /// The owner's last full stop, nanoseconds. Owner only.
    pub(crate) fn last_stop(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A full stop of the owning thread, published: evidence that this thread has passed its barrier
    /// for all earlier stamps.
    #[inline]
    pub(crate) fn full_stop(
        &self,
        words: &Words,
        floor: &AtomicU64,
        clock: impl Fn() -> u64,
    ) -> Stop {
        let stop = words.stop(floor, clock);
        // Release: brings the slot's earlier values along (step 1). Partner: `collect`.
        let order =
            if broken(Twin::RelaxedEvidence) { Ordering::Relaxed } else { Ordering::Release };
        self.stopped.store(stop.ns, order);
        stop
    }
}

/// What one scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The barrier has passed for every time before this, nanoseconds.
    pub(crate) watermark: u64,
    /// The oldest pinned stamp, if anyone was pinned.
    pub(crate) oldest: Option<u64>,
    /// What was stamped before this is free to go, nanoseconds.
    pub(crate) safe: u64,
    /// The watermark was news.
    pub(crate) advanced: bool,
}

/// The watermark that the readers themselves prove, as far as the stop `own`, the caller's last.
///
/// A reader has seen the stop whose stamp its slot shows, pinned or idle, and its own last one. All stops
/// that are not later happen before what it does from there on: of what was unlinked before them it
/// finds nothing any more (step 2). And what it held before is over, for whoever finds the stamp in the
/// slot or the stop here (step 1).
///
/// `readers` are those that somebody has ([`Taken`](crate::places::Taken)) and that don't sleep
/// ([`Sleep`]): one that nobody has counts as passed. If the thread that takes it comes to its first stop before the caller did, the caller meets it
/// there; if after, that thread sees all that was unlinked before `own`. So nothing of `readers` may be
/// loaded before they are called for. A reader whose memory the taker has yet to make known is one that
/// comes to its first stop after.
pub(crate) fn collect<'r>(own: u64, readers: impl Iterator<Item = &'r Reader>) -> u64 {
    let order = if broken(Twin::RelaxedEvidence) { Ordering::Relaxed } else { Ordering::Acquire };
    let cap = if broken(Twin::UncappedEvidence) { u64::MAX } else { own };
    let shown = |word| {
        let passed = broken(Twin::IdleNeedsNothing) && word & IDLE != 0;
        if passed { u64::MAX } else { stamp_of(word) }
    };
    let seen = readers
        .filter(|_| !broken(Twin::NobodyInUse))
        // Acquire, both: pair with `full_stop` and `pin`.
        .map(|reader| reader.stopped.load(order).max(shown(reader.slot.load(order))))
        .fold(cap, u64::min);
    behind(seen)
}

/// One scan: a watermark, learned before, then a look at every slot, then what is safe.
///
/// Any number of threads may scan at once: all words only rise. `readers` as for [`collect`]: a
/// reader that registers late is then either met or behind its barrier, and of one that was given back
/// whoever sees so sees its last unpin.
pub(crate) fn scan<'r, R>(
    words: &Words,
    watermark: impl FnOnce() -> u64,
    readers: impl Fn() -> R,
) -> Scan
where
    R: Iterator<Item = &'r Reader>,
{
    let oldest_pin = |readers: R| {
        // Acquire: pairs with `unpin` (and with `pin` for the sections before it).
        let order = if broken(Twin::RelaxedScan) { Ordering::Relaxed } else { Ordering::Acquire };
        let words = readers.map(|reader| reader.slot.load(order));
        words.filter(|word| word & IDLE == 0).map(stamp_of).min()
    };

    let early = broken(Twin::ScanBeforeWatermark).then(|| oldest_pin(readers()));
    // An era is a watermark too, learned by an earlier scan, whose Release this Acquire meets; so a
    // look without news is sound, and helps where a pin held the last one back.
    let era = words.0.era.load(Ordering::Acquire);
    let news = watermark();
    let watermark = news.max(era);
    let oldest = early.unwrap_or_else(|| oldest_pin(readers()));
    let oldest = if broken(Twin::NoScan) { None } else { oldest };
    let safe = oldest.map_or(watermark, |oldest| behind(oldest).min(watermark));

    // Release: hands the unpins that this scan acquired on to whoever frees. A maximum, since a pin
    // may let less through now than another scan before did.
    if safe > words.0.safe_ns.load(Ordering::Relaxed) {
        words.0.safe_ns.fetch_max(safe, Ordering::Release);
    }
    if news > era {
        // Release: a reader that loads this era runs after the barrier that it stands for.
        words.0.era.fetch_max(news, Ordering::Release);
    }
    Scan { watermark, oldest, safe, advanced: news > era }
}

/// Translates a pinned stamp into virtual time. Guarded by a lock of the domain's.
#[derive(Debug, Default)]
pub(crate) struct VtimeMemory {
    /// Newest last: the latest stop as it stood when a virtual time had passed.
    recent: [Evidence; 8],
}

impl VtimeMemory {
    /// `vtime` has passed; `latest` was loaded after it was learned.
    pub(crate) fn remember(&mut self, latest: u64, vtime: u64) {
        // Each source's virtual time only rises, but a source without one says 0.
        let vtime = vtime.max(self.recent[self.recent.len() - 1].vtime);
        self.recent.rotate_left(1);
        self.recent[self.recent.len() - 1] = Evidence { ns: latest, vtime };
    }

    /// The virtual time that had passed before every section that a scan saw began, if the oldest
    /// pinned `oldest`, and the scan looked at the slots after the last call of `remember`.
    ///
    /// A reader that pinned a stamp above the one that stood when a virtual time was learned loaded
    /// it later than that. A stamp older than the memory gives 0, which frees nothing.
    pub(crate) fn passed(&self, oldest: Option<u64>) -> u64 {
        let before = |pair: &&Evidence| oldest.is_none_or(|oldest| pair.ns < oldest);
        self.recent.iter().rev().find(before).map_or(0, |pair| pair.vtime)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::places::Taken;
    use core::cell::Cell;
    use core::iter::once;
    use proptest::prelude::*;

    /// Nobody buys.
    static NONE: AtomicU64 = AtomicU64::new(0);

    fn look(words: &Words, watermark: u64, reader: &Reader) -> Scan {
        scan(words, || watermark * GRAIN, || once(reader))
    }

    #[test]
    fn a_pin_holds_back_what_came_after_it() {
        let (words, reader) = (Words::new(), Reader::new());
        assert!(look(&words, 99, &reader).advanced);
        assert_eq!(words.safe().ns, 99 * GRAIN);
        words.stop(&NONE, || 100 * GRAIN);
        reader.pin(&words);
        words.stop(&NONE, || 150 * GRAIN);
        look(&words, 200, &reader);
        let held = look(&words, 300, &reader);
        // What was stamped by the stop that it has seen may go.
        assert_eq!((held.safe, held.oldest), (101 * GRAIN, Some(100 * GRAIN)));
        // Without news: the pin is gone, and that is enough.
        reader.unpin();
        let free = look(&words, 300, &reader);
        assert_eq!((free.safe, free.advanced), (300 * GRAIN, false));
        // Older evidence than the era takes nothing back.
        assert_eq!(look(&words, 250, &reader).safe, 300 * GRAIN);
        assert_eq!(words.era(), 300 * GRAIN);
    }

    /// In turn and all at once: one in so many is told to scan, however far the count has run past.
    #[test]
    fn one_scans_for_all() {
        let words = Words::new();
        let told = |bags| words.must_scan(bags, |sealed| sealed > 3);
        assert_eq!([1, 1, 1, 1, 1].map(told), [false, false, false, true, false]);
        assert_eq!([2, 7, 4, 3].map(told), [false, true, true, false]);
        let count = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    (0..10_000).filter(|_| words.must_scan(1, |sealed| sealed > 3)).count()
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert!((1..=10_001).contains(&count), "{count}");
    }

    #[test]
    fn a_section_shows_what_its_thread_has_seen_after_its_end_too() {
        let (words, scanner, reader) = (Words::new(), Reader::new(), Reader::new());
        let stop = |clock| scanner.full_stop(&words, &NONE, || clock * GRAIN).ns;
        let evidence = |own| collect(own, [&scanner, &reader].into_iter());
        let one = stop(1);
        assert_eq!(evidence(one), GRAIN, "nobody knows what the reader has seen");
        reader.pin(&words);
        let two = stop(2);
        assert_eq!(evidence(two), 2 * GRAIN);
        reader.unpin();
        assert_eq!(evidence(two), 2 * GRAIN, "idle, and no older than that");
        reader.pin(&words);
        assert_eq!(evidence(two), 3 * GRAIN);
    }

    #[test]
    fn what_nobody_has_needs_no_evidence() {
        let (words, taken) = (Words::new(), Taken::new());
        let readers = [Reader::new(), Reader::new()];
        let evidence = |own| collect(own * GRAIN, taken.look().map(|i| &readers[i])) / GRAIN;
        assert_eq!((taken.take(2), taken.take(2), taken.take(2)), (Some(0), Some(1), None));
        readers[1].full_stop(&words, &NONE, || 40 * GRAIN);
        readers[0].full_stop(&words, &NONE, || 60 * GRAIN);
        assert_eq!(evidence(100), 41);
        taken.give_back(1);
        assert_eq!(evidence(100), 61);
        assert_eq!(taken.take(2), Some(1));
        assert_eq!(evidence(100), 41);
        assert_eq!(evidence(30), 31);
    }

    #[test]
    fn stops_never_tie_and_say_when_the_clock_fell() {
        let words = Words::new();
        assert_eq!(words.stop(&NONE, || 500), Stop { ns: 512, behind_ns: 0 });
        assert_eq!(words.stop(&NONE, || 500), Stop { ns: 528, behind_ns: 0 });
        assert_eq!(words.stop(&NONE, || 200), Stop { ns: 544, behind_ns: 300 });
        // That stamps run ahead of the clock is no sign that it fell.
        assert_eq!(words.stop(&NONE, || 501), Stop { ns: 560, behind_ns: 0 });
        assert_eq!(words.stop(&NONE, || 600), Stop { ns: 608, behind_ns: 0 });
    }

    /// On a clock that shows a nanosecond more at each reading, so that stops come sixteen times as fast as their stamps.
    #[test]
    fn stops_drive_their_stamps_so_far_ahead_and_no_further() {
        let (words, readings) = (Words::new(), Cell::new(0));
        let clock = || {
            readings.set(readings.get() + 1);
            readings.get()
        };
        let lead = || words.stop(&NONE, clock).ns.saturating_sub(readings.get());
        let most = (0..100_000).map(|_| lead()).max().unwrap();
        assert!((MOST_LEAD_NS - GRAIN..=MOST_LEAD_NS).contains(&most), "{most}");
        // Each of them waits for a grain, once the lead is there.
        let before = readings.get();
        (0..100).for_each(|_| assert!(lead() <= MOST_LEAD_NS));
        assert!((1_600..=1_700).contains(&(readings.get() - before)));
    }

    /// Nobody waits for a clock that has fallen, nor for ever for one that stands still.
    #[test]
    fn stops_wait_for_no_clock_that_fell() {
        let (words, readings) = (Words::new(), Cell::new(0));
        let stop = |clock| {
            readings.set(0);
            let read = || {
                readings.set(readings.get() + 1);
                clock
            };
            (words.stop(&NONE, read).ns, readings.get())
        };
        let hour = 3_600_000_000_000;
        assert_eq!(stop(hour), (hour, 1));
        assert_eq!(stop(0), (hour + GRAIN, 1));
        let near = hour - MOST_LEAD_NS;
        assert_eq!(stop(near), (hour + 2 * GRAIN, 1 + READINGS));
        // Held up since it was read: one look tells.
        let (late, first) = (Words::new(), Cell::new(true));
        late.stop(&NONE, || 150_000);
        assert_eq!(late.stop(&NONE, || if first.take() { 0 } else { 160_000 }).ns, 150_000 + 16);
        assert!(!first.get());
    }

    /// A thread that is preempted in its stop finds on its clock what others had found long before.
    #[test]
    fn b1_a_stop_that_is_held_up_is_no_clock_that_fell() {
        let words = Words::new();
        let others = || {
            words.stop(&NONE, || 50_000_000);
        };
        let held_up = words.stop(&NONE, || {
            let clock = 1_000;
            others();
            clock
        });
        assert_eq!(held_up, Stop { ns: 50_000_016, behind_ns: 0 });
        // One that has come later and shows less has fallen.
        assert_eq!(words.stop(&NONE, || 49_000_000).behind_ns, 1_000_000);
    }

    /// Another domain buys a barrier, at a time that this thread's clock hasn't come to.
    #[test]
    fn b1_a_stop_is_no_earlier_than_what_others_are_buying() {
        let (words, floor) = (Words::new(), AtomicU64::new(0));
        assert_eq!(raise(&floor, 640), 656);
        assert_eq!(raise(&floor, 320), 336);
        // The clock is behind the floor; that is no sign that it was set back.
        assert_eq!(words.stop(&floor, || 600), Stop { ns: 656, behind_ns: 0 });
        assert_eq!(words.stop(&floor, || 800), Stop { ns: 800, behind_ns: 0 });
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Pin(usize),
        Unpin(usize),
        Stop(usize),
        Take,
        GiveBack(usize),
        Stamp,
        Scan { bought: bool },
    }

    fn step() -> impl Strategy<Value = Step> {
        let who = 0..3usize;
        prop_oneof![
            3 => who.clone().prop_map(Step::Pin),
            3 => who.clone().prop_map(Step::Unpin),
            4 => who.clone().prop_map(Step::Stop),
            1 => Just(Step::Take),
            1 => who.prop_map(Step::GiveBack),
            3 => Just(Step::Stamp),
            4 => any::<bool>().prop_map(|bought| Step::Scan { bought }),
        ]
    }

    proptest! {
        /// Against plain facts, one step at a time: what becomes safe was stamped before every open
        /// section, and before the last stop or pin of each thread, or a bought barrier.
        #[test]
        fn safe_only_what_nobody_can_hold(steps in proptest::collection::vec(step(), 0..200)) {
            let words = Words::new();
            let readers = [Reader::new(), Reader::new(), Reader::new()];
            let taken = Taken::new();
            (0..3).for_each(|i| assert_eq!(taken.take(3), Some(i)));
            let there = || taken.look().map(|i| &readers[i]);
            // Moments are counted; the clock goes in grains.
            let mut now = 10u64;
            // Up to which moment a thread has seen all stops: by its own, or by a pin.
            let mut seen = [0u64; 3];
            let mut in_use = [true; 3];
            let mut pinned: [Option<u64>; 3] = [None; 3];
            let mut stamps: Vec<(u64, u64)> = Vec::new(); // (stamp, when)
            let mut bought_at = 0;
            for step in steps {
                now += 1;
                let clock = || now * GRAIN;
                match step {
                    Step::Pin(i) if in_use[i] && pinned[i].is_none() => {
                        readers[i].pin(&words);
                        (pinned[i], seen[i]) = (Some(now), now);
                    }
                    Step::Unpin(i) if pinned[i].take().is_some() => readers[i].unpin(),
                    Step::Stop(i) if in_use[i] => {
                        readers[i].full_stop(&words, &NONE, clock);
                        seen[i] = now;
                    }
                    Step::Take => {
                        let free = in_use.iter().position(|in_use| !in_use);
                        prop_assert_eq!(taken.take(3), free);
                        if let Some(i) = free {
                            readers[i].full_stop(&words, &NONE, clock);
                            (in_use[i], seen[i]) = (true, now);
                        }
                    }
                    Step::GiveBack(i) if in_use[i] && pinned[i].is_none() => {
                        taken.give_back(i);
                        in_use[i] = false;
                    }
                    Step::Stamp => stamps.push((words.stop(&NONE, clock).ns, now)),
                    Step::Scan { bought } => {
                        let before = words.safe().ns;
                        let own = words.stop(&NONE, clock).ns;
                        if bought {
                            bought_at = now;
                        }
                        let watermark = || {
                            let bought = if bought { behind(own) } else { 0 };
                            collect(own, there()).max(bought)
                        };
                        let found = scan(&words, watermark, there);
                        prop_assert!(words.safe().ns >= before.max(found.safe));
                        let passed = (0..3)
                            .filter(|&i| in_use[i])
                            .map(|i| seen[i])
                            .min()
                            .unwrap_or(now)
                            .max(bought_at);
                        for &(stamp, when) in &stamps {
                            // What an earlier scan let go stays so.
                            if stamp < before || stamp >= words.safe().ns {
                                continue;
                            }
                            prop_assert!(when < passed, "a thread has not seen it");
                            let held = pinned.iter().flatten().any(|&begin| begin <= when);
                            prop_assert!(!held, "a section of before the stamp is open");
                        }
                        // Bought with nobody pinned: everything goes.
                        if bought && pinned.iter().all(Option::is_none) {
                            prop_assert!(stamps.iter().all(|&(stamp, _)| stamp < words.safe().ns));
                        }
                    }
                    _ => {}
                }
            }
        }

        /// A stop is above all before it, whatever the clock says.
        #[test]
        fn stops_only_rise(clocks in proptest::collection::vec(0..1_000_000u64, 1..50)) {
            let words = Words::new();
            let (mut last, mut shown) = (0, 0u64);
            for clock in clocks {
                let stop = words.stop(&NONE, || clock);
                prop_assert_eq!(stop.ns, clock.next_multiple_of(GRAIN).max(behind(last)));
                prop_assert_eq!(stop.behind_ns, shown.saturating_sub(clock));
                (last, shown) = (stop.ns, shown.max(clock));
            }
        }

        /// A memory that forgets nothing gives at least as much, and what this one gives had passed
        /// before the pinned era.
        #[test]
        fn what_had_passed_is_never_too_new(
            news in proptest::collection::vec((0..4u64, 0..3u64), 0..30), pin in 0..80u64,
        ) {
            let mut memory = VtimeMemory::default();
            let (mut era, mut vtime, mut all) = (1, 0, Vec::new());
            for (eras, rounds) in news {
                (era, vtime) = (era + eras, vtime + rounds);
                memory.remember(era, vtime);
                all.push((era, vtime));
            }
            let full = all.iter().filter(|pair| pair.0 < pin).map(|pair| pair.1).max().unwrap_or(0);
            prop_assert!(memory.passed(Some(pin)) <= full);
            prop_assert_eq!(memory.passed(None), all.last().map_or(0, |pair| pair.1));
        }
    }

    #[test]
    fn an_era_translates_to_what_had_passed_before_it() {
        let mut memory = VtimeMemory::default();
        assert_eq!(memory.passed(None), 0);
        memory.remember(100, 10);
        memory.remember(200, 20);
        assert_eq!(memory.passed(None), 20);
        assert_eq!(memory.passed(Some(201)), 20);
        // Pinned while 20 may not have passed yet.
        assert_eq!(memory.passed(Some(200)), 10);
        assert_eq!(memory.passed(Some(100)), 0);
        // A source without virtual time in between takes nothing back.
        memory.remember(300, 0);
        assert_eq!(memory.passed(None), 20);
        (0..20).for_each(|n| memory.remember(400 + n, 30 + n));
        assert_eq!(memory.passed(Some(101)), 0, "older than the memory");
    }
}
