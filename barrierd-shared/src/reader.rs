//! A reader: its slot, and its sections.
//!
//! This file owns what a thread that reads has. The words' protocol is `slots.rs`; who lives, `lock.rs`.

use std::ptr::NonNull;
use std::time::Duration;

use crate::error::JoinError;
use crate::fork::Process;
use crate::layout::{LATEST, WORD, slot_at};
use crate::link::View;
use crate::link::sealed::Sealed;
use crate::lock::SlotLock;
use crate::map::Map;
use crate::raw::RawReader;
use crate::region::Region;
use crate::slots;
use crate::steps::is_dead;
use crate::sync::{AtomicU64, Ordering, sleep};

/// A writer holds a dead reader's lock for some microseconds, to clear its slot: so all slots are looked at again.
const ROUNDS: usize = 3;

/// One reader's slot: for one thread at a time. Dropped, it leaves the slot.
pub struct Reader {
    // Before `region`, by which they are valid.
    latest: NonNull<AtomicU64>,
    slot: NonNull<AtomicU64>,
    process: Process,
    index: usize,
    // Dropped by hand, after the slot was left.
    lock: Option<SlotLock>,
    region: Region,
}

// SAFETY: the pointers lead into the mappings of `region`, which it keeps, and atomics alone are accessed there.
unsafe impl Send for Reader {}

impl Reader {
    pub(crate) fn join(region: Region) -> Result<Reader, JoinError> {
        let io = |source| JoinError::Io { role: "reader", source };
        let process = Process::current().map_err(io)?;
        let inner = region.inner();
        for round in 0..ROUNDS {
            for index in 0..inner.readers {
                let taken = SlotLock::try_take(&inner.slots_file, index);
                let Some(lock) = taken.map_err(JoinError::lock("reader"))? else {
                    continue;
                };
                let slot = inner.slots.word(slot_at(index));
                // Before anything is followed: see there.
                slots::take(slot);
                let pid = u64::from(std::process::id());
                inner.slots.word(slot_at(index) + WORD).store(pid, Ordering::Relaxed);
                let (slot, latest) = (slot.into(), inner.data.word(LATEST).into());
                return Ok(Reader { latest, slot, process, index, lock: Some(lock), region });
            }
            if round + 1 < ROUNDS {
                sleep(Duration::from_millis(1));
            }
        }
        Err(JoinError::Full { role: "reader", slots: inner.readers })
    }

    /// Opens a section: what is reached through the guard is not freed while it lives. A few loads and a store; on x86-64 without any
    /// fence or locked instruction (arm64: one load fence), and no system call.
    ///
    /// # Panics
    ///
    /// In a child of the process that made this reader: it takes a reader of its own, by [`Region::reader`].
    #[inline]
    pub fn pin(&mut self) -> SharedGuard<'_> {
        // Loaded before the section begins: what comes behind that is loaded anew.
        let (latest, slot, process) = (self.latest, self.slot, self.process);
        if !process.is_current() {
            forked();
        }
        // SAFETY: both lead into mappings that `self.region` keeps.
        let stamp = unsafe { slots::pin(latest.as_ref(), slot.as_ref()) };
        SharedGuard { slot, process, stamp, reader: self }
    }

    /// Returns the number of its slot, by which errors and figures call it.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.index
    }

    /// Returns what a section consists of, for sections in C: see `raw.rs`. None is open while this reader pins.
    #[doc(hidden)]
    #[must_use]
    pub fn raw(&mut self) -> RawReader {
        let data = &self.region.inner().data;
        let (process, number) = self.process.parts();
        RawReader {
            latest: self.latest.as_ptr().cast(),
            slot: self.slot.as_ptr().cast(),
            process,
            number,
            data: data.begin(),
            bytes: data.len(),
        }
    }

    /// Returns what its slot says.
    pub(crate) fn word(&self) -> u64 {
        // SAFETY: as in `pin`. Relaxed: this thread's own slot.
        unsafe { self.slot.as_ref() }.load(Ordering::Relaxed)
    }

    pub(crate) fn data(&self) -> &Map {
        &self.region.inner().data
    }

    pub(crate) fn is_of_this_process(&self) -> bool {
        self.process.is_current()
    }

    /// Returns the region.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }
}

#[cold]
fn forked() -> ! {
    panic!(
        "this reader belongs to the parent of this process: a child takes its own (Region::reader)"
    )
}

impl Drop for Reader {
    fn drop(&mut self) {
        // In a child it is the parent's slot still. A test may have killed this thread.
        if self.process.is_current() && !is_dead() {
            // SAFETY: as in `pin`.
            slots::leave(unsafe { self.slot.as_ref() });
        }
        // Only now may another have the slot.
        self.lock = None;
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("slot", &self.index).finish_non_exhaustive()
    }
}

/// A section: see [`View`]. Forgotten, it lasts until its reader pins again or is dropped.
#[must_use = "a section ends when its guard is dropped"]
pub struct SharedGuard<'r> {
    reader: &'r mut Reader,
    // The reader's, so that the end need not load them again: they are in registers still.
    slot: NonNull<AtomicU64>,
    process: Process,
    stamp: u64,
}

// SAFETY: as for `Reader`, which it borrows.
unsafe impl Send for SharedGuard<'_> {}

impl Sealed for SharedGuard<'_> {
    #[inline]
    fn map(&self) -> &Map {
        &self.reader.region.inner().data
    }
}

impl View for SharedGuard<'_> {}

impl Drop for SharedGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // A guard that was open in a fork: the section is the parent's. A test may have killed this thread.
        if self.process.is_current() && !is_dead() {
            // SAFETY: as in `Reader::pin`.
            slots::unpin(unsafe { self.slot.as_ref() }, self.stamp);
        }
    }
}

impl std::fmt::Debug for SharedGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedGuard").field("slot", &self.reader.index).finish()
    }
}
