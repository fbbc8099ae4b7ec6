//! What pointers point to, and what their words hold: an address and, in the bits that alignment
//! leaves free, a tag.
//!
//! This file owns the traits, the layout of arrays and the arithmetic of tags. It knows nothing of guards.
//!
//! The traits use `usize`. So an address that leaves this file has its provenance exposed, and an address that comes
//! back is given an exposed one.

use core::alloc::Layout;
use core::mem::MaybeUninit;
use core::ptr::{self, addr_of, addr_of_mut};
use std::alloc::{alloc, dealloc, handle_alloc_error};

/// A type that [`Atomic`](super::Atomic), [`Owned`](super::Owned) and [`Shared`](super::Shared) may
/// point to by one word.
///
/// Every sized type is one, on the heap by `Box`; so is `[MaybeUninit<T>]`, whose length is kept on the
/// heap before the elements.
///
/// ```
/// use barrierd_reclaim::epoch::Owned;
/// use std::mem::MaybeUninit;
///
/// let mut table = Owned::<[MaybeUninit<u32>]>::init(16);
/// table[3].write(7);
/// assert_eq!(table.len(), 16);
/// ```
pub trait Pointable {
    /// The alignment in bytes of what an address points to, a power of two. The bits below it hold the tag.
    const ALIGN: usize;

    /// The type of the value that an object is made from.
    type Init;

    /// Makes an object and returns its address, a multiple of [`ALIGN`](Pointable::ALIGN).
    ///
    /// # Safety
    /// None beyond what the implementation asks for.
    unsafe fn init(init: Self::Init) -> usize;

    /// Returns the object at an address.
    ///
    /// # Safety
    /// - `ptr` came from [`init`](Pointable::init) and was not dropped.
    /// - No thread changes the object while the reference lives.
    unsafe fn deref<'a>(ptr: usize) -> &'a Self;

    /// Returns the object at an address, mutably.
    ///
    /// # Safety
    /// - `ptr` came from [`init`](Pointable::init) and was not dropped.
    /// - No other reference to the object is used while the reference lives.
    unsafe fn deref_mut<'a>(ptr: usize) -> &'a mut Self;

    /// Destroys the object at an address.
    ///
    /// # Safety
    /// - `ptr` came from [`init`](Pointable::init), and this is the only call.
    /// - No reference to the object is left.
    unsafe fn drop(ptr: usize);
}

impl<T> Pointable for T {
    const ALIGN: usize = align_of::<T>();

    type Init = T;

    #[inline]
    unsafe fn init(init: T) -> usize {
        Box::into_raw(Box::new(init)).expose_provenance()
    }

    #[inline]
    unsafe fn deref<'a>(ptr: usize) -> &'a T {
        // SAFETY: the caller promises that it came from `init`, so it belongs to a live box.
        unsafe { &*ptr::with_exposed_provenance::<T>(ptr) }
    }

    #[inline]
    unsafe fn deref_mut<'a>(ptr: usize) -> &'a mut T {
        // SAFETY: as above, and the caller promises that no other reference is used.
        unsafe { &mut *ptr::with_exposed_provenance_mut::<T>(ptr) }
    }

    #[inline]
    unsafe fn drop(ptr: usize) {
        // SAFETY: the caller promises that it came from `init`, and that this is the last use.
        drop(unsafe { Box::from_raw(ptr::with_exposed_provenance_mut::<T>(ptr)) });
    }
}

/// The head of an array on the heap: `len` elements follow it.
#[repr(C)]
struct Array<T> {
    len: usize,
    elements: [MaybeUninit<T>; 0],
}

impl<T> Array<T> {
    /// Returns the layout of the whole array. Panics where it would not fit into the address space.
    fn layout(len: usize) -> Layout {
        let layout = Layout::array::<MaybeUninit<T>>(len)
            .and_then(|elements| Layout::new::<Array<T>>().extend(elements));
        let (whole, start) = layout.expect("an array larger than the address space");
        debug_assert_eq!(start, core::mem::offset_of!(Array<T>, elements));
        whole.pad_to_align()
    }
}

impl<T> Pointable for [MaybeUninit<T>] {
    const ALIGN: usize = align_of::<Array<T>>();

    type Init = usize;

    unsafe fn init(len: usize) -> usize {
        let layout = Array::<T>::layout(len);
        // SAFETY: its size is not 0: there is the length.
        let array = unsafe { alloc(layout) }.cast::<Array<T>>();
        if array.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: fresh, and aligned for it.
        unsafe { addr_of_mut!((*array).len).write(len) };
        array.expose_provenance()
    }

    #[inline]
    unsafe fn deref<'a>(ptr: usize) -> &'a [MaybeUninit<T>] {
        let array = ptr::with_exposed_provenance::<Array<T>>(ptr);
        // SAFETY: the caller promises that it came from `init`, so `len` elements, which need not be initialized,
        // follow.
        unsafe { core::slice::from_raw_parts(addr_of!((*array).elements).cast(), (*array).len) }
    }

    #[inline]
    unsafe fn deref_mut<'a>(ptr: usize) -> &'a mut [MaybeUninit<T>] {
        let array = ptr::with_exposed_provenance_mut::<Array<T>>(ptr);
        // SAFETY: as above, and the caller promises that no other reference is used.
        unsafe {
            core::slice::from_raw_parts_mut(addr_of_mut!((*array).elements).cast(), (*array).len)
        }
    }

    unsafe fn drop(ptr: usize) {
        let array = ptr::with_exposed_provenance_mut::<Array<T>>(ptr);
        // SAFETY: the caller promises that it came from `init`, which used this layout, and that this is the last
        // use.
        unsafe { dealloc(array.cast(), Array::<T>::layout((*array).len)) };
    }
}

/// [`Owned`](super::Owned) or [`Shared`](super::Shared): what can be stored into an
/// [`Atomic`](super::Atomic).
pub trait Pointer<T: ?Sized + Pointable> {
    /// Returns the word: address and tag.
    fn into_usize(self) -> usize;

    /// Returns the pointer of a word.
    ///
    /// # Safety
    /// `data` came from [`into_usize`](Pointer::into_usize) of the same kind of pointer, whose place the
    /// result takes: an owned one is made from it once.
    unsafe fn from_usize(data: usize) -> Self;
}

/// Returns the bits of a word that hold the tag.
#[inline]
pub(super) fn tag_bits<T: ?Sized + Pointable>() -> usize {
    (1 << T::ALIGN.trailing_zeros()) - 1
}

/// Returns a word's address.
#[inline]
pub(super) fn address_of<T: ?Sized + Pointable>(word: usize) -> usize {
    word & !tag_bits::<T>()
}

/// Returns a word's tag.
#[inline]
pub(super) fn tag_of<T: ?Sized + Pointable>(word: usize) -> usize {
    word & tag_bits::<T>()
}

/// Returns the word with another tag, cut to the bits that fit.
#[inline]
pub(super) fn tagged<T: ?Sized + Pointable>(word: usize, tag: usize) -> usize {
    address_of::<T>(word) | tag_of::<T>(tag)
}

/// Returns the word of a raw pointer, without a tag.
///
/// # Panics
/// Panics if the pointer has bits set that belong to the tag.
#[inline]
pub(super) fn word_of<T>(raw: *const T) -> usize {
    let word = raw.expose_provenance();
    assert_eq!(tag_of::<T>(word), 0, "unaligned pointer");
    word
}
