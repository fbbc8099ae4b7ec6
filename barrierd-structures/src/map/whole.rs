//! What concerns the whole map: how it grows, and what walks over all entries to remove some.

use super::builder::{buckets_for, room};
use super::{List, Map};
use barrierd_reclaim::Guard;
use core::hash::{BuildHasher, Hash};

impl<K: Hash + Eq + Send + 'static, V: Send + 'static, S: BuildHasher> Map<K, V, S> {
    /// Counts an insertion, and lets the table grow if it is time. To find that out, all parts of the count are added up; so
    /// a thread does it once in so many insertions of its own, all at most a quarter of the table.
    ///
    /// It also does a piece of what a growing table or, after that, the filter needs. The guard is of the map's reclaimer.
    pub(super) fn one_more(&self, guard: &Guard<'_>) {
        let own = self.count.add(1);
        let List { table, filters, .. } = &self.list;
        let buckets = table.buckets();
        let pace = (buckets / 64).max(1);
        if own.unsigned_abs() & (pace - 1) == 0 {
            if self.count.sum() > room(buckets) {
                table.grow(buckets);
            }
            // SAFETY: the guard is of the map's reclaimer.
            unsafe { filters.grown(guard, table.buckets()) };
        }
        // SAFETY: likewise; the table is that list's.
        unsafe {
            if !table.help() {
                filters.help(guard, table);
            }
        }
    }

    /// Makes room for so many more entries. It costs an allocation for each doubling, and one exchange.
    ///
    /// If the system has not as much memory, it leaves things as they are: the table grows when it must.
    ///
    /// # Panics
    /// With "capacity overflow", if the slots would take more than `isize::MAX` bytes.
    pub fn reserve(&self, additional: usize) {
        self.list.table.reserve(buckets_for(self.len().saturating_add(additional)));
    }

    /// Removes all entries that are there when it comes to them. What is inserted meanwhile may stay.
    ///
    /// It costs a walk, and two compare-exchanges and a `retire` for each entry; it calls neither the hasher nor `Eq`. Lock-free.
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn clear(&self, guard: &Guard<'_>) {
        self.retain(|_, _| false, guard);
    }

    /// Keeps only entries that `is_to_stay` says so of. If one is replaced before it is removed, `is_to_stay` is called again, with
    /// the entry that is there then.
    ///
    /// It costs a walk, and what [`clear`](Map::clear) costs for each that goes. Lock-free, apart from `is_to_stay`.
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `is_to_stay` panics, what it said before is done.
    pub fn retain(&self, is_to_stay: impl FnMut(&K, &V) -> bool, guard: &Guard<'_>) {
        self.check(guard);
        // SAFETY: the guard is of the map's reclaimer. Nodes may be dropped on any thread at any time by the bounds above.
        unsafe { self.list.retain(guard, is_to_stay, || self.count.add(-1)) };
    }
}
