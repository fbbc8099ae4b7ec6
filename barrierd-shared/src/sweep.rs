//! What each turn does for reclamation: a little, so that no turn takes long.
//!
//! This file owns a writer's look at the slots, which goes on from turn to turn, and what is freed on the way. What a look
//! concludes stays true: a block that no reader has, and that is unlinked, gets none. The proof is in docs/proofs/shared.md.

use std::time::{Duration, Instant};

use crate::change::Turn;
use crate::error::WriteError;
use crate::layout::{DEATHS, slot_at};
use crate::reclaim::clear_if_dead;
use crate::slots::Scan;
use crate::steps::{Mutant, broken};
use crate::sync::{now, size};

/// Turns between two looks.
const PACE: usize = size(16, 1);
/// Slots that a turn looks at, at most.
const SLOTS: usize = size(32, 1);
/// Blocks that a turn frees for each one that its writer's turns have retired of late. So garbage gets less, and yet no turn does
/// much more than usual, however long a section held all of it back.
const FREED: usize = 4;
/// And at most.
const MOST: usize = 256;
/// *Of late*: a turn counts by a part less after each later one.
const PART: usize = 16;
/// After a question whether a reader lives, and the answer that it does, none for so long. One costs two system calls; where
/// memory runs out, or somebody waits, all are asked.
const PAUSE: Duration = Duration::from_millis(10);

/// What a writer knows of the slots, from turn to turn.
pub(crate) struct Sweep {
    /// What is stamped so, or earlier, has no reader.
    safe: u64,
    /// Turns until the next look begins.
    rest: usize,
    look: Option<Look>,
    /// The slot that the next look begins with.
    first: usize,
    /// When a reader was last found alive.
    asked: Option<Instant>,
    /// Blocks that a turn frees, if they are known to have no reader.
    share: usize,
}

/// A look at all slots that is under way.
struct Look {
    /// The latest stamp when it began: it says nothing of what was unlinked later.
    last: u64,
    watermark: u64,
    /// Slots that it has looked at.
    done: usize,
    may_ask: bool,
    all: Scan,
}

impl Default for Sweep {
    fn default() -> Sweep {
        Sweep { safe: 0, rest: PACE, look: None, first: 0, asked: None, share: FREED }
    }
}

impl Sweep {
    /// Returns whether a look is to begin, if something waits.
    pub(crate) fn begins(&self) -> bool {
        self.rest == 0 && self.look.is_none()
    }

    /// Learns how many blocks a turn has retired.
    pub(crate) fn retired(&mut self, blocks: usize) {
        let least = (self.share - self.share.div_ceil(PART)).max(FREED);
        self.share = (FREED * blocks).clamp(least, MOST);
    }
}

impl Turn<'_> {
    /// Frees a few blocks of which that is known, and goes on to learn of others. `watermark` is there if a look may begin.
    pub(crate) fn tidy(&mut self, watermark: Option<u64>) -> Result<(), WriteError> {
        let Some(oldest) = self.free_known(self.writer.sweep.share)? else { return Ok(()) };
        let sweep = &mut self.writer.sweep;
        if sweep.rest > 0 {
            sweep.rest -= 1;
            return Ok(());
        }
        let look = match (sweep.look.take(), watermark) {
            (Some(look), _) => look,
            (None, Some(watermark)) if oldest > sweep.safe => {
                let may_ask = sweep.asked.is_none_or(|asked| now() - asked >= PAUSE);
                // Sections that begin under a broken one look younger than everything.
                let last = self.latest()?;
                Look { last, watermark, done: 0, may_ask, all: Scan::EMPTY }
            }
            _ => return Ok(()),
        };
        self.look_on(look, oldest)
    }

    /// Frees the oldest blocks, `most` at most, if they are known to have no reader. Returns the stamp of the oldest that stays.
    fn free_known(&mut self, most: usize) -> Result<Option<u64>, WriteError> {
        for left in (0..=most).rev() {
            match self.derived(self.blocks().oldest())? {
                Some((at, stamp)) if left > 0 && stamp <= self.writer.sweep.safe => {
                    self.doing(|| Ok(self.blocks().free_oldest(at)?))?;
                }
                oldest => return Ok(oldest.map(|(_, stamp)| stamp)),
            }
        }
        Ok(None)
    }

    /// Looks at some slots. Where one holds back the oldest block, its reader is asked for, one in a look.
    fn look_on(&mut self, mut look: Look, oldest: u64) -> Result<(), WriteError> {
        let first = self.writer.sweep.first;
        let inner = self.writer.region().inner();
        let readers = if broken(Mutant::NoSlots) { 0 } else { inner.readers };
        for _ in 0..SLOTS {
            if look.done >= readers {
                let last = if broken(Mutant::LateBound) { self.latest()? } else { look.last };
                let safe = look.all.bound(look.watermark, last);
                let sweep = &mut self.writer.sweep;
                (sweep.safe, sweep.rest) = (sweep.safe.max(safe), PACE);
                return Ok(());
            }
            let index = (first + look.done) % readers;
            look.done += 1;
            let one = Scan::of(inner.slots.word(slot_at(index)));
            // The lock is asked after the slot was loaded.
            if !one.frees(oldest, look.watermark) {
                let asks = std::mem::take(&mut look.may_ask);
                if asks && clear_if_dead(inner, index) {
                    self.blocks().put(DEATHS, self.blocks().read(DEATHS).wrapping_add(1));
                    continue;
                }
                // Nothing comes of this look any more. The next one begins behind this slot, and asks another's reader first.
                let sweep = &mut self.writer.sweep;
                sweep.rest = PACE;
                if asks {
                    (sweep.first, sweep.asked) = ((index + 1) % readers, Some(now()));
                }
                return Ok(());
            }
            look.all = look.all.and(one);
        }
        self.writer.sweep.look = Some(look);
        Ok(())
    }
}
