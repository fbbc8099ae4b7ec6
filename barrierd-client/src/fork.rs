//! Tells a forked child from its parent by one load.
//!
//! This module owns a private page that the kernel hands to children as zeros. It knows nothing of
//! what a child must check.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

/// Any number but zero.
const MARK: u64 = 1;

/// A mark that a fork wipes off in the child (`MADV_WIPEONFORK`, Linux 4.14).
///
/// A `vfork` child shares the page, and stays in its parent's time namespace too: the kernel moves
/// only children with memory of their own.
#[derive(Debug)]
pub(crate) struct ForkMark {
    page: MmapRaw,
}

impl ForkMark {
    /// Makes a fresh mark for this process. It costs one page.
    pub(crate) fn new() -> io::Result<Self> {
        let page = MmapRaw::from(MmapOptions::new().len(size_of::<AtomicU64>()).map_anon()?);
        // SAFETY: the range is the mapping just made, all ours and referred to by nobody yet. The
        // advice changes no contents here, only what a child gets, and zeros are a valid AtomicU64.
        unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork)? };
        let mark = Self { page };
        mark.set();
        Ok(mark)
    }

    /// Returns whether this process set the mark, itself or through [`set`](Self::set) after a fork.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        // Relaxed, here and below: the kernel orders a fork before everything the child does, and
        // the child's own threads at worst repeat a check.
        self.word().load(Ordering::Relaxed) == MARK
    }

    /// Marks this process as checked.
    pub(crate) fn set(&self) {
        self.word().store(MARK, Ordering::Relaxed);
    }

    #[inline]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: the mapping is private, readable and writable, page-aligned, at least 8 bytes and
        // lives as long as `self`; it is zero-filled from birth, and only this module's atomic
        // accesses touch it.
        unsafe { AtomicU64::from_ptr(self.page.as_mut_ptr().cast()) }
    }
}
