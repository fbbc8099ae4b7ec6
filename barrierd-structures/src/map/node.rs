//! A node, and one that is not in the list yet.

use super::link::{self, Link};
use barrierd_reclaim::recycle;
use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::Ordering::Relaxed;

/// What the list needs of a node. Its alignment leaves room for two tag bits.
pub(super) struct Header {
    pub(super) next: Link,
    pub(super) hash: usize,
}

const _: () = assert!(align_of::<Header>() >= 4);

/// An entry. Its key and value never change: an update puts another node in its place.
#[repr(C)]
pub(super) struct Node<K, V> {
    pub(super) header: Header,
    pub(super) key: K,
    pub(super) value: V,
}

/// Drops an entry, and keeps its memory for the next one.
///
/// # Safety
/// `node` is a published [`Draft`], which is not used again.
pub(super) unsafe fn free<K, V>(node: *mut Node<K, V>) {
    // SAFETY: drafts come from `recycle::alloc`; the rest is the caller's promise.
    unsafe { recycle::free(node) };
}

/// A node that no link leads to; it goes with the draft, unless it is published.
pub(super) struct Draft<K, V>(*mut Node<K, V>);

impl<K, V> Draft<K, V> {
    pub(super) fn new(hash: usize, key: K, value: V) -> Draft<K, V> {
        let header = Header { next: Link::new(link::none()), hash };
        Draft(recycle::alloc(Node { header, key, value }))
    }

    /// Takes a node back that was published.
    ///
    /// # Safety
    /// No link leads to it any more, and nobody holds it.
    pub(super) unsafe fn again(node: *mut Node<K, V>) -> Draft<K, V> {
        Draft(node)
    }

    fn node(&self) -> &Node<K, V> {
        // SAFETY: allocated above, and the draft's alone.
        unsafe { &*self.0 }
    }

    pub(super) fn key(&self) -> &K {
        &self.node().key
    }

    /// Makes it lead to what `link` leads to, and returns the link to it.
    pub(super) fn before(&self, link: *mut ()) -> *mut () {
        // Relaxed: the exchange that publishes it is a Release.
        self.node().header.next.store(link::unmarked(link), Relaxed);
        self.0.cast()
    }

    /// Says that a link leads to it, so that the list owns it.
    pub(super) fn published(self) -> *const Node<K, V> {
        ManuallyDrop::new(self).0
    }

    /// Returns what it was made of.
    pub(super) fn into_parts(self) -> (K, V) {
        let node = ManuallyDrop::new(self).0;
        // SAFETY: the draft's alone. The key and the value are moved out, and then not dropped by `free`: ManuallyDrop has the
        // layout of what it holds.
        unsafe {
            let parts = (ptr::read(&raw const (*node).key), ptr::read(&raw const (*node).value));
            recycle::free(node.cast::<ManuallyDrop<Node<K, V>>>());
            parts
        }
    }
}

impl<K, V> Drop for Draft<K, V> {
    fn drop(&mut self) {
        // SAFETY: the draft's alone.
        unsafe { free(self.0) };
    }
}
