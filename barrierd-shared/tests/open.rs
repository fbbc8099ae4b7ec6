//! What a region refuses, each with an error that names it.

mod setup;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use barrierd_shared::{JoinError, Options, Region, RegionError, SharedCell, WriteError};
use setup::child;
use tempfile::TempDir;

fn made() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    Region::create(&path, Options::new(1 << 16).readers(4)).expect("made");
    (dir, path)
}

/// Overwrites a word of the data file.
fn patch(path: &Path, at: u64, word: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    file.write_all_at(&word.to_le_bytes(), at).expect("written");
}

/// Returns the slots file and the writers' file.
fn beside(path: &Path) -> [PathBuf; 2] {
    let entries = fs::read_dir(path.parent().expect("a directory")).expect("reads");
    let entries = entries.map(|entry| entry.expect("an entry").path());
    let mut others: Vec<_> = entries.filter(|other| other != path).collect();
    others.sort();
    others.try_into().expect("two files, and nothing else is left beside")
}

fn slots_of(path: &Path) -> PathBuf {
    let [slots, _] = beside(path);
    slots
}

#[test]
fn what_one_has_made_another_opens_and_reads() {
    let (_dir, path) = made();
    let cell = SharedCell::<u64>::at(3);
    let writing = Region::open(&path).expect("opens");
    let reading = Region::open_read_only(&path).expect("opens");
    let mut reader = reading.reader().expect("a slot");
    assert_eq!(cell.get(&mut reader), None);
    cell.set(&mut writing.writer().expect("a slot"), 7).expect("room");
    assert_eq!(cell.get(&mut reader), Some(7));
    assert_eq!(SharedCell::<u32>::at(3).get(&mut reader), None, "of another size");
    assert!(matches!(reading.writer(), Err(JoinError::ReadOnly)));
    let [slots, writers] = beside(&path);
    for file in [&path, &slots, &writers] {
        assert_eq!(fs::metadata(file).expect("there").permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_group_may_read_the_data_and_write_the_slots() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let group = fs::metadata(dir.path()).expect("there").gid();
    Region::create(&path, Options::new(1 << 16).group(group)).expect("made");
    let [slots, writers] = beside(&path);
    for (file, mode) in [(&path, 0o640), (&slots, 0o660), (&writers, 0o600)] {
        let about = fs::metadata(file).expect("there");
        assert_eq!((about.permissions().mode() & 0o777, about.gid()), (mode, group));
    }
}

#[test]
fn what_is_no_region_is_refused_by_name() {
    let (dir, path) = made();
    let refused = |what: &str| Region::open(&path).map(drop).expect_err(what);
    assert!(matches!(
        Region::create(&path, Options::new(1 << 16)),
        Err(RegionError::Exists { .. })
    ));
    let nowhere = Region::open(dir.path().join("nothing"));
    assert!(matches!(nowhere, Err(RegionError::NotFound { .. })));

    let magic = fs::read(&path).expect("reads")[..8].try_into().expect("a word");
    patch(&path, 0, 0x1234);
    assert!(matches!(refused("foreign"), RegionError::Foreign { file: "data", found: 0x1234 }));
    patch(&path, 0, u64::from_le_bytes(magic));
    patch(&path, 8, 2);
    assert!(matches!(refused("newer"), RegionError::Version { found: 2, known: 1 }));
    patch(&path, 8, 1);
    patch(&path, 16, 5);
    assert!(matches!(refused("other slots"), RegionError::OtherSlots));
    patch(&path, 16, u64::MAX);
    assert!(matches!(refused("readers"), RegionError::Nonsense { what: "readers", .. }));
    patch(&path, 16, 4);
    patch(&path, 32, u64::MAX - 7);
    assert!(matches!(refused("too long"), RegionError::Short { file: "data", .. }));
    patch(&path, 32, 100);
    assert!(matches!(refused("bytes"), RegionError::Nonsense { what: "bytes", .. }));
    patch(&path, 32, 1 << 16);
    patch(&path, 40, 0);
    assert!(matches!(refused("writers"), RegionError::Nonsense { what: "writers", .. }));
    patch(&path, 40, 8);
    Region::open(&path).expect("as it was");
    let boot = fs::read(&path).expect("reads")[48..56].try_into().expect("a word");
    patch(&path, 48, !u64::from_le_bytes(boot));
    assert!(matches!(refused("other boot"), RegionError::OtherBoot { .. }));
    patch(&path, 48, u64::from_le_bytes(boot));

    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink("/etc/passwd", &path).expect("a link");
    assert!(matches!(refused("a link"), RegionError::Io { .. }));
}

#[test]
fn a_file_that_was_cut_is_refused() {
    for name in ["data", "slots", "writers"] {
        let (_dir, path) = made();
        let [slots, writers] = beside(&path);
        let file = if name == "data" {
            path.clone()
        } else if name == "slots" {
            slots
        } else {
            writers
        };
        let len = fs::metadata(&file).expect("there").len();
        for cut in [len - 1, 4096, 100, 8, 0].into_iter().filter(|cut| *cut < len) {
            OpenOptions::new().write(true).open(&file).expect("opens").set_len(cut).expect("cut");
            let error = Region::open(&path).map(drop).expect_err("short");
            let RegionError::Short { file, found, .. } = error else { panic!("{cut}: {error}") };
            assert_eq!((file, found), (name, cut));
        }
    }
}

#[test]
fn slots_that_are_not_the_regions_are_refused() {
    let ((_dir, path), (_other_dir, other)) = (made(), made());
    let slots = slots_of(&path);
    fs::remove_file(&slots).expect("removed");
    let refused = || Region::open(&path).map(drop).expect_err("no slots");
    assert!(matches!(refused(), RegionError::NotFound { .. }));
    fs::copy(slots_of(&other), &slots).expect("copied");
    assert!(matches!(refused(), RegionError::OtherSlots));
}

#[test]
fn a_writers_file_that_is_not_the_regions_is_refused_to_those_who_need_it() {
    let ((_dir, path), (_other_dir, other)) = (made(), made());
    let [_, writers] = beside(&path);
    let [_, others] = beside(&other);
    fs::copy(&others, &writers).expect("copied");
    let refused = || Region::open(&path).map(drop).expect_err("no writers' file");
    assert!(matches!(refused(), RegionError::OtherWriters));
    fs::remove_file(&writers).expect("removed");
    assert!(matches!(refused(), RegionError::NotFound { .. }));
    let reading = Region::open_read_only(&path).expect("does without");
    reading.reader().expect("a slot");
    assert!(matches!(reading.writer(), Err(JoinError::ReadOnly)));
}

#[test]
fn a_region_that_cannot_be_mapped_is_not_there_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let status = child(|| {
        let limit = libc::rlimit { rlim_cur: 256 << 20, rlim_max: 256 << 20 };
        // SAFETY: limits the child.
        unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
        let made = Region::create(&path, Options::new(512 << 20));
        i32::from(!matches!(made, Err(RegionError::Io { .. })))
    });
    assert_eq!(status, 0, "it was to fail");
    assert_eq!(fs::read_dir(dir.path()).expect("reads").count(), 0, "and left something");
    Region::create(&path, Options::new(1 << 16)).expect("nothing is in the way");
}

#[test]
fn what_is_there_is_opened_and_what_is_not_is_made_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let first = Region::open_or_create(&path, Options::new(1 << 14).readers(3)).expect("made");
    let second = Region::open_or_create(&path, Options::new(1 << 16)).expect("opened");
    assert_eq!((first.readers(), second.readers()), (3, 3));
    let other = dir.path().join("other");
    fs::write(&other, [7; 9000]).expect("written");
    let refused = Region::open_or_create(&other, Options::new(1 << 14)).expect_err("no region");
    assert!(matches!(refused, RegionError::Foreign { .. }), "{refused}");
    // Many at once, on nothing.
    let path = dir.path().join("contended");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                Region::open_or_create(&path, Options::new(1 << 14)).expect("one of them made it");
            });
        }
    });
}

