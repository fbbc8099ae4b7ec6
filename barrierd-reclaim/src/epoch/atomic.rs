//! The word that threads share.

#[allow(deprecated, reason = "the interface has them still")]
use super::compare::{CompareAndSetError, CompareAndSetOrdering, CompareExchangeError};
use super::guard::Guard;
use super::owned::Owned;
use super::pointable::{Pointable, Pointer, address_of, tag_bits, tag_of};
use super::shared::Shared;
use super::word::{AtomicUsize, load_consume};
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::Ordering;

/// A pointer to an object on the heap, with a tag in its low bits. Threads load and exchange it.
///
/// A loaded pointer is valid for as long as the guard that was passed to the load. Dropping an `Atomic` destroys
/// nothing.
pub struct Atomic<T: ?Sized + Pointable> {
    pub(super) word: AtomicUsize,
    pub(super) points: PhantomData<*mut T>,
}

// SAFETY: through an `Atomic` a thread may reach `&T` and, as the owner, `T`, both of which the bounds allow to share
// and send.
unsafe impl<T: ?Sized + Pointable + Send + Sync> Send for Atomic<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Pointable + Send + Sync> Sync for Atomic<T> {}

impl<T> Atomic<T> {
    /// Puts a value on the heap, and returns a pointer to it.
    pub fn new(init: T) -> Atomic<T> {
        Atomic::init(init)
    }
}

impl<T: ?Sized + Pointable> Atomic<T> {
    /// Makes an object on the heap, for example an array from its length, and returns a pointer to it.
    pub fn init(init: T::Init) -> Atomic<T> {
        Atomic::from(Owned::init(init))
    }

