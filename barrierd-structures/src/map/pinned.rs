//! A map together with an open section, so that calls need no guard.

use super::iter::{Iter, Keys, Values};
use super::write::OccupiedError;
use super::{Compute, Map, Operation};
use barrierd_reclaim::{Guard, Handle};
use core::borrow::Borrow;
use core::fmt;
use core::hash::{BuildHasher, Hash};

/// A map and an open section of its reclaimer: what the methods return lives as long as this view.
///
/// Made by [`Map::pin`] or [`MapHandle::pin`]. Each method does what the [`Map`]'s of the same name does, with its costs and
/// panics. It stays on its thread, and no `.await` may lie in its life: see [`Map`](Map#across-an-await). While it lives, what is removed from the map, and from all structures of the
/// same reclaimer, is not dropped; so don't keep it for long, or [`repin`](Pinned::repin) it now and then.
///
/// ```
/// use barrierd_structures::Map;
///
/// let map = Map::new();
/// let mut view = map.pin();
/// for n in 0..1000 {
///     view.insert(n % 10, n);
///     if n % 100 == 0 {
///         view.repin(); // what was replaced so far may go
///     }
/// }
/// assert_eq!(view.len(), 10);
/// ```
#[must_use = "it does nothing by itself"]
pub struct Pinned<'p, K, V, S = std::hash::RandomState> {
    map: &'p Map<K, V, S>,
    /// Of the map's reclaimer.
    guard: Guard<'p>,
}

/// A map in a thread's hot loop: it keeps what [`Map::pin`] has to look for.
///
/// Made by [`Map::handle`]. It may be sent to another thread, but not shared; it counts as a thread of its own
/// ([`Handle`]).
///
/// ```
/// use barrierd_structures::Map;
///
/// let map = Map::from([(1, "a")]);
/// let mut handle = map.handle();
/// for _ in 0..10 {
///     assert_eq!(handle.pin().get(&1), Some(&"a"));
/// }
/// ```
pub struct MapHandle<'m, K, V, S = std::hash::RandomState> {
    map: &'m Map<K, V, S>,
    /// Of the map's reclaimer.
    handle: Handle,
}

impl<'m, K, V, S> MapHandle<'m, K, V, S> {
    pub(super) fn new(map: &'m Map<K, V, S>) -> MapHandle<'m, K, V, S> {
        MapHandle { map, handle: map.reclaimer.handle() }
    }

    /// Opens a section: two loads, a store and a test. The end of the view is one store.
    #[inline]
    pub fn pin(&mut self) -> Pinned<'_, K, V, S> {
        Pinned { map: self.map, guard: self.handle.pin() }
    }

    /// Returns the map.
    #[must_use]
    pub fn map(&self) -> &'m Map<K, V, S> {
        self.map
    }
}

impl<K, V, S> fmt::Debug for MapHandle<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapHandle").finish_non_exhaustive()
    }
}

impl<'p, K, V, S> Pinned<'p, K, V, S> {
    /// `guard` is of the map's reclaimer.
    #[inline]
    pub(super) fn new(map: &'p Map<K, V, S>, guard: Guard<'p>) -> Pinned<'p, K, V, S> {
        Pinned { map, guard }
    }

    /// Returns the map.
    #[must_use]
    pub fn map(&self) -> &'p Map<K, V, S> {
        self.map
    }

    /// Returns the guard, for calls of other structures of the same reclaimer.
    pub fn guard(&self) -> &Guard<'p> {
        &self.guard
    }

    /// Ends the section and opens the next, so that what was removed meanwhile can be dropped: [`Guard::repin`].
    pub fn repin(&mut self) -> bool {
        self.guard.repin()
    }

    /// See [`Map::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// See [`Map::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// See [`Map::iter`].
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.map.iter(&self.guard)
    }

    /// See [`Map::keys`].
    pub fn keys(&self) -> Keys<'_, K, V> {
        self.map.keys(&self.guard)
    }

    /// See [`Map::values`].
    pub fn values(&self) -> Values<'_, K, V> {
        self.map.values(&self.guard)
    }
}

