//! What a turn's death, a broken word or a wrong call leaves of the blocks.
#![cfg(feature = "testing")]

mod setup;

use std::os::unix::fs::FileExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use barrierd_shared::testing::{Mutant, at_pause, kill_at, leave_out};
use barrierd_shared::{
    Field, Link, Options, Region, SharedAtomic, SharedCell, View, WriteError, Writer, shareable,
};
use setup::{alone, no_barriers, no_daemon, writer_with};

shareable! {
    #[derive(Debug)]
    struct Node { key: Field<u64>, next: SharedAtomic<Node> }
}

const CELL: SharedCell<u64> = SharedCell::at(0);

// Offsets of `layout.rs`.
const LATEST: u64 = 256;
const TOP: u64 = 512;
const QUEUE_HEAD: u64 = 520;
const QUEUE_TAIL: u64 = 528;

fn region() -> Region {
    Region::create_in_memory(Options::new(1 << 16).writers(3)).expect("made")
}

fn writer(region: &Region) -> Writer {
    writer_with(region, &no_daemon())
}

/// As a participant does that may write and means no good.
fn patch(region: &Region, at: u64, word: u64) {
    let file = std::fs::File::from(region.descriptors().0.try_clone_to_owned().expect("a clone"));
    file.write_all_at(&word.to_le_bytes(), at).expect("written");
}

fn die_in_a_turn(region: &Region) {
    let mut dies = writer(region);
    assert!(kill_at(0, move || CELL.set(&mut dies, 9)).is_none());
}

#[test]
fn synchronize_waits_for_an_old_section_though_another_writer_dies_meanwhile() {
    let _alone = alone();
    let region = region();
    let mut first = writer(&region);
    CELL.set(&mut first, 1).expect("room");
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    CELL.set(&mut first, 2).expect("room");
    let (send, done) = mpsc::channel();
    let waits = std::thread::spawn(move || {
        let result = first.synchronize(Instant::now() + Duration::from_secs(60));
        let _ = send.send(());
        result
    });
    // Nothing to be seen says that it waits: where it has not begun, what follows proves less.
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err());
    die_in_a_turn(&region);
    assert!(done.recv_timeout(Duration::from_millis(500)).is_err(), "the section is still open");
    assert_eq!(CELL.of(&guard), Some(2));
    drop(guard);
    waits.join().expect("no panic").expect("nothing is in the way any more");
}

/// How many of three blocks a section holds back of which one was retired after its beginning, when a writer has died.
fn freed_beside_a_section() -> usize {
    let region = region();
    let mut first = writer(&region);
    let cells = [0, 1, 2].map(SharedCell::<u64>::at);
    // In the memory the youngest comes first.
    for cell in cells {
        cell.set(&mut first, 1).expect("room");
    }
    cells[2].clear(&mut first).expect("a turn");
    cells[1].clear(&mut first).expect("a turn");
    let mut reader = region.reader().expect("a slot");
    let _guard = reader.pin();
    cells[0].clear(&mut first).expect("a turn");
    die_in_a_turn(&region);
    let freed = first.flush().expect("a turn");
    assert_eq!(region.stats().recoveries, 1);
    freed
}

#[test]
fn a_section_holds_back_nothing_that_was_retired_before_it_though_a_writer_dies() {
    let _alone = alone();
    assert_eq!(freed_beside_a_section(), 2);
    for mutant in [Mutant::Restamped, Mutant::Unsorted] {
        leave_out(Some(mutant));
        let freed = freed_beside_a_section();
        leave_out(None);
        assert_eq!(freed, 0, "{mutant:?} is found");
    }
}

