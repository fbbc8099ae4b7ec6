//! A barrier that one domain buys and another uses (`evidence/membarrier.rs`), on a clock that steps back by any
//! amount: the other domain's stamp is what the floor says.

use super::*;
use crate::protocol::{raise, scan};
use core::cell::Cell;
use loom::sync::atomic::Ordering::Release;

struct Domains {
    /// The domain that retires, and reads.
    world: World,
    reader: Reader,
    cpu: Arc<Cpu>,
    /// The domain that buys.
    buyer: Words,
    stamp: AtomicU64,
}

std::thread_local!(static FREED: Cell<bool> = const { Cell::new(false) });

impl Domains {
    /// `Membarrier::buy`: the watermark that it gives; 0 is none.
    fn buy(&self) -> u64 {
        let floor = &self.world.floor;
        // This clock is ahead of the other domain's.
        let own = self.buyer.fence_and_stamp(floor, || (START + 1) * GRAIN).ns;
        let early = (!broken(Mutant::FloorAfterBarrier)).then(|| raise(floor, own));
        let passed = self.cpu.has_passed(own);
        let watermark = early.unwrap_or_else(|| raise(floor, own));
        if passed { watermark } else { 0 }
    }

    /// The other domain's scan, and what it frees.
    fn scan(&self, watermark: u64) {
        scan(&self.world.words, || watermark, || core::iter::once(&self.reader));
        let stamp = self.stamp.load(Acquire);
        if stamp != 0 && self.world.free_if_safe(stamp) {
            FREED.set(true);
        }
    }
}

fn execute(place: usize) {
    let domains = Arc::new(Domains {
        world: World::new(),
        reader: Reader::new(),
        cpu: Cpu::new(),
        buyer: Words::new(),
        stamp: AtomicU64::new(0),
    });
    let of = domains.clone();
    let reads = thread::spawn(move || {
        interrupt_at(place, &of.cpu);
        interrupt_here();
        of.world.read(&of.reader, false);
        interrupt_here();
    });
    let of = domains.clone();
    let buys = thread::spawn(move || of.scan(of.buy()));
    domains.world.unlink();
    // The clock has stepped back: whatever came before, it shows less than the buyer's.
    let stamp = domains.world.words.fence_and_stamp(&domains.world.floor, || START * GRAIN).ns;
    domains.stamp.store(stamp, Release);
    reads.join().unwrap();
    buys.join().unwrap();
    DUE.set(None);
}

/// As in `passive.rs`: before the section, between its steps, after it.
const PLACES: core::ops::RangeInclusive<usize> = 1..=8;

fn explore_it(place: usize) {
    explore(3, move || execute(place));
}

#[test]
fn b1_what_others_buy_is_never_used_too_early() {
    FREED.set(false);
    PLACES.for_each(explore_it);
    assert!(FREED.get(), "the model never frees");
}

#[test]
fn b1_mutant_floor_not_looked_at() {
    rejects(Mutant::FloorUnseen, PLACES, explore_it);
}

#[test]
fn b1_mutant_floor_shown_after_the_barrier() {
    rejects(Mutant::FloorAfterBarrier, PLACES, explore_it);
}
