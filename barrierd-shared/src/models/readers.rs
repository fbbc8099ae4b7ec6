//! Sections beside a writer that replaces what they read, and another one that frees it.
//!
//! The one that frees is another thread than the one that replaces, and also reuses the memory. loom's search is bounded: a writer
//! that frees by itself is seldom preempted where it matters.

use std::sync::Arc;

use loom::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use loom::sync::atomic::{AtomicU64, fence};
use loom::thread;

use super::world::*;
use crate::layout::LATEST;
use crate::steps::Mutant;
use crate::{Region, Writer};

/// Frees what it can, and uses the memory again.
fn reuse(mut writer: Writer) -> Writer {
    let _ = writer.flush();
    let _ = set(&mut writer, 3);
    writer
}

/// A reader that is there from the beginning reads so many times; nothing but what it shows is evidence.
fn stays(sections: usize, preemptions: usize) {
    explore(preemptions, move || {
        let region = region(3, 1);
        let (mut first, second) = (writer(&region), writer(&region));
        set(&mut first, 1).expect("room");
        let mut reader = region.reader().expect("a slot");
        let reads = thread::spawn(move || {
            (0..sections).for_each(|_| _ = get(&mut reader));
            reader
        });
        let frees = thread::spawn(move || reuse(second));
        let _ = set(&mut first, 2);
        let _ = (reads.join().expect("no panic"), frees.join().expect("no panic"));
    });
}

/// A reader joins, reads and leaves.
fn comes(preemptions: usize) {
    explore(preemptions, || {
        let region = region(3, 1);
        let (mut first, second) = (writer(&region), writer(&region));
        set(&mut first, 1).expect("room");
        let own = region.clone();
        let reads = thread::spawn(move || {
            let mut reader = own.reader().expect("a slot");
            get(&mut reader);
        });
        let frees = thread::spawn(move || reuse(second));
        let _ = set(&mut first, 2);
        let _ = (reads.join().expect("no panic"), frees.join().expect("no panic"));
    });
}

/// A reader's CPU, which takes its barrier point at a chosen place, and the words that it shares with who waits for that.
#[derive(Default)]
pub(super) struct Cpu {
    armed: AtomicU64,
    passed: AtomicU64,
}

impl Cpu {
    pub(super) fn pass(&self) {
        let armed = self.armed.load(Relaxed);
        fence(SeqCst);
        self.passed.store(armed, Relaxed);
        fence(SeqCst);
    }

    /// A barrier for all stamps up to the latest, if it is over when this returns. The watermark is strictly above what it is for.
    pub(super) fn watermark(&self, region: &Region) -> u64 {
        let before = region.inner().data.word(LATEST).load(Acquire);
        fence(SeqCst);
        self.armed.store(1, Relaxed);
        fence(SeqCst);
        if self.passed.load(Acquire) == 1 { before + 1 } else { 0 }
    }
}

/// A reader whose CPU passes a barrier at a place: before, in or after its section.
fn is_waited_for(place: usize, preemptions: usize) {
    explore(preemptions, move || {
        let region = region(3, 1);
        let (mut first, mut second) = (writer(&region), writer(&region));
        set(&mut first, 1).expect("room");
        let mut reader = region.reader().expect("a slot");
        let cpu = Arc::new(Cpu::default());
        let its = Arc::clone(&cpu);
        let reads = thread::spawn(move || {
            let here = |at| {
                if at == place {
                    its.pass()
                }
            };
            here(0);
            let guard = reader.pin();
            here(1);
            number_after(&guard, || here(2));
            drop(guard);
            here(3);
            reader
        });
        let own = region.clone();
        second.barriers.asked = Some(Box::new(move || cpu.watermark(&own)));
        let frees = thread::spawn(move || reuse(second));
        let _ = set(&mut first, 2);
        let _ = (reads.join().expect("no panic"), frees.join().expect("no panic"));
    });
}

#[test]
fn who_stays_shows_what_it_has_seen() {
    stays(2, 2);
    for mutant in [
        Mutant::RelaxedLatest,
        Mutant::RelaxedPin,
        Mutant::RelaxedUnpin,
        Mutant::RelaxedScan,
        Mutant::RelaxedLink,
        Mutant::RelaxedStep,
        Mutant::IdleNeedsNothing,
        Mutant::NoSlots,
    ] {
        rejects(mutant, || stays(2, 2));
    }
}

#[test]
fn who_comes_is_seen_or_sees() {
    comes(3);
    for mutant in
        [Mutant::UnfencedTake, Mutant::NotTaken, Mutant::RelaxedLeave, Mutant::UnfencedStamp]
    {
        rejects(mutant, || comes(3));
    }
}

#[test]
fn who_rests_is_waited_for() {
    (0..4).for_each(|place| is_waited_for(place, 2));
    rejects(Mutant::ScanBeforeWatermark, || (0..4).for_each(|place| is_waited_for(place, 2)));
}