#[test]
fn a_stamp_that_can_not_be_is_reported_and_frees_nothing() {
    let _alone = alone();
    for broken in [u64::MAX, u64::MAX - 1, u64::MAX / 2 + 2, 1 << 62] {
        let region = region();
        let mut writer = writer(&region);
        let mut early = region.reader().expect("a slot");
        CELL.set(&mut writer, 1).expect("room");
        let early = early.pin();
        CELL.set(&mut writer, 2).expect("room");
        patch(&region, LATEST, broken);
        let mut reader = region.reader().expect("a slot");
        let guard = reader.pin();
        assert!(matches!(CELL.set(&mut writer, 3), Err(WriteError::Corrupt(_))));
        assert_eq!(CELL.of(&guard), Some(2), "nothing was done");
        assert!(matches!(writer.flush(), Err(WriteError::Corrupt(_))));
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(matches!(writer.synchronize(soon), Err(WriteError::Corrupt(_))));
        assert_eq!(region.stats().waiting, 1);
        drop(early);
    }
}

#[test]
fn lists_that_somebody_broke_are_made_anew() {
    let _alone = alone();
    for (at, word) in
        [(QUEUE_HEAD, 12345), (QUEUE_HEAD, 8192), (QUEUE_HEAD, 0), (QUEUE_TAIL, 8), (QUEUE_TAIL, 0)]
    {
        let region = region();
        let mut writer = writer(&region);
        for value in 0..4 {
            CELL.set(&mut writer, value).expect("room");
        }
        patch(&region, at, word);
        // The first call that notices says so; the next one recovers.
        let failed = (0..64).filter(|&value| CELL.set(&mut writer, value).is_err()).count();
        assert!(failed <= 1, "{failed} calls failed after {word} at {at}");
        writer.flush().expect("in order");
        assert_eq!(region.stats().waiting, 0);
        let census = writer.turn().expect("a turn").census().expect("in order");
        assert_eq!((census.live, census.waiting), (1, 0));
        assert_eq!(CELL.of(&writer.turn().expect("a turn")), Some(63));
    }
}

#[test]
fn a_census_that_finds_a_broken_list_has_it_made_anew() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    for value in 0..4 {
        CELL.set(&mut writer, value).expect("room");
    }
    patch(&region, QUEUE_HEAD, 12345);
    let broken = writer.turn().and_then(|turn| turn.census());
    assert!(matches!(broken, Err(WriteError::Corrupt(_))));
    let census = writer.turn().expect("a turn").census().expect("made anew");
    assert_eq!((census.live, census.live + census.waiting + census.free), (1, 4));
}

#[test]
fn a_census_under_which_the_blocks_end_moves_is_an_error_at_worst() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    let turn = writer.turn().expect("a turn");
    for _ in 0..200 {
        let fresh = turn.alloc::<Node>().expect("room");
        fresh.lead(|node| &node.next, turn.root(0).link());
        turn.put(turn.root(0), fresh).expect("a change");
    }
    drop(turn);
    let mut top = [0; 8];
    let file = std::fs::File::from(region.descriptors().0.try_clone_to_owned().expect("a clone"));
    file.read_exact_at(&mut top, TOP).expect("read");
    let top = u64::from_le_bytes(top);
    let ends = [8192, (8192 + top) / 16 * 8, top];
    for (first, then) in ends.map(|first| ends.map(|then| (first, then))).into_iter().flatten() {
        patch(&region, TOP, top);
        let turn = writer.turn().expect("a turn");
        patch(&region, TOP, first);
        let file = file.try_clone().expect("a clone");
        at_pause(move || file.write_all_at(&then.to_le_bytes(), TOP).expect("written"));
        if let Ok(census) = turn.census() {
            assert!(census.used_bytes <= census.carved_bytes, "{census:?}");
        }
        patch(&region, TOP, top);
    }
}

fn refused<R: std::fmt::Debug>(call: &Result<R, WriteError>) {
    assert!(matches!(call, Err(WriteError::Misused(_))), "{call:?}");
}

