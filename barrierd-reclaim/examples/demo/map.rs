//! A concurrent hash map: a fixed table of lock-free lists.
//!
//! The lists are Harris's ("A pragmatic implementation of non-blocking linked lists", 2001) with
//! Michael's unlinking on the way ("High performance dynamic lock-free hash tables and list-based
//! sets", 2002). The low bit of a node's `next` says that the node is removed; whoever then unlinks
//! it, by compare-exchange on the pointer that led to it, retires it.

use barrierd_reclaim::{Guard, Reclaimer};
use std::hash::{BuildHasher, Hash, RandomState};
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

struct Node<K, V> {
    next: AtomicPtr<Node<K, V>>,
    key: K,
    value: V,
}

type Link<K, V> = AtomicPtr<Node<K, V>>;

/// See the file's documentation.
pub(crate) struct Map<K, V> {
    reclaimer: Reclaimer,
    buckets: Box<[Link<K, V>]>,
    hasher: RandomState,
    on_retire: fn(&V),
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

impl<K: Ord + Hash + Send + Sync, V: Send + Sync> Map<K, V> {
    /// A map of `buckets` lists. `on_retire` sees each removed value just before it is retired.
    pub(crate) fn new(reclaimer: Reclaimer, buckets: usize, on_retire: fn(&V)) -> Map<K, V> {
        let buckets = (0..buckets).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Map { reclaimer, buckets, hasher: RandomState::new(), on_retire }
    }

    /// The value of `key`, for as long as `guard` lives.
    pub(crate) fn get<'g>(&'g self, guard: &'g Guard<'_>, key: &K) -> Option<&'g V> {
        let mut node = plain(guard.protect(self.bucket(key)));
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
    pub(crate) fn insert(&self, guard: &Guard<'_>, key: K, value: V) -> bool {
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

    /// Removes an entry. False: the key is not there.
    pub(crate) fn remove(&self, guard: &Guard<'_>, key: &K) -> bool {
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
            if place.link.compare_exchange(place.node, next, AcqRel, Relaxed).is_ok() {
                self.retire(place.node);
            } else {
                // Somebody changed the link before us: the next search unlinks it.
                self.find(guard, key);
            }
            return true;
        }
    }

    fn bucket(&self, key: &K) -> &Link<K, V> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).expect("32 bits");
        &self.buckets[hash % self.buckets.len()]
    }

    /// Looks for `key` and unlinks the removed nodes on the way.
    fn find<'g>(&'g self, guard: &'g Guard<'_>, key: &K) -> Place<'g, K, V> {
        'again: loop {
            let mut link = self.bucket(key);
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
                    self.retire(node);
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

    fn retire(&self, node: *mut Node<K, V>) {
        // SAFETY: the caller's guard still protects it.
        (self.on_retire)(unsafe { &(*node).value });
        // SAFETY: made by `Box::into_raw`; the caller's compare-exchange unlinked it from the only
        // link to it, so it is retired once; readers find it only under a guard of this reclaimer.
        // Keys and values may be dropped on any thread.
        unsafe { self.reclaimer.retire(node) };
    }
}

impl<K, V> Drop for Map<K, V> {
    fn drop(&mut self) {
        for bucket in &mut self.buckets {
            let mut node = plain(*bucket.get_mut());
            while !node.is_null() {
                // SAFETY: `&mut self`: no operation is under way; every node still linked is in one
                // list, once, and was not retired.
                let mut here = unsafe { Box::from_raw(node) };
                node = plain(*here.next.get_mut());
            }
        }
    }
}
