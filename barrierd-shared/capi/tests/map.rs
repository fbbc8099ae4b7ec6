//! Maps from C and C++ (`map.c`): what Rust has written is found and walked, what has another type is refused with what to do, what C
//! writes Rust reads, and a region that holds anything makes no call fail in another way than by its code.

#[path = "../../../tests/common/c/mod.rs"]
mod c;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use barrierd_shared::{Options, Region, SharedCell, SharedMap};
use c::{BARRIERD_SHARED, Language, Link};
use tempfile::TempDir;

const ENTRIES: u64 = 2000;

type Map = SharedMap<u64, [u8; 4]>;

fn made() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 20).readers(4)).expect("made");
    let mut writer = region.writer().expect("a slot");
    for key in 0..ENTRIES {
        let value = u32::try_from(key * 3).expect("small").to_le_bytes();
        Map::at(0).insert(&mut writer, &key, value).expect("room");
        Map::at(2).schema("port -> address").insert(&mut writer, &key, value).expect("room");
    }
    let key: [u8; 13] = std::array::from_fn(|at| u8::try_from(at + 1).expect("small"));
    let value: [u16; 5] = [0, 1000, 2000, 3000, 4000];
    SharedMap::at(1).insert(&mut writer, &key, value).expect("room");
    SharedMap::at(3).insert(&mut writer, &[1u8, 2, 3], [0u8; 0]).expect("room");
    SharedCell::at(4).set(&mut writer, [10u64, 20, 30, 40]).expect("room");
    (dir, path)
}

fn compiled(language: Language, dir: &Path) -> Option<PathBuf> {
    BARRIERD_SHARED.compile("tests/map.c", language, Link::Shared, &[], dir)
}

#[track_caller]
fn run(binary: &Path, what: &str, path: &Path) -> String {
    c::run(binary, &[what, path.to_str().expect("UTF-8")])
}

#[test]
fn what_rust_has_written_c_finds_and_walks_and_what_is_of_another_type_it_refuses() {
    let (dir, path) = made();
    for language in Language::BOTH {
        let Some(map) = compiled(language, dir.path()) else { return };
        run(&map, "read", &path);
        let said = run(&map, "refuse", &path);
        let words = [
            "no section is open: barrierd_shared_pin opens one",
            "keys of 8 bytes and values of 4, and this program says 8 and 8: state the sizes",
            "another schema: it was made without one",
            "another schema: it was made with one, and this program states none",
            "another schema: state that of the program that made it",
            "root 4 is no map of keys of 8 bytes and values of 4",
            "no section is open",
        ];
        assert_eq!(said.lines().count(), words.len(), "{said}");
        for (line, words) in said.lines().zip(words) {
            assert!(line.contains(words), "{line:?} says not {words:?}");
        }
    }
    assert_eq!(Region::open_read_only(&path).expect("opens").stats().readers, []);
}

#[test]
fn what_c_writes_rust_reads() {
    for language in Language::BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        let region = Region::create(&path, Options::new(1 << 20)).expect("made");
        let Some(map) = compiled(language, dir.path()) else { return };
        run(&map, "write", &path);
        let mut reader = region.reader().expect("free");
        let named = Map::at(0).schema("of C");
        let found: BTreeMap<_, _> = named.iter(&reader.pin()).collect();
        let wanted: BTreeMap<_, _> = (2..ENTRIES)
            .step_by(2)
            .map(|key| (key, u32::try_from(key * 3).expect("small").to_le_bytes()))
            .collect();
        assert_eq!(found, wanted);
        assert!(wanted.iter().all(|(key, value)| named.get(&mut reader, key) == Some(*value)));
        assert_eq!(named.len(&reader.pin()), wanted.len());
        assert_eq!(Map::at(0).get(&mut reader, &2), None, "it states no schema");
        assert_eq!(SharedCell::at(1).get(&mut reader), Some([5u8; 13]));
        // It goes on growing, and every block is accounted for: an entry, two tables and the one that is kept for the next clear, two segments, a cell.
        let mut writer = region.writer().expect("free");
        for key in 0..2 * ENTRIES {
            named.insert(&mut writer, &key, [1, 2, 3, 4]).expect("room");
        }
        named.clear(&mut writer).expect("a turn");
        named.insert(&mut writer, &1, [1, 2, 3, 4]).expect("room");
        drop(reader);
        writer.flush().expect("a turn");
        let census = writer.turn().expect("free").census().expect("whole");
        assert_eq!((census.live, census.held), (7, 0), "{census:?}");
        run(&map, "memory", Path::new(""));
    }
}

#[test]
fn a_region_that_holds_anything_makes_no_call_fail_otherwise() {
    let programs = tempfile::tempdir().expect("a directory");
    let Some(map) = compiled(Language::C99, programs.path()) else { return };
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut answers = BTreeMap::<String, u32>::new();
    for round in 0..60 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        let region = Region::create(&path, Options::new(1 << 15).readers(2)).expect("made");
        let mut writer = region.writer().expect("a slot");
        for key in 0..200u64 {
            Map::at(0).insert(&mut writer, &key, [1; 4]).expect("room");
        }
        drop(writer);
        // Roots and blocks; words that lead somewhere are half of them.
        let file = OpenOptions::new().write(true).open(&path).expect("opens");
        for _ in 0..=round / 2 {
            let at = 4096 + next() % ((1 << 15) - 4096) / 8 * 8;
            let at = if next() % 4 == 0 { 8192 + next() % 60 * 8 } else { at };
            let word = if next() % 2 == 0 { next() % (1 << 15) } else { next() };
            file.write_all_at(&word.to_le_bytes(), at).expect("written");
        }
        let said = run(&map, "hostile", &path);
        let code = said.split(' ').next().expect("a number").to_owned();
        *answers.entry(code).or_default() += 1;
    }
    // The rounds are of use only if some of them break the walk.
    assert!(answers.contains_key("-43") && answers.contains_key("0"), "{answers:?}");
}
