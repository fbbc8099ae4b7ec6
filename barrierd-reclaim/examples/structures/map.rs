//! A concurrent hash map: a fixed table of ordered lists ([`List`]).

use super::list::List;
use barrierd_reclaim::{Guard, Reclaimer};
use std::hash::{BuildHasher, Hash, RandomState};

/// See the file's documentation.
#[derive(Debug)]
pub struct Map<K, V, S = RandomState> {
    // Before the reclaimer, though the order does not matter: lists free what they still hold.
    buckets: Box<[List<K, V>]>,
    hasher: S,
    reclaimer: Reclaimer,
}

impl<K: Ord + Hash + Send + Sync, V: Send + Sync, S: BuildHasher + Default> Map<K, V, S> {
    /// A map of `buckets` lists.
    pub fn new(reclaimer: Reclaimer, buckets: usize) -> Map<K, V, S> {
        let buckets = (0..buckets).map(|_| List::default()).collect();
        Map { buckets, hasher: S::default(), reclaimer }
    }

    /// The value of `key`, for as long as `guard` lives.
    pub fn get<'g>(&'g self, guard: &'g Guard<'_>, key: &K) -> Option<&'g V> {
        self.bucket(guard, key).get(guard, key)
    }

    /// Adds an entry. False: the key is there already, and `value` is dropped.
    pub fn insert(&self, guard: &Guard<'_>, key: K, value: V) -> bool {
        self.bucket(guard, &key).insert(guard, key, value)
    }

    /// Removes an entry, and shows its value to `taken` before it is retired. False: the key is not
    /// there.
    pub fn remove(&self, guard: &Guard<'_>, key: &K, taken: impl FnOnce(&V)) -> bool {
        self.bucket(guard, key).remove(guard, key, taken)
    }

    fn bucket(&self, guard: &Guard<'_>, key: &K) -> &List<K, V> {
        assert!(guard.belongs_to(&self.reclaimer), "a guard of another reclaimer");
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).expect("32 bits");
        &self.buckets[hash % self.buckets.len()]
    }
}
