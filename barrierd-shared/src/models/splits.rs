//! Free blocks that are joined and split by a writer that is killed, and the one that takes over.

use std::sync::atomic::AtomicBool;

use loom::thread;

use super::world::*;
use crate::change::Turn;
use crate::layout::BLOCKS;
use crate::link::{SharedAtomic, View};
use crate::share::Field;
use crate::steps::Mutant;
use crate::{Options, Region, Writer};

type Words<const N: usize> = [Field<u64>; N];

/// Blocks of 32, 64 and 64 bytes before one that is in use, and no room for more. Joined they are one of 128 and one of 32, which
/// begins in the middle of an old one.
const BYTES: usize = 160 + BLOCK;

fn uses_all(turn: &Turn<'_>) {
    let _ = (turn.alloc::<Words<1>>(), turn.alloc::<Words<5>>(), turn.alloc::<Words<5>>());
    let root: &SharedAtomic<Pair> = turn.root(0);
    turn.put(root, turn.alloc::<Pair>().expect("room")).expect("a change");
}

/// Has blocks joined for one of 96 bytes, which is split off one of 128, and later splits that.
fn divides(writer: &mut Writer) {
    if let Ok(turn) = writer.turn() {
        let _ = turn.alloc::<Words<9>>();
    }
    if let Ok(turn) = writer.turn() {
        let _ = (turn.alloc::<Words<1>>(), turn.alloc::<Words<5>>());
    }
}

/// A writer is killed in that, and another one goes on.
fn dies(step: u64, came: &AtomicBool) {
    let bytes = usize::try_from(BLOCKS).expect("few") + BYTES;
    let region = Region::create_in_memory(Options::new(bytes).readers(1).writers(2));
    let region = region.expect("made");
    let (mut first, mut second) = (writer(&region), writer(&region));
    uses_all(&first.turn().expect("free"));
    let other = thread::spawn(move || {
        divides(&mut second);
        second
    });
    killed(first, step, came, divides);
    let mut second = other.join().expect("no panic");
    let turn = second.turn().expect("nobody lives in a turn");
    let blocks = turn.census().expect("in order");
    assert_eq!((blocks.held, blocks.live, blocks.waiting), (0, 1, 0));
    assert!(turn.alloc::<Words<9>>().is_ok(), "all of it is there, in one piece or joined");
}

#[test]
fn every_byte_stays_in_one_block() {
    at_each_store(dies);
    rejects(Mutant::ForwardJoin, || at_each_store(dies));
}
