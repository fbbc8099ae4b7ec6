//! The numbers that C programs get instead of errors.
//!
//! This module owns the codes, their texts, and which error has which. `include/barrierd_shared.h` repeats the numbers; a
//! test compares the two.

use std::ffi::{CStr, c_int};

use barrierd_shared::{JoinError, RegionError, WriteError};

/// As messages name it.
pub(crate) const LIBRARY: &str = "libbarrierd-shared";

codes! {
    otherwise c"no error of libbarrierd-shared's";
    OK = 0, c"no error";
    INVALID = -1, c"a null pointer, or a number that means nothing";
    INTERNAL = -2, c"a mistake in libbarrierd-shared; nothing was done";
    NOT_FOUND = -10, c"no such file: no region was created there";
    FOREIGN = -11, c"another program's file";
    VERSION = -12, c"made by another version of barrierd-shared: use one in all participants";
    SHORT = -13, c"shorter than what it says it holds: it was cut";
    DAMAGED = -14, c"a header that makes no sense";
    OTHER_BOOT = -15, c"made during another boot: remove it, and create it anew";
    OTHER_SLOTS = -16, c"the slots file is another region's";
    IO = -17, c"the system refused";
    EXISTS = -18, c"there is something at the path already: open it, or remove it";
    FULL = -30, c"all slots have readers that live";
    CLOSED = -31, c"this program has closed the region's descriptors: open it again";
    FORKED = -40, c"a reader of the process that forked this one: take another";
    OTHER_SIZE = -41, c"the cell holds a value of another size";
    OTHER_TYPE = -42, c"what is at the root is no map of these sizes and this schema";
    CORRUPT = -43, c"a participant has broken the region's content";
    READ_ONLY = -50, c"the region was opened for readers alone: open it by barrierd_shared_open_writable";
    BUSY = -51, c"another writer, which lives, has had the turn for a second";
    NO_MEMORY = -52, c"no block is free: see what the others wait for";
    TOO_LARGE = -53, c"no block can be so large";
    TIMED_OUT = -54, c"not all could be freed in the time";
}

pub(crate) fn of_open(error: &RegionError) -> c_int {
    match error {
        RegionError::NotFound { .. } => NOT_FOUND,
        RegionError::Foreign { .. } => FOREIGN,
        RegionError::Version { .. } => VERSION,
        RegionError::Short { .. } => SHORT,
        RegionError::Nonsense { .. } => DAMAGED,
        RegionError::OtherBoot { .. } => OTHER_BOOT,
        RegionError::OtherSlots | RegionError::OtherWriters => OTHER_SLOTS,
        RegionError::Exists { .. } => EXISTS,
        RegionError::Options { .. } => INVALID,
        // Io, and what may be added.
        _ => IO,
    }
}

pub(crate) fn of_join(error: &JoinError) -> c_int {
    match error {
        JoinError::Full { .. } => FULL,
        JoinError::Closed => CLOSED,
        JoinError::ReadOnly => READ_ONLY,
        JoinError::Write(error) => of_write(error),
        // Io, and what may be added; what the system is to be asked for is said by the message.
        _ => IO,
    }
}

pub(crate) fn of_write(error: &WriteError) -> c_int {
    match error {
        WriteError::Busy { .. } => BUSY,
        WriteError::OutOfMemory { .. } => NO_MEMORY,
        WriteError::TooLarge { .. } => TOO_LARGE,
        WriteError::Deadline { .. } => TIMED_OUT,
        WriteError::Forked => FORKED,
        WriteError::Corrupt(_) => CORRUPT,
        // The one mistake that these calls can make: the root is another map's, or none's.
        WriteError::Misused(_) => OTHER_TYPE,
        // What may be added.
        _ => INTERNAL,
    }
}
