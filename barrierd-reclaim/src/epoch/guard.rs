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
/// As long as it lives, what was loaded under it is not destroyed. Guards of one participant nest: they share one
/// section, from the first guard's beginning to the last one's end. A guard may outlive the handle that it came from,
/// and the collector's other owners. It stays on its thread.
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
    /// Its participant's record; null if the guard protects nothing.
    record: *const Record,
}

impl Guard {
    /// Makes a guard of a participant, which has counted it already.
    #[inline]
    pub(super) fn of(record: *const Record) -> Guard {
        Guard { record }
    }

    #[inline]
    fn record(&self) -> Option<&Record> {
        // SAFETY: null, or of a participant that this guard keeps.
        unsafe { self.record.as_ref() }
    }

    /// Calls `f` once every section that is open now has ended, on any thread. A guard that protects nothing calls it
    /// at once.
    ///
    /// This call may run some earlier closures, up to two as a rule. If a closure panics, the panic comes out of the
    /// call that runs it, and no other closure is lost.
    ///
    /// It costs what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) does, and an allocation if `f`
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

    /// Does what [`defer`](Guard::defer) does, for a closure that is not `Send`, or that borrows.
    ///
    /// # Safety
    /// The closure may be called on any thread, at any time until the collector's last owner is gone. What it borrows
    /// lives that long, and what it captures may be used and dropped on other threads.
    #[inline]
    pub unsafe fn defer_unchecked<F, R>(&self, f: F)
    where
        F: FnOnce() -> R,
    {
        match self.record() {
            // SAFETY: a guard stays on its participant's thread; the caller promises the rest, of the closure.
            Some(record) => unsafe { retire(record, deferred::call(f)) },
            None => drop(f()),
        }
    }

    /// Destroys an object once every section that is open now has ended, on any thread. A guard that protects nothing
    /// destroys it at once. It costs no allocation; otherwise it is like [`defer`](Guard::defer).
    ///
    /// # Safety
    /// - `ptr` is not null. No thread can reach the object any more, except those that have loaded a pointer to it
    ///   under a guard of the same collector; and nothing else destroys it.
    /// - The object may be dropped on another thread, at any time until the collector's last owner is gone.
    #[inline]
    pub unsafe fn defer_destroy<T: ?Sized + Pointable>(&self, ptr: Shared<'_, T>) {
        match self.record() {
            // SAFETY: a guard stays on its participant's thread; the caller promises the rest, of the object.
            Some(record) => unsafe { retire(record, deferred::destruction(ptr)) },
            // SAFETY: no other thread knows the object.
            None => drop(unsafe { ptr.into_owned() }),
        }
    }

    /// Calls what is safe to call by now, of what this participant or an exited thread has deferred and of what any
    /// thread has flushed before. It waits for no other section. On a guard that protects nothing it does nothing.
    ///
    /// What can't be called yet, also because of this guard's own section, is left to the collector. The next flush
    /// by any thread, under another guard, calls it, if no other guard is open that is as old; or it is called later
    /// without a flush ([`drain`](super::drain) waits for it). The cost is that of
    /// [`Reclaimer::flush`](crate::Reclaimer::flush).
    pub fn flush(&self) {
        if let Some(record) = self.record() {
            // SAFETY: the participant is this thread's.
            unsafe { Domain::of(record).flush_for_all(record) };
        }
    }

    /// Ends the section and opens the next, so that what was deferred meanwhile can be called. It does nothing if the
    /// participant has other guards.
    #[inline]
    pub fn repin(&mut self) {
        if let Some(record) = self.record().filter(|record| participant::is_sole(record)) {
            participant::repin(record);
        }
    }

    /// Ends the section, calls `f` and opens the next section, even if `f` panics. While the participant has other
    /// guards, the section stays open.
    pub fn repin_after<F, R>(&mut self, f: F) -> R
    where
        F: FnOnce() -> R,
    {
        /// Opens the section again. It has a handle, so that the participant still exists.
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
            // SAFETY: this ends this guard's count, which `Reopen` restores before the guard is used again.
            unsafe { participant::end(record) };
            Reopen(record)
        });
        f()
    }

    /// Returns the collector that the guard belongs to; `None` if it protects nothing. A structure that takes guards
    /// from its users checks this.
    #[inline]
    pub fn collector(&self) -> Option<&Collector> {
        self.record().map(participant::collector)
    }
}

/// # Safety
/// The participant is the calling thread's, and the item may be freed under the promises of `defer_unchecked` or
/// `defer_destroy`.
#[inline]
unsafe fn retire(record: &Record, (item, bytes): (Item, usize)) {
    // SAFETY: the caller owns the participant, and promises that the item may be freed.
    unsafe { Domain::retire::<false>(record, item, bytes) };
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // The guard that protects nothing is a static, and is never dropped.
        debug_assert!(!self.record.is_null());
        // SAFETY: this ends this guard's count, once; guards stay on their thread.
        unsafe { participant::end(self.record) };
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Guard { .. }")
    }
}

/// Returns a guard that protects nothing, for structures that are being made or dropped and that no other thread
/// knows. What is deferred with it is called at once.
///
/// # Safety
/// Pointers loaded with it may be followed only as long as no other thread changes the structure.
#[inline]
pub unsafe fn unprotected() -> &'static Guard {
    struct Nothing(Guard);
    // SAFETY: with a null record no method touches anything.
    unsafe impl Sync for Nothing {}
    static NOTHING: Nothing = Nothing(Guard { record: ptr::null() });
    &NOTHING.0
}
