//! This thread's record in each domain that it has used.
//!
//! This file owns the thread-local registry and its fast path: the last domain that the thread used, which is found
//! without a destructor, a lock or a search. A thread that exits hands its records over.
//!
//! Domains are named by ids that are never used twice, so an entry of a domain that is gone can't be mistaken for
//! another's. The fast path names them by address: as long as there is an entry, no other domain gets the memory that
//! it leads to ([`Weak`]).

use crate::domain::Domain;
use crate::engine::record::Record;
use crate::sync::real::AtomicU64;
use core::cell::{Cell, RefCell};
use core::hash::{BuildHasherDefault, Hasher};
use core::ptr;
use core::sync::atomic::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Weak;

/// A domain's name. 0 names no domain.
pub(crate) type DomainId = u64;

/// Returns a name for a new domain.
pub(crate) fn next_id() -> DomainId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

struct Entry {
    domain: Weak<Domain>,
    record: *const Record,
}

impl Entry {
    /// The same, on the background thread.
    fn hand_over_in_background(self) {
        if let Some(domain) = self.domain.upgrade() {
            // SAFETY: the domain is alive, so its records are. This thread owned the record (the registry
            // said so), and has forgotten it.
            unsafe { domain.hand_over_in_background(&*self.record) };
        }
    }
}

struct Registry {
    entries: HashMap<DomainId, Entry, BuildHasherDefault<IdHasher>>,
    /// At this number of entries, those of domains that are gone are taken out, at a constant price for each entry.
    crowded: usize,
}

/// Fewer entries than this are never searched for domains that are gone.
const LEAST_CROWDED: usize = 8;

