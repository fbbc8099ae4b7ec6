//! The memory of a cell's value.
//!
//! Each value has an address that no other object has while it is there: by its address alone a hazard holds a value, and
//! an exchange finds that it is the same. A `Box` sees to that, except for values without size, which all get one address
//! for nothing. Here they lie before a byte of their own.

/// A value without size, and the byte whose address is the value's.
#[repr(C)]
struct Placed<T> {
    value: T,
    byte: u8,
}

/// Allocates a value. The address leads to it until it is [taken](take) or [freed](free).
#[inline]
pub(super) fn alloc<T>(value: T) -> *mut T {
    if const { size_of::<T>() == 0 } {
        // The value comes first.
        Box::into_raw(Box::new(Placed { value, byte: 0 })).cast()
    } else {
        Box::into_raw(Box::new(value))
    }
}

/// Moves the value out, and frees its memory.
///
/// # Safety
/// `value` came from [`alloc`] of the same type, and is not used again.
pub(super) unsafe fn take<T>(value: *mut T) -> T {
    if const { size_of::<T>() == 0 } {
        // SAFETY: the caller's promise: `alloc` of the same type has boxed it like this.
        unsafe { Box::from_raw(value.cast::<Placed<T>>()) }.value
    } else {
        // SAFETY: likewise.
        *unsafe { Box::from_raw(value) }
    }
}

/// Drops the value in place, and frees its memory.
///
/// # Safety
/// As for [`take`].
pub(super) unsafe fn free<T>(value: *mut T) {
    if const { size_of::<T>() == 0 } {
        // SAFETY: as in `take`.
        drop(unsafe { Box::from_raw(value.cast::<Placed<T>>()) });
    } else {
        // SAFETY: likewise.
        drop(unsafe { Box::from_raw(value) });
    }
}
