//! The numbers that C programs get instead of errors.
//!
//! This module owns the codes, their texts, and which error has which. `include/barrierd.h` repeats the
//! numbers; a test compares the two. It knows nothing of pointers.

use std::ffi::{CStr, c_int};

use barrierd_client::{ExpediteError, Liveness, OpenError, WaitError};

/// As messages name it.
pub(crate) const LIBRARY: &str = "libbarrierd";

codes! {
    otherwise c"no error of libbarrierd's";
    OK = 0, c"no error";
    INVALID = -1, c"a null pointer, or a number that means nothing";
    INTERNAL = -2, c"a mistake in libbarrierd; nothing was done";
    NOT_FOUND = -10, c"no such file: start barrierd, or name the file that it was started with";
    SYMLINK = -11, c"a symbolic link on the way, which may lead elsewhere tomorrow: name the real path";
    NOT_REGULAR = -12, c"not a regular file: name barrierd's file";
    BAD_OWNER = -13, c"owned by someone who could forge it, or who has no number in this user namespace: only root and this process's own user are believed";
    BAD_MODE = -14, c"writable by others, who could forge it";
    UNSAFE_PARENT = -15, c"a directory on the way lets others replace the file";
    FUSE = -16, c"on a FUSE file system, whose server decides what is read";
    TOO_SHORT = -17, c"shorter than what it says it holds";
    NOT_READY = -18, c"not set up yet: try again in a moment";
    BAD_MAGIC = -19, c"another program's file";
    UNKNOWN_VERSION = -20, c"written by another version of barrierd";
    BAD_NCPU = -21, c"names no sensible number of CPUs: damaged";
    FOREIGN_BOOT = -22, c"written during another boot: start barrierd, which will replace it";
    FUTURE_TIME = -23, c"a time in it lies in the future: another boot, another clock, or forged";
    DAMAGED = -24, c"a field holds what no daemon writes: damaged";
    TIME_NAMESPACE = -25, c"this process is in a time namespace of its own, so its clock may be shifted";
    NO_PROC = -26, c"/proc does not tell this process's time namespace or this boot: mount it";
    IO = -27, c"the system refused";
    DISTRUST = -40, c"the source was caught lying and is not believed any more: keep what waits, open it again";
    TIMED_OUT = -41, c"the time was up before the barrier had passed: keep what waits";
    EXPEDITE_ABSENT = -50, c"no barrierd takes requests beside this file";
    EXPEDITE_DENIED = -51, c"this user may not ask for expedited barriers";
    EXPEDITE_BUSY = -52, c"too many requests are waiting: ask again, or just wait";
    EXPEDITE_LONG_PATH = -53, c"the file's path is too long for a socket beside it";
}

pub(crate) fn of_open(error: &OpenError) -> c_int {
    match error {
        OpenError::NotFound { .. } => NOT_FOUND,
        OpenError::Symlink { .. } => SYMLINK,
        OpenError::NotRegular { .. } => NOT_REGULAR,
        OpenError::BadOwner { .. } | OpenError::UnmappedOwner { .. } => BAD_OWNER,
        OpenError::BadMode { .. } => BAD_MODE,
        OpenError::UnsafeParent { .. } => UNSAFE_PARENT,
        OpenError::Fuse { .. } => FUSE,
        OpenError::TooShort { .. } => TOO_SHORT,
        OpenError::NotReady { .. } => NOT_READY,
        OpenError::BadMagic { .. } => BAD_MAGIC,
        OpenError::UnknownVersion { .. } => UNKNOWN_VERSION,
        OpenError::BadNcpu { .. } => BAD_NCPU,
        OpenError::ForeignBoot { .. } => FOREIGN_BOOT,
        OpenError::FutureTime { .. } => FUTURE_TIME,
        OpenError::Damaged { .. } => DAMAGED,
        OpenError::TimeNamespace { .. } => TIME_NAMESPACE,
        OpenError::UnknownTimeNamespace { .. } | OpenError::UnknownBoot { .. } => NO_PROC,
        // Io, and what may be added.
        _ => IO,
    }
}

pub(crate) fn of_wait(error: WaitError) -> c_int {
    match error {
        WaitError::TimedOut { .. } => TIMED_OUT,
        WaitError::Distrust(_) => DISTRUST,
        // Of waits that this interface doesn't offer.
        _ => INTERNAL,
    }
}

pub(crate) fn of_expedite(error: &ExpediteError) -> c_int {
    match error {
        ExpediteError::Absent => EXPEDITE_ABSENT,
        ExpediteError::Denied => EXPEDITE_DENIED,
        ExpediteError::Busy => EXPEDITE_BUSY,
        ExpediteError::LongPath => EXPEDITE_LONG_PATH,
        // Io, and what may be added.
        _ => IO,
    }
}

/// Answers of `barrierd_liveness`.
pub(crate) const ALIVE: c_int = 0;
pub(crate) const STOPPED: c_int = 1;
pub(crate) const SUSPECT: c_int = 2;
pub(crate) const STALE: c_int = 3;

pub(crate) fn of_liveness(liveness: Liveness) -> c_int {
    match liveness {
        Liveness::Alive => ALIVE,
        Liveness::Stopped => STOPPED,
        Liveness::Suspect => SUSPECT,
        Liveness::Stale => STALE,
    }
}
