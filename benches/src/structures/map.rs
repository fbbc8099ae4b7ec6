//! A hash map of ordered lists: Harris (2001), with Michael's unlinking (2002).
//!
//! Where pointers are protected one by one, `find` holds three: the node that the link is in, the node,
//! the next; and a reader can't walk over removed nodes, so it goes by `find` too. Where sections hold what is
//! older than their last load, a reader goes by `find` when it meets a removed node.

use super::Node;
use crate::schemes::Scheme;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

pub(crate) struct Map<S: Scheme> {
    buckets: Box<[AtomicPtr<Node<S>>]>,
}

fn is_removed<T>(pointer: *mut T) -> bool {
    pointer.addr() & 1 == 1
}

fn plain<T>(pointer: *mut T) -> *mut T {
    pointer.map_addr(|address| address & !1)
}

impl<S: Scheme> Map<S> {
    /// Room for `keys`: a power of two.
    pub(crate) fn new(keys: usize) -> Map<S> {
        Map { buckets: (0..keys).map(|_| AtomicPtr::default()).collect() }
    }

    fn bucket(&self, key: u64) -> &AtomicPtr<Node<S>> {
        // Fibonacci hashing.
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &self.buckets[usize::try_from(hash).expect("32 bits") & (self.buckets.len() - 1)]
    }

    /// The link to where `key` is or would be, and what it leads to; both are protected.
    fn find<'m>(
        &'m self,
        guard: &mut S::Guard<'_>,
        key: u64,
    ) -> (&'m AtomicPtr<Node<S>>, *mut Node<S>) {
        // What holds the node that the link is in, the node, the next.
        let (mut before, mut own, mut after) = (2, 0, 1);
        'again: loop {
            let mut link = self.bucket(key);
            let mut node = S::protect(guard, own, link);
            loop {
                // SAFETY: protected.
                let Some(here) = (unsafe { node.as_ref() }) else { return (link, node) };
                let next = S::protect(guard, after, &here.next);
                // The next one was linked when it was protected only if this one is linked still.
                if S::PER_POINTER && link.load(Acquire) != node {
                    continue 'again;
                }
                if is_removed(next) {
                    if link.compare_exchange(node, plain(next), AcqRel, Relaxed).is_err() {
                        continue 'again;
                    }
                    // SAFETY: from `alloc`, unlinked by this thread.
                    unsafe { S::retire(guard, node) };
                    node = plain(next);
                    (own, after) = (after, own);
                } else if here.key >= key {
                    return (link, node);
                } else {
                    link = &here.next;
                    node = next;
                    (before, own, after) = (own, after, before);
                }
            }
        }
    }

    fn is_found(&self, guard: &mut S::Guard<'_>, key: u64) -> bool {
        let (_, node) = self.find(guard, key);
        // SAFETY: protected.
        unsafe { node.as_ref() }.is_some_and(|here| here.key == key)
    }

    pub(crate) fn get(&self, guard: &mut S::Guard<'_>, key: u64) -> bool {
        if S::PER_POINTER {
            return self.is_found(guard, key);
        }
        let mut node = S::protect(guard, 0, self.bucket(key));
        // SAFETY: protected by the section.
        while let Some(here) = unsafe { plain(node).as_ref() } {
            let next = S::protect(guard, 0, &here.next);
            if here.key >= key {
                return here.key == key && !is_removed(next);
            }
            if S::LINKED_ONLY && is_removed(next) {
                // What a removed node leads to may be gone. (In `find`, a link that is followed is one of a
                // node that was in the list when it was loaded, or was made so by the unlinking.)
                return self.is_found(guard, key);
            }
            node = next;
        }
        false
    }

    pub(crate) fn insert(&self, guard: &mut S::Guard<'_>, key: u64) -> bool {
        let mut new: *mut Node<S> = null_mut();
        loop {
            let (link, node) = self.find(guard, key);
            // SAFETY: protected.
            if unsafe { node.as_ref() }.is_some_and(|here| here.key == key) {
                if !new.is_null() {
                    // SAFETY: it was never linked.
                    unsafe { S::free(new) };
                }
                return false;
            }
            if new.is_null() {
                new = Node::made(guard, key);
            }
            // SAFETY: not linked yet.
            unsafe { (*new).next.store(node, Relaxed) };
            if link.compare_exchange(node, new, Release, Relaxed).is_ok() {
                return true;
            }
        }
    }

    pub(crate) fn remove(&self, guard: &mut S::Guard<'_>, key: u64) -> bool {
        loop {
            let (link, node) = self.find(guard, key);
            // SAFETY: protected.
            let Some(here) = unsafe { node.as_ref() }.filter(|here| here.key == key) else {
                return false;
            };
            let next = here.next.load(Acquire);
            let marked = next.map_addr(|address| address | 1);
            if is_removed(next)
                || here.next.compare_exchange(next, marked, AcqRel, Relaxed).is_err()
            {
                continue;
            }
            if link.compare_exchange(node, next, AcqRel, Relaxed).is_ok() {
                // SAFETY: from `alloc`, unlinked by this thread.
                unsafe { S::retire(guard, node) };
            } else {
                self.find(guard, key);
            }
            return true;
        }
    }
}
