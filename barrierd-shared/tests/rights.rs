//! What users, groups and descriptors may do. Most of it needs root, to become somebody else.

mod setup;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use barrierd_shared::{JoinError, Options, Region, RegionError, SharedCell, Stats};
use setup::{child, no_barriers};

const CELL: SharedCell<u64> = SharedCell::at(0);
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED: this needs root");
    }
    root
}

/// Becomes nobody, in a child.
fn drop_privileges() {
    // SAFETY: numbers, and no groups at all.
    unsafe {
        assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
        assert_eq!(libc::setgid(NOBODY), 0);
        assert_eq!(libc::setuid(NOBODY), 0);
    }
}

#[test]
fn a_reader_of_the_data_keeps_no_writer_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 16)).expect("made");
    // All that one can lock who may read the data: all of it.
    let file = File::open(&path).expect("opens");
    // SAFETY: plain numbers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(libc::F_RDLCK).expect("small");
    // SAFETY: an open file, and a lock that outlives the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) }, 0);
    let mut writer =
        region.writer_with(&no_barriers()).expect("it may not lock the writers' bytes");
    CELL.set(&mut writer, 1).expect("room");
}

#[test]
fn a_descriptor_for_reading_gives_another_user_no_right_to_write() {
    if !is_root() {
        return;
    }
    let region = Region::create_in_memory(Options::new(1 << 16)).expect("made");
    CELL.set(&mut region.writer_with(&no_barriers()).expect("free"), 7).expect("room");
    let data: OwnedFd = region.data_for_reading().expect("opens");
    let slots = region.descriptors().1.try_clone_to_owned().expect("a clone");
    let status = child(move || {
        drop(region);
        drop_privileges();
        let link = format!("/proc/thread-self/fd/{}", data.as_raw_fd());
        let writes = OpenOptions::new().read(true).write(true).open(link);
        if writes.is_ok_and(|file| file.write_all_at(&[0xff; 64], 4096).is_ok()) {
            return 7;
        }
        // It reads with no right except the descriptors.
        let region = Region::from_descriptors(data, slots, None).expect("opens");
        i32::from(CELL.get(&mut region.reader().expect("a slot")) != Some(7))
    });
    assert_eq!(status, 0, "7: a stranger with a descriptor for reading has written to the data");
}

#[test]
fn who_drops_its_privileges_keeps_its_slots_and_is_told_why_it_gets_no_more() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let region = Region::create(dir.path().join("region"), Options::new(1 << 16)).expect("made");
    let status = child(|| {
        let mut reader = region.reader().expect("root may");
        let mut writer = region.writer_with(&no_barriers()).expect("root may");
        drop_privileges();
        CELL.set(&mut writer, 1).expect("what it has taken stays good");
        assert_eq!(CELL.get(&mut reader), Some(1));
        CELL.set(&mut writer, 2).expect("room");
        drop(reader.pin());
        assert_eq!(writer.flush().expect("a turn"), 1);
        let (reader, writer) = (region.reader(), region.writer_with(&no_barriers()));
        assert!(matches!(&reader, Err(JoinError::Denied { role: "reader", .. })), "{reader:?}");
        assert!(matches!(&writer, Err(JoinError::Denied { role: "writer", .. })), "{writer:?}");
        0
    });
    assert_eq!(status, 0);
}

#[test]
fn a_member_of_the_group_reads_and_does_not_write() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::chown(dir.path(), None, Some(NOBODY)).expect("root may");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    std::fs::set_permissions(dir.path(), mode).expect("root may");
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 16).group(NOBODY)).expect("made");
    let _writer = region.writer_with(&no_barriers()).expect("free");
    let files = std::fs::read_dir(dir.path()).expect("reads").map(|file| file.expect("one").path());
    let writers = files.filter(|file| file.extension().is_some_and(|end| end == "writers"));
    let writers = writers.last().expect("it is there");
    let status = child(|| {
        drop_privileges();
        Region::open(&path).map(drop).expect_err("it may not write");
        // By itself each of the two files would stop it.
        for file in [path.clone(), writers.clone()] {
            let writes = OpenOptions::new().write(true).open(file);
            assert_eq!(writes.expect_err("it may not").kind(), ErrorKind::PermissionDenied);
        }
        let reading = Region::open_read_only(&path).expect("it may read");
        let reader = reading.reader().expect("a slot");
        let stats = reading.stats();
        // Its writers' lives can't be asked for, but their numbers stand in the data.
        assert_eq!((stats.readers.len(), stats.writers.len()), (1, 1));
        drop(reader);
        0
    });
    assert_eq!(status, 0);
}

