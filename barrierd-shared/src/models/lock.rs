//! The locks by which one knows who lives, in a model: a word for each, in place of `lock.rs`.
//!
//! What the kernel promises is what these words do, and no more: a lock that is taken, or found free, hands on what its last
//! holder stored. A process that dies gives its locks back, after all else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::layout::MAX_READERS;
use crate::steps::{Mutant, broken};
use crate::sync::{AtomicU64, Ordering, fence};

pub(crate) struct LockFile {
    file: File,
    taken: Arc<[AtomicU64]>,
}

impl LockFile {
    pub(crate) fn new(file: File) -> io::Result<LockFile> {
        let taken = (0..MAX_READERS).map(|_| AtomicU64::new(0)).collect();
        Ok(LockFile { file, taken })
    }

    pub(crate) fn is_itself(&self) -> bool {
        true
    }

    pub(crate) fn for_reading(&self) -> Result<OwnedFd, LockError> {
        Err(LockError::NoProc)
    }

    fn take(&self, index: usize) -> bool {
        // Acquire: pairs with the Release in `give_back`.
        self.taken[index].compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }
}

fn give_back(word: &AtomicU64) {
    word.store(0, Ordering::Release);
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Debug)]
#[allow(dead_code, reason = "what the real one says")]
pub(crate) enum LockError {
    Closed,
    NoProc,
    Denied(io::Error),
    Dropped(String),
    Io(io::Error),
}

pub(crate) struct SlotLock {
    taken: Arc<[AtomicU64]>,
    index: usize,
}

impl SlotLock {
    pub(crate) fn try_take(file: &LockFile, index: usize) -> Result<Option<SlotLock>, LockError> {
        Ok(file.take(index).then(|| SlotLock { taken: Arc::clone(&file.taken), index }))
    }

    pub(crate) fn while_free<R>(
        file: &LockFile,
        index: usize,
        what: impl FnOnce() -> R,
    ) -> Result<Option<R>, LockError> {
        if !file.take(index) {
            return Ok(None);
        }
        let done = what();
        give_back(&file.taken[index]);
        Ok(Some(done))
    }

    pub(crate) fn is_held(file: &LockFile, index: usize) -> Result<bool, LockError> {
        // Whoever finds it taken learns nothing by that.
        let is_held = file.taken[index].load(Ordering::Relaxed) != 0;
        if !is_held && !broken(Mutant::UnorderedDeath) {
            fence(Ordering::Acquire);
        }
        Ok(is_held)
    }
}

impl Drop for SlotLock {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            give_back(&self.taken[self.index]);
        }
    }
}
