//! A change of one link, and what its writer's death leaves of it.
//!
//! This file owns the intention: which link is about to change, to what, which blocks become published and which one retired
//! by that, and which count changes with it. The blocks are a chain, by the word of their headers that lists use, and the
//! note has its first. There is one, since there is one turn. It is noted before the link is stored, so whoever takes over the turn
//! asks the link whether the change was made, and completes or forgets it.

use crate::blocks::{Blocks, Corrupt, State};
use crate::layout::{ARMED, COUNT, COUNT_AT, FRESH, LATEST, LINK, NEW, RETIRE};
use crate::slots;
use crate::steps::{Mutant, broken};
use crate::sync;
use std::sync::atomic::{AtomicU64, Ordering};

/// A change of one link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    /// Where the link is.
    pub(crate) link: u64,
    /// What it becomes; not what it is.
    pub(crate) new: u64,
    /// The blocks that become published.
    pub(crate) fresh: &'a [u64],
    /// The block that becomes retired, or 0.
    pub(crate) retire: u64,
    /// Where a count stands that changes with the link, or 0.
    pub(crate) count_at: u64,
    /// What the count becomes.
    pub(crate) count: u64,
}

/// Makes the change. The caller has the turn, and has checked the change: the link is a word of the region and differs from
/// `new`, all of `fresh` is held, `retire` is published, and the count is a word of the region.
pub(crate) fn make(blocks: Blocks<'_>, change: Change<'_>) -> Result<(), Corrupt> {
    if !broken(Mutant::LateIntention) {
        note(blocks, change);
    }
    blocks.put(change.link, change.new);
    if broken(Mutant::LateIntention) {
        note(blocks, change);
    }
    if broken(Mutant::LateChain) {
        blocks.chain(change.fresh);
    }
    let fresh = change.fresh.first().copied().unwrap_or(0);
    complete(blocks, fresh, change.retire, (change.count_at, change.count))?;
    blocks.put(ARMED, 0);
    Ok(())
}

fn note(blocks: Blocks<'_>, change: Change<'_>) {
    let first = if broken(Mutant::LateChain) {
        change.fresh.first().copied().unwrap_or(0)
    } else {
        blocks.chain(change.fresh)
    };
    blocks.put(LINK, change.link);
    blocks.put(NEW, change.new);
    blocks.put(FRESH, first);
    blocks.put(RETIRE, change.retire);
    blocks.put(COUNT_AT, change.count_at);
    blocks.put(COUNT, change.count);
    blocks.put(ARMED, 1);
}

/// What follows from the link's store. Half of it may have been done before.
fn complete(
    blocks: Blocks<'_>,
    fresh: u64,
    retire: u64,
    (count_at, count): (u64, u64),
) -> Result<(), Corrupt> {
    // All of these before the next: a chain's words are as they were noted until one of its blocks is retired.
    blocks.publish(fresh)?;
    if retire != 0 {
        let (class, state) = blocks.head(retire)?;
        if state == State::Live {
            blocks.retire(retire, class, stamp(blocks)?)?;
        }
    }
    if count_at != 0 {
        blocks.put(count_at, count);
    }
    Ok(())
}

/// Takes a stamp for what was unlinked before. The caller has the turn.
fn stamp(blocks: Blocks<'_>) -> Result<u64, Corrupt> {
    slots::stamp(blocks.0.word(LATEST), sync::now_ns).ok_or(AHEAD)
}

/// Returns the latest stamp, if it can be one.
pub(crate) fn latest(blocks: Blocks<'_>) -> Result<u64, Corrupt> {
    /// What the clock said some time ago. What could be then can be now.
    static CLOCK: AtomicU64 = AtomicU64::new(0);
    let latest = blocks.read(LATEST);
    if slots::can_be(latest, CLOCK.load(Ordering::Relaxed)) {
        return Ok(latest);
    }
    let now = sync::now_ns();
    CLOCK.store(now, Ordering::Relaxed);
    if slots::can_be(latest, now) { Ok(latest) } else { Err(AHEAD) }
}

const AHEAD: Corrupt = Corrupt { at: LATEST, what: "a stamp of this time" };

/// Completes or forgets the change that a dead writer may have left, then makes the lists anew. The caller has the turn. It
/// may be killed anywhere and run again.
pub(crate) fn recover(blocks: Blocks<'_>) -> Result<(), Corrupt> {
    if blocks.read(ARMED) != 0 {
        let [link, new, fresh, retire, count_at, count] =
            [LINK, NEW, FRESH, RETIRE, COUNT_AT, COUNT].map(|at| blocks.read(at));
        for (at, word) in [(LINK, link), (COUNT_AT, count_at)] {
            if !blocks.0.holds(word, 8) {
                return Err(Corrupt { at, what: "a word of the region" });
            }
        }
        // The link is the witness: nobody has stored to it since, as that takes a turn.
        if blocks.read(link) == new && !broken(Mutant::Unasked) {
            complete(blocks, fresh, retire, (count_at, count))?;
        }
        blocks.put(ARMED, 0);
    }
    // Later than all stamps that were ever taken.
    blocks.rebuild(stamp(blocks)?, true)
}
