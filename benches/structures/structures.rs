//! The structures, written once for every scheme: a stack, a queue, a hash map of ordered lists.
//!
//! Sources: Treiber (1986); Michael and Scott (1996); Harris (2001) with Michael's unlinking (2002). The
//! commented versions are in `barrierd-reclaim/examples/structures`; these leave out what a benchmark
//! doesn't need: values are numbers, and what is left inside is leaked.

use super::scheme::Scheme;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

pub(crate) struct Node {
    next: AtomicPtr<Node>,
    key: u64,
}

impl Node {
    fn boxed(key: u64) -> *mut Node {
        Box::into_raw(Box::new(Node { next: AtomicPtr::default(), key }))
    }
}

/// A line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

#[derive(Default)]
pub(crate) struct Stack {
    head: Line<AtomicPtr<Node>>,
}

impl Stack {
    pub(crate) fn push(&self, key: u64) {
        let node = Node::boxed(key);
        let mut head = self.head.0.load(Relaxed);
        loop {
            // SAFETY: not on the stack yet.
            unsafe { (*node).next.store(head, Relaxed) };
            match self.head.0.compare_exchange_weak(head, node, Release, Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(crate) fn pop<S: Scheme>(&self, guard: &S::Guard<'_>) -> Option<u64> {
        loop {
            let head = S::protect(guard, &self.head.0);
            // SAFETY: protected by the guard.
            let here = unsafe { head.as_ref() }?;
            let (next, key) = (here.next.load(Relaxed), here.key);
            if self.head.0.compare_exchange_weak(head, next, Relaxed, Relaxed).is_ok() {
                // SAFETY: from a box, taken off by this thread.
                unsafe { S::retire(guard, head) };
                return Some(key);
            }
        }
    }
}

pub(crate) struct Queue {
    head: Line<AtomicPtr<Node>>,
    tail: Line<AtomicPtr<Node>>,
}

impl Default for Queue {
    fn default() -> Queue {
        let dummy = Node::boxed(0);
        Queue { head: Line(AtomicPtr::new(dummy)), tail: Line(AtomicPtr::new(dummy)) }
    }
}

impl Queue {
    pub(crate) fn push<S: Scheme>(&self, guard: &S::Guard<'_>, key: u64) {
        let node = Node::boxed(key);
        loop {
            let tail = S::protect(guard, &self.tail.0);
            // SAFETY: protected by the guard.
            let last = unsafe { &*tail };
            let next = S::protect(guard, &last.next);
            if !next.is_null() {
                let _ = self.tail.0.compare_exchange(tail, next, Release, Relaxed);
            } else if last.next.compare_exchange(null_mut(), node, Release, Relaxed).is_ok() {
                let _ = self.tail.0.compare_exchange(tail, node, Release, Relaxed);
                return;
            }
        }
    }

    pub(crate) fn pop<S: Scheme>(&self, guard: &S::Guard<'_>) -> Option<u64> {
        loop {
            let head = S::protect(guard, &self.head.0);
            // SAFETY: protected by the guard.
            let next = S::protect(guard, unsafe { &(*head).next });
            // SAFETY: protected by the guard.
            let key = unsafe { next.as_ref() }?.key;
            let tail = self.tail.0.load(Relaxed);
            if head == tail {
                let _ = self.tail.0.compare_exchange(tail, next, Release, Relaxed);
            }
            if self.head.0.compare_exchange(head, next, Release, Relaxed).is_ok() {
                // SAFETY: from a box, taken off by this thread.
                unsafe { S::retire(guard, head) };
                return Some(key);
            }
        }
    }
}

pub(crate) struct Map {
    buckets: Box<[AtomicPtr<Node>]>,
}

fn is_removed(pointer: *mut Node) -> bool {
    pointer.addr() & 1 == 1
}

fn plain(pointer: *mut Node) -> *mut Node {
    pointer.map_addr(|addr| addr & !1)
}

impl Map {
    /// Room for `keys`: a power of two.
    pub(crate) fn new(keys: usize) -> Map {
        Map { buckets: (0..keys).map(|_| AtomicPtr::default()).collect() }
    }

    fn bucket(&self, key: u64) -> &AtomicPtr<Node> {
        // Fibonacci hashing.
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        &self.buckets[usize::try_from(hash).expect("32 bits") & (self.buckets.len() - 1)]
    }

    fn find<'m, S: Scheme>(
        &'m self,
        guard: &S::Guard<'_>,
        key: u64,
    ) -> (&'m AtomicPtr<Node>, *mut Node) {
        'again: loop {
            let mut link = self.bucket(key);
            let mut node = S::protect(guard, link);
            loop {
                // SAFETY: protected by the guard.
                let Some(here) = (unsafe { node.as_ref() }) else { return (link, node) };
                let next = S::protect(guard, &here.next);
                if is_removed(next) {
                    if link.compare_exchange(node, plain(next), AcqRel, Relaxed).is_err() {
                        continue 'again;
                    }
                    // SAFETY: from a box, unlinked by this thread.
                    unsafe { S::retire(guard, node) };
                    node = plain(next);
                } else if here.key >= key {
                    return (link, node);
                } else {
                    link = &here.next;
                    node = next;
                }
            }
        }
    }

    pub(crate) fn get<S: Scheme>(&self, guard: &S::Guard<'_>, key: u64) -> bool {
        let mut node = S::protect(guard, self.bucket(key));
        // SAFETY: protected by the guard.
        while let Some(here) = unsafe { plain(node).as_ref() } {
            let next = S::protect(guard, &here.next);
            if here.key >= key {
                return here.key == key && !is_removed(next);
            }
            node = next;
        }
        false
    }

    pub(crate) fn insert<S: Scheme>(&self, guard: &S::Guard<'_>, key: u64) -> bool {
        let mut new: *mut Node = null_mut();
        loop {
            let (link, node) = self.find::<S>(guard, key);
            // SAFETY: protected by the guard.
            if unsafe { node.as_ref() }.is_some_and(|here| here.key == key) {
                if !new.is_null() {
                    // SAFETY: it was never linked.
                    drop(unsafe { Box::from_raw(new) });
                }
                return false;
            }
            if new.is_null() {
                new = Node::boxed(key);
            }
            // SAFETY: not linked yet.
            unsafe { (*new).next.store(node, Relaxed) };
            if link.compare_exchange(node, new, Release, Relaxed).is_ok() {
                return true;
            }
        }
    }

    pub(crate) fn remove<S: Scheme>(&self, guard: &S::Guard<'_>, key: u64) -> bool {
        loop {
            let (link, node) = self.find::<S>(guard, key);
            // SAFETY: protected by the guard.
            let Some(here) = unsafe { node.as_ref() }.filter(|here| here.key == key) else {
                return false;
            };
            let next = here.next.load(Acquire);
            let marked = next.map_addr(|addr| addr | 1);
            if is_removed(next)
                || here.next.compare_exchange(next, marked, AcqRel, Relaxed).is_err()
            {
                continue;
            }
            if link.compare_exchange(node, next, AcqRel, Relaxed).is_ok() {
                // SAFETY: from a box, unlinked by this thread.
                unsafe { S::retire(guard, node) };
            } else {
                self.find::<S>(guard, key);
            }
            return true;
        }
    }
}
