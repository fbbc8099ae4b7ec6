//! What the stack and the queue ask of a reclamation scheme: to protect one pointer at a time.
//!
//! Every pointer that they follow was loaded from a source that never leads to a retired node: the stack's head, the queue's
//! two ends. A node's own link is only handed on. So hazards and robust guards, which protect just what was not retired
//! when it was loaded, serve as well as plain guards do, and one hazard is enough.

use crate::nodes::Nodes;
use crate::sync::AtomicPtr;

/// A node of a scheme.
pub(crate) type NodeOf<P, S> = <<P as Protect>::Nodes as Nodes>::Node<S>;
/// Where a scheme's nodes are retired to.
pub(crate) type DomainOf<P> = <<P as Protect>::Nodes as Nodes>::Domain;

/// A scheme: see [`Protection`](crate::Protection), or a loom model.
#[cfg_attr(
    barrierd_loom,
    allow(unreachable_pub, reason = "`Protection` rests on it, which is not there under loom")
)]
pub trait Protect: Sized + 'static {
    type Nodes: Nodes;
    /// An open section.
    type Section<'s>;

    /// Loads a pointer (Acquire). If the source never leads to a retired node, its node stays until the next call or until
    /// the section ends.
    fn protect<S>(
        section: &mut Self::Section<'_>,
        source: &AtomicPtr<NodeOf<Self, S>>,
    ) -> *mut NodeOf<Self, S>;

    /// Does what [`Nodes::retire`] does, without a search for the thread's place where the section knows it.
    ///
    /// # Safety
    /// As there, in the section's domain.
    unsafe fn retire<S: Send>(section: &mut Self::Section<'_>, node: *mut NodeOf<Self, S>);

    /// Nodes that are to be retired: memory only. It retires what it holds when it is dropped. It may be forgotten, and
    /// leaks them then.
    type Batch<S>: Send;

    fn batch<S>(domain: &DomainOf<Self>) -> Self::Batch<S>;

    /// Puts a node to others that are retired together, at once or by a later call; or retires it by itself.
    ///
    /// # Safety
    /// As for `retire`; and all of a batch are of one domain.
    #[inline]
    unsafe fn retire_later<S: Send>(
        section: &mut Self::Section<'_>,
        _batch: &mut Self::Batch<S>,
        node: *mut NodeOf<Self, S>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { Self::retire(section, node) };
    }
}
