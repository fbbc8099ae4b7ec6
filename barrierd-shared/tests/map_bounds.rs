//! What a call does at most, whatever a death has left, or a participant stores between two of its stores.
#![cfg(feature = "testing")]

use std::os::unix::fs::FileExt;

use barrierd_shared::testing::{at_step, kill_at, never_came};
use barrierd_shared::{Options, Region, SharedCell, SharedMap, WriteError, Writer, WriterOptions};

// Of `layout.rs`, and the words of `table.rs`'s tables.
const ROOTS: u64 = 4096;
const BUCKETS: u64 = 3;
const SEGMENTS: u64 = 4;
const DRAINED: u64 = 40;

fn writer(region: &Region) -> Writer {
    let options = WriterOptions::default().barrier("/nowhere/barrier");
    region.writer_with(&options).expect("a slot is free")
}

/// As a participant does that may write and means no good.
fn data(region: &Region) -> std::fs::File {
    std::fs::File::from(region.descriptors().0.try_clone_to_owned().expect("a clone"))
}

fn word(file: &std::fs::File, at: u64) -> u64 {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).expect("read");
    u64::from_le_bytes(word)
}

fn patch(file: &std::fs::File, at: u64, word: u64) {
    file.write_all_at(&word.to_le_bytes(), at).expect("written");
}

#[test]
fn a_call_that_helps_to_clear_a_large_empty_map_does_a_little() {
    let large = SharedMap::<u64, u64>::at(0).capacity(1 << 16);
    let map = SharedMap::<u64, u64>::at(0);
    let region = Region::create_in_memory(Options::new(4 << 20)).expect("made");
    let mut dies = writer(&region);
    large.insert(&mut dies, &1, 1).expect("room");
    // Behind the change of the root, which is among the first stores.
    assert!(kill_at(900, move || map.clear(&mut dies)).is_none());
    let mut next = writer(&region);
    assert_eq!(map.len(&next.turn().expect("a turn")), 0, "it is cleared");
    // Without a segment to be made, a call is some hundred stores.
    let done = kill_at(5000, || map.insert(&mut next, &2, 2).expect("room"));
    assert!(done.is_some(), "it goes through all of the old buckets");
}

/// Returns where the entry of a key is whose value consists of nines.
fn node_of(file: &std::fs::File, bytes: usize, key: u64) -> u64 {
    let at = (8192..bytes as u64 - 8).step_by(8);
    let mut at = at.filter(|&at| word(file, at) == key && word(file, at + 8) == 9);
    at.next().expect("it is there") - 16
}

#[test]
fn an_iteration_over_a_list_that_goes_round_returns_no_more_than_there_is_room_for() {
    type Value = [u64; 500];
    let map = SharedMap::<u64, Value>::at(0);
    let bytes = 1 << 20;
    let region = Region::create_in_memory(Options::new(bytes)).expect("made");
    let mut writer = writer(&region);
    map.insert(&mut writer, &0x1234_5678_9abc, [9; 500]).expect("room");
    // An entry is its hash, its link, its key, and its value.
    let file = data(&region);
    let node = node_of(&file, bytes, 0x1234_5678_9abc);
    patch(&file, node + 8, node);
    let mut reader = region.reader().expect("a slot");
    let most = bytes / size_of::<Value>();
    assert!(map.iter(&reader.pin()).take(2 * most).count() <= most);
}

#[test]
fn an_iteration_under_which_entries_wander_returns_no_more_than_there_is_room_for() {
    type Value = [u64; 500];
    let map = SharedMap::<u64, Value>::at(0).capacity(4096);
    let bytes = 1 << 20;
    let region = Region::create_in_memory(Options::new(bytes)).expect("made");
    let mut writer = writer(&region);
    map.insert(&mut writer, &0x1234_5678_9abc, [9; 500]).expect("room");
    let file = data(&region);
    let (node, table) = (node_of(&file, bytes, 0x1234_5678_9abc), word(&file, ROOTS));
    // Each bucket leads to the one entry, which belongs to the bucket that is looked at next.
    let (mut segment, mut first, mut end) = (0, 0, 64);
    while first < 4096 {
        let at = word(&file, table + (SEGMENTS + segment) * 8);
        (first..end).for_each(|bucket| patch(&file, at + (bucket - first) * 8, node));
        (segment, first, end) = (segment + 1, end, end * 2);
    }
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    let mut entries = map.iter(&guard);
    let mut bucket = 0;
    let returned = std::iter::from_fn(|| {
        patch(&file, node, bucket);
        bucket += 1;
        entries.next()
    });
    assert!(returned.count() <= bytes / size_of::<Value>());
}

#[test]
fn a_map_in_a_full_region_is_cleared() {
    let map = SharedMap::<u64, u64>::at(0);
    let region = Region::create_in_memory(Options::new(1 << 16)).expect("made");
    let (mut writer, mut reader) = (writer(&region), region.reader().expect("a slot"));
    for round in 0..3 {
        let mut keys = 0..10_000;
        let full = keys.find_map(|key| map.insert(&mut writer, &key, key).err()).expect("full");
        assert!(matches!(full, WriteError::OutOfMemory { .. }), "{full}");
        assert!(keys.start > 300, "{keys:?} in round {round}");
        let section = reader.pin();
        // Also if it is empty, and no block is free for a table or its buckets.
        for _ in 0..2 {
            map.clear(&mut writer).expect("no room is needed");
            let turn = writer.turn().expect("a turn");
            assert_eq!((map.len(&turn), map.iter(&turn).count()), (0, 0));
        }
        assert_eq!(map.remove(&mut writer, &1).expect("no room is needed"), None);
        let held = map.insert(&mut writer, &1, 1);
        assert!(matches!(held, Err(WriteError::OutOfMemory { .. })), "{held:?}");
        drop(section);
        // The reader shows that it has seen what was cleared.
        drop(reader.pin());
    }
    map.insert(&mut writer, &1, 1).expect("room");
    assert_eq!(map.get(&mut reader, &1), Some(1));
    writer.turn().expect("a turn").census().expect("in order");
}

