//! The map, beside std's, and where it grows under its readers.

mod setup;

use std::collections::HashMap;

use barrierd_shared::{Options, Reader, Region, SharedCell, SharedMap, View, WriteError, Writer};
use proptest::prelude::*;
use setup::{no_daemon, writer_with};

fn region(bytes: usize) -> (Region, Reader, Writer) {
    let region = Region::create_in_memory(Options::new(bytes).readers(4).writers(2)).expect("made");
    let (reader, writer) = (region.reader().expect("free"), writer_with(&region, &no_daemon()));
    (region, reader, writer)
}

const MAP: SharedMap<u64, [u32; 3]> = SharedMap::at(3);

fn value(of: u64) -> [u32; 3] {
    [1, 2, 3].map(|by| u32::try_from(of % (1 << 20)).expect("small") * by)
}

/// Checks a map's content, by each way to see it.
fn is_the_same(view: &impl View, model: &HashMap<u64, [u32; 3]>) {
    let mut entries: Vec<_> = MAP.iter(view).collect();
    let mut wanted: Vec<_> = model.iter().map(|(&key, &value)| (key, value)).collect();
    entries.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(entries, wanted);
    assert_eq!((MAP.len(view), MAP.is_empty(view)), (model.len(), model.is_empty()));
    for (key, value) in model {
        assert_eq!(MAP.of(view, key), Some(*value));
    }
}

#[derive(Clone, Debug)]
enum Call {
    Insert(u64),
    Remove(u64),
    Update(u64),
    Many(u64),
    Clear,
    Flush,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        8 => (0..300u64).prop_map(Call::Insert),
        8 => (0..300u64).prop_map(Call::Remove),
        4 => (0..300u64).prop_map(Call::Update),
        2 => any::<u64>().prop_map(Call::Many),
        1 => Just(Call::Clear),
        2 => Just(Call::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_what_a_hash_map_is(calls in prop::collection::vec(call(), 1..60), capacity in 0..400usize) {
        let (region, mut reader, mut writer) = region(1 << 20);
        let map = MAP.capacity(capacity);
        let mut model = HashMap::new();
        for (round, call) in (0u64..).zip(calls) {
            match call {
                Call::Insert(key) => {
                    let old = map.insert(&mut writer, &key, value(round)).expect("room");
                    prop_assert_eq!(old, model.insert(key, value(round)));
                }
                Call::Remove(key) => {
                    prop_assert_eq!(map.remove(&mut writer, &key).expect("a turn"), model.remove(&key));
                }
                Call::Update(key) => {
                    let change = |old: Option<[u32; 3]>| old.filter(|old| old[0] % 2 == 0).map(|_| value(9));
                    let old = map.update(&mut writer, &key, change).expect("room");
                    prop_assert_eq!(old, model.get(&key).copied());
                    match change(old) {
                        Some(new) => _ = model.insert(key, new),
                        None => _ = model.remove(&key),
                    }
                }
                Call::Many(from) => {
                    for key in (0..150).map(|more| from.wrapping_add(more)) {
                        let old = map.insert(&mut writer, &key, value(key)).expect("room");
                        prop_assert_eq!(old, model.insert(key, value(key)));
                    }
                }
                Call::Clear => {
                    map.clear(&mut writer).expect("room");
                    model.clear();
                }
                Call::Flush => drop(writer.flush().expect("a turn")),
            }
        }
        is_the_same(&reader.pin(), &model);
        is_the_same(&writer.turn().expect("a turn"), &model);
        let other = Region::from_descriptors(
            region.descriptors().0.try_clone_to_owned().expect("a clone"),
            region.descriptors().1.try_clone_to_owned().expect("a clone"),
            region.writers_descriptor().map(|of| of.try_clone_to_owned().expect("a clone")),
        ).expect("the same");
        is_the_same(&other.reader().expect("a slot").pin(), &model);
    }
}

#[test]
fn keys_of_any_length_are_compared_by_their_bytes() {
    let (_region, mut reader, mut writer) = region(1 << 20);
    let odd = SharedMap::<[u8; 13], u8>::at(1);
    let key = |n: u8| std::array::from_fn(|at| if at == usize::from(n % 13) { n } else { 0 });
    for n in 1..200 {
        assert_eq!(odd.insert(&mut writer, &key(n), n).expect("room"), None);
    }
    for n in 1..200 {
        assert_eq!(odd.get(&mut reader, &key(n)), Some(n));
        assert_eq!(odd.get(&mut reader, &key(n).map(|byte| byte.wrapping_add(1))), None);
    }
}

#[test]
fn a_full_region_is_an_error_and_the_map_stays() {
    let (_region, mut reader, mut writer) = region(1 << 15);
    let mut keys = 0u64..;
    let inserted = loop {
        let key = keys.next().expect("endless");
        match MAP.insert(&mut writer, &key, value(key)) {
            Ok(old) => assert_eq!(old, None),
            Err(WriteError::OutOfMemory { .. }) => break key,
            Err(error) => panic!("{error}"),
        }
    };
    let model: HashMap<_, _> = (0..inserted).map(|key| (key, value(key))).collect();
    is_the_same(&reader.pin(), &model);
    // What is removed makes room, also with a reader that is in no section.
    for key in 0..inserted {
        assert_eq!(MAP.remove(&mut writer, &key).expect("no room is needed"), Some(value(key)));
    }
    is_the_same(&reader.pin(), &HashMap::new());
    MAP.insert(&mut writer, &1, value(1)).expect("room again");
    assert_eq!(MAP.get(&mut reader, &1), Some(value(1)));
}

#[test]
fn other_types_are_noticed() {
    let (_region, mut reader, mut writer) = region(1 << 16);
    MAP.insert(&mut writer, &1, value(1)).expect("room");
    let other = SharedMap::<u64, u64>::at(3);
    assert_eq!(other.get(&mut reader, &1), None);
    assert!(matches!(other.insert(&mut writer, &1, 1), Err(WriteError::Misused(_))));
    SharedCell::at(4).set(&mut writer, 12u64).expect("room");
    let cell = SharedMap::<u64, u64>::at(4);
    assert_eq!(cell.get(&mut reader, &1), None);
    assert!(matches!(cell.clear(&mut writer), Err(WriteError::Misused(_))));
}

#[test]
fn readers_find_what_is_there_while_it_grows() {
    let (region, mut reader, mut writer) = region(1 << 22);
    let last = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for key in 0..20_000 {
                MAP.insert(&mut writer, &key, value(key)).expect("room");
                last.store(key + 1, std::sync::atomic::Ordering::Release);
            }
        });
        let mut at = 0u64;
        loop {
            let there = last.load(std::sync::atomic::Ordering::Acquire);
            for _ in 0..100.min(there) {
                at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let key = (at >> 20) % there;
                assert_eq!(MAP.get(&mut reader, &key), Some(value(key)), "{key} of {there}");
            }
            let mut keys: Vec<_> = MAP.iter(&reader.pin()).map(|(key, _)| key).collect();
            keys.sort_unstable();
            let found = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), found, "each once");
            assert!(keys.iter().take_while(|key| **key < there).count() as u64 == there);
            if there == 20_000 {
                break;
            }
        }
    });
    drop(region);
}

