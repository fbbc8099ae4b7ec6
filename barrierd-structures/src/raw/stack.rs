//! The stack's steps, for any scheme that protects a pointer: Treiber, "Systems programming: coping with parallelism" (IBM,
//! 1986).
//!
//! # Invariants
//! - `head` leads to a list of nodes, each once, that ends in null. A node's `next` is written before the node is published
//!   and never after.
//! - Who takes a node off `head` owns its value, and retires it: once, since it is off the list from then on.
//! - A node that an operation protects is not freed, so its address is no other node's meanwhile: a compare-and-swap from it
//!   finds the node itself, under which lies what did when it was pushed (no ABA). What `push` expects is followed by nobody,
//!   and may be any address.
//!
//! # Progress
//! Lock-free: a try fails only where another operation was done.

use crate::backoff::{Backoff, Pace};
use crate::nodes::Nodes;
use crate::protect::{DomainOf, NodeOf, Protect};
use crate::sync::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, Mutant, Place, broken, ordered, unless};
use core::ptr;

pub(crate) struct Node<T, P: Protect> {
    next: *mut Link<T, P>,
    /// Moved out by whoever pops the node.
    value: Place<T>,
}

// SAFETY: a retired node is memory only: its value was moved out, and `next` is not followed.
unsafe impl<T, P: Protect> Send for Node<T, P> {}

type Link<T, P> = NodeOf<P, Node<T, P>>;

/// Nodes that one user of the stack has popped and not retired yet.
pub(crate) type Popped<T, P> = <P as Protect>::Batch<Node<T, P>>;

/// See the file's documentation. What is left inside is leaked: its owner pops until nothing is left.
pub(crate) struct RawStack<T, P: Protect> {
    head: AtomicPtr<Link<T, P>>,
    pub(crate) domain: DomainOf<P>,
}

impl<T, P: Protect> RawStack<T, P> {
    pub(crate) fn new(domain: DomainOf<P>) -> RawStack<T, P> {
        RawStack { head: AtomicPtr::new(ptr::null_mut()), domain }
    }

    #[inline]
    pub(crate) fn push(&self, mut pace: Option<&mut Pace>, value: T) {
        // Relaxed, all loads here: it is not followed.
        let mut next = self.head.load(Relaxed);
        if pace.as_mut().is_some_and(|pace| pace.meets(next.addr())) {
            next = self.head.load(Relaxed);
        }
        let node = P::Nodes::alloc(&self.domain, Node { next, value: Place::with(value) });
        let mut backoff = Backoff::new();
        // Release: pairs with the Acquire of whoever loads the head in `pop`, which finds the node whole. All that changes
        // the head are read-modify-writes, which go on with the release sequences of the nodes below. SeqCst: pairs with
        // the load that finds the stack empty.
        let order = unless(Mutant::RelaxedPush, ordered(Release));
        while let Err(now) = self.head.compare_exchange_weak(next, node, order, Relaxed) {
            backoff.lost();
            next = now;
            // SAFETY: from `alloc` and not published yet, so this thread's alone.
            unsafe { &mut *node }.next = next;
        }
        if let Some(pace) = pace {
            pace.left(node.addr());
        }
    }

    /// Takes the topmost value off, and retires its node.
    #[inline]
    pub(crate) fn pop(&self, section: &mut P::Section<'_>) -> Option<T> {
        // SAFETY: what `pop_by` gives is what `retire` asks for.
        self.pop_by(section, None, |section, node| unsafe { P::retire(section, node) })
    }

    /// Takes the topmost value off, and puts its node to those that its caller has popped before.
    #[inline]
    pub(crate) fn pop_into(
        &self,
        section: &mut P::Section<'_>,
        pace: &mut Pace,
        popped: &mut Popped<T, P>,
    ) -> Option<T> {
        // SAFETY: as in `pop`.
        self.pop_by(section, Some(pace), |section, node| unsafe {
            P::retire_later(section, popped, node);
        })
    }

    /// Takes the topmost value off, and gives its node to `bury`: from `alloc`, off the list by this thread's exchange, its
    /// value moved out.
    #[inline]
    fn pop_by(
        &self,
        section: &mut P::Section<'_>,
        mut pace: Option<&mut Pace>,
        bury: impl FnOnce(&mut P::Section<'_>, *mut Link<T, P>),
    ) -> Option<T> {
        let mut backoff = Backoff::new();
        // Acquire, here and below, paired with the Release in `push` that published this node.
        let mut head = P::protect(section, &self.head);
        if pace.as_mut().is_some_and(|pace| pace.meets(head.addr())) {
            head = P::protect(section, &self.head);
        }
        loop {
            // SAFETY: the head leads to no retired node, so this one is protected.
            let Some(here) = (unsafe { head.as_ref() }) else {
                if self.is_empty() {
                    if let Some(pace) = pace {
                        pace.idle();
                    }
                    return None;
                }
                head = P::protect(section, &self.head);
                continue;
            };
            let next = here.next;
            // Relaxed: nothing is published by it, what the next one is was published before; and the value is read by this
            // thread, which acquired it above.
            let taken = if broken(Mutant::PopByStore) {
                self.head.store(next, Relaxed);
                true
            } else {
                self.head.compare_exchange_weak(head, next, Relaxed, Relaxed).is_ok()
            };
            if taken {
                if let Some(pace) = pace {
                    pace.left(next.addr());
                }
                // SAFETY: this thread took the node off, so the value is its own; it was put in before the node was
                // published, which this thread has acquired.
                let value = unsafe { here.value.read() };
                bury(section, head);
                return Some(value);
            }
            backoff.lost();
            head = P::protect(section, &self.head);
        }
    }

    /// Copies the topmost value.
    #[inline]
    pub(crate) fn peek(&self, section: &mut P::Section<'_>) -> Option<T>
    where
        T: Copy,
    {
        loop {
            // Acquire, as in `pop`.
            let head = P::protect(section, &self.head);
            // SAFETY: as in `pop`.
            let Some(here) = (unsafe { head.as_ref() }) else {
                if self.is_empty() {
                    return None;
                }
                continue;
            };
            // SAFETY: put in before the node was published, which this thread has acquired, and not written after; it is
            // `Copy`, so another thread may take it as well.
            return Some(unsafe { here.value.read() });
        }
    }

    /// Returns whether there is nothing on it.
    ///
    /// SeqCst, as `push` is: of two threads that each push onto one stack and then find the other one's empty, one is late
    /// in the order of all these operations, and sees what was pushed. So an answer is right at one moment of the call, also
    /// beside other structures.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(ordered(Acquire)).is_null()
    }

    /// Takes the topmost value off a stack that is its caller's alone.
    pub(crate) fn pop_mut(&mut self) -> Option<T> {
        // Relaxed: it is borrowed mutably, so all operations happened before.
        let head = self.head.load(Relaxed);
        // SAFETY: null, or a node that is not retired, and nobody else's.
        let here = unsafe { head.as_ref() }?;
        self.head.store(here.next, Relaxed);
        // SAFETY: on the list, so the value was put in and not taken; it is off the list now.
        let value = unsafe { here.value.read() };
        // SAFETY: from `alloc`, off the list, never retired, and nobody else's.
        unsafe { P::Nodes::free(head) };
        Some(value)
    }
}
