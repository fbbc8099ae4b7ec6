//! What a turn has under way: its blocks, and what a change publishes with one of them.
//!
//! This file owns the walk along the links of blocks that are not published. It knows nothing of how a change is made.

use std::collections::BTreeSet;

use crate::blocks::{Blocks, HEADER, State, size_of_class};
use crate::error::WriteError;
use crate::layout::BLOCKS;
use crate::share::Link;

/// What a turn has under way. A writer keeps it, for its memory.
#[derive(Default)]
pub(crate) struct Hand {
    /// Blocks that are not published.
    pub(crate) held: Vec<u64>,
    /// Their links that were made to lead somewhere, some more than once.
    pub(crate) leads: Vec<u64>,
    /// Blocks that were retired in this turn.
    pub(crate) gone: Vec<u64>,
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
        self.held.retain(|at| order.binary_search(at).is_err());
        self.leads.retain(|&link| {
            let before = order.partition_point(|&at| at <= link);
            before == 0 || blocks.around(&order[before - 1..before], link).is_none()
        });
    }
}

/// Returns the block whose content is at `content`.
pub(crate) fn block_of(content: u64) -> Option<u64> {
    content.checked_sub(HEADER).filter(|&at| at >= BLOCKS)
}
