//! The readers' protocol of `slots.rs` and `reclaim.rs` on the x86-TSO machine of barrierd-reclaim's tests: every state of small
//! worlds, and the mutants that must be found. docs/proofs/shared.md names its steps.

#[path = "../../barrierd-reclaim/tests/tso/machine/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with barrierd-reclaim")]
mod machine;
#[path = "../../barrierd-reclaim/tests/tso/programs.rs"]
#[allow(dead_code, unused_imports, reason = "shared with barrierd-reclaim")]
mod programs;

use machine::*;
use programs::*;

/// What a slot shows beside its pin: a stamp, or that there is nobody. In the library it is one word; the scan loads this half
/// first, so it finds less evidence than there is, never more.
const SEEN: Addr = SPARE;
const NOBODY: u8 = u8::MAX - 3;
/// The slot's lock: 0 is free.
const LOCK: Addr = SPARE + 1;
const OWNER: u8 = 1;
const SCANNER: u8 = 2;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    /// `take` does not fence.
    UnfencedTake,
    /// A new reader takes the lock and leaves NOBODY in its slot.
    NotTaken,
    /// The stamp is taken without a fence.
    UnfencedStamp,
    /// The slot is looked at before the barrier has passed.
    ScanBeforeWatermark,
    /// Whether the reader lives is asked before the unlink.
    EarlyDeath,
    /// A dead reader's slot is cleared without its lock.
    ClearUnlocked,
    /// A dead reader's slot is cleared, whoever lives.
    ClearAny,
    /// Idle slots need no evidence.
    IdleNeedsNothing,
    /// The section's store comes after its load.
    SlotLate,
    /// A reader that leaves says so before its last access.
    LeaveEarly,
    /// A look at the slots, which goes on from turn to turn, is believed for what was unlinked while it was under way.
    LateBound,
}

fn take(mutant: Mutant) -> Program {
    let taken = program![Op::Store(SEEN, c(0))];
    let fence = program![Op::Fence];
    match mutant {
        Mutant::NotTaken => fence,
        Mutant::UnfencedTake => taken,
        _ => [taken, fence].concat(),
    }
}

/// `pin`, a use, `unpin`.
fn reads(mutant: Mutant) -> Program {
    let mut program = section(SLOT[0]);
    match mutant {
        // The latest, the link, the evidence, the slot.
        Mutant::SlotLate => {
            program.swap(1, 2);
            program.insert(2, Step::from(Op::Store(SEEN, r(0))));
        }
        _ => program.insert(1, Step::from(Op::Store(SEEN, r(0)))),
    }
    program
}

fn leave() -> Program {
    program![Op::Store(SLOT[0], c(0)), Op::Store(SEEN, c(NOBODY)), Op::Fence, Op::Store(LOCK, c(0))]
}

/// A section in which its reader is killed: all its stores drain, then its lock goes.
fn dies() -> Program {
    program![
        Op::Load(0, LATEST),
        Op::Store(SEEN, r(0)),
        Op::Store(SLOT[0], r(0)),
        Op::Load(1, LINK),
        Op::Fence,
        Op::Store(LOCK, c(0)),
    ]
}

/// The kernel's lock, which the next reader waits for. Who waits and is then second would have to wait again: in these worlds
/// only a scan holds it meanwhile, so three rounds do.
fn lock() -> Program {
    let again = |op| when(When::Not(L, 0), op);
    let first = program![Op::AwaitIs(LOCK, 0), Op::Cas(L, LOCK, 0, OWNER)];
    let second = vec![again(Op::AwaitIs(LOCK, 0)), again(Op::Cas(L, LOCK, 0, OWNER))];
    [first, second.clone(), second].concat()
}

const S: Reg = 4;
const L: Reg = 5;
const EARLY: Reg = 6;

fn slot() -> Program {
    program![Op::Load(S, SEEN), Op::Load(X, SLOT[0])]
}

/// `Turn::reclaim`, and a look of `Turn::tidy`: the watermark, then the slot, then whether its reader lives; then what is free.
fn scan(mutant: Mutant, barrier: bool) -> Program {
    let watermark = if barrier {
        program![Op::Set(W, c(0)), Op::Await(W, PUBLIC, W)]
    } else {
        program![Op::Set(W, c(0))]
    };
    let slot = if mutant == Mutant::LateBound { vec![] } else { slot() };
    let mut program = if mutant == Mutant::ScanBeforeWatermark {
        [slot, watermark].concat()
    } else {
        [watermark, slot].concat()
    };
    program.extend(match mutant {
        Mutant::EarlyDeath => program![Op::Set(L, r(EARLY))],
        Mutant::ClearUnlocked => program![Op::Load(L, LOCK)],
        Mutant::ClearAny => program![Op::Set(L, c(0))],
        _ => program![Op::Cas(L, LOCK, 0, SCANNER)],
    });
    // Of what it has the lock, or believes so, the reader is nobody.
    let dead = |op| when(When::Is(L, 0), op);
    program.extend([dead(Op::Set(S, c(NOBODY))), dead(Op::Set(X, c(0)))]);
    if mutant != Mutant::EarlyDeath {
        program.extend([dead(Op::Store(SEEN, c(NOBODY))), dead(Op::Store(SLOT[0], c(0)))]);
    }
    if !matches!(mutant, Mutant::EarlyDeath | Mutant::ClearUnlocked | Mutant::ClearAny) {
        program.extend([dead(Op::Fence), dead(Op::Store(LOCK, c(0)))]);
    }
    if mutant == Mutant::IdleNeedsNothing {
        program.push(when(When::Is(X, 0), Op::Set(S, c(NOBODY))));
    }
    program.extend(program![Op::Later(W, S), Op::Set(M, r(W))]);
    program.extend(least_pin(X));
    program.push(when(When::Below(T, M), Op::Free(NODE)));
    program
}

