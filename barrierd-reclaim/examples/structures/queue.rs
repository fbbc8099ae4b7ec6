//! A first-in first-out queue: Michael and Scott, "Simple, fast, and practical non-blocking and
//! blocking concurrent queue algorithms" (PODC 1996).
//!
//! The first node is a dummy: its value has been taken. Who takes a value makes its node the dummy
//! and retires the old one.

use barrierd_reclaim::{Guard, Reclaimer};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

struct Node<T> {
    next: AtomicPtr<Node<T>>,
    /// Moved out by whoever makes the node the dummy.
    value: MaybeUninit<T>,
}

// SAFETY: a retired node is memory only: its value was moved out, and `next` is not followed.
unsafe impl<T> Send for Node<T> {}

impl<T> Node<T> {
    fn alone(value: MaybeUninit<T>) -> *mut Node<T> {
        Box::into_raw(Box::new(Node { next: AtomicPtr::new(ptr::null_mut()), value }))
    }
}

/// A line of its own for each end: they are changed by different threads.
#[repr(align(128))]
#[derive(Debug)]
struct End<T>(AtomicPtr<Node<T>>);

/// See the file's documentation.
#[derive(Debug)]
pub struct Queue<T> {
    head: End<T>,
    tail: End<T>,
    reclaimer: Reclaimer,
}

// SAFETY: values go in by one thread and out by another, and no reference to one is handed out.
unsafe impl<T: Send> Sync for Queue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Queue<T> {}

impl<T: Send> Queue<T> {
    /// An empty queue.
    pub fn new(reclaimer: Reclaimer) -> Queue<T> {
        let dummy = Node::alone(MaybeUninit::uninit());
        let end = || End(AtomicPtr::new(dummy));
        Queue { head: end(), tail: end(), reclaimer }
    }

    /// Puts a value at the end.
    pub fn push(&self, guard: &Guard<'_>, value: T) {
        assert!(guard.belongs_to(&self.reclaimer), "a guard of another reclaimer");
        let node = Node::alone(MaybeUninit::new(value));
        loop {
            let tail = guard.protect(&self.tail.0);
            // SAFETY: the tail is never behind the head, and what is at or behind the head is not
            // retired; so when it was loaded, under `guard`, it was not.
            let last = unsafe { &*tail };
            let next = guard.protect(&last.next);
            if !next.is_null() {
                // Somebody has linked a node and not yet moved the tail.
                let _ = self.tail.0.compare_exchange(tail, next, Release, Relaxed);
                continue;
            }
            // Release: whoever finds the node sees it whole.
            if last.next.compare_exchange(ptr::null_mut(), node, Release, Relaxed).is_ok() {
                let _ = self.tail.0.compare_exchange(tail, node, Release, Relaxed);
                return;
            }
        }
    }

    /// Takes the first value.
    pub fn pop(&self, guard: &Guard<'_>) -> Option<T> {
        assert!(guard.belongs_to(&self.reclaimer), "a guard of another reclaimer");
        loop {
            let head = guard.protect(&self.head.0);
            // SAFETY: loaded under `guard` from the queue, so not freed yet.
            let next = guard.protect(unsafe { &(*head).next });
            // SAFETY: null, or a node that comes behind one that was the head under `guard`: it was
            // not retired then, since nodes are retired in order.
            let first = unsafe { next.as_ref() }?;
            let tail = self.tail.0.load(Relaxed);
            if head == tail {
                // The tail must not be left behind on a node that is retired.
                let _ = self.tail.0.compare_exchange(tail, next, Release, Relaxed);
            }
            if self.head.0.compare_exchange(head, next, Release, Relaxed).is_ok() {
                // SAFETY: this thread's compare-exchange made `next` the dummy, so it alone moves the
                // value out; and it alone retires the old dummy, which the head led to last.
                unsafe {
                    let value = first.value.assume_init_read();
                    guard.retire(head);
                    return Some(value);
                }
            }
        }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        let mut node = *self.head.0.get_mut();
        let mut is_dummy = true;
        while !node.is_null() {
            // SAFETY: `&mut self`: no operation is under way; every node still in the queue is in it
            // once and was not retired.
            let mut here = unsafe { Box::from_raw(node) };
            if !is_dummy {
                // SAFETY: all but the dummy have their value.
                unsafe { here.value.assume_init_drop() };
            }
            is_dummy = false;
            node = here.next.load(Acquire);
        }
    }
}
