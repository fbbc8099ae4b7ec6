//! The parts of the kernel that the daemon's evidence rests on: idle CPUs, offline CPUs, kicks, a thread that moves
//! from CPU to CPU, the daemon's own CPU, and its sleep.

use crate::machine::*;
use crate::programs::*;

/// `unlink_and_stamp`, then one scan of slot 0 with the daemon's watermark.
fn writer() -> Thread {
    let scan = [program![Op::Await(W, PUBLIC, W)], look(&SLOT[..1]), publish(), free(NODE)];
    thread("writer", 2, [unlink_and_stamp()].into_iter().chain(scan))
}

const START: [(Addr, u8); 3] = BEGIN;

/// A reader whose CPU idles at times, and that may come back on another. Any of the switches may be missed.
fn idling(sections: usize, [first, second]: [Asks; 2]) -> World {
    let mut reader = thread("reader", 0, vec![section(SLOT[0]); sections]);
    reader.affinity = 0b11;
    let scans = [arm(), sweep_that(first, &[0, 1]), arm(), sweep_that(second, &[0, 1])];
    let daemon = thread("daemon", 3, scans);
    World {
        watched: 0b11,
        switches: 2,
        misses: true,
        ..World::of(vec![reader, writer(), daemon], &START)
    }
}

pub(crate) fn large() -> World {
    World { switches: 6, ..idling(4, [Asks::AfterS; 2]) }
}

#[test]
fn b2_idle_and_migration_whatever_switch_is_missed() {
    let world = |asks| idling(1, asks);
    holds("idle and migration", &world([Asks::AfterS; 2]));
    holds("who is idle, asked in vain", &world([Asks::AfterS, Asks::InVain]));
    is_rejected("IDLE believed", &world([Asks::Nobody; 2]));
    is_rejected("who is idle, asked before s", &world([Asks::BeforeS; 2]));
    is_rejected("an old answer believed", &world([Asks::AfterS, Asks::Old]));
    // Where every switch is seen, IDLE is as good as the answer.
    holds("IDLE, no switch missed", &World { misses: false, ..world([Asks::Nobody; 2]) });
}

/// CPU 0 comes up: the reader starts after a barrier.
fn hotplug(mask_first: bool) -> World {
    const MASK: Addr = SPARE;
    const S: Reg = 0;
    const ONLINE: Reg = 1;
    const MIN: Reg = 2;
    let up = program![Op::AwaitIs(MASK, 1), Op::Fence];
    let (clock, mask) = (program![Op::Clock(S), Op::Fence], program![Op::Load(ONLINE, MASK)]);
    let [first, then] = if mask_first { [mask, clock] } else { [clock, mask] };
    let credit = program![
        Op::Load(MIN, KERNEL),
        Op::Credit(MIN, S),
        when(When::Is(ONLINE, 0), Op::Set(MIN, r(S))),
        Op::Max(PUBLIC, MIN),
    ];
    let threads = vec![
        thread("reader", 0, [up, section(SLOT[0])]),
        thread("hotplug", 1, [program![Op::Store(MASK, c(1)), Op::Fence]]),
        writer(),
        thread("daemon", 3, [arm(), first, then, credit]),
    ];
    World { watched: 0b1, ..World::of(threads, &START) }
}

#[test]
fn offline_cpus() {
    holds("a CPU comes up", &hotplug(false));
    is_rejected("mask read before s", &hotplug(true));
}

/// A kick was sent and the call returned: on a dead event no CPU was interrupted.
#[test]
fn a_kick_is_no_proof() {
    let world = |believed: bool| {
        let swept: &[u8] = if believed { &[] } else { &[0] };
        let threads = vec![
            thread("reader", 0, [section(SLOT[0])]),
            writer(),
            thread("daemon", 3, [arm(), sweep(swept)]),
        ];
        World { watched: 0b1, ..World::of(threads, &START) }
    };
    holds("kick, proved by the slot", &world(false));
    is_rejected("kick's return as proof", &world(true));
}

/// The daemon shares the reader's CPU: where it runs after `s`, the reader does not.
fn own_cpu(asked_first: bool) -> World {
    const S: Reg = 0;
    const OWN: Reg = 1;
    const MIN: Reg = 2;
    let (clock, own) = (program![Op::Clock(S), Op::Fence], program![Op::Own(OWN)]);
    let [first, then] = if asked_first { [own, clock] } else { [clock, own] };
    let credit = program![
        Op::Load(MIN, KERNEL),
        Op::Credit(MIN, S),
        when(When::Is(OWN, 0), Op::Set(MIN, r(S))),
        Op::Max(PUBLIC, MIN),
    ];
    let mut daemon = thread("daemon", 0, [arm(), first, then, credit]);
    daemon.affinity = 0b11;
    // The daemon first: it may be switched out for the reader, and come back elsewhere.
    let threads = vec![thread("reader", 0, [section(SLOT[0])]), writer(), daemon];
    World { watched: 0b11, switches: 3, ..World::of(threads, &START) }
}

#[test]
fn the_daemons_own_cpu() {
    holds("the daemon's own CPU", &own_cpu(false));
    is_rejected("getcpu before s", &own_cpu(true));
}

/// The daemon goes to sleep while a client on CPU 0 stamps and waits: either the client's barrier has
/// passed, or the daemon is awake.
fn sleep(scans: usize, flag_first: bool) -> World {
    const ASLEEP: Addr = SPARE;
    const S: Reg = 0;
    const SEEN: Reg = 1;
    let client = program![
        Op::Fence,
        Op::Clock(T),
        // The futex: it is switched out, and comes back when this can be done.
        Op::Await(W, PUBLIC, T),
    ];
    let flag = program![Op::Store(ASLEEP, c(1)), Op::Fence];
    let mut looks = Program::new();
    for _ in 0..scans {
        looks.extend(program![Op::Clock(S), Op::Fence, Op::Load(SEEN, KERNEL)]);
        // Not idle: it stays awake.
        looks.extend(program![when(When::Not(SEEN, IDLE), Op::Store(ASLEEP, c(0)))]);
        looks.extend(program![when(When::Not(SEEN, IDLE), Op::Set(S, c(0)))]);
    }
    let sleep = program![
        when(When::Not(S, 0), Op::Max(PUBLIC, S)),
        Op::AwaitIs(ASLEEP, 0),
        // Awake: barriers pass as ever.
    ];
    let parts = if flag_first { [flag, looks, sleep] } else { [looks, flag, sleep] };
    World {
        watched: 0b1,
        switches: 2,
        asleep: Some(ASLEEP),
        must_end: vec![0, 1],
        ..World::of(vec![thread("client", 0, [client]), thread("daemon", 3, parts)], &[])
    }
}

#[test]
fn nobody_waits_for_a_daemon_that_sleeps() {
    holds("sleep", &sleep(2, true));
    is_rejected("sleep after one scan", &sleep(1, true));
    is_rejected("asleep after the scans", &sleep(2, false));
}
