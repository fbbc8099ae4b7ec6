//! Closures and pointers as items of a queue.
//!
//! This file owns how a closure is packed: into the item's word if it fits, otherwise into a box.

use super::owned::Owned;
use super::pointable::{Pointable, Pointer};
use super::shared::Shared;
use crate::bag::Item;
use core::mem::MaybeUninit;
use core::ptr;

type Word = MaybeUninit<*mut ()>;

/// Returns an item that calls `work`, and its size in bytes.
#[inline]
pub(super) fn call<F: FnOnce() -> R, R>(work: F) -> (Item, usize) {
    let fits = size_of::<F>() <= size_of::<Word>() && align_of::<F>() <= align_of::<Word>();
    let item = if fits {
        let mut word = Word::uninit();
        // SAFETY: the closure fits, and the word belongs to this function. The bytes that it does not fill may keep
        // their value.
        unsafe { word.as_mut_ptr().cast::<F>().write(work) };
        Item::closure(word, call_word::<F, R>)
    } else {
        Item::of(Box::into_raw(Box::new(work)), call_box::<F, R>)
    };
    (item, size_of::<F>())
}

/// # Safety
/// `word` holds a closure of this type; called once.
unsafe fn call_word<F: FnOnce() -> R, R>(word: Word) {
    // SAFETY: the caller promises that `word` holds a closure of this type, and that this is the only call, which
    // moves it out.
    let work = unsafe { word.as_ptr().cast::<F>().read() };
    drop(work());
}

/// # Safety
/// `work` came from `Box::into_raw`; called once.
unsafe fn call_box<F: FnOnce() -> R, R>(work: *mut F) {
    // SAFETY: the caller promises that `work` came from `Box::into_raw`, and that this is the only call.
    let work = unsafe { Box::from_raw(work) };
    drop(work());
}

/// Returns an item that destroys an object, and its size in bytes. For an array only the word of its length counts.
#[inline]
pub(super) fn destruction<T: ?Sized + Pointable>(pointer: Shared<'_, T>) -> (Item, usize) {
    /// # Safety
    /// It is the word of a pointer whose object the caller may take over.
    unsafe fn destroy<T: ?Sized + Pointable>(word: *mut ()) {
        // SAFETY: the caller promises that it may take the object over.
        drop::<Owned<T>>(unsafe { Shared::from_usize(word.addr()).into_owned() });
    }
    // The address was exposed when it became a word.
    let word = ptr::without_provenance_mut(pointer.into_usize());
    (Item::new(word, destroy::<T>), size_of::<T::Init>())
}
