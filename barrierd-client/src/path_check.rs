//! The way to the file: every directory on it, and the file's own ownership.
//!
//! This module owns the walk, and the rule which owners are believed. It knows nothing of what the file holds.
//!
//! It walks from `/`, one `openat` a component with every directory held open while the next is
//! looked up, so what was checked is what is used, and accepts no symbolic link anywhere: a link is
//! as good as its directory, and following one would mean judging two roads.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf, absolute};

use rustix::fs::{CWD, FileType, FsWord, Mode, OFlags, Stat, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::OpenError;
use crate::user_ns;

/// `FUSE_SUPER_MAGIC` in fs/fuse/inode.c; virtiofs has the same.
const FUSE_SUPER_MAGIC: FsWord = 0x6573_5546;
/// The user that stands for "someone of another user namespace"; nobody's files are anybody's.
const OVERFLOW_UID: u32 = 65534;
/// Writable by the group or by others.
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A file that passed.
#[derive(Debug)]
pub(crate) struct CheckedFile {
    pub(crate) file: OwnedFd,
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    /// Which file it is: device and inode.
    pub(crate) id: (u64, u64),
}

/// Walks to `path` and opens the file there for reading.
pub(crate) fn open(path: &Path) -> Result<CheckedFile, OpenError> {
    let io = |what, errno: Errno| OpenError::Io { path: path.into(), what, source: errno.into() };
    let whole = absolute(path).map_err(|source| OpenError::Io {
        path: path.into(),
        what: "make an absolute path of it",
        source,
    })?;
    let euid = geteuid().as_raw();
    let mut here = PathBuf::from("/");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, &here, flags, Mode::empty()).map_err(|e| io("open /", e))?;
    check_directory(&dir, &whole, &here, euid)?;
    let mut rest = whole.components().filter(|c| *c != Component::RootDir).peekable();
    while let Some(component) = rest.next() {
        here.push(component);
        if rest.peek().is_none() {
            return open_file(&dir, component.as_os_str(), whole.clone(), euid);
        }
        // Without O_DIRECTORY, which would hide a link behind ENOTDIR.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        dir = openat(&dir, component.as_os_str(), flags, Mode::empty())
            .map_err(|errno| lookup_error(&here, errno))?;
        check_directory(&dir, &whole, &here, euid)?;
    }
    Err(not_regular(&here, FileType::Directory, "regular file"))
}

/// Refuses a directory in which others could put another file, or another directory, in place of
/// the one that was checked.
fn check_directory(dir: &OwnedFd, path: &Path, here: &Path, euid: u32) -> Result<(), OpenError> {
    let stat = stat(dir, here)?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found == FileType::Symlink {
        return Err(OpenError::Symlink { path: here.into() });
    }
    if found != FileType::Directory {
        return Err(not_regular(here, found, "directory"));
    }
    // In a sticky directory others can add names but neither rename nor remove those of root or of
    // our own user, and what stands at the next step is held to belong to one of these.
    let mode = stat.st_mode & 0o7777;
    if believed(stat.st_uid, euid) && (mode & WRITABLE == 0 || mode & STICKY != 0) {
        return Ok(());
    }
    if unmapped(stat.st_uid) {
        return Err(OpenError::UnmappedOwner { path: here.into() });
    }
    let (path, dir, owner) = (path.into(), here.into(), stat.st_uid);
    Err(OpenError::UnsafeParent { path, dir, owner, mode, euid })
}

/// Opens the last component and holds it to the rules for the file itself.
fn open_file(
    dir: &OwnedFd,
    name: &OsStr,
    path: PathBuf,
    euid: u32,
) -> Result<CheckedFile, OpenError> {
    // Not blocking on a FIFO, not adopting a terminal.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = openat(dir, name, flags, Mode::empty()).map_err(|e| lookup_error(&path, e))?;
    let stat = stat(&file, &path)?;
    let found = FileType::from_raw_mode(stat.st_mode);
    if found != FileType::RegularFile {
        return Err(not_regular(&path, found, "regular file"));
    }
    let owner = stat.st_uid;
    if unmapped(owner) {
        return Err(OpenError::UnmappedOwner { path });
    }
    if !believed(owner, euid) {
        return Err(OpenError::BadOwner { path, owner, euid });
    }
    // An ACL that lets someone else write shows in the group's bits, which are its mask.
    let mode = stat.st_mode & 0o7777;
    if mode & WRITABLE != 0 {
        return Err(OpenError::BadMode { path, mode });
    }
    match fstatfs(&file) {
        Ok(system) if system.f_type == FUSE_SUPER_MAGIC => return Err(OpenError::Fuse { path }),
        Ok(_) => {}
        Err(errno) => {
            let what = "ask for its file system";
            return Err(OpenError::Io { path, what, source: errno.into() });
        }
    }
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(CheckedFile { file, path, len, id: (stat.st_dev, stat.st_ino) })
}

/// Returns whether files and directories of `uid` are believed.
fn believed(uid: u32, euid: u32) -> bool {
    uid != OVERFLOW_UID && (uid == 0 || uid == euid)
}

/// Returns whether `uid` stands for a user who has no number in this user namespace.
fn unmapped(uid: u32) -> bool {
    uid == OVERFLOW_UID && !user_ns::maps_everyone()
}

fn stat(fd: &OwnedFd, path: &Path) -> Result<Stat, OpenError> {
    fstat(fd).map_err(|errno| OpenError::Io {
        path: path.into(),
        what: "ask for its owner",
        source: errno.into(),
    })
}

fn lookup_error(path: &Path, errno: Errno) -> OpenError {
    let path = path.to_path_buf();
    match errno {
        Errno::NOENT => OpenError::NotFound { path },
        // O_NOFOLLOW's answer to a link.
        Errno::LOOP => OpenError::Symlink { path },
        // A socket's, or a device's without a driver, to being opened.
        Errno::NXIO | Errno::NODEV => {
            OpenError::NotRegular { path, found: "socket or device", wanted: "regular file" }
        }
        errno => OpenError::Io { path, what: "open it", source: io::Error::from(errno) },
    }
}

fn not_regular(path: &Path, found: FileType, wanted: &'static str) -> OpenError {
    let found = match found {
        FileType::RegularFile => "regular file",
        FileType::Directory => "directory",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "thing of unknown type",
    };
    OpenError::NotRegular { path: path.into(), found, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_oneself_are_believed() {
        assert!(believed(0, 1000));
        assert!(believed(1000, 1000));
        assert!(!believed(1001, 1000));
        assert!(!believed(1000, 0));
        assert!(!believed(OVERFLOW_UID, 0));
        assert!(!believed(OVERFLOW_UID, OVERFLOW_UID));
    }
}
