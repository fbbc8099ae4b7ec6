//! Blocks: the memory between the roots and the end.
//!
//! This file owns the blocks' headers, the free lists, and the queue of what is retired. Its callers have the turn. It knows
//! nothing of readers, nor of when a retired block may be freed.
//!
//! Each block begins with a header: its class and *state*, a link for the list that it is in, and the stamp that it was retired
//! at. The states are the truth, each changed by one store. Lists and counts are derived from them, and made anew
//! after a death in a turn ([`Blocks::rebuild`]). Blocks lie side by side from [`BLOCKS`] to the word `TOP`; a block keeps its
//! class as long as it is not free (`join.rs`).
//!
//! What is read here may have been broken by another participant. So each offset is checked, each block's state says whether
//! it belongs where it was found, and each step of a list changes the state by which the list would go round: no loop is
//! endless.

use crate::layout::{
    BLOCKS, FREE, FREE_BYTES, QUEUE_HEAD, QUEUE_TAIL, TOP, WAITING, WAITING_BYTES,
};
use crate::map::Map;
use crate::steps::{Mutant, broken, pause, put};
use crate::sync::{Ordering, size};

/// Sizes of blocks: 32, 48, 64, 96, ...: two for each power of two.
pub(crate) const CLASSES: usize = size(48, 6);
/// Bytes of the header.
pub(crate) const HEADER: u64 = 24;

pub(crate) const NEXT: u64 = 8;
const STAMP: u64 = 16;

/// A list's end, and no block.
pub(crate) const NONE: u64 = 0;

/// What a participant has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the region is broken at offset {at:#x}: {what}; only a participant that may write to it can do that"
)]
pub struct Corrupt {
    /// Where it was noticed.
    pub at: u64,
    /// What should have been there.
    pub what: &'static str,
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum State {
    /// In its class's free list.
    Free = 1,
    /// Of the writer that has the turn: not published.
    Held = 2,
    /// Published.
    Live = 3,
    /// In the queue; readers may have it.
    Retired = 4,
}

/// How many blocks there are of each state, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Census {
    /// Published blocks.
    pub live: u64,
    /// Blocks that wait for readers or for a barrier.
    pub waiting: u64,
    /// Blocks of the writer that has the turn, not published yet.
    pub held: u64,
    /// Blocks that can be allocated again.
    pub free: u64,
    /// Bytes of published blocks, with their headers.
    pub live_bytes: u64,
    /// Bytes that are not free: all blocks except free ones, with their headers.
    pub used_bytes: u64,
    /// Bytes up to which there are blocks.
    pub carved_bytes: u64,
}

/// Returns the bytes of a block of `class`, with its header.
pub(crate) const fn size_of_class(class: usize) -> u64 {
    (if class % 2 == 0 { 32 } else { 48 }) << (class / 2)
}

/// Returns the smallest class that holds `bytes`; `None` if there is none so large.
pub(crate) fn class_for(bytes: u64) -> Option<usize> {
    let whole = bytes.checked_add(HEADER)?;
    (0..CLASSES).find(|&class| size_of_class(class) >= whole)
}

/// The blocks of a mapping, for who has the turn.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'m>(pub(crate) &'m Map);

