//! Collected barriers (`Reader::fence_and_stamp`, `walk`): no CPU takes an interrupt here. A reader that
//! fences and takes stamps and gives its record back, and another thread that takes it; a writer; a scanner.
//!
//! This machine forgives some mutants, since its loads and stores keep their order. These are for loom: a
//! Relaxed stamp, Relaxed evidence, a newcomer without a stamp.

use crate::machine::*;
use crate::programs::*;

const STAMPED: [Addr; 3] = [SPARE, SPARE + 1, SPARE + 2];
const IN_USE: [Addr; 3] = [SPARE + 3, SPARE + 4, SPARE + 5];
const WRITER: usize = 1;
const SCANNER: usize = 2;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    /// Records in use count as if no thread had them.
    InUseNotSeen,
    /// The scanner's own stamp comes after it has loaded which records are in use.
    OwnStopLate,
    /// The watermark is not held down to the scanner's own stamp.
    OwnStopIgnored,
    /// The stamp that a pin shows is loaded after the link.
    StampAfterLink,
    /// A reader whose slot is idle counts as passed.
    IdleNeedsNothing,
    /// The slot is stored after the link is loaded.
    SlotLate,
    /// The slot is idle before the node is used.
    IdleEarly,
    /// Stamps that are taken on a clock that stands still are equal.
    Tied,
    /// In one walk, the slot is loaded before the last stamp.
    SlotEarly,
}

/// How the scanner learns what is safe.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// `walk`, then `scan` with a walk of its own.
    Scan,
    /// `walk`, then `scan` without another.
    Once,
    /// `Bound::refresh`, then `glance`: one walk.
    Glance,
}

fn own_stamp(record: usize, to: Reg) -> Program {
    [fence_and_stamp(to), program![Op::Store(STAMPED[record], r(to))]].concat()
}

/// The same on a clock that stands still.
fn frozen_stop(mutant: Mutant, record: usize, to: Reg) -> Program {
    let beyond = if mutant == Mutant::Tied { Op::Max(LATEST, to) } else { Op::Beyond(LATEST, to) };
    let stamp = program![Op::Fence, Op::Set(to, c(FIRST_ERA)), beyond];
    [stamp, program![Op::Store(STAMPED[record], r(to))]].concat()
}

/// The stamp that the slot keeps when it is idle, in a word of its own that is stored just before: a scan between
/// the two finds less of a pin than there is.
const SEEN: Addr = SPARE + 6;

/// A section whose slot keeps the stamp.
fn observed(mutant: Mutant) -> Program {
    let mut program = section(SLOT[0]);
    if mutant == Mutant::StampAfterLink {
        // The link, then the stamp, then the slot.
        let link = program.remove(2);
        program.insert(0, link);
        program.insert(2, Step::from(Op::Store(SEEN, r(0))));
    } else {
        program.insert(1, Step::from(Op::Store(SEEN, r(0))));
    }
    program
}

/// A section with a stamp taken in it.
fn stamps_pinned(mutant: Mutant) -> Program {
    const STAMP: Reg = 5;
    let mut program = observed(Mutant::None);
    let seen = program.remove(1);
    // The latest, the slot, the link, the use, idle.
    let stamp = own_stamp(0, STAMP);
    match mutant {
        // The latest, the link, the stamp, the slot.
        Mutant::SlotLate => {
            let slot = program.remove(1);
            program.splice(2..2, stamp.into_iter().chain([seen, slot]));
        }
        // The latest, the slot, the link, the stamp, idle, the use.
        Mutant::IdleEarly => {
            program.swap(3, 4);
            program.splice(3..3, stamp);
            program.insert(1, seen);
        }
        _ => {
            program.splice(3..3, stamp);
            program.insert(1, seen);
        }
    }
    program
}

/// A pin, between whose halves a signal handler has a section of its own.
fn interrupted() -> Program {
    const OUTER: Reg = 2;
    let mut rest = observed(Mutant::None);
    rest[0] = Step::from(Op::Set(0, r(OUTER)));
    [program![Op::Load(OUTER, LATEST)], observed(Mutant::None), rest].concat()
}

/// What becomes of the first record.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// Its owner reads, takes a stamp, and reads again.
    Stamps,
    /// Its owner reads and gives it back; another thread takes it and reads.
    HandedOver,
    /// Its owner reads twice, and never takes a stamp.
    Observed,
    /// The same, on a clock that stands still.
    Frozen,
    /// Its owner takes a stamp inside a section.
    StampsPinned,
    /// A signal handler reads between the two halves of its owner's pin; then its owner reads again.
    Interrupted,
}

/// The bound of the group of records.
const BOUND: Addr = SPARE + 7;

