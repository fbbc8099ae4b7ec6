//! What a link of the list says: one word, with two tag bits.
//!
//! | link | meaning |
//! |---|---|
//! | 0 | in a slot alone: its bucket's dummy is not in the list yet |
//! | an address | of a node's [`Header`](super::node::Header) |
//! | a key with [`DUMMY`] | the dummy of the bucket that begins at this key; its slot follows from the key |
//! | [`END`] | the list's end |
//!
//! [`MARK`] beside it means, in a node, that the node is removed, and its link never changes again. In a slot it means that
//! the slot's bucket is being put into the list by the one thread that set it: see `table.rs`.

use core::ptr;

#[cfg(not(all(barrierd_loom, test)))]
pub(super) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
/// The atomics of links, in one place, so that loom can stand in for them.
#[cfg(all(barrierd_loom, test))]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};

/// A word that leads on.
pub(super) type Link = AtomicPtr<()>;

const MARK: usize = 1;
const DUMMY: usize = 2;
const TAGS: usize = MARK | DUMMY;

/// The list's end, as if it were the dummy of a bucket beyond all others. No bucket begins there, since a bucket's key ends in
/// more than two zeros.
const END: usize = usize::MAX & !MARK;

pub(super) const fn none() -> *mut () {
    ptr::null_mut()
}

pub(super) const fn end() -> *mut () {
    ptr::without_provenance_mut(END)
}

/// The link to the dummy of the bucket that begins at `key`.
pub(super) fn dummy(key: usize) -> *mut () {
    debug_assert_eq!(key & TAGS, 0);
    ptr::without_provenance_mut(key | DUMMY)
}

#[inline]
pub(super) fn is_marked(link: *mut ()) -> bool {
    link.addr() & MARK != 0
}

#[inline]
pub(super) fn marked(link: *mut ()) -> *mut () {
    link.map_addr(|addr| addr | MARK)
}

#[inline]
pub(super) fn unmarked(link: *mut ()) -> *mut () {
    link.map_addr(|addr| addr & !MARK)
}

/// Returns whether it leads to a dummy or to the end, not to a node.
#[inline]
pub(super) fn is_dummy(link: *mut ()) -> bool {
    link.addr() & DUMMY != 0
}

#[inline]
pub(super) fn is_end(link: *mut ()) -> bool {
    link.addr() | MARK == usize::MAX
}

/// Returns whether a dummy, or the end, lies behind every node of this hash.
#[inline]
pub(super) fn is_beyond(link: *mut (), hash: usize) -> bool {
    link.addr() > hash | TAGS || is_end(link)
}

/// The key of the bucket whose dummy it leads to.
#[inline]
pub(super) fn key(link: *mut ()) -> usize {
    link.addr() & !TAGS
}

/// Returns whether a slot's bucket is in the list, for all that can be told from the slot alone.
#[inline]
pub(super) fn is_ready(slot: *mut ()) -> bool {
    !slot.is_null() && !is_marked(slot)
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_beyond_every_hash() {
        for hash in [0, 1, usize::MAX, usize::MAX - 1, usize::MAX & !TAGS, 1 << (usize::BITS - 1)] {
            assert!(is_beyond(end(), hash), "{hash:x}");
            assert!(is_beyond(marked(end()), hash), "{hash:x}");
        }
    }

    #[test]
    fn a_dummy_lies_before_the_hashes_of_its_bucket() {
        let bucket = 0b101 << (usize::BITS - 3);
        assert!(!is_beyond(dummy(bucket), bucket));
        assert!(!is_beyond(dummy(bucket), bucket + 1));
        assert!(is_beyond(dummy(bucket), bucket - 1));
        assert!(!is_beyond(dummy(0), 0));
        assert_eq!(key(marked(dummy(bucket))), bucket);
        assert!(is_dummy(dummy(0)) && !is_end(dummy(bucket)) && is_end(end()));
    }
}
