//! The atomics of the stack and the queue, so that loom can stand in for them, and the ways in which their models may break
//! them. The only place where a loom build differs from a real one.

use core::mem::MaybeUninit;

pub(crate) use core::sync::atomic::Ordering;

#[cfg(not(barrierd_loom))]
pub(crate) use core::cell::UnsafeCell;
#[cfg(not(barrierd_loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32};
#[cfg(barrierd_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicPtr, AtomicU8, AtomicU32},
};

/// Where a value lies that atomics beside it guard. It drops nothing.
pub(crate) struct Place<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Place<T> {
    pub(crate) fn empty() -> Place<T> {
        Place(UnsafeCell::new(MaybeUninit::uninit()))
    }

    pub(crate) fn with(value: T) -> Place<T> {
        if cfg!(barrierd_loom) {
            // It does not count what a place is made with as written.
            let place = Place::empty();
            // SAFETY: nobody else knows it.
            unsafe { place.put(value) };
            return place;
        }
        Place(UnsafeCell::new(MaybeUninit::new(value)))
    }

    /// Puts a value in.
    ///
    /// # Safety
    /// Nobody else writes or reads the place meanwhile.
    #[inline]
    pub(crate) unsafe fn put(&self, value: T) {
        #[cfg(not(barrierd_loom))]
        // SAFETY: the caller's promise.
        unsafe {
            (*self.0.get()).write(value);
        }
        #[cfg(barrierd_loom)]
        // SAFETY: the caller's promise, which loom checks.
        self.0.with_mut(|place| unsafe {
            (*place).write(value);
        });
    }

    /// Reads the bytes of the value. They are its only owner's, or a copy.
    ///
    /// # Safety
    /// A value was put in, that happened before, and nobody writes the place meanwhile. The result is used as a value once
    /// at most, unless it is `Copy`.
    #[inline]
    pub(crate) unsafe fn read(&self) -> T {
        #[cfg(not(barrierd_loom))]
        // SAFETY: the caller's promise.
        return unsafe { (*self.0.get()).assume_init_read() };
        #[cfg(barrierd_loom)]
        // SAFETY: the caller's promise, which loom checks.
        self.0.with(|place| unsafe { (*place).assume_init_read() })
    }
}

/// One way to break the structures. Loom runs the crate's own code with one of them switched on and must find it; elsewhere
/// each is `false` at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A slot is said to be full by a Relaxed operation.
    RelaxedPublish,
    /// A slot is said to be full by a store, also where it was given up meanwhile.
    PublishByStore,
    /// A slot that is not full means that the queue is empty.
    EmptyUnasked,
    /// A segment is retired without a look whether the tail still leads to it.
    TailLeftBehind,
    /// A segment is linked by a Relaxed operation.
    RelaxedLink,
    /// A slot is taken as soon as it is full, whoever else takes it.
    TakeByStore,
    /// A node is pushed by a Relaxed operation.
    RelaxedPush,
    /// A node is popped by a store, whoever else pops it.
    PopByStore,
    /// A piece of a map's new buckets is opened behind buckets that are not in the list.
    OpenBehindUnlinked,
    /// A map's new bucket is linked by a store, whoever else has changed the link.
    OpenByStore,
    /// A map's entry gets its bit in the filters after it was linked.
    BitAfterLink,
    /// A map's filters are loaded in the wrong order.
    NowBeforeNext,
    /// A filter is filled while somebody may insert who does not know it.
    FillUnasked,
    /// A filter is switched to after the first piece.
    SwitchEarly,
    /// A filter is given up though a piece of it may have been begun.
    GiveUpBegun,
}

/// Returns whether this build is broken in the way of `mutant`.
#[cfg(not(all(barrierd_loom, test)))]
#[inline(always)]
pub(crate) const fn broken(_: Mutant) -> bool {
    false
}

#[cfg(all(barrierd_loom, test))]
pub(crate) use crate::models::broken;

/// Returns SeqCst, for an operation whose proof needs `enough` of it and, besides, its place in the order of all SeqCst
/// operations. Loom, which takes such an operation for a fence, gets `enough`.
#[inline(always)]
pub(crate) fn ordered(enough: Ordering) -> Ordering {
    if cfg!(barrierd_loom) { enough } else { Ordering::SeqCst }
}

/// Returns `right`, or Relaxed where `mutant` is switched on.
#[inline(always)]
pub(crate) fn unless(mutant: Mutant, right: Ordering) -> Ordering {
    if broken(mutant) { Ordering::Relaxed } else { right }
}
