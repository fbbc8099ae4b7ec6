//! The guard: an open section of a participant, and the one that protects nothing.

use super::collector::{Collector, Local};
use super::pointable::Pointable;
use super::shared::Shared;
use core::fmt;
use std::rc::Rc;

/// An open read-side section. As long as it lives, what was loaded under it is not destroyed.
pub struct Guard {
    /// None if it protects nothing.
    local: Option<Rc<Local>>,
}

impl Guard {
    /// Makes a guard of a participant, which has counted it already.
    pub(super) fn of(local: Rc<Local>) -> Guard {
        Guard { local: Some(local) }
    }

    /// Calls `f` once every section that is open now has ended. A guard that protects nothing calls it at once.
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
    /// The closure may be called on any thread, at any time until the collector's last owner is gone.
    pub unsafe fn defer_unchecked<F, R>(&self, f: F)
    where
        F: FnOnce() -> R,
    {
        match &self.local {
            Some(local) => local.defer(f),
            None => drop(f()),
        }
    }

    /// Destroys an object once every section that is open now has ended.
    ///
    /// # Safety
    /// `ptr` is not null. No thread can reach the object any more, except those that have loaded a pointer to it under
    /// a guard of the same collector; and nothing else destroys it.
    pub unsafe fn defer_destroy<T: ?Sized + Pointable>(&self, ptr: Shared<'_, T>) {
        // SAFETY: the caller promises that nothing else takes it over, and that no other thread can reach it then.
        unsafe { self.defer_unchecked(move || ptr.into_owned()) };
    }

    /// Does nothing: what may be called has been called.
    pub fn flush(&self) {}

    /// Ends the section and opens the next. It does nothing if the participant has other guards.
    pub fn repin(&mut self) {
        if let Some(local) = self.local.as_ref().filter(|local| local.is_sole()) {
            local.unpin();
            local.pin();
        }
    }

    /// Ends the section, calls `f` and opens the next section, even if `f` panics.
    pub fn repin_after<F, R>(&mut self, f: F) -> R
    where
        F: FnOnce() -> R,
    {
        struct Reopen<'l>(Option<&'l Local>);

        impl Drop for Reopen<'_> {
            fn drop(&mut self) {
                if let Some(local) = self.0 {
                    local.pin();
                }
            }
        }

        let local = self.local.as_deref();
        let _reopen = Reopen(local);
        if let Some(local) = local {
            local.unpin();
        }
        f()
    }

    /// Returns the collector that the guard belongs to; `None` if it protects nothing.
    pub fn collector(&self) -> Option<&Collector> {
        self.local.as_ref().map(|local| local.collector())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(local) = &self.local {
            local.unpin();
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Guard { .. }")
    }
}

/// Returns a guard that protects nothing, for structures that no other thread knows.
///
/// # Safety
/// Pointers loaded with it may be followed only as long as no other thread changes the structure.
pub unsafe fn unprotected() -> &'static Guard {
    struct Nothing(Guard);
    // SAFETY: without a participant no method touches anything.
    unsafe impl Sync for Nothing {}
    static NOTHING: Nothing = Nothing(Guard { local: None });
    &NOTHING.0
}
