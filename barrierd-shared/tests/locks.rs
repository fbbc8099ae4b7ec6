//! Locks are taken on the region's own file and stand, or nobody joins: whatever `/proc` leads to, and whatever the file
//! system does with a lock whose descriptor is closed.

mod setup;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use barrierd_shared::{JoinError, Options, Region, SharedCell, Writer};
use setup::{child, no_barriers, writer_with};

const CELL: SharedCell<u64> = SharedCell::at(0);

fn writer(region: &Region) -> Writer {
    writer_with(region, &no_barriers())
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT TESTED: this needs root");
    }
    root
}

#[test]
fn a_thread_with_a_descriptor_table_of_its_own_locks_the_regions_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("region");
    let region = Region::create(&path, Options::new(1 << 16)).expect("made");
    let mut writer = writer(&region);
    CELL.set(&mut writer, 1).expect("room");
    let (to, from) = mpsc::channel();
    let (back, wait) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: from now on this thread's descriptors are its own.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
        let own = Region::open(&path).expect("opens");
        let most = own.descriptors().0.as_raw_fd().max(own.descriptors().1.as_raw_fd());
        to.send(most).expect("there");
        wait.recv().expect("told");
        let mut reader = own.reader().expect("a slot");
        let guard = reader.pin();
        to.send(0).expect("there");
        wait.recv().expect("told");
        drop(guard);
    });
    let number = from.recv().expect("told");
    // The same numbers in the first thread's table are other files'.
    let mut others: Vec<File> = Vec::new();
    while others.last().is_none_or(|file| file.as_raw_fd() < number) {
        others.push(tempfile::tempfile_in(dir.path()).expect("a file"));
    }
    back.send(()).expect("there");
    from.recv().expect("it has joined");
    CELL.set(&mut writer, 2).expect("room");
    assert_eq!(writer.flush().expect("a turn"), 0, "its section is open");
    assert!(region.stats().readers[0].lives);
    back.send(()).expect("there");
    thread.join().expect("no panic");
}

#[test]
fn a_program_whose_first_thread_has_ended_joins() {
    let region = Region::create_in_memory(Options::new(1 << 16)).expect("made");
    let status = child(move || {
        // SAFETY: a thread's id, and an exit of this thread or process alone.
        let first = unsafe { libc::gettid() };
        std::thread::spawn(move || {
            let state = || fs::read_to_string(format!("/proc/{first}/stat")).expect("there");
            while !state().contains(") Z ") {
                std::thread::yield_now();
            }
            let done = region.reader();
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_exit_group, i32::from(done.is_err())) };
        });
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        98
    });
    assert_eq!(status, 0);
}

#[test]
fn a_directory_that_only_looks_like_proc_is_not_believed() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let region = Region::create(dir.path().join("region"), Options::new(1 << 16)).expect("made");
    for with_files in [true, false] {
        let jail = dir.path().join(format!("jail{with_files}"));
        for table in ["proc/self/fd", "proc/thread-self/fd"] {
            fs::create_dir_all(jail.join(table)).expect("made");
            for number in (0..100).filter(|_| with_files) {
                let file = File::create(jail.join(format!("{table}/{number}"))).expect("made");
                file.set_len(1).expect("long enough to be mapped");
            }
        }
        let status = child(|| {
            std::os::unix::fs::chroot(&jail).expect("root may");
            let refused = matches!(region.reader(), Err(JoinError::NoProc));
            i32::from(
                !(refused
                    && matches!(region.writer(), Err(JoinError::NoProc | JoinError::Io { .. }))),
            )
        });
        assert_eq!(status, 0, "files there: {with_files}");
    }
}

/// Runs `work` on an overlayfs, in a mount namespace that ends with its thread.
fn on_overlayfs(work: impl FnOnce(&Path) + Send + 'static) {
    let dir = tempfile::tempdir().expect("a directory");
    let at = dir.path().to_owned();
    let thread = std::thread::spawn(move || {
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(at.join(name)).expect("made");
        }
        let c = |path: &str| std::ffi::CString::new(path).expect("no zero");
        let layers =
            format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", at.display());
        let (merged, layers) = (at.join("merged"), c(&layers));
        let target = c(merged.to_str().expect("a plain path"));
        let none = std::ptr::null();
        // SAFETY: strings that outlive the calls. The namespace is this thread's, and its mounts are private.
        unsafe {
            assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
            let private = libc::MS_REC | libc::MS_PRIVATE;
            assert_eq!(libc::mount(none, c"/".as_ptr(), none, private, none.cast()), 0);
            let kind = c"overlay".as_ptr();
            let mounted = libc::mount(kind, target.as_ptr(), kind, 0, layers.as_ptr().cast());
            assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
        }
        work(&merged);
    });
    thread.join().expect("no panic");
}

/// Makes a region below, as somebody may who sees the upper directory, and opens it above.
fn opened_above(merged: &Path) -> (Region, Region) {
    let below: PathBuf = merged.parent().expect("a directory").join("upper/region");
    let made = Region::create(&below, Options::new(1 << 16)).expect("made");
    (made, Region::open(merged.join("region")).expect("opens"))
}

#[test]
fn nobody_joins_on_overlayfs_where_the_living_would_look_dead() {
    if !is_root() {
        return;
    }
    on_overlayfs(|merged| {
        let (below, above) = opened_above(merged);
        // Also with another's lock on the very slots: the witness is asked.
        let _others = (below.reader().expect("its own locks stand"), writer(&below));
        for _ in 0..2 {
            let refused = above.reader().map(drop).expect_err("no lock stands");
            assert!(
                matches!(&refused, JoinError::FileSystem { name } if name == "overlayfs"),
                "{refused}"
            );
            let refused = above.writer().map(drop).expect_err("no lock stands");
            assert!(matches!(&refused, JoinError::FileSystem { .. }), "{refused}");
        }
    });
}
