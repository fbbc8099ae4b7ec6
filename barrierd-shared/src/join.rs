//! Free blocks are split and joined.
//!
//! This file owns how a stretch of free memory is divided into blocks. Its callers have the turn. It knows nothing of why.
//!
//! Which blocks there are is what the headers say, one after the other from the first. A stretch is divided anew by the
//! headers alone, *from its end to its beginning*: whoever walks along the blocks goes by the old ones up to some place, and by
//! the new ones from there, and comes to the stretch's end whichever of these stores was the last. All of it is free all the
//! time. So a death leaves nothing to be completed, except the lists, which are made anew after each.

use crate::blocks::{Blocks, CLASSES, Corrupt, NEXT, NONE, State, size_of_class};
use crate::layout::{BLOCKS, FREE, FREE_BYTES, TOP};
use crate::steps::{Mutant, broken};

/// The unit of sizes. No block is so small, so none may be left over.
const UNIT: u64 = 16;

/// Keeps a writer from joining free blocks in vain again and again: that costs a look at each block. After a vain attempt the
/// next one waits for more free memory, or for so many turns that it is little for each.
#[derive(Default)]
pub(crate) struct Joined {
    turns: u64,
    free_bytes: u64,
}

/// Blocks that may be looked at for each turn.
const WORTH: u64 = 16;

impl Joined {
    pub(crate) fn turn(&mut self) {
        self.turns = self.turns.saturating_sub(1);
    }

    /// Returns whether free blocks may be joined for one of `class`, where so many bytes are free.
    pub(crate) fn may(&self, class: usize, free_bytes: u64) -> bool {
        let size = size_of_class(class);
        free_bytes >= size && (self.turns == 0 || free_bytes >= self.free_bytes + size)
    }

    pub(crate) fn vain(&mut self, looked: u64, free_bytes: u64) {
        *self = Joined { turns: looked / WORTH, free_bytes };
    }
}

/// Returns the classes of the blocks into which `bytes` are divided, the largest first.
fn parts(mut bytes: u64) -> Vec<usize> {
    let mut parts = Vec::new();
    let fits = |class: usize, bytes: u64| {
        bytes.checked_sub(size_of_class(class)).is_some_and(|left| left != UNIT)
    };
    while let Some(class) = (0..CLASSES).rev().find(|&class| fits(class, bytes)) {
        parts.push(class);
        bytes -= size_of_class(class);
    }
    parts
}

impl Blocks<'_> {
    /// Returns the list of a larger class that a block of `class` can be taken out of.
    pub(crate) fn larger(self, class: usize) -> Option<usize> {
        let size = size_of_class(class);
        (class + 1..CLASSES).find(|&larger| {
            self.read(FREE + larger as u64 * 8) != NONE && size_of_class(larger) - size != UNIT
        })
    }

    /// Takes a block of `class` for this turn out of a larger free one.
    pub(crate) fn split(self, class: usize) -> Result<Option<u64>, Corrupt> {
        let Some(larger) = self.larger(class) else { return Ok(None) };
        let list = FREE + larger as u64 * 8;
        let at = self.read(list);
        if self.expect(at, State::Free)? != larger {
            return Err(Corrupt { at, what: "a free block of this class" });
        }
        let next = self.read(at + NEXT);
        let (size, whole) = (size_of_class(class), size_of_class(larger));
        let rest = parts(whole - size);
        self.divide(at + size, &rest);
        self.set(at, class, State::Held);
        self.put(list, next);
        self.count(FREE_BYTES, 0, whole);
        let mut at_part = at + size;
        for part in rest {
            self.free(at_part, part);
            at_part += size_of_class(part);
        }
        Ok(Some(at))
    }

    /// Makes `at` the first of free blocks of these classes.
    fn divide(self, at: u64, parts: &[usize]) {
        let mut stores = Vec::with_capacity(parts.len());
        let mut next = at;
        for &class in parts {
            stores.push((next, class));
            next += size_of_class(class);
        }
        if !broken(Mutant::ForwardJoin) {
            stores.reverse();
        }
        stores.into_iter().for_each(|(at, class)| self.set(at, class, State::Free));
    }

    /// Joins free blocks that lie side by side; those at the end become what was never used. Returns how many blocks it has
    /// looked at. Lists and counts are wrong from then on: `rebuild` follows.
    pub(crate) fn join(self) -> Result<u64, Corrupt> {
        let (mut looked, mut from, mut free) = (0, BLOCKS, 0_usize);
        let mut stretches = Vec::new();
        self.each(|at, class, state| {
            looked += 1;
            if state == State::Free {
                free += 1;
                return;
            }
            stretches.push((from, at, free));
            (from, free) = (at + size_of_class(class), 0);
        })?;
        for (from, to, free) in stretches {
            if free > 1 {
                let parts = parts(to - from);
                if parts.len() < free {
                    self.divide(from, &parts);
                }
            }
        }
        if free > 0 {
            self.put(TOP, from);
        }
        Ok(looked)
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_stretch_that_blocks_can_leave_is_divided_without_a_rest() {
        for bytes in (32..40_000).step_by(16) {
            let parts = parts(bytes);
            assert_eq!(parts.iter().map(|&part| size_of_class(part)).sum::<u64>(), bytes);
            assert!(parts.len() <= 12, "{bytes}: {}", parts.len());
        }
    }
}
