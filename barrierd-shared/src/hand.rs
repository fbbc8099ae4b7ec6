//! What a turn has under way: its blocks, and what a change publishes with one of them.
//!
//! This file owns the walk along the links of blocks that are not published. It knows nothing of how a change is made.

use std::collections::BTreeSet;

use crate::blocks::{Blocks, HEADER, State, size_of_class};
use crate::error::WriteError;
use crate::join::Joined;
use crate::layout::BLOCKS;
use crate::share::Link;

/// Where some blocks are. Of few each is looked at; many are found by halves, since a turn may be long.
#[derive(Default)]
pub(crate) struct Places {
    sorted: Vec<u64>,
    recent: Vec<u64>,
}

impl Places {
    const FEW: usize = 64;

    pub(crate) fn insert(&mut self, at: u64) {
        self.recent.push(at);
        if self.recent.len() > Self::FEW {
            self.sorted.append(&mut self.recent);
            // The stable one, which takes what is sorted as it is.
            self.sorted.sort();
        }
    }

    pub(crate) fn remove(&mut self, at: u64) {
        if let Some(index) = self.recent.iter().position(|&one| one == at) {
            self.recent.swap_remove(index);
        } else if let Ok(index) = self.sorted.binary_search(&at) {
            self.sorted.remove(index);
        }
    }

    pub(crate) fn contains(&self, at: u64) -> bool {
        self.recent.contains(&at) || self.sorted.binary_search(&at).is_ok()
    }

    /// Returns the last one that is not behind `word`.
    pub(crate) fn before(&self, word: u64) -> Option<u64> {
        let many = self.sorted.partition_point(|&at| at <= word);
        let recent = self.recent.iter().copied().filter(|&at| at <= word).max();
        many.checked_sub(1).map(|index| self.sorted[index]).max(recent)
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(u64) -> bool) {
        self.sorted.retain(|&at| stays(at));
        self.recent.retain(|&at| stays(at));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.sorted.iter().chain(&self.recent).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len() + self.recent.len()
    }

    pub(crate) fn clear(&mut self) {
        self.sorted.clear();
        self.recent.clear();
    }
}

/// What a turn has under way. A writer keeps it, for its memory.
#[derive(Default)]
pub(crate) struct Hand {
    /// Blocks that are not published.
    pub(crate) held: Places,
    /// Their links that were made to lead somewhere, some more than once.
    pub(crate) leads: Vec<u64>,
    /// Blocks that were retired in this turn.
    pub(crate) gone: Places,
    /// It outlives the turn.
    pub(crate) joined: Joined,
}

impl Hand {
    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.leads.clear();
        self.gone.clear();
    }

    /// Returns what a change publishes with `fresh`: the blocks of this turn that it leads to, and those that they lead to.
    /// Everything else that they lead to must be published, and not what the change retires.
    pub(crate) fn closure(
        &mut self,
        blocks: Blocks<'_>,
        fresh: u64,
        retire: u64,
    ) -> Result<Vec<u64>, WriteError> {
        self.leads.sort_unstable();
        self.leads.dedup();
        let mut found = BTreeSet::new();
        let mut order = vec![fresh];
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            next += 1;
            let end = at + size_of_class(blocks.expect(at, State::Held)?);
            let first = self.leads.partition_point(|&link| link < at);
            for &link in self.leads[first..].iter().take_while(|&&link| link < end) {
                let to = Link::<()>::from_word(blocks.read(link));
                if to.is_null() {
                    continue;
                }
                let to = block_of(to.offset()).unwrap_or(0);
                match blocks.head(to) {
                    Ok((_, State::Live)) if to != retire => {}
                    Ok((_, State::Held)) => {
                        if to != fresh && found.insert(to) {
                            order.push(to);
                        }
                    }
                    _ => {
                        return Err(WriteError::Misused(
                            "what becomes published leads to a block that is not",
                        ));
                    }
                }
            }
        }
        Ok(order)
    }

    /// Forgets what was published: `order`, as `closure` found it.
    pub(crate) fn forget(&mut self, blocks: Blocks<'_>, mut order: Vec<u64>) {
        order.sort_unstable();
        order.iter().for_each(|&at| self.held.remove(at));
        self.leads.retain(|&link| {
            let before = order.partition_point(|&at| at <= link);
            before == 0 || !blocks.has_word(order[before - 1], link)
        });
    }
}

/// Returns the block whose content is at `content`.
pub(crate) fn block_of(content: u64) -> Option<u64> {
    content.checked_sub(HEADER).filter(|&at| at >= BLOCKS)
}
