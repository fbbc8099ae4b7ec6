//! A writer's turn: links are changed.
//!
//! This file owns the calls of a turn that change what is published, and checks what they are given, before `journal.rs` makes a
//! change. It knows nothing of when a retired block is free, nor where a block comes from (`fresh.rs`).

use std::cell::{Cell, RefCell};

use crate::blocks::{Blocks, Census, Corrupt, State};
use crate::error::WriteError;
use crate::fresh::Fresh;
use crate::hand::{Hand, Places, block_of};
use crate::journal::{self, Change};
use crate::layout::{ROOTS_AT, TURN, WAITING_BYTES};
use crate::link::sealed::Sealed;
use crate::link::{Link, SharedAtomic, SharedRef, View};
use crate::map::Map;
use crate::share::{Shareable, Word};
use crate::steps::{is_dead, put};
use crate::turn;
use crate::writer::Writer;

/// A writer's turn. While it lasts no other writer does anything, and what it reaches stays.
///
/// Dropped, it ends; blocks that were allocated and not published are freed. If its process dies, the next writer
/// ends it: each call has then been made wholly, or not at all.
///
/// # Structures of several blocks
///
/// A call that publishes a block publishes all that it leads to with it: [`lead`](Fresh::lead) a block of this turn to others of this
/// turn, in any direction, and [`put`](Self::put) the one that the rest is reached from. They appear at once, or not at all.
///
/// A link of what is published leads to nothing, or to published blocks. Calls that would make it lead to anything else are
/// refused, and so are changes of links in blocks that are not published yet, or were retired in this turn. Only the caller knows
/// by how many ways a block is reached: it retires what no other link leads to, and changes links that it has
/// found in this turn.
#[must_use = "a turn ends when it is dropped"]
pub struct Turn<'w> {
    pub(crate) writer: &'w mut Writer,
    pub(crate) hand: RefCell<Hand>,
    dirty: Cell<bool>,
}

impl<'w> Turn<'w> {
    pub(crate) fn new(writer: &'w mut Writer, dirty: bool) -> Turn<'w> {
        let hand = RefCell::new(std::mem::take(&mut writer.hand));
        Turn { writer, hand, dirty: Cell::new(dirty) }
    }

    pub(crate) fn is_clean(&self) {
        self.dirty.set(false);
    }

    pub(crate) fn blocks(&self) -> Blocks<'_> {
        self.writer.blocks()
    }

