//! Michael and Scott's queue (1996).

use super::{Line, Node};
use crate::schemes::Scheme;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

pub(crate) struct Queue<S: Scheme> {
    head: Line<AtomicPtr<Node<S>>>,
    tail: Line<AtomicPtr<Node<S>>>,
}

impl<S: Scheme> Queue<S> {
    pub(crate) fn new(guard: &S::Guard<'_>) -> Queue<S> {
        let dummy = Node::made(guard, 0);
        Queue { head: Line(AtomicPtr::new(dummy)), tail: Line(AtomicPtr::new(dummy)) }
    }

    pub(crate) fn push(&self, guard: &mut S::Guard<'_>, key: u64) {
        let node = Node::made(guard, key);
        loop {
            let tail = S::protect(guard, 0, &self.tail.0);
            // SAFETY: protected.
            let last = unsafe { &*tail };
            // Only handed on, never followed: it needs no protection.
            let next = last.next.load(Acquire);
            if !next.is_null() {
                let _ = self.tail.0.compare_exchange(tail, next, Release, Relaxed);
            } else if last.next.compare_exchange(null_mut(), node, Release, Relaxed).is_ok() {
                let _ = self.tail.0.compare_exchange(tail, node, Release, Relaxed);
                return;
            }
        }
    }

    pub(crate) fn pop(&self, guard: &mut S::Guard<'_>) -> Option<u64> {
        loop {
            let head = S::protect(guard, 0, &self.head.0);
            // SAFETY: protected.
            let next = S::protect(guard, 1, unsafe { &(*head).next });
            // The second was linked when it was protected only if the first is the head still.
            if S::LINKED_ONLY && self.head.0.load(Acquire) != head {
                continue;
            }
            // SAFETY: protected.
            let key = unsafe { next.as_ref() }?.key;
            let tail = self.tail.0.load(Relaxed);
            if head == tail {
                let _ = self.tail.0.compare_exchange(tail, next, Release, Relaxed);
            }
            if self.head.0.compare_exchange(head, next, Release, Relaxed).is_ok() {
                // SAFETY: from `alloc`, taken off by this thread.
                unsafe { S::retire(guard, head) };
                return Some(key);
            }
        }
    }
}
