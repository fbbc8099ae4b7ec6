//! A record in a domain that its user keeps, instead of having it looked up in each call.

use crate::api::guard::Guard;
use crate::api::hazard::{Hazard, HazardPair};
use crate::api::reclaimer::Reclaimer;
use crate::api::robust::RobustGuard;
use crate::bag::{Item, free_box};
use crate::domain::Domain;
use crate::engine::record::Record;
use crate::error::SynchronizeError;
use crate::protocol::Words;
use core::{fmt, ptr};
use std::time::Instant;

/// A reclaimer for one thread's hot path: [`pin`](Handle::pin) is two loads, a store and a test; the guard's end is
/// one store.
///
/// Made by [`Reclaimer::handle`]. It may be sent to another thread, but not shared. While it exists it counts as a
/// thread of its own.
///
/// `pin` borrows the handle mutably, so it need not check whether a section is open. Beside robust guards and hazards
/// of the handle, use [`pin_nested`](Handle::pin_nested). Inside a section, use [`Guard::retire`]. Methods that are
/// missing here do not depend on the thread: see [`reclaimer`](Handle::reclaimer).
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
///
/// # In destructors
/// A destructor run by `retire` is tracked only on the record that the call went through: this thread's, or that
/// handle's. If the destructor uses another handle, the calls there look like any others: `retire` may run a
/// destructor in turn, as deep as there are handles, and [`synchronize`](Handle::synchronize) waits instead of
/// returning [`InDestructor`](SynchronizeError::InDestructor). Destructors run by `flush`, `synchronize` and the
/// background thread are tracked everywhere.
///
/// It can't be shared:
///
/// ```compile_fail,E0277
/// let handle = barrierd_reclaim::Reclaimer::new().handle();
/// std::thread::scope(|s| {
///     s.spawn(|| handle.flush()); // Handle is not Sync
/// });
/// ```
pub struct Handle {
    record: *const Record,
    /// The domain's words, kept here so that `pin` need not look them up.
    words: *const Words,
    /// Keeps the domain, and so the record, alive and open.
    reclaimer: Reclaimer,
}

// SAFETY: a record is tied to no thread, and the handle's owner owns it; guards borrow the handle, so none stays
// behind when it moves.
unsafe impl Send for Handle {}

impl Handle {
    pub(crate) fn new(reclaimer: Reclaimer) -> Handle {
        let domain = reclaimer.domain();
        let words = ptr::from_ref(domain.words());
        Handle { record: domain.acquire(), words, reclaimer }
    }

    #[inline]
    pub(crate) fn domain(&self) -> &Domain {
        self.reclaimer.domain()
    }

    #[inline]
    pub(crate) fn record(&self) -> &Record {
        // SAFETY: the reclaimer keeps the domain alive, and with it the record.
        unsafe { &*self.record }
    }

