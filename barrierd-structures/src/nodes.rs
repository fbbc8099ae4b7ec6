//! The nodes of the stack and the queue: how they are made, retired and freed, whatever protects them.

#[cfg(not(barrierd_loom))]
use barrierd_reclaim::{Born, Reclaimer, recycle};
use core::ops::{Deref, DerefMut};

/// How nodes are made and freed.
#[cfg_attr(
    barrierd_loom,
    allow(unreachable_pub, reason = "`Protection` rests on it, which is not there under loom")
)]
pub trait Nodes {
    /// Where they are retired to.
    type Domain;
    /// A node with what the scheme keeps beside it.
    type Node<S>: DerefMut<Target = S>;

    /// Makes a node.
    fn alloc<S>(domain: &Self::Domain, value: S) -> *mut Self::Node<S>;

    /// Frees a node.
    ///
    /// # Safety
    /// From `alloc`, not retired, and nobody else has it.
    unsafe fn free<S>(node: *mut Self::Node<S>);

    /// Frees a node once no section of the domain holds it, on any thread.
    ///
    /// # Safety
    /// From `alloc`, of this domain, unlinked by operations that happened before, retired once; and a node that is freed is
    /// memory only: it owns nothing and borrows nothing.
    unsafe fn retire<S: Send>(domain: &Self::Domain, node: *mut Self::Node<S>);
}

/// A node with nothing beside it.
#[repr(transparent)]
#[cfg_attr(barrierd_loom, allow(unreachable_pub, reason = "as for `Nodes`"))]
pub struct Bare<S>(pub(crate) S);

impl<S> Deref for Bare<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> DerefMut for Bare<S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}

/// Nodes whose memory is used again, by [`recycle`].
#[cfg(not(barrierd_loom))]
pub enum Recycled {}

#[cfg(not(barrierd_loom))]
impl Nodes for Recycled {
    type Domain = Reclaimer;
    type Node<S> = Bare<S>;

    #[inline]
    fn alloc<S>(_: &Reclaimer, value: S) -> *mut Bare<S> {
        recycle::alloc(Bare(value))
    }

    #[inline]
    unsafe fn free<S>(node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`.
        unsafe { recycle::free(node) };
    }

    #[inline]
    unsafe fn retire<S: Send>(reclaimer: &Reclaimer, node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`; memory only, so it may be freed on any thread at any time.
        unsafe { reclaimer.retire_with(node, recycle::free) };
    }
}

/// Nodes that begin with their births.
#[cfg(not(barrierd_loom))]
pub enum WithBirth {}

#[cfg(not(barrierd_loom))]
impl Nodes for WithBirth {
    type Domain = Reclaimer;
    type Node<S> = Born<S>;

    #[inline]
    fn alloc<S>(reclaimer: &Reclaimer, value: S) -> *mut Born<S> {
        Box::into_raw(reclaimer.alloc(value))
    }

    #[inline]
    unsafe fn free<S>(node: *mut Born<S>) {
        // SAFETY: the caller's promise: from `alloc`, hence from a box.
        drop(unsafe { Box::from_raw(node) });
    }

    #[inline]
    unsafe fn retire<S: Send>(reclaimer: &Reclaimer, node: *mut Born<S>) {
        // SAFETY: the caller's promise: from `alloc` of this reclaimer, whose birth is never moved; published after that.
        unsafe { reclaimer.retire_born(node) };
    }
}
