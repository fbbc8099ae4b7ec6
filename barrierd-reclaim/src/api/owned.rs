//! A guard that may move between threads.

use crate::api::reclaimer::Reclaimer;
use crate::engine::record::Record;
use core::fmt;
use core::sync::atomic::{AtomicPtr, Ordering};

/// An open read-side section with a record of its own in the domain, made by [`Reclaimer::pin_owned`]. Unlike a
/// [`Guard`](crate::Guard), it borrows nothing and may be sent and shared. An async task may hold one across an
/// `.await`, on whichever thread it resumes.
///
/// Making one costs more than making a guard (about as much as an allocation and a fence). While it lives it holds
/// back what any guard does, and it is never put to sleep as an idle thread is. Make one for each task, not for each
/// access, and [`repin`](OwnedGuard::repin) it where nothing is held.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let guard = reclaimer.pin_owned();
/// // SAFETY: not null, and not freed while the guard lives.
/// let seen: &u32 = unsafe { &*guard.protect(&cell) };
/// let old = cell.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
/// // SAFETY: from a Box, can't be reached any more, retired once.
/// unsafe { reclaimer.retire(old) };
/// std::thread::scope(|scope| {
///     scope.spawn(move || {
///         assert_eq!(*seen, 1); // on another thread
///         drop(guard);
///     });
/// });
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
#[must_use = "the section ends when the guard is dropped"]
pub struct OwnedGuard {
    record: *const Record,
    /// Keeps the domain, and so the record, alive and open.
    reclaimer: Reclaimer,
}

// SAFETY: a record is tied to no thread, and the guard owns it. What another thread loads under the guard, it loads
// after the guard came to it. That is after the slot's store and after the fence and stamp with which the record was
// taken. So all evidence that covers the record or that thread covers the load (docs/proofs/holders.md, "An owned
// guard").
unsafe impl Send for OwnedGuard {}
// SAFETY: as for Send; through `&self` only the slot is read, which is atomic.
unsafe impl Sync for OwnedGuard {}

impl OwnedGuard {
    pub(crate) fn new(reclaimer: Reclaimer) -> OwnedGuard {
        let domain = reclaimer.domain();
        let record = domain.acquire();
        domain.pin(record);
        OwnedGuard { record, reclaimer }
    }

    /// Loads a pointer that stays valid as long as this guard, if it pointed to a live object:
    /// [`Guard::protect`](crate::Guard::protect).
    #[inline]
    pub fn protect<T>(&self, pointer: &AtomicPtr<T>) -> *mut T {
        pointer.load(Ordering::Acquire)
    }

    /// Ends the section and opens the next, so that what was retired meanwhile can be freed.
    ///
    /// Unlike [`Guard::repin`](crate::Guard::repin), this runs a full fence and reads the clock. That shows the
    /// domain that this record has passed a barrier. Pointers from before must not be used any more.
    pub fn repin(&mut self) {
        let domain = self.reclaimer.domain();
        domain.fence_and_stamp(self.record());
        domain.pin(self.record());
    }

    /// Returns the reclaimer whose objects it protects.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.reclaimer
    }

    fn record(&self) -> &Record {
        // SAFETY: the reclaimer keeps the domain alive, and with it the record.
        unsafe { &*self.record }
    }
}

impl Drop for OwnedGuard {
    fn drop(&mut self) {
        // Nothing is ever retired through this record, so there is nothing to hand over.
        self.record().reader().unpin();
        self.reclaimer.domain().give_back_unused(self.record());
    }
}

impl fmt::Debug for OwnedGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedGuard")
            .field("seen", &self.record().reader().pinned())
            .finish_non_exhaustive()
    }
}

const _: () = {
    const fn sent_and_shared<T: Send + Sync>() {}
    sent_and_shared::<OwnedGuard>();
};
