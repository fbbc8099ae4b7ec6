//! What the list and its filters ask of a section.

use super::filter::{Filter, Token};
use super::node::{self, Node};
use barrierd_reclaim::Guard;

/// An open read-side section, as the list needs it.
pub(super) trait Retire {
    /// Frees a node once nobody can hold it.
    ///
    /// # Safety
    /// No link of the list leads to it any more, and it is retired once.
    unsafe fn retire<K, V>(&self, node: *mut Node<K, V>);

    /// Frees a filter once nobody can hold it.
    ///
    /// # Safety
    /// No link leads to it any more, and it is retired once.
    unsafe fn retire_filter(&self, filter: *mut Filter);

    /// Calls [`Token::ready`] once all sections have ended that may not have seen what was stored before.
    ///
    /// # Safety
    /// It may be called once, on any thread, at any time after that.
    unsafe fn retire_token(&self, token: *mut Token);
}

impl Retire for Guard<'_> {
    #[inline]
    unsafe fn retire<K, V>(&self, node: *mut Node<K, V>) {
        // SAFETY: unlinked before, and retired once, as the caller promises. That it may be dropped on any thread, at any time,
        // is in the bounds of those who remove entries: `Send` and `'static`.
        unsafe { self.retire_with(node, node::free) };
    }

    unsafe fn retire_filter(&self, filter: *mut Filter) {
        // SAFETY: the caller's promise.
        unsafe { retire_weighed(self, filter) };
    }

    unsafe fn retire_token(&self, token: *mut Token) {
        // SAFETY: the caller's promise. What was there before is unlinked, so whoever holds it is in a section that is waited for.
        unsafe { self.retire_with(token, Token::ready) };
    }
}

/// Retires a filter as so many bytes as its words have; of more than 1 GiB, as that. The reclaimer takes an object's weight from its type, for
/// its limits and reports. The words are a power of two of bytes, so there is a type for each.
///
/// # Safety
/// As for [`Guard::retire_with`] with [`Filter::free`].
#[cold]
#[inline(never)]
unsafe fn retire_weighed(guard: &Guard<'_>, filter: *mut Filter) {
    macro_rules! by_weight {
        ($($log:literal)*) => {
            // SAFETY: the caller's promise: it is not freed yet.
            match unsafe { &*filter }.bytes().ilog2() {
                // SAFETY: the caller's promise. Nothing is read or written by this type: the reclaimer keeps the address alone.
                $($log => unsafe { guard.retire_with(filter.cast(), free::<{ 1 << $log }>) },)*
                // SAFETY: likewise.
                _ => unsafe { guard.retire_with(filter.cast(), free::<{ 1 << 30 }>) },
            }
        };
    }
    by_weight!(3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29);
}

/// # Safety
/// As for [`Filter::free`].
unsafe fn free<const BYTES: usize>(filter: *mut [u8; BYTES]) {
    // SAFETY: the caller's promise.
    unsafe { Filter::free(filter.cast()) };
}
