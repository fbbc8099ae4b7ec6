//! When retired blocks are free.
//!
//! This file owns the scan of a region: the evidence, then the slots, then who of them lives. What it concludes is
//! `slots.rs`'s; what is freed, `blocks.rs`'s. The proof is in docs/proofs/shared.md.

use std::sync::atomic::Ordering;

use crate::change::Turn;
use crate::error::{Held, WriteError};
use crate::files::Inner;
use crate::layout::{DEATHS, WORD, slot_at};
use crate::lock::SlotLock;
use crate::slots::{self, Scan};
use crate::source::Source;
use crate::steps::{Mutant, broken};

impl Turn<'_> {
    /// Frees what can be freed now. Returns the number of blocks. What was reached in this turn before may be among them, so the
    /// turn is borrowed whole.
    ///
    /// # Errors
    ///
    /// [`WriteError::Corrupt`], [`WriteError::Forked`].
    pub fn reclaim(&mut self) -> Result<usize, WriteError> {
        self.reclaim_some(usize::MAX)
    }

    pub(crate) fn reclaim_some(&mut self, most: usize) -> Result<usize, WriteError> {
        self.check()?;
        let Some(oldest) = self.oldest()? else { return Ok(0) };
        // In this order: a reader that passed its barrier has its slot's store visible, or finds what was unlinked no more.
        let watermark = self.writer.barriers.watermark();
        // A death is learned where it lets something go: for all that waits, or for the oldest.
        let matters = if most == usize::MAX { self.blocks().youngest() } else { oldest };
        let scan = self.scan(watermark, matters);
        let mut freed = 0;
        while freed < most {
            let Some((at, stamp)) = self.blocks().oldest()? else { break };
            if !scan.frees(stamp, watermark) {
                break;
            }
            self.doing(|| Ok(self.blocks().free_oldest(at)?))?;
            freed += 1;
        }
        Ok(freed)
    }

    /// Returns the stamp of the oldest retired block.
    pub(crate) fn oldest(&self) -> Result<Option<u64>, WriteError> {
        Ok(self.blocks().oldest()?.map(|(_, stamp)| stamp))
    }

    /// Looks at all slots. Of those that hold back what is stamped `matters` it learns whether their readers live.
    fn scan(&self, watermark: u64, matters: u64) -> Scan {
        let inner = self.writer.region().inner();
        let mut all = Scan::EMPTY;
        if broken(Mutant::NoSlots) {
            return all;
        }
        for index in 0..inner.readers {
            let one = Scan::of(inner.slots.word(slot_at(index)));
            // The lock is asked only where the answer matters, and after the slot was loaded.
            if !one.frees(matters, watermark) && clear_if_dead(inner, index) {
                self.blocks().put(DEATHS, self.blocks().read(DEATHS).wrapping_add(1));
                continue;
            }
            all = all.and(one);
        }
        all
    }

    /// Returns what the oldest retired block waits for.
    pub(crate) fn why(&self) -> Held {
        let Ok(Some(stamp)) = self.oldest() else { return Held::Nothing };
        let inner = self.writer.region().inner();
        for slot in 0..inner.readers {
            if Scan::of(inner.slots.word(slot_at(slot))).oldest < stamp {
                let pid = inner.slots.word(slot_at(slot) + WORD).load(Ordering::Relaxed);
                return Held::Reader { slot, pid };
            }
        }
        match self.writer.barriers.source() {
            Source::None => Held::NoSource,
            Source::Daemon | Source::GlobalMembarrier => Held::Barrier,
        }
    }
}

/// Takes the slot of a dead reader away from it. Returns whether it was dead.
///
/// The slot's lock is held meanwhile, so no new reader has the slot: its section can't be cleared. What the kernel refuses to
/// answer is no death.
fn clear_if_dead(inner: &Inner, index: usize) -> bool {
    #[cfg(feature = "testing")]
    if broken(Mutant::EarlyDeath) && early::is_known(index) {
        return true;
    }
    if SlotLock::is_held(&inner.slots_file, index).unwrap_or(true) {
        return false;
    }
    let Ok(Some(lock)) = SlotLock::try_take(&inner.slots_file, index) else { return false };
    if !inner.has_its_files() {
        return false;
    }
    slots::leave(inner.slots.word(slot_at(index)));
    drop(lock);
    #[cfg(feature = "testing")]
    early::know(index);
    true
}

/// What the mutant `EarlyDeath` remembers.
#[cfg(feature = "testing")]
mod early {
    use std::sync::atomic::{AtomicU64, Ordering};

    static DEAD: AtomicU64 = AtomicU64::new(0);

    pub(super) fn is_known(index: usize) -> bool {
        index < 64 && DEAD.load(Ordering::Relaxed) >> index & 1 != 0
    }

    pub(super) fn know(index: usize) {
        if index < 64 {
            DEAD.fetch_or(1 << index, Ordering::Relaxed);
        }
    }
}
