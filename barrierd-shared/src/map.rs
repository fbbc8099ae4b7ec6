//! A mapping of one of the region's files, and the only raw accesses to it.
//!
//! This file owns the memory that other processes write. It hands out words, and structures that consist of such words,
//! by offset; every offset is checked here. It knows nothing of their meaning.
//!
//! The memory is never behind a `&T` of plain data: any participant may store to it at any time. All that is ever done
//! to it are loads and stores of aligned 64-bit words. Where the mapping may be read-only, loads are Relaxed and
//! `fence(Acquire)` follows, which is all that Rust promises there.

use std::fs::File;
use std::io;

use crate::sync::{self, AtomicU64, Memory, word_at};

use crate::layout::{BLOCKS, PAGE, WORD};
use crate::share::Shareable;

#[allow(unreachable_pub, reason = "a sealed trait of the interface names it")]
pub struct Map {
    raw: Memory,
    writable: bool,
}

impl Map {
    /// Maps the first `len` bytes of `file`, which must be that long: an access behind its end raises SIGBUS.
    pub(crate) fn new(file: &File, len: u64, writable: bool) -> io::Result<Map> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        Ok(Map { raw: sync::map(file, len, writable)?, writable })
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    pub(crate) fn len(&self) -> u64 {
        self.raw.len() as u64
    }

    /// Returns where it begins.
    pub(crate) fn begin(&self) -> *const u8 {
        self.raw.as_ptr()
    }

    /// Returns the word at `offset`. A store to a read-only mapping is a fault.
    ///
    /// # Panics
    ///
    /// If `offset` is not that of a whole word inside: callers check what they read from the memory.
    #[inline]
    pub(crate) fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(self.holds(offset, WORD), "no word at {offset}");
        // SAFETY: aligned (`holds`; the mapping begins with a page) and inside the mapping, which lives as long as
        // `self`. All processes access it by atomics of 64 bits alone.
        unsafe { word_at(self.raw.as_mut_ptr().add(index(offset)).cast()) }
    }

    /// Returns whether `bytes` bytes at `offset` are inside, and aligned.
    #[inline]
    pub(crate) fn holds(&self, offset: u64, bytes: u64) -> bool {
        offset % WORD == 0 && bytes <= self.len() && offset <= self.len() - bytes
    }

    /// Returns the `T` at `offset`, or `None` if that is not aligned or not wholly among the blocks. One comparison and one
    /// test, whatever stands in the memory.
    #[inline]
    pub(crate) fn get<T: Shareable>(&self, offset: u64) -> Option<&T> {
        const { assert!(align_of::<T>() == 8 && size_of::<T>() % 8 == 0, "not made of words") };
        let room = self.len().checked_sub(BLOCKS + size_of::<T>() as u64)?;
        if offset.wrapping_sub(BLOCKS) > room || offset % WORD != 0 {
            return None;
        }
        // SAFETY: inside the mapping and aligned, as just checked. `Shareable` promises that any bytes are a `T`, and that
        // a `T` is accessed by atomics of 64 bits alone, so no other process's store is a race.
        Some(unsafe { &*self.raw.as_ptr().add(index(offset)).cast::<T>() })
    }

    /// Has the kernel map the pages of these bytes for writing, which lie inside. Returns whether it did.
    pub(crate) fn touch(&self, from: u64, to: u64) -> bool {
        let from = from & !(PAGE - 1);
        let Some(bytes) = to.checked_sub(from).filter(|_| to <= self.len()) else { return false };
        // SAFETY: inside the mapping.
        unsafe { sync::populate(self.raw.as_mut_ptr().add(index(from)), index(bytes)) }
    }

    /// Says that nobody has what is at `offset` any more. Models look whether that is so.
    #[inline]
    pub(crate) fn freed(&self, offset: u64) {
        #[cfg(barrierd_loom)]
        self.raw.freed(index(offset));
        let _ = offset;
    }

    /// The same of somebody who uses it.
    #[cfg(all(test, barrierd_loom))]
    pub(crate) fn used(&self, offset: u64) {
        self.raw.used(index(offset));
    }

    /// Returns the offset of `word` if it lies inside this mapping.
    pub(crate) fn offset_of(&self, word: &AtomicU64) -> Option<u64> {
        let offset =
            (std::ptr::from_ref(word).addr() as u64).checked_sub(self.raw.as_ptr().addr() as u64)?;
        self.holds(offset, WORD).then_some(offset)
    }
}

#[inline]
fn index(offset: u64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "64-bit targets alone (lib.rs)")]
    let index = offset as usize;
    index
}
