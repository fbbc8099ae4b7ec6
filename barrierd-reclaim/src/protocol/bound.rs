//! What whole groups of readers have left behind, kept in a word for each: a glance at these words in place of a walk over
//! all readers.
//!
//! The proof is in docs/proofs/reclaim.md, "Why a freed item has no reader", at "A glance".

use super::reader::Reader;
use super::words::Words;
use super::{IDLE, above, stamp_of};
use crate::sync::{AtomicU64, Mutant, Ordering, broken, raise_to};

/// A stamp that all readers of a group have left behind: none of them holds, or will find, anything that was unlinked
/// before a fence whose stamp is this or less. It only rises, and stays true, whoever comes, goes, wakes or falls asleep.
#[derive(Debug)]
pub(crate) struct Bound(AtomicU64);

impl Bound {
    pub(crate) fn new() -> Bound {
        Bound(AtomicU64::new(0))
    }

    /// Acquire: pairs with [`refresh`](Bound::refresh), whose caller acquired the ends of the readers' sections.
    fn shown(&self) -> u64 {
        let order =
            if broken(Mutant::RelaxedBound) { Ordering::Relaxed } else { Ordering::Acquire };
        self.0.load(order)
    }

    /// Raises the bound above `known`, which it was found to be, as far as the `readers` of the group show, and `own`,
    /// a stamp of the calling thread. Returns whether it rose. Stops at the first reader that shows nothing later.
    ///
    /// `readers` as for [`walk`](super::walk): one that is not among them, since it has no owner or sleeps, finds nothing from now
    /// on that was unlinked before `own`.
    pub(crate) fn refresh<'r>(
        &self,
        known: u64,
        own: u64,
        readers: impl Iterator<Item = &'r Reader>,
    ) -> bool {
        let mut least = if broken(Mutant::UncappedEvidence) { u64::MAX - 1 } else { own };
        for reader in readers {
            least = least.min(left_behind(reader));
            if least <= known {
                return false;
            }
        }
        if broken(Mutant::RelaxedRaise) {
            self.0.fetch_max(least, Ordering::Relaxed);
        } else {
            // Release inside: hands on what was acquired of the readers.
            raise_to(&self.0, least);
        }
        true
    }
}

/// Returns the stamp that a reader has left behind (see [`Bound`]): what its section shows, if one is open; else the
/// later of that and the last stamp that it took.
fn left_behind(reader: &Reader) -> u64 {
    // The own stamp counts only if no section is open that was so when it was taken.
    let (stamped, word) = reader.shown();
    let shown = stamp_of(word);
    if word & IDLE == 0 {
        shown
    } else if broken(Mutant::IdleNeedsNothing) {
        u64::MAX - 1
    } else {
        stamped.max(shown)
    }
}

/// So many groups' bounds one glance raises.
const REFRESHED: usize = 2;

/// Learns how far items are reclaimable by what the readers show alone, without a walk over all of them: by the least of
/// their groups' bounds, after the least ones have been raised. `own`: a stamp of the calling thread.
///
/// `groups` returns all of them, with what `readers` needs to return those of one. Nothing of a group is loaded before it
/// is called for: a group that is missing has no reader whose first stamp was taken before `own`.
pub(crate) fn glance<'r, I, G, R>(
    words: &Words,
    own: u64,
    groups: impl Fn() -> I,
    readers: impl Fn(G) -> R,
) where
    I: Iterator<Item = (&'r Bound, G)>,
    R: Iterator<Item = &'r Reader>,
{
    let mut left = REFRESHED;
    loop {
        let (mut least, mut last) = (own, None);
        for (bound, group) in groups() {
            let shown = bound.shown();
            if shown < least {
                (least, last) = (shown, Some((bound, group)));
            }
        }
        let rises = |(bound, group): (&Bound, G)| bound.refresh(least, own, readers(group));
        if left > 0 && last.is_some_and(rises) {
            left -= 1;
            continue;
        }
        // A watermark as well: each reader has seen that stamp, and shown it, or took it. In this order, and Release
        // inside, as in `scan`.
        raise_to(&words.found.safe_ns, above(least));
        raise_to(&words.found.watermark, above(least));
        return;
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::protocol::GRAIN;
    use std::cell::RefCell;

    /// Nobody buys.
    static NONE: AtomicU64 = AtomicU64::new(0);

    /// A bound stays; the least ones are raised, two a glance; none goes above the caller's own stamp, and an open section
    /// holds its group's down, though its owner took a later stamp in it.
    #[test]
    fn a_glance_goes_by_the_least_bound() {
        let words = Words::new();
        let readers: [[Reader; 2]; 3] = core::array::from_fn(|_| [Reader::new(), Reader::new()]);
        let bounds: [Bound; 3] = core::array::from_fn(|_| Bound::new());
        let stamp = |reader: &Reader, time: u64| {
            reader.fence_and_stamp(&words, &NONE, || time * GRAIN);
        };
        // Which groups it walks, and what is safe then.
        let look = |own: u64| {
            let walked = RefCell::new(Vec::new());
            let groups = || bounds.iter().enumerate().map(|(group, bound)| (bound, group));
            let of_group = |group: usize| {
                walked.borrow_mut().push(group);
                readers[group].iter()
            };
            glance(&words, own * GRAIN, groups, of_group);
            assert!(words.watermark() >= words.safe().ns);
            (walked.into_inner(), words.safe().ns / GRAIN)
        };
        for (group, pair) in readers.iter().enumerate() {
            pair.iter().for_each(|reader| stamp(reader, 10 + 10 * group as u64));
        }
        // The first two groups rise; the third still says nothing, until the next glance.
        assert_eq!(look(100), (vec![0, 1], 1));
        // The stamps of the same time come one after the other: the first of the pair has the lesser.
        assert_eq!(look(100), (vec![2, 0], 11));
        assert_eq!(look(100), (vec![0], 11), "it shows nothing new");
        // The first group's goes on: to what the section shows.
        let [reader, beside] = &readers[0];
        stamp(beside, 50);
        reader.pin(&words);
        stamp(reader, 60);
        assert_eq!(look(100), (vec![0, 1], 21));
        stamp(&readers[1][0], 70);
        stamp(&readers[1][1], 80);
        assert_eq!(look(100), (vec![1, 2], 31));
        readers[2].iter().for_each(|reader| stamp(reader, 90));
        assert_eq!(look(100), (vec![2, 0], 51), "the section shows 50");
        reader.unpin();
        // Its own stamp counts again; but no bound is above the caller's, and one that is does not matter.
        assert_eq!(look(40), (vec![], 51));
        assert_eq!(look(55), (vec![0], 51), "the one beside it shows 50");
        stamp(beside, 95);
        assert_eq!(look(55), (vec![0], 56));
        assert_eq!(look(100).1, 61);
    }
}
