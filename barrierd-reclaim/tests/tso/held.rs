//! What single readers hold: hazard pointers, and intervals (robust guards).

use crate::machine::*;
use crate::programs::*;

const HAZARD: Addr = SPARE;
const LO: Addr = SPARE + 1;
const UP: Addr = SPARE + 2;

/// A scan by a bought barrier, on CPU 3: it begins an era first, `Words::next_era`.
fn scanner(scans: usize) -> Thread {
    let bought = program![Op::Clock(W), Op::Max(ERA, W), Op::Interrupt(0), Op::Interrupt(1)];
    let scan = [bought, look(&SLOT), publish()].concat();
    thread("scanner", 3, vec![scan; scans])
}

#[derive(Clone, Copy, PartialEq)]
enum Hazard {
    Sound,
    NoReload,
    OlderSet,
}

/// One reader by a hazard pointer, one that moves from a section to a hazard.
fn hazards(mutant: Hazard) -> World {
    const P: Reg = 0;
    const Q: Reg = 1;
    let reload = if mutant == Hazard::NoReload { Op::Set(Q, r(P)) } else { Op::Load(Q, LINK) };
    let reader = program![
        Op::Load(P, LINK),
        when(When::Is(P, 0), Op::End),
        Op::Store(HAZARD, r(P)),
        reload,
        when(When::Other(P, Q), Op::End),
        Op::Use(P),
        Op::Store(HAZARD, c(0)),
    ];
    let holder = HAZARD + 1;
    const E: Reg = 2;
    let mover = program![
        Op::Load(E, LATEST),
        Op::Store(SLOT[1], r(E)),
        Op::Load(P, LINK),
        when(When::Is(P, 0), Op::End),
        Op::Store(holder, r(P)),
        Op::Store(SLOT[1], c(0)),
        Op::Use(P),
        Op::Store(holder, c(0)),
    ];
    let safe = program![Op::Await(M, SAFE, T)];
    let set = program![Op::Load(4, HAZARD), Op::Load(5, holder)];
    let [first, then] = if mutant == Hazard::OlderSet { [set, safe] } else { [safe, set] };
    let free = program![
        when(When::Is(4, NODE), Op::End),
        when(When::Is(5, NODE), Op::End),
        Op::Free(NODE),
    ];
    let threads = vec![
        thread("reader", 0, [reader]),
        thread("mover", 1, [mover]),
        thread("writer", 2, [unlink_and_stamp(), first, then, free]),
        scanner(1),
    ];
    World::of(threads, &BEGIN)
}

#[test]
fn a_hazard_keeps_its_object() {
    holds("hazards", &hazards(Hazard::Sound));
    is_rejected("hazard without a second load", &hazards(Hazard::NoReload));
    is_rejected("hazard set of an older scan", &hazards(Hazard::OlderSet));
}

#[derive(Clone, Copy, PartialEq)]
enum Robust {
    Sound,
    BirthFromNow,
    BirthFromStamp,
    NoReload,
    BeginningIgnored,
}

/// A node is born, published and retired while a reader's interval is open. Another thread takes a stamp meanwhile, and
/// begins an era with it, without any evidence.
fn robust(mutant: Robust, scans: usize) -> World {
    const E: Reg = 0;
    const P: Reg = 1;
    const NOW: Reg = 2;
    const SEEN: Reg = 4;
    const YOUNG: u8 = 2;
    let protect = |again: bool| {
        program![Op::Load(P, LINK), Op::Load(NOW, ERA)]
            .into_iter()
            .chain(if again { program![when(When::Other(NOW, E), Op::End)] } else { program![] })
            .collect::<Program>()
    };
    let mut reader = program![
        Op::Load(E, ERA),
        Op::Load(SEEN, LATEST),
        Op::Store(UP, r(E)),
        Op::Store(LO, r(SEEN)),
    ];
    reader.extend(protect(false));
    // The era has moved: the upper end, then both loads again; a third time is left out.
    let raised = if mutant == Robust::NoReload {
        program![when(When::Other(NOW, E), Op::Store(UP, r(NOW)))]
    } else {
        program![
            when(When::Same(NOW, E), Op::Set(3, c(1))),
            when(When::Is(3, 0), Op::Store(UP, r(NOW))),
            when(When::Is(3, 0), Op::Set(E, r(NOW))),
            when(When::Is(3, 0), Op::Load(P, LINK)),
            when(When::Is(3, 0), Op::Load(NOW, ERA)),
            when(When::Other(NOW, E), Op::End),
        ]
    };
    reader.extend(raised);
    reader.extend(program![when(When::Not(P, 0), Op::Use(P)), Op::Store(LO, c(0))]);

    const BIRTH: Reg = 4;
    const L: Reg = 5;
    const U: Reg = 6;
    let birth = match mutant {
        Robust::BirthFromNow => Op::Clock(BIRTH),
        Robust::BirthFromStamp => Op::Load(BIRTH, LATEST),
        _ => Op::Load(BIRTH, ERA),
    };
    let born = program![birth, Op::Store(LINK, c(YOUNG))];
    let safe = program![Op::Await(M, SAFE, T), Op::Load(L, LO), Op::Load(U, UP)];
    let held = if mutant == Robust::BeginningIgnored {
        // As if a beginning above the stamp were that of another section: compared with the birth.
        program![
            when(When::Is(L, 0), Op::Free(YOUNG)),
            when(When::Below(BIRTH, L), Op::Free(YOUNG))
        ]
    } else {
        program![
            when(When::Is(L, 0), Op::Free(YOUNG)),
            when(When::Below(T, L), Op::Free(YOUNG)),
            when(When::Below(U, BIRTH), Op::Free(YOUNG)),
        ]
    };
    let threads = vec![
        thread("reader", 0, [reader]),
        thread("writer", 2, [born, unlink_and_stamp(), safe, held]),
        thread("other stamps", 1, [[fence_and_stamp(W), program![Op::Max(ERA, W)]].concat()]),
        scanner(scans),
    ];
    World::of(threads, &BEGIN)
}

pub(crate) fn large() -> World {
    robust(Robust::Sound, 5)
}

#[test]
fn an_interval_keeps_what_was_born_before_its_end() {
    holds("robust guard", &robust(Robust::Sound, 2));
    is_rejected("birth from now()", &robust(Robust::BirthFromNow, 2));
    is_rejected("birth from a stamp", &robust(Robust::BirthFromStamp, 2));
    is_rejected("robust guard without a second load", &robust(Robust::NoReload, 2));
    is_rejected("beginning compared with the birth", &robust(Robust::BeginningIgnored, 2));
}
