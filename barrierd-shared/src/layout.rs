//! Where everything is in a region's three files.
//!
//! This file owns the offsets, and what the constant words must hold. It touches no memory.
//!
//! The *data file* has a header page, a page of roots, and the blocks. The *slots file* has a header page and a line for
//! each reader. They are apart so that a participant may have the data read-only: the kernel then keeps it from
//! everything except the slots. The *writers' file* has constant words alone. It is there for the locks of writers' slots, which a
//! participant that may read the data must not be able to take or to share.

use crate::sync::size;

/// The first word of a data file.
pub(crate) const DATA_MAGIC: u64 = u64::from_le_bytes(*b"brrdshrd");
/// The first word of a slots file.
pub(crate) const SLOTS_MAGIC: u64 = u64::from_le_bytes(*b"brrdslot");
/// The first word of a writers' file.
pub(crate) const WRITERS_MAGIC: u64 = u64::from_le_bytes(*b"brrdwrtr");
/// The layout that this version reads and writes.
pub(crate) const VERSION: u64 = 1;

pub(crate) const WORD: u64 = 8;
/// Two cache lines, since some CPUs fetch them in pairs.
pub(crate) const LINE: u64 = size(128, 96) as u64;
pub(crate) const PAGE: u64 = size(4096, 576) as u64;

// Constant words. Those of the other files are the first four.
pub(crate) const MAGIC: u64 = 0;
pub(crate) const VERSION_AT: u64 = 8;
pub(crate) const READERS: u64 = 16;
/// A random number that the files of a region share.
pub(crate) const ID: u64 = 24;
/// What all files have.
pub(crate) const HEADER: u64 = 32;
pub(crate) const BYTES: u64 = 32;
pub(crate) const WRITERS: u64 = 40;
pub(crate) const BOOT: [u64; 2] = [48, 56];
/// The inode and the device of the slots file, and of the writers' file.
pub(crate) const SLOTS_IS: [u64; 2] = [64, 72];
pub(crate) const WRITERS_IS: [u64; 2] = [80, 88];

/// Who may write now (`turn.rs`).
pub(crate) const TURN: u64 = LINE;
/// The latest stamp (`slots.rs`).
pub(crate) const LATEST: u64 = 2 * LINE;

// The intention of the change that is under way (`journal.rs`).
pub(crate) const ARMED: u64 = 3 * LINE;
pub(crate) const LINK: u64 = ARMED + 8;
pub(crate) const NEW: u64 = ARMED + 16;
pub(crate) const FRESH: u64 = ARMED + 24;
pub(crate) const RETIRE: u64 = ARMED + 32;
pub(crate) const COUNT_AT: u64 = ARMED + 40;
pub(crate) const COUNT: u64 = ARMED + 48;

// What is derived from the blocks (`blocks.rs`), and counts.
pub(crate) const TOP: u64 = 4 * LINE;
pub(crate) const QUEUE_HEAD: u64 = TOP + 8;
pub(crate) const QUEUE_TAIL: u64 = TOP + 16;
pub(crate) const WAITING: u64 = TOP + 24;
pub(crate) const WAITING_BYTES: u64 = TOP + 32;
pub(crate) const FREE_BYTES: u64 = TOP + 40;
pub(crate) const RECOVERIES: u64 = TOP + 48;
pub(crate) const DEATHS: u64 = TOP + 56;
/// The head of each class's free list.
pub(crate) const FREE: u64 = 5 * LINE;

/// The process of each writer, for reports.
pub(crate) const WRITER_PIDS: u64 = size(1024, 528) as u64;
/// The most writers that a region may have.
pub const MAX_WRITERS: usize = size(256, 4);
/// The most readers that a region may have.
pub const MAX_READERS: usize = size(1 << 16, 4);

/// The links that lead to everything else.
pub(crate) const ROOTS_AT: u64 = PAGE;
/// The number of roots that each region has.
pub const ROOTS: usize = size(256, 2);
/// The first block.
pub(crate) const BLOCKS: u64 = 2 * PAGE;

/// The slot of the first reader.
pub(crate) const SLOTS_AT: u64 = PAGE;

const _: () = assert!(WRITERS_IS[1] + WORD <= TURN);
const _: () = assert!(WRITER_PIDS + MAX_WRITERS as u64 * WORD <= ROOTS_AT);
const _: () = assert!(ROOTS_AT + ROOTS as u64 * WORD <= BLOCKS);
const _: () = assert!(FREE + crate::blocks::CLASSES as u64 * WORD <= WRITER_PIDS);

/// Returns where reader `index`'s slot is, in the slots file. Its process stands in the word behind it, for reports.
pub(crate) const fn slot_at(index: usize) -> u64 {
    SLOTS_AT + index as u64 * LINE
}

/// Returns how long a slots file is.
pub(crate) const fn slots_bytes(readers: usize) -> u64 {
    slot_at(readers)
}

/// Returns where root `index` is.
///
/// # Panics
///
/// If there is no such root.
#[inline]
pub(crate) fn root_at(index: usize) -> u64 {
    assert!(index < ROOTS, "there are {ROOTS} roots, no root {index}");
    ROOTS_AT + index as u64 * WORD
}
