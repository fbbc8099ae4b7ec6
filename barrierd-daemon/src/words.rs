//! A shared mapping that others write or read at any time, as single 64-bit atomic words.
//!
//! Owns the memory and the only raw accesses to it. Knows nothing of what the words mean.
//!
//! The memory is never behind a `&T` or `&mut T` of plain data: BPF programs write the maps, and
//! clients read the public file.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

const WORD: usize = size_of::<u64>();

/// A mapping for reading and writing, by byte offset.
#[derive(Debug)]
pub struct Words {
    map: MmapRaw,
}

impl Words {
    /// Maps the first `len` bytes of `fd`, which must hold at least that many: a file allocated so
    /// far and not shrunk since, or a BPF map of that size.
    ///
    /// # Errors
    ///
    /// What `mmap` says.
    pub fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(len).map_raw(fd.as_raw_fd())? })
    }

    /// The word at byte `offset`. Its caller chooses orderings and names the partner.
    ///
    /// # Panics
    ///
    /// `offset` isn't that of a whole aligned word in the mapping: a mistake in this program.
    #[must_use]
    pub fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset % WORD == 0 && offset < self.map.len() && self.map.len() - offset >= WORD,
            "no whole word at offset {offset} of {}",
            self.map.len()
        );
        // SAFETY: in bounds and aligned, by the assertion and since mappings begin on a page, and
        // mapped as long as `self` lives. Every bit pattern is a u64. The others, BPF programs and
        // other processes, access it by whole 64-bit words only, which atomics expect.
        unsafe { &*self.map.as_mut_ptr().add(offset).cast::<AtomicU64>() }
    }

    /// The low half of the word at `offset`, which is the first on a little-endian machine. For the
    /// futex system call alone: it is never loaded or stored here.
    ///
    /// # Panics
    ///
    /// As [`word`](Self::word).
    #[must_use]
    pub fn futex(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: four bytes inside the eight that `word` has vouched for, at their aligned start.
        // The reference itself accesses nothing.
        unsafe { &*std::ptr::from_ref(self.word(offset)).cast::<AtomicU32>() }
    }

    /// The word at `offset`. Acquire: what its writer did before a Release store of it is seen.
    ///
    /// # Panics
    ///
    /// As [`word`](Self::word).
    #[must_use]
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Stores the word at `offset`. Release: who sees it sees what this thread did before.
    ///
    /// # Panics
    ///
    /// As [`word`](Self::word).
    pub fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn words_are_little_endian_bytes_of_the_file() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.write_all_at(&[0; 32], 0).expect("written");
        let words = Words::map(file.as_fd(), 32).expect("mapped");
        words.store(8, 0x0201);
        let mut bytes = [9; 3];
        file.read_exact_at(&mut bytes, 8).expect("read");
        assert_eq!(bytes, [1, 2, 0]);
        assert_eq!(words.load(8), 0x0201);
        assert_eq!(std::ptr::from_ref(words.futex(24)).addr() % 8, 0);
    }

    #[test]
    fn what_is_no_whole_word_is_refused() {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(20).expect("sized");
        let words = Words::map(file.as_fd(), 20).expect("mapped");
        for offset in [4, 16, 24, usize::MAX - 7] {
            let load = std::panic::AssertUnwindSafe(|| words.load(offset));
            assert!(std::panic::catch_unwind(load).is_err(), "{offset}");
        }
    }
}
