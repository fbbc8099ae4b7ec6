//! The guard: an open read-side section.

use crate::domain::Domain;
use crate::record::{Record, TRANSIENT};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};

/// An open read-side section, made by [`Reclaimer::pin`](crate::Reclaimer::pin).
///
/// While it lives, no object that could be reached when it was made, or that is reached through
/// [`protect`](Guard::protect) since, is freed. Guards nest: the first one's section counts.
///
/// A guard that lives long holds back everything retired since it was made, in the whole domain.
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
    domain: &'r Domain,
    /// This thread's record in `domain`; a raw pointer, so that the guard is neither Send nor Sync.
    record: *const Record,
    _on_this_thread: PhantomData<*const ()>,
}

impl<'r> Guard<'r> {
    /// The record's depth already counts this guard.
    #[inline]
    pub(crate) fn new(domain: &'r Domain, record: *const Record) -> Guard<'r> {
        Guard { domain, record, _on_this_thread: PhantomData }
    }

    /// Loads a pointer that stays valid as long as this guard, if it pointed to a live object.
    ///
    /// One Acquire load: what the writer stored into the object before it published the pointer is
    /// visible. Tag bits are the caller's business and come back as they are.
    #[inline]
    pub fn protect<T>(&self, pointer: &AtomicPtr<T>) -> *mut T {
        pointer.load(Ordering::Acquire)
    }

    #[inline]
    fn record(&self) -> &'r Record {
        // SAFETY: records live as long as their domain, which `'r` keeps alive.
        unsafe { &*self.record }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        let record = self.record();
        let depth = record.depth().get() - 1;
        record.depth().set(depth);
        if depth == 0 {
            record.slot().unpin();
        } else if depth == TRANSIENT {
            end_transient(self.domain, record);
        }
    }
}

/// Ends the section of a record that was taken for this guard alone, and gives the record back.
#[cold]
fn end_transient(domain: &Domain, record: &Record) {
    record.slot().unpin();
    record.depth().set(0);
    // SAFETY: the guard owned the record, and is gone.
    unsafe { domain.hand_over(record) };
}

impl fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("era", &self.record().slot().pinned()).finish_non_exhaustive()
    }
}
