//! Free blocks are split and joined: sizes may change, and wherever a writer is killed in that, every block is accounted for.
#![cfg(feature = "testing")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use barrierd_shared::testing::{Mutant, kill_at, leave_out};
use barrierd_shared::{
    Census, Field, Held, Link, Options, Region, SharedAtomic, Turn, View, WriteError, Writer,
    WriterOptions, shareable,
};

type Small = Field<u64>;
type Middle = [Field<u64>; 5];
type Large = [Field<u64>; 13];
// With their headers.
const SMALL: usize = 32;
const MIDDLE: usize = 64;
const LARGE: u64 = 128;
/// Where the blocks begin.
const BLOCKS: usize = 8192;

shareable! {
    struct Node { key: Field<u64>, next: SharedAtomic<Node> }
}

/// The mutants are the process's.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn region(bytes: usize) -> Region {
    let options = Options::new(BLOCKS + bytes).readers(2).writers(2);
    Region::create_in_memory(options).expect("made")
}

fn writer(region: &Region) -> Writer {
    let options = WriterOptions::default().barrier("/nowhere/barrier");
    region.writer_with(&options).expect("a slot is free")
}

fn put<T: barrierd_shared::Shareable>(turn: &Turn<'_>, root: usize) -> Result<(), WriteError> {
    turn.replace(turn.root::<T>(root), turn.alloc::<T>()?).map(drop)
}

fn remove(turn: &Turn<'_>, root: usize) -> Result<(), WriteError> {
    let link: &SharedAtomic<Small> = turn.root(root);
    if link.link().is_null() { Ok(()) } else { turn.remove(link, Link::NULL) }
}

/// How many blocks of a kind there is room for at once, in one turn.
fn room_for<T: barrierd_shared::Shareable>(writer: &mut Writer) -> usize {
    let turn = writer.turn().expect("a turn");
    let mut held = Vec::new();
    while let Ok(one) = turn.alloc::<T>() {
        held.push(one);
    }
    held.len()
}

#[test]
fn what_is_free_in_blocks_of_one_size_serves_all_others() {
    let _alone = alone();
    fn kinds(writer: &mut Writer) -> [usize; 3] {
        [room_for::<Small>(writer), room_for::<Middle>(writer), room_for::<Large>(writer)]
    }
    let bytes = 40 << 10;
    let fresh = [
        room_for::<Small>(&mut writer(&region(bytes))),
        room_for::<Middle>(&mut writer(&region(bytes))),
        room_for::<Large>(&mut writer(&region(bytes))),
    ];
    assert_eq!(fresh, [bytes / 32, bytes / 64, bytes / 128]);
    let region = region(bytes);
    let mut writer = writer(&region);
    for _ in 0..3 {
        assert_eq!(kinds(&mut writer), fresh);
    }
    let turn = writer.turn().expect("a turn");
    // The greatest block that fits, with its header.
    let _all = turn.alloc::<[Field<u64>; 4093]>().expect("all of it is joined");
    turn.census().expect("lists that agree");
}