/// `Reader::shown` of the first record: the later of its last stamp and what the slot shows in `to`, and in `pinned` what
/// an open section shows.
fn shown(mutant: Mutant, to: Reg, shown: Reg, pinned: Reg) -> Program {
    let stamped = program![Op::Load(to, STAMPED[0])];
    let slot = program![Op::Load(pinned, SLOT[0]), Op::Load(shown, SEEN)];
    let [first, then] = if mutant == Mutant::SlotEarly { [slot, stamped] } else { [stamped, slot] };
    let later = program![when(When::Below(to, shown), Op::Set(to, r(shown)))];
    [first, then, later].concat()
}

/// `left_behind` of the first record: the stamp in `to`.
fn left_behind(mutant: Mutant, to: Reg, seen: Reg, pinned: Reg) -> Program {
    let mut program = shown(mutant, to, seen, pinned);
    program.extend(program![when(When::Not(pinned, 0), Op::Set(to, r(pinned)))]);
    if mutant == Mutant::IdleNeedsNothing {
        program.extend(program![when(When::Is(pinned, 0), Op::Set(to, c(u8::MAX - 2)))]);
    }
    program
}

fn world(mutant: Mutant, story: Story) -> World {
    world_how(mutant, story, How::Scan)
}

fn world_how(mutant: Mutant, story: Story, how: How) -> World {
    const PINNED: Reg = 8;
    const SHOWN: Reg = 7;
    const STAMP: Reg = 5;
    const OWN: Reg = 4;
    const USED: Reg = 6;
    let section = || observed(mutant);
    let give_back = program![Op::Store(IN_USE[0], c(0))];
    let take = program![Op::AwaitIs(IN_USE[0], 0), Op::Swap(STAMP, IN_USE[0], 1)];
    let (reader, newcomers): (Vec<Program>, Vec<Program>) = match story {
        Story::Stamps => (vec![section(), own_stamp(0, STAMP), section()], vec![]),
        Story::HandedOver => {
            (vec![section(), give_back], vec![take, own_stamp(0, STAMP), section()])
        }
        Story::Observed | Story::Frozen => (vec![section(), section()], vec![]),
        Story::StampsPinned => (vec![stamps_pinned(mutant)], vec![]),
        Story::Interrupted => (vec![interrupted(), section()], vec![]),
    };
    let own_stamp = |record, to| match story {
        Story::Frozen => frozen_stop(mutant, record, to),
        _ => own_stamp(record, to),
    };
    let writer = [
        program![Op::Store(LINK, c(0))],
        own_stamp(WRITER, T),
        // Its next one: a thread's last stamp covers only what came before it.
        own_stamp(WRITER, STAMP),
        program![Op::Await(M, SAFE, T), Op::Free(NODE)],
    ];
    // `walk`, for the scanner's own stamp; then `scan`.
    let own = own_stamp(SCANNER, OWN);
    let mut collect = program![Op::Set(W, c(u8::MAX - 2))];
    if mutant != Mutant::OwnStopIgnored && mutant != Mutant::OwnStopLate {
        collect = program![Op::Set(W, r(OWN))];
    }
    for record in [0, WRITER] {
        let seen = if mutant == Mutant::InUseNotSeen && record == 0 {
            program![Op::Set(USED, c(0))]
        } else {
            program![Op::Load(USED, IN_USE[record])]
        };
        collect.extend(seen);
        collect.extend(program![when(When::Not(USED, 0), Op::Load(X, STAMPED[record])),]);
        // Only the reader pins.
        if record == 0 && how == How::Glance {
            collect.extend(left_behind(mutant, X, SHOWN, PINNED));
        } else if record == 0 && how == How::Once {
            collect.extend(shown(mutant, X, SHOWN, PINNED));
            if mutant == Mutant::IdleNeedsNothing {
                collect.extend(program![when(When::Is(PINNED, 0), Op::Set(X, c(u8::MAX - 2)))]);
            }
        } else if record == 0 {
            collect.extend(program![
                Op::Load(SHOWN, SEEN),
                when(When::Below(X, SHOWN), Op::Set(X, r(SHOWN))),
            ]);
            if mutant == Mutant::IdleNeedsNothing {
                collect.extend(program![
                    Op::Load(SHOWN, SLOT[0]),
                    when(When::Is(SHOWN, 0), Op::Set(X, c(u8::MAX - 2))),
                ]);
            }
        }
        collect.extend(program![when(When::Not(USED, 0), Op::Min(W, X))]);
    }
    let mut scanner = if mutant == Mutant::OwnStopLate {
        [collect, own, program![Op::Min(W, OWN)]].concat()
    } else {
        [own, collect].concat()
    };
    if how == How::Glance {
        scanner.extend(program![Op::Max(BOUND, W), Op::Later(W, W), Op::Set(M, r(W))]);
    } else if how == How::Once {
        scanner.extend(program![Op::Later(W, W), Op::Set(M, r(W))]);
        scanner.extend(least_pin(PINNED));
    } else {
        scanner.extend(program![Op::Later(W, W)]);
        scanner.extend(look(&SLOT[..1]));
    }
    scanner.extend(publish());
    let threads = vec![
        thread("reader", 0, reader),
        thread("newcomer", 1, newcomers),
        thread("writer", 2, writer),
        thread("scanner", 3, [scanner]),
    ];
    let used = IN_USE.map(|word| (word, 1));
    let memory = [BEGIN.as_slice(), used.as_slice()].concat();
    World::of(threads, &memory)
}

