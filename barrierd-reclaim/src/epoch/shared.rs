//! A pointer that a guard keeps valid.

use super::owned::Owned;
use super::pointable::{Pointable, Pointer, address_of, tag_of, tagged, word_of};
use core::cmp::Ordering;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

/// A pointer with a tag, loaded under a guard and valid for as long as the guard lives. It may be null.
///
/// Pointers are compared with their tags.
pub struct Shared<'g, T: 'g + ?Sized + Pointable> {
    word: usize,
    points: PhantomData<(&'g (), *const T)>,
}

impl<T: ?Sized + Pointable> Pointer<T> for Shared<'_, T> {
    #[inline]
    fn into_usize(self) -> usize {
        self.word
    }

    #[inline]
    unsafe fn from_usize(data: usize) -> Self {
        Shared { word: data, points: PhantomData }
    }
}

impl<T: ?Sized + Pointable> Clone for Shared<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized + Pointable> Copy for Shared<'_, T> {}

impl<T> Shared<'_, T> {
    /// Returns the raw pointer, without the tag.
    #[inline]
    pub fn as_raw(&self) -> *const T {
        ptr::with_exposed_provenance(address_of::<T>(self.word))
    }
}

impl<'g, T: ?Sized + Pointable> Shared<'g, T> {
    /// Returns a null pointer with the tag 0.
    #[inline]
    pub const fn null() -> Shared<'g, T> {
        Shared { word: 0, points: PhantomData }
    }

    /// Returns whether the pointer is null, whatever the tag.
    #[inline]
    pub fn is_null(&self) -> bool {
        address_of::<T>(self.word) == 0
    }

    /// Returns the object.
    ///
    /// # Safety
    /// - The pointer is not null, and at some moment since the guard was made the object was still linked, or its
    ///   destruction not yet deferred.
    /// - What another thread stored into the object happens before this call, for example because the pointer was
    ///   loaded by Acquire.
    /// - No thread changes the object while the reference lives.
    #[inline]
    pub unsafe fn deref(&self) -> &'g T {
        // SAFETY: the caller promises that the pointer is valid; the guard keeps the object as long as `'g`.
        unsafe { T::deref(address_of::<T>(self.word)) }
    }

    /// Returns the object, mutably.
    ///
    /// # Safety
    /// As for [`deref`](Shared::deref), and no other reference to the object is used while this one lives.
    #[inline]
    pub unsafe fn deref_mut(&mut self) -> &'g mut T {
        // SAFETY: the caller promises that the pointer is valid; the guard keeps the object as long as `'g`.
        unsafe { T::deref_mut(address_of::<T>(self.word)) }
    }

    /// Returns the object, if the pointer is not null.
    ///
    /// # Safety
    /// If it is not null, as for [`deref`](Shared::deref).
    #[inline]
    pub unsafe fn as_ref(&self) -> Option<&'g T> {
        // SAFETY: not null, and the rest is the caller's promise.
        if self.is_null() { None } else { Some(unsafe { self.deref() }) }
    }

    /// Takes the object over.
    ///
    /// # Panics
    /// Panics in builds with debug assertions, if the pointer is null.
    ///
    /// # Safety
    /// The pointer is not null, no other thread can reach the object, and nothing else takes it over.
    #[inline]
    pub unsafe fn into_owned(self) -> Owned<T> {
        debug_assert!(!self.is_null(), "null can't be owned");
        // SAFETY: the caller promises that no other thread can reach the object, so this is the only owner.
        unsafe { Owned::from_usize(self.word) }
    }

    /// Takes the object over, if it is not null.
    ///
    /// # Safety
    /// If it is not null, as for [`into_owned`](Shared::into_owned).
    #[inline]
    pub unsafe fn try_into_owned(self) -> Option<Owned<T>> {
        // SAFETY: not null, and the rest is the caller's promise.
        if self.is_null() { None } else { Some(unsafe { self.into_owned() }) }
    }

    /// Returns the tag.
    #[inline]
    pub fn tag(&self) -> usize {
        tag_of::<T>(self.word)
    }

    /// Returns the same pointer with another tag, cut to the bits that fit below the alignment.
    #[inline]
    pub fn with_tag(&self, tag: usize) -> Shared<'g, T> {
        Shared { word: tagged::<T>(self.word, tag), points: PhantomData }
    }
}

impl<T> From<*const T> for Shared<'_, T> {
    /// # Panics
    /// Panics if `raw` is not aligned.
    #[inline]
    fn from(raw: *const T) -> Self {
        Shared { word: word_of(raw), points: PhantomData }
    }
}

impl<'g, T: ?Sized + Pointable> PartialEq<Shared<'g, T>> for Shared<'g, T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.word == other.word
    }
}

impl<T: ?Sized + Pointable> Eq for Shared<'_, T> {}

impl<'g, T: ?Sized + Pointable> PartialOrd<Shared<'g, T>> for Shared<'g, T> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: ?Sized + Pointable> Ord for Shared<'_, T> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.word.cmp(&other.word)
    }
}

impl<T: ?Sized + Pointable> Default for Shared<'_, T> {
    #[inline]
    fn default() -> Self {
        Shared::null()
    }
}

impl<T: ?Sized + Pointable> fmt::Debug for Shared<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::atomic::describe::<T>("Shared", self.word, f)
    }
}

impl<T: ?Sized + Pointable> fmt::Pointer for Shared<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::atomic::print::<T>(self.word, f)
    }
}
