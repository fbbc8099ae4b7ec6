//! A hash map that grows, and whose reads cost nothing.
//!
//! [`Map`] is the type to begin with. The algorithm is Shalev and Shavit's, "Split-ordered lists: lock-free extensible hash
//! tables" (JACM 2006), over Harris's and Michael's list, with the dummies in the table itself.
//!
//! # How it works
//! All entries lie in one list, ordered by their hashes. A table of dummies leads into it, one for each bucket, so that a search
//! begins close by. To grow is to double the number of buckets: no entry is ever moved or copied. Insertions put the new buckets into
//! the list, some at a time, and then one exchange of a word has all searches use them. Beside a large table lies a filter (`filter.rs`), which says
//! of most absent keys that they are absent, so that these searches touch neither table nor list.
//!
//! # Invariants
//! 1. From the first slot on, links lead through every dummy that is in the list, and every node that is not removed, in the order
//!    of their hashes. A dummy lies before the nodes of its own key.
//! 2. A node is removed by the exchange that marks its link, and this never changes again. At most one node of a key is not
//!    removed. A node that takes another's place is linked by the same exchange, right behind the old one.
//! 3. A link to a node is in exactly one place of the list. The exchange that takes it away retires the node. It fails if
//!    the link is marked. Dummies stay.
//! 4. A slot that is found by the table, and is neither 0 nor marked, is in the list.
//!
//! ## No reader misses a key that is there throughout
//! "There throughout" a search means: at each moment of it, one node of the key is in the list and not removed. If one
//! takes another's place, they lie side by side (2), and the older ones lead to the younger ones; call them a group. A search
//! begins at a slot that is in the list (4) and not behind its hash (1): at its bucket's or at one before, of whatever size
//! of the table, old or new. It ends at a node or dummy that lies behind the hash.
//! Each node that it visits was in the list at some moment of the search: either the link that led to it was then in
//! the list, or it belonged to a node that had been there earlier in the search and was removed since, with that link (2).
//! Suppose the search steps over the group, from `a` before it to `b` behind it. Then at one moment of the search `a` was in the
//! list and `b` behind it: when the link was read if `a` was still in the list, else just before `a` left it. But then some node of
//! the group lay between. So the search visits a node of the group. If that is marked when its link is read, the link leads on
//! within the group, and the search comes to a node that is not: found. Dummies that come into the list meanwhile change no
//! order, and are stepped over like nodes.
//!
//! ## What a reader finds was there
//! The entry was not removed when its link was read, which was during the search.
//! If it finds none, then the key was absent at some moment of the search, since else it would have been there throughout.
//! If a filter says so, then by the argument in `filter.rs`.
//!
//! ## Moments
//! All links of a key's group are written by exchanges, each of which follows a load (Acquire) of what it changes; so one key's
//! changes have one order, which agrees with happens-before, and a search that finds none is between two of them. "At a moment" means
//! that order. There is no order of all keys' changes that each thread sees: exchanges are Release and loads Acquire, so a
//! thread may look for one key before its own insertion of another is seen. Along happens-before keys agree: who
//! sees one change sees all that came before it. A `fence(SeqCst)` of the user's between a change and a lookup, in both threads,
//! orders these too (loom: `one_of_two_insertions_is_seen`); on x86-64 the exchange is one. To have it everywhere
//! would put fences into reads on some machines.
//!
//! ## Iteration sees every key that is there throughout, once
//! It is a search of all hashes, so it visits each such group. It reads a node's link once, and goes on by what it read. Where the
//! node was not removed then, that leads beyond the group, since what takes a node's place comes by a marked link. So it shows one
//! entry of the group. A key that was removed and inserted again may be seen twice if others have its whole hash.
//!
//! ## No key is there twice
//! A node is inserted behind all nodes of its hash, at the link that led beyond them, after a search has passed all of them and
//! unlinked those that were removed. Another node of the key would have come by an exchange of the same link.
//!
//! A node takes another's place by an exchange of the old one's link, whatever that led to just before: as long as it has no mark, the
//! old one is the key's only node, and nobody inserts the key, since every search for it meets a node of its group. So no neighbour
//! makes `mark` or `replace` fail, and closures are not called again because of one.
//!
//! ## Each node is retired once
//! By (3), and the drop of the map takes what is still linked. A node that is marked in its link but not unlinked yet is
//! unlinked by the next search of a writer that passes it, or by the drop.
//!
//! ## Panics
//! Hashers, `Eq`, and closures run where nothing is half done: before a node is marked or linked. Destructors run in `retire`, after the
//! node in question was unlinked and counted. A new node that is not linked yet is dropped with its draft (`node.rs`).

