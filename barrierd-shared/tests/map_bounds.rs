//! What a call of the map does at most, whatever a death or a broken participant has left.
#![cfg(feature = "testing")]

use std::os::unix::fs::FileExt;

use barrierd_shared::testing::kill_at;
use barrierd_shared::{Options, Region, SharedMap, Writer, WriterOptions};

fn writer(region: &Region) -> Writer {
    let options = WriterOptions::default().barrier("/nowhere/barrier");
    region.writer_with(&options).expect("a slot is free")
}

#[test]
fn a_call_that_helps_to_clear_a_large_empty_map_does_a_little() {
    let large = SharedMap::<u64, u64>::at(0).capacity(1 << 16);
    let map = SharedMap::<u64, u64>::at(0);
    let region = Region::create_in_memory(Options::new(4 << 20)).expect("made");
    let mut dies = writer(&region);
    large.insert(&mut dies, &1, 1).expect("room");
    // Behind the change of the root, which comes with the new table's 330 stores.
    assert!(kill_at(900, move || map.clear(&mut dies)).is_none());
    let mut next = writer(&region);
    assert_eq!(map.len(&next.turn().expect("a turn")), 0, "it is cleared");
    // Without a segment to be made, a call is some hundred stores.
    let done = kill_at(5000, || map.insert(&mut next, &2, 2).expect("room"));
    assert!(done.is_some(), "it goes through all of the old buckets");
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
    let file = std::fs::File::from(region.descriptors().0.try_clone_to_owned().expect("a clone"));
    let mut words = vec![0; bytes];
    file.read_exact_at(&mut words, 0).expect("read");
    let words: Vec<_> =
        words.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("8"))).collect();
    let key = words.windows(2).position(|two| two == [0x1234_5678_9abc, 9]).expect("it is there");
    let node = (key as u64 - 2) * 8;
    file.write_all_at(&node.to_le_bytes(), node + 8).expect("written");
    let mut reader = region.reader().expect("a slot");
    let most = bytes / size_of::<Value>();
    assert!(map.iter(&reader.pin()).take(2 * most).count() <= most);
}
