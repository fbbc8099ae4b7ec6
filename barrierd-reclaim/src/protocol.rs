//! The reader protocol: pin, unpin, stamp and scan, over a domain's words and its readers' slots.
//!
//! Pure atomics: this file knows nothing of threads, bags, clocks or where barriers come from, so
//! that loom runs these very functions (`models.rs`). The proof that governs it is in
//! ARCHITECTURE.md, "Why a freed item has no reader"; the comments below name its steps:
//!
//! - item p was unlinked, then a full fence, then the clock read `t` ([`stamp`]);
//! - a watermark `w > t` says that every CPU passed a full barrier after `t` and before `w` was
//!   published;
//! - a scan that learned `w` first and then looked at every slot found only pins with era `> t`.

use crate::sync::{AtomicU64, Ordering, Twin, broken, fence, light_barrier, step};
use crossbeam_utils::CachePadded;

/// A slot's value while its thread holds no pin; never an era.
const UNPINNED: u64 = 0;

/// What all threads of a domain share: written by one scan a barrier round, read by everyone.
#[derive(Debug)]
pub(crate) struct Words {
    /// The barrier watermark as last learned, nanoseconds; what a reader pins.
    era: CachePadded<AtomicU64>,
    /// Items retired before these are free to go.
    safe: CachePadded<SafeWords>,
}

#[derive(Debug)]
struct SafeWords {
    ns: AtomicU64,
    vtime: AtomicU64,
}

/// How far reclamation has come: what was stamped strictly before either may be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Safe {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
}

/// What a source knows: the barrier has passed for every moment before `ns`, and for every virtual
/// time before `vtime` (0 where there is none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
}

/// Where a reader says which era it reads in.
#[derive(Debug)]
pub(crate) struct Slot(AtomicU64);

impl Words {
    pub(crate) fn new() -> Words {
        let first_era = if broken(Twin::EraZero) { UNPINNED } else { 1 };
        Words {
            era: CachePadded::new(AtomicU64::new(first_era)),
            safe: CachePadded::new(SafeWords { ns: AtomicU64::new(0), vtime: AtomicU64::new(0) }),
        }
    }

    /// The current era.
    pub(crate) fn era(&self) -> u64 {
        // Acquire: pairs with the scan's Release store, so that a stamp taken after this load is
        // compared with an era that was published before it.
        self.era.load(Ordering::Acquire)
    }

    /// What may be freed now.
    #[inline]
    pub(crate) fn safe(&self) -> Safe {
        // Acquire: pairs with the Release in `scan`, which itself acquired every unpin; so all
        // accesses of ended sections happen before the caller's free.
        Safe {
            ns: self.safe.ns.load(Ordering::Acquire),
            vtime: self.safe.vtime.load(Ordering::Acquire),
        }
    }
}

impl Slot {
    pub(crate) fn new() -> Slot {
        Slot(AtomicU64::new(UNPINNED))
    }

    /// Opens a read-side section: one load and one store.
    ///
    /// The era is loaded Acquire: it pairs with the scan's Release store, so a reader whose era is
    /// above `t` runs after the barrier for `t` (step 2; the reader's own barrier point before that
    /// load would do as well). The store is Release, though nothing is
    /// handed over yet: since C++20 a Relaxed store would not continue the release sequence of the
    /// last `unpin`, and a scan that reads it could miss the end of that section (step 3).
    #[inline]
    pub(crate) fn pin(&self, words: &Words) {
        let era = words.era.load(Ordering::Acquire);
        step();
        let order = if broken(Twin::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
        self.0.store(era, order);
        // The section's loads stay behind the store in program order; the CPU may still swap them,
        // and the barrier point of step 1 is what catches that.
        light_barrier();
        step();
    }

    /// The same where no source of barriers exists: the reader pays for a fence, which stands for
    /// the barrier point of step 1.
    #[inline]
    pub(crate) fn pin_fenced(&self, words: &Words) {
        self.pin(words);
        // Pairs with the fence that the scanner's evidence contains (`Source::Fence`): whichever
        // fence comes first, either the scan sees the slot or the reader sees the unlink.
        if !broken(Twin::UnfencedReader) {
            fence(Ordering::SeqCst);
        }
    }

    /// Closes the section: one store.
    #[inline]
    pub(crate) fn unpin(&self) {
        step();
        // Release: pairs with the Acquire load in `scan` (step 3).
        let order = if broken(Twin::RelaxedUnpin) { Ordering::Relaxed } else { Ordering::Release };
        self.0.store(UNPINNED, order);
        step();
    }

    /// The pinned era, if any. `Relaxed`: for reports, proves nothing.
    pub(crate) fn pinned(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&era| era != UNPINNED)
    }
}