/// `early`: it has scanned before, for something else.
fn writes(mutant: Mutant, barrier: bool, early: bool) -> Program {
    let asks_early = program![Op::Load(EARLY, LOCK)];
    let unlink = match mutant {
        Mutant::LateBound => [slot(), unlink_and_stamp()].concat(),
        Mutant::UnfencedStamp => {
            program![Op::Store(LINK, c(0)), Op::Clock(T), Op::Beyond(LATEST, T)]
        }
        _ => unlink_and_stamp(),
    };
    let mut first = if early { scan(mutant, false) } else { vec![] };
    // That something is nothing here.
    first.pop();
    [asks_early, first, unlink, scan(mutant, barrier)].concat()
}

/// Readers of one slot, one after the other, a writer, and a daemon if there are barriers.
fn world(
    mutant: Mutant,
    barrier: bool,
    first: &[Program],
    second: &[Program],
    locked: bool,
) -> World {
    let mut threads = vec![
        thread("reader", 0, first.to_vec()),
        thread("next reader", 1, second.to_vec()),
        thread("writer", 2, [writes(mutant, barrier, locked && !barrier)]),
    ];
    if barrier {
        threads.push(thread("daemon", 3, [arm(), sweep(&[0, 1])]));
    }
    let slot =
        if locked { [(SEEN, FIRST_ERA), (LOCK, OWNER)] } else { [(SEEN, NOBODY), (LOCK, 0)] };
    let memory = [BEGIN.as_slice(), &slot].concat();
    World { watched: if barrier { 0b11 } else { 0 }, ..World::of(threads, &memory) }
}

/// A reader that comes, reads twice and leaves.
fn comes(mutant: Mutant, barrier: bool) -> World {
    let end = match mutant {
        // The pin's end and the leave stand before the use.
        Mutant::LeaveEarly => {
            let mut section = reads(mutant);
            let used = section.remove(4);
            section.insert(section.len() - 1, used);
            let at = section.len() - 2;
            section.splice(at..at, program![Op::Store(SLOT[0], c(0)), Op::Store(SEEN, c(NOBODY))]);
            section
        }
        _ => [reads(mutant), reads(mutant), leave()].concat(),
    };
    let reader = [lock(), take(mutant), end];
    world(mutant, barrier, &reader, &[], false)
}

/// A reader that dies in its section, and the next one of its slot.
fn follows(mutant: Mutant, barrier: bool) -> World {
    let next = [lock(), take(mutant), reads(mutant)];
    world(mutant, barrier, &[dies()], &next, true)
}

#[test]
fn who_comes_is_seen_or_sees() {
    holds("a reader comes", &comes(Mutant::None, false));
    holds("a reader comes, barriers", &comes(Mutant::None, true));
    is_rejected("unfenced take", &comes(Mutant::UnfencedTake, false));
    is_rejected("not taken", &comes(Mutant::NotTaken, false));
    is_rejected("leaves early", &comes(Mutant::LeaveEarly, false));
}

#[test]
fn who_dies_holds_nothing_and_who_follows_does() {
    holds("a reader dies", &follows(Mutant::None, false));
    holds("a reader dies, barriers", &follows(Mutant::None, true));
    is_rejected("death learned early", &follows(Mutant::EarlyDeath, true));
    is_rejected("cleared without the lock", &follows(Mutant::ClearUnlocked, false));
}

/// A reader that is there from the beginning.
fn stays(mutant: Mutant) -> World {
    world(mutant, true, &[reads(mutant), reads(mutant)], &[], true)
}

#[test]
fn who_stays_is_waited_for() {
    holds("a reader stays", &stays(Mutant::None));
    for (name, mutant) in [
        ("unfenced stamp", Mutant::UnfencedStamp),
        ("scan before watermark", Mutant::ScanBeforeWatermark),
        ("cleared, whoever lives", Mutant::ClearAny),
        ("idle needs nothing", Mutant::IdleNeedsNothing),
        ("slot late", Mutant::SlotLate),
        ("look late bound", Mutant::LateBound),
    ] {
        is_rejected(name, &stays(mutant));
    }
}
