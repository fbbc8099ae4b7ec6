//! An ordered list: Harris, "A pragmatic implementation of non-blocking linked lists" (DISC 2001),
//! with Michael's unlinking on the way ("High performance dynamic lock-free hash tables and list-based
//! sets", SPAA 2002).
//!
//! The low bit of a node's `next` says that the node is removed; whoever then unlinks it, by
//! compare-exchange on the pointer that led to it, retires it.

use barrierd_reclaim::Guard;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

struct Node<K, V> {
    next: AtomicPtr<Node<K, V>>,
    key: K,
    value: V,
}

type Link<K, V> = AtomicPtr<Node<K, V>>;

/// A list without a reclaimer of its own: all guards must be of the same one, which outlives it. See
/// the file's documentation.
#[derive(Debug)]
pub struct List<K, V> {
    head: Link<K, V>,
}

// SAFETY: entries are shared by reference and dropped on any thread.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for List<K, V> {}
// SAFETY: the list owns its entries.
unsafe impl<K: Send, V: Send> Send for List<K, V> {}

impl<K, V> Default for List<K, V> {
    fn default() -> List<K, V> {
        List { head: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// Where a key is, or would be.
struct Place<'g, K, V> {
    /// The link that leads to `node`.
    link: &'g Link<K, V>,
    /// The first node whose key is not below the wanted one; null at the end.
    node: *mut Node<K, V>,
    found: bool,
}

fn is_removed<T>(pointer: *mut T) -> bool {
    pointer.addr() & 1 == 1
}

fn removed<T>(pointer: *mut T) -> *mut T {
    pointer.map_addr(|addr| addr | 1)
}

fn plain<T>(pointer: *mut T) -> *mut T {
    pointer.map_addr(|addr| addr & !1)
}

impl<K: Ord + Send + Sync, V: Send + Sync> List<K, V> {
    /// The value of `key`, for as long as `guard` lives.
    pub fn get<'g>(&'g self, guard: &'g Guard<'_>, key: &K) -> Option<&'g V> {
        let mut node = plain(guard.protect(&self.head));
        loop {
            // SAFETY: loaded under `guard` from a link that was in the list when it was loaded, or
            // from a removed node, which the guard keeps; so the node is not freed yet.
            let here = unsafe { node.as_ref() }?;
            let next = guard.protect(&here.next);
            if here.key >= *key {
                return (here.key == *key && !is_removed(next)).then_some(&here.value);
            }
            node = plain(next);
        }
    }

    /// Adds an entry. False: the key is there already, and `value` is dropped.
    pub fn insert(&self, guard: &Guard<'_>, key: K, value: V) -> bool {
        let new = Box::into_raw(Box::new(Node { next: AtomicPtr::default(), key, value }));
        loop {
            // SAFETY: until it is linked, the node is this function's alone.
            let (next, key) = unsafe { (&(*new).next, &(*new).key) };
            let place = self.find(guard, key);
            if place.found {
                // SAFETY: it was never linked.
                drop(unsafe { Box::from_raw(new) });
                return false;
            }
            next.store(place.node, Relaxed);
            // Release: whoever finds the node sees it whole.
            if place.link.compare_exchange(place.node, new, Release, Relaxed).is_ok() {
                return true;
            }
        }
    }

    /// Removes an entry, and shows its value to `taken` before it is retired. False: the key is not
    /// there.
    pub fn remove(&self, guard: &Guard<'_>, key: &K, taken: impl FnOnce(&V)) -> bool {
        loop {
            let place = self.find(guard, key);
            if !place.found {
                return false;
            }
            // SAFETY: found under `guard`, so not freed yet.
            let node = unsafe { &*place.node };
            let next = node.next.load(Acquire);
            if is_removed(next)
                || node.next.compare_exchange(next, removed(next), AcqRel, Relaxed).is_err()
            {
                continue;
            }
            // The removal is this thread's; the node stays while `guard` lives.
            taken(&node.value);
            if place.link.compare_exchange(place.node, next, AcqRel, Relaxed).is_ok() {
                // SAFETY: made by `Box::into_raw`; unlinked from the only link to it.
                unsafe { guard.retire(place.node) };
            } else {
                // Somebody changed the link before us: the next search unlinks it.
                self.find(guard, key);
            }
            return true;
        }
    }

    /// Looks for `key` and unlinks the removed nodes on the way.
    fn find<'g>(&'g self, guard: &'g Guard<'_>, key: &K) -> Place<'g, K, V> {
        'again: loop {
            let mut link = &self.head;
            let mut node = guard.protect(link);
            loop {
                // SAFETY: loaded under `guard` from a link of the list, so not freed yet.
                let Some(here) = (unsafe { node.as_ref() }) else {
                    return Place { link, node, found: false };
                };
                let next = guard.protect(&here.next);
                if is_removed(next) {
                    // The compare-exchange fails if `link` has changed or belongs to a removed
                    // node itself, so exactly one thread unlinks `node`.
                    if link.compare_exchange(node, plain(next), AcqRel, Relaxed).is_err() {
                        continue 'again;
                    }
                    // SAFETY: made by `Box::into_raw`; unlinked from the only link to it, so retired
                    // once; readers find it only under guards of this reclaimer.
                    unsafe { guard.retire(node) };
                    node = plain(next);
                } else if here.key >= *key {
                    return Place { link, node, found: here.key == *key };
                } else {
                    link = &here.next;
                    node = next;
                }
            }
        }
    }
}

impl<K, V> Drop for List<K, V> {
    fn drop(&mut self) {
        let mut node = plain(*self.head.get_mut());
        while !node.is_null() {
            // SAFETY: `&mut self`: no operation is under way; every node still linked is in one
            // list, once, and was not retired.
            let mut here = unsafe { Box::from_raw(node) };
            node = plain(*here.next.get_mut());
        }
    }
}
