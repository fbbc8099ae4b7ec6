//! Readers that sleep (`protocol/dormant.rs`): an owner that reads, a marker that buys a barrier, and a writer that
//! passes over a sleeper and frees, with no other evidence. And a signal handler of the owner, which comes without a
//! barrier.
//!
//! A locked operation is a fence here; so loom must judge that the owner clears its bits before its fence.

use crate::machine::*;
use crate::programs::*;

/// The reader's own word: 0 is awake.
const WORD: Addr = SPARE;
const MARKED: u8 = 1;
const WAKES: u8 = 2;
/// Its bits in the word of many: marked, or asleep.
const BITS: Addr = SPARE + 1;
const ASLEEP: u8 = 2;
/// There is a hazard; and what it holds.
const HOLDS: Addr = SPARE + 2;
const HAZARD: Addr = SPARE + 3;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    None,
    CheckBeforePin,
    AsleepBeforeBarrier,
    /// It falls asleep even if it woke after the marker's check.
    AsleepAnyway,
    /// The writer begins a round while another is under way.
    TwoRounds,
    /// A reader that wakes clears its bits by a store, after its fence.
    ClearsByStore,
    /// A reader that wakes notes that it is awake before it has cleared its bits.
    AwakeEarly,
    /// A handler that finds a section open does not check.
    HandlerBlind,
    HolderAsleep,
    CheckBeforeHold,
}

/// `Sleep::is_awake`, and `Engine::wake`.
fn look(mutant: Mutant, seen: Reg) -> Program {
    const OLD: Reg = 9;
    let woken = |op| when(When::Not(seen, 0), op);
    let mut program = program![Op::Load(seen, WORD)];
    let steps = match mutant {
        Mutant::ClearsByStore => {
            vec![Op::Store(WORD, c(WAKES)), Op::Fence, Op::Store(BITS, c(0)), Op::Store(WORD, c(0))]
        }
        Mutant::AwakeEarly => vec![Op::Store(WORD, c(0)), Op::Swap(OLD, BITS, 0), Op::Fence],
        _ => vec![
            Op::Store(WORD, c(WAKES)),
            Op::Swap(OLD, BITS, 0),
            Op::Fence,
            Op::Store(WORD, c(0)),
        ],
    };
    program.extend(steps.into_iter().map(woken));
    program
}

/// A section.
fn section(mutant: Mutant) -> Program {
    const E: Reg = 0;
    const P: Reg = 1;
    const SEEN: Reg = 2;
    let store = program![Op::Store(SLOT[0], r(E))];
    let look = look(mutant, SEEN);
    let [first, then] =
        if mutant == Mutant::CheckBeforePin { [look, store] } else { [store, look] };
    let rest =
        program![Op::Load(P, LINK), when(When::Not(P, 0), Op::Use(P)), Op::Store(SLOT[0], c(0)),];
    [program![Op::Load(E, LATEST)], first, then, rest].concat()
}

/// The same in a signal handler: it pins, or goes on with the section that it finds.
fn handler(mutant: Mutant) -> Program {
    const E: Reg = 3;
    const P: Reg = 4;
    const SEEN: Reg = 5;
    const OPEN: Reg = 6;
    let mut program = program![
        Op::Load(OPEN, SLOT[0]),
        when(When::Is(OPEN, 0), Op::Load(E, LATEST)),
        when(When::Is(OPEN, 0), Op::Store(SLOT[0], r(E))),
    ];
    if mutant != Mutant::HandlerBlind {
        program.extend(look(mutant, SEEN));
    }
    program.extend(program![
        Op::Load(P, LINK),
        when(When::Not(P, 0), Op::Use(P)),
        when(When::Is(OPEN, 0), Op::Store(SLOT[0], c(0))),
    ]);
    program
}

