//! What a model has in its own hands: the words of a region and the memory that they lie in, clocks, waits, and sizes.
//!
//! This file owns the only places where a build for loom differs from a real one, together with the locks
//! (`models/lock.rs`). loom's word is as long as a real one, so all types of shared memory lie in an array of such words as
//! they do in a mapping, and all code above runs as it is.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::{Duration, Instant};

#[cfg(not(barrierd_loom))]
use rustix::mm::{Advice, madvise};

pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(barrierd_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, fence};
#[cfg(not(barrierd_loom))]
pub(crate) type Memory = memmap2::MmapRaw;

#[cfg(barrierd_loom)]
pub(crate) use crate::models::Memory;
#[cfg(barrierd_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, fence};

const _: () = assert!(size_of::<AtomicU64>() == 8 && align_of::<AtomicU64>() == 8);

/// Returns the word at `at`.
///
/// # Safety
///
/// It is aligned, lives as long as `'w`, and is accessed by such words alone.
#[inline]
pub(crate) unsafe fn word_at<'w>(at: *mut u64) -> &'w AtomicU64 {
    // SAFETY: the caller's promise. In a model an `AtomicU64` lies there.
    unsafe { &*at.cast::<AtomicU64>() }
}

/// Maps the first `len` bytes of `file`. A model copies them.
pub(crate) fn map(file: &File, len: usize, writable: bool) -> io::Result<Memory> {
    #[cfg(barrierd_loom)]
    return Memory::of(file, len, writable);
    #[cfg(not(barrierd_loom))]
    {
        let mut options = memmap2::MmapOptions::new();
        options.len(len);
        if writable { options.map_raw(file) } else { options.map_raw_read_only(file) }
    }
}

/// Has the kernel map these pages for writing. Returns whether it did.
///
/// # Safety
///
/// They lie in a mapping. No content changes, and nothing is unmapped.
pub(crate) unsafe fn populate(begin: *mut u8, bytes: usize) -> bool {
    #[cfg(barrierd_loom)]
    return {
        let _ = (begin, bytes);
        false
    };
    #[cfg(not(barrierd_loom))]
    // SAFETY: the caller's promise.
    unsafe { madvise(begin.cast(), bytes, Advice::LinuxPopulateWrite) }.is_ok()
}

/// Returns a size or a number of rounds: the one that is right, and in a model a small one.
pub(crate) const fn size(right: usize, small: usize) -> usize {
    if cfg!(barrierd_loom) { small } else { right }
}

/// Returns the time for deadlines. It stands still in a model, which must go the same way each time.
#[inline]
pub(crate) fn now() -> Instant {
    #[cfg(barrierd_loom)]
    return crate::models::beginning();
    #[cfg(not(barrierd_loom))]
    Instant::now()
}

/// Returns the clock of stamps. It stands still in a model, so that stamps rise by their own rule.
#[inline]
pub(crate) fn now_ns() -> u64 {
    if cfg!(barrierd_loom) { 0 } else { barrierd_client::clock::now_ns() }
}

/// Returns two numbers that nobody can guess. A model's make a key its own hash (`hash.rs`).
pub(crate) fn random() -> [u64; 2] {
    if cfg!(barrierd_loom) {
        return [0, 1];
    }
    let system = RandomState::new();
    [system.hash_one(1), system.hash_one(2)]
}

/// Waits a moment for others, on the processor.
#[inline]
pub(crate) fn spin() {
    #[cfg(barrierd_loom)]
    loom::thread::yield_now();
    #[cfg(not(barrierd_loom))]
    std::hint::spin_loop();
}

/// Gives the processor up.
pub(crate) fn sleep(time: Duration) {
    #[cfg(barrierd_loom)]
    {
        let _ = time;
        loom::thread::yield_now();
    }
    #[cfg(not(barrierd_loom))]
    std::thread::sleep(time);
}
