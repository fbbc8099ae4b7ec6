//! Entries changed by what is there.

use super::Map;
use super::node::{Draft, Node};
use barrierd_reclaim::Guard;
use core::hash::{BuildHasher, Hash};

/// What [`Map::compute`]'s closure wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation<V, R> {
    /// The key gets this value, whether it is there or not.
    Insert(V),
    /// The key goes, if it is there.
    Remove,
    /// All stays as it is, and this is what `compute` returns.
    Abort(R),
}

/// What [`Map::compute`] has done. Each entry is a key and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute<'g, K, V, R> {
    /// The key was not there, and is now.
    Inserted(&'g K, &'g V),
    /// The key's entry was replaced.
    Updated {
        /// The entry that was there.
        old: (&'g K, &'g V),
        /// The one that took its place.
        new: (&'g K, &'g V),
    },
    /// The key was there, and is no more.
    Removed(&'g K, &'g V),
    /// The key was to go, and was not there.
    Absent,
    /// All stayed as it is.
    Aborted(R),
}

fn entry<K, V>(node: &Node<K, V>) -> (&K, &V) {
    (&node.key, &node.value)
}

impl<'g, K, V, R> Compute<'g, K, V, R> {
    fn put(old: Option<&'g Node<K, V>>, new: &'g Node<K, V>) -> Compute<'g, K, V, R> {
        match old {
            None => Compute::Inserted(&new.key, &new.value),
            Some(old) => Compute::Updated { old: entry(old), new: entry(new) },
        }
    }
}

impl<K: Hash + Eq + Send + 'static, V: Send + 'static, S: BuildHasher> Map<K, V, S> {
    /// Inserts, replaces or removes a key's entry, as `decide` says when it is shown what is there. It happens at one stroke: if
    /// the entry is changed meanwhile, or one has come, nothing is done, and `decide` is called again with what is there then. A change of
    /// other keys is no reason, so `decide` may make some; if it changes this key each time, it is called for ever.
    ///
    /// It costs what [`insert`](Map::insert) or [`remove`](Map::remove) costs. Lock-free, apart from `decide`.
    ///
    /// ```
    /// use barrierd_structures::Map;
    /// use barrierd_structures::map::{Compute, Operation};
    ///
    /// // A count that goes at 0.
    /// let counts = Map::from([("a", 2)]);
    /// let counts = counts.pin();
    /// let release = |key| {
    ///     counts.compute(key, |entry| match entry {
    ///         None => Operation::Abort("not there"),
    ///         Some((_, 1)) => Operation::Remove,
    ///         Some((_, count)) => Operation::Insert(count - 1),
    ///     })
    /// };
    /// assert_eq!(release("a"), Compute::Updated { old: (&"a", &2), new: (&"a", &1) });
    /// assert_eq!(release("a"), Compute::Removed(&"a", &1));
    /// assert_eq!(release("a"), Compute::Aborted("not there"));
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `decide` panics, the map is as before.
    pub fn compute<'g, R>(
        &'g self,
        key: K,
        mut decide: impl FnMut(Option<(&'g K, &'g V)>) -> Operation<V, R>,
        guard: &'g Guard<'_>,
    ) -> Compute<'g, K, V, R> {
        self.check(guard);
        let hash = self.hash(&key);
        let mut key = key;
        loop {
            let place = self.place(hash, &key, guard);
            let old = place.found.map(entry);
            match (decide(old), old) {
                (Operation::Abort(result), _) => return Compute::Aborted(result),
                (Operation::Remove, None) => return Compute::Absent,
                (Operation::Remove, Some((key, value))) => {
                    if self.take(&place, guard) {
                        return Compute::Removed(key, value);
                    }
                }
                (Operation::Insert(value), Some(_)) => {
                    match self.put(&place, Draft::new(hash, key, value), guard) {
                        Ok((old, new)) => return Compute::put(old, new),
                        Err(again) => key = again.into_parts().0,
                    }
                }
                (Operation::Insert(value), None) => {
                    match self.put_absent(place, Draft::new(hash, key, value), guard) {
                        Ok(new) => return Compute::put(None, new),
                        Err(again) => key = again.into_parts().0,
                    }
                }
            }
        }
    }

    /// Replaces the value of a key by what `change` makes of it, or inserts `value` if the key is not there. Returns the new value.
    /// If the entry is replaced meanwhile, `change` is called again with what is there then: see [`compute`](Map::compute).
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let words = Map::new();
    /// let words = words.pin();
    /// for word in ["a", "b", "a"] {
    ///     words.update_or_insert(word, |count| count + 1, 1);
    /// }
    /// assert_eq!((words.get("a"), words.get("b")), (Some(&2), Some(&1)));
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `change` panics, the map is as before.
    pub fn update_or_insert<'g>(
        &'g self,
        key: K,
        mut change: impl FnMut(&V) -> V,
        value: V,
        guard: &'g Guard<'_>,
    ) -> &'g V {
        self.check(guard);
        let hash = self.hash(&key);
        let (mut key, mut value) = (key, value);
        loop {
            let place = self.place(hash, &key, guard);
            match place.found {
                Some(found) => {
                    let changed = change(&found.value);
                    match self.put(&place, Draft::new(hash, key, changed), guard) {
                        Ok((_, new)) => return &new.value,
                        Err(again) => key = again.into_parts().0,
                    }
                }
                None => match self.put(&place, Draft::new(hash, key, value), guard) {
                    Ok((_, new)) => return &new.value,
                    Err(again) => (key, value) = again.into_parts(),
                },
            }
        }
    }

    /// Replaces the value of a key by what `change` makes of it, or inserts what `make` makes if the key is not there. Returns
    /// the new value. Each may be called, and its result dropped, because another thread was faster: `change` again and again, as
    /// by [`update_or_insert`](Map::update_or_insert), `make` once.
    ///
    /// It costs what `update_or_insert` costs; if the key is not there, one search more.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let logs = Map::new();
    /// let logs = logs.pin();
    /// for line in ["started", "stopped"] {
    ///     let append = |log: &String| format!("{log}, {line}");
    ///     logs.update_or_insert_with("server", append, || line.to_string());
    /// }
    /// assert_eq!(logs.get("server").unwrap(), "started, stopped");
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's. If `change` or `make` panics, the map is as before.
    pub fn update_or_insert_with<'g>(
        &'g self,
        key: K,
        mut change: impl FnMut(&V) -> V,
        make: impl FnOnce() -> V,
        guard: &'g Guard<'_>,
    ) -> &'g V {
        self.check(guard);
        let hash = self.hash(&key);
        let mut key = key;
        loop {
            let place = self.place(hash, &key, guard);
            let Some(found) = place.found else {
                return self.update_or_insert(key, change, make(), guard);
            };
            let changed = change(&found.value);
            match self.put(&place, Draft::new(hash, key, changed), guard) {
                Ok((_, new)) => return &new.value,
                Err(again) => key = again.into_parts().0,
            }
        }
    }
}
