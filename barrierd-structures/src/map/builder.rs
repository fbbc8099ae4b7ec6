//! How a map is made, and how full it gets.

use super::Map;
use super::count::Count;
use super::list::List;
use barrierd_reclaim::Reclaimer;
use std::hash::RandomState;

/// The entries that there is room for in a map that was made without a capacity: 16 buckets.
const FEWEST: usize = 12;

/// The number of entries at which a table of so many buckets is full: three for four buckets. A found key is then the 1.4th of its
/// list on average, at most, and every other bucket is empty.
pub(super) fn room(buckets: usize) -> usize {
    buckets - buckets / 4
}

/// The number of buckets that has room for so many entries, before it is rounded up.
fn buckets_for(entries: usize) -> usize {
    entries.saturating_add(entries.div_ceil(3))
}

/// Makes a map with settings of its own: [`Map::builder`].
#[derive(Clone, Debug)]
#[must_use = "it makes a map by `build`"]
pub struct MapBuilder<S = RandomState> {
    capacity: usize,
    hasher: S,
    reclaimer: Option<Reclaimer>,
}

impl<S> MapBuilder<S> {
    /// Makes room for so many entries, so that the table does not grow before that. The default is 12.
    pub fn capacity(mut self, entries: usize) -> MapBuilder<S> {
        self.capacity = entries;
        self
    }

    /// Takes another hasher. The default is [`RandomState`].
    pub fn hasher<H>(self, hasher: H) -> MapBuilder<H> {
        MapBuilder { capacity: self.capacity, hasher, reclaimer: self.reclaimer }
    }

    /// Takes a reclaimer of one's own, so that what is removed does not wait for readers of other structures, or for settings of
    /// its own. The default is the process's, [`Reclaimer::global`].
    pub fn reclaimer(mut self, reclaimer: &Reclaimer) -> MapBuilder<S> {
        self.reclaimer = Some(reclaimer.clone());
        self
    }

    /// Makes the map.
    ///
    /// # Panics
    /// If the capacity is more than fits into memory.
    pub fn build<K, V>(self) -> Map<K, V, S> {
        Map {
            list: List::new(buckets_for(self.capacity)),
            hasher: self.hasher,
            reclaimer: self.reclaimer.unwrap_or_else(|| Reclaimer::global().clone()),
            count: Count::new(),
        }
    }
}

impl Map<(), ()> {
    /// Returns a builder, for a map with a capacity, a hasher or a reclaimer of its own.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use barrierd_structures::Map;
    ///
    /// let own = Reclaimer::new();
    /// let map: Map<String, u32> = Map::builder().capacity(1000).reclaimer(&own).build();
    /// let guard = own.pin();
    /// assert_eq!(map.get("a", &guard), None);
    /// ```
    pub fn builder() -> MapBuilder {
        MapBuilder { capacity: FEWEST, hasher: RandomState::new(), reclaimer: None }
    }
}