/// Ids are consecutive numbers, and no user chooses them, so an odd factor spreads them well enough.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("an id is a u64");
    }

    fn write_u64(&mut self, id: u64) {
        // 2^64 divided by the golden ratio (Knuth, "Sorting and Searching", 6.4): neighbours differ in the upper bits
        // of the product, which the map uses as well as the lower ones.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Registry {
    const fn new() -> Registry {
        Registry {
            entries: HashMap::with_hasher(BuildHasherDefault::new()),
            crowded: LEAST_CROWDED,
        }
    }

    fn make_room(&mut self) {
        if self.entries.len() >= self.crowded {
            // The last domain may be among those that are taken out, and then another domain may get its memory.
            LAST.set(NONE);
            self.entries.retain(|_, entry| entry.domain.strong_count() > 0);
            self.crowded = LEAST_CROWDED.max(2 * self.entries.len());
            self.entries.shrink_to(self.crowded);
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        LAST.set(NONE);
        for (_, entry) in self.entries.drain() {
            if let Some(domain) = entry.domain.upgrade() {
                // SAFETY: the domain is alive, so its records are. This thread owns the record
                // (the registry says so) and forgets it here.
                unsafe { domain.hand_over(&*entry.record) };
            }
        }
    }
}

/// In [`LAST`]: no domain.
const NONE: (*const Domain, *const Record) = (ptr::null(), ptr::null());

thread_local! {
    /// The domain that this thread used last, if its readers need no fence, and the record there. It is among the
    /// registry's entries, or null.
    static LAST: Cell<(*const Domain, *const Record)> = const { Cell::new(NONE) };
    static REGISTRY: RefCell<Registry> = const { RefCell::new(Registry::new()) };
}

/// Returns this thread's record in `domain`, if the thread used that domain last and its readers need no fence. The
/// record lives as long as the domain.
///
/// The domain is found by its address, which `pin` uses next. While the address is in `LAST` no other domain has it:
/// the entry in the registry keeps the memory, though not the domain.
#[inline]
pub(crate) fn last(domain: &Domain) -> Option<*const Record> {
    let (last, record) = LAST.get();
    if ptr::eq(last, domain) { Some(record) } else { None }
}

/// Returns this thread's record in `domain`, registering the thread if necessary. Returns `None` if the thread is so
/// far into its exit that nothing can be registered any more.
#[cold]
pub(crate) fn find(id: DomainId, domain: &Arc<Domain>) -> Option<*const Record> {
    REGISTRY
        .try_with(|registry| {
            let mut registry = registry.borrow_mut();
            let known = registry.entries.get(&id).map(|entry| entry.record);
            let record = known.unwrap_or_else(|| {
                registry.make_room();
                let record: *const Record = domain.acquire();
                registry.entries.insert(id, Entry { domain: Arc::downgrade(domain), record });
                record
            });
            if !domain.readers_fence() {
                LAST.set((Arc::as_ptr(domain), record));
            }
            record
        })
        .ok()
}

/// Gives the background thread's record in domain `id` up.
pub(crate) fn leave(id: DomainId) {
    let entry = REGISTRY.try_with(|registry| registry.borrow_mut().entries.remove(&id));
    let Ok(Some(entry)) = entry else { return };
    if LAST.get().0 == entry.domain.as_ptr() {
        LAST.set(NONE);
    }
    entry.hand_over_in_background();
}

/// Gives all of the background thread's records up. A record that guards of foreign code still hold is given back at
/// the end of the last guard. Records of a parent's domains stay, since no thread could take them.
pub(crate) fn leave_all() {
    // The registry is not borrowed meanwhile, since dropping a domain last drops what its hooks own.
    let take = |registry: &RefCell<Registry>| core::mem::take(&mut registry.borrow_mut().entries);
    let entries = REGISTRY.try_with(take).unwrap_or_default();
    if entries.is_empty() {
        return;
    }
    LAST.set(NONE);
    for (id, entry) in entries {
        if entry.domain.upgrade().is_some_and(|domain| domain.is_forked()) {
            REGISTRY.with(|registry| registry.borrow_mut().entries.insert(id, entry));
        } else {
            entry.hand_over_in_background();
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::{Reclaimer, Source};

    #[test]
    fn a23_a_thread_forgets_domains_that_are_gone() {
        let make = || Reclaimer::builder().source(Source::Fence).build().expect("always");
        let entries = || REGISTRY.with(|registry| registry.borrow().entries.len());
        let kept: Vec<_> = (0..100).map(|_| make()).collect();
        let pin_all = || kept.iter().for_each(|reclaimer| drop(reclaimer.pin()));
        pin_all();
        for _ in 0..10_000 {
            drop(make().pin());
        }
        assert!((100..=200).contains(&entries()), "{}", entries());
        pin_all();
        assert!(kept.iter().all(|reclaimer| reclaimer.domain().records().count() == 1));
    }

    /// The fast path uses an address, which another domain may get once nothing keeps the memory.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn what_was_used_last_is_among_the_entries() {
        let make = |source| Reclaimer::builder().source(source).build().expect("always");
        let used = || {
            let (last, _) = LAST.get();
            let known = |registry: &RefCell<Registry>| {
                registry.borrow().entries.values().any(|entry| entry.domain.as_ptr() == last)
            };
            assert!(last.is_null() || REGISTRY.with(known), "it leads to nobody's memory");
            last
        };
        let gone = make(Source::Membarrier);
        drop(gone.pin());
        assert!(ptr::eq(used(), gone.domain()));
        drop(gone);
        used();
        // Domains whose readers fence are never found this way. They push the other one out.
        for _ in 0..2 * LEAST_CROWDED {
            drop(make(Source::Fence).pin());
            used();
        }
        assert!(used().is_null());
    }

    /// As on the background thread: records that foreign code took there are given back, except those that it still
    /// holds.
    #[test]
    fn a18_a_thread_leaves_all_its_places() {
        let make = || Reclaimer::builder().source(Source::Fence).build().expect("always");
        let kept: Vec<_> = (0..4).map(|_| make()).collect();
        let in_use = || kept.iter().flat_map(|reclaimer| reclaimer.domain().records()).count();
        let (guard, robust, hazard) = (kept[0].pin(), kept[1].pin_robust(), kept[2].hazard());
        drop(kept[3].pin());
        assert_eq!(in_use(), 4);
        leave_all();
        assert_eq!(in_use(), 3);
        assert_eq!(kept[0].blockers().len(), 1);
        drop(guard);
        assert_eq!(in_use(), 2);
        // Another record beside the one that is still held.
        drop((kept[1].pin(), kept[1].pin_robust()));
        leave_all();
        assert_eq!(in_use(), 2);
        drop((robust, hazard));
        assert_eq!(in_use(), 0);
    }
}