#[test]
fn options_out_of_range_are_refused() {
    let of = |options| Region::create_in_memory(options).map(drop);
    for wrong in [
        Options::new(0),
        Options::new(8191),
        Options::new(1 << 50),
        Options::new(1 << 16).readers(0),
        Options::new(1 << 16).readers(usize::MAX),
        Options::new(1 << 16).writers(257),
    ] {
        assert!(matches!(of(wrong), Err(RegionError::Options { .. })), "{wrong:?}");
    }
}

#[test]
fn full_slots_and_a_full_region_say_so() {
    let region =
        Region::create_in_memory(Options::new(8192 + 64).readers(2).writers(1)).expect("made");
    let (mut first, _second) = (region.reader().expect("free"), region.reader().expect("free"));
    let full = region.reader().map(drop);
    assert!(matches!(full, Err(JoinError::Full { role: "reader", slots: 2 })), "{full:?}");
    let mut writer = region.writer().expect("free");
    let full = region.writer().map(drop);
    assert!(matches!(full, Err(JoinError::Full { role: "writer", slots: 1 })), "{full:?}");

    // Room for one value, the second one, and no more.
    let cell = SharedCell::<u64>::at(0);
    cell.set(&mut writer, 1).expect("room");
    let full = cell.set(&mut writer, 2).expect_err("one block");
    assert!(
        matches!(full, WriteError::OutOfMemory { why: barrierd_shared::Held::Nothing, .. }),
        "{full}"
    );
    cell.clear(&mut writer).expect("a value");
    let _section = first.pin();
    drop(region);
}