/// `Holds::hazard`, `HazardSlot::protect`.
fn hazard(mutant: Mutant) -> Program {
    const P: Reg = 0;
    const Q: Reg = 1;
    let store = program![Op::Store(HOLDS, c(1))];
    let look = look(mutant, 2);
    let [first, then] =
        if mutant == Mutant::CheckBeforeHold { [look, store] } else { [store, look] };
    let protect = program![
        Op::Load(P, LINK),
        Op::Store(HAZARD, r(P)),
        Op::Load(Q, LINK),
        when(When::Other(P, Q), Op::Set(P, c(0))),
        when(When::Not(P, 0), Op::Use(P)),
        Op::Store(HAZARD, c(0)),
    ];
    [first, then, protect].concat()
}

/// `dormant::mark`.
fn mark() -> Program {
    program![Op::Swap(X, BITS, MARKED), Op::Cas(X, WORD, 0, MARKED)]
}

fn world(mutant: Mutant, owner: Program) -> World {
    const OPEN: Reg = 4;
    let barrier =
        if mutant == Mutant::AsleepBeforeBarrier { program![] } else { program![Op::Interrupt(0)] };
    let mut look = program![
        Op::Load(X, WORD),
        Op::Load(OPEN, SLOT[0]),
        when(When::Not(OPEN, 0), Op::Set(X, c(0))),
    ];
    if mutant != Mutant::HolderAsleep {
        look.extend(program![Op::Load(OPEN, HOLDS), when(When::Not(OPEN, 0), Op::Set(X, c(0))),]);
    }
    let sleep = if mutant == Mutant::AsleepAnyway {
        Op::Swap(OPEN, BITS, ASLEEP)
    } else {
        Op::Cas(OPEN, BITS, MARKED, ASLEEP)
    };
    let sleep = vec![when(When::Is(X, MARKED), sleep)];
    let marker = thread("marker", 1, [mark(), fence_and_stamp(T), barrier, look, sleep]);
    let second = if mutant == Mutant::TwoRounds { mark() } else { program![] };
    let free = program![
        Op::Load(X, BITS),
        Op::Load(OPEN, HAZARD),
        when(When::Not(OPEN, 0), Op::Set(X, c(0))),
        when(When::Is(X, ASLEEP), Op::Free(NODE)),
    ];
    let writer = thread("writer", 2, [second, unlink_and_stamp(), free]);
    World::of(vec![thread("owner", 0, [owner]), marker, writer], &BEGIN)
}

fn sections(mutant: Mutant) -> World {
    world(mutant, [section(mutant), section(mutant)].concat())
}

/// A section with a handler before its step `place`.
fn interrupted(mutant: Mutant, place: usize) -> World {
    let mut owner = section(mutant);
    owner.splice(place..place, handler(mutant));
    world(mutant, owner)
}

fn places() -> core::ops::Range<usize> {
    0..section(Mutant::None).len()
}

#[test]
fn who_sleeps_needs_no_evidence() {
    holds("asleep", &sections(Mutant::None));
    holds("asleep, a hazard", &world(Mutant::None, hazard(Mutant::None)));
}

#[test]
fn a_signal_handler_wakes_as_well() {
    places().for_each(|place| holds("asleep, a handler", &interrupted(Mutant::None, place)));
}

#[test]
fn mutants() {
    for mutant in [
        Mutant::CheckBeforePin,
        Mutant::AsleepBeforeBarrier,
        Mutant::AsleepAnyway,
        Mutant::TwoRounds,
        Mutant::ClearsByStore,
    ] {
        is_rejected(&format!("{mutant:?}"), &sections(mutant));
    }
    for mutant in [Mutant::HolderAsleep, Mutant::CheckBeforeHold] {
        is_rejected(&format!("{mutant:?}"), &world(mutant, hazard(mutant)));
    }
}

#[test]
fn mutants_of_handlers() {
    for mutant in [Mutant::AwakeEarly, Mutant::HandlerBlind] {
        let wrong = |place| search(&interrupted(mutant, place)).trace.is_some();
        assert!(places().any(wrong), "no violation found with {mutant:?}");
    }
}
