//! The writers' lock, which survives its holder's death.
//!
//! This file owns one word: who may write now. It knows nothing of what is written, nor how a death is learned.
//!
//! The word is a count that rises with each change of hands, a bit that says that what the turn protects may be half done
//! (*dirty*), and the holder's slot plus one; no holder, no turn. A dead holder's turn is taken over by an exchange of the
//! very word that was seen with it, so no turn that somebody has begun since is taken.

use std::time::{Duration, Instant};

use crate::steps::{Mutant, broken, step, unless};
use crate::sync::{AtomicU64, Ordering, now, size, sleep, spin};

const HOLDER: u64 = 0xffff;
const DIRTY: u64 = 1 << 16;
const COUNT: u64 = 1 << 17;

/// Rounds that are spun, before the processor is given up.
const SPINS: usize = size(100, 0);
const SLEEP: Duration = Duration::from_micros(50);

/// Returns the writer that has the turn.
pub(crate) fn holder(word: u64) -> Option<usize> {
    usize::try_from((word & HOLDER).checked_sub(1)?).ok()
}

/// A turn that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What it protects may be half done: recover before anything else.
    pub(crate) dirty: bool,
}

/// Who was in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The writer that had the turn when it was last seen in somebody's hand.
    pub(crate) by: usize,
    /// How often it was taken from the first look to the last: 0 says that it is that writer's all the time.
    pub(crate) turns: u64,
}

/// Takes the turn for writer `me`, which has none; `Err` says who still had it at `deadline`, which is asked for only
/// where there is something to wait for.
///
/// `is_dead` says whether a writer's lock is free. A turn that stands in the name of `me` was its predecessor's in the slot.
pub(crate) fn take(
    turn: &AtomicU64,
    me: usize,
    deadline: impl FnOnce() -> Instant,
    is_dead: impl Fn(usize) -> bool,
) -> Result<Taken, Kept> {
    let mut rounds = 0_usize;
    let (mut deadline, mut until) = (Some(deadline), None);
    // Who had it when it was last seen in somebody's hand.
    let mut last = me;
    let mut first = None;
    loop {
        let word = turn.load(Ordering::Relaxed);
        let first = *first.get_or_insert(word / COUNT);
        let was = holder(word);
        last = was.unwrap_or(last);
        let waits = rounds > SPINS;
        let takeover = was.is_some_and(|holder| holder == me || waits && is_dead(holder));
        if was.is_none() || takeover {
            let dirty = takeover || word & DIRTY != 0;
            let count = (word & !(COUNT - 1)).wrapping_add(COUNT);
            let new = count | if dirty { DIRTY } else { 0 } | (me as u64 + 1);
            // Acquire: pairs with the Release in `leave`. After a takeover the holder's stores are visible by its lock (`lock.rs`),
            // which was found free before.
            let word = if takeover && broken(Mutant::LateTakeover) {
                // An exchange, which loom tries in every order.
                turn.fetch_or(0, Ordering::Relaxed)
            } else {
                word
            };
            let order = unless(Mutant::RelaxedTake, Ordering::Acquire);
            if turn.compare_exchange(word, new, order, Ordering::Relaxed).is_ok() {
                return Ok(Taken { dirty });
            }
            // Somebody was faster: that is a round like any other, or whoever stores to the word all the time would keep this
            // writer here for ever.
        }
        rounds = rounds.saturating_add(1);
        if !waits {
            spin();
            continue;
        }
        if let Some(deadline) = deadline.take() {
            until = Some(deadline());
        }
        if until.is_none_or(|until| now() >= until) {
            // Relaxed: for the report. Above it was asked for before the question whether the holder lives.
            let word = turn.load(Ordering::Relaxed);
            // The count comes round at the end of its bits.
            let turns = (word / COUNT).wrapping_sub(first) & (u64::MAX / COUNT);
            return Err(Kept { by: holder(word).unwrap_or(last), turns });
        }
        sleep(SLEEP);
    }
}

/// Ends the turn of writer `me`; `dirty` if what it protects is not in order.
pub(crate) fn leave(turn: &AtomicU64, dirty: bool) {
    step();
    // Relaxed: nobody else changes the word while its holder lives.
    let word = turn.load(Ordering::Relaxed) & !(HOLDER | DIRTY);
    // Release: pairs with the Acquire in `take`.
    let word = word | if dirty { DIRTY } else { 0 };
    turn.store(word, unless(Mutant::RelaxedEnd, Ordering::Release));
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_taken_from_the_dead_and_from_ones_own_predecessor() {
        let (word, now) = (AtomicU64::new(0), Instant::now());
        assert_eq!(take(&word, 3, || now, |_| false), Ok(Taken { dirty: false }));
        assert_eq!(take(&word, 4, || now, |_| false), Err(Kept { by: 3, turns: 0 }));
        assert_eq!(take(&word, 4, || now, |dead| dead == 3), Ok(Taken { dirty: true }));
        assert_eq!(
            take(&word, 4, || now, |_| false),
            Ok(Taken { dirty: true }),
            "its predecessor's"
        );
        leave(&word, true);
        assert_eq!(take(&word, 5, || now, |_| false), Ok(Taken { dirty: true }), "left half done");
        leave(&word, false);
        assert_eq!(take(&word, 5, || now, |_| false), Ok(Taken { dirty: false }));
        assert_eq!(holder(word.load(Ordering::Relaxed)), Some(5));
    }

    #[test]
    fn a_turn_that_was_begun_since_is_not_taken() {
        let (word, now) = (AtomicU64::new(0), Instant::now());
        take(&word, 1, || now, |_| false).expect("free");
        // The answer "dead" was for the turn before: the holder has left it and taken another since.
        let begins_anew = std::cell::Cell::new(true);
        let taken = take(
            &word,
            2,
            || now,
            |_| {
                if begins_anew.replace(false) {
                    leave(&word, false);
                    take(&word, 1, || now, |_| false).expect("free");
                    return true;
                }
                false
            },
        );
        assert_eq!(taken, Err(Kept { by: 1, turns: 1 }));
    }

    #[test]
    fn a_word_that_changes_whenever_it_was_read_keeps_nobody_beyond_the_deadline() {
        let (word, now) = (AtomicU64::new(1 + 1), Instant::now());
        // Between the load and the exchange, each time.
        let taken = take(
            &word,
            2,
            || now,
            |holder| {
                assert_eq!(holder, 1);
                word.fetch_add(COUNT, Ordering::Relaxed);
                true
            },
        );
        assert!(matches!(taken, Err(Kept { by: 1, turns: 1.. })), "{taken:?}");
    }
}
