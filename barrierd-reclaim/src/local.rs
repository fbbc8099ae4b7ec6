//! Which record is this thread's in which domain.
//!
//! Owns the thread-local registry and its fast path: the last domain that the thread used, found
//! without a destructor, a lock or a search. A thread that exits hands its records over.
//!
//! Domains are named by ids that are never used twice, so an entry of a domain that is gone can't
//! be mistaken for another's.

use crate::domain::Domain;
use crate::record::Record;
use core::cell::{Cell, RefCell};
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::sync::Weak;

/// A domain's name. 0 is none.
pub(crate) type DomainId = u64;

/// A name for a new domain.
pub(crate) fn next_id() -> DomainId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Entry {
    id: DomainId,
    domain: Weak<Domain>,
    record: *const Record,
}

struct Registry {
    entries: Vec<Entry>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        LAST.set((0, ptr::null()));
        for entry in self.entries.drain(..) {
            if let Some(domain) = entry.domain.upgrade() {
                // SAFETY: the domain is alive, so its records are. This thread owns the record
                // (the registry says so) and forgets it here.
                unsafe { domain.hand_over(&*entry.record) };
            }
        }
    }
}

thread_local! {
    /// The domain last used by this thread, if its readers need no fence, and the record there.
    static LAST: Cell<(DomainId, *const Record)> = const { Cell::new((0, ptr::null())) };
    static REGISTRY: RefCell<Registry> = const { RefCell::new(Registry { entries: Vec::new() }) };
}

/// This thread's record in domain `id`, if the thread used that domain last and its readers need
/// no fence. The record lives as long as the domain.
#[inline]
pub(crate) fn last(id: DomainId) -> Option<*const Record> {
    let (last, record) = LAST.get();
    if last == id { Some(record) } else { None }
}

/// This thread's record in `domain`, registering it if need be. `None`: the thread is so far into
/// its exit that nothing can be registered any more.
#[cold]
pub(crate) fn find(id: DomainId, domain: &Arc<Domain>) -> Option<*const Record> {
    REGISTRY
        .try_with(|registry| {
            let mut registry = registry.borrow_mut();
            let known =
                registry.entries.iter().find(|entry| entry.id == id).map(|entry| entry.record);
            let record = known.unwrap_or_else(|| {
                registry.entries.retain(|entry| entry.domain.strong_count() > 0);
                let record: *const Record = domain.acquire();
                registry.entries.push(Entry { id, domain: Arc::downgrade(domain), record });
                record
            });
            if !domain.readers_fence() {
                LAST.set((id, record));
            }
            record
        })
        .ok()
}

/// Gives the background thread's record in domain `id` up.
pub(crate) fn leave(id: DomainId) {
    let entry = REGISTRY.try_with(|registry| {
        let entries = &mut registry.borrow_mut().entries;
        entries.iter().position(|entry| entry.id == id).map(|index| entries.swap_remove(index))
    });
    let Ok(Some(entry)) = entry else { return };
    if LAST.get().0 == id {
        LAST.set((0, ptr::null()));
    }
    if let Some(domain) = entry.domain.upgrade() {
        // SAFETY: the domain is alive, so its records are. This thread owned the record, and has
        // forgotten it.
        unsafe { domain.hand_over_behind(&*entry.record) };
    }
}
