//! Treiber's stack as a user of crossbeam-epoch writes it, with the ways in which it may be wrong.
#![cfg(crossbeam_loom)]

use crossbeam_epoch::{Atomic, Guard, Owned};
use loom::cell::UnsafeCell;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};

/// What destroyed nodes hold.
pub const POISON: u32 = 0xdead;

/// How it is wrong, if it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A pushed node is published by Relaxed.
    RelaxedPush,
    /// `pop` loads the node by Relaxed, and then reads it.
    RelaxedPop,
    /// A popped node is destroyed at once.
    AtOnce,
    /// A popped node is destroyed by a guard of another collector, which does not wait for readers.
    OtherCollector,
    /// A node is deferred before it is unlinked.
    DeferredFirst,
}

/// A node is destroyed by poison, which loom compares with all reads, and stays in memory: so that a wrong stack is
/// found by loom, and nothing else happens.
pub struct Node {
    value: UnsafeCell<u32>,
    next: Atomic<Node>,
}

pub struct Stack {
    head: Atomic<Node>,
    fault: Fault,
}

impl Stack {
    pub fn new(fault: Fault) -> Stack {
        Stack { head: Atomic::null(), fault }
    }

    fn unless(&self, fault: Fault, right: Ordering) -> Ordering {
        if self.fault == fault { Relaxed } else { right }
    }

    pub fn push(&self, value: u32, guard: &Guard) {
        let mut node = Owned::new(Node { value: UnsafeCell::new(value), next: Atomic::null() });
        let order = self.unless(Fault::RelaxedPush, Release);
        loop {
            let head = self.head.load(Relaxed, guard);
            node.next.store(head, Relaxed);
            match self.head.compare_exchange(head, node, order, Relaxed, guard) {
                Ok(_) => return,
                Err(failed) => node = failed.new,
            }
        }
    }

    pub fn pop(&self, guard: &Guard) -> Option<u32> {
        let order = self.unless(Fault::RelaxedPop, Acquire);
        loop {
            let head = self.head.load(order, guard);
            // SAFETY: nodes stay in memory.
            let node = unsafe { head.as_ref() }?;
            // The value is read first: where nodes are destroyed too early, this is what loom finds.
            // SAFETY: loom checks it.
            let value = node.value.with(|value| unsafe { *value });
            assert_ne!(value, POISON, "read after it was destroyed");
            let next = node.next.load(Relaxed, guard);
            let raw = head.as_raw() as usize;
            let destroy = move || {
                // SAFETY: nodes stay in memory, and loom checks the access.
                unsafe { (*(raw as *const Node)).value.with_mut(|value| *value = POISON) };
            };
            if self.fault == Fault::DeferredFirst {
                guard.defer(destroy);
            }
            if self.head.compare_exchange(head, next, Relaxed, Relaxed, guard).is_ok() {
                match self.fault {
                    Fault::AtOnce => destroy(),
                    Fault::OtherCollector => {
                        crossbeam_epoch::Collector::new().register().pin().defer(destroy);
                    }
                    Fault::DeferredFirst => {}
                    _ => guard.defer(destroy),
                }
                return Some(value);
            }
        }
    }
}
