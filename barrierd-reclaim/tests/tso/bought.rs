//! Barriers that the domain buys (`evidence/membarrier.rs`), and readers that fence.

use crate::machine::*;
use crate::programs::*;

const OWN: Reg = 4;
/// A stamp that a writer hands to the thread that frees, in memory: 0 is none yet.
const STAMP: Addr = SPARE;

#[derive(Clone, Copy, PartialEq)]
enum Mutant {
    None,
    NotAll,
    TimeAfterBarrier,
}

/// The writer buys a barrier for itself; reader 1 may be of another process.
fn by_clock(mutant: Mutant) -> World {
    let time = program![Op::Clock(W)];
    let barrier = match mutant {
        Mutant::NotAll => program![Op::Interrupt(0)],
        _ => program![Op::Interrupt(0), Op::Interrupt(1)],
    };
    let [first, then] =
        if mutant == Mutant::TimeAfterBarrier { [barrier, time] } else { [time, barrier] };
    // Another thread's purchase: its time may be later than the stamp, its barrier before the unlink.
    let buyer = [first, then, look(&SLOT), publish()];
    let freer = program![Op::Await(M, SAFE, T), Op::Free(NODE)];
    let threads = vec![
        thread("reader 0", 0, [section(SLOT[0])]),
        thread("reader 1", 1, [section(SLOT[1])]),
        thread("writer", 2, [unlink_and_stamp(), freer]),
        thread("buyer", 3, buyer),
    ];
    World::of(threads, &BEGIN)
}

#[test]
fn a_bought_barrier_covers_what_was_stamped_before() {
    holds("membarrier", &by_clock(Mutant::None));
    is_rejected("membarrier for a shared domain", &by_clock(Mutant::NotAll));
    is_rejected("the time after membarrier", &by_clock(Mutant::TimeAfterBarrier));
}

/// Within a domain the buyer's own stamp is the watermark, without the margin of clocks.
fn by_stamp(stamp_after: bool) -> World {
    let barrier = program![Op::Interrupt(0), Op::Interrupt(1)];
    let own = fence_and_stamp(OWN);
    let [first, then] = if stamp_after { [barrier, own] } else { [own, barrier] };
    let buyer = [first, then, behind(W, OWN), look(&SLOT), publish()];
    let writer = [
        program![Op::Store(LINK, c(0))],
        fence_and_stamp(T),
        program![Op::Await(M, SAFE, T), Op::Free(NODE)],
    ];
    let threads = vec![
        thread("reader 0", 0, [section(SLOT[0])]),
        thread("reader 1", 1, [section(SLOT[1])]),
        thread("writer", 2, writer),
        thread("buyer", 3, buyer),
    ];
    World::of(threads, &BEGIN)
}

#[test]
fn a_bought_barrier_covers_all_stops_before_the_buyers() {
    holds("membarrier, by stamps", &by_stamp(false));
    is_rejected("the stamp after membarrier", &by_stamp(true));
}

/// `Source::Fence`.
fn fenced(reader_fences: bool, scanner_fences: bool) -> World {
    let reader = |slot| {
        let mut section = section(slot);
        if reader_fences {
            section.insert(2, Step::from(Op::Fence));
        }
        section
    };
    let mut scan = [fence_and_stamp(OWN), behind(W, OWN), look(&SLOT), publish()].concat();
    if !scanner_fences {
        // A stamp that is visible, and a scan that comes before it.
        scan =
            [look(&SLOT), fence_and_stamp(OWN), behind(W, OWN), program![Op::Min(M, W)], publish()]
                .concat();
        scan[0] = Step::from(Op::Set(M, c(u8::MAX)));
    }
    let writer = [
        program![Op::Store(LINK, c(0))],
        fence_and_stamp(T),
        program![Op::Store(STAMP, r(T)), Op::Await(M, SAFE, T), Op::Free(NODE)],
    ];
    let threads = vec![
        thread("reader 0", 0, [reader(SLOT[0])]),
        thread("reader 1", 1, [reader(SLOT[1])]),
        thread("writer", 2, writer),
        thread("scanner", 3, [scan]),
    ];
    World::of(threads, &BEGIN)
}

#[test]
fn readers_that_fence_need_no_barrier() {
    holds("fences", &fenced(true, true));
    is_rejected("unfenced reader", &fenced(false, true));
    is_rejected("the slots before the scanner's stamp", &fenced(true, false));
}
