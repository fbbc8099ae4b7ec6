//! The pointer that a hazard has protected, and the sections that a hazard may take an object over from.

use crate::api::guard::Guard;
use crate::api::hazard::address;
use crate::api::owned::OwnedGuard;
use crate::api::robust::RobustGuard;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

/// A pointer whose object a [`Hazard`](crate::Hazard) keeps while this borrows it.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::AtomicPtr;
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let [mut one, mut two] = reclaimer.hazards();
/// let (a, b) = (one.protect(&cell), two.protect(&cell)); // disjoint borrows
/// assert!(a == b && !a.is_null());
/// // SAFETY: what `cell` leads to is live.
/// assert_eq!(unsafe { a.as_ref() }, Some(&1));
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
pub struct Held<'h, T> {
    ptr: *mut T,
    _held: PhantomData<&'h T>,
}

impl<'h, T> Held<'h, T> {
    /// Wraps a pointer held by a hazard that is borrowed for `'h`.
    #[inline]
    pub(super) fn new(ptr: *mut T) -> Held<'h, T> {
        Held { ptr, _held: PhantomData }
    }

    /// Returns the pointer as it was loaded, including tags. It is held until the hazard is next used.
    #[inline]
    #[must_use]
    pub fn as_ptr(self) -> *mut T {
        self.ptr
    }

    /// Returns whether the pointer is null, apart from its tag.
    #[inline]
    #[must_use]
    pub fn is_null(self) -> bool {
        address(self.ptr) == 0
    }

    /// Returns the object, unless the pointer, with its tag taken off, is null.
    ///
    /// # Safety
    /// The pointer leads to an object that was not retired when it was protected (see [`Hazard`](crate::Hazard),
    /// "Which objects"), and no `&mut` to the object exists while the result lives.
    #[inline]
    #[must_use]
    pub unsafe fn as_ref(self) -> Option<&'h T> {
        let untagged = self.ptr.map_addr(|address| address & !(align_of::<T>() - 1));
        // SAFETY: null, or an object that the hazard keeps for `'h`.
        unsafe { untagged.as_ref() }
    }
}

impl<T> Clone for Held<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Held<'_, T> {}

impl<T> PartialEq for Held<'_, T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.ptr, other.ptr)
    }
}

impl<T> Eq for Held<'_, T> {}

impl<T> fmt::Debug for Held<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.ptr).finish()
    }
}

/// An open guard of any kind, from which [`Hazard::keep`](crate::Hazard::keep) can take an object over.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::AtomicPtr;
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let mut hazard = reclaimer.hazard();
/// let kept = {
///     let guard = reclaimer.pin();
///     hazard.keep(&guard, guard.protect(&cell))
/// };
/// // The section has ended, the object stays.
/// // SAFETY: not null, and live when the guard protected it.
/// assert_eq!(unsafe { kept.as_ref() }, Some(&1));
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
pub trait Section: sealed::Section {}

impl Section for Guard<'_> {}
impl Section for OwnedGuard {}
impl Section for RobustGuard<'_> {}

mod sealed {
    pub trait Section {
        /// Returns the address of its domain.
        fn domain(&self) -> usize;
    }
}

impl sealed::Section for Guard<'_> {
    fn domain(&self) -> usize {
        ptr::from_ref(self.record().engine()).addr()
    }
}

impl sealed::Section for OwnedGuard {
    fn domain(&self) -> usize {
        ptr::from_ref(self.reclaimer().domain().engine()).addr()
    }
}

impl sealed::Section for RobustGuard<'_> {
    fn domain(&self) -> usize {
        ptr::from_ref(self.record().engine()).addr()
    }
}
