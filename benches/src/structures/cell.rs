//! A read-copy-update cell: one pointer that readers follow and writers replace.

use super::{Line, Node};
use crate::schemes::Scheme;
use std::sync::atomic::{AtomicPtr, Ordering::AcqRel};

pub(crate) struct Cell<S: Scheme> {
    now: Line<AtomicPtr<Node<S>>>,
}

impl<S: Scheme> Cell<S> {
    pub(crate) fn new(guard: &S::Guard<'_>) -> Cell<S> {
        Cell { now: Line(AtomicPtr::new(Node::made(guard, 0))) }
    }

    pub(crate) fn read(&self, guard: &mut S::Guard<'_>) -> u64 {
        let now = S::protect(guard, 0, &self.now.0);
        // SAFETY: never null, and protected.
        unsafe { (*now).key }
    }

    pub(crate) fn replace(&self, guard: &S::Guard<'_>, key: u64) {
        let old = self.now.0.swap(Node::made(guard, key), AcqRel);
        // SAFETY: from `alloc`, unlinked by the swap, which gives it to this thread alone.
        unsafe { S::retire(guard, old) };
    }
}
