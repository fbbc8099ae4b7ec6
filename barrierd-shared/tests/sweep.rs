//! What turns do for reclamation of their own accord, a little each.
#![cfg(feature = "testing")]

use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use barrierd_shared::testing::{Mutant, leave_out};
use barrierd_shared::{
    Field, Held, Link, Options, Region, SharedAtomic, SharedCell, SharedMap, View, WriteError,
    Writer, WriterOptions,
};

const CELL: SharedCell<u64> = SharedCell::at(0);
const OTHER: SharedCell<u64> = SharedCell::at(1);

/// The mutants are the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_up(readers: usize) -> (Region, Writer) {
    let region = Region::create_in_memory(Options::new(1 << 16).readers(readers)).expect("made");
    let options = WriterOptions::default().barrier("/nowhere/barrier").membarrier(false);
    let writer = region.writer_with(&options).expect("a slot is free");
    (region, writer)
}

fn turns(writer: &mut Writer, count: usize) {
    (0..count).for_each(|_| drop(writer.turn().expect("a turn")));
}

#[test]
fn turns_free_what_nobody_reads() {
    let _alone = alone();
    let (region, mut writer) = set_up(64);
    for value in 0..1000 {
        CELL.set(&mut writer, value).expect("room");
        assert!(region.stats().waiting < 64);
    }
    turns(&mut writer, 40);
    assert_eq!(region.stats().waiting, 0);
}

#[test]
fn a_turn_that_retires_much_has_it_freed_as_fast() {
    let _alone = alone();
    let (region, mut writer) = set_up(1);
    let cells: Vec<_> = (0..200).map(SharedCell::<u64>::at).collect();
    cells.iter().for_each(|cell| cell.set(&mut writer, 1).expect("room"));
    let turn = writer.turn().expect("a turn");
    for cell in 0..200 {
        let root: &SharedAtomic<Field<u64>> = turn.root(cell);
        turn.remove(root, Link::NULL).expect("a change");
    }
    drop(turn);
    assert_eq!(region.stats().waiting, 200);
    turns(&mut writer, 40);
    assert_eq!(region.stats().waiting, 0);
}

#[test]
fn no_turn_frees_all_that_a_long_section_held_back() {
    let _alone = alone();
    let (region, mut writer) = set_up(4);
    CELL.set(&mut writer, 0).expect("room");
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    for value in 1..=500 {
        CELL.set(&mut writer, value).expect("room");
    }
    drop(guard);
    drop(reader);
    assert_eq!(region.stats().waiting, 500);
    let mut freed = Vec::new();
    while region.stats().waiting > 0 && freed.len() < 1000 {
        let before = region.stats().waiting;
        // It retires one more.
        CELL.set(&mut writer, 0).expect("room");
        freed.push(before + 1 - region.stats().waiting);
    }
    assert!(freed.iter().all(|&blocks| blocks <= 4), "{freed:?}");
    turns(&mut writer, 40);
    assert_eq!(region.stats().waiting, 0);
}

/// What one turn frees at most.
const PORTION: u64 = 4096;
/// So many bytes are more blocks than that.
const MUCH: usize = 1 << 20;

fn set(writer: &mut Writer) -> Result<(), WriteError> {
    CELL.set(writer, 0)
}

/// Fills the region behind a section, which then ends. Returns the number of blocks that wait.
fn fill(
    region: &Region,
    writer: &mut Writer,
    replace: impl Fn(&mut Writer) -> Result<(), WriteError>,
) -> u64 {
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    while replace(writer).is_ok() {}
    drop(guard);
    let waiting = region.stats().waiting;
    assert!(waiting > 3 * PORTION, "{waiting}");
    waiting
}

fn much() -> (Region, Writer) {
    let region = Region::create_in_memory(Options::new(MUCH).readers(1)).expect("made");
    let options = WriterOptions::default().barrier("/nowhere/barrier").membarrier(false);
    let writer = region.writer_with(&options).expect("a slot is free");
    (region, writer)
}