mod bits;
mod builder;
mod compute;
mod count;
mod fetch;
mod filter;
mod iter;
mod link;
mod list;
#[cfg(all(barrierd_loom, test))]
mod models;
mod node;
mod pinned;
mod read;
mod retire;
#[cfg(all(feature = "serde", not(barrierd_loom)))]
mod serde;
mod table;
mod traits;
mod whole;
mod write;

pub use builder::MapBuilder;
pub use compute::{Compute, Operation};
pub use iter::{IntoIter, Iter, IterMut, Keys, Values};
pub use pinned::{MapHandle, Pinned};
pub use write::OccupiedError;

use barrierd_reclaim::{Guard, Reclaimer};
use builder::room;
use count::Count;
use list::List;
use std::hash::RandomState;

/// A concurrent hash map that grows, whose readers run no lock, no fence and no atomic read-modify-write.
///
/// Any thread reads, inserts and removes through `&Map`. A value is never changed in place: an update puts another one there.
/// What was removed or replaced is dropped once nobody reads it any more.
///
/// ```
/// use barrierd_structures::Map;
/// use std::thread;
///
/// let map = Map::new();
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         map.pin().insert("a", 1);
///     });
///     scope.spawn(|| println!("{:?}", map.pin().get("a"))); // None or Some(1)
/// });
/// let map = map.pin();
/// assert_eq!(map.insert("a", 2), Some(&1));
/// assert_eq!(map.get("a"), Some(&2));
/// ```
///
/// # Three ways to call it
/// References that a map returns live as long as a guard. Which one is a matter of convenience and of a nanosecond:
///
/// | | |
/// |---|---|
/// | [`map.pin()`](Map::pin) | a view with a guard of its own, for one or several calls |
/// | [`map.get(key, &guard)`](Map::get) | by a [`Guard`] that the caller has, of the map's reclaimer; another's is a panic |
/// | [`map.handle()`](Map::handle), then `.pin()` | the same as the first, in a thread's hot loop |
///
/// A guard that lives long keeps all that is removed meanwhile, in all structures of its reclaimer.
///
/// Guards are the plain ones alone. A robust guard does not protect what a removed entry leads on to, so a read that meets one would have to
/// begin again, and wait for writers; a hazard protects one entry, and the references that [`get`](Map::get) returns live as long as the
/// guard.
///
/// # Cost and progress
/// A read costs the hash, and loads: of the mask, a segment, the bucket's slot, and 1.3 nodes on average. A miss in an empty bucket
/// touches no node. From 65,536 buckets on, a filter of 1 to 4 bytes for each bucket comes first, and answers for most absent keys. It is made
/// beside the map's use, at each insertion of a new key a piece of 16 buckets, after the table has grown, or once too many keys have come and gone; until then
/// the last one serves, or none. What replaced filters weigh is in the reclaimer's [`Stats`](barrierd_reclaim::Stats) until they are freed. A read waits for nobody. It writes to the map where it is the first to look
/// for a bucket that is not in the list yet, of a table that was made for many entries or had room reserved, seldom of one that grew: it puts
/// that into the list, and at most one before for each doubling. Where another thread is at that, or a removed entry is in the way that its remover has not unlinked yet, it writes nothing, and walks from a bucket before. (In the
/// child of a fork, a bucket that another thread was opening stays as it is, and its lookups walk further.)
///
/// An insertion is an allocation and one compare-exchange, a removal two, each beside the count's addition; with a filter, an insertion
/// also sets a bit, unless it is set. They are lock-free: one is repeated only because another was done beside it.
///
/// The table doubles when there are more than three entries for four buckets. One insertion allocates zeroed memory, which the system maps
/// when it is used; each that follows puts 16 of the new buckets into the list, by three compare-exchanges for each, until all are. No entry is
/// moved, and nobody waits. It never becomes smaller.
///
/// # What threads see of each other
/// The calls for one key take effect one after another, each between its beginning and its end: it is linearizable by itself. A thread that
/// sees a change also sees all that came before it (happens-before). But two threads that insert a key each, and then look for
/// the other's, may both miss, unless each runs a [`fence(SeqCst)`](core::sync::atomic::fence) between; on x86-64 none is needed.
///
/// # Hashes
/// The default hasher, [`RandomState`], withstands floods of chosen keys. Any other may be given. All bits of its result are used,
/// so the identity will do where keys are known. If it maps all keys to one number, the map is a list.
///
/// Where keys are `&'static str`, look for a short-lived one by the text itself: `map.get(*name)` of a `name: &&str`, `map.get(name)` of a `&str`.
/// (`map.get(&name)` would ask for a `&'static str`.)
///
/// # Across an `.await`
/// A view and a [`Guard`] stay on their thread, so a future that keeps one across an `.await` is not `Send`. Take out what is needed
/// before that: a copy, or an [`Arc`](std::sync::Arc) that the map has as its value.
///
/// ```
/// use barrierd_structures::Map;
/// use std::sync::Arc;
///
/// async fn answer(sessions: Arc<Map<u64, Arc<str>>>) -> Option<Arc<str>> {
///     let name = sessions.pin().get(&7).cloned(); // the view ends here
///     std::future::ready(()).await;
///     name
/// }
///
/// fn spawn(_: impl Future<Output: Send> + Send + 'static) {}
/// spawn(answer(Arc::default()));
/// ```
///
/// ```compile_fail
/// # use barrierd_structures::Map;
/// # use std::sync::Arc;
/// async fn answer(sessions: Arc<Map<u64, Arc<str>>>) -> Option<Arc<str>> {
///     let sessions = sessions.pin();
///     std::future::ready(()).await; // `sessions` is not Send
///     sessions.get(&7).cloned()
/// }
/// # fn spawn(_: impl Future<Output: Send> + Send + 'static) {}
/// # spawn(answer(Arc::default()));
/// ```
///
/// # From other maps
/// | dashmap | papaya, `let map = map.pin()` | here, `let map = map.pin()` |
/// |---|---|---|
/// | `get(&key)`, which locks | `get(&key)` | `get(&key)` |
/// | `view(&key, f)` | `get(&key).map(f)` | `get(&key).map(f)` |
/// | `insert` returns the old value | a reference to it | a reference to it; [`cloned`](Option::cloned) makes it one's own |
/// | `entry(key).or_insert_with(make)` | `get_or_insert_with(key, make)` | `get_or_insert_with(key, make)` |
/// | `entry(key).and_modify(f).or_insert(value)` | `update_or_insert(key, f, value)` | `update_or_insert(key, f, value)` |
/// | `get_mut(&key)`, `alter(&key, f)` | `update(key, f)` | `update(key, f)`: `f` makes a new value |
/// | `remove_if(&key, f)` | `remove_if(&key, f)` | `remove_if(&key, f)` |
/// | `iter()`, `for entry in &map` | `iter()`, `for (key, value) in &map` | `iter()`, `for (key, value) in &map` |
/// | `DashSet<K>` | `HashSet<K>` | `Map<K, ()>` |
/// | | `pin_owned()` | none: see above |
///
/// # `'static` keys and values
/// Removed entries are dropped later, on any thread. So what can be removed must be [`Send`] and `'static`:
///
/// ```compile_fail,E0597
/// use barrierd_structures::Map;
///
/// let text = String::from("short-lived");
/// let map = Map::new();
/// map.pin().insert(text.as_str(), 1); // `text` would have to live as long as the process
/// ```
///
/// # References live as long as their guard
/// ```compile_fail,E0597
/// use barrierd_structures::Map;
///
/// let map = Map::from([(1, String::from("one"))]);
/// let text: &str;
/// {
///     let pinned = map.pin();
///     text = pinned.get(&1).unwrap(); // `pinned` does not live long enough
/// }
/// println!("{text}");
/// ```
///
/// ```
/// use barrierd_structures::Map;
///
/// let map = Map::from([(1, String::from("one"))]);
/// let text: &str;
/// let pinned = map.pin();
/// text = pinned.get(&1).unwrap();
/// println!("{text}");
/// ```
pub struct Map<K, V, S = RandomState> {
    list: List<K, V>,
    hasher: S,
    /// A clone, or the process's own. All nodes are retired to it.
    reclaimer: Reclaimer,
    count: Count,
}

