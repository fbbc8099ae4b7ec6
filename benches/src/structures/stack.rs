//! Treiber's stack (1986).

use super::{Line, Node};
use crate::schemes::Scheme;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed, Ordering::Release};

pub(crate) struct Stack<S: Scheme> {
    head: Line<AtomicPtr<Node<S>>>,
}

impl<S: Scheme> Stack<S> {
    pub(crate) fn new() -> Stack<S> {
        Stack { head: Line(AtomicPtr::default()) }
    }

    pub(crate) fn push(&self, guard: &S::Guard<'_>, key: u64) {
        let node = Node::made(guard, key);
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

    pub(crate) fn pop(&self, guard: &mut S::Guard<'_>) -> Option<u64> {
        loop {
            let head = S::protect(guard, 0, &self.head.0);
            // SAFETY: protected.
            let here = unsafe { head.as_ref() }?;
            let (next, key) = (here.next.load(Relaxed), here.key);
            if self.head.0.compare_exchange_weak(head, next, Relaxed, Relaxed).is_ok() {
                // SAFETY: from `alloc`, taken off by this thread.
                unsafe { S::retire(guard, head) };
                return Some(key);
            }
        }
    }
}
