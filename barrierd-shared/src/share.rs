//! What may lie in a region.
//!
//! This file owns the types of shared memory, except links (`link.rs`). They consist of 64-bit words that are accessed by atomics alone, whatever
//! other participants do; any bytes are a value of them. So nothing that a broken or hostile participant stores makes
//! another one do anything undefined. It knows nothing of readers, turns or blocks.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;

use crate::sync::{AtomicU64, Ordering, fence, word_at};

/// A plain value: numbers, and arrays of them.
///
/// # Safety
///
/// Any bytes are a value of the type; it has no padding and no pointers, and is aligned to 8 bytes at most.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty)*) => {$(
        // SAFETY: a number of at most 64 bits, all of whose patterns are values.
        unsafe impl Plain for $type {}
    )*};
}
plain!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64);

// SAFETY: as its elements, which lie side by side.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// What may lie in a region. [`shareable!`](crate::shareable) makes structures of this kind in safe code.
///
/// # Safety
///
/// The type consists of [`Field`]s and [`SharedAtomic`](crate::SharedAtomic)s, and of nothing else: no pointers, no destructor, no padding. It is
/// aligned to 8 bytes, its size is a multiple of that, any bytes are a value of it, and through a shared reference it is
/// accessed by atomics of 64 bits alone.
pub unsafe trait Shareable: 'static {}

// SAFETY: see `Field`, whose content is words in an `UnsafeCell`.
unsafe impl<T: Plain> Shareable for Field<T> {}
// SAFETY: as its elements, which lie side by side.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {}

