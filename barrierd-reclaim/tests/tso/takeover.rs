//! A queue that is taken over (`bag/mod.rs`, `engine/takeover.rs`): the owner runs no fence.

use crate::machine::*;
use crate::programs::*;

const BUSY: Addr = SPARE;
const TAKEN: Addr = SPARE + 1;
/// The one item that the open bag holds.
const ITEM: Addr = SPARE + 2;
/// The queue itself, as a node: "freed" once the taker has it, so that the owner may not touch it.
const QUEUE: u8 = 7;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    NoBarrier,
    StampBeforeCheck,
    StampBeforeMark,
    LimitBeforeBusy,
    /// None; in its place, the owner has shown a stamp that was taken after the mark.
    Shown,
    /// The same, and an owner that is idle counts as passed.
    IdleNeedsNothing,
}

/// `Bags::push`, after the unlink.
fn push(mutant: Mutant) -> Program {
    const LIMIT: Reg = 0;
    const OWN: Reg = 1;
    let busy = program![Op::Store(BUSY, c(1))];
    let limit = program![Op::Load(LIMIT, TAKEN)];
    let [first, then] =
        if mutant == Mutant::LimitBeforeBusy { [limit, busy] } else { [busy, limit] };
    let inside = program![
        Op::Set(OWN, c(QUEUE)),
        // Not done where the queue is taken: the owner goes on with another, and the model ends.
        when(When::Is(LIMIT, 0), Op::Use(OWN)),
        when(When::Is(LIMIT, 0), Op::Store(ITEM, c(1))),
        when(When::Is(LIMIT, 0), Op::Use(OWN)),
        Op::Store(BUSY, c(0)),
    ];
    [program![Op::Store(LINK, c(0))], first, then, inside].concat()
}

fn world(mutant: Mutant, sections: usize, scans: usize) -> World {
    const B: Reg = 4;
    const I: Reg = 5;
    let stamp = fence_and_stamp(T);
    let mark = program![Op::Store(TAKEN, c(1)), Op::Fence];
    let barrier = program![Op::Interrupt(0)];
    // Not quiet: a real taker checks again later; here it gives up.
    let quiet = program![
        Op::Load(B, BUSY),
        when(When::Not(B, 0), Op::End),
        Op::Free(QUEUE),
        Op::Load(I, ITEM),
        when(When::Is(I, 0), Op::End),
    ];
    let free = program![Op::Await(M, SAFE, T), Op::Free(NODE)];
    let taker = match mutant {
        Mutant::NoBarrier => vec![mark, quiet, stamp, free],
        Mutant::StampBeforeCheck => vec![mark, stamp, barrier, quiet, free],
        Mutant::StampBeforeMark => vec![stamp, mark, barrier, quiet, free],
        Mutant::Shown | Mutant::IdleNeedsNothing => {
            const AT: Reg = 6;
            let mut shown = program![Op::Load(X, SLOT[0])];
            if mutant == Mutant::Shown {
                shown.extend(program![when(When::Below(X, AT), Op::End)]);
            }
            vec![mark, fence_and_stamp(AT), shown, quiet, stamp, free]
        }
        _ => vec![mark, barrier, quiet, stamp, free],
    };
    // Another thread's scan, at any moment.
    let scan =
        [program![Op::Clock(W), Op::Interrupt(1), Op::Interrupt(0)], look(&SLOT[1..]), publish()]
            .concat();
    let owner = if matches!(mutant, Mutant::Shown | Mutant::IdleNeedsNothing) {
        // A section between two pushes: what it shows stays there.
        vec![push(mutant), program![Op::Load(2, LATEST), Op::Store(SLOT[0], r(2))], push(mutant)]
    } else {
        vec![push(mutant)]
    };
    let threads = vec![
        thread("owner", 0, owner),
        thread("reader", 1, vec![section(SLOT[1]); sections]),
        thread("taker", 2, taker),
        thread("scanner", 3, vec![scan; scans]),
    ];
    World::of(threads, &BEGIN)
}

pub(crate) fn large() -> World {
    world(Mutant::None, 3, 3)
}

#[test]
fn a_taken_queue_has_one_owner() {
    holds("takeover", &world(Mutant::None, 1, 1));
}

#[test]
fn what_an_owner_shows_is_a_barrier_for_its_queue() {
    holds("takeover by what the owner shows", &world(Mutant::Shown, 1, 1));
    is_rejected("idle needs nothing", &world(Mutant::IdleNeedsNothing, 1, 1));
}

#[test]
fn mutants() {
    is_rejected("takeover without a barrier", &world(Mutant::NoBarrier, 1, 1));
    is_rejected("takeover stamped before the look", &world(Mutant::StampBeforeCheck, 1, 1));
    is_rejected("takeover stamped before the mark", &world(Mutant::StampBeforeMark, 1, 1));
    is_rejected("limit before busy", &world(Mutant::LimitBeforeBusy, 1, 1));
}
