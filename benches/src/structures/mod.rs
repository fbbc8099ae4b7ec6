//! The structures, written once for every scheme: a stack, a queue, a hash map of ordered lists, a cell.
//!
//! The commented versions are in `barrierd-reclaim/examples/structures`; these leave out what a benchmark
//! doesn't need: values are numbers, and what is left inside at the end is leaked.

pub(crate) mod cell;
pub(crate) mod map;
pub(crate) mod queue;
pub(crate) mod stack;

use crate::schemes::{Headed, Scheme};
use std::sync::atomic::AtomicPtr;

/// A node of any of them.
#[repr(C)]
pub(crate) struct Node<S: Scheme> {
    header: S::Header,
    next: AtomicPtr<Node<S>>,
    key: u64,
}

// SAFETY: `repr(C)`, the header first.
unsafe impl<S: Scheme> Headed<S::Header> for Node<S> {}

// SAFETY: numbers, and a pointer that only atomic operations read.
unsafe impl<S: Scheme> Send for Node<S> {}

impl<S: Scheme> Node<S> {
    fn made(guard: &S::Guard<'_>, key: u64) -> *mut Node<S> {
        S::alloc(guard, Node { header: S::Header::default(), next: AtomicPtr::default(), key })
    }
}

/// A line of its own.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);