/// Defines a structure that may lie in a region: its fields are [`Field`]s, [`SharedAtomic`](crate::SharedAtomic)s, arrays of them, or other such
/// structures.
///
/// ```
/// use barrierd_shared::{Field, SharedAtomic, shareable};
///
/// shareable! {
///     /// A list's node.
///     pub struct Node {
///         key: Field<u32>,
///         value: Field<[u64; 4]>,
///         next: SharedAtomic<Node>,
///     }
/// }
/// ```
///
/// ```compile_fail
/// barrierd_shared::shareable! {
///     struct Node { key: Box<u32> }
/// }
/// ```
///
/// What is checked is the structure that is there, whatever attributes made of this one:
///
/// ```compile_fail
/// # use barrierd_shared::{Field, shareable};
/// struct Node { key: Option<Box<u64>> }
/// shareable! {
///     #[cfg(any())]
///     struct Node { key: Field<u64> }
/// }
/// ```
/// ```compile_fail
/// # use barrierd_shared::{Field, shareable};
/// struct Node { key: Field<u64>, more: Option<Box<u64>> }
/// shareable! {
///     #[cfg(any())]
///     struct Node { key: Field<u64> }
/// }
/// ```
/// ```compile_fail
/// # use barrierd_shared::{Field, shareable};
/// shareable! {
///     #[repr(align(64))]
///     struct Node { key: Field<u64> }
/// }
/// ```
/// ```compile_fail
/// # use barrierd_shared::{Field, shareable};
/// shareable! {
///     struct Node { key: Field<u64> }
/// }
/// impl Drop for Node {
///     fn drop(&mut self) {}
/// }
/// ```
#[macro_export]
macro_rules! shareable {
    ($(#[$about:meta])* $seen:vis struct $name:ident { $($(#[$doc:meta])* $vis:vis $field:ident: $type:ty),* $(,)? }) => {
        $(#[$about])*
        #[repr(C)]
        $seen struct $name { $($(#[$doc])* $vis $field: $type),* }
        // Of the structure that is there: an attribute may have taken the one above away, or made another of it.
        const _: fn(&$name) = |shared| {
            let $name { $($field),* } = shared;
            $($crate::checks::is_shareable($field);)*
        };
        const _: () = $crate::checks::is_made_of_words::<$name>();
        // SAFETY: every field is `Shareable`, as just checked, and none was left out, so all are aligned to 8 bytes and
        // multiples of that long. So is the whole, which is aligned no further: between and behind them there is no
        // padding. It has no destructor. Fields of a union or a packed structure can't be taken apart like that.
        unsafe impl $crate::Shareable for $name {}
    };
}

/// What `shareable!` checks, out of reach of what its caller calls by the same names. No part of the interface.
#[doc(hidden)]
pub mod checks {
    use super::Shareable;

    /// Compiles for a field that may lie in a region.
    pub const fn is_shareable<T: Shareable>(_: &T) {}

    /// Compiles for a structure without a destructor or an alignment of its own.
    pub const fn is_made_of_words<T>() {
        assert!(!std::mem::needs_drop::<T>(), "it has a destructor");
        assert!(align_of::<T>() == 8 && size_of::<T>() % 8 == 0, "it is not made of words");
    }
}

/// A plain value in a region. It is read by copying, word by word.
///
/// It is written before it is published, and not again until it is freed. A reader whose section protects it therefore gets
/// what was written; a broken participant can make it get anything else, and no more than that.
#[repr(transparent)]
pub struct Field<T>(UnsafeCell<Words<T>>);

/// Of whole words, so that they can be accessed as such.
#[repr(C, align(8))]
struct Words<T>(MaybeUninit<T>);

// SAFETY: it is accessed by atomics alone, and `T` is plain.
unsafe impl<T: Plain> Sync for Field<T> {}

impl<T: Plain> Field<T> {
    /// The number of its words. `Plain` promises the alignment, which is checked all the same.
    const WORDS: usize = {
        assert!(align_of::<T>() <= 8, "aligned to more than a word");
        size_of::<Self>() / 8
    };

    /// Returns the value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> T {
        let mut copy = MaybeUninit::<Words<T>>::uninit();
        for at in 0..Self::WORDS {
            // SAFETY: word `at` of this field, and of a copy that is as long and as aligned. What is loaded is initialized,
            // as all of a region is. Relaxed: the link that led here was Acquire, and the end of the section is Release.
            unsafe {
                let word = word_at(self.0.get().cast::<u64>().add(at));
                copy.as_mut_ptr().cast::<u64>().add(at).write(word.load(Ordering::Relaxed));
            }
        }
        // SAFETY: all its bytes were written, and any bytes are a `T`.
        unsafe { copy.assume_init().0.assume_init() }
    }

    /// Returns whether it is the same value, byte by byte.
    #[inline]
    pub(crate) fn is(&self, value: T) -> bool {
        let mut same = true;
        // Relaxed: as in `get`.
        self.put(value, |word, other| same &= word.load(Ordering::Relaxed) == other);
        same
    }

    /// Calls `put` with each word and the value's word for it.
    #[inline]
    pub(crate) fn put(&self, value: T, mut put: impl FnMut(&AtomicU64, u64)) {
        words_of(value, |at, new| {
            // SAFETY: word `at` of this field.
            put(unsafe { word_at(self.0.get().cast::<u64>().add(at)) }, new);
        });
    }
}

/// Calls `each` with the number and the content of each word of a value. The last one is filled up with zeros.
#[inline]
pub(crate) fn words_of<T: Plain>(value: T, mut each: impl FnMut(usize, u64)) {
    // In place, and not moved from here on: a copy of a `Words` need not keep the bytes behind the `T`.
    let mut copy = MaybeUninit::<Words<T>>::uninit();
    // SAFETY: all its bytes are set to zero, then those of the `T` that it begins with room for. The rest stays zero.
    unsafe {
        copy.as_mut_ptr().write_bytes(0, 1);
        copy.as_mut_ptr().cast::<T>().write(value);
    }
    for at in 0..Field::<T>::WORDS {
        // SAFETY: a word of the copy, all of whose bytes are initialized, since `T` has no padding.
        each(at, unsafe { copy.as_ptr().cast::<u64>().add(at).read() });
    }
}

/// A number that is changed in place, each time by one store.
#[repr(transparent)]
pub(crate) struct Word(AtomicU64);

// SAFETY: it is one word.
unsafe impl Shareable for Word {}

impl Word {
    /// Returns the number.
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        // Acquire in effect, as in `SharedAtomic::link`: pairs with the Release of the turn's store (`steps.rs`).
        fence(Ordering::Acquire);
        word
    }

    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.0
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    /// Miri is the judge: it finds words that are not initialized.
    #[test]
    fn fields_of_every_length_are_whole_words() {
        fn put_and_get<const N: usize>() {
            let value: [u8; N] = std::array::from_fn(|at| u8::try_from(at).expect("few") ^ 0xa5);
            let field = Field(UnsafeCell::new(Words(MaybeUninit::uninit())));
            let mut words = Vec::new();
            field.put(value, |word, new| {
                words.push(new);
                word.store(new, Ordering::Relaxed);
            });
            assert_eq!(field.get(), value);
            let mut bytes: Vec<u8> = value.into();
            bytes.resize(N.div_ceil(8) * 8, 0);
            let stored: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            assert_eq!(stored, bytes, "what is behind the value is zero");
        }
        put_and_get::<5>();
        put_and_get::<8>();
        put_and_get::<13>();
    }
}