#[test]
fn a_turn_frees_so_many_blocks_at_most_also_in_a_full_region() {
    let _alone = alone();
    let (region, mut writer) = much();
    let before = fill(&region, &mut writer, set);
    let freed = writer.turn().expect("a turn").reclaim().expect("nobody reads") as u64;
    assert_eq!((freed, region.stats().waiting), (PORTION, before - PORTION));
    drop(region);
    let (region, mut writer) = much();
    let before = fill(&region, &mut writer, set);
    CELL.set(&mut writer, 1).expect("room");
    // One more was retired.
    assert_eq!(region.stats().waiting, before - PORTION + 1);
    drop(region);
    let (region, mut writer) = much();
    let map = SharedMap::<u64, u64>::at(1);
    let insert = |writer: &mut Writer| map.insert(writer, &1, 1).map(drop);
    let before = fill(&region, &mut writer, insert);
    insert(&mut writer).expect("room");
    assert_eq!(region.stats().waiting, before - PORTION + 1);
}

#[test]
fn what_takes_several_turns_is_freed_by_one_call() {
    let _alone = alone();
    let (region, mut writer) = much();
    let before = fill(&region, &mut writer, set);
    assert_eq!(writer.flush().expect("turns") as u64, before);
    let before = fill(&region, &mut writer, set);
    let late = writer.synchronize(Instant::now());
    assert!(matches!(late, Err(WriteError::Deadline { why: Held::Turns, .. })), "{late:?}");
    assert_eq!(region.stats().waiting, before - PORTION);
    writer.synchronize(Instant::now() + Duration::from_secs(60)).expect("nobody reads");
    assert_eq!(region.stats().waiting, 0);
    // A value that takes what several turns free.
    fill(&region, &mut writer, set);
    let large = std::thread::Builder::new().stack_size(64 << 20);
    let set = move || SharedCell::<[u64; 40_000]>::at(1).set(&mut writer, [1; 40_000]);
    large.spawn(set).expect("a thread").join().expect("no panic").expect("room");
}

#[test]
fn a_section_holds_back_and_a_dead_reader_does_not() {
    let _alone = alone();
    let (region, mut writer) = set_up(4);
    CELL.set(&mut writer, 1).expect("room");
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    CELL.set(&mut writer, 2).expect("room");
    turns(&mut writer, 100);
    assert_eq!((region.stats().waiting, CELL.of(&guard)), (1, Some(2)));
    drop(guard);
    drop(reader);
    // As a dead one leaves it: a section, and no lock.
    let slots = std::fs::File::from(region.descriptors().1.try_clone_to_owned().expect("a clone"));
    slots.write_all_at(&[0; 8], 4096 + 3 * 128).expect("written");
    // After a reader that lived it asks no other for a while.
    let begun = Instant::now();
    while region.stats().waiting > 0 && begun.elapsed() < Duration::from_secs(60) {
        turns(&mut writer, 100);
    }
    assert_eq!((region.stats().waiting, region.stats().deaths), (0, 1));
}

/// A reader joins while a look is under way, in a slot that it has passed, and reads what is retired then. Returns whether that was
/// freed, beside its section.
fn freed_beside_a_section() -> bool {
    // So many slots that a look takes some turns.
    (0..60).any(|before| {
        let (region, mut writer) = set_up(256);
        CELL.set(&mut writer, 1).expect("room");
        OTHER.set(&mut writer, 1).expect("room");
        OTHER.set(&mut writer, 2).expect("room");
        turns(&mut writer, before);
        let mut reader = region.reader().expect("a slot");
        let guard = reader.pin();
        CELL.set(&mut writer, 2).expect("room");
        assert!(region.stats().waiting > 0);
        turns(&mut writer, 80);
        drop(guard);
        region.stats().waiting == 0
    })
}

#[test]
fn a_look_says_nothing_of_what_was_unlinked_while_it_was_under_way() {
    let _alone = alone();
    assert!(!freed_beside_a_section());
    leave_out(Some(Mutant::LateBound));
    let found = freed_beside_a_section();
    leave_out(None);
    assert!(found, "LateBound is found");
}