#[test]
fn what_a_published_block_leads_to_is_published_with_it() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    {
        let turn = writer.turn().expect("a turn");
        let first = turn.alloc::<Node>().expect("room");
        let second = turn.alloc::<Node>().expect("room");
        second.write(|node| &node.key, 42);
        first.lead(|node| &node.next, second.link());
        turn.put(turn.root(0), first).expect("a change");
    }
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    let first = guard.load(guard.root::<Node>(0)).expect("there");
    let second = guard.load(&first.next).expect("there");
    let turn = writer.turn().expect("a turn");
    turn.alloc::<Node>().expect("room").write(|node| &node.key, 666);
    assert_eq!(second.key.get(), 42, "it is nobody else's");
    assert_eq!(turn.census().expect("in order").live, 2);
}

#[test]
fn a_link_of_a_block_that_is_not_published_is_led_not_changed() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    {
        let turn = writer.turn().expect("a turn");
        let first = turn.alloc::<Node>().expect("room");
        let second = turn.alloc::<Node>().expect("room");
        let link = second.link();
        refused(&turn.put(&first.next, second));
        refused(&turn.set(&first.next, link));
        refused(&turn.remove(&first.next, link));
    }
    assert_eq!(writer.turn().expect("a turn").census().expect("in order").live, 0);
}

#[test]
fn no_link_is_made_to_lead_to_a_block_that_is_not_published() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    let turn = writer.turn().expect("a turn");
    let root = turn.root::<Node>(0);
    let fresh = turn.alloc::<Node>().expect("room");
    refused(&turn.set(root, fresh.link()));
    refused(&turn.remove(root, fresh.link()));
    let first = turn.put(root, fresh).expect("a change");

    // What is replaced would be reached by the new one, what is removed by the very link.
    let fresh = turn.alloc::<Node>().expect("room");
    fresh.lead(|node| &node.next, first.link());
    refused(&turn.replace(root, fresh));
    refused(&turn.remove(root, first.link().with_tag(1)));
    turn.set(root, first.link().with_tag(1)).expect("a tag is set");

    let stale = first.link();
    turn.remove(root, Link::NULL).expect("a change");
    refused(&turn.set(root, stale));
    let fresh = turn.alloc::<Node>().expect("room");
    fresh.lead(|node| &node.next, stale);
    refused(&turn.put(root, fresh));
    let fresh = turn.alloc::<Node>().expect("room");
    refused(&turn.put(&first.next, fresh));
    assert_eq!(turn.census().expect("in order").live, 0);
    drop(turn);

    writer.flush().expect("a turn");
    let turn = writer.turn().expect("a turn");
    refused(&turn.set(turn.root(0), stale));
    let census = turn.census().expect("in order");
    assert_eq!((census.live, census.waiting, census.held), (0, 0, 0));
}

#[test]
fn a_block_is_published_once_and_not_changed_afterwards() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    let turn = writer.turn().expect("a turn");
    let first = turn.alloc::<Node>().expect("room");
    let second = turn.alloc::<Node>().expect("room");
    first.lead(|node| &node.next, second.link());
    second.lead(|node| &node.next, first.link());
    turn.put(turn.root(0), first).expect("a change");
    for change in
        [&|| second.write(|node| &node.key, 1), &|| second.lead(|node| &node.next, Link::NULL)]
            as [&dyn Fn(); 2]
    {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(change)).is_err());
    }
    refused(&turn.put(turn.root(1), second));
}

#[test]
fn a_block_that_was_freed_and_allocated_in_one_turn_is_as_good_as_any() {
    let _alone = alone();
    let region = region();
    let mut writer = writer(&region);
    let mut turn = writer.turn().expect("a turn");
    let fresh = turn.alloc::<Node>().expect("room");
    let was = turn.put(turn.root(0), fresh).expect("a change").link();
    turn.remove(turn.root::<Node>(0), Link::NULL).expect("a change");
    assert_eq!(turn.reclaim().expect("nobody reads"), 1);
    let again = turn.alloc::<Node>().expect("room");
    assert_eq!(again.link(), was);
    let first = turn.put(turn.root(0), again).expect("a change");
    let fresh = turn.alloc::<Node>().expect("room");
    turn.put(&first.next, fresh).expect("its link is changed");
}

