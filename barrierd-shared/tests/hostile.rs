//! A participant stores what it likes, where it may: nobody accesses anything outside the region, loops or panics. Errors and
//! wrong values are all that comes of it.

#[allow(unreachable_pub, reason = "shared with the fuzzer")]
mod use_all;

use std::os::unix::fs::FileExt;

use barrierd_shared::{Options, Reader, Region, Stats, Writer};
use proptest::prelude::*;
use use_all::{alone, fill, read_all, use_all};

const BYTES: u64 = 1 << 14;

fn made() -> (Region, Reader, Writer) {
    let bytes = usize::try_from(BYTES).expect("small");
    let region = Region::create_in_memory(Options::new(bytes).readers(2).writers(2)).expect("made");
    let (reader, mut writer) =
        (region.reader().expect("free"), region.writer_with(&alone()).expect("free"));
    fill(&mut writer);
    (region, reader, writer)
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

/// A word of either file: of the header, of the content that is in use, or any other that both have.
fn place() -> impl Strategy<Value = u64> {
    prop_oneof![0..16u64, 16..128u64, 512..530u64, 1024..1300u64, 0..BYTES / 8]
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
        patches in prop::collection::vec((any::<bool>(), place(), word()), 1..8),
        cut in prop::option::of((any::<bool>(), 0..BYTES)),
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        let bytes = usize::try_from(BYTES).expect("small");
        let region = Region::create(&path, Options::new(bytes).readers(2)).expect("made");
        fill(&mut region.writer_with(&alone()).expect("free"));
        let (data, slots) = region.descriptors();
        let file = |of: std::os::fd::BorrowedFd<'_>| std::fs::File::from(of.try_clone_to_owned().expect("a clone"));
        let (data, slots) = (file(data), file(slots));
        let writers = region.writers_descriptor().map(file).expect("made here");
        drop(region);
        for (of_data, at, word) in patches {
            let file = if of_data { &data } else { &slots };
            file.write_all_at(&word.to_le_bytes(), at * 8).expect("written");
        }
        if let Some((of_data, cut)) = cut {
            let file = if of_data { &data } else { &slots };
            file.set_len(cut).expect("cut");
        }
        let _ = Stats::at(&path);
        if let Ok(region) = Region::open_read_only(&path) {
            let _ = region.stats();
            if let Ok(mut reader) = region.reader() {
                read_all(&mut reader);
            }
        }
        let clone = |file: &std::fs::File| file.try_clone().expect("a clone").into();
        let by_descriptors =
            Region::from_descriptors(clone(&data), clone(&slots), Some(clone(&writers)));
        let opened = [Region::open(&path), by_descriptors];
        for region in opened.into_iter().flatten() {
            if let (Ok(mut reader), Ok(mut writer)) = (region.reader(), region.writer_with(&alone())) {
                use_all(&region, &mut reader, &mut writer);
            }
        }
    }
}
