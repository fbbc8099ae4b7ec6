//! One daemon a file: the lock beside it.
//!
//! Owns `<file>.lock`. Knows nothing of what the lock protects.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How often the lock file may be replaced under our hands before we give up.
const TRIES: usize = 8;

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
    /// The lock file was replaced each time it had just been locked.
    #[error("{lock} was replaced {TRIES} times while it was being locked: who does that?", lock = lock.display())]
    Replaced {
        /// The lock file.
        lock: PathBuf,
    },
}

fn advice(error: &io::Error) -> &'static str {
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
            .custom_flags(libc::O_NOFOLLOW)
            .open(lock)
            .map_err(failed("opening the lock file"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Best effort: the holder may be about to write it.
                let _ = Read::take(&mut file, 20).read_to_string(&mut text);
                let holder = if text.trim().is_empty() { "?" } else { text.trim() };
                return Err(LockError::Held { lock: lock.into(), holder: holder.into() });
            }
            Err(errno) => return Err(failed("locking")(errno.into())),
        }
        let ours = file.metadata().map_err(failed("stat of"))?;
        match std::fs::symlink_metadata(lock) {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("stat of")(error)),
        }
        // For the message to whoever comes second, no more: a full file system is no reason to stop.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
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
    fn a_missing_directory_is_said() {
        let error =
            Lock::take(Path::new("/nonexistent/barrier")).expect_err("no directory").to_string();
        assert!(error.contains("the directory must exist"), "{error}");
    }
}
