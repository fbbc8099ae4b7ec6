//! The word of an [`Atomic`], and how one is made.
//!
//! The drop-in for crossbeam-epoch has another file in this one's place where loom runs it: there the word is one of
//! loom's, which no constant can be (`compat/crossbeam-epoch/src/under_loom/word.rs`). Everything beside it is shared.

use super::atomic::Atomic;
use super::pointable::Pointable;
use core::marker::PhantomData;
pub(super) use core::sync::atomic::AtomicUsize;

impl<T: ?Sized + Pointable> Atomic<T> {
    #[inline]
    pub(super) const fn of(word: usize) -> Atomic<T> {
        Atomic { word: AtomicUsize::new(word), points: PhantomData }
    }

    /// Returns a null pointer.
    pub const fn null() -> Atomic<T> {
        Atomic::of(0)
    }
}

/// Loads by Consume, as well as that can be had.
#[inline]
pub(super) fn load_consume(word: &AtomicUsize) -> usize {
    // With that cfg crossbeam-utils knows loom's atomics alone.
    #[cfg(not(crossbeam_loom))]
    return crossbeam_utils::atomic::AtomicConsume::load_consume(word);
    #[cfg(crossbeam_loom)]
    return word.load(core::sync::atomic::Ordering::Acquire);
}
