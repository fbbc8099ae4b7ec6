//! Lookups.

use super::Map;
use super::node::Node;
use barrierd_reclaim::Guard;
use core::borrow::Borrow;
use core::hash::{BuildHasher, Hash};

impl<K: Hash + Eq, V, S: BuildHasher> Map<K, V, S> {
    /// The hash by which entries are ordered.
    ///
    /// Buckets are told apart by its first bits. The product's depend on all of the hasher's, also where that gives small numbers.
    /// With 64 bits it is one to one, so it makes no two hashes equal; with 32 the last half is left out.
    #[inline]
    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        let product = self.hasher.hash_one(key).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "no bits are left that it could cut off"
        )]
        let first = (product >> (u64::BITS - usize::BITS)) as usize;
        first
    }

    /// # Safety
    /// A section of the map's reclaimer is open for `'g`.
    #[inline]
    pub(super) unsafe fn lookup<'g, Q>(&'g self, key: &Q) -> Option<&'g Node<K, V>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        // SAFETY: the caller's promise.
        unsafe { self.list.lookup(hash, |own| own.borrow() == key) }
    }

    /// Returns the value of a key.
    ///
    /// It runs no fence and no atomic read-modify-write, and waits for nobody. If the key's own value is replaced again and again
    /// just as it looks, it follows. In a table that was made for many entries or had room
    /// [reserved](Map::reserve), and seldom in one that grew, the first search in a bucket also puts the bucket into the list.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::from([(String::from("a"), 1)]);
    /// let guard = map.reclaimer().pin();
    /// assert_eq!(map.get("a", &guard), Some(&1));
    /// assert_eq!(map.get("b", &guard), None);
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. Whatever `Hash` and `Eq` of the key panic with comes out, and changes nothing; so it is
    /// with all methods.
    #[inline]
    pub fn get<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<&'g V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.check(guard);
        // SAFETY: the guard is of the map's reclaimer.
        unsafe { self.lookup(key) }.map(|node| &node.value)
    }

    /// Returns the key that is in the map, and its value: as [`get`](Map::get).
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    #[inline]
    pub fn get_key_value<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<(&'g K, &'g V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.check(guard);
        // SAFETY: the guard is of the map's reclaimer.
        unsafe { self.lookup(key) }.map(|node| (&node.key, &node.value))
    }

    /// Returns whether the key is there: as [`get`](Map::get).
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    #[inline]
    pub fn contains_key<Q>(&self, key: &Q, guard: &Guard<'_>) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get(key, guard).is_some()
    }

    /// Returns the value of a key, to be changed in place: nobody else has the map.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let mut map = Map::from([("a", 1)]);
    /// *map.get_mut("a").unwrap() += 1;
    /// assert_eq!(map.pin().get("a"), Some(&2));
    /// ```
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hash(key);
        self.list.get_mut(hash, |own| own.borrow() == key)
    }
}