    /// Loads the pointer.
    ///
    /// # Panics
    /// Panics with `Release` or `AcqRel`.
    #[inline]
    pub fn load<'g>(&self, ord: Ordering, _: &'g Guard) -> Shared<'g, T> {
        shared(self.word.load(ord))
    }

    /// Loads the pointer. Operations that depend on the value come after that load. On architectures other than Arm
    /// it is an Acquire load.
    #[inline]
    pub fn load_consume<'g>(&self, _: &'g Guard) -> Shared<'g, T> {
        shared(load_consume(&self.word))
    }

    /// Stores a pointer. The object that the old pointer led to is not destroyed.
    ///
    /// # Panics
    /// Panics with `Acquire` or `AcqRel`.
    #[inline]
    pub fn store<P: Pointer<T>>(&self, new: P, ord: Ordering) {
        self.word.store(new.into_usize(), ord);
    }

    /// Stores a pointer, and returns the previous one.
    #[inline]
    pub fn swap<'g, P: Pointer<T>>(&self, new: P, ord: Ordering, _: &'g Guard) -> Shared<'g, T> {
        shared(self.word.swap(new.into_usize(), ord))
    }

    /// Stores `new` if the current pointer equals `current`, including the tag. Returns the stored pointer; on
    /// failure, the actual pointer and `new`.
    ///
    /// # Errors
    /// If something else is there.
    ///
    /// # Panics
    /// Panics with `Release` or `AcqRel` for `failure`.
    #[inline]
    pub fn compare_exchange<'g, P>(
        &self,
        current: Shared<'_, T>,
        new: P,
        success: Ordering,
        failure: Ordering,
        _: &'g Guard,
    ) -> Result<Shared<'g, T>, CompareExchangeError<'g, T, P>>
    where
        P: Pointer<T>,
    {
        let (current, new) = (current.into_usize(), new.into_usize());
        answer(self.word.compare_exchange(current, new, success, failure), new)
    }

    /// Does what [`compare_exchange`](Atomic::compare_exchange) does, but may fail spuriously, which can be cheaper
    /// in a loop.
    ///
    /// # Errors
    /// If something else is there, or for no reason.
    ///
    /// # Panics
    /// Panics with `Release` or `AcqRel` for `failure`.
    #[inline]
    pub fn compare_exchange_weak<'g, P>(
        &self,
        current: Shared<'_, T>,
        new: P,
        success: Ordering,
        failure: Ordering,
        _: &'g Guard,
    ) -> Result<Shared<'g, T>, CompareExchangeError<'g, T, P>>
    where
        P: Pointer<T>,
    {
        let (current, new) = (current.into_usize(), new.into_usize());
        answer(self.word.compare_exchange_weak(current, new, success, failure), new)
    }

    /// Replaces the pointer by the result of `func`, and tries again until that succeeds or `func` returns `None`.
    /// Returns the pointer that was replaced.
    ///
    /// # Errors
    /// Returns the pointer for which `func` returned `None`.
    ///
    /// # Panics
    /// Panics with `Release` or `AcqRel` for `fail_order`.
    #[inline]
    pub fn fetch_update<'g, F>(
        &self,
        set_order: Ordering,
        fail_order: Ordering,
        guard: &'g Guard,
        mut func: F,
    ) -> Result<Shared<'g, T>, Shared<'g, T>>
    where
        F: FnMut(Shared<'g, T>) -> Option<Shared<'g, T>>,
    {
        let mut seen = self.load(fail_order, guard);
        loop {
            let new = func(seen).ok_or(seen)?;
            match self.compare_exchange_weak(seen, new, set_order, fail_order, guard) {
                Ok(_) => return Ok(seen),
                Err(found) => seen = found.current,
            }
        }
    }

    /// The earlier form of [`compare_exchange`](Atomic::compare_exchange).
    ///
    /// # Errors
    /// If something else is there.
    #[allow(deprecated, reason = "the interface has it still")]
    #[deprecated(note = "Use `compare_exchange` instead")]
    pub fn compare_and_set<'g, O, P>(
        &self,
        current: Shared<'_, T>,
        new: P,
        ord: O,
        guard: &'g Guard,
    ) -> Result<Shared<'g, T>, CompareAndSetError<'g, T, P>>
    where
        O: CompareAndSetOrdering,
        P: Pointer<T>,
    {
        self.compare_exchange(current, new, ord.success(), ord.failure(), guard)
    }

    /// The earlier form of [`compare_exchange_weak`](Atomic::compare_exchange_weak).
    ///
    /// # Errors
    /// If something else is there, or for no reason.
    #[allow(deprecated, reason = "the interface has it still")]
    #[deprecated(note = "Use `compare_exchange_weak` instead")]
    pub fn compare_and_set_weak<'g, O, P>(
        &self,
        current: Shared<'_, T>,
        new: P,
        ord: O,
        guard: &'g Guard,
    ) -> Result<Shared<'g, T>, CompareAndSetError<'g, T, P>>
    where
        O: CompareAndSetOrdering,
        P: Pointer<T>,
    {
        self.compare_exchange_weak(current, new, ord.success(), ord.failure(), guard)
    }

    /// Clears the bits of the tag that are not set in `val`. Returns the previous pointer.
    #[inline]
    pub fn fetch_and<'g>(&self, val: usize, ord: Ordering, _: &'g Guard) -> Shared<'g, T> {
        shared(self.word.fetch_and(val | !tag_bits::<T>(), ord))
    }

    /// Sets the bits of the tag that are set in `val`. Returns the previous pointer.
    #[inline]
    pub fn fetch_or<'g>(&self, val: usize, ord: Ordering, _: &'g Guard) -> Shared<'g, T> {
        shared(self.word.fetch_or(tag_of::<T>(val), ord))
    }

    /// Inverts the bits of the tag that are set in `val`. Returns the previous pointer.
    #[inline]
    pub fn fetch_xor<'g>(&self, val: usize, ord: Ordering, _: &'g Guard) -> Shared<'g, T> {
        shared(self.word.fetch_xor(tag_of::<T>(val), ord))
    }

    /// Takes the object over.
    ///
    /// # Safety
    /// The pointer is not null, and no other thread can reach the object.
    #[inline]
    pub unsafe fn into_owned(self) -> Owned<T> {
        // SAFETY: the caller promises that no other thread can reach the object, so this is the only owner.
        unsafe { Owned::from_usize(self.word.into_inner()) }
    }

    /// Takes the object over, if it is not null.
    ///
    /// # Safety
    /// No other thread can reach the object.
    #[inline]
    pub unsafe fn try_into_owned(self) -> Option<Owned<T>> {
        // SAFETY: the caller promises that no other thread can reach the object, so this is the only owner.
        unsafe { shared(self.word.into_inner()).try_into_owned() }
    }
}

