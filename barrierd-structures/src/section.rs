//! Open sections that a structure takes from its user, for reads that hand out references.
//!
//! A structure whose operations hand out nothing that lives in it (the stack and the queue move values out) opens its
//! sections by itself (`protection.rs`) and takes none.

use barrierd_reclaim::{Guard, OwnedGuard, Reclaimer};
use core::sync::atomic::AtomicPtr;

/// An open section of a reclaimer: a [`Guard`], or an [`OwnedGuard`] where it has to move between threads or stay open
/// across an `.await`.
///
/// A structure checks that the section is of its own reclaimer, since another one would protect nothing there. The trait
/// is sealed.
pub trait Section: sealed::Section {}

impl Section for Guard<'_> {}
impl Section for OwnedGuard {}

#[allow(dead_code, reason = "the map is what uses it")]
pub(crate) mod sealed {
    use super::*;

    pub trait Section {
        /// Returns whether this is a section of `reclaimer` or one of its clones.
        fn is_of(&self, reclaimer: &Reclaimer) -> bool;

        /// Loads a pointer (Acquire) whose object, if it was live, stays as long as the section.
        fn protect<S>(&self, source: &AtomicPtr<S>) -> *mut S;

        /// Calls `free(ptr)` once no section holds it.
        ///
        /// # Safety
        /// As for [`Reclaimer::retire_with`], in the domain of this section.
        unsafe fn retire_with<S>(&self, ptr: *mut S, free: unsafe fn(*mut S));
    }

    impl Section for Guard<'_> {
        #[inline]
        fn is_of(&self, reclaimer: &Reclaimer) -> bool {
            self.belongs_to(reclaimer)
        }

        #[inline]
        fn protect<S>(&self, source: &AtomicPtr<S>) -> *mut S {
            Guard::protect(self, source)
        }

        #[inline]
        unsafe fn retire_with<S>(&self, ptr: *mut S, free: unsafe fn(*mut S)) {
            // SAFETY: the caller's promise.
            unsafe { Guard::retire_with(self, ptr, free) }
        }
    }

    impl Section for OwnedGuard {
        #[inline]
        fn is_of(&self, reclaimer: &Reclaimer) -> bool {
            // It has no such call itself. Any guard of its domain has; to open one is as cheap as to look.
            self.reclaimer().pin().belongs_to(reclaimer)
        }

        #[inline]
        fn protect<S>(&self, source: &AtomicPtr<S>) -> *mut S {
            OwnedGuard::protect(self, source)
        }

        #[inline]
        unsafe fn retire_with<S>(&self, ptr: *mut S, free: unsafe fn(*mut S)) {
            // SAFETY: the caller's promise.
            unsafe { self.reclaimer().retire_with(ptr, free) }
        }
    }
}
