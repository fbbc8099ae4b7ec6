//! When retired blocks are free.
//!
//! This file owns the scan of a region: the evidence, then the slots, then who of them lives. What it concludes is
//! `slots.rs`'s; what is freed, `blocks.rs`'s. The proof is in docs/proofs/shared.md.

use std::time::Duration;

use crate::change::Turn;
use crate::error::{Held, WriteError};
use crate::files::Inner;
use crate::layout::{DEATHS, WORD, slot_at};
use crate::lock::SlotLock;
use crate::slots::{self, Scan};
use crate::source::Source;
use crate::steps::{Mutant, broken};
use crate::sync::{Ordering, now};

/// How much a scan asks at most, in questions whether a reader lives: a system call each.
const WORTH: u32 = 1024;
/// How long it asks at most: a question's answer takes the longer, the more locks somebody has taken on the file.
const LIMIT: Duration = Duration::from_millis(1);
/// What a death costs, in such questions: its slot's lock is taken.
const DEATH: u32 = 16;
/// Blocks that a turn frees at most, since others wait for it: a millisecond's worth where none is in a cache. So whoever puts back what
/// is freed keeps nobody in a turn either.
pub(crate) const PORTION: usize = 4096;

impl Turn<'_> {
    /// Frees what can be freed now, the oldest 4096 blocks at most, as other writers wait for the turn: [`Writer::flush`](crate::Writer::flush)
    /// frees all, in several turns. Returns the number of blocks. What was reached in this turn before may be among them, so
    /// the turn is borrowed whole.
    ///
    /// # Errors
    ///
    /// [`WriteError::Corrupt`], [`WriteError::Forked`].
    pub fn reclaim(&mut self) -> Result<usize, WriteError> {
        self.check()?;
        if self.oldest()?.is_none() {
            return Ok(0);
        }
        // Sections that begin under a broken one look younger than everything.
        self.latest()?;
        // In this order: a reader that passed its barrier has its slot's store visible, or finds what was unlinked no more.
        let early = broken(Mutant::ScanBeforeWatermark).then(|| self.scan(0, 0));
        let watermark = self.writer.barriers.watermark();
        // A death is learned where it lets something go.
        let scan = early.unwrap_or_else(|| self.scan(watermark, self.blocks().youngest()));
        for freed in 0..PORTION {
            match self.derived(self.blocks().oldest())? {
                Some((at, stamp)) if scan.frees(stamp, watermark) => {
                    self.doing(|| Ok(self.blocks().free_oldest(at)?))?;
                }
                _ => return Ok(freed),
            }
        }
        Ok(PORTION)
    }

    /// Returns the stamp of the oldest retired block.
    pub(crate) fn oldest(&self) -> Result<Option<u64>, WriteError> {
        Ok(self.derived(self.blocks().oldest())?.map(|(_, stamp)| stamp))
    }

    /// Looks at all slots. Of those that hold back what is stamped `matters` it learns whether their readers live.
    ///
    /// It asks no more than [`WORTH`] and [`LIMIT`] allow, since others wait for the turn; the next one goes on where this one stopped. Who is
    /// not asked counts as alive.
    fn scan(&mut self, watermark: u64, matters: u64) -> Scan {
        let first = self.writer.next_asked;
        let inner = self.writer.region().inner();
        let (mut left, mut next) = (WORTH, None);
        let mut begun = None;
        let mut all = Scan::EMPTY;
        if broken(Mutant::NoSlots) {
            return all;
        }
        for index in (0..inner.readers).map(|index| (first + index) % inner.readers) {
            let one = Scan::of(inner.slots.word(slot_at(index)));
            // The lock is asked only where the answer matters, and after the slot was loaded.
            if !one.frees(matters, watermark) {
                if left > 0 && now() - *begun.get_or_insert_with(now) > LIMIT {
                    left = 0;
                }
                if left == 0 {
                    next = next.or(Some(index));
                } else if clear_if_dead(inner, index) {
                    left = left.saturating_sub(DEATH);
                    self.blocks().put(DEATHS, self.blocks().read(DEATHS).wrapping_add(1));
                    continue;
                } else {
                    left -= 1;
                }
            }
            all = all.and(one);
        }
        if let Some(next) = next {
            self.writer.next_asked = next;
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
pub(crate) fn clear_if_dead(inner: &Inner, index: usize) -> bool {
    #[cfg(feature = "testing")]
    if broken(Mutant::EarlyDeath) && early::is_known(index) {
        return true;
    }
    if broken(Mutant::ClearAny) {
        slots::leave(inner.slots.word(slot_at(index)));
        return true;
    }
    if SlotLock::is_held(&inner.slots_file, index).unwrap_or(true) {
        return false;
    }
    if broken(Mutant::ClearUnlocked) {
        slots::leave(inner.slots.word(slot_at(index)));
        return true;
    }
    let cleared = SlotLock::while_free(&inner.slots_file, index, || {
        let is_right = inner.has_its_files();
        if is_right {
            slots::leave(inner.slots.word(slot_at(index)));
        }
        is_right
    });
    if !matches!(cleared, Ok(Some(true))) {
        return false;
    }
    #[cfg(feature = "testing")]
    early::know(index);
    true
}

/// What the mutant `EarlyDeath` remembers.
#[cfg(feature = "testing")]
pub(crate) mod early {
    use std::cell::Cell;

    thread_local! {
        static DEAD: Cell<u64> = const { Cell::new(0) };
    }

    #[cfg(all(test, barrierd_loom))]
    pub(crate) fn forget() {
        DEAD.set(0);
    }

    pub(super) fn is_known(index: usize) -> bool {
        index < 64 && DEAD.get() >> index & 1 != 0
    }

    pub(super) fn know(index: usize) {
        if index < 64 {
            DEAD.set(DEAD.get() | 1 << index);
        }
    }
}
