//! The reasons why a file is refused.
//!
//! This module owns the words: one variant for each hazard, with what was found and what to do. It
//! knows nothing of how a hazard is found.

use std::io;
use std::path::PathBuf;

use crate::abi;
use crate::boot::BootId;

/// The reason why [`Barrier::open`](crate::Barrier::open) refused a file.
///
/// A time in this file decides when memory is freed. A user who can write it, or make this process
/// read another, could cause a use after free here. Hence the length of the list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is nothing at this path.
    #[error(
        "{}: no such file: start barrierd, or name the file that it was started with", path.display()
    )]
    NotFound {
        /// The part of the path that doesn't exist.
        path: PathBuf,
    },

    /// A part of the path is a symbolic link, which may be turned elsewhere.
    #[error(
        "{}: a symbolic link, which may lead elsewhere tomorrow: name the real path (`realpath` tells it)", path.display()
    )]
    Symlink {
        /// The part of the path that is a link.
        path: PathBuf,
    },

    /// It is not a regular file, or a part of the way is no directory.
    #[error("{}: a {found} where a {wanted} is needed: name barrierd's file", path.display())]
    NotRegular {
        /// The part of the path in question.
        path: PathBuf,
        /// The kind of file that is there.
        found: &'static str,
        /// The kind of file that should be there.
        wanted: &'static str,
    },

    /// The file belongs to someone who could forge it.
    #[error(
        "{}: owned by uid {owner}, and only root or this process's effective uid {euid} is believed (never 65534): run barrierd as one of them", path.display()
    )]
    BadOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// This process's effective user.
        euid: u32,
    },

    /// The owner of the file, or of a directory on the way, has no number in this process's user
    /// namespace: it may be root or anyone else. So it is with root's files in a rootless container.
    ///
    /// What works there: a container in the host's user namespace; or a barrierd that serves a file of
    /// the user who runs the container (started as that user, with `CAP_BPF`, `CAP_PERFMON` and
    /// `CAP_SETPCAP`, in a directory of theirs), since that user is root inside. A process that waits
    /// for its own threads only needs no daemon: `membarrier(2)`, which `barrierd-reclaim` falls back
    /// on by itself.
    #[error(
        "{}: its owner has no number in this process's user namespace (it shows as 65534, as root's files do in a rootless container), so it can't be told who could forge barrierd's file: run this in the host's user namespace (--userns=host of a container that root starts), or a barrierd as the user who runs the container, on a file of theirs; for one process alone membarrier(2) does without", path.display()
    )]
    UnmappedOwner {
        /// The file or directory.
        path: PathBuf,
    },

    /// Others may write to the file.
    #[error(
        "{}: mode {mode:04o} lets its group or others write to it, who could forge it: remove it and restart barrierd, which makes it 0644", path.display()
    )]
    BadMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },

    /// A directory on the way lets others put another file in this one's place.
    #[error(
        "{}: a directory on the way to {}, owned by uid {owner}, mode {mode:04o}: it must belong to root or to this process's effective uid {euid}, and be writable by no one else unless sticky: move the file, say to {}", dir.display(), path.display(), abi::DEFAULT_PATH
    )]
    UnsafeParent {
        /// The file asked for.
        path: PathBuf,
        /// The directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// This process's effective user.
        euid: u32,
    },

    /// The file lies on a FUSE file system, so a user's program decides what is read.
    #[error(
        "{}: on a FUSE file system, whose server decides what is read: keep it on tmpfs, say in /run", path.display()
    )]
    Fuse {
        /// The file.
        path: PathBuf,
    },

    /// The file is shorter than what it says it holds.
    #[error(
        "{}: {len} bytes long, needs {need}: name barrierd's file; if this is it, it was cut short, so remove it and restart barrierd", path.display()
    )]
    TooShort {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The length in bytes that it should have at least.
        need: u64,
    },

    /// The daemon hasn't finished making the file.
    #[error(
        "{}: not set up yet: try again in a moment; if it stays so, its maker died: remove it and restart barrierd", path.display()
    )]
    NotReady {
        /// The file.
        path: PathBuf,
    },

    /// The file is another program's.
    #[error(
        "{}: magic number {found:#018x}, expected {:#018x} (or 0, the C daemon's), so it is not barrierd's file: name the file that barrierd was started with", path.display(), abi::MAGIC_VALUE
    )]
    BadMagic {
        /// The file.
        path: PathBuf,
        /// The word where the magic number should be.
        found: u64,
    },

    /// The file was written by another version of the daemon.
    #[error(
        "{}: layout version {found}, and this client reads version {}: install a client and a daemon of one version", path.display(), abi::VERSION_VALUE
    )]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its layout version.
        found: u64,
    },

    /// The file names no sensible number of CPUs.
    #[error(
        "{}: names {ncpu} CPUs, expected 1 to {}: damaged; remove it and restart barrierd", path.display(), abi::MAX_CPUS
    )]
    BadNcpu {
        /// The file.
        path: PathBuf,
        /// The number that it names.
        ncpu: u64,
    },

    /// The file was written during another boot, by a clock that started elsewhere.
    #[error(
        "{}: written during boot {found}, and this is boot {own}: start barrierd, which will replace it", path.display()
    )]
    ForeignBoot {
        /// The file.
        path: PathBuf,
        /// The boot it was written in.
        found: BootId,
        /// The running kernel's.
        own: BootId,
    },

    /// A time in the file hasn't come yet, so it was taken by another clock.
    #[error(
        "{}: {field} lies {ahead_ns} ns after CLOCK_MONOTONIC, so it is of another boot, another clock, or forged: remove it and restart barrierd", path.display()
    )]
    FutureTime {
        /// The file.
        path: PathBuf,
        /// The name of that time.
        field: String,
        /// How far it lies ahead, in nanoseconds.
        ahead_ns: u64,
    },

    /// A field holds what no daemon writes.
    #[error(
        "{}: {field} is {value}, which no daemon writes: damaged; remove it and restart barrierd", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The name of the field.
        field: &'static str,
        /// Its value.
        value: u64,
    },

    /// This process's clock may be shifted against the daemon's.
    #[error(
        "this process is in time namespace {found}, and barrierd's times are those of the initial one ({initial}): run it outside (for a container: without a time namespace of its own)"
    )]
    TimeNamespace {
        /// The inode of this process's time namespace.
        found: u64,
        /// That of the initial one.
        initial: u64,
    },

    /// There is no telling whether this process's clock is shifted.
    #[error(
        "can't read /proc/self/ns/time ({source}), so this process's clock may be shifted: mount a proc file system on /proc"
    )]
    UnknownTimeNamespace {
        /// The kernel's error.
        source: io::Error,
    },

    /// There is no telling which boot this is.
    #[error("can't tell this boot's id ({source}): mount a proc file system on /proc")]
    UnknownBoot {
        /// The error of the attempt.
        source: io::Error,
    },

    /// The system refused something else, for example for want of a permission.
    #[error("{}: can't {what} ({source}){}", path.display(), advice(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The action that was tried.
        what: &'static str,
        /// The system's error. If a permission is missing, the operator who set the file up can give it.
        source: io::Error,
    },
}

/// Returns what to do about an error of the system, where that is known.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => ": look who may read it (ls -l), or ask as root",
        _ => "",
    }
}
