//! What a turn has under way: its blocks, and what a change publishes with one of them.
//!
//! This file owns the walk along the links of blocks that are not published. It knows nothing of how a change is made.

use std::collections::BTreeSet;

use crate::blocks::{Blocks, HEADER, State, size_of_class};
use crate::error::WriteError;
use crate::join::Joined;
use crate::layout::BLOCKS;
use crate::link::Link;

/// Some words of the region, each once: where blocks or links are. Of few each is looked at, which needs no memory of its own;
/// many are in a tree, since a turn may be long.
#[derive(Default)]
pub(crate) struct Places<At = u64> {
    tree: BTreeSet<At>,
    recent: Vec<At>,
}

impl<At: Copy + Ord> Places<At> {
    const FEW: usize = 32;

    pub(crate) fn insert(&mut self, at: At) {
        if self.contains(at) {
            return;
        }
        self.recent.push(at);
        if self.recent.len() > Self::FEW {
            self.tree.extend(self.recent.drain(..));
        }
    }

    pub(crate) fn remove(&mut self, at: At) {
        if let Some(index) = self.recent.iter().position(|&one| one == at) {
            self.recent.swap_remove(index);
        } else {
            self.tree.remove(&at);
        }
    }

    pub(crate) fn contains(&self, at: At) -> bool {
        self.recent.contains(&at) || self.tree.contains(&at)
    }

    /// Returns the last one that is not behind `word`.
    pub(crate) fn before(&self, word: At) -> Option<At> {
        let many = self.tree.range(..=word).next_back().copied();
        let recent = self.recent.iter().copied().filter(|&at| at <= word).max();
        many.max(recent)
    }

    /// Returns those from one place to another one, which is not among them, in no order.
    pub(crate) fn between(&self, from: At, to: At) -> impl Iterator<Item = At> {
        let recent = self.recent.iter().filter(move |&&at| from <= at && at < to);
        self.tree.range(from..to.max(from)).chain(recent).copied()
    }

    pub(crate) fn retain(&mut self, mut stays: impl FnMut(At) -> bool) {
        self.tree.retain(|&at| stays(at));
        self.recent.retain(|&at| stays(at));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = At> {
        self.tree.iter().chain(&self.recent).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.tree.len() + self.recent.len()
    }

    pub(crate) fn clear(&mut self) {
        self.tree.clear();
        self.recent.clear();
    }
}

/// What a turn has under way. A writer keeps it, for its memory.
#[derive(Default)]
pub(crate) struct Hand {
    /// Blocks that are not published.
    pub(crate) held: Places,
    /// Their links that were made to lead somewhere.
    pub(crate) leads: Places,
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
        &self,
        blocks: Blocks<'_>,
        fresh: u64,
        retire: u64,
    ) -> Result<Vec<u64>, WriteError> {
        let mut found = BTreeSet::new();
        let mut order = vec![fresh];
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            next += 1;
            let end = at + size_of_class(blocks.expect(at, State::Held)?);
            for link in self.leads.between(at, end) {
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
    pub(crate) fn forget(&mut self, blocks: Blocks<'_>, order: &[u64]) {
        for &at in order {
            self.held.remove(at);
            let end = blocks.head(at).map_or(at, |(class, _)| at + size_of_class(class));
            loop {
                let next = self.leads.between(at, end).next();
                let Some(link) = next else { break };
                self.leads.remove(link);
            }
        }
    }
}

/// Returns the block whose content is at `content`.
pub(crate) fn block_of(content: u64) -> Option<u64> {
    content.checked_sub(HEADER).filter(|&at| at >= BLOCKS)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::cmp::Ordering;
    use std::collections::BTreeSet;

    use super::Places;

    thread_local! {
        static COMPARED: Cell<u64> = const { Cell::new(0) };
    }

    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    struct Counted(u64);

    impl Ord for Counted {
        fn cmp(&self, other: &Self) -> Ordering {
            COMPARED.set(COMPARED.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    impl PartialOrd for Counted {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    #[test]
    fn each_of_many_places_costs_as_little_as_each_of_few() {
        const MANY: u64 = 1 << 16;
        let mut places = Places::<Counted>::default();
        // In no order.
        let at = |number: u64| Counted(number * 40_503 % MANY);
        for number in 0..MANY {
            places.insert(at(number));
        }
        for number in 0..MANY {
            assert!(places.before(at(number)) == Some(at(number)));
            places.remove(at(number));
        }
        assert_eq!(places.len(), 0);
        // Three calls, each of which looks at 32, and at a dozen on each level of a tree.
        assert!(COMPARED.get() / MANY < 3 * (32 + 6 * 12), "{} each", COMPARED.get() / MANY);
    }

    /// What a turn asks of its places, against a plain set of them.
    #[test]
    fn few_or_many_places_are_what_a_set_is() {
        let (mut places, mut set) = (Places::default(), BTreeSet::new());
        let mut random = 1u64;
        for round in 0..20_000u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            // Up to some 300 of them, and then fewer again.
            let (at, add) =
                (random >> 40 & 0x3ff, random >> 60 > if round < 10_000 { 5 } else { 12 });
            if add {
                places.insert(at);
                set.insert(at);
            } else {
                places.remove(at);
                set.remove(&at);
            }
            assert_eq!((places.len(), places.contains(at)), (set.len(), set.contains(&at)));
            let word = random >> 20 & 0x3ff;
            assert_eq!(places.before(word), set.range(..=word).next_back().copied());
            let mut between: Vec<_> = places.between(word, at).collect();
            between.sort_unstable();
            assert_eq!(between, set.range(word..at.max(word)).copied().collect::<Vec<_>>());
        }
    }
}
