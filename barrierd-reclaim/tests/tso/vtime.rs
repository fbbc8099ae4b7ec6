//! Virtual time: stamps by a plain load after a plain store, rounds, pins.
//!
//! The daemon has died once: round 1 was opened by another process, whose `T_1` is lost.

use crate::machine::*;
use crate::programs::*;

const VTIME: Addr = SPARE;
/// `last_interrupt_vtime`.
const PASSED: Addr = SPARE + 1;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    OneRound,
    PublishedAtOnce,
    TimeBeforeVtime,
    IgnoresPins,
    LatestBeforeVtime,
    EraForVtime,
    TagZero,
}

/// Opens round `v` and waits until all CPUs have it (`Machine::opened`, `Machine::scan`).
fn round(v: u8, cpus: &[u8], mutant: Mutant) -> Program {
    const BEFORE: Reg = 0;
    const AT: Reg = 1;
    const SEEN: Reg = 2;
    let visible = program![Op::Store(VTIME, c(v)), Op::Fence];
    let arm = program![Op::Clock(BEFORE), Op::Clock(AT), Op::Store(ARMED, r(AT)), Op::Fence];
    let [first, then] =
        if mutant == Mutant::TimeBeforeVtime { [arm, visible] } else { [visible, arm] };
    let mut program: Program = [first, then].concat();
    program.extend(cpus.iter().map(|cpu| Step::from(Op::Await(SEEN, KERNEL + cpu, BEFORE))));
    program
}

fn world(mutant: Mutant, sections: usize, rounds: u8) -> World {
    const V: Reg = 1;
    const OLDEST: Reg = 2;
    const AT: Reg = 4;
    let cpus = [0, 2];
    let mut writer = program![Op::Store(LINK, c(0)), Op::Load(T, VTIME)];
    if mutant == Mutant::TagZero {
        // Where there is no virtual time, the tag never passes.
        writer = program![Op::Store(LINK, c(0)), Op::Set(T, c(0))];
    }
    // `VtimeMemory`: the pair, the slots, what had passed before the oldest pin.
    let word = if mutant == Mutant::EraForVtime { ERA } else { LATEST };
    let (vtime, latest) = (program![Op::Await(V, PASSED, V)], program![Op::Load(AT, word)]);
    let [first, then] =
        if mutant == Mutant::LatestBeforeVtime { [latest, vtime] } else { [vtime, latest] };
    let scan = program![
        Op::Load(OLDEST, SLOT[0]),
        when(When::Is(OLDEST, 0), Op::Set(OLDEST, c(u8::MAX))),
        when(When::NotBelow(AT, OLDEST), Op::Set(V, c(0))),
    ];
    let scan = if mutant == Mutant::IgnoresPins { Program::new() } else { scan };
    let go = program![when(When::Below(T, V), Op::Free(NODE))];
    let published = |mutant, v| match mutant {
        Mutant::OneRound => v,
        _ => v - 1,
    };
    let mut daemon = program![Op::Store(VTIME, c(1)), Op::Fence];
    for v in 2..2 + rounds {
        daemon.extend(round(v, &cpus, mutant));
        if v > 2 || mutant == Mutant::PublishedAtOnce || mutant == Mutant::OneRound {
            daemon.extend(program![Op::Store(PASSED, c(published(mutant, v))), Op::Fence]);
        }
    }
    let threads = vec![
        thread("reader", 0, vec![section(SLOT[0]); sections]),
        // Any stamp at any moment: the translation may not rest on more than that they rise.
        thread("other stamps", 1, [program![Op::Set(W, c(9)), Op::Max(LATEST, W)]]),
        thread("writer", 2, [writer, first, then, scan, go]),
        thread("daemon", 3, [daemon]),
    ];
    World { watched: 0b101, ..World::of(threads, &BEGIN) }
}

pub(crate) fn large() -> World {
    world(Mutant::None, 3, 4)
}

pub(crate) fn large_ignores_pins() -> World {
    world(Mutant::IgnoresPins, 3, 4)
}

#[test]
fn an_unfenced_stamp_is_safe_after_two_rounds() {
    holds("virtual time", &world(Mutant::None, 1, 2));
}

#[test]
fn mutants() {
    for (name, mutant) in [
        ("vtime by one round", Mutant::OneRound),
        ("vtime at once after a restart", Mutant::PublishedAtOnce),
        ("T_v read before v is visible", Mutant::TimeBeforeVtime),
        ("vtime ignores pins", Mutant::IgnoresPins),
        ("latest loaded before the vtime", Mutant::LatestBeforeVtime),
        ("the era in its place", Mutant::EraForVtime),
        ("tag 0 without vtime", Mutant::TagZero),
    ] {
        is_rejected(name, &world(mutant, 1, 2));
    }
}
