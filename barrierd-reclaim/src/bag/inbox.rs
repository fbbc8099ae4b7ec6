//! A box that any thread may put something into without waiting for another.
//!
//! Pure atomics, so that loom runs these very functions (`models/inbox.rs`). This file knows nothing of bags
//! or domains. R. K. Treiber, "Systems programming: coping with parallelism" (IBM RJ 5118, 1986); since
//! everything is taken at once, no node is read that another thread may take, and there is no ABA.

use crate::sync::{AtomicPtr, Mutant, Ordering, broken};
use core::marker::PhantomData;
use core::ptr;

/// See the file's documentation.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    head: AtomicPtr<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    value: T,
    next: *mut Node<T>,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Inbox<T> {
        Inbox { head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Puts `value` in. Lock-free: tried again only where another thread has just put something in or taken all.
    pub(crate) fn push(&self, value: T) {
        let node = Box::into_raw(Box::new(Node { value, next: ptr::null_mut() }));
        // Relaxed: it is compared, and stored in the node for the thread that acquires this push.
        let mut head = self.head.load(Ordering::Relaxed);
        // Release: the thread that takes it (Acquire, in `take`) sees it whole; pushes on top of it are exchanges, so
        // that they continue the release sequence.
        let order = if broken(Mutant::RelaxedPush) { Ordering::Relaxed } else { Ordering::Release };
        loop {
            // SAFETY: not in the box yet, so this thread alone knows it.
            unsafe { (*node).next = head };
            match self.head.compare_exchange_weak(head, node, order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Returns whether it is empty. A hint.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed).is_null()
    }

    /// Takes everything, in constant time however much it is.
    pub(crate) fn take(&self) -> Taken<T> {
        // Acquire: pairs with `push`.
        let next = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        Taken { next, _owned: PhantomData }
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// The values that were taken out of an [`Inbox`], the last first.
#[derive(Debug)]
pub(crate) struct Taken<T> {
    next: *mut Node<T>,
    _owned: PhantomData<Box<Node<T>>>,
}

// SAFETY: it owns its nodes, as a list of boxes would.
unsafe impl<T: Send> Send for Taken<T> {}

impl<T> Default for Taken<T> {
    fn default() -> Taken<T> {
        Taken { next: ptr::null_mut(), _owned: PhantomData }
    }
}

impl<T> Taken<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_null()
    }
}

impl<T> Iterator for Taken<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.next.is_null() {
            return None;
        }
        // SAFETY: made by `Box::into_raw` in `push`, and taken out of the box by this list alone, which goes on
        // with the node after it.
        let node = unsafe { Box::from_raw(self.next) };
        self.next = node.next;
        Some(node.value)
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

// SAFETY: values move from the thread that pushes to the thread that takes, and are never shared.
unsafe impl<T: Send> Sync for Inbox<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Inbox<T> {}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn everything_comes_out_once_and_what_is_left_is_dropped() {
        let inbox = Inbox::new();
        assert!(inbox.is_empty() && inbox.take().is_empty());
        let value = Arc::new(());
        (0..5).for_each(|_| inbox.push(value.clone()));
        let mut taken = inbox.take();
        assert!(taken.next().is_some() && inbox.is_empty() && !taken.is_empty());
        inbox.push(value.clone());
        drop((inbox, taken));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn each_value_is_taken_once() {
        const EACH: usize = 10_000;
        let inbox = Inbox::new();
        let mut seen = vec![0; 3 * EACH];
        thread::scope(|scope| {
            let inbox = &inbox;
            let threads: Vec<_> = (0..3)
                .map(|t| scope.spawn(move || (0..EACH).for_each(|n| inbox.push(t * EACH + n))))
                .collect();
            while !threads.iter().all(|thread| thread.is_finished()) {
                inbox.take().for_each(|n| seen[n] += 1);
            }
        });
        inbox.take().for_each(|n| seen[n] += 1);
        assert!(seen.iter().all(|&times| times == 1));
    }
}