/// Between the two loads of a lookup the bucket is split.
#[cfg(feature = "testing")]
mod split {
    use super::*;
    use barrierd_shared::testing::{Mutant, at_pause, leave_out};

    /// Returns how many of the keys that were there all the time a lookup, or an iteration, does not find.
    fn lost() -> (usize, usize) {
        let (mut by_key, mut by_walk) = (0, 0);
        for key in 0..64u64 {
            let (region, mut reader, mut writer) = region(1 << 20);
            for key in 0..64 {
                MAP.insert(&mut writer, &key, value(key)).expect("room");
            }
            // 128 buckets instead of 64.
            let grow = move || {
                for key in 64..200 {
                    MAP.insert(&mut writer, &key, value(key)).expect("room");
                }
                drop(writer);
            };
            let guard = reader.pin();
            at_pause(grow);
            if key % 2 == 0 {
                by_key += usize::from(MAP.of(&guard, &key) != Some(value(key)));
            } else {
                let found: Vec<_> = MAP.iter(&guard).map(|(key, _)| key).collect();
                by_walk += (0..64)
                    .filter(|key| found.iter().filter(|one| *one == key).count() != 1)
                    .count();
            }
            drop(region);
        }
        (by_key, by_walk)
    }

    #[test]
    fn a_bucket_that_is_split_under_a_reader_hides_nothing() {
        assert_eq!(lost(), (0, 0));
        leave_out(Some(Mutant::TrustedMiss));
        let (by_key, _) = lost();
        leave_out(None);
        assert!(by_key > 0, "the mutant is found");
    }
}
