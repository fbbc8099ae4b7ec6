//! The mapping of the public file, and the only raw reads of it.
//!
//! This module owns the memory that another process writes. It hands out single 64-bit words by
//! offset and knows nothing of their meaning.
//!
//! The memory is never behind a `&T` of plain data: the daemon stores to it at any time. Loads are
//! Relaxed and at most 64 bits wide, all that Rust promises on a read-only mapping ("Atomic accesses
//! to read-only memory" in `std::sync::atomic`); who needs more puts `fence(Acquire)` after them.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};

use crate::abi;

const WORD: usize = size_of::<u64>();

/// A read-only shared mapping of the first `len` bytes of a file.
pub(crate) struct Words {
    map: MmapRaw,
}

impl Words {
    /// Maps `len` bytes, which must not be more than the file holds: a load past its last page
    /// raises `SIGBUS`.
    pub(crate) fn map(file: &OwnedFd, len: usize) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(len).map_raw_read_only(file.as_raw_fd())? })
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Where it begins, for another language: read-only, words that others store to.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.map.as_ptr()
    }

    /// The word at `offset`, loaded Relaxed.
    ///
    /// # Panics
    ///
    /// If `offset` isn't that of a whole, aligned word inside the mapping: a mistake in this crate,
    /// whatever the file holds.
    #[inline]
    pub(crate) fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// The word at `offset` for callers that load it often; valid while `self` lives. Load it
    /// Relaxed, store to it never: the mapping is read-only.
    ///
    /// # Panics
    ///
    /// As [`load`](Self::load).
    pub(crate) fn pointer(&self, offset: usize) -> NonNull<AtomicU64> {
        NonNull::from(self.word(offset))
    }

    /// The 32-bit futex word in the low half of the word at `offset`. For the futex system call
    /// only: a 32-bit load here would race with 64-bit stores.
    ///
    /// # Panics
    ///
    /// As [`load`](Self::load).
    #[inline]
    pub(crate) fn futex(&self, offset: usize) -> &AtomicU32 {
        let at = std::ptr::from_ref(self.word(abi::futex_word(offset))).cast::<AtomicU32>();
        // SAFETY: four bytes inside the eight that `word` has just vouched for, and aligned, being
        // at their start. A reference to an atomic reads nothing by itself.
        unsafe { &*at }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset % WORD == 0 && offset < self.map.len() && self.map.len() - offset >= WORD,
            "no whole word at offset {offset} of {}",
            self.map.len()
        );
        // SAFETY: in bounds and aligned by the assertion and because mappings begin on a page; the
        // mapping lives as long as `self`. The kernel filled it, so every bit pattern is a valid
        // u64. Other processes only ever change it by 64-bit stores, which atomics expect. It is
        // read-only, and this crate does nothing but Relaxed loads of at most 8 bytes through it.
        unsafe { &*self.map.as_ptr().add(offset).cast::<AtomicU64>() }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Words").field("len", &self.map.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn mapped(bytes: &[u8]) -> Words {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("written");
        Words::map(&OwnedFd::from(file), bytes.len()).expect("mapped")
    }

    #[test]
    fn words_are_read_little_endian_up_to_the_last() {
        let words = mapped(&[1, 0, 0, 0, 0, 0, 0, 2, 3, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9]);
        assert_eq!(words.load(0), 0x0200_0000_0000_0001);
        assert_eq!(words.load(8), 3);
        // SAFETY: `words` lives to the end of this test.
        assert_eq!(unsafe { words.pointer(8).as_ref() }.load(Ordering::Relaxed), 3);
        let futex = std::ptr::from_ref(words.futex(8)).addr();
        assert_eq!(futex, words.pointer(8).addr().get());
    }

    #[test]
    #[should_panic(expected = "no whole word at offset 16 of 19")]
    fn a_word_across_the_end_is_refused() {
        mapped(&[0; 19]).load(16);
    }

    #[test]
    #[should_panic(expected = "no whole word at offset 4 of 16")]
    fn a_misaligned_word_is_refused() {
        mapped(&[0; 16]).load(4);
    }

    #[test]
    #[should_panic(expected = "no whole word at offset 18446744073709551608")]
    fn an_offset_that_wraps_is_refused() {
        mapped(&[0; 16]).load(usize::MAX - 7);
    }
}