/// The time by which everything that the caller unlinked before is visible to a reader whose CPU
/// has passed its barrier since.
///
/// The fence puts the unlinks before the clock on every CPU; without it a store could still sit in
/// the store buffer when the clock is read, and become visible after a barrier that "passed" `t`.
#[inline]
pub(crate) fn stamp(clock: impl FnOnce() -> u64) -> u64 {
    if !broken(Twin::UnfencedStamp) {
        fence(Ordering::SeqCst);
    }
    clock()
}

/// What a scan remembers for the next one. Guarded by the domain's scan lock.
#[derive(Debug, Default)]
pub(crate) struct ScanMemory {
    /// A pin kept `safe` below the watermark, so another look may help without new evidence.
    held_back: bool,
    /// The last watermarks, newest last: they translate a pinned era into virtual time.
    recent: [Evidence; 8],
}

impl ScanMemory {
    fn remember(&mut self, news: Evidence) {
        // Each source's virtual time only rises, but a source without one says 0.
        let vtime = news.vtime.max(self.latest().vtime);
        self.recent.rotate_left(1);
        self.recent[self.recent.len() - 1] = Evidence { ns: news.ns, vtime };
    }

    fn latest(&self) -> Evidence {
        self.recent[self.recent.len() - 1]
    }

    /// The virtual time whose barrier had passed before any reader could pin `era`: such a reader
    /// loaded `era` from a scan that had learned this pair, or a later one, before it stored it.
    /// An era older than the memory gives 0, which frees nothing.
    fn vtime_at(&self, era: u64) -> u64 {
        self.recent.iter().rev().find(|pair| pair.ns <= era).map_or(0, |pair| pair.vtime)
    }
}

/// What one scan did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// No evidence, or none that could change anything: the slots were not looked at.
    Nothing,
    /// The slots were looked at again with old evidence.
    Again,
    /// A new watermark was taken over.
    Advanced,
}