#[inline]
fn shared<'g, T: ?Sized + Pointable>(word: usize) -> Shared<'g, T> {
    // SAFETY: any word may be a shared pointer's: following it is what is unsafe.
    unsafe { Shared::from_usize(word) }
}

#[inline]
fn answer<'g, T: ?Sized + Pointable, P: Pointer<T>>(
    exchanged: Result<usize, usize>,
    new: usize,
) -> Result<Shared<'g, T>, CompareExchangeError<'g, T, P>> {
    match exchanged {
        Ok(_) => Ok(shared(new)),
        Err(found) => {
            // SAFETY: this is the word of the pointer that was to be stored, and was not.
            let new = unsafe { P::from_usize(new) };
            Err(CompareExchangeError { current: shared(found), new })
        }
    }
}

/// Returns a pointer's parts, for `Debug`.
pub(super) fn describe<T: ?Sized + Pointable>(
    name: &str,
    word: usize,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (raw, tag) = (address_of::<T>(word), tag_of::<T>(word));
    f.debug_struct(name).field("raw", &raw).field("tag", &tag).finish()
}

/// The pointer without the tag, for `Pointer`.
pub(super) fn print<T: ?Sized + Pointable>(word: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    fmt::Pointer::fmt(&ptr::without_provenance::<()>(address_of::<T>(word)), f)
}

impl<T: ?Sized + Pointable> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SeqCst, as in the original. It is only for printing, so the order does not matter.
        describe::<T>("Atomic", self.word.load(Ordering::SeqCst), f)
    }
}

impl<T: ?Sized + Pointable> fmt::Pointer for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As above.
        print::<T>(self.word.load(Ordering::SeqCst), f)
    }
}

impl<T: ?Sized + Pointable> Clone for Atomic<T> {
    /// Returns a copy of the pointer, loaded Relaxed. To publish it, use a fence, or `load` and `Atomic::from`.
    fn clone(&self) -> Atomic<T> {
        Atomic::of(self.word.load(Ordering::Relaxed))
    }
}

impl<T: ?Sized + Pointable> Default for Atomic<T> {
    fn default() -> Atomic<T> {
        Atomic::null()
    }
}

impl<T: ?Sized + Pointable> From<Owned<T>> for Atomic<T> {
    fn from(owned: Owned<T>) -> Atomic<T> {
        Atomic::of(owned.into_usize())
    }
}

impl<T> From<Box<T>> for Atomic<T> {
    fn from(boxed: Box<T>) -> Atomic<T> {
        Atomic::from(Owned::from(boxed))
    }
}

impl<T> From<T> for Atomic<T> {
    fn from(value: T) -> Atomic<T> {
        Atomic::new(value)
    }
}

impl<'g, T: ?Sized + Pointable> From<Shared<'g, T>> for Atomic<T> {
    fn from(pointer: Shared<'g, T>) -> Atomic<T> {
        Atomic::of(pointer.into_usize())
    }
}

impl<T> From<*const T> for Atomic<T> {
    /// Makes an `Atomic` of a pointer that has no tag. The object is not read.
    fn from(raw: *const T) -> Atomic<T> {
        Atomic::of(raw.expose_provenance())
    }
}