impl<K: Hash + Eq, V, S: BuildHasher> Pinned<'_, K, V, S> {
    /// See [`Map::get`].
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// See [`Map::get_key_value`].
    #[inline]
    pub fn get_key_value<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        // SAFETY: the guard is of the map's reclaimer, and lives as long as `&self`.
        unsafe { self.map.lookup(key) }.map(|node| (&node.key, &node.value))
    }

    /// See [`Map::contains_key`].
    #[inline]
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.get_key_value(key).is_some()
    }
}

impl<K: Hash + Eq + Send + 'static, V: Send + 'static, S: BuildHasher> Pinned<'_, K, V, S> {
    /// See [`Map::insert`].
    pub fn insert(&self, key: K, value: V) -> Option<&V> {
        self.map.insert(key, value, &self.guard)
    }

    /// See [`Map::try_insert`].
    ///
    /// # Errors
    /// Returns the value that is there, and the entry that was to be inserted.
    pub fn try_insert(&self, key: K, value: V) -> Result<&V, OccupiedError<'_, K, V>> {
        self.map.try_insert(key, value, &self.guard)
    }

    /// See [`Map::get_or_insert`].
    pub fn get_or_insert(&self, key: K, value: V) -> &V {
        self.map.get_or_insert(key, value, &self.guard)
    }

    /// See [`Map::get_or_insert_with`].
    pub fn get_or_insert_with(&self, key: K, make: impl FnOnce() -> V) -> &V {
        self.map.get_or_insert_with(key, make, &self.guard)
    }

    /// See [`Map::update`].
    pub fn update(&self, key: K, change: impl FnMut(&V) -> V) -> Option<&V> {
        self.map.update(key, change, &self.guard)
    }

    /// See [`Map::update_or_insert`].
    pub fn update_or_insert(&self, key: K, change: impl FnMut(&V) -> V, value: V) -> &V {
        self.map.update_or_insert(key, change, value, &self.guard)
    }

    /// See [`Map::update_or_insert_with`].
    pub fn update_or_insert_with(
        &self,
        key: K,
        change: impl FnMut(&V) -> V,
        make: impl FnOnce() -> V,
    ) -> &V {
        self.map.update_or_insert_with(key, change, make, &self.guard)
    }

    /// See [`Map::compute`].
    pub fn compute<'g, R>(
        &'g self,
        key: K,
        decide: impl FnMut(Option<(&'g K, &'g V)>) -> Operation<V, R>,
    ) -> Compute<'g, K, V, R> {
        self.map.compute(key, decide, &self.guard)
    }

    /// See [`Map::remove`].
    pub fn remove<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.remove(key, &self.guard)
    }

    /// See [`Map::remove_entry`].
    pub fn remove_entry<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.remove_entry(key, &self.guard)
    }

    /// See [`Map::remove_if`].
    ///
    /// # Errors
    /// Returns the entry that stays.
    pub fn remove_if<Q>(
        &self,
        key: &Q,
        is_to_go: impl FnMut(&K, &V) -> bool,
    ) -> Result<Option<(&K, &V)>, (&K, &V)>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.map.remove_if(key, is_to_go, &self.guard)
    }

    /// See [`Map::retain`].
    pub fn retain(&self, is_to_stay: impl FnMut(&K, &V) -> bool) {
        self.map.retain(is_to_stay, &self.guard);
    }

    /// See [`Map::clear`].
    pub fn clear(&self) {
        self.map.clear(&self.guard);
    }
}

impl<'v, K, V, S> IntoIterator for &'v Pinned<'_, K, V, S> {
    type Item = (&'v K, &'v V);
    type IntoIter = Iter<'v, K, V>;

    fn into_iter(self) -> Iter<'v, K, V> {
        self.iter()
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Pinned<'_, K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}
