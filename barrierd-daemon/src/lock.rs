//! One daemon a file: the lock beside it.
//!
//! Owns `<file>.lock`. Knows nothing of what the lock protects.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often the lock file may be replaced under our hands before we give up.
const TRIES: usize = 8;

/// Bytes that a lock file holds at most: a process id and the end of its line.
const LONGEST: u64 = 11;

/// Whether a lock file of ours, or of the C daemon, may hold this: nothing, or a process id.
fn is_lock_text(text: &[u8]) -> bool {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    text.len() as u64 <= LONGEST && digits.iter().all(u8::is_ascii_digit)
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon serves this file.
    #[error(
        "{lock} is held by process {holder}: another barrierd serves this file; stop that one \
         first, or name another file",
        lock = lock.display()
    )]
    Held {
        /// The lock file.
        lock: PathBuf,
        /// The process id in it, as the holder sees itself.
        holder: String,
    },
    /// The lock file can't be made, opened or locked.
    #[error("{what} {lock}: {error}; {advice}", lock = lock.display(), advice = advice(error))]
    Io {
        /// What was tried.
        what: &'static str,
        /// The lock file.
        lock: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// What lies there is no lock file of a barrierd.
    #[error(
        "{lock} is not the lock file of a barrierd ({why}), and nothing else is written to: name \
         another public file, or remove this one if nobody needs it",
        lock = lock.display()
    )]
    Foreign {
        /// The file.
        lock: PathBuf,
        /// How that was seen.
        why: String,
    },
    /// The lock file was replaced each time it had just been locked.
    #[error("{lock} was replaced {TRIES} times while it was being locked: who does that?", lock = lock.display())]
    Replaced {
        /// The lock file.
        lock: PathBuf,
    },
}

/// What to do about an error at the file or beside it.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "the directory must exist (barrierd makes only its default one)",
        io::ErrorKind::PermissionDenied => "run as root, or name a file in a directory of yours",
        io::ErrorKind::ReadOnlyFilesystem => "name a file on a file system that can be written",
        io::ErrorKind::StorageFull => "free some, or name a file elsewhere",
        _ => "name a file on a local file system, tmpfs at best",
    }
}

/// The lock, held until dropped. The file stays: to remove it would race with the next daemon.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock of the public file `public`, without waiting.
    ///
    /// # Errors
    ///
    /// [`LockError`]: held by another, or the file system refuses.
    pub fn take(public: &Path) -> Result<Self, LockError> {
        let mut name = public.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        for _ in 0..TRIES {
            if let Some(file) = Self::try_take(&lock)? {
                return Ok(Self { file });
            }
        }
        Err(LockError::Replaced { lock })
    }

    /// `None` if the path leads to another file by the time this one is locked.
    fn try_take(lock: &Path) -> Result<Option<File>, LockError> {
        let failed =
            |what| move |error: io::Error| LockError::Io { what, lock: lock.into(), error };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // A FIFO's other end is not waited for.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(lock)
            .map_err(failed("opening the lock file"))?;
        let ours = file.metadata().map_err(failed("stat of"))?;
        let foreign = |why: String| Err(LockError::Foreign { lock: lock.into(), why });
        if !ours.is_file() {
            return foreign("it is no regular file".into());
        }
        if ours.uid() != rustix::process::geteuid().as_raw() {
            return foreign(format!("it belongs to user {}", ours.uid()));
        }
        if ours.mode() & 0o077 != 0 {
            // Whoever can open it can lock it.
            return foreign(format!("its mode is {:o}, not 600", ours.mode() & 0o7777));
        }
        let mut text = Vec::new();
        Read::take(&mut file, 1 + LONGEST).read_to_end(&mut text).map_err(failed("reading"))?;
        if !is_lock_text(&text) {
            return foreign("there is more in it than a process id".into());
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // Best effort: the holder may be about to write it.
                let text = String::from_utf8_lossy(&text);
                let holder = if text.trim().is_empty() { "?" } else { text.trim() };
                return Err(LockError::Held { lock: lock.into(), holder: holder.into() });
            }
            Err(errno) => return Err(failed("locking")(errno.into())),
        }
        match std::fs::symlink_metadata(lock) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("stat of")(error)),
        }
        // For the message to whoever comes second, no more: a full file system is no reason to stop.
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0));
        Ok(Some(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // So that nobody is named who has gone. Closing the file releases the lock.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_second_is_refused_and_told_by_whom() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("barrier");
        let first = Lock::take(&public).expect("free");
        let mode =
            fs::metadata(dir.path().join("barrier.lock")).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let refused = Lock::take(&public).expect_err("held").to_string();
        assert!(refused.contains(&format!("process {}:", std::process::id())), "{refused}");

        drop(first);
        Lock::take(&public).expect("free again");
    }

    #[test]
    fn a_replaced_lock_file_is_locked_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("barrier");
        let _first = Lock::take(&public).expect("free");
        fs::remove_file(dir.path().join("barrier.lock")).expect("removed by someone");
        // Not the same file any more, so not the same lock: the OFD lock on the public file holds.
        Lock::take(&public).expect("a new file");
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").expect("written");
        std::os::unix::fs::symlink(&victim, dir.path().join("barrier.lock")).expect("linked");
        Lock::take(&dir.path().join("barrier")).expect_err("a link");
        assert_eq!(fs::read_to_string(&victim).expect("read"), "precious");
    }

    #[test]
    fn b5_what_is_no_lock_file_is_refused_untouched() {
        for (what, bytes, mode) in [
            ("Cargo's", &b"[[package]]\n"[..], 0o600),
            ("two lines", b"12\n34\n", 0o600),
            ("a longer number", b"123456789012", 0o600),
            ("open to all, who could lock it", b"12\n", 0o644),
        ] {
            let dir = tempfile::tempdir().expect("a directory");
            let lock = dir.path().join("barrier.lock");
            fs::write(&lock, bytes).expect("written");
            fs::set_permissions(&lock, fs::Permissions::from_mode(mode)).expect("chmod");
            let before = fs::metadata(&lock).expect("there");
            let error = Lock::take(&dir.path().join("barrier")).expect_err(what).to_string();
            assert!(error.contains("is not the lock file of a barrierd"), "{error}");
            let after = fs::metadata(&lock).expect("there");
            assert_eq!((after.ino(), after.mode()), (before.ino(), before.mode()), "{what}");
            assert_eq!(fs::read(&lock).expect("read"), bytes, "{what}");
        }
    }

    #[test]
    fn b5_a_lock_file_that_a_daemon_left_is_taken_again() {
        for left in ["", "1", "4194304\n"] {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("barrier.lock");
            fs::write(&path, left).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
            let _lock = Lock::take(&dir.path().join("barrier")).expect("free");
            let text = fs::read_to_string(&path).expect("read");
            assert_eq!(text, format!("{}\n", std::process::id()));
        }
    }

    #[test]
    fn b5_a_fifo_in_its_place_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("barrier.lock");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0)
            .expect("made");
        let error = Lock::take(&dir.path().join("barrier")).expect_err("a FIFO").to_string();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn a_missing_directory_is_said() {
        let error =
            Lock::take(Path::new("/nonexistent/barrier")).expect_err("no directory").to_string();
        assert!(error.contains("the directory must exist"), "{error}");
    }
}