    /// Returns the latest stamp.
    pub(crate) fn latest(&self) -> Result<u64, WriteError> {
        Ok(journal::latest(self.blocks())?)
    }

    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.blocks().read(WAITING_BYTES)
    }

    /// Refuses to go on in a child of a fork that happened in the turn, and after an error that left something half done.
    pub(crate) fn check(&self) -> Result<(), WriteError> {
        if !self.writer.process().is_current() {
            return Err(WriteError::Forked);
        }
        if self.dirty.get() {
            return Err(WriteError::Misused(
                "a call of this turn has failed; end it, and the next one recovers",
            ));
        }
        Ok(())
    }

    /// Runs what stores: if it fails, the next turn recovers.
    pub(crate) fn doing<R>(
        &self,
        what: impl FnOnce() -> Result<R, WriteError>,
    ) -> Result<R, WriteError> {
        self.dirty.set(true);
        let done = what()?;
        self.dirty.set(false);
        Ok(done)
    }

    /// Returns what was read of a list or a queue. Where that is broken, the next turn makes it anew.
    pub(crate) fn derived<R>(&self, read: Result<R, Corrupt>) -> Result<R, WriteError> {
        read.map_err(|corrupt| {
            self.dirty.set(true);
            corrupt.into()
        })
    }

    /// Makes `link` lead to `fresh`, which is thereby published with the blocks of this turn that it leads to, and returns it.
    /// What `link` led to before is not retired: it is reached by another way now, as the node behind a new one is.
    ///
    /// # Errors
    ///
    /// [`WriteError::Misused`] if `link` is not in the region, or in a block that is not published; or if `fresh` was published
    /// with another block, or would lead to one that is not published.
    pub fn put<'t, T: Shareable>(
        &'t self,
        link: &SharedAtomic<T>,
        fresh: Fresh<'t, T>,
    ) -> Result<SharedRef<'t, T>, WriteError> {
        self.publish(link, fresh, None, None)
    }

    /// The same, and what `link` led to before is retired. `fresh` must not lead to it.
    ///
    /// # Errors
    ///
    /// As for [`put`](Self::put); and [`WriteError::Misused`] if what `link` led to is no published block.
    pub fn replace<'t, T: Shareable>(
        &'t self,
        link: &SharedAtomic<T>,
        fresh: Fresh<'t, T>,
    ) -> Result<SharedRef<'t, T>, WriteError> {
        let old = link.link();
        self.publish(link, fresh, (!old.is_null()).then_some(old), None)
    }

    /// Makes `link` lead to `fresh`, retires `retire`, and makes a count another one, all at once.
    pub(crate) fn publish<'t, T: Shareable>(
        &'t self,
        link: &SharedAtomic<T>,
        fresh: Fresh<'t, T>,
        retire: Option<Link<T>>,
        count: Option<(&Word, u64)>,
    ) -> Result<SharedRef<'t, T>, WriteError> {
        if !fresh.is_of(self) {
            return Err(WriteError::Misused("the block is another turn's"));
        }
        let new = fresh.link();
        self.change(link, new, Some(fresh.at()), retire.map(Link::offset), count)?;
        self.follow(new).ok_or(WriteError::Misused("no block"))
    }

    /// Makes `link` lead to `to`, and retires what it led to, if that was anything. So the first node of a list is taken out with
    /// `to` its successor, and everything with [`Link::NULL`].
    ///
    /// # Errors
    ///
    /// As for [`replace`](Self::replace); and [`WriteError::Misused`] if `to` leads to what is retired, or to no published block.
    pub fn remove<T: Shareable>(
        &self,
        link: &SharedAtomic<T>,
        to: Link<T>,
    ) -> Result<(), WriteError> {
        self.remove_counted(link, to, None)
    }

    /// The same, and a count becomes another one with it.
    pub(crate) fn remove_counted<T: Shareable>(
        &self,
        link: &SharedAtomic<T>,
        to: Link<T>,
        count: Option<(&Word, u64)>,
    ) -> Result<(), WriteError> {
        let old = link.link();
        self.change(link, to, None, (!old.is_null()).then_some(old.offset()), count)
    }

    /// Makes `link` lead to `to`, and retires nothing: a tag is set, or a block is reached by one way more.
    ///
    /// # Errors
    ///
    /// [`WriteError::Misused`] if `link` is not in the region or in a block that is not published, or `to` leads to no published
    /// block.
    pub fn set<T: Shareable>(&self, link: &SharedAtomic<T>, to: Link<T>) -> Result<(), WriteError> {
        self.change(link, to, None, None, None)
    }

    /// Stores a number, by itself: a death leaves the old one or the new one.
    pub(crate) fn store(&self, word: &Word, value: u64) -> Result<(), WriteError> {
        self.check()?;
        put(word.word(), value);
        Ok(())
    }

    /// Makes a link that no reader reaches lead somewhere.
    pub(crate) fn lead_unseen<T>(
        &self,
        link: &SharedAtomic<T>,
        to: Link<T>,
    ) -> Result<(), WriteError> {
        self.check()?;
        put(link.word(), to.word());
        Ok(())
    }

    /// Checks a change, and makes it. Blocks are given by their content's offset, `fresh` by its own.
    fn change<T>(
        &self,
        link: &SharedAtomic<T>,
        new: Link<T>,
        fresh: Option<u64>,
        retire: Option<u64>,
        count: Option<(&Word, u64)>,
    ) -> Result<(), WriteError> {
        self.check()?;
        let blocks = self.blocks();
        let at = self.map().offset_of(link.word()).filter(|&at| at >= ROOTS_AT);
        let link_at = at.ok_or(WriteError::Misused("the link is not in the region"))?;
        if blocks.read(link_at) == new.word() {
            return match (fresh, retire) {
                (None, None) => Ok(()),
                _ => Err(WriteError::Misused("the link leads there already")),
            };
        }
        let mut hand = self.hand.borrow_mut();
        let is_in =
            |places: &Places| places.before(link_at).is_some_and(|at| blocks.has_word(at, link_at));
        if is_in(&hand.held) {
            return Err(WriteError::Misused(
                "the link's block is not published: lead the link, and publish the block",
            ));
        }
        if is_in(&hand.gone) {
            return Err(WriteError::Misused("the link's block was retired in this turn"));
        }
        let live = |content| block_of(content).filter(|&at| blocks.expect(at, State::Live).is_ok());
        let retire = match retire {
            None => 0,
            Some(content) => live(content)
                .ok_or(WriteError::Misused("what the link led to is no published block"))?,
        };
        let order = match fresh {
            Some(fresh) if !hand.held.contains(fresh) => {
                return Err(WriteError::Misused("the block was published with another one"));
            }
            Some(fresh) => hand.closure(blocks, fresh, retire)?,
            None => {
                if !new.is_null() && live(new.offset()).is_none_or(|to| to == retire) {
                    return Err(WriteError::Misused("it would lead to no published block"));
                }
                Vec::new()
            }
        };
        if retire != 0 {
            self.latest()?;
        }
        let (count_at, count) = match count {
            None => (0, 0),
            Some((word, count)) => {
                let at = self.map().offset_of(word.word());
                (at.ok_or(WriteError::Misused("the count is not in the region"))?, count)
            }
        };
        let (new, fresh) = (new.word(), &*order);
        let change = Change { link: link_at, new, fresh, retire, count_at, count };
        let made = self.doing(|| Ok(journal::make(blocks, change)?));
        // Also after an error: some of them may be published.
        if !order.is_empty() {
            hand.forget(blocks, &order);
        }
        made?;
        if retire != 0 {
            hand.gone.insert(retire);
        }
        Ok(())
    }

    /// Counts all blocks, and checks that the lists agree with them. It costs a look at each.
    ///
    /// # Errors
    ///
    /// [`WriteError::Corrupt`] if they don't.
    pub fn census(&self) -> Result<Census, WriteError> {
        self.check()?;
        let found = self.blocks().census()?;
        self.derived(self.blocks().agree(&found))?;
        Ok(found)
    }
}

impl Sealed for Turn<'_> {
    fn map(&self) -> &Map {
        &self.writer.region().inner().data
    }
}

impl View for Turn<'_> {}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // A child's copy; or a thread that a test has killed.
        if !self.writer.process().is_current() || is_dead() {
            return;
        }
        let mut hand = self.hand.take();
        if !self.dirty.get() {
            for at in hand.held.iter() {
                match self.blocks().expect(at, State::Held) {
                    Ok(class) => self.blocks().free(at, class),
                    Err(_) => self.dirty.set(true),
                }
            }
        }
        turn::leave(self.map().word(TURN), self.dirty.get());
        self.writer.sweep.retired(hand.gone.len());
        hand.clear();
        self.writer.hand = hand;
    }
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("writer", &self.writer.slot()).finish_non_exhaustive()
    }
}
