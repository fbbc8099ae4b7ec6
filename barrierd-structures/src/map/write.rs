//! Insertion, removal, update.

use super::list::Place;
use super::node::{Draft, Node};
use super::{List, Map};
use barrierd_reclaim::Guard;
use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};

/// What [`Map::try_insert`] returns if the key is there: the value there, and what was not inserted.
pub struct OccupiedError<'g, K, V> {
    /// The value that the map has.
    pub current: &'g V,
    /// The key that was to be inserted.
    pub key: K,
    /// The value that was not inserted.
    pub value: V,
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for OccupiedError<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedError")
            .field("current", &self.current)
            .field("key", &self.key)
            .field("value", &self.value)
            .finish()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Display for OccupiedError<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OccupiedError { current, key, value } = self;
        write!(f, "failed to insert {value:?}, key {key:?} already exists with value {current:?}")
    }
}

impl<K: fmt::Debug, V: fmt::Debug> core::error::Error for OccupiedError<'_, K, V> {}

/// What was there, and what is there now.
pub(super) type Exchanged<'g, K, V> = (Option<&'g Node<K, V>>, &'g Node<K, V>);

// Entries are retired to the reclaimer, which drops them on any thread (`Send`), as late as it likes (`'static`).
impl<K: Hash + Eq + Send + 'static, V: Send + 'static, S: BuildHasher> Map<K, V, S> {
    /// The place of a key.
    pub(super) fn place<'g, Q>(
        &'g self,
        hash: usize,
        key: &Q,
        guard: &'g Guard<'_>,
    ) -> Place<'g, K, V>
    where
        K: Borrow<Q>,
        Q: Eq + ?Sized,
    {
        debug_assert!(guard.belongs_to(&self.reclaimer));
        // SAFETY: the guard is of the map's reclaimer: those who call this have checked it. Nodes may be dropped on any thread
        // at any time by the bounds above.
        unsafe { self.list.find(guard, hash, |own| own.borrow() == key) }
    }

    /// Returns whether it is known without a search that there is no entry of this hash.
    #[inline]
    fn is_absent(&self, hash: usize, guard: &Guard<'_>) -> bool {
        debug_assert!(guard.belongs_to(&self.reclaimer));
        // SAFETY: as in `place`.
        unsafe { self.list.filters.rule_out(hash) }
    }

    /// Puts a node where a search has found none or an old one. Fails if something has changed there.
    pub(super) fn put<'g>(
        &'g self,
        place: &Place<'g, K, V>,
        new: Draft<K, V>,
        guard: &'g Guard<'_>,
    ) -> Result<Exchanged<'g, K, V>, Draft<K, V>> {
        match place.found {
            None => {
                // SAFETY: as in `place`, which was found in this section.
                let new = unsafe { self.list.insert(guard, place, new) }?;
                self.one_more(guard);
                Ok((None, new))
            }
            Some(found) => {
                // SAFETY: as in `place`; the entry was found there.
                let new = unsafe { self.list.replace(guard, place, found, new) }?;
                Ok((Some(found), new))
            }
        }
    }

    /// Puts a node where a search has found none, and searches again as long as others change something beside it. Fails
    /// once an entry is there.
    pub(super) fn put_absent<'g>(
        &'g self,
        mut place: Place<'g, K, V>,
        mut new: Draft<K, V>,
        guard: &'g Guard<'_>,
    ) -> Result<&'g Node<K, V>, Draft<K, V>> {
        while place.found.is_none() {
            match self.put(&place, new, guard) {
                Ok((_, new)) => return Ok(new),
                Err(again) => new = again,
            }
            place = self.place(new.hash(), new.key(), guard);
        }
        Err(new)
    }

    /// Removes the node that was found. Fails if that is done by now.
    pub(super) fn take<'g>(&'g self, place: &Place<'g, K, V>, guard: &'g Guard<'_>) -> bool {
        let Some(found) = place.found else { return false };
        let Some(to) = List::mark(found) else { return false };
        self.count.add(-1);
        // SAFETY: as in `place`; marked above.
        unsafe { self.list.unlink(guard, Some(place), found, to) };
        true
    }

    /// Inserts an entry, in the place of one with the same key, if there is one, whose value is returned. (The key is the new one
    /// then: what others hold of the old entry stays as it is.) Readers find the old value or the new one, at each moment.
    ///
    /// It costs an allocation, a search and one compare-exchange; where it replaces, another one and a `retire`. Lock-free.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::new();
    /// let guard = map.reclaimer().pin();
    /// assert_eq!(map.insert(1, "a", &guard), None);
    /// assert_eq!(map.insert(1, "b", &guard), Some(&"a"));
    /// assert_eq!(map.get(&1, &guard), Some(&"b"));
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If the drop of an older entry panics, the panic may come out here, as out of
    /// [`retire`](barrierd_reclaim::Reclaimer::retire_with), before or after the work is done. The map is whole then, and nothing is
    /// lost. So it is with all methods that change the map.
    pub fn insert<'g>(&'g self, key: K, value: V, guard: &'g Guard<'_>) -> Option<&'g V> {
        self.check(guard);
        let hash = self.hash(&key);
        // While the node is allocated.
        // SAFETY: the guard is of the map's reclaimer.
        unsafe { self.list.fetch(hash) };
        let mut new = Draft::new(hash, key, value);
        loop {
            let place = self.place(hash, new.key(), guard);
            match self.put(&place, new, guard) {
                Ok((old, _)) => return old.map(|node| &node.value),
                Err(again) => new = again,
            }
        }
    }

    /// Inserts an entry if the key is not there, and returns the value in the map.
    ///
    /// It costs what [`insert`](Map::insert) costs; a search, if the key is there. Lock-free.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::new();
    /// let map = map.pin();
    /// assert_eq!(*map.try_insert(1, "a").unwrap(), "a");
    /// let error = map.try_insert(1, "b").unwrap_err();
    /// assert_eq!((*error.current, error.value), ("a", "b"));
    /// ```
    ///
    /// # Errors
    /// Returns the value that is there, and the entry that was to be inserted.
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn try_insert<'g>(
        &'g self,
        key: K,
        value: V,
        guard: &'g Guard<'_>,
    ) -> Result<&'g V, OccupiedError<'g, K, V>> {
        self.check(guard);
        let hash = self.hash(&key);
        // The first search comes before the allocation.
        let mut place = self.place(hash, &key, guard);
        if let Some(found) = place.found {
            return Err(OccupiedError { current: &found.value, key, value });
        }
        let mut new = Draft::new(hash, key, value);
        loop {
            if let Some(found) = place.found {
                let (key, value) = new.into_parts();
                return Err(OccupiedError { current: &found.value, key, value });
            }
            match self.put(&place, new, guard) {
                Ok((_, new)) => return Ok(&new.value),
                Err(again) => new = again,
            }
            place = self.place(hash, new.key(), guard);
        }
    }

    /// Returns the value of a key, which is inserted if the key is not there.
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn get_or_insert<'g>(&'g self, key: K, value: V, guard: &'g Guard<'_>) -> &'g V {
        self.try_insert(key, value, guard).unwrap_or_else(|there| there.current)
    }

    /// Returns the value of a key; if the key is not there, `make` makes its value. If another thread inserts one meanwhile, that
    /// one is returned, and the one that was made is dropped.
    ///
    /// It costs a search if the key is there. Lock-free, apart from `make`.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::new();
    /// let map = map.pin();
    /// assert_eq!(map.get_or_insert_with("a", || 1), &1);
    /// assert_eq!(map.get_or_insert_with("a", || unreachable!()), &1);
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `make` panics, the map is as before.
    pub fn get_or_insert_with<'g>(
        &'g self,
        key: K,
        make: impl FnOnce() -> V,
        guard: &'g Guard<'_>,
    ) -> &'g V {
        match self.get(&key, guard) {
            Some(value) => value,
            None => self.get_or_insert(key, make(), guard),
        }
    }

    /// Removes a key, and returns its value.
    ///
    /// It costs a search, two compare-exchanges and a `retire`. Lock-free.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::from([(1, "a")]);
    /// let guard = map.reclaimer().pin();
    /// assert_eq!(map.remove(&1, &guard), Some(&"a"));
    /// assert_eq!(map.remove(&1, &guard), None);
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn remove<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<&'g V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_entry(key, guard).map(|(_, value)| value)
    }

    /// Removes a key, and returns it with its value: as [`remove`](Map::remove).
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn remove_entry<'g, Q>(&'g self, key: &Q, guard: &'g Guard<'_>) -> Option<(&'g K, &'g V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.remove_if(key, |_, _| true, guard).unwrap_or_else(|_| unreachable!("always to go"))
    }

    /// Removes a key if `is_to_go` says so of its entry. If the entry is replaced meanwhile, `is_to_go` is called again, with the one
    /// that is there then. (A closure that replaces it itself each time is called for ever; it may change other keys.)
    ///
    /// It costs what [`remove`](Map::remove) costs. Lock-free, apart from `is_to_go`.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::from([("a", 1)]);
    /// let map = map.pin();
    /// assert_eq!(map.remove_if("a", |_, count| *count == 0), Err((&"a", &1)));
    /// assert_eq!(map.remove_if("a", |_, count| *count == 1), Ok(Some((&"a", &1))));
    /// assert_eq!(map.remove_if("a", |_, _| true), Ok(None));
    /// ```
    ///
    /// # Errors
    /// Returns the entry that stays.
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `is_to_go` panics, the map is as before.
    pub fn remove_if<'g, Q>(
        &'g self,
        key: &Q,
        mut is_to_go: impl FnMut(&K, &V) -> bool,
        guard: &'g Guard<'_>,
    ) -> Result<Option<(&'g K, &'g V)>, (&'g K, &'g V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.check(guard);
        let hash = self.hash(key);
        if self.is_absent(hash, guard) {
            return Ok(None);
        }
        loop {
            let place = self.place(hash, key, guard);
            let Some(Node { key, value, .. }) = place.found else { return Ok(None) };
            if !is_to_go(key, value) {
                return Err((key, value));
            }
            if self.take(&place, guard) {
                return Ok(Some((key, value)));
            }
        }
    }

    /// Replaces the value of a key by what `change` makes of it, and returns the new one; `None` if the key is not there. If the
    /// value is replaced meanwhile, `change` is called again with what is there then: see [`remove_if`](Map::remove_if).
    ///
    /// It costs what [`insert`](Map::insert) costs. Lock-free, apart from `change`.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::from([("a", 1)]);
    /// let map = map.pin();
    /// assert_eq!(map.update("a", |count| count + 1), Some(&2));
    /// assert_eq!(map.update("b", |count| count + 1), None);
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `change` panics, the map is as before.
    pub fn update<'g>(
        &'g self,
        key: K,
        mut change: impl FnMut(&V) -> V,
        guard: &'g Guard<'_>,
    ) -> Option<&'g V> {
        self.check(guard);
        let hash = self.hash(&key);
        if self.is_absent(hash, guard) {
            return None;
        }
        let mut key = key;
        loop {
            let place = self.place(hash, &key, guard);
            let new = change(&place.found?.value);
            match self.put(&place, Draft::new(hash, key, new), guard) {
                Ok((_, new)) => return Some(&new.value),
                Err(again) => key = again.into_parts().0,
            }
        }
    }
}