/// One scan: learn the watermark, then look at every slot, then publish what is safe.
///
/// The caller holds the scan lock. `slots` must load the head of the slot list when it is called,
/// not before: a reader that registers late is then either on the list or behind its barrier.
pub(crate) fn scan<'s, S>(
    words: &Words,
    memory: &mut ScanMemory,
    evidence: impl FnOnce() -> Option<Evidence>,
    slots: impl Fn() -> S,
) -> Scanned
where
    S: Iterator<Item = &'s Slot>,
{
    let oldest_pin = |slots: S| {
        // Acquire: pairs with `unpin` (and with `pin` for the sections before it).
        let order = if broken(Twin::RelaxedScan) { Ordering::Relaxed } else { Ordering::Acquire };
        slots.map(|slot| slot.0.load(order)).filter(|&era| era != UNPINNED).min()
    };

    // Only scans write the era, under the caller's lock: Relaxed reads our own last store. It is a
    // watermark too, learned by an earlier scan; so a look without news is sound, and helps where
    // a pin held the last one back.
    let era = words.era.load(Ordering::Relaxed);
    let early = broken(Twin::ScanBeforeWatermark).then(|| oldest_pin(slots()));
    let news = evidence().filter(|news| news.ns > era);
    if news.is_none() && !memory.held_back {
        return Scanned::Nothing;
    }
    if let Some(news) = news {
        memory.remember(news);
    }
    let watermark = Evidence { ns: era.max(memory.latest().ns), ..memory.latest() };
    let oldest = early.unwrap_or_else(|| oldest_pin(slots()));
    let oldest = if broken(Twin::NoScan) { None } else { oldest };

    memory.held_back = oldest.is_some_and(|oldest| oldest < watermark.ns);
    let safe = match oldest {
        Some(oldest) if oldest < watermark.ns => {
            Safe { ns: oldest, vtime: memory.vtime_at(oldest) }
        }
        _ => Safe { ns: watermark.ns, vtime: watermark.vtime },
    };
    // Release: hands the unpins that this scan acquired on to whoever frees. `fetch_max`, since a
    // pin may let less through now than the scan before did.
    words.safe.ns.fetch_max(safe.ns, Ordering::Release);
    words.safe.vtime.fetch_max(safe.vtime, Ordering::Release);
    match news {
        Some(news) => {
            // Release: a reader that loads this era runs after the barrier that it stands for.
            words.era.store(news.ns, Ordering::Release);
            Scanned::Advanced
        }
        None => Scanned::Again,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn look(words: &Words, memory: &mut ScanMemory, news: (u64, u64), slot: &Slot) -> Scanned {
        let news = Evidence { ns: news.0, vtime: news.1 };
        scan(words, memory, || Some(news), || core::iter::once(slot))
    }

    /// A pinned reader holds back both times: to its era, and to the virtual time that had passed
    /// when that era was learned, not to the newest.
    #[test]
    fn a_pin_holds_back_virtual_time_too() {
        let (words, mut memory, slot) = (Words::new(), ScanMemory::default(), Slot::new());
        assert_eq!(look(&words, &mut memory, (100, 10), &slot), Scanned::Advanced);
        assert_eq!(words.safe(), Safe { ns: 100, vtime: 10 });
        slot.pin(&words);
        assert_eq!(look(&words, &mut memory, (200, 20), &slot), Scanned::Advanced);
        assert_eq!(look(&words, &mut memory, (300, 30), &slot), Scanned::Advanced);
        assert_eq!(words.safe(), Safe { ns: 100, vtime: 10 });
        // Without news: the pin is gone, and that is enough.
        slot.unpin();
        assert_eq!(look(&words, &mut memory, (300, 30), &slot), Scanned::Again);
        assert_eq!(words.safe(), Safe { ns: 300, vtime: 30 });
        assert_eq!(look(&words, &mut memory, (300, 30), &slot), Scanned::Nothing);
        assert_eq!(words.era(), 300);
    }

    /// An era from before what the memory reaches back to frees nothing by virtual time.
    #[test]
    fn an_old_era_has_no_virtual_time() {
        let (words, mut memory, slot) = (Words::new(), ScanMemory::default(), Slot::new());
        look(&words, &mut memory, (100, 0), &slot);
        slot.pin(&words);
        for round in 2..40 {
            look(&words, &mut memory, (round * 100, round * 10), &slot);
        }
        assert_eq!(words.safe(), Safe { ns: 100, vtime: 0 });
    }

    /// A source without virtual time in between takes nothing back.
    #[test]
    fn sources_mix() {
        let (words, mut memory, slot) = (Words::new(), ScanMemory::default(), Slot::new());
        look(&words, &mut memory, (100, 10), &slot);
        look(&words, &mut memory, (200, 0), &slot);
        assert_eq!(words.safe(), Safe { ns: 200, vtime: 10 });
        // Older evidence than the era is no news.
        assert_eq!(look(&words, &mut memory, (150, 15), &slot), Scanned::Nothing);
        assert_eq!(words.era(), 200);
    }
}
