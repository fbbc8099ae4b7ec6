//! The models' scheme: it frees nothing before the end, and then each node once.
//!
//! What a real scheme does meanwhile is the reclaimer's own to prove. That a retired node can't be found any more is checked
//! here, at the end.

use crate::nodes::{Bare, Nodes};
use crate::protect::Protect;
use crate::sync::{AtomicPtr, Ordering::Acquire};
use loom::thread;
use std::sync::{Arc, Mutex};

/// A node that was retired: its address, by whom, and how it is freed.
struct Grave {
    address: usize,
    by: thread::ThreadId,
    free: Box<dyn FnOnce()>,
}

/// What was retired.
#[derive(Clone, Default)]
pub(super) struct Graveyard(Arc<Mutex<Vec<Grave>>>);

// SAFETY: nodes go from thread to thread as values do; it is locked.
unsafe impl Send for Graveyard {}
// SAFETY: as above.
unsafe impl Sync for Graveyard {}

impl Graveyard {
    /// Returns whether a node was retired, by anybody or by this thread.
    pub(super) fn has(&self, address: usize, by: Option<thread::ThreadId>) -> bool {
        let all = self.0.lock().unwrap();
        all.iter().any(|grave| grave.address == address && by.is_none_or(|by| by == grave.by))
    }

    /// Frees them, at the end.
    pub(super) fn free(&self) {
        let all = core::mem::take(&mut *self.0.lock().unwrap());
        all.into_iter().for_each(|grave| (grave.free)());
    }
}

/// Nodes that are freed late.
pub(super) enum Boxed {}

impl Nodes for Boxed {
    type Domain = Graveyard;
    type Node<S> = Bare<S>;

    fn alloc<S>(_: &Graveyard, value: S) -> *mut Bare<S> {
        Box::into_raw(Box::new(Bare(value)))
    }

    unsafe fn free<S>(node: *mut Bare<S>) {
        // SAFETY: the caller's promise: from `alloc`.
        drop(unsafe { Box::from_raw(node) });
    }

    unsafe fn retire<S: Send>(graves: &Graveyard, node: *mut Bare<S>) {
        assert!(!graves.has(node.addr(), None), "retired twice");
        // SAFETY: from `alloc`, freed once, at the end.
        let free = Box::new(move || unsafe { Self::free(node) });
        // SAFETY: only the lifetime is changed; a node borrows nothing, and all are freed within the model.
        let free: Box<dyn FnOnce()> =
            unsafe { core::mem::transmute(free as Box<dyn FnOnce() + '_>) };
        let by = thread::current().id();
        graves.0.lock().unwrap().push(Grave { address: node.addr(), by, free });
    }
}

/// The scheme.
pub(super) enum Late {}

impl Protect for Late {
    type Nodes = Boxed;
    type Section<'s> = Graveyard;

    fn protect<S>(section: &mut Graveyard, source: &AtomicPtr<Bare<S>>) -> *mut Bare<S> {
        let node = source.load(Acquire);
        // What others retire meanwhile may still be found. What this thread retired before may not.
        let own = Some(thread::current().id());
        assert!(!section.has(node.addr(), own), "found after it was retired");
        node
    }

    unsafe fn retire<S: Send>(section: &mut Graveyard, node: *mut Bare<S>) {
        // SAFETY: the caller's promise.
        unsafe { Boxed::retire(section, node) };
    }

    type Batch<S> = Pair<S>;

    fn batch<S>(graves: &Graveyard) -> Pair<S> {
        Pair { node: None, graves: graves.clone() }
    }

    unsafe fn retire_later<S: Send>(
        section: &mut Graveyard,
        batch: &mut Pair<S>,
        node: *mut Bare<S>,
    ) {
        match batch.node.take() {
            None => batch.node = Some((node, Self::retire)),
            // SAFETY: the caller's promise, of both.
            Some((first, _)) => unsafe {
                Self::retire(section, first);
                Self::retire(section, node);
            },
        }
    }
}

/// A batch of the models: a node waits until there is a second one.
pub(super) struct Pair<S> {
    /// And how it is retired.
    node: Option<(*mut Bare<S>, unsafe fn(&mut Graveyard, *mut Bare<S>))>,
    graves: Graveyard,
}

// SAFETY: memory only.
unsafe impl<S> Send for Pair<S> {}

impl<S> Drop for Pair<S> {
    fn drop(&mut self) {
        // Where a model has failed, loom is in no state to be asked for its threads.
        if std::thread::panicking() {
            return;
        }
        if let Some((node, retire)) = self.node.take() {
            // SAFETY: what `retire_later` was promised, and not retired yet.
            unsafe { retire(&mut self.graves, node) };
        }
    }
}
