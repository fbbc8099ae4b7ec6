//! Models of the protocol under loom, and the mutants that it must reject.
//!
//! Run: `make loom`. loom runs this crate's own code, whole: regions, readers, turns, blocks, recovery, scans and the cell. A
//! model's processes are threads that share one region. A *death* is a thread that stops before one of its stores, stores nothing
//! more, and whose locks then go (`lock.rs`). That is all that a model adds, besides small sizes and clocks that
//! stand still (`sync.rs`).
//!
//! A block has a *ghost*, a cell that is written when the block is freed. A model's reader reads it where it uses the
//! block, so that loom sees a free that is not ordered after the use, whatever the words in the block are by then.

#[cfg(test)]
mod deaths;
#[cfg(test)]
mod maps;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod splits;
#[cfg(test)]
mod sweeps;
#[cfg(test)]
mod turns;
#[cfg(test)]
mod world;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Instant;

use loom::cell::UnsafeCell;

use crate::sync::AtomicU64;

/// A copy of a file, in words that loom knows, and the ghosts of the blocks in it.
pub(crate) struct Memory {
    words: Box<[AtomicU64]>,
    ghosts: Box<[UnsafeCell<()>]>,
}

/// Bytes for each ghost: no block begins between two such places.
const UNIT: usize = 16;

impl Memory {
    pub(crate) fn of(file: &File, len: usize, _writable: bool) -> io::Result<Memory> {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        let words = bytes
            .chunks_exact(8)
            .map(|word| AtomicU64::new(u64::from_le_bytes(word.try_into().expect("eight bytes"))));
        let ghosts = (0..len / UNIT).map(|_| UnsafeCell::new(()));
        Ok(Memory { words: words.collect(), ghosts: ghosts.collect() })
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len() * 8
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.words.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.words.as_ptr().cast_mut().cast()
    }

    pub(crate) fn freed(&self, at: usize) {
        self.ghosts[at / UNIT].with_mut(|_| ());
    }

    #[cfg(test)]
    pub(crate) fn used(&self, at: usize) {
        self.ghosts[at / UNIT].with(|_| ());
    }
}

// SAFETY: loom looks at each access to a ghost.
unsafe impl Sync for Memory {}

/// A time.
pub(crate) fn beginning() -> Instant {
    static BEGINNING: OnceLock<Instant> = OnceLock::new();
    *BEGINNING.get_or_init(Instant::now)
}
