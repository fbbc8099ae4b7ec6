//! The word of an [`Atomic`]: one of loom's, which are made at run time.

use super::atomic::Atomic;
use super::pointable::Pointable;
use core::marker::PhantomData;
use crossbeam_utils::atomic::AtomicConsume;
pub(super) use loom_crate::sync::atomic::AtomicUsize;

impl<T: ?Sized + Pointable> Atomic<T> {
    pub(super) fn of(word: usize) -> Atomic<T> {
        Atomic { word: AtomicUsize::new(word), points: PhantomData }
    }

    /// Returns a null pointer.
    pub fn null() -> Atomic<T> {
        Atomic::of(0)
    }
}

/// Loads by Acquire, which is what loom has in place of Consume.
pub(super) fn load_consume(word: &AtomicUsize) -> usize {
    word.load_consume()
}
