//! Pins in virtual time ([`VtimeMemory`]): a stamp is translated into what had passed before it.
//!
//! The stamp is fenced here and one round is enough; that an unfenced one needs two is for the
//! x86-TSO machine.

use super::*;
use crate::protocol::{VtimeMemory, scan};
use loom::sync::atomic::Ordering::Release;

struct Domain {
    world: World,
    reader: Reader,
    cpu: Arc<Cpu>,
    vtime: AtomicU64,
    last_interrupt_vtime: AtomicU64,
}

/// The node's tag is 1.
const TAG: u64 = 1;

/// From before the section to after it.
const PLACES: core::ops::RangeInclusive<usize> = 1..=8;

fn execute(place: usize) {
    let domain = Arc::new(Domain {
        world: World::new(),
        reader: Reader::new(),
        cpu: Cpu::new(),
        vtime: AtomicU64::new(TAG),
        last_interrupt_vtime: AtomicU64::new(0),
    });
    let mut threads = Vec::new();
    let mut spawn = |work: fn(&Domain, usize)| {
        let domain = domain.clone();
        threads.push(thread::spawn(move || work(&domain, place)));
    };
    spawn(|domain, place| {
        interrupt_at(place, &domain.cpu);
        interrupt_here();
        domain.world.read(&domain.reader, false);
        interrupt_here();
    });
    // Another thread's stamp, which the reader may have seen when it pins.
    spawn(|domain, _| {
        let world = &domain.world;
        world.words.fence_and_stamp(&world.floor, || world.now());
    });
    // The writer and, after its stamp, the daemon's round.
    spawn(|domain, _| {
        domain.world.unlink();
        fence(SeqCst);
        let tag = domain.vtime.load(Relaxed);
        if domain.cpu.has_passed(domain.world.now()) {
            domain.last_interrupt_vtime.store(tag + 1, Release);
        }
    });

    // `Engine::adopt`, then the scan, then what is safe.
    let mut memory = VtimeMemory::default();
    let words = &domain.world.words;
    let early = broken(Mutant::LatestBeforeVtime).then(|| words.latest());
    let vtime = domain.last_interrupt_vtime.load(Acquire);
    let latest = if broken(Mutant::EraForVtime) { words.era() } else { words.latest() };
    memory.remember(early.unwrap_or(latest), vtime);
    // No news in nanoseconds: this scan is about virtual time alone.
    let found = scan(&domain.world.words, || 0, || core::iter::once(&domain.reader));
    domain.world.words.publish_vtime(memory.passed(found.oldest));
    if TAG < domain.world.words.safe().vtime {
        domain.world.free();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    DUE.set(None);
}

fn model(place: usize, preemptions: usize) {
    explore(preemptions, move || execute(place));
}

#[test]
fn a_pin_holds_back_what_passed_after_it() {
    PLACES.for_each(|place| model(place, 2));
}

#[test]
fn mutants() {
    // Between the load of the link and the access to the node.
    rejects(Mutant::LatestBeforeVtime, 5..=5, |place| model(place, 3));
    rejects(Mutant::EraForVtime, 5..=5, |place| model(place, 3));
    rejects(Mutant::NoScan, 5..=5, |place| model(place, 3));
}
