//! The daemon's barrier: two readers on CPUs that take events, a writer that retires and scans, the
//! daemon that arms, sweeps and publishes, each on a CPU of its own.

use crate::machine::*;
use crate::programs::*;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    NoWait,
    NoScan,
    ScanBeforeWatermark,
    SlotLate,
    IdleEarly,
    /// A watermark is taken to cover stamps equal to it.
    NotLess,
    UnlinkAfterStamp,
    UnfencedStamp,
}

fn world(mutant: Mutant, sections: [usize; 2], scans: usize) -> World {
    world_on(false, mutant, sections, scans)
}

/// `coarse`: the clock ties.
fn world_on(coarse: bool, mutant: Mutant, sections: [usize; 2], scans: usize) -> World {
    let reader = |cpu: u8| {
        let i = usize::from(cpu);
        let section = match mutant {
            Mutant::SlotLate => section_slot_late(SLOT[i]),
            Mutant::IdleEarly => section_idle_early(SLOT[i]),
            _ => section(SLOT[i]),
        };
        thread(["reader 0", "reader 1"][i], cpu, vec![section; sections[i]])
    };
    let mut writer = match mutant {
        Mutant::UnlinkAfterStamp => [fence_and_stamp(T), program![Op::Store(LINK, c(0))]].concat(),
        // The exchange would be a fence, too, but it comes after the clock.
        Mutant::UnfencedStamp => {
            program![Op::Store(LINK, c(0)), Op::Clock(T), Op::Beyond(LATEST, T)]
        }
        _ if coarse => [program![Op::Store(LINK, c(0))], coarse_stop(T)].concat(),
        _ => unlink_and_stamp(),
    };
    for _ in 0..scans {
        // A thread that waits for news: a scan without any frees nothing new, except by a pin that is gone.
        let learn = if mutant == Mutant::NoWait {
            program![Op::Clock(W)]
        } else if mutant == Mutant::NotLess {
            program![Op::Await(W, PUBLIC, W), Op::Later(W, W)]
        } else {
            program![Op::Await(W, PUBLIC, W)]
        };
        let look = match mutant {
            Mutant::NoScan => look(&[]),
            _ => look(&SLOT),
        };
        if mutant == Mutant::ScanBeforeWatermark {
            writer.extend(program![Op::Load(4, SLOT[0]), Op::Load(5, SLOT[1])]);
            writer.extend(learn);
            writer.extend([program![Op::Set(M, r(W))], least_pin(4), least_pin(5)].concat());
        } else {
            writer.extend(learn);
            writer.extend(look);
        }
        writer.extend(publish());
        writer.extend(free(NODE));
    }
    // The sweep's own clock only tells how far idle CPUs have passed; here none idles.
    let daemon = || [if coarse { coarse_arm() } else { arm() }, sweep(&[0, 1])];
    let threads = vec![
        reader(0),
        reader(1),
        thread("writer", 2, [writer]),
        thread("daemon", 3, (0..scans).flat_map(|_| daemon())),
    ];
    World { watched: 0b11, ..World::of(threads, &BEGIN) }
}

/// Too large to be searched whole.
pub(crate) fn large() -> World {
    world(Mutant::None, [3, 3], 3)
}

pub(crate) fn large_no_scan() -> World {
    world(Mutant::NoScan, [3, 3], 3)
}

#[test]
fn two_readers_are_never_freed_under() {
    holds("passive, one section each", &world(Mutant::None, [1, 1], 1));
    holds("passive, two sections of one reader, two scans", &world(Mutant::None, [2, 0], 2));
}

#[test]
fn mutants() {
    for (name, mutant) in [
        ("no wait", Mutant::NoWait),
        ("no scan", Mutant::NoScan),
        ("scan before watermark", Mutant::ScanBeforeWatermark),
        ("slot late", Mutant::SlotLate),
        ("idle early", Mutant::IdleEarly),
        ("unlink after stamp", Mutant::UnlinkAfterStamp),
        ("unfenced stamp", Mutant::UnfencedStamp),
    ] {
        is_rejected(name, &world(mutant, [1, 0], 1));
    }
}

#[test]
fn a_watermark_says_nothing_of_what_is_as_late() {
    holds("passive, a clock that ties", &world_on(true, Mutant::None, [1, 0], 2));
    is_rejected("not less", &world_on(true, Mutant::NotLess, [1, 0], 2));
}
