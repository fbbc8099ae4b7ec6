//! The guard: an open read-side section.

use crate::api::reclaimer::Reclaimer;
use crate::api::robust::Born;
use crate::bag::{Item, free_box};
use crate::domain::Domain;
use crate::engine::record::Record;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

/// An open read-side section, made by [`Reclaimer::pin`](crate::Reclaimer::pin) or
/// [`Handle::pin`](crate::Handle::pin).
///
/// While it lives, no object that could be reached when it was made, or that is reached through
/// [`protect`](Guard::protect) since, is freed. Guards nest: they share the section of the first one.
///
/// A guard that lives long holds back everything that is retired after it was made, in the whole domain.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::AtomicPtr;
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let guard = reclaimer.pin();
/// // SAFETY: not null, and not freed while the guard lives.
/// assert_eq!(unsafe { *guard.protect(&cell) }, 1);
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
///
/// Dropping it costs one store. It stays on its thread:
///
/// ```compile_fail,E0277
/// let reclaimer = barrierd_reclaim::Reclaimer::new();
/// let guard = reclaimer.pin();
/// std::thread::scope(|s| {
///     s.spawn(|| drop(guard)); // Guard is not Send
/// });
/// ```
#[must_use = "the section ends when the guard is dropped"]
pub struct Guard<'r> {
    /// This thread's record; a raw pointer, so that the guard is neither Send nor Sync.
    record: *const Record,
    /// No other guard can be opened beside it, so its end need not check for one.
    sole: bool,
    _borrowed: PhantomData<&'r Record>,
}

impl<'r> Guard<'r> {
    /// Makes the guard of a section that is open: the record already counts it, and its domain lives as long as `'r`.
    #[inline]
    pub(crate) fn new(record: *const Record) -> Guard<'r> {
        Guard { record, sole: false, _borrowed: PhantomData }
    }

    /// Does the same for a guard that was opened as the first of its record. The record's owner is lent out for `'r`,
    /// so no other guard is opened meanwhile, and this one is the last as well.
    #[inline]
    pub(crate) fn sole(record: *const Record) -> Guard<'r> {
        Guard { record, sole: true, _borrowed: PhantomData }
    }

    /// Loads a pointer that stays valid as long as this guard, if it pointed to a live object.
    ///
    /// One Acquire load: what the writer stored into the object before it published the pointer is visible. Tag bits
    /// belong to the caller and come back unchanged.
    #[inline]
    pub fn protect<T>(&self, pointer: &AtomicPtr<T>) -> *mut T {
        pointer.load(Ordering::Acquire)
    }

    /// Does what [`Reclaimer::retire`](crate::Reclaimer::retire) does, without the search for this thread's record.
    ///
    /// # Safety
    /// As for [`Reclaimer::retire`](crate::Reclaimer::retire), in the domain of this guard.
    #[inline(always)]
    pub unsafe fn retire<T: Send>(&self, ptr: *mut T) {
        // SAFETY: the caller promises what `retire_with` asks, and that `ptr` came from a `Box`.
        unsafe { self.retire_with(ptr, free_box) }
    }

    /// Does what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) does, without the search for this thread's
    /// record.
    ///
    /// # Safety
    /// As for [`Reclaimer::retire_with`](crate::Reclaimer::retire_with), in the domain of this guard.
    #[inline(always)]
    pub unsafe fn retire_with<T>(&self, ptr: *mut T, free: unsafe fn(*mut T)) {
        let record = self.record();
        let item = Item::of(ptr, free);
        // SAFETY: the guard is on its record's thread; the rest is the caller's promise.
        unsafe { Domain::retire::<false>(record, item, size_of::<T>()) }
    }

    /// Does what [`Reclaimer::retire_born`](crate::Reclaimer::retire_born) does, without the search for this thread's
    /// record.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let reclaimer = Reclaimer::new();
    /// let cell = AtomicPtr::new(Box::into_raw(reclaimer.alloc(1)));
    /// let guard = reclaimer.pin();
    /// let old = cell.swap(Box::into_raw(reclaimer.alloc(2)), Ordering::AcqRel);
    /// // SAFETY: from this reclaimer's `alloc`, can't be reached any more, retired once.
    /// unsafe { guard.retire_born(old) };
    /// # drop(guard);
    /// # // SAFETY: the last pointer, and nobody else has it.
    /// # drop(unsafe { Box::from_raw(cell.into_inner()) });
    /// ```
    ///
    /// # Safety
    /// As for [`Reclaimer::retire_born`](crate::Reclaimer::retire_born), in the domain of this guard.
    #[inline(always)]
    pub unsafe fn retire_born<T: Send>(&self, ptr: *mut Born<T>) {
        let record = self.record();
        let item = Item::of(ptr, free_box::<Born<T>>);
        // SAFETY: the guard is on its record's thread; the rest is the caller's promise.
        unsafe { Domain::retire::<true>(record, item, size_of::<Born<T>>()) }
    }

    /// Returns whether this is a guard of `reclaimer` or one of its clones. A guard of another reclaimer protects
    /// nothing there, so a data structure that takes guards from its users checks this.
    #[inline]
    #[must_use]
    pub fn belongs_to(&self, reclaimer: &Reclaimer) -> bool {
        core::ptr::eq(self.record().engine(), reclaimer.domain().engine())
    }

    /// Ends the section and opens the next, so that what was retired meanwhile can be freed.
    ///
    /// Returns false, and does nothing, if other guards of this thread and reclaimer (or of this handle) are open,
    /// since they hold the section. It does the same for a guard that was made late in a thread's exit, after the
    /// crate's own thread-locals were dropped.
    ///
    /// Pointers from before must not be used any more. Where their lifetimes are tied to the guard, the mutable
    /// borrow ensures that.
    #[inline]
    pub fn repin(&mut self) -> bool {
        let record = self.record();
        if !self.sole && record.nested() != 0 {
            return false;
        }
        record.engine().pin(record);
        true
    }

    #[inline]
    pub(crate) fn record(&self) -> &'r Record {
        // SAFETY: records live as long as their domain, which `'r` keeps alive.
        unsafe { &*self.record }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        let record = self.record();
        if self.sole || record.nested() == 0 {
            record.reader().unpin();
        } else {
            unnest(record);
        }
    }
}

/// Ends one guard of several; or the last one of a record that was taken for it alone, and gives that record back.
#[cold]
fn unnest(record: &Record) {
    record.unnest();
    if record.transient().get() && record.nested() == 0 {
        record.reader().unpin();
        // SAFETY: the guard owned the record, and is gone.
        unsafe { record.engine().hand_over(record) };
    }
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("seen", &self.record().reader().pinned())
            .finish_non_exhaustive()
    }
}