#[test]
fn memory_that_is_free_in_small_pieces_is_called_that() {
    let _alone = alone();
    let region = region(40 << 10);
    let mut writer = writer(&region);
    let turn = writer.turn().expect("a turn");
    while turn.has_room::<Node>() {
        let fresh = turn.alloc::<Node>().expect("room");
        fresh.lead(|node| &node.next, turn.root::<Node>(0).link());
        turn.put(turn.root(0), fresh).expect("a change");
    }
    assert!(matches!(
        turn.alloc::<Large>(),
        Err(WriteError::OutOfMemory { why: Held::Nothing, .. })
    ));
    // Each second one stays.
    let mut at = turn.load(turn.root::<Node>(0));
    let mut left = 0;
    while let Some(node) = at {
        if let Some(next) = turn.load(&node.next) {
            turn.remove(&node.next, next.next.link()).expect("a change");
        }
        (at, left) = (turn.load(&node.next), left + 1);
    }
    drop(turn);
    writer.flush().expect("a turn");
    let turn = writer.turn().expect("a turn");
    let census = turn.census().expect("in order");
    assert_eq!(census.live, left);
    for _ in 0..3 {
        match turn.alloc::<Large>() {
            Err(WriteError::OutOfMemory { why: Held::OtherSizes { free_bytes }, .. }) => {
                assert_eq!(free_bytes, census.carved_bytes - census.used_bytes);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_turn_has_stays_when_the_rest_is_joined() {
    let _alone = alone();
    let region = region(2 * SMALL + 2 * MIDDLE);
    let mut writer = writer(&region);
    {
        let turn = writer.turn().expect("a turn");
        for root in [1, 0] {
            put::<Small>(&turn, root).expect("room");
        }
        for root in [2, 3] {
            put::<Middle>(&turn, root).expect("room");
        }
    }
    let mut turn = writer.turn().expect("a turn");
    for root in [1, 2, 3] {
        remove(&turn, root).expect("a change");
    }
    turn.reclaim().expect("no reader");
    let mine = turn.alloc::<Small>().expect("room");
    let large = turn.alloc::<Large>().expect("joined, beside what this turn has");
    assert_ne!(mine.link().offset(), large.link().offset());
    let census = turn.census().expect("in order");
    assert_eq!((census.live, census.held), (1, 2));
    turn.put(turn.root(4), mine).expect("published");
    turn.put(turn.root(5), large).expect("published");
    assert_eq!(turn.census().expect("in order").live, 3);
}

/// A region that is full: blocks of 32, 64 and 64 bytes that are free, and one behind them that may be.
fn set_up(tail: bool) -> Region {
    let region = region(2 * SMALL + 2 * MIDDLE);
    let mut writer = writer(&region);
    let turn = writer.turn().expect("a turn");
    put::<Small>(&turn, 0).expect("room");
    put::<Middle>(&turn, 1).expect("room");
    put::<Middle>(&turn, 2).expect("room");
    put::<Small>(&turn, 3).expect("room");
    for root in 0..if tail { 4 } else { 3 } {
        remove(&turn, root).expect("a change");
    }
    drop(turn);
    writer.flush().expect("no reader");
    region
}

fn census(writer: &mut Writer) -> Result<Census, String> {
    let turn = writer.turn().map_err(|error| error.to_string())?;
    turn.census().map_err(|error| error.to_string())
}

fn put_large(writer: &mut Writer) -> Result<(), WriteError> {
    put::<Large>(&writer.turn()?, 4)
}

/// Kills what joins at each of its steps, and who recovers at each of its.
fn try_all(tail: bool) -> Result<u64, String> {
    for step in 0.. {
        for second in 0.. {
            let region = set_up(tail);
            let mut first = writer(&region);
            if let Some(done) = kill_at(step, move || put_large(&mut first)) {
                return done.map(|()| step).map_err(|error| error.to_string());
            }
            let error = |what| format!("killed at step {step}, recovery at {second}: {what}");
            let options = WriterOptions::default().barrier("/nowhere/barrier");
            let recovered = kill_at(second, || {
                region.writer_with(&options).is_ok_and(|mut one| census(&mut one).is_ok())
            });
            let last = region.writer_with(&options);
            let mut last = last.map_err(|what| error(what.to_string()))?;
            let found = census(&mut last).map_err(error)?;
            let before = u64::from(!tail);
            if found.held != 0 || found.live < before || found.live > before + 1 {
                return Err(error(format!("{found:?}")));
            }
            // Nothing is lost: the large one is there, or there is room for it.
            if found.live == before {
                put_large(&mut last).map_err(|what| error(what.to_string()))?;
            }
            let found = census(&mut last).map_err(error)?;
            let used = LARGE + before * 32;
            if (found.live, found.used_bytes) != (before + 1, used) {
                return Err(error(format!("{found:?}")));
            }
            if recovered.is_some() {
                break;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_death_while_blocks_are_joined_loses_none() {
    let _alone = alone();
    for tail in [false, true] {
        let steps = try_all(tail).expect("in order");
        eprintln!("tail={tail}: {steps} steps");
    }
    leave_out(Some(Mutant::ForwardJoin));
    let found = try_all(false);
    leave_out(None);
    eprintln!("ForwardJoin: {}", found.expect_err("it is found"));
}

#[test]
fn a_death_while_a_block_is_split_loses_none() {
    let _alone = alone();
    // One block of 128 bytes, of which 48 are asked for: 48 and 32 stay.
    for step in 0.. {
        let region = region(128);
        let mut first = writer(&region);
        put_large(&mut first).expect("room");
        remove(&first.turn().expect("a turn"), 4).expect("a change");
        first.flush().expect("no reader");
        let done = kill_at(step, move || put::<[Field<u64>; 3]>(&first.turn()?, 0));
        let mut last = writer(&region);
        let found = census(&mut last).expect("in order");
        assert_eq!((found.carved_bytes, found.held), (128, 0), "killed at step {step}");
        if let Some(done) = done {
            done.expect("room");
            assert_eq!((found.live, found.used_bytes, found.free), (1, 48, 2));
            return;
        }
    }
}
