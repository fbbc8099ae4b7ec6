//! Readers that sleep (`protocol/dormant.rs`): an owner that reads, a marker that buys a barrier, a writer that frees past a
//! sleeper, with no evidence but that. And a signal handler of the owner's, which no barrier comes with.
//!
//! A locked operation is a fence here, so that the owner clears its bits before its fence is for loom.

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
enum Twin {
    None,
    LookBeforePin,
    AsleepBeforeBarrier,
    /// It falls asleep whether it was woken since anybody looked or not.
    AsleepAnyway,
    /// The writer begins a round while another is under way.
    TwoRounds,
    /// Who wakes clears its bits by a store, after its fence.
    ClearsByStore,
    /// Who wakes says that it is awake before it has cleared its bits.
    AwakeEarly,
    /// A handler that finds a section open does not look.
    HandlerBlind,
    HolderAsleep,
    LookBeforeHold,
}

/// `Sleep::look`, and `Domain::wake`.
fn look(twin: Twin, seen: Reg) -> Program {
    const OLD: Reg = 9;
    let woken = |op| when(When::Not(seen, 0), op);
    let mut program = program![Op::Load(seen, WORD)];
    let steps = match twin {
        Twin::ClearsByStore => {
            vec![Op::Store(WORD, c(WAKES)), Op::Fence, Op::Store(BITS, c(0)), Op::Store(WORD, c(0))]
        }
        Twin::AwakeEarly => vec![Op::Store(WORD, c(0)), Op::Swap(OLD, BITS, 0), Op::Fence],
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
fn section(twin: Twin) -> Program {
    const E: Reg = 0;
    const P: Reg = 1;
    const SEEN: Reg = 2;
    let store = program![Op::Store(SLOT[0], r(E))];
    let look = look(twin, SEEN);
    let [first, then] = if twin == Twin::LookBeforePin { [look, store] } else { [store, look] };
    let rest =
        program![Op::Load(P, LINK), when(When::Not(P, 0), Op::Use(P)), Op::Store(SLOT[0], c(0)),];
    [program![Op::Load(E, LATEST)], first, then, rest].concat()
}

/// The same in a signal handler: it pins, or goes on with the section that it finds.
fn handler(twin: Twin) -> Program {
    const E: Reg = 3;
    const P: Reg = 4;
    const SEEN: Reg = 5;
    const OPEN: Reg = 6;
    let mut program = program![
        Op::Load(OPEN, SLOT[0]),
        when(When::Is(OPEN, 0), Op::Load(E, LATEST)),
        when(When::Is(OPEN, 0), Op::Store(SLOT[0], r(E))),
    ];
    if twin != Twin::HandlerBlind {
        program.extend(look(twin, SEEN));
    }
    program.extend(program![
        Op::Load(P, LINK),
        when(When::Not(P, 0), Op::Use(P)),
        when(When::Is(OPEN, 0), Op::Store(SLOT[0], c(0))),
    ]);
    program
}

/// `Holds::hazard`, `HazardSlot::protect`.
fn hazard(twin: Twin) -> Program {
    const P: Reg = 0;
    const Q: Reg = 1;
    let store = program![Op::Store(HOLDS, c(1))];
    let look = look(twin, 2);
    let [first, then] = if twin == Twin::LookBeforeHold { [look, store] } else { [store, look] };
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

fn world(twin: Twin, owner: Program) -> World {
    const OPEN: Reg = 4;
    let barrier =
        if twin == Twin::AsleepBeforeBarrier { program![] } else { program![Op::Interrupt(0)] };
    let mut look = program![
        Op::Load(X, WORD),
        Op::Load(OPEN, SLOT[0]),
        when(When::Not(OPEN, 0), Op::Set(X, c(0))),
    ];
    if twin != Twin::HolderAsleep {
        look.extend(program![Op::Load(OPEN, HOLDS), when(When::Not(OPEN, 0), Op::Set(X, c(0))),]);
    }
    let sleep = if twin == Twin::AsleepAnyway {
        Op::Swap(OPEN, BITS, ASLEEP)
    } else {
        Op::Cas(OPEN, BITS, MARKED, ASLEEP)
    };
    let sleep = vec![when(When::Is(X, MARKED), sleep)];
    let marker = thread("marker", 1, [mark(), stop(T), barrier, look, sleep]);
    let second = if twin == Twin::TwoRounds { mark() } else { program![] };
    let free = program![
        Op::Load(X, BITS),
        Op::Load(OPEN, HAZARD),
        when(When::Not(OPEN, 0), Op::Set(X, c(0))),
        when(When::Is(X, ASLEEP), Op::Free(NODE)),
    ];
    let writer = thread("writer", 2, [second, unlink_and_stamp(), free]);
    World::of(vec![thread("owner", 0, [owner]), marker, writer], &BEGIN)
}

fn sections(twin: Twin) -> World {
    world(twin, [section(twin), section(twin)].concat())
}

/// A section with a handler before its step `place`.
fn interrupted(twin: Twin, place: usize) -> World {
    let mut owner = section(twin);
    owner.splice(place..place, handler(twin));
    world(twin, owner)
}

fn places() -> core::ops::Range<usize> {
    0..section(Twin::None).len()
}

#[test]
fn who_sleeps_needs_no_evidence() {
    holds("asleep", &sections(Twin::None));
    holds("asleep, a hazard", &world(Twin::None, hazard(Twin::None)));
}

#[test]
fn a_signal_handler_wakes_as_well() {
    places().for_each(|place| holds("asleep, a handler", &interrupted(Twin::None, place)));
}

#[test]
fn twins() {
    for twin in [
        Twin::LookBeforePin,
        Twin::AsleepBeforeBarrier,
        Twin::AsleepAnyway,
        Twin::TwoRounds,
        Twin::ClearsByStore,
    ] {
        is_rejected(&format!("{twin:?}"), &sections(twin));
    }
    for twin in [Twin::HolderAsleep, Twin::LookBeforeHold] {
        is_rejected(&format!("{twin:?}"), &world(twin, hazard(twin)));
    }
}

#[test]
fn twins_of_handlers() {
    for twin in [Twin::AwakeEarly, Twin::HandlerBlind] {
        let wrong = |place| search(&interrupted(twin, place)).trace.is_some();
        assert!(places().any(wrong), "no violation found with {twin:?}");
    }
}
