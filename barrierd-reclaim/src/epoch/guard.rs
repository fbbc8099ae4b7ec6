//! The guard: an open section of a participant, and the one that protects nothing.

use super::collector::Collector;
use super::deferred;
use super::participant;
use super::pointable::Pointable;
use super::shared::Shared;
use crate::bag::Item;
use crate::domain::Domain;
use crate::engine::record::Record;
use core::fmt;
use core::ptr;

/// An open read-side section: [`pin`](super::pin), [`LocalHandle::pin`](super::LocalHandle::pin).
///
/// As long as it lives, what was loaded under it is not destroyed. Guards of one participant nest: the
/// first one's section counts, and the last one's end closes it. A guard may outlive the handle it came
/// from, and the collector's other owners. It stays on its thread.
///
/// ```
/// use barrierd_reclaim::epoch::{self, Atomic};
/// use std::sync::atomic::Ordering::Acquire;
///
/// let cell = Atomic::new(1);
/// let guard = epoch::pin();
/// // SAFETY: not null, and nobody destroys it meanwhile.
/// assert_eq!(unsafe { cell.load(Acquire, &guard).deref() }, &1);
/// # // SAFETY: the last pointer.
/// # drop(unsafe { cell.into_owned() });
/// ```
pub struct Guard {
    /// Its participant's; null: protects nothing.
    record: *const Record,
}

impl Guard {
    /// A guard of a participant, which has counted it already.
    #[inline]
    pub(super) fn of(record: *const Record) -> Guard {
        Guard { record }
    }

    #[inline]
    fn record(&self) -> Option<&Record> {
        // SAFETY: null, or of a participant that this guard keeps.
        unsafe { self.record.as_ref() }
    }

    /// Calls `f` once every section that is open now has ended, on whichever thread comes to it. A guard
    /// that protects nothing calls it at once.
    ///
    /// Some earlier closures, up to two as a rule, may be called here. If one panics, the panic comes out
    /// here or where else it is called, and no other is lost.
    ///
    /// Costs as [`Reclaimer::retire_with`](crate::Reclaimer::retire_with), and an allocation if `f`
    /// captures more than one word.
    #[inline]
    pub fn defer<F, R>(&self, f: F)
    where
        F: FnOnce() -> R,
        F: Send + 'static,
    {
        // SAFETY: it is `Send` and borrows nothing.
        unsafe { self.defer_unchecked(f) };
    }

    /// [`defer`](Guard::defer) for a closure that is not `Send`, or that borrows.
    ///
    /// # Safety
    /// The closure may be called on any thread, at any time until the collector's last owner is gone: what
    /// it borrows lives that long, and what it captures may be used and dropped elsewhere.
    #[inline]
    pub unsafe fn defer_unchecked<F, R>(&self, f: F)
    where
        F: FnOnce() -> R,
    {
        match self.record() {
            // SAFETY: as the caller says.
            Some(record) => unsafe { retire(record, deferred::call(f)) },
            None => drop(f()),
        }
    }

    /// Destroys an object once every section that is open now has ended, on whichever thread comes to it.
    /// A guard that protects nothing destroys it at once. No allocation; otherwise as
    /// [`defer`](Guard::defer).
    ///
    /// # Safety
    /// - `ptr` is not null. Nobody can reach the object any more, but for those who have loaded a pointer
    ///   to it under a guard of the same collector; and nobody else destroys it.
    /// - It may be dropped on another thread, at any time until the collector's last owner is gone.
    #[inline]
    pub unsafe fn defer_destroy<T: ?Sized + Pointable>(&self, ptr: Shared<'_, T>) {
        match self.record() {
            // SAFETY: as the caller says.
            Some(record) => unsafe { retire(record, deferred::destruction(ptr)) },
            // SAFETY: nobody else knows the object.
            None => drop(unsafe { ptr.into_owned() }),
        }
    }

    /// Calls what may be called by now of what this participant, or a thread that has exited, has deferred, and of
    /// what anybody has flushed before. Waits for no other section; a guard that protects nothing does nothing.
    ///
    /// What may not be called yet, for this guard's own section too, is left to the collector: the next flush of
    /// anybody's calls it, under another guard, if no other is open that is as old; or it is
    /// called later by itself ([`drain`](super::drain) waits for it). Costs as
    /// [`Reclaimer::flush`](crate::Reclaimer::flush).
    pub fn flush(&self) {
        if let Some(record) = self.record() {
            // SAFETY: the participant is this thread's.
            unsafe { Domain::of(record).flush_for_all(record) };
        }
    }

    /// Ends the section and opens the next: what was deferred meanwhile may go. Does nothing if the
    /// participant has other guards.
    #[inline]
    pub fn repin(&mut self) {
        if let Some(record) = self.record()
            && participant::is_sole(record)
        {
            participant::repin(record);
        }
    }

    /// Ends the section, calls `f` and opens the next section, also if `f` panics. While the participant
    /// has other guards, the section stays open.
    pub fn repin_after<F, R>(&mut self, f: F) -> R
    where
        F: FnOnce() -> R,
    {
        /// Opens the section again. A handle, so that the participant is there still.
        struct Reopen(*const Record);

        impl Drop for Reopen {
            fn drop(&mut self) {
                // SAFETY: this handle keeps the participant, whose thread this is.
                unsafe { participant::begin(&*self.0) };
                // SAFETY: the handle that was counted below; the guard keeps the participant.
                unsafe { participant::release(self.0) };
            }
        }

        let _reopen = self.record().map(|record| {
            participant::retain(record);
            // SAFETY: this guard's count, which `Reopen` brings back before anyone uses the guard.
            unsafe { participant::end(record) };
            Reopen(record)
        });
        f()
    }

    /// The collector that it belongs to; `None` if it protects nothing. A structure that takes guards
    /// from its users checks it.
    #[inline]
    pub fn collector(&self) -> Option<&Collector> {
        self.record().map(participant::collector)
    }
}

/// # Safety
/// The participant is the calling thread's, and the item may be freed as the caller of `defer_unchecked`
/// or `defer_destroy` says.
#[inline]
unsafe fn retire(record: &Record, (item, bytes): (Item, usize)) {
    // SAFETY: as the caller says.
    unsafe { Domain::retire::<false>(record, item, bytes) };
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // The one that protects nothing is a static, and never dropped.
        debug_assert!(!self.record.is_null());
        // SAFETY: this guard's count, once; guards stay on their thread.
        unsafe { participant::end(self.record) };
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Guard { .. }")
    }
}

/// A guard that protects nothing: for structures that are being made or dropped, and that no other thread
/// knows. What is deferred with it is called at once.
///
/// # Safety
/// What is loaded with it may be followed only as long as no other thread changes it.
#[inline]
pub unsafe fn unprotected() -> &'static Guard {
    struct Nothing(Guard);
    // SAFETY: with a null record no method touches anything.
    unsafe impl Sync for Nothing {}
    static NOTHING: Nothing = Nothing(Guard { record: ptr::null() });
    &NOTHING.0
}
