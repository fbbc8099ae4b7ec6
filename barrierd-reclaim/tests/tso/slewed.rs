//! A clock that is slewed, and steps back: the daemon's evidence (`clock.rs`), and stamps of one domain
//! against what another has bought (`evidence/membarrier.rs`).

use crate::machine::*;
use crate::programs::*;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    NoLock,
    NoElapsed,
    FloorNotLookedAt,
    FloorAfterBarrier,
}

/// Registers of the daemon: the last evidence time, and what a reading takes.
const LAST: Reg = 6;
const BEFORE: Reg = 4;
const TOOK: Reg = 5;

/// `EvidenceClock::read`, into `LAST`. There is one counter here, so no margin is needed for two.
fn evidence(mutant: Mutant) -> Program {
    const NEW: Reg = 3;
    let mut program = program![Op::Raw(BEFORE)];
    if mutant != Mutant::NoLock {
        program.extend(program![Op::Lock]);
    }
    program.extend(program![Op::Clock(NEW), Op::Raw(TOOK), Op::Sub(TOOK, BEFORE)]);
    if mutant != Mutant::NoElapsed {
        program.extend(program![Op::Sub(NEW, TOOK)]);
    }
    program.extend(program![Op::Later(NEW, LAST), Op::Set(LAST, r(NEW))]);
    program
}

/// `Daemon::arm`.
fn arms(mutant: Mutant) -> Program {
    [evidence(mutant), program![Op::Store(ARMED, r(LAST)), Op::Fence]].concat()
}

/// `Daemon::publish`, with a time of its own (every other CPU idles) or the arming's.
fn sweeps(mutant: Mutant, cpus: &[u8], own_time: bool) -> Program {
    const MIN: Reg = 1;
    const SEEN: Reg = 2;
    let mut program = if own_time { evidence(mutant) } else { Program::new() };
    program.extend(program![Op::Fence, Op::Set(MIN, r(LAST))]);
    for &cpu in cpus {
        program.extend(program![
            Op::Load(SEEN, KERNEL + cpu),
            Op::Credit(SEEN, LAST),
            Op::Min(MIN, SEEN),
        ]);
    }
    program.extend(program![Op::Max(PUBLIC, MIN)]);
    program
}

/// The clock moves when it is read: others do, so that a step back is long enough to matter.
fn time_goes_by() -> Thread {
    thread("others", 1, [program![Op::Clock(T), Op::Clock(T)]])
}

/// A reader that is busy, or idles at times; a writer; the daemon, which arms and sweeps again and again.
fn daemon(mutant: Mutant, rounds: usize, updates: u8, own_time: bool, switches: u8) -> World {
    let scan = [program![Op::Await(W, PUBLIC, W)], look(&SLOT[..1]), publish(), free(NODE)];
    let threads = vec![
        thread("reader", 0, [section(SLOT[0])]),
        thread("writer", 2, [unlink_and_stamp()].into_iter().chain(scan)),
        thread(
            "daemon",
            3,
            (0..rounds).flat_map(|_| [arms(mutant), sweeps(mutant, &[0], own_time)]),
        ),
        time_goes_by(),
    ];
    let start = BEGIN;
    World { watched: 0b1, switches, updates, ..World::of(threads, &start) }
}

#[test]
fn b1_evidence_holds_whenever_the_clock_steps_back() {
    holds("slewed, busy, two rounds", &daemon(Mutant::None, 2, 1, false, 0));
    holds("slewed, idle at times", &daemon(Mutant::None, 1, 2, true, 1));
    holds("slewed, idle at times, the arming's time", &daemon(Mutant::None, 1, 2, false, 1));
}

#[test]
fn b1_mutants_of_evidence() {
    for (name, mutant) in [
        ("evidence without the lock", Mutant::NoLock),
        ("margin without the time that it took", Mutant::NoElapsed),
    ] {
        is_rejected(name, &daemon(mutant, 1, 1, false, 0));
    }
}

/// What barriers are bought for (`sync::FLOOR`).
const FLOOR: Addr = SPARE;
/// What they were bought for (`BOUGHT`).
const BOUGHT: Addr = SPARE + 1;

/// One domain's thread buys; another domain's writer and readers live by it.
fn domains(mutant: Mutant) -> World {
    const OWN: Reg = 4;
    const SEEN: Reg = 5;
    // `Words::fence_and_stamp`, `Membarrier::buy`.
    let own = program![Op::Fence, Op::Clock(OWN), Op::Load(SEEN, FLOOR)];
    const WATERMARK: Reg = 6;
    let raise = [behind(WATERMARK, OWN), program![Op::Max(FLOOR, WATERMARK)]].concat();
    let barrier = program![Op::Interrupt(0)];
    let parts = if mutant == Mutant::FloorAfterBarrier {
        [own, barrier, raise]
    } else {
        [own, raise, barrier]
    };
    let bought = [behind(WATERMARK, OWN), program![Op::Max(BOUGHT, WATERMARK)]].concat();
    let mut stamp = program![Op::Store(LINK, c(0)), Op::Fence];
    if mutant != Mutant::FloorNotLookedAt {
        stamp.extend(program![Op::Load(SEEN, FLOOR)]);
    }
    stamp.extend(program![
        Op::Clock(T),
        when(When::Below(T, SEEN), Op::Set(T, r(SEEN))),
        Op::Beyond(LATEST, T),
    ]);
    let scan = [program![Op::Await(W, BOUGHT, T)], look(&SLOT[..1]), publish(), free(NODE)];
    let threads = vec![
        thread("reader", 0, [section(SLOT[0])]),
        thread("writer", 2, [stamp].into_iter().chain(scan)),
        thread("buyer", 3, parts.into_iter().chain([bought])),
        time_goes_by(),
    ];
    World { updates: 1, ..World::of(threads, &BEGIN) }
}

#[test]
fn b1_what_another_domain_buys_needs_no_clock() {
    holds("bought by another domain", &domains(Mutant::None));
    is_rejected("floor not looked at", &domains(Mutant::FloorNotLookedAt));
    is_rejected("floor stored after membarrier", &domains(Mutant::FloorAfterBarrier));
}
