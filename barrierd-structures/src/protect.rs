//! What the stack and the queue ask of a reclamation scheme: to protect one pointer at a time.
//!
//! Every pointer that they follow was loaded from a source that never leads to a retired node: the stack's head, the queue's
//! two ends. A node's own link is only handed on. So hazards and robust guards, which protect just what was not retired
//! when it was loaded, serve as well as plain guards do, and one hazard is enough.

use crate::sync::AtomicPtr;
use core::ops::DerefMut;

/// A scheme: see [`Protection`](crate::Protection), or a loom model.
#[cfg_attr(
    barrierd_loom,
    allow(unreachable_pub, reason = "`Protection` rests on it, which is not there under loom")
)]
pub trait Protect: Sized + 'static {
    /// Where nodes are retired to.
    type Domain;
    /// A node with what the scheme keeps beside it.
    type Node<S>: DerefMut<Target = S>;
    /// An open section.
    type Section<'s>;

    /// Makes a node.
    fn alloc<S>(domain: &Self::Domain, value: S) -> *mut Self::Node<S>;

    /// Frees a node.
    ///
    /// # Safety
    /// From `alloc`, not retired, and nobody else has it.
    unsafe fn free<S>(node: *mut Self::Node<S>);

    /// Loads a pointer (Acquire). If the source never leads to a retired node, its node stays until the next call or until
    /// the section ends.
    fn protect<S>(
        section: &mut Self::Section<'_>,
        source: &AtomicPtr<Self::Node<S>>,
    ) -> *mut Self::Node<S>;

    /// Frees a node once no section holds it, on any thread.
    ///
    /// # Safety
    /// From `alloc`, of the section's domain, unlinked by operations that happened before, retired once; and a node that is
    /// freed is memory only: it owns nothing and borrows nothing.
    unsafe fn retire<S: Send>(section: &mut Self::Section<'_>, node: *mut Self::Node<S>);

    /// Nodes that are to be retired: memory only. It may be forgotten, and leaks them then.
    type Batch<S>: Send;

    fn batch<S>() -> Self::Batch<S>;

    /// Puts a node to others that are retired together, at once or by a later call.
    ///
    /// # Safety
    /// As for `retire`; and all of a batch are of one domain.
    unsafe fn retire_later<S: Send>(
        section: &mut Self::Section<'_>,
        batch: &mut Self::Batch<S>,
        node: *mut Self::Node<S>,
    );

    /// Takes out a node that is still to be retired.
    fn take<S>(batch: &mut Self::Batch<S>) -> Option<*mut Self::Node<S>>;
}
