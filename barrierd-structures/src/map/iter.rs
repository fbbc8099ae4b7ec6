//! Iteration: along the list, from its beginning.

use super::Map;
use super::link;
use super::list::List;
use super::node::Node;
use core::fmt;
use core::iter::FusedIterator;
use core::sync::atomic::Ordering::Acquire;

/// The entries of a map that is in use: [`Map::iter`].
pub struct Iter<'g, K, V> {
    list: &'g List<K, V>,
    /// Leads to what was not visited yet.
    at: *mut (),
}

impl<'g, K, V> Iter<'g, K, V> {
    /// # Safety
    /// A section is open for `'g`, of the list's reclaimer.
    pub(super) unsafe fn new(list: &'g List<K, V>) -> Iter<'g, K, V> {
        Iter { list, at: list.table.first().load(Acquire) }
    }
}

impl<'g, K, V> Iterator for Iter<'g, K, V> {
    type Item = (&'g K, &'g V);

    fn next(&mut self) -> Option<(&'g K, &'g V)> {
        loop {
            let here = link::unmarked(self.at);
            if link::is_end(here) {
                return None;
            }
            if link::is_dummy(here) {
                self.at = self.list.table.behind(here).load(Acquire);
                continue;
            }
            // SAFETY: a node that was in the list while the section was open, which it is for `'g`.
            let node = unsafe { &*here.cast::<Node<K, V>>() };
            self.at = node.header.next.load(Acquire);
            if !link::is_marked(self.at) {
                return Some((&node.key, &node.value));
            }
        }
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Iter { list: self.list, at: self.at }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}

/// The keys of a map that is in use: [`Map::keys`].
pub struct Keys<'g, K, V>(pub(super) Iter<'g, K, V>);

/// The values of a map that is in use: [`Map::values`].
pub struct Values<'g, K, V>(pub(super) Iter<'g, K, V>);

impl<'g, K, V> Iterator for Keys<'g, K, V> {
    type Item = &'g K;

    fn next(&mut self) -> Option<&'g K> {
        self.0.next().map(|(key, _)| key)
    }
}

impl<'g, K, V> Iterator for Values<'g, K, V> {
    type Item = &'g V;

    fn next(&mut self) -> Option<&'g V> {
        self.0.next().map(|(_, value)| value)
    }
}

impl<K, V> FusedIterator for Keys<'_, K, V> {}
impl<K, V> FusedIterator for Values<'_, K, V> {}

impl<K, V> Clone for Keys<'_, K, V> {
    fn clone(&self) -> Self {
        Keys(self.0.clone())
    }
}

impl<K, V> Clone for Values<'_, K, V> {
    fn clone(&self) -> Self {
        Values(self.0.clone())
    }
}

impl<K: fmt::Debug, V> fmt::Debug for Keys<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, V: fmt::Debug> fmt::Debug for Values<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The entries of a map that nobody else uses any more, as owned values.
pub struct IntoIter<K, V>(List<K, V>);

// SAFETY: it owns its entries, as the map did.
unsafe impl<K: Send, V: Send> Send for IntoIter<K, V> {}
// SAFETY: through `&IntoIter` nothing is reached.
unsafe impl<K: Sync, V: Sync> Sync for IntoIter<K, V> {}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        self.0.pop()
    }
}

impl<K, V> FusedIterator for IntoIter<K, V> {}

impl<K, V> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").finish_non_exhaustive()
    }
}

impl<K, V, S> IntoIterator for Map<K, V, S> {
    type Item = (K, V);
    type IntoIter = IntoIter<K, V>;

    /// Takes the map apart.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::from([(1, String::from("a"))]);
    /// let entries: Vec<(i32, String)> = map.into_iter().collect();
    /// assert_eq!(entries, [(1, String::from("a"))]);
    /// ```
    fn into_iter(self) -> IntoIter<K, V> {
        IntoIter(self.list)
    }
}