#[test]
fn stamps_stand_for_barriers() {
    holds("collected", &world(Mutant::None, Story::Stamps));
    holds("collected, a record goes to another thread", &world(Mutant::None, Story::HandedOver));
}

#[test]
fn what_a_reader_has_seen_stands_for_a_barrier() {
    holds("observed", &world(Mutant::None, Story::Observed));
    holds("observed, a clock that stands still", &world(Mutant::None, Story::Frozen));
    holds("observed, a handler in the pin", &world(Mutant::None, Story::Interrupted));
    is_rejected("the stamp after the link", &world(Mutant::StampAfterLink, Story::Observed));
    is_rejected("idle needs nothing", &world(Mutant::IdleNeedsNothing, Story::Observed));
    is_rejected("stamps that tie", &world(Mutant::Tied, Story::Frozen));
}

#[test]
fn a_stop_inside_a_section_stands_for_a_barrier() {
    holds("collected, a stamp in a section", &world(Mutant::None, Story::StampsPinned));
    is_rejected("slot late", &world(Mutant::SlotLate, Story::StampsPinned));
    is_rejected("idle early", &world(Mutant::IdleEarly, Story::StampsPinned));
}

#[test]
fn one_walk_is_enough() {
    for (name, story) in [
        ("one walk", Story::Stamps),
        ("one walk, a record goes to another thread", Story::HandedOver),
        ("one walk, observed", Story::Observed),
        ("one walk, a clock that stands still", Story::Frozen),
        ("one walk, a stamp in a section", Story::StampsPinned),
        ("one walk, a handler in the pin", Story::Interrupted),
    ] {
        holds(name, &world_how(Mutant::None, story, How::Once));
    }
    let rejected = |name, mutant, story| is_rejected(name, &world_how(mutant, story, How::Once));
    rejected("one walk, slot early", Mutant::SlotEarly, Story::StampsPinned);
    rejected("one walk, slot late", Mutant::SlotLate, Story::StampsPinned);
    rejected("one walk, idle early", Mutant::IdleEarly, Story::StampsPinned);
    rejected("one walk, idle needs nothing", Mutant::IdleNeedsNothing, Story::Observed);
    rejected("one walk, stamps that tie", Mutant::Tied, Story::Frozen);
    rejected("one walk, own stamp late", Mutant::OwnStopLate, Story::HandedOver);
    rejected("one walk, own stamp ignored", Mutant::OwnStopIgnored, Story::HandedOver);
}

#[test]
fn a_bound_stands_for_its_readers() {
    for (name, story) in [
        ("bound", Story::Stamps),
        ("bound, a record goes to another thread", Story::HandedOver),
        ("bound, observed", Story::Observed),
        ("bound, a clock that stands still", Story::Frozen),
        ("bound, a stamp in a section", Story::StampsPinned),
        ("bound, a handler in the pin", Story::Interrupted),
    ] {
        holds(name, &world_how(Mutant::None, story, How::Glance));
    }
    let rejected = |name, mutant, story| is_rejected(name, &world_how(mutant, story, How::Glance));
    rejected("bound, slot early", Mutant::SlotEarly, Story::StampsPinned);
    rejected("bound, idle needs nothing", Mutant::IdleNeedsNothing, Story::Observed);
    rejected("bound, own stamp late", Mutant::OwnStopLate, Story::HandedOver);
    rejected("bound, own stamp ignored", Mutant::OwnStopIgnored, Story::HandedOver);
}

#[test]
fn mutants() {
    is_rejected("in_use not looked at", &world(Mutant::InUseNotSeen, Story::Stamps));
    is_rejected(
        "own stamp after the look at who is there",
        &world(Mutant::OwnStopLate, Story::HandedOver),
    );
    is_rejected("own stamp ignored", &world(Mutant::OwnStopIgnored, Story::HandedOver));
}
