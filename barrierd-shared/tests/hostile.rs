//! A participant stores what it likes, where it may: nobody accesses anything outside the region, loops or panics. Errors and
//! wrong values are all that comes of it.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use barrierd_shared::{
    Field, Options, Reader, Region, SharedAtomic, SharedCell, SharedMap, View, WriteError, Writer,
    WriterOptions, shareable,
};
use proptest::prelude::*;

const BYTES: u64 = 1 << 14;

shareable! {
    struct Node { key: Field<u64>, next: SharedAtomic<Node> }
}

const MAP: SharedMap<u64, u64> = SharedMap::at(2);

fn made() -> (Region, Reader, Writer) {
    let bytes = usize::try_from(BYTES).expect("small");
    let region = Region::create_in_memory(Options::new(bytes).readers(2).writers(2)).expect("made");
    let options = WriterOptions::default().barrier("/nowhere/barrier").membarrier(false);
    let options = options.patience(Duration::from_millis(1));
    let (reader, mut writer) =
        (region.reader().expect("free"), region.writer_with(&options).expect("free"));
    for key in 0..20 {
        push(&mut writer, key).expect("room");
    }
    for _ in 0..5 {
        pop(&mut writer).expect("there");
    }
    SharedCell::at(1).set(&mut writer, [7u64; 5]).expect("room");
    for key in 0..70 {
        MAP.insert(&mut writer, &key, key).expect("room");
    }
    (region, reader, writer)
}

fn push(writer: &mut Writer, key: u64) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    let fresh = turn.alloc::<Node>()?;
    fresh.write(|node| &node.key, key);
    fresh.lead(|node| &node.next, root.link());
    turn.put(root, fresh).map(drop)
}

fn pop(writer: &mut Writer) -> Result<(), WriteError> {
    let turn = writer.turn()?;
    let root = turn.root::<Node>(0);
    match turn.load(root) {
        Some(first) => turn.remove(root, first.next.link()),
        None => Ok(()),
    }
}

fn use_all(region: &Region, reader: &mut Reader, writer: &mut Writer) {
    let _ = region.stats();
    let guard = reader.pin();
    let mut at = guard.load(guard.root::<Node>(0));
    for _ in 0..50 {
        at = at.and_then(|node| guard.load(&node.next));
    }
    drop(guard);
    let _ = SharedCell::<[u64; 5]>::at(1).get(reader);
    let _ = MAP.get(reader, &3);
    let _ = MAP.iter(&reader.pin()).count();
    for key in 60..75 {
        let _ =
            (MAP.get(reader, &key), MAP.remove(writer, &key), MAP.insert(writer, &(key + 100), 1));
    }
    for key in 0..30 {
        let _ = (push(writer, key), pop(writer), pop(writer));
    }
    let _ = SharedCell::at(1).set(writer, [8u64; 5]);
    let _ = MAP.clear(writer);
    let _ = writer.flush();
    let _ = writer.turn().and_then(|turn| turn.census());
    let _ = region.reader();
    let _ = region.writer();
}

/// Any word, or one that is nearly right.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..BYTES / 8).prop_map(|word| word * 8),
        Just(0),
        0..10u64,
        (0..60u64, 0..6u64).prop_map(|(class, state)| class << 8 | state),
        (0..64u64).prop_map(|less| u64::MAX - less),
        (0..64u64).prop_map(|more| BYTES - 32 + more),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_stored_nobody_leaves_the_region(
        // What is constant is checked at opening; who changes it later is alone with it.
        patches in prop::collection::vec(
            (prop_oneof![16..124u64, 512..514u64, 1024..BYTES / 8], word()), 1..12),
    ) {
        let (region, mut reader, mut writer) = made();
        let (data, _) = region.descriptors();
        let file = std::fs::File::from(data.try_clone_to_owned().expect("a clone"));
        for (at, word) in patches {
            file.write_all_at(&word.to_le_bytes(), at * 8).expect("written");
            use_all(&region, &mut reader, &mut writer);
        }
    }

    #[test]
    fn whatever_a_reader_stores_in_the_slots_it_gets_no_further(
        patches in prop::collection::vec((512..512 + 32u64, word()), 1..12),
    ) {
        let (region, mut reader, mut writer) = made();
        let (_, slots) = region.descriptors();
        let file = std::fs::File::from(slots.try_clone_to_owned().expect("a clone"));
        for (at, word) in patches {
            file.write_all_at(&word.to_le_bytes(), at * 8).expect("written");
            use_all(&region, &mut reader, &mut writer);
            // The content is beyond its reach, and stays in order.
            writer.turn().expect("a turn").census().expect("in order");
        }
    }

    #[test]
    fn whatever_stands_in_the_files_opening_them_is_an_error_at_worst(
        patches in prop::collection::vec((any::<bool>(), 0..16u64, word()), 1..4),
        cut in prop::option::of(0..BYTES),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        let bytes = usize::try_from(BYTES).expect("small");
        let made = Region::create(&path, Options::new(bytes).readers(2)).expect("made");
        let (data, slots) = made.descriptors();
        let file = |of: std::os::fd::BorrowedFd<'_>| std::fs::File::from(of.try_clone_to_owned().expect("a clone"));
        let (data, slots) = (file(data), file(slots));
        drop(made);
        for (of_data, at, word) in patches {
            let file = if of_data { &data } else { &slots };
            file.write_all_at(&word.to_le_bytes(), at * 8).expect("written");
        }
        if let Some(cut) = cut {
            data.set_len(cut).expect("cut");
        }
        if let Ok(region) = Region::open(&path) {
            if let Ok(mut reader) = region.reader() {
                let _ = SharedCell::<u64>::at(255).get(&mut reader);
            }
        }
    }
}
