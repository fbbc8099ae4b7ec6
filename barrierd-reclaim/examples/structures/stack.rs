//! A stack: Treiber, "Systems programming: coping with parallelism" (IBM, 1986).
//!
//! A popped node may be in the hands of others that were about to pop it, so it is retired. That also
//! answers the ABA question: a node's address can't come back while a guard that saw it lives.

use barrierd_reclaim::{Guard, Reclaimer};
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

struct Node<T> {
    next: *mut Node<T>,
    /// Moved out by whoever pops the node.
    value: ManuallyDrop<T>,
}

// SAFETY: a retired node is memory only: its value was moved out, and `next` is not followed.
unsafe impl<T> Send for Node<T> {}

/// See the file's documentation.
#[derive(Debug)]
pub struct Stack<T> {
    reclaimer: Reclaimer,
    head: AtomicPtr<Node<T>>,
}

// SAFETY: values go in by one thread and out by another, and no reference to one is handed out.
unsafe impl<T: Send> Sync for Stack<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Stack<T> {}

impl<T: Send> Stack<T> {
    /// An empty stack.
    pub fn new(reclaimer: Reclaimer) -> Stack<T> {
        Stack { reclaimer, head: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Puts a value on top.
    pub fn push(&self, value: T) {
        let mut next = self.head.load(Relaxed);
        let node = Box::into_raw(Box::new(Node { next, value: ManuallyDrop::new(value) }));
        // Release: whoever finds the node sees it whole.
        while let Err(now) = self.head.compare_exchange_weak(next, node, Release, Relaxed) {
            next = now;
            // SAFETY: not on the stack yet, so it is this thread's alone.
            unsafe { (*node).next = next };
        }
    }

    /// Takes the topmost value.
    pub fn pop(&self, guard: &Guard<'_>) -> Option<T> {
        assert!(guard.belongs_to(&self.reclaimer), "a guard of another reclaimer");
        let mut head = guard.protect(&self.head);
        loop {
            // SAFETY: loaded under `guard` from the stack, so not freed yet; `next` never changes
            // while the node is on the stack.
            let next = unsafe { head.as_ref() }?.next;
            match self.head.compare_exchange_weak(head, next, Relaxed, Acquire) {
                Ok(_) => break,
                Err(now) => head = now,
            }
        }
        // SAFETY: this thread's compare-exchange took the node off the stack, so it alone moves the
        // value out and retires it, once; others may look at `next` until their guards end.
        unsafe {
            let value = ManuallyDrop::take(&mut (*head).value);
            guard.retire(head);
            Some(value)
        }
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        let mut node = *self.head.get_mut();
        while !node.is_null() {
            // SAFETY: `&mut self`: no operation is under way; every node still on the stack is on it
            // once, was not retired, and has its value.
            let mut here = unsafe { Box::from_raw(node) };
            // SAFETY: as above.
            unsafe { ManuallyDrop::drop(&mut here.value) };
            node = here.next;
        }
    }
}
