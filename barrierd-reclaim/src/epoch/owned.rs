//! A pointer that owns what it points to.

use super::guard::Guard;
use super::pointable::{Pointable, Pointer, address_of, tag_of, tagged, word_of};
use super::shared::Shared;
use core::borrow::{Borrow, BorrowMut};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr;

/// An object on the heap with a single owner, and a tag: a `Box` that fits into an [`Atomic`](super::Atomic).
pub struct Owned<T: ?Sized + Pointable> {
    /// Its address and tag; never 0.
    word: usize,
    owns: PhantomData<Box<T>>,
}

impl<T: ?Sized + Pointable> Pointer<T> for Owned<T> {
    #[inline]
    fn into_usize(self) -> usize {
        ManuallyDrop::new(self).word
    }

    #[inline]
    unsafe fn from_usize(data: usize) -> Owned<T> {
        debug_assert_ne!(data, 0, "null can't be owned");
        Owned { word: data, owns: PhantomData }
    }
}

impl<T> Owned<T> {
    /// Puts a value on the heap.
    #[inline]
    pub fn new(init: T) -> Owned<T> {
        Owned::init(init)
    }

    /// Takes ownership of a pointer from [`Box::into_raw`].
    ///
    /// # Panics
    /// Panics if `raw` is not aligned.
    ///
    /// # Safety
    /// `raw` came from `Box::into_raw` and is not used for another owner.
    #[inline]
    pub unsafe fn from_raw(raw: *mut T) -> Owned<T> {
        // SAFETY: a box's pointer is that of a `T` made by `init`.
        unsafe { Owned::from_usize(word_of(raw)) }
    }

    /// Returns the object as a `Box`. The tag is lost.
    #[inline]
    pub fn into_box(self) -> Box<T> {
        let address = address_of::<T>(self.into_usize());
        // SAFETY: a `T` of ours is a box's, and this was its owner.
        unsafe { Box::from_raw(ptr::with_exposed_provenance_mut(address)) }
    }
}

impl<T: ?Sized + Pointable> Owned<T> {
    /// Makes an object on the heap, for example an array from its length.
    #[inline]
    pub fn init(init: T::Init) -> Owned<T> {
        // SAFETY: the address is fresh from `init`, so this is the only owner.
        unsafe { Owned::from_usize(T::init(init)) }
    }

    /// Gives up the ownership, and returns a pointer that may be copied and is valid for as long as the guard lives.
    #[inline]
    #[allow(clippy::needless_lifetimes, reason = "the name is part of the interface")]
    pub fn into_shared<'g>(self, _: &'g Guard) -> Shared<'g, T> {
        // SAFETY: any word may be a shared pointer's.
        unsafe { Shared::from_usize(self.into_usize()) }
    }

    /// Returns the tag.
    #[inline]
    pub fn tag(&self) -> usize {
        tag_of::<T>(self.word)
    }

    /// Returns the same pointer with another tag, cut to the bits that fit below the alignment.
    #[inline]
    pub fn with_tag(self, tag: usize) -> Owned<T> {
        // SAFETY: the word of the owner whose place this takes.
        unsafe { Owned::from_usize(tagged::<T>(self.into_usize(), tag)) }
    }
}

impl<T: ?Sized + Pointable> Drop for Owned<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the object is this owner's, which ends here.
        unsafe { T::drop(address_of::<T>(self.word)) };
    }
}

impl<T: ?Sized + Pointable> Deref for Owned<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the object is this owner's, which is borrowed as long.
        unsafe { T::deref(address_of::<T>(self.word)) }
    }
}

impl<T: ?Sized + Pointable> DerefMut for Owned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the object is this owner's, which is borrowed mutably as long.
        unsafe { T::deref_mut(address_of::<T>(self.word)) }
    }
}

impl<T: Clone> Clone for Owned<T> {
    fn clone(&self) -> Owned<T> {
        Owned::new(T::clone(self)).with_tag(self.tag())
    }
}

impl<T: ?Sized + Pointable> fmt::Debug for Owned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::atomic::describe::<T>("Owned", self.word, f)
    }
}

impl<T> From<T> for Owned<T> {
    fn from(value: T) -> Owned<T> {
        Owned::new(value)
    }
}

impl<T> From<Box<T>> for Owned<T> {
    fn from(boxed: Box<T>) -> Owned<T> {
        // SAFETY: fresh from the box.
        unsafe { Owned::from_raw(Box::into_raw(boxed)) }
    }
}

impl<T: ?Sized + Pointable> Borrow<T> for Owned<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T: ?Sized + Pointable> BorrowMut<T> for Owned<T> {
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: ?Sized + Pointable> AsRef<T> for Owned<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized + Pointable> AsMut<T> for Owned<T> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}
