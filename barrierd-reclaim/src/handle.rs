//! A place in a domain that its user keeps, instead of having it looked up in each call.

use crate::bag::Item;
use crate::guard::Guard;
use crate::reclaimer::{Reclaimer, free_box, thin};
use crate::record::Record;
use core::fmt;

/// A reclaimer for one thread's hot path: [`pin`](Handle::pin) is a load and a store, `unpin` one
/// store and a test.
///
/// Made by [`Reclaimer::handle`]. It may be sent to another thread, not shared. While it exists it
/// counts as a thread of its own: one that never retires leaves collected barriers to the source.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let reclaimer = Reclaimer::new();
/// let mut handle = reclaimer.handle();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// {
///     let guard = handle.pin();
///     // SAFETY: not null, and not freed while the guard lives.
///     assert_eq!(unsafe { *guard.protect(&cell) }, 1);
/// }
/// let old = cell.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
/// // SAFETY: from a Box, can't be reached any more, retired once.
/// unsafe { handle.retire(old) };
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
pub struct Handle {
    record: *const Record,
    /// Keeps the domain, and so the record, alive and open.
    reclaimer: Reclaimer,
}

// SAFETY: a record is tied to no thread, and its owner is whoever has the handle; guards borrow it,
// so none is left behind when it moves.
unsafe impl Send for Handle {}

impl Handle {
    pub(crate) fn new(reclaimer: Reclaimer) -> Handle {
        Handle { record: reclaimer.domain().acquire(), reclaimer }
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        // SAFETY: the reclaimer keeps the domain alive, and with it the record.
        unsafe { &*self.record }
    }

    /// Opens a read-side section.
    #[inline]
    pub fn pin(&mut self) -> Guard<'_> {
        self.reclaimer.domain().pin_for(self.record());
        Guard::new(self.record)
    }

    /// [`Reclaimer::retire`].
    ///
    /// # Safety
    /// As for [`Reclaimer::retire`].
    #[inline]
    pub unsafe fn retire<T: Send>(&mut self, ptr: *mut T) {
        // SAFETY: this function's caller says so.
        unsafe { self.retire_with(ptr, free_box) }
    }

    /// [`Reclaimer::retire_with`].
    ///
    /// # Safety
    /// As for [`Reclaimer::retire_with`].
    #[inline]
    pub unsafe fn retire_with<T>(&mut self, ptr: *mut T, free: unsafe fn(*mut T)) {
        let item = Item { ptr: ptr.cast(), free: thin(free) };
        // SAFETY: this function's caller says so.
        unsafe { self.retire_item(item, size_of::<T>()) }
    }

    /// # Safety
    /// As for [`Reclaimer::retire_with`].
    #[inline]
    pub(crate) unsafe fn retire_item(&mut self, item: Item, bytes: usize) {
        // SAFETY: the handle owns the record; the rest is the caller's promise.
        unsafe { self.reclaimer.domain().retire_for(self.record(), item, bytes) }
    }

    /// [`Reclaimer::flush`], of what was retired through this handle.
    pub fn flush(&mut self) {
        // SAFETY: the handle owns the record.
        unsafe { self.reclaimer.domain().flush(self.record()) };
    }

    /// The reclaimer that it is a handle of.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.reclaimer
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Its guards borrowed the handle, so those that were forgotten are over, too.
        self.record().reader().unpin();
        // SAFETY: the handle owned the record, and is gone.
        unsafe { self.reclaimer.domain().hand_over(self.record()) };
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("reclaimer", &self.reclaimer).finish_non_exhaustive()
    }
}