impl Blocks<'_> {
    pub(crate) fn read(self, at: u64) -> u64 {
        // Relaxed: these words are changed in turns alone, whose word orders them.
        self.0.word(at).load(Ordering::Relaxed)
    }

    pub(crate) fn put(self, at: u64, value: u64) {
        put(self.0.word(at), value);
    }

    /// Takes `off` from the count at `at`, and adds `on`.
    pub(crate) fn count(self, at: u64, on: u64, off: u64) {
        self.put(at, self.read(at).wrapping_add(on).wrapping_sub(off));
    }

    /// Returns where the blocks end. A broken word ends them early.
    pub(crate) fn top(self) -> u64 {
        let top = self.read(TOP);
        if top >= BLOCKS && top <= self.0.len() && top % 8 == 0 { top } else { BLOCKS }
    }

    /// Returns the class and state of the block at `at`.
    pub(crate) fn head(self, at: u64) -> Result<(usize, State), Corrupt> {
        let corrupt = |what| Corrupt { at, what };
        let top = self.top();
        if at < BLOCKS || at % 8 != 0 || at.checked_add(HEADER).is_none_or(|end| end > top) {
            return Err(corrupt("not a block"));
        }
        let word = self.read(at);
        let class = usize::try_from(word >> 8).ok().filter(|&class| class < CLASSES);
        let class = class.filter(|&class| at + size_of_class(class) <= top);
        let class = class.ok_or_else(|| corrupt("a block's class"))?;
        let state = match word & 0xff {
            1 => State::Free,
            2 => State::Held,
            3 => State::Live,
            4 => State::Retired,
            _ => return Err(corrupt("a block's state")),
        };
        Ok((class, state))
    }

    /// Returns the class of the block at `at`, which must be in `state`.
    pub(crate) fn expect(self, at: u64, state: State) -> Result<usize, Corrupt> {
        let what = match state {
            State::Free => "a free block",
            State::Held => "a block of this turn",
            State::Live => "a published block",
            State::Retired => "a retired block",
        };
        let (class, found) = self.head(at)?;
        if found == state { Ok(class) } else { Err(Corrupt { at, what }) }
    }

    /// Returns whether the block at `at` has the word at `word`.
    pub(crate) fn has_word(self, at: u64, word: u64) -> bool {
        self.head(at).is_ok_and(|(class, _)| word >= at && word - at < size_of_class(class))
    }

    /// Chains blocks of this turn, whose links no list needs. Returns the first.
    pub(crate) fn chain(self, held: &[u64]) -> u64 {
        let mut next = NONE;
        for &at in held.iter().rev() {
            self.put(at + NEXT, next);
            next = at;
        }
        next
    }

    /// Publishes the blocks of a chain; some of them may be published already.
    pub(crate) fn publish(self, first: u64) -> Result<(), Corrupt> {
        let (mut at, mut left) = (first, self.top() / size_of_class(0));
        while at != NONE {
            let (class, state) = self.head(at)?;
            left = left.checked_sub(1).ok_or(Corrupt { at, what: "a chain that ends" })?;
            match state {
                State::Held => self.set(at, class, State::Live),
                State::Live => {}
                State::Free | State::Retired => {
                    return Err(Corrupt { at, what: "a block that is being published" });
                }
            }
            at = self.read(at + NEXT);
        }
        Ok(())
    }

    pub(crate) fn set(self, at: u64, class: usize, state: State) {
        self.put(at, (class as u64) << 8 | state as u64);
    }

    /// Returns whether `take` or `split` would find a block.
    pub(crate) fn has(self, class: usize) -> bool {
        self.read(FREE + class as u64 * 8) != NONE
            || self.0.len() - self.top() >= size_of_class(class)
            || self.larger(class).is_some()
    }

    /// The same of a block for so many bytes. Without the turn it is a guess.
    pub(crate) fn has_bytes(self, bytes: u64) -> bool {
        class_for(bytes).is_some_and(|class| self.has(class))
    }

    /// Returns whether something seems to wait. Also without the turn.
    pub(crate) fn waits(self) -> bool {
        self.read(QUEUE_HEAD) != NONE
    }

    /// Takes a block of `class` for this turn: from the free list, or from what has never been used. `None` if there is none.
    pub(crate) fn take(self, class: usize) -> Result<Option<u64>, Corrupt> {
        let (list, size) = (FREE + class as u64 * 8, size_of_class(class));
        let at = self.read(list);
        if at != NONE {
            if self.expect(at, State::Free)? != class {
                return Err(Corrupt { at, what: "a free block of this class" });
            }
            let next = self.read(at + NEXT);
            self.set(at, class, State::Held);
            self.put(list, next);
            self.count(FREE_BYTES, 0, size);
            return Ok(Some(at));
        }
        let at = self.top();
        if self.0.len() - at < size {
            return Ok(None);
        }
        // First the header, then the top: what is below the top is a block.
        self.set(at, class, State::Held);
        self.put(TOP, at + size);
        Ok(Some(at))
    }

    /// Frees a block that nobody has, in a state that the caller has checked.
    pub(crate) fn free(self, at: u64, class: usize) {
        self.0.freed(at);
        self.set(at, class, State::Free);
        let list = FREE + class as u64 * 8;
        self.put(at + NEXT, self.read(list));
        self.put(list, at);
        self.count(FREE_BYTES, size_of_class(class), 0);
    }

    /// Puts a block that was unlinked before `stamp` at the queue's end. Stamps rise along the queue.
    pub(crate) fn retire(self, at: u64, class: usize, stamp: u64) -> Result<(), Corrupt> {
        // First the stamp: a block that is found retired has one.
        self.put(at + STAMP, stamp);
        self.set(at, class, State::Retired);
        self.push(at, class)
    }

    fn push(self, at: u64, class: usize) -> Result<(), Corrupt> {
        let (head, tail) = (self.read(QUEUE_HEAD), self.read(QUEUE_TAIL));
        if (head == NONE) != (tail == NONE) {
            return Err(Corrupt { at: QUEUE_HEAD, what: "a queue with two ends, or none" });
        }
        self.put(at + NEXT, NONE);
        if tail == NONE {
            self.put(QUEUE_HEAD, at);
        } else {
            self.expect(tail, State::Retired)?;
            self.put(tail + NEXT, at);
        }
        self.put(QUEUE_TAIL, at);
        self.count(WAITING, 1, 0);
        self.count(WAITING_BYTES, size_of_class(class), 0);
        Ok(())
    }

    /// Returns the oldest retired block and its stamp.
    pub(crate) fn oldest(self) -> Result<Option<(u64, u64)>, Corrupt> {
        let at = self.read(QUEUE_HEAD);
        if at == NONE {
            return Ok(None);
        }
        self.expect(at, State::Retired)?;
        Ok(Some((at, self.read(at + STAMP))))
    }

    /// Returns the stamp of the youngest retired block.
    pub(crate) fn youngest(self) -> u64 {
        let at = self.read(QUEUE_TAIL);
        if self.head(at).is_ok() { self.read(at + STAMP) } else { u64::MAX }
    }

    /// Frees the oldest retired block, `at`.
    pub(crate) fn free_oldest(self, at: u64) -> Result<(), Corrupt> {
        let class = self.expect(at, State::Retired)?;
        let next = self.read(at + NEXT);
        self.put(QUEUE_HEAD, next);
        if next == NONE {
            self.put(QUEUE_TAIL, NONE);
        }
        self.count(WAITING, 0, 1);
        self.count(WAITING_BYTES, 0, size_of_class(class));
        self.free(at, class);
        Ok(())
    }

    /// Makes lists and counts anew from the states, after a death in a turn: blocks that the `dead` writer had not published are
    /// then freed. What is retired keeps its stamp: that was stored before the state. `latest` is the region's latest stamp,
    /// and no block has a later one unless somebody broke it. It may be killed anywhere and run again.
    pub(crate) fn rebuild(self, latest: u64, dead: bool) -> Result<(), Corrupt> {
        for class in 0..CLASSES as u64 {
            self.put(FREE + class * 8, NONE);
        }
        for word in [QUEUE_HEAD, QUEUE_TAIL, WAITING, WAITING_BYTES, FREE_BYTES] {
            self.put(word, 0);
        }
        // By value: a participant may change the stamps meanwhile.
        let mut retired = Vec::new();
        self.each(|at, class, state| match state {
            State::Free => self.free(at, class),
            State::Held if dead => self.free(at, class),
            State::Live | State::Held => {}
            State::Retired => {
                let mut stamp = self.read(at + STAMP);
                if stamp > latest || broken(Mutant::Restamped) {
                    stamp = latest;
                    self.put(at + STAMP, stamp);
                }
                retired.push((stamp, at, class));
            }
        })?;
        if !broken(Mutant::Unsorted) {
            retired.sort_unstable();
        }
        retired.into_iter().try_for_each(|(_, at, class)| self.push(at, class))
    }

    /// Calls `visit` with each block.
    pub(crate) fn each(self, mut visit: impl FnMut(u64, usize, State)) -> Result<(), Corrupt> {
        pause();
        let (mut at, top) = (BLOCKS, self.top());
        while at < top {
            let (class, state) = self.head(at)?;
            visit(at, class, state);
            at += size_of_class(class);
        }
        Ok(())
    }

    /// Counts all blocks.
    pub(crate) fn census(self) -> Result<Census, Corrupt> {
        let mut found = Census::default();
        self.each(|_, class, state| {
            let size = size_of_class(class);
            found.carved_bytes += size;
            let of = match state {
                State::Free => &mut found.free,
                State::Held => &mut found.held,
                State::Live => &mut found.live,
                State::Retired => &mut found.waiting,
            };
            *of += 1;
            match state {
                State::Free => {}
                State::Live => {
                    (found.live_bytes, found.used_bytes) =
                        (found.live_bytes + size, found.used_bytes + size)
                }
                State::Held | State::Retired => found.used_bytes += size,
            }
        })?;
        Ok(found)
    }

    /// Checks that lists and counts agree with the blocks that were counted.
    pub(crate) fn agree(self, found: &Census) -> Result<(), Corrupt> {
        let listed =
            (0..CLASSES).map(|class| self.walk(FREE + class as u64 * 8, State::Free, found.free));
        let listed = listed.sum::<Result<u64, Corrupt>>()?;
        let queued = self.walk(QUEUE_HEAD, State::Retired, found.waiting)?;
        let counted = (self.read(WAITING), self.read(FREE_BYTES));
        let free_bytes = found.carved_bytes - found.used_bytes;
        if (listed, queued, counted) != (found.free, found.waiting, (found.waiting, free_bytes)) {
            return Err(Corrupt { at: TOP, what: "lists and counts that agree with the blocks" });
        }
        Ok(())
    }

    /// Returns how many blocks the list at `list` has, `most` at most.
    fn walk(self, list: u64, state: State, most: u64) -> Result<u64, Corrupt> {
        let (mut at, mut found) = (self.read(list), 0);
        while at != NONE {
            self.expect(at, state)?;
            found += 1;
            if found > most {
                return Err(Corrupt { at, what: "a list that ends" });
            }
            at = self.read(at + NEXT);
        }
        Ok(found)
    }
}