// SAFETY: the map owns its entries, which move with it and may be dropped on another thread: `Send`. No reference to an entry
// exists while it moves, since they borrow it.
unsafe impl<K: Send, V: Send, S: Send> Send for Map<K, V, S> {}
// SAFETY: through `&Map` threads share entries (`Sync`), and insert, remove and drop them on any of them (`Send`).
unsafe impl<K: Send + Sync, V: Send + Sync, S: Sync> Sync for Map<K, V, S> {}

impl<K, V> Map<K, V> {
    /// Makes an empty map on the process's own reclaimer ([`Reclaimer::global`]).
    ///
    /// It costs an allocation of 16 words, and one of two cache lines for each CPU, up to 16.
    #[must_use]
    pub fn new() -> Map<K, V> {
        Map::builder().build()
    }

    /// Makes an empty map with room for so many entries. Their slots are zeroed memory, a word and a third for each,
    /// rounded up to a power of two, and from 65,536 on a byte beside each, for the filter, which the system maps when it is used.
    ///
    /// # Panics
    /// As [`MapBuilder::build`].
    #[must_use]
    pub fn with_capacity(entries: usize) -> Map<K, V> {
        Map::builder().capacity(entries).build()
    }

    /// Makes an empty map on a reclaimer of one's own. [`builder`](Map::builder) combines this with other settings.
    #[must_use]
    pub fn with_reclaimer(reclaimer: &Reclaimer) -> Map<K, V> {
        Map::builder().reclaimer(reclaimer).build()
    }
}

