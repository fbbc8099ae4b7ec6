//! Blocks of a turn, before they are published.
//!
//! This file owns where they come from, free memory that is made of other blocks if need be, and what is written in them. What
//! publishes them is `change.rs`.

use std::cell::RefCell;
use std::ops::Deref;

use crate::blocks::{HEADER, State, class_for, size_of_class};
use crate::change::Turn;
use crate::error::{Held, WriteError};
use crate::fork::Process;
use crate::hand::Hand;
use crate::layout::FREE_BYTES;
use crate::link::sealed::Sealed;
use crate::link::{Link, SharedAtomic};
use crate::map::Map;
use crate::share::{Field, Plain, Shareable};
use crate::steps::put;
use crate::sync::AtomicU64;

impl Turn<'_> {
    /// Allocates a block for a `T`, all of whose words are 0. It is nobody else's until it is [published](Self::put).
    ///
    /// Where no block is free that is large enough, free blocks are joined. That takes a look at each block of the region, and other
    /// writers wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`WriteError::OutOfMemory`], with what the waiting blocks wait for: [`reclaim`](Self::reclaim), or end the turn and
    /// [`synchronize`](crate::Writer::synchronize), then try again. [`WriteError::TooLarge`].
    pub fn alloc<T: Shareable>(&self) -> Result<Fresh<'_, T>, WriteError> {
        self.alloc_long(size_of::<T>() as u64, size_of::<T>() as u64)
    }

    /// Allocates a block of `bytes`, which begins with a `T`. The first `cleared` bytes are 0, and the others anything.
    pub(crate) fn alloc_long<T: Shareable>(
        &self,
        bytes: u64,
        cleared: u64,
    ) -> Result<Fresh<'_, T>, WriteError> {
        self.check()?;
        let bytes = bytes.max(size_of::<T>() as u64);
        let class = class_for(bytes).ok_or(WriteError::TooLarge { bytes })?;
        let found = match self.doing(|| Ok(self.blocks().take(class)?))? {
            None => self.make_room(class)?,
            found => found,
        };
        let Some(at) = found else {
            let (waiting_bytes, free_bytes) =
                (self.waiting_bytes(), self.blocks().read(FREE_BYTES));
            let why = match self.why() {
                Held::Nothing if free_bytes >= size_of_class(class) => {
                    Held::OtherSizes { free_bytes }
                }
                why => why,
            };
            return Err(WriteError::OutOfMemory { bytes, waiting_bytes, why });
        };
        let mut hand = self.hand.borrow_mut();
        hand.held.insert(at);
        // It may have been freed in between.
        hand.gone.remove(at);
        drop(hand);
        for word in 0..cleared / 8 {
            self.blocks().put(at + HEADER + word * 8, 0);
        }
        let to = self.map().get(at + HEADER).ok_or(WriteError::Misused("no block"))?;
        Ok(Fresh { to, at, map: self.map(), hand: &self.hand, process: self.writer.process() })
    }

    /// Takes a block of `class` out of larger free ones, or of what free ones make together.
    fn make_room(&self, class: usize) -> Result<Option<u64>, WriteError> {
        let blocks = self.blocks();
        let take = || {
            self.doing(|| match blocks.take(class)? {
                None => Ok(blocks.split(class)?),
                found => Ok(found),
            })
        };
        let found = take()?;
        if found.is_some() || !self.hand.borrow().joined.may(class, blocks.read(FREE_BYTES)) {
            return Ok(found);
        }
        let latest = self.latest()?;
        // Those that are free by now are about to become parts of others.
        let is_retired = |at: u64| blocks.expect(at, State::Retired).is_ok();
        self.hand.borrow_mut().gone.retain(is_retired);
        let looked = self.doing(|| {
            let looked = blocks.join()?;
            blocks.rebuild(latest, false)?;
            Ok(looked)
        })?;
        let found = take()?;
        if found.is_none() {
            self.hand.borrow_mut().joined.vain(looked, blocks.read(FREE_BYTES));
        }
        Ok(found)
    }

    /// Returns whether [`alloc`](Self::alloc) would find a block for a `T` without joining free ones.
    #[must_use]
    pub fn has_room<T: Shareable>(&self) -> bool {
        self.has_bytes(size_of::<T>() as u64)
    }

    pub(crate) fn has_bytes(&self, bytes: u64) -> bool {
        self.blocks().has_bytes(bytes)
    }
}

/// A block that its writer has allocated in this turn, and nobody else knows.
pub struct Fresh<'t, T> {
    to: &'t T,
    at: u64,
    map: &'t Map,
    hand: &'t RefCell<Hand>,
    process: Process,
}

impl<'t, T: Shareable> Fresh<'t, T> {
    /// Returns where its block is.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn is_of(&self, turn: &Turn<'_>) -> bool {
        std::ptr::eq(self.hand, &raw const turn.hand)
    }

    /// Returns the link by which it will be reached.
    #[must_use]
    pub fn link(&self) -> Link<T> {
        Link::from_word(self.at + HEADER)
    }

    /// Stores a value in one of its fields.
    ///
    /// # Panics
    ///
    /// If `field` returns one of another value, or the block was published with another one.
    pub fn write<P: Plain>(&self, field: impl FnOnce(&'t T) -> &'t Field<P>, value: P) {
        self.must_be_held();
        field(self.to).put(value, |word, new| {
            self.must_have(word);
            put(word, new);
        });
    }

    /// Makes one of its links lead somewhere: to a published block, or to one of this turn, which is then published with it.
    ///
    /// # Panics
    ///
    /// If `field` returns one of another value, or the block was published with another one.
    pub fn lead<U: Shareable>(
        &self,
        field: impl FnOnce(&'t T) -> &'t SharedAtomic<U>,
        to: Link<U>,
    ) {
        let word = field(self.to).word();
        self.must_be_held();
        let at = self.must_have(word);
        put(word, to.word());
        self.hand.borrow_mut().leads.insert(at);
    }

    fn must_be_held(&self) {
        // The block's own word for it is in memory to which others may store.
        assert!(
            self.hand.borrow().held.contains(self.at),
            "the block was published with another one, and what is published is not changed"
        );
    }

    /// Returns where the word is.
    fn must_have(&self, word: &AtomicU64) -> u64 {
        let at = self.map.offset_of(word);
        let content = self.at + HEADER;
        let inside = at.filter(|&at| at >= content && at - content < size_of::<T>() as u64);
        assert!(self.process.is_current(), "the block is the parent's: this is a child");
        inside.expect("a field of the value that is written")
    }
}

impl<T> Deref for Fresh<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.to
    }
}

impl<T> std::fmt::Debug for Fresh<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fresh").field("at", &self.at).finish_non_exhaustive()
    }
}