/// A directory in which everybody may make files, as in `/dev/shm`.
fn everybodys() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(dir.path(), mode).expect("its owner may");
    dir
}

/// Whose file an opening has refused.
fn refused<R: std::fmt::Debug>(opened: Result<R, RegionError>) -> (std::path::PathBuf, u32) {
    match opened.map(|opened| format!("{opened:?}")) {
        Err(RegionError::BadOwner { path, owner, .. }) => (path, owner),
        other => panic!("not refused for its owner: {other:?}"),
    }
}

#[test]
fn what_a_stranger_has_made_first_is_not_believed_unless_it_is_named() {
    if !is_root() {
        return;
    }
    let dir = everybodys();
    let path = dir.path().join("region");
    let status = child(|| {
        drop_privileges();
        let region = Region::create(&path, Options::new(1 << 16)).expect("anybody may");
        // Nor is nobody's own, since that may be anybody's.
        assert_eq!(refused(Region::open(&path)), (path.clone(), NOBODY));
        Region::open_of(&path, NOBODY).expect("named");
        CELL.set(&mut region.writer_with(&no_barriers()).expect("free"), 7).expect("room");
        0
    });
    assert_eq!(status, 0);
    let squatted = (path.clone(), NOBODY);
    assert_eq!(refused(Region::open(&path)), squatted);
    assert_eq!(refused(Region::open_read_only(&path)), squatted);
    assert_eq!(refused(Region::open_or_create(&path, Options::new(1 << 16))), squatted);
    assert_eq!(refused(Stats::at(&path)), squatted);
    assert_eq!(refused(Region::open_of(&path, 1)), squatted, "another one was named");
    let said = Region::open_of(&path, 1).map(drop).expect_err("refused").to_string();
    assert!(said.contains("owned by uid 65534, and only root, uid 1 or "), "{said}");

    Region::open_of(&path, NOBODY).expect("named");
    Stats::at_of(&path, NOBODY).expect("named");
    let region = Region::open_read_only_of(&path, NOBODY).expect("named");
    assert_eq!(CELL.get(&mut region.reader().expect("a slot")), Some(7));
}

#[test]
fn one_file_of_a_strangers_is_enough_to_refuse_the_region() {
    if !is_root() {
        return;
    }
    let dir = everybodys();
    let path = dir.path().join("region");
    drop(Region::create(&path, Options::new(1 << 16)).expect("made"));
    let files = std::fs::read_dir(dir.path()).expect("reads").map(|file| file.expect("one").path());
    let files: Vec<_> = files.collect();
    assert_eq!(files.len(), 3);
    for file in files {
        std::os::unix::fs::chown(&file, Some(NOBODY), None).expect("root may");
        assert_eq!(refused(Region::open(&path)), (file.clone(), NOBODY));
        if file.extension().is_some_and(|end| end == "writers") {
            // Whoever does not write does without, and does not believe it.
            Region::open_read_only(&path).expect("does without");
            Stats::at(&path).expect("does without");
        } else {
            assert_eq!(refused(Region::open_read_only(&path)), (file.clone(), NOBODY));
            assert_eq!(refused(Stats::at(&path)), (file.clone(), NOBODY));
        }
        Region::open_of(&path, NOBODY).expect("root's and the named one's");
        std::os::unix::fs::chown(&file, Some(0), None).expect("root may");
    }
    Region::open(&path).expect("root's");
}

#[test]
fn a_member_of_the_group_names_the_owner_of_the_region() {
    const OWNER: u32 = 65533;
    if !is_root() {
        return;
    }
    let dir = everybodys();
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 16).group(NOBODY)).expect("made");
    CELL.set(&mut region.writer_with(&no_barriers()).expect("free"), 7).expect("room");
    for file in std::fs::read_dir(dir.path()).expect("reads") {
        std::os::unix::fs::chown(file.expect("one").path(), Some(OWNER), None).expect("root may");
    }
    let status = child(|| {
        drop_privileges();
        assert_eq!(refused(Region::open_read_only(&path)), (path.clone(), OWNER));
        assert_eq!(refused(Stats::at(&path)), (path.clone(), OWNER));
        let region = Region::open_read_only_of(&path, OWNER).expect("named");
        assert_eq!(CELL.get(&mut region.reader().expect("a slot")), Some(7));
        assert_eq!(Stats::at_of(&path, OWNER).expect("named").readers, []);
        0
    });
    assert_eq!(status, 0);
}