#[test]
fn a_region_in_memory_is_opened_by_its_descriptors_and_cannot_be_cut() {
    let region = Region::create_in_memory(Options::new(1 << 16)).expect("made");
    let (data, slots) = region.descriptors();
    let clones =
        (data.try_clone_to_owned().expect("a clone"), slots.try_clone_to_owned().expect("a clone"));
    let writers = region.writers_descriptor().expect("there");
    let writers = writers.try_clone_to_owned().expect("a clone");
    for file in [&clones.0, &clones.1, &writers] {
        let file = fs::File::from(file.try_clone().expect("a clone"));
        file.set_len(0).expect_err("it is sealed");
        file.set_len(1 << 20).expect_err("it is sealed");
    }
    let reading = region.data_for_reading().expect("opens");
    let slots = clones.1.try_clone().expect("a clone");
    let reading = Region::from_descriptors(reading, slots, None).expect("opens");
    assert!(matches!(reading.writer(), Err(JoinError::ReadOnly)));
    let other = Region::from_descriptors(clones.0, clones.1, Some(writers)).expect("opens");
    drop(other.writer().expect("free"));
    let cell = SharedCell::<[u8; 3]>::at(255);
    cell.set(&mut region.writer().expect("free"), [1, 2, 3]).expect("room");
    for region in [other, reading] {
        assert_eq!(cell.get(&mut region.reader().expect("free")), Some([1, 2, 3]));
    }
}

/// Puts a copy of a file in its place, as `cp` and `mv` do.
fn copied(file: &Path) {
    let copy = file.with_extension("copy");
    fs::copy(file, &copy).expect("copied");
    fs::rename(&copy, file).expect("renamed");
}

#[test]
fn a_copy_of_a_file_has_other_locks_and_is_refused() {
    let (_dir, path) = made();
    let [slots, writers] = beside(&path);
    copied(&writers);
    assert!(matches!(Region::open(&path).map(drop), Err(RegionError::OtherWriters)));
    Region::open_read_only(&path).expect("does without");
    copied(&slots);
    assert!(matches!(Region::open_read_only(&path).map(drop), Err(RegionError::OtherSlots)));
    assert!(matches!(Region::open(&path).map(drop), Err(RegionError::OtherSlots)));
}

#[test]
fn a_writers_file_that_was_cut_is_none_for_those_who_read() {
    let (_dir, path) = made();
    let [_, writers] = beside(&path);
    OpenOptions::new().write(true).open(&writers).and_then(|file| file.set_len(3)).expect("cut");
    Region::open_read_only(&path).expect("does without");
    barrierd_shared::Stats::at(&path).expect("does without");
    assert!(matches!(Region::open(&path).map(drop), Err(RegionError::Short { .. })));
}
