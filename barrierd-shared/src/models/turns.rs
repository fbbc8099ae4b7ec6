//! Turns that take over from each other, and from writers that were killed before one of their stores.

use std::sync::atomic::AtomicBool;

use loom::thread;

use super::world::*;
use crate::steps::Mutant;
use crate::{Reader, Region, Writer};

/// What must hold as soon as nobody is in a turn.
fn in_order(writer: &mut Writer) {
    let turn = writer.turn().expect("nobody lives in a turn");
    let blocks = turn.census().expect("in order");
    assert_eq!((blocks.live, blocks.held), (1, 0));
    assert!((1..=3).contains(&number(&turn)));
}

fn set_up() -> (Region, [Writer; 3], Reader) {
    let region = region(4, 1);
    let [mut first, second, third] = std::array::from_fn(|_| writer(&region));
    set(&mut first, 1).expect("room");
    let reader = region.reader().expect("a slot");
    (region, [first, second, third], reader)
}

fn sets(writer: &mut Writer) {
    let _ = set(writer, 2);
}

/// A writer is killed beside another one, and a reader.
fn beside(step: u64, came: &AtomicBool) {
    let (_region, [first, mut second, _], mut reader) = set_up();
    let reads = thread::spawn(move || {
        get(&mut reader);
        reader
    });
    let other = thread::spawn(move || {
        let _ = set(&mut second, 3);
        second
    });
    killed(first, step, came, sets);
    let _reader = reads.join().expect("no panic");
    in_order(&mut other.join().expect("no panic"));
}

/// Two writers take over from one that was killed.
fn both_take_over(step: u64, came: &AtomicBool) {
    let (_region, [first, mut second, mut third], _) = set_up();
    killed(first, step, came, sets);
    let other = thread::spawn(move || {
        let _ = set(&mut third, 3);
        third
    });
    let _ = set(&mut second, 3);
    drop(other.join().expect("no panic"));
    in_order(&mut second);
}

#[test]
fn a_killed_writer_s_call_is_made_wholly_or_not_at_all() {
    at_each_store(beside);
    for mutant in
        [Mutant::LateIntention, Mutant::Unasked, Mutant::RelaxedStep, Mutant::UnorderedDeath]
    {
        rejects(mutant, || at_each_store(beside));
    }
}

#[test]
fn one_at_most_has_the_turn() {
    at_each_store(both_take_over);
    for mutant in [Mutant::LateTakeover, Mutant::RelaxedTake, Mutant::RelaxedEnd] {
        rejects(mutant, || at_each_store(both_take_over));
    }
}