impl<K, V, S> Map<K, V, S> {
    /// Makes an empty map with another hasher.
    #[must_use]
    pub fn with_hasher(hasher: S) -> Map<K, V, S> {
        Map::builder().hasher(hasher).build()
    }

    /// Makes an empty map with room for so many entries, and another hasher.
    ///
    /// # Panics
    /// As [`MapBuilder::build`].
    #[must_use]
    pub fn with_capacity_and_hasher(entries: usize, hasher: S) -> Map<K, V, S> {
        Map::builder().capacity(entries).hasher(hasher).build()
    }

    /// Returns the reclaimer that removed entries go to, and whose guards the map takes.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.reclaimer
    }

    /// Returns the hasher.
    #[must_use]
    pub fn hasher(&self) -> &S {
        &self.hasher
    }

    /// Opens a section, and returns a view of the map that needs no guards: see [`Pinned`].
    #[inline]
    pub fn pin(&self) -> Pinned<'_, K, V, S> {
        Pinned::new(self, self.reclaimer.pin())
    }

    /// Returns a handle for this thread's hot loop, which opens sections faster: see [`MapHandle`].
    #[must_use]
    pub fn handle(&self) -> MapHandle<'_, K, V, S> {
        MapHandle::new(self)
    }

    /// Returns the number of entries: exactly, while nobody inserts or removes. Otherwise it is the number at some time, give
    /// or take the calls that are under way.
    ///
    /// It costs a load for each CPU, up to 16.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.sum()
    }

    /// Returns whether [`len`](Map::len) is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many entries there may be before the table grows.
    #[must_use]
    pub fn capacity(&self) -> usize {
        room(self.list.table.buckets())
    }

    /// # Panics
    /// If the guard is not of the map's reclaimer: it would keep nothing from being freed.
    #[inline]
    fn check(&self, guard: &Guard<'_>) {
        #[cold]
        #[inline(never)]
        fn foreign() -> ! {
            panic!("the guard is of another reclaimer than the map's (`Map::reclaimer`)");
        }
        if !guard.belongs_to(&self.reclaimer) {
            foreign();
        }
    }

    /// Returns the entries, in no particular order.
    ///
    /// It sees each key that is there from the first call of `next` to the last, exactly once, and begins no earlier. Of what is inserted, replaced or removed
    /// meanwhile, it may see the old or the new state.
    ///
    /// It costs a load for each bucket, and for each entry two.
    ///
    /// ```
    /// use barrierd_structures::Map;
    ///
    /// let map = Map::from([(1, "a"), (2, "b")]);
    /// let guard = map.reclaimer().pin();
    /// assert_eq!(map.iter(&guard).map(|(key, _)| key).sum::<i32>(), 3);
    /// ```
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn iter<'g>(&'g self, guard: &'g Guard<'_>) -> Iter<'g, K, V> {
        self.check(guard);
        // SAFETY: the guard is of the map's reclaimer.
        unsafe { Iter::new(&self.list) }
    }

    /// Returns the keys: as [`iter`](Map::iter).
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn keys<'g>(&'g self, guard: &'g Guard<'_>) -> Keys<'g, K, V> {
        Keys(self.iter(guard))
    }

    /// Returns the values: as [`iter`](Map::iter).
    ///
    /// # Panics
    /// If the guard is another reclaimer's.
    pub fn values<'g>(&'g self, guard: &'g Guard<'_>) -> Values<'g, K, V> {
        Values(self.iter(guard))
    }
}

/// The same tests as in `tests/`, on maps that have filters from 8 buckets on (`filter.rs`).
#[cfg(all(test, not(barrierd_loom)))]
#[path = "../../tests/map_threads.rs"]
mod threads;
