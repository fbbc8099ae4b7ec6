//! What users, groups and descriptors may do. Most of it needs root, to become somebody else.

mod setup;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use barrierd_shared::{JoinError, Options, Region, SharedCell};
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
