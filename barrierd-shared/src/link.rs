//! How one gets from a link to what lies in a region.
//!
//! This file owns links, and what they lead to as long as something protects it. What protects is `reader.rs`'s and `change.rs`'s.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use crate::map::Map;
use crate::share::Shareable;
use crate::steps::{Mutant, broken};
use crate::sync::{AtomicU64, Ordering, fence};

/// A word that leads to a `T` in the same region, or to nothing. It is changed in a [`Turn`](crate::Turn).
#[repr(transparent)]
pub struct SharedAtomic<T> {
    word: AtomicU64,
    leads_to: PhantomData<fn() -> T>,
}

// SAFETY: it is one word.
unsafe impl<T: Shareable> Shareable for SharedAtomic<T> {}

impl<T> SharedAtomic<T> {
    /// Returns where it leads. This proves nothing about what is there: go through a [`View`].
    #[inline]
    #[must_use]
    pub fn link(&self) -> Link<T> {
        // Relaxed and a fence, since the mapping may be read-only. Acquire in effect: pairs with the Release store of the
        // change (`journal.rs`), which follows the stores of the content.
        let word = self.word.load(Ordering::Relaxed);
        if !broken(Mutant::RelaxedLink) {
            fence(Ordering::Acquire);
        }
        Link::from_word(word)
    }

    #[inline]
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.word
    }
}

impl<T> fmt::Debug for SharedAtomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.link().fmt(f)
    }
}

/// The lowest bits of a link, which are the user's.
pub(crate) const TAG: u64 = 7;

/// The value of a [`SharedAtomic`]: an offset, and a tag of three bits.
pub struct Link<T> {
    word: u64,
    leads_to: PhantomData<fn() -> T>,
}

impl<T> Link<T> {
    /// Leads to nothing.
    pub const NULL: Link<T> = Link::from_word(0);

    pub(crate) const fn from_word(word: u64) -> Link<T> {
        Link { word, leads_to: PhantomData }
    }

    pub(crate) const fn word(self) -> u64 {
        self.word
    }

    /// Returns whether it leads to nothing.
    #[must_use]
    pub const fn is_null(self) -> bool {
        self.offset() == 0
    }

    /// Returns the offset from the region's beginning.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.word & !TAG
    }

    /// Returns the tag.
    #[must_use]
    pub const fn tag(self) -> u64 {
        self.word & TAG
    }

    /// Returns the same link with another tag, of which the lowest three bits count.
    #[must_use]
    pub const fn with_tag(self, tag: u64) -> Link<T> {
        Link::from_word(self.offset() | tag & TAG)
    }
}

impl<T> Clone for Link<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Link<T> {}
impl<T> PartialEq for Link<T> {
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}
impl<T> Eq for Link<T> {}
impl<T> fmt::Debug for Link<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}|{}", self.offset(), self.tag())
    }
}

/// A `T` in the region that a [`View`] protects.
pub struct SharedRef<'v, T> {
    to: &'v T,
    link: Link<T>,
}

impl<T> SharedRef<'_, T> {
    /// Returns the link that leads to it, with the tag that it was reached by.
    #[must_use]
    pub fn link(self) -> Link<T> {
        self.link
    }
}

impl<'v, T> SharedRef<'v, T> {
    /// Returns the reference, which lives as long as the view.
    #[must_use]
    pub fn get(self) -> &'v T {
        self.to
    }
}

impl<T> Clone for SharedRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SharedRef<'_, T> {}
impl<T> Deref for SharedRef<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.to
    }
}
impl<T: fmt::Debug> fmt::Debug for SharedRef<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to.fmt(f)
    }
}

/// Something under which links may be followed: a reader's [`SharedGuard`](crate::SharedGuard), or a writer's
/// [`Turn`](crate::Turn). While it lives, nothing that was reached through it is freed.
pub trait View: sealed::Sealed {
    /// Returns what `link` leads to: `None` if it leads to nothing, or out of the region, as only a broken participant makes
    /// it. It costs a load, a comparison and a test.
    #[inline]
    fn load<'v, T: Shareable>(&'v self, link: &SharedAtomic<T>) -> Option<SharedRef<'v, T>> {
        self.follow(link.link())
    }

    /// Returns what a link leads to that was read under this view.
    #[inline]
    fn follow<T: Shareable>(&self, link: Link<T>) -> Option<SharedRef<'_, T>> {
        self.map().get(link.offset()).map(|to| SharedRef { to, link })
    }

    /// Returns root `index`, at whatever type: participants agree on what each root is.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`ROOTS`](crate::ROOTS).
    #[inline]
    fn root<T: Shareable>(&self, index: usize) -> &SharedAtomic<T> {
        let word = self.map().word(crate::layout::root_at(index));
        // SAFETY: a `SharedAtomic` is this word, transparently.
        unsafe { &*std::ptr::from_ref(word).cast() }
    }
}

pub(crate) mod sealed {
    pub trait Sealed {
        fn map(&self) -> &super::Map;
    }
}