    /// Opens a read-side section.
    #[inline]
    pub fn pin(&mut self) -> Guard<'_> {
        // SAFETY: the reclaimer keeps the domain alive, and with it the words.
        if !self.record().reader().open(unsafe { &*self.words }) {
            self.domain().wake(self.record());
        }
        // The handle is lent to the guard, so nothing opens another one, and guards that were forgotten before are
        // over.
        Guard::sole(self.record)
    }

    /// Opens a read-side section beside others, and beside robust guards and hazards, of this handle: guards nest. It
    /// costs one test more than [`pin`](Handle::pin).
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::sync::atomic::AtomicPtr;
    ///
    /// let handle = Reclaimer::new().handle();
    /// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
    /// let mut hazard = handle.hazard();
    /// let guard = handle.pin_nested();
    /// let kept = hazard.keep(&guard, guard.protect(&cell));
    /// drop(guard);
    /// // SAFETY: not null, and held by the hazard.
    /// assert_eq!(unsafe { kept.as_ref() }, Some(&1));
    /// # drop(hazard);
    /// # // SAFETY: the last pointer, and nobody else has it.
    /// # drop(unsafe { Box::from_raw(cell.into_inner()) });
    /// ```
    #[inline]
    pub fn pin_nested(&self) -> Guard<'_> {
        self.domain().pin_nested(self.record());
        Guard::new(self.record)
    }

    /// Opens a section that may stall: it keeps nothing that is born later ([`RobustGuard`]). It costs two loads and
    /// three stores. Robust guards of a handle nest.
    ///
    /// [`alloc`](Handle::alloc) has an example.
    #[inline]
    pub fn pin_robust(&self) -> RobustGuard<'_> {
        let (record, domain) = (self.record(), self.domain());
        RobustGuard::open(record, domain, domain.readers_fence())
    }

    /// Makes a hazard pointer, which holds nothing yet: see [`Reclaimer::hazard`].
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let handle = Reclaimer::new().handle();
    /// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
    /// let mut hazard = handle.hazard();
    /// // SAFETY: `cell` leads to live objects only, and what it led to is retired after it was unlinked.
    /// let seen = unsafe { hazard.protect(&cell).as_ref() }.expect("not null");
    /// let old = cell.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
    /// // SAFETY: from a Box, can't be reached any more, retired once.
    /// unsafe { handle.retire(old) };
    /// handle.flush();
    /// assert_eq!(*seen, 1); // still there
    /// # drop(hazard);
    /// # // SAFETY: the last pointer, and nobody else has it.
    /// # drop(unsafe { Box::from_raw(cell.into_inner()) });
    /// ```
    #[must_use]
    pub fn hazard(&self) -> Hazard<'_> {
        Hazard::new(self.record())
    }

    /// Makes a few hazard pointers at once: see [`Reclaimer::hazards`].
    ///
    /// ```
    /// let handle = barrierd_reclaim::Reclaimer::new().handle();
    /// let [mut here, mut next] = handle.hazards();
    /// std::mem::swap(&mut here, &mut next);
    /// ```
    #[must_use]
    pub fn hazards<const N: usize>(&self) -> [Hazard<'_>; N] {
        core::array::from_fn(|_| Hazard::new(self.record()))
    }

    /// Makes two hazard pointers that are used in turn: see [`Reclaimer::hazard_pair`].
    #[must_use]
    pub fn hazard_pair(&self) -> HazardPair<'_> {
        HazardPair::new(self.record())
    }

    /// Does what [`Reclaimer::retire`] does.
    ///
    /// # Safety
    /// As for [`Reclaimer::retire`].
    #[inline(always)]
    pub unsafe fn retire<T: Send>(&self, ptr: *mut T) {
        // SAFETY: the caller promises what `retire_with` asks, and that `ptr` came from a `Box`.
        unsafe { self.retire_with(ptr, free_box) }
    }

    /// Does what [`Reclaimer::retire_with`] does.
    ///
    /// ```
    /// use barrierd_reclaim::{Reclaimer, recycle};
    /// use std::sync::atomic::{AtomicPtr, Ordering};
    ///
    /// let handle = Reclaimer::new().handle();
    /// let cell = AtomicPtr::new(recycle::alloc(1));
    /// let old = cell.swap(recycle::alloc(2), Ordering::AcqRel);
    /// // SAFETY: made by `recycle::alloc`, can't be reached any more, retired once.
    /// unsafe { handle.retire_with(old, recycle::free) };
    /// # // SAFETY: the last pointer, and nobody else has it.
    /// # unsafe { recycle::free(cell.into_inner()) };
    /// ```
    ///
    /// # Safety
    /// As for [`Reclaimer::retire_with`].
    #[inline(always)]
    pub unsafe fn retire_with<T>(&self, ptr: *mut T, free: unsafe fn(*mut T)) {
        let item = Item::of(ptr, free);
        // SAFETY: the caller promises what `retire_item` asks, which is the same.
        unsafe { self.retire_item::<false>(item, size_of::<T>()) }
    }

    /// # Safety
    /// As for [`Reclaimer::retire_with`]; `BORN` as for `Domain::retire`.
    #[inline(always)]
    pub(crate) unsafe fn retire_item<const BORN: bool>(&self, item: Item, bytes: usize) {
        // SAFETY: the handle owns the record; the rest is the caller's promise.
        unsafe { Domain::retire::<BORN>(self.record(), item, bytes) }
    }

    /// Does what [`Reclaimer::flush`] does, for what was retired through this handle.
    pub fn flush(&self) {
        // SAFETY: the handle owns the record.
        unsafe { self.domain().flush(self.record()) };
    }

    /// Does what [`Reclaimer::synchronize`] does, and frees what was retired through this handle.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::time::{Duration, Instant};
    ///
    /// let handle = Reclaimer::new().handle();
    /// handle.retire_value(String::from("gone"));
    /// handle.synchronize(Instant::now() + Duration::from_secs(10))?;
    /// assert_eq!(handle.reclaimer().stats().freed, 1);
    /// # Ok::<(), barrierd_reclaim::SynchronizeError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Reclaimer::synchronize`]. A section of this thread that does not belong to the handle shows as
    /// [`SynchronizeError::Readers`], after the deadline.
    pub fn synchronize(&self, deadline: Instant) -> Result<(), SynchronizeError> {
        // SAFETY: the handle owns the record.
        unsafe { self.domain().synchronize(self.record(), deadline) }
    }

    /// Returns the reclaimer that this is a handle of.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.reclaimer
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The guards borrowed the handle, so those that were forgotten are over, too. (A hazard that was forgotten
        // still holds what it held, and keeps the record in use for ever, as a thread's forgotten hazard does.)
        self.record().end_guards();
        // SAFETY: the handle owned the record, and is gone.
        unsafe { self.reclaimer.domain().hand_over(self.record()) };
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("reclaimer", &self.reclaimer).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use crate::{Reclaimer, Source};
    use core::mem::forget;

    /// What is left of the forgotten guards' count must not be taken for guards of a later section.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn forgotten_guards_hold_no_later_section_open() {
        for source in [Source::Fence, Source::Membarrier] {
            let reclaimer = Reclaimer::builder().source(source).build().expect("the kernel has it");
            let mut handle = reclaimer.handle();
            let readers = || reclaimer.blockers().len();
            (0..3).for_each(|_| forget(handle.pin_nested()));
            assert_eq!(readers(), 1, "{source:?}");
            let mut sole = handle.pin();
            assert!(sole.repin(), "{source:?}");
            drop(sole);
            assert_eq!(readers(), 0, "{source:?}");
            drop(handle.pin_nested());
            assert_eq!(readers(), 0, "{source:?}");
        }
    }

    /// More than fit into a slot beside its stamp.
    #[test]
    fn the_last_of_many_guards_ends_the_section() {
        let handle = Reclaimer::new().handle();
        let mut guards: Vec<_> = (0..100).map(|_| handle.pin_nested()).collect();
        assert!(!guards[7].repin());
        while let Some(guard) = guards.pop() {
            assert_eq!(handle.reclaimer().blockers().len(), 1);
            drop(guard);
        }
        assert!(handle.reclaimer().blockers().is_empty());
    }
}
