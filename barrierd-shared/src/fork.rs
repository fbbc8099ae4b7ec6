//! Tells a forked child from its parent by one load.
//!
//! This file owns a private page that the kernel hands to children as zeros (`MADV_WIPEONFORK`, Linux 4.14), and the number
//! in it: each process in a line of forks has another. What a participant may do, it may do in the process that it
//! was made in. It knows nothing of participants.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

/// The last number given. A child inherits it, so that it takes another than any of its ancestors.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The page, once there is one; it is never unmapped.
static PAGE: Mutex<Option<&'static AtomicU64>> = Mutex::new(None);

/// The process that something was made in.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    word: &'static AtomicU64,
    number: u64,
}

impl Process {
    /// Returns the process that this runs in.
    pub(crate) fn current() -> io::Result<Process> {
        // A fork while another thread is in here leaves the lock held in the child for good. So a child that finds it
        // held takes a page of its own.
        let word = match PAGE.try_lock() {
            Ok(mut page) => match *page {
                Some(word) => word,
                None => *page.insert(new_page()?),
            },
            Err(TryLockError::Poisoned(page)) => match *page.into_inner() {
                Some(word) => word,
                None => new_page()?,
            },
            Err(TryLockError::WouldBlock) => new_page()?,
        };
        // Relaxed, all: the kernel orders a fork before everything that the child does, and two threads that number the
        // same process settle it by the exchange.
        let mut number = word.load(Ordering::Relaxed);
        if number == 0 {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            number = match word.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new,
                Err(other) => other,
            };
        }
        Ok(Process { word, number })
    }

    /// Returns whether this runs in that process, not in a child of it. It costs a load.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.word.load(Ordering::Relaxed) == self.number
    }

    /// Returns the word that is loaded, and what it holds in that process.
    pub(crate) fn parts(self) -> (*const u64, u64) {
        (self.word.as_ptr(), self.number)
    }
}

fn new_page() -> io::Result<&'static AtomicU64> {
    let page = MmapRaw::from(MmapOptions::new().len(size_of::<AtomicU64>()).map_anon()?);
    // SAFETY: the range is the mapping just made, which nobody refers to. The advice changes what a child gets, and
    // zeros are a valid AtomicU64.
    unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork)? };
    let word = page.as_mut_ptr().cast();
    std::mem::forget(page);
    // SAFETY: page-aligned, zeroed, at least 8 bytes, never unmapped, and accessed by atomics alone.
    Ok(unsafe { AtomicU64::from_ptr(word) })
}