#[test]
fn a_patience_without_end_is_one() {
    let _alone = alone();
    let region = region();
    let mut waits = writer_with(&region, &no_daemon().patience(Duration::MAX));
    let mut first = writer_with(&region, &no_daemon());
    let turn = first.turn().expect("a turn");
    let (send, sent) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let _ = send.send(());
        CELL.set(&mut waits, 1).and_then(|()| waits.flush())
    });
    sent.recv().expect("it begins");
    // How long it can wait is asked only where there is something to wait for.
    std::thread::sleep(Duration::from_millis(100));
    drop(turn);
    waiting.join().expect("no panic").expect("a turn");
}

#[test]
fn a_scan_learns_of_so_many_deaths_and_the_next_ones_of_the_others() {
    let _alone = alone();
    let options = Options::new(1 << 16).readers(300);
    let region = Region::create_in_memory(options).expect("made");
    let mut writer = writer_with(&region, &no_barriers());
    CELL.set(&mut writer, 1).expect("room");
    CELL.set(&mut writer, 2).expect("room");
    // Sections of nobody, as old as can be.
    let slots = std::fs::File::from(region.descriptors().1.try_clone_to_owned().expect("a clone"));
    for slot in 0..300 {
        slots.write_all_at(&[0; 8], 4096 + slot * 128).expect("written");
    }
    let mut seen = 0;
    while seen < 300 {
        let freed = writer.flush().expect("a turn");
        let deaths = region.stats().deaths;
        assert!(deaths - seen <= 64, "{} at once", deaths - seen);
        assert!(deaths > seen, "it goes on");
        assert_eq!(freed, usize::from(deaths == 300));
        seen = deaths;
    }
}

#[test]
fn a_block_of_another_regions_turn_is_refused() {
    let _alone = alone();
    let (one, other) = (region(), region());
    let (mut one, mut other) = (writer(&one), writer(&other));
    let (one, other) = (one.turn().expect("a turn"), other.turn().expect("a turn"));
    let stranger = one.alloc::<[Field<u64>; 16]>().expect("room");
    // It has a block at the same place, of another size.
    let own = other.alloc::<Field<u64>>().expect("room");
    refused(&other.put(other.root(0), stranger).map(|found| found.link()));
    // Nor is a link of the other region's changed.
    refused(&other.set(one.root::<Node>(0), Link::NULL.with_tag(1)));
    refused(&other.put(one.root(0), own).map(|found| found.link()));
    assert_eq!(one.root::<Node>(0).link(), Link::NULL);
    assert_eq!(other.census().expect("in order").live, 0);
}

#[test]
fn a_turn_of_many_changes_keeps_its_blocks_apart() {
    let _alone = alone();
    let region = Region::create_in_memory(Options::new(1 << 20)).expect("made");
    let mut writer = writer(&region);
    let turn = writer.turn().expect("a turn");
    let root = turn.root::<Node>(0);
    for key in 0..1000 {
        let fresh = turn.alloc::<Node>().expect("room");
        fresh.write(|node| &node.key, key);
        fresh.lead(|node| &node.next, root.link());
        turn.put(root, fresh).expect("a change");
    }
    let held: Vec<_> = (0..300).map(|_| turn.alloc::<Node>().expect("room")).collect();
    for one in &held {
        refused(&turn.set(&one.next, Link::NULL.with_tag(1)));
    }
    let mut gone = Vec::new();
    while let Some(first) = turn.load(root) {
        turn.remove(root, first.next.link()).expect("a change");
        gone.push(first.get());
    }
    for one in gone {
        refused(&turn.set(&one.next, Link::NULL.with_tag(1)));
    }
    let census = turn.census().expect("in order");
    assert_eq!((census.live, census.waiting, census.held), (0, 1000, 300));
}
