//! The traits of the standard library that a map has.

use super::Map;
use core::fmt;
use core::hash::{BuildHasher, Hash};

/// The most entries that memory is taken for because an iterator says that it has so many. Beyond, the table grows as they come.
pub(super) const MOST_TRUSTED: usize = 1 << 16;

impl<K, V, S: Default> Default for Map<K, V, S> {
    fn default() -> Map<K, V, S> {
        Map::with_hasher(S::default())
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for Map<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter(&self.reclaimer.pin())).finish()
    }
}

/// On the same reclaimer, with the same hasher.
impl<K, V, S> Clone for Map<K, V, S>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + 'static,
    S: BuildHasher + Clone,
{
    fn clone(&self) -> Map<K, V, S> {
        let copy = Map::builder()
            .hasher(self.hasher.clone())
            .capacity(self.len())
            .reclaimer(&self.reclaimer)
            .build();
        for (key, value) in self.pin().iter() {
            copy.pin().insert(key.clone(), value.clone());
        }
        copy
    }
}

/// Whether both have the same entries. While others change one of them, that says little.
impl<K, V, S, T> PartialEq<Map<K, V, T>> for Map<K, V, S>
where
    K: Hash + Eq,
    V: PartialEq,
    S: BuildHasher,
    T: BuildHasher,
{
    fn eq(&self, other: &Map<K, V, T>) -> bool {
        let (own, theirs) = (self.pin(), other.pin());
        self.len() == other.len()
            && own.iter().all(|(key, value)| theirs.get(key).is_some_and(|it| it == value))
    }
}

impl<K: Hash + Eq, V: Eq, S: BuildHasher> Eq for Map<K, V, S> {}

impl<K, V, S> Extend<(K, V)> for &Map<K, V, S>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    S: BuildHasher,
{
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        let entries = entries.into_iter();
        // Half of it, as the standard library's map reserves when some keys may be there already.
        let hint = match self.is_empty() {
            true => entries.size_hint().0,
            false => entries.size_hint().0.div_ceil(2),
        };
        self.reserve(hint.min(MOST_TRUSTED));
        for (key, value) in entries {
            self.pin().insert(key, value);
        }
    }
}

impl<K, V, S> Extend<(K, V)> for Map<K, V, S>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    S: BuildHasher,
{
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        (&*self).extend(entries);
    }
}

impl<'e, K, V, S> Extend<(&'e K, &'e V)> for &Map<K, V, S>
where
    K: Hash + Eq + Copy + Send + 'static,
    V: Copy + Send + 'static,
    S: BuildHasher,
{
    fn extend<I: IntoIterator<Item = (&'e K, &'e V)>>(&mut self, entries: I) {
        self.extend(entries.into_iter().map(|(&key, &value)| (key, value)));
    }
}

impl<'e, K, V, S> Extend<(&'e K, &'e V)> for Map<K, V, S>
where
    K: Hash + Eq + Copy + Send + 'static,
    V: Copy + Send + 'static,
    S: BuildHasher,
{
    fn extend<I: IntoIterator<Item = (&'e K, &'e V)>>(&mut self, entries: I) {
        (&*self).extend(entries);
    }
}

impl<K, V, S> FromIterator<(K, V)> for Map<K, V, S>
where
    K: Hash + Eq + Send + 'static,
    V: Send + 'static,
    S: BuildHasher + Default,
{
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Map<K, V, S> {
        let map = Map::default();
        (&map).extend(entries);
        map
    }
}

impl<K: Hash + Eq + Send + 'static, V: Send + 'static, const N: usize> From<[(K, V); N]>
    for Map<K, V>
{
    fn from(entries: [(K, V); N]) -> Map<K, V> {
        entries.into_iter().collect()
    }
}
