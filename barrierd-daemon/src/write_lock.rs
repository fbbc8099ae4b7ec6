//! The lock on the public file itself: a daemon that reached the same file by another path, and so by
//! another `<file>.lock`, is seen by it.
//!
//! Owns that lock, and what is done when clients hold locks that stand in its way. Knows nothing of
//! what the file holds.
//!
//! A write lock needs a descriptor that may write, so only its owner can hold one: a daemon. A read
//! lock needs one that may read, so anyone can hold one, for ever, and it keeps a write lock out. So
//! who holds read locks is passed over: the daemon goes on in the same file, without a lock of its own,
//! for those who have it mapped. So a lock that can be had does not say that nobody serves the file, and
//! each daemon that finds one which is not marked stopped looks for another's beat, too.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use barrierd_client::abi;

use crate::clock::now_ns;

/// How long another daemon is given to beat: 2.5 periods.
const BEAT: Duration = Duration::from_nanos(abi::HEARTBEAT_PERIOD_NS / 2 * 5);

/// Takes the open file description's write lock on the whole file `path`; or, where only readers hold locks,
/// goes without. Either way [`watch`] comes next.
///
/// # Errors
///
/// Another daemon holds it, or the file system has no locks.
pub fn take(file: &File, path: &Path) -> Result<()> {
    let failed = || format!("locking {} for writing", path.display());
    match lock(file, libc::F_OFD_SETLK, libc::F_WRLCK) {
        Ok(_) => return Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {}
        Err(error) => return Err(error).with_context(failed),
    }
    // What would keep a reader out: a write lock, and nothing else.
    let found = lock(file, libc::F_OFD_GETLK, libc::F_RDLCK).with_context(failed)?;
    if found == libc::F_UNLCK {
        return Ok(());
    }
    bail!(
        "{} is locked for writing by another process: another barrierd serves it under another \
         name; stop that one first, or name another file",
        path.display()
    )
}

/// Makes sure that nobody serves the file `path` without a lock: its last beat, `beat_ns()`, was
/// `BEAT` ago, or none follows it for as long.
///
/// # Errors
///
/// One does.
pub fn watch(path: &Path, beat_ns: impl Fn() -> u64) -> Result<()> {
    let before = beat_ns();
    if u128::from(now_ns().saturating_sub(before)) > BEAT.as_nanos() {
        return Ok(());
    }
    thread::sleep(BEAT);
    if beat_ns() == before {
        return Ok(());
    }
    bail!(
        "{} is being written, by a daemon that a reader's lock kept from locking it: another barrierd \
         serves it under another name; stop that one first, or name another file",
        path.display()
    )
}

/// Asks for a lock of `kind` on the whole file, and returns the kind that the kernel answers with.
fn lock(file: &File, command: i32, kind: i32) -> io::Result<i32> {
    let narrow = |constant: i32| i16::try_from(constant).expect("a small constant");
    let mut lock = libc::flock {
        l_type: narrow(kind),
        l_whence: narrow(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed; both commands read, and
    // F_OFD_GETLK writes, one `struct flock`, which `lock` is, and keep nothing of it.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == 0 { Ok(i32::from(lock.l_type)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::path::PathBuf;

    fn opened() -> (tempfile::TempDir, PathBuf, File) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("barrier");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        (dir, path, file.expect("made"))
    }

    /// The lock that keeps a reader out of `path`, as the kernel names it.
    fn found(path: &Path) -> i32 {
        lock(&File::open(path).expect("opened"), libc::F_OFD_GETLK, libc::F_RDLCK).expect("asked")
    }

    // Locks are the open file's, so a second opening in this process stands for another one.

    #[test]
    fn b3_a_readers_lock_is_no_daemon() {
        let (_dir, path, file) = opened();
        let reader = File::open(&path).expect("opened");
        lock(&reader, libc::F_OFD_SETLK, libc::F_RDLCK).expect("free");
        lock(&reader, libc::F_OFD_SETLK, libc::F_WRLCK).expect_err("it can't write");
        take(&file, &path).expect("a reader is passed over");
        assert_eq!(found(&path), libc::F_UNLCK);
        drop(reader);
        take(&file, &path).expect("free");
        assert_eq!(found(&path), libc::F_WRLCK);
    }

    #[test]
    fn b3_a_writers_lock_is_one_beside_readers_or_not() {
        let (_dir, path, file) = opened();
        let reader = File::open(&path).expect("opened");
        let writer = File::options().read(true).write(true).open(&path).expect("opened");
        take(&writer, &path).expect("free");
        lock(&reader, libc::F_OFD_SETLK, libc::F_RDLCK).expect_err("a writer has it");
        let error = take(&file, &path).expect_err("a writer").to_string();
        assert!(error.contains("another barrierd serves it under another name"), "{error}");
    }

    #[test]
    fn b3_behind_readers_locks_a_daemon_is_seen_by_its_beat() {
        let path = Path::new("barrier");
        watch(path, || 5).expect("old");
        let beat = Cell::new(now_ns());
        watch(path, || beat.get()).expect("still");
        // From the future, so never old.
        let beat = Cell::new(u64::MAX / 2);
        let error = watch(path, || beat.replace(beat.get() + 1)).expect_err("moving");
        assert!(error.to_string().contains("is being written"), "{error}");
    }
}
