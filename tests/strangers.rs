//! What a user without any privilege, who may read the file, can do to a live daemon: the rows of
//! SECURITY.md's table that can be tried without measuring.
//!
//! Owns the stranger: a thread that has no user, group or capability of root's any more.

mod common;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use barrierd_client::{Barrier, Stamp, abi};
use common::{Daemon, PATIENCE, directory, have_root};
use rustix::process::{Signal, kill_process};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

const STRANGER: u32 = 65_533;

/// Turns this thread into a stranger's, for good: credentials belong to a thread. Giving up user 0
/// takes the capabilities along.
fn become_a_stranger() {
    set_thread_groups(&[]).expect("root");
    let (uid, gid) = (Uid::from_raw(STRANGER), Gid::from_raw(STRANGER));
    set_thread_res_gid(gid, gid, gid).expect("root");
    set_thread_res_uid(uid, uid, uid).expect("root");
}

/// What a stranger's thread comes to.
fn as_a_stranger<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            become_a_stranger();
            what()
        });
        stranger.join().expect("it does not panic")
    })
}

/// A lock of `kind` on all of `file`, waited for if `command` says so.
fn lock(file: &File, command: i32, kind: i32) -> io::Result<()> {
    let narrow = |constant: i32| i16::try_from(constant).expect("a small constant");
    let lock = libc::flock {
        l_type: narrow(kind),
        l_whence: narrow(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed; the call reads one `struct flock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[test]
fn b3_a_readers_lock_keeps_no_daemon_from_starting() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let path = daemon.file.clone();
    let inode = fs::metadata(&path).unwrap().ino();
    let barrier = Barrier::open(&path).unwrap();
    let (tell, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let path = &path;
        scope.spawn(move || {
            become_a_stranger();
            let file = File::open(path).expect("anyone may read it");
            lock(&file, libc::F_OFD_SETLK, libc::F_RDLCK).expect_err("the daemon's is there");
            tell.send(()).expect("the test waits");
            // Until the daemon dies.
            lock(&file, libc::F_OFD_SETLKW, libc::F_RDLCK).expect("locked");
            tell.send(()).expect("the test waits");
            // All its locks end with the file.
            ended.recv().expect_err("the test ends");
        });
        told.recv().expect("it tries");
        daemon.kill();
        told.recv().expect("it has its lock");
        // At once, and again, each for those who have the file mapped.
        for _ in 0..2 {
            let generation = barrier.generation();
            let daemon = Daemon::start(dir.path());
            barrier.wait(Stamp::now(), Instant::now() + PATIENCE).unwrap();
            assert_eq!(fs::metadata(path).unwrap().ino(), inode);
            assert_eq!(barrier.generation(), generation + 1);
            // The lock beside the file still tells a second daemon.
            let (_, said) = Daemon::spawn(dir.path(), &[]).failure();
            assert!(said.contains("another barrierd serves this file"), "{said}");
            assert!(daemon.stop().success());
        }
        drop(end);
    });
}

/// Whatever else might hold a daemon up, change its file or look into it is refused.
#[test]
fn b3_nothing_else_of_the_daemons_is_a_strangers_to_take() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let (path, pid) = (daemon.file.clone(), daemon.pid());
    as_a_stranger(|| {
        let file = File::open(&path).expect("anyone may read it");
        let lease = |kind: i32| {
            // SAFETY: the descriptor is open, and the third argument is a number.
            match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            name
        };
        let proc = |name: &str| format!("/proc/{}/{name}", pid.as_raw_nonzero());
        let rejected: [(&str, io::Result<()>); 12] = [
            ("a lease", lease(libc::F_RDLCK)),
            ("a write lock", lock(&file, libc::F_OFD_SETLK, libc::F_WRLCK)),
            ("to write", File::options().write(true).open(&path).map(drop)),
            ("to cut", file.set_len(0)),
            ("the lock file", File::open(beside(".lock")).map(drop)),
            ("a new file's name", File::create(beside(".new")).map(drop)),
            ("to remove", fs::remove_file(&path)),
            ("to replace", fs::rename(&path, beside(".old"))),
            (
                "the socket",
                UnixDatagram::unbound().and_then(|s| s.connect(abi::socket_path(&path))),
            ),
            ("its memory", File::open(proc("mem")).map(drop)),
            ("its descriptors", fs::read_dir(proc("fd")).map(drop)),
            ("a signal", kill_process(pid, Signal::STOP).map_err(io::Error::from)),
        ];
        for (what, result) in rejected {
            let error = result.expect_err(what);
            let kinds = [ErrorKind::PermissionDenied, ErrorKind::InvalidInput];
            let denied = kinds.contains(&error.kind()) || error.raw_os_error() == Some(libc::EBADF);
            assert!(denied, "{what}: {error}");
        }
    });
    // A lock of another family, on the file and on the directory, is nothing that a daemon asks for.
    as_a_stranger(|| {
        for place in [&path, &dir.path().to_path_buf()] {
            let file = File::open(place).expect("anyone may read it");
            // SAFETY: the descriptor is open.
            let result = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
            assert_eq!(result, 0, "{}", place.display());
            // Held for ever.
            std::mem::forget(file);
        }
    });
    assert!(daemon.stop().success());
    let daemon = Daemon::start(dir.path());
    served(&daemon.file);
    assert!(daemon.stop().success());
}

fn served(file: &Path) {
    let barrier = Barrier::open(file).unwrap();
    barrier.wait(Stamp::now(), Instant::now() + PATIENCE).unwrap();
}

/// The binary itself, on whatever a typing error names.
#[test]
fn b5_a_typing_error_costs_no_file() {
    if !have_root() {
        return;
    }
    let dir = directory();
    for name in ["barrier", "barrier.new", "barrier.lock", "barrier.sock"] {
        let path = dir.path().join(name);
        fs::write(&path, "/dev/vda / ext4 rw 0 1\n").unwrap();
        let before = fs::metadata(&path).unwrap();
        let (status, said) = Daemon::spawn(dir.path(), &[]).failure();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{} is ", path.display())), "{said}");
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.ino(), after.mtime_nsec()), (before.ino(), before.mtime_nsec()));
        assert_eq!(fs::read(&path).unwrap(), b"/dev/vda / ext4 rw 0 1\n");
        fs::remove_file(&path).unwrap();
    }
    let daemon = Daemon::start(dir.path());
    served(&daemon.file);
    assert!(daemon.stop().success());
}
