//! A change of one link, and what its writer's death leaves of it.
//!
//! This file owns the intention: which link is about to change, to what, which block becomes published and which one retired
//! by that, and which count changes with it. There is one, since there is one turn. It is noted before the link is stored, so whoever takes over the turn
//! asks the link whether the change was made, and completes or forgets it.

use crate::blocks::{Blocks, Corrupt, State};
use crate::layout::{ARMED, COUNT, COUNT_AT, FRESH, LATEST, LINK, NEW, RETIRE};
use crate::slots;
use crate::steps::{Mutant, broken};
use barrierd_client::clock;

/// A change of one link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Where the link is.
    pub(crate) link: u64,
    /// What it becomes; not what it is.
    pub(crate) new: u64,
    /// The block that becomes published, or 0.
    pub(crate) fresh: u64,
    /// The block that becomes retired, or 0.
    pub(crate) retire: u64,
    /// Where a count stands that changes with the link, or 0.
    pub(crate) count_at: u64,
    /// What the count becomes.
    pub(crate) count: u64,
}

/// Makes the change. The caller has the turn, and has checked the change: the link is a word of the region and differs from
/// `new`, `fresh` is held, `retire` is published, and the count is a word of the region.
pub(crate) fn make(blocks: Blocks<'_>, change: Change) -> Result<(), Corrupt> {
    if !broken(Mutant::LateIntention) {
        note(blocks, change);
    }
    blocks.put(change.link, change.new);
    if broken(Mutant::LateIntention) {
        note(blocks, change);
    }
    complete(blocks, change)?;
    blocks.put(ARMED, 0);
    Ok(())
}

fn note(blocks: Blocks<'_>, change: Change) {
    blocks.put(LINK, change.link);
    blocks.put(NEW, change.new);
    blocks.put(FRESH, change.fresh);
    blocks.put(RETIRE, change.retire);
    blocks.put(COUNT_AT, change.count_at);
    blocks.put(COUNT, change.count);
    blocks.put(ARMED, 1);
}

/// What follows from the link's store. Half of it may have been done before.
fn complete(blocks: Blocks<'_>, change: Change) -> Result<(), Corrupt> {
    if change.fresh != 0 {
        let (class, state) = blocks.head(change.fresh)?;
        if state == State::Held {
            blocks.set(change.fresh, class, State::Live);
        }
    }
    if change.retire != 0 {
        let (class, state) = blocks.head(change.retire)?;
        if state == State::Live {
            blocks.retire(change.retire, class, stamp(blocks));
        }
    }
    if change.count_at != 0 {
        blocks.put(change.count_at, change.count);
    }
    Ok(())
}

/// Takes a stamp for what was unlinked before. The caller has the turn.
pub(crate) fn stamp(blocks: Blocks<'_>) -> u64 {
    slots::stamp(blocks.0.word(LATEST), clock::now_ns)
}

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
            complete(blocks, Change { link, new, fresh, retire, count_at, count })?;
        }
        blocks.put(ARMED, 0);
    }
    // For all that is retired: the dead writer may have taken none, or an earlier one.
    blocks.rebuild(stamp(blocks))
}
