//! A look that goes on from turn to turn, beside readers.

use std::sync::Arc;

use loom::thread;

use super::readers::Cpu;
use super::world::*;
use crate::steps::Mutant;
use crate::{Region, Writer};

const PREEMPTIONS: usize = 3;

/// Returns a region with something that waits, the writer that replaces, and one whose next turn begins a look.
fn waits() -> (Region, Writer, Writer) {
    let region = region(4, 1);
    let (mut first, mut second) = (writer(&region), writer(&region));
    drop(second.turn().expect("free"));
    set(&mut first, 1).expect("room");
    set(&mut first, 2).expect("room");
    (region, first, second)
}

/// Begins a look, ends it, frees by it, and uses the memory again. Before one of these turns the other writer has one.
fn looks((first, second): (&mut Writer, &mut Writer), place: usize) {
    for turn in 0..4 {
        if turn == place {
            set(first, 3).expect("room");
        }
        drop(second.turn().expect("free"));
    }
    set(first, 4).expect("room");
}

/// A reader joins meanwhile.
fn comes(place: usize) {
    explore(PREEMPTIONS, move || {
        let (region, mut first, mut second) = waits();
        let reads = thread::spawn(move || {
            get(&mut region.reader().expect("a slot"));
        });
        looks((&mut first, &mut second), place);
        reads.join().expect("no panic");
    });
}

/// A reader's CPU passes a barrier before its section. The look learns of that before its turn, and another turn comes between.
fn is_waited_for() {
    explore(PREEMPTIONS, || {
        let (region, mut first, mut second) = waits();
        let mut reader = region.reader().expect("a slot");
        let cpu = Arc::new(Cpu::default());
        let its = Arc::clone(&cpu);
        second.barriers.asked = Some(Box::new(move || {
            let watermark = cpu.watermark(&region);
            let _ = set(&mut first, 3);
            watermark
        }));
        let reads = thread::spawn(move || {
            its.pass();
            get(&mut reader);
            reader
        });
        (0..4).for_each(|_| drop(second.turn().expect("free")));
        // Where nothing was freed there is no room.
        let _ = set(&mut second, 4);
        reads.join().expect("no panic");
    });
}

#[test]
fn a_look_says_nothing_of_what_was_unlinked_while_it_was_under_way() {
    (0..4).for_each(comes);
    rejects(Mutant::LateBound, || (0..4).for_each(comes));
}

#[test]
fn a_look_says_nothing_of_what_was_stamped_after_its_barrier() {
    is_waited_for();
    rejects(Mutant::LaxWatermark, is_waited_for);
}
