//! The scan's side of the protocol: it takes evidence first, then loads every slot, then publishes what is safe.

use super::reader::Reader;
use super::words::Words;
use super::{IDLE, above, stamp_of};
use crate::sync::{Mutant, Ordering, broken, raise_to};

/// What one scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The barrier has passed for every time before this, nanoseconds.
    pub(crate) watermark: u64,
    /// The oldest pinned stamp, if anyone was pinned.
    pub(crate) oldest: Option<u64>,
    /// What was stamped before this is reclaimable, nanoseconds.
    pub(crate) safe: u64,
    /// The watermark was later than any that was known.
    pub(crate) advanced: bool,
}

/// What one walk over the readers found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The watermark that the readers themselves prove, nanoseconds.
    pub(crate) collected: u64,
    /// The oldest pinned stamp, if anyone was pinned.
    pub(crate) oldest: Option<u64>,
}

/// What a scan learns before it publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    /// The barrier has passed for every time before this, nanoseconds.
    pub(crate) watermark: u64,
    /// The walk over the slots, if there has been one since all evidence was there that is not the walk's own.
    pub(crate) walk: Option<Seen>,
}

/// Evidence without a walk that came after it.
impl From<u64> for Learned {
    fn from(watermark: u64) -> Learned {
        Learned { watermark, walk: None }
    }
}

/// Walks over the readers once: collects the watermark that they themselves prove, as far as the stamp `own`, the
/// caller's last, and finds the oldest pin.
///
/// A reader has seen the stamp that its slot shows, pinned or idle, and the last one that it took. All stamps
/// that are not later happen before what it does from there on: it no longer finds anything that was unlinked before
/// them (step 2). And what it held before is over, for a thread that finds the stamp in the slot or in `stamped`
/// here (step 1).
///
/// `readers` are those that a thread owns (`engine/pool.rs`) and that don't sleep ([`Sleep`](super::dormant::Sleep)).
/// One that no thread owns counts as passed: if the thread that takes it takes its first stamp before the caller took
/// `own`, the caller finds it among `readers`; if after, that thread sees all that was unlinked before `own`. So
/// nothing of `readers` may be loaded before they are called for. A reader whose memory the taker has yet to make
/// known is one whose first stamp comes after.
pub(crate) fn walk<'r>(own: u64, readers: impl Iterator<Item = &'r Reader>) -> Seen {
    let cap = if broken(Mutant::UncappedEvidence) { u64::MAX } else { own };
    let readers = readers.filter(|_| !broken(Mutant::NobodyInUse));
    // No stamp is the greatest number, which stands for nobody.
    let (seen, oldest) = readers.fold((cap, u64::MAX), |(seen, oldest), reader| {
        let (stamped, word) = reader.shown();
        let shown = stamp_of(word);
        let passed = broken(Mutant::IdleNeedsNothing) && word & IDLE != 0;
        let pinned = if word & IDLE == 0 { shown } else { u64::MAX };
        (seen.min(if passed { u64::MAX } else { stamped.max(shown) }), oldest.min(pinned))
    });
    Seen { collected: above(seen), oldest: (oldest != u64::MAX).then_some(oldest) }
}

/// Runs one scan: learns a watermark, then loads every slot, unless the walk that collected the watermark has done so,
/// then publishes what is safe.
///
/// Any number of threads may scan at once: all words only rise. `readers` as for [`walk`]: a
/// reader that registers late is then either found or past its barrier; and a scan that sees that a reader was given
/// back sees its last unpin.
pub(crate) fn scan<'r, L, R>(
    words: &Words,
    learn: impl FnOnce() -> L,
    readers: impl Fn() -> R,
) -> Scan
where
    L: Into<Learned>,
    R: Iterator<Item = &'r Reader>,
{
    let oldest_pin = |readers: R| {
        // Acquire: pairs with `unpin` (and with `pin` for the sections before it).
        let order = if broken(Mutant::RelaxedScan) { Ordering::Relaxed } else { Ordering::Acquire };
        let words = readers.map(|reader| reader.slot.load(order));
        words.filter(|word| word & IDLE == 0).map(stamp_of).min()
    };

    let early = broken(Mutant::ScanBeforeWatermark).then(|| oldest_pin(readers()));
    // What an earlier scan learned counts as well: so a scan without new evidence is sound, and helps where a pin held
    // the last one back.
    let known = words.watermark();
    let Learned { watermark: news, walk } = learn().into();
    let watermark = news.max(known);
    let walked = || walk.map_or_else(|| oldest_pin(readers()), |seen| seen.oldest);
    let oldest = early.unwrap_or_else(walked);
    let oldest = if broken(Mutant::NoScan) { None } else { oldest };
    let safe = oldest.map_or(watermark, |oldest| above(oldest).min(watermark));

    // Release inside: hands the unpins that this scan acquired on to the threads that free. A maximum, since a pin
    // may let less through now than another scan did before.
    raise_to(&words.found.safe_ns, safe);
    // Release inside: a thread that loads this watermark runs after the barrier that it stands for.
    raise_to(&words.found.watermark, news);
    Scan { watermark, oldest, safe, advanced: news > known }
}