/// Returns a region, with a map of 66 entries, or of none and with a table before that is not empty yet; and where the table is that a
/// call then works on.
fn made(map: SharedMap<u64, u64>, cleared: bool) -> (Region, u64) {
    let region = Region::create_in_memory(Options::new(1 << 16).writers(2)).expect("made");
    let mut first = writer(&region);
    for key in 0..66 {
        map.insert(&mut first, &key, key).expect("room");
    }
    let table = word(&data(&region), ROOTS);
    let mut steps = 0;
    while cleared && map.len(&first.turn().expect("a turn")) > 0 {
        steps += 20;
        let _ = kill_at(steps, move || map.clear(&mut first));
        first = writer(&region);
    }
    (region, table)
}

#[test]
fn a_word_that_changes_between_two_looks_of_a_call_is_an_error_at_worst() {
    let map = SharedMap::<u64, u64>::at(0);
    for (cleared, at, broken) in [
        (false, BUCKETS, 0),
        (false, BUCKETS, 1),
        (false, BUCKETS, u64::MAX),
        (true, BUCKETS, 0),
        (true, DRAINED, 0),
        (true, DRAINED, u64::MAX),
    ] {
        for step in 0.. {
            let (region, table) = made(map, cleared);
            let (mut writer, file) = (writer(&region), data(&region));
            at_step(step, move || patch(&file, table + at * 8, broken));
            let _ = map.insert(&mut writer, &100, 1);
            if never_came() {
                break;
            }
            let _ = (map.insert(&mut writer, &200, 1), map.clear(&mut writer));
        }
    }
}

const HELD: u64 = 2;
const LIVE: u64 = 3;
const RETIRED: u64 = 4;
const QUEUE_HEAD: u64 = 520;
const BYTES: u64 = 1 << 14;

/// Says of each block of a turn that it is published.
fn publish_all(file: &std::fs::File) {
    for at in (8192..BYTES - 8).step_by(8) {
        let found = word(file, at);
        if found & 0xff == HELD && found >> 8 < 48 {
            patch(file, at, found - HELD + LIVE);
        }
    }
}

/// Whether `call` panics beside that, wherever it comes between two stores.
fn no_panic(call: impl Fn(&mut Writer)) {
    for step in 0.. {
        let bytes = usize::try_from(BYTES).expect("small");
        let region = Region::create_in_memory(Options::new(bytes)).expect("made");
        let mut writer = writer(&region);
        let file = data(&region);
        at_step(step, move || publish_all(&file));
        call(&mut writer);
        if never_came() {
            return;
        }
    }
}

#[test]
fn a_block_that_is_called_published_while_it_is_filled_makes_no_call_panic() {
    let map = SharedMap::<u64, [u64; 4]>::at(0);
    no_panic(|writer| _ = map.insert(writer, &1, [1; 4]));
    no_panic(|writer| _ = SharedCell::<[u64; 4]>::at(0).set(writer, [1; 4]));
}

/// Makes two retired blocks follow each other before each of so many stores of this thread.
fn put_back(file: std::fs::File, blocks: [(u64, u64); 2], left: u64) {
    at_step(0, move || {
        for (index, (at, head)) in blocks.into_iter().enumerate() {
            patch(&file, at, head);
            patch(&file, at + 8, blocks[1 - index].0);
        }
        if left > 0 {
            put_back(file, blocks, left - 1);
        }
    });
}

#[test]
fn whoever_puts_back_what_is_freed_keeps_nobody_in_a_turn() {
    let cell = SharedCell::<u64>::at(0);
    let bytes = usize::try_from(BYTES).expect("small");
    let freed = |call: fn(&mut Writer) -> Result<usize, WriteError>| {
        let region = Region::create_in_memory(Options::new(bytes)).expect("made");
        let mut writer = writer(&region);
        (0..3).for_each(|value| cell.set(&mut writer, value).expect("room"));
        let file = data(&region);
        let first = word(&file, QUEUE_HEAD);
        let blocks = [first, word(&file, first + 8)].map(|at| (at, word(&file, at)));
        assert!(blocks.iter().all(|(_, head)| head & 0xff == RETIRED));
        // More than a call makes that ends by itself.
        put_back(file, blocks, 200_000);
        let freed = call(&mut writer);
        assert!(never_came(), "the call ends while it goes on");
        freed
    };
    assert_eq!(freed(|writer| writer.turn()?.reclaim()).expect("a turn"), 4096);
    assert_eq!(freed(Writer::flush).expect("a turn"), 4096);
    let late = freed(|writer| writer.synchronize(std::time::Instant::now()).map(|()| 0));
    assert!(matches!(late, Err(WriteError::Deadline { .. })), "{late:?}");
}
