//! Lookups beside a writer that splits their bucket, and is killed before one of its stores.

use std::sync::atomic::AtomicBool;

use loom::thread;

use super::world::*;
use crate::layout::BLOCKS;
use crate::steps::Mutant;
use crate::{Options, Region, SharedMap};

const MAP: SharedMap<u64, u64> = SharedMap::at(0);
/// Two tables, two segments, five entries.
const BYTES: usize = 2 * 192 + 2 * 48 + 5 * 64;

/// Keys are their hashes here. There are two buckets, of even and of odd keys; one more is split off that of the even ones, and gets
/// key 2, when the fourth entry comes.
fn splits(step: u64, came: &AtomicBool) {
    let bytes = usize::try_from(BLOCKS).expect("few") + BYTES;
    let region = Region::create_in_memory(Options::new(bytes).readers(1).writers(1));
    let region = region.expect("made");
    let (mut first, mut reader) = (writer(&region), region.reader().expect("a slot"));
    for key in 0..3 {
        MAP.insert(&mut first, &key, key).expect("room");
    }
    let reads = thread::spawn(move || {
        let guard = reader.pin();
        for key in [2, 0] {
            assert_eq!(MAP.of(&guard, &key), Some(key), "it is there all the time");
        }
        drop(guard);
        reader
    });
    killed(first, step, came, |first| {
        MAP.insert(first, &3, 3).expect("room");
    });
    let mut second = writer(&region);
    MAP.insert(&mut second, &4, 4).expect("room");
    drop(reads.join().expect("no panic"));
    let turn = second.turn().expect("free");
    let mut found: Vec<_> = MAP.iter(&turn).collect();
    found.sort_unstable();
    found.retain(|&(key, _)| key != 3);
    assert_eq!(found, [(0, 0), (1, 1), (2, 2), (4, 4)]);
}

#[test]
fn what_is_there_is_found_while_its_bucket_is_split() {
    at_each_store(splits);
    for mutant in [Mutant::EarlyCut, Mutant::TrustedMiss, Mutant::RelaxedStep] {
        rejects(mutant, || at_each_store(splits));
    }
}
