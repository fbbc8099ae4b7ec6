//! A hash map.
//!
//! This file owns its calls, in safe code on the table.

use std::fmt;
use std::marker::PhantomData;

use crate::change::Turn;
use crate::error::WriteError;
use crate::fresh::Fresh;
use crate::hash;
use crate::link::sealed::Sealed;
use crate::link::{Link, SharedAtomic, SharedRef, View};
use crate::reader::Reader;
use crate::share::Plain;
use crate::table::{FIRST, Node, Place, Table};
use crate::writer::Writer;

/// Entries of a cleared table that a call takes away on its way.
const HELP: u64 = 4;
/// Entries that `clear` takes away in one turn.
const BATCH: u64 = 256;

/// A hash map at one of a region's roots, of plain keys and values. Readers look up without a lock, a fence or a system call;
/// writers change it one at a time.
///
/// ```
/// use barrierd_shared::{Options, Region, SharedMap};
///
/// const ROUTES: SharedMap<u64, [u8; 4]> = SharedMap::at(0).capacity(1000);
///
/// let region = Region::create_in_memory(Options::new(1 << 20))?;
/// let (mut reader, mut writer) = (region.reader()?, region.writer()?);
/// assert_eq!(ROUTES.insert(&mut writer, &7, [10, 0, 0, 1])?, None);
/// assert_eq!(ROUTES.insert(&mut writer, &7, [10, 0, 0, 2])?, Some([10, 0, 0, 1]));
/// assert_eq!(ROUTES.get(&mut reader, &7), Some([10, 0, 0, 2]));
/// assert_eq!(ROUTES.iter(&reader.pin()).collect::<Vec<_>>(), [(7, [10, 0, 0, 2])]);
/// assert_eq!(ROUTES.remove(&mut writer, &7)?, Some([10, 0, 0, 2]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Killed writers
///
/// Each call that changes the map is made wholly or not at all, wherever its process is killed, [`len`](Self::len) included.
///
/// # Growth
///
/// The map has a bucket for each entry, or more. A call that finds fewer adds one bucket, or two, to which it moves what belongs
/// there, a few links' stores; no call ever moves the whole table. It does not shrink.
///
/// # Types
///
/// A participant that takes the map for one of keys or values of other sizes finds nothing in it, and can't change it. Types of the same
/// sizes are told apart by a [schema](Self::schema), if all participants state one. Programs in C state both, as
/// numbers and a string.
///
/// # Hashes
///
/// Keys are the same if their bytes are. Their hash goes by a random seed that stands in the region, and is the same in all
/// processes. Someone who may choose keys, and knows neither the seed nor how long calls take, can't make them meet in one
/// bucket. The hash is a quick one and no cipher: whoever may read the region, or measures many calls, can find such
/// keys. Lookups then cost a walk over them, never more than one over all entries. Where keys come from strangers who may be
/// in that position, hash them first, under a secret of your own.
pub struct SharedMap<K, V> {
    root: usize,
    capacity: u64,
    /// What the types alone don't say of the table's kind.
    more: u64,
    holds: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for SharedMap<K, V> {}

impl<K, V> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMap").field("root", &self.root).finish_non_exhaustive()
    }
}

impl<K: Plain, V: Plain> SharedMap<K, V> {
    /// Returns the map at a root. All participants must agree on what each root is.
    #[must_use]
    pub const fn at(root: usize) -> SharedMap<K, V> {
        SharedMap { root, capacity: FIRST, more: 0, holds: PhantomData }
    }

    /// The same with a kind that differs from these types' own in `more`.
    pub(crate) const fn of_kind(self, more: u64) -> SharedMap<K, V> {
        SharedMap { more, ..self }
    }

    /// How many entries the map has buckets for from the beginning, if this participant makes it, by the first insertion, or
    /// [clears](Self::clear) it: that call stores them all in one turn, some 8 bytes for each.
    #[must_use]
    pub const fn capacity(self, entries: usize) -> SharedMap<K, V> {
        SharedMap { capacity: entries as u64, ..self }
    }

    /// States what keys and values are, where sizes don't tell: `"port -> address, v2"`, say. A map that was made with another
    /// schema, or without one, is one of other types. The empty one is none. 24 bits of a hash of it stand in the region, so one in 16
    /// million others is taken for the same.
    #[must_use]
    pub const fn schema(self, schema: &str) -> SharedMap<K, V> {
        SharedMap { more: hash::schema(schema.as_bytes()), ..self }
    }

    /// Returns a key's value; `None` if there is none, or the map is one of other types. Readers never wait.
    ///
    /// # Panics
    ///
    /// If there is no such root; and in a child of the process that made the reader.
    #[inline]
    #[must_use]
    pub fn get(&self, reader: &mut Reader, key: &K) -> Option<V> {
        self.of(&reader.pin(), key)
    }

    /// Returns a key's value, read under a view.
    #[inline]
    #[must_use]
    pub fn of(&self, view: &impl View, key: &K) -> Option<V> {
        Some(self.table(view)?.find(view, *key)?.value.get())
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self, view: &impl View) -> usize {
        let len = self.table(view).map_or(0, |table| table.len.get());
        usize::try_from(len).unwrap_or(usize::MAX)
    }

    /// Returns whether there is no entry.
    #[must_use]
    pub fn is_empty(&self, view: &impl View) -> bool {
        self.len(view) == 0
    }

    /// Returns the entries, in no order. An entry that is there all the time comes once; one that is inserted, replaced or
    /// removed meanwhile comes as it was or as it is, or not. In a map that a participant has broken it may end early.
    #[must_use]
    pub fn iter<'v, W: View>(&self, view: &'v W) -> Iter<'v, W, K, V> {
        let table = self.table(view);
        let buckets = table.map_or(0, |table| table.buckets(view));
        // Each bucket is a word, and each entry more than that. Twice what there could be: some is walked again where a
        // bucket is split.
        let left = view.map().len() / 4;
        // What was returned stays, for the view's sake: so no more is returned than there is room for.
        let room = Table::<K, V>::most(view);
        Iter { view, table, next: 0, buckets, left, room, batch: Vec::new() }
    }

    /// Returns the table, if there is one of these types.
    #[inline]
    pub(crate) fn table<'v>(&self, view: &'v impl View) -> Option<&'v Table<K, V>> {
        let table = self.any_table(view)?;
        table.is_right(self.more).then_some(table)
    }

    /// Returns the table, whatever it is.
    #[inline]
    pub(crate) fn any_table<'v>(&self, view: &'v impl View) -> Option<&'v Table<K, V>> {
        Some(view.load::<Table<K, V>>(view.root(self.root))?.get())
    }

    /// Inserts an entry, or replaces its value. Returns the value before.
    ///
    /// # Errors
    ///
    /// [`WriteError::OutOfMemory`], with what the blocks that wait for readers wait for; [`WriteError::Misused`] if there is
    /// something else at the root; and as for [`Writer::turn`]. To replace a value takes room for another entry, as the one
    /// before stays until no reader has it.
    pub fn insert(&self, writer: &mut Writer, key: &K, value: V) -> Result<Option<V>, WriteError> {
        self.update(writer, key, |_| Some(value))
    }

    /// Removes an entry. Returns its value.
    ///
    /// # Errors
    ///
    /// [`WriteError::Misused`] if there is something else at the root; and as for [`Writer::turn`]. No room is needed.
    pub fn remove(&self, writer: &mut Writer, key: &K) -> Result<Option<V>, WriteError> {
        self.update(writer, key, |_| None)
    }

    /// Makes of a key's value what `change` makes of it, `None` being no entry. Returns the value before. Other writers wait
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert).
    pub fn update(
        &self,
        writer: &mut Writer,
        key: &K,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, WriteError> {
        let turn = self.turn(writer, size_of::<Node<K, V>>() as u64)?;
        let entry = |hash, value: Option<V>| {
            let turn = &turn;
            value.map(|value| move |next| Table::entry(turn, (hash, *key, value), next))
        };
        let Some(table) = self.ready(&turn)? else {
            // There is nothing.
            if let Some(value) = change(None) {
                let table = self.make(&turn)?;
                let hash = table.hash(*key);
                let place = table.place(&turn, hash, |node| node.key.is(*key))?;
                Self::put(&turn, table, place, entry(hash, Some(value)))?;
            }
            return Ok(None);
        };
        let hash = table.hash(*key);
        let place = table.place(&turn, hash, |node| node.key.is(*key))?;
        let before = place.1.map(|node| node.value.get());
        Self::put(&turn, table, place, entry(hash, change(before)))?;
        Ok(before)
    }

    /// Makes the table, where there is none.
    pub(crate) fn make<'t>(&self, turn: &'t Turn<'_>) -> Result<&'t Table<K, V>, WriteError> {
        let table = Table::make(turn, turn.root(self.root), self.capacity, self.more)?.get();
        table.furnish(turn)?;
        Ok(table)
    }

    /// Makes the entry of a key the one that `entry` allocates, leading to what it is given, or none.
    pub(crate) fn put<'t>(
        turn: &'t Turn<'_>,
        table: &Table<K, V>,
        (link, old): Place<'_, K, V>,
        entry: Option<impl FnOnce(Link<Node<K, V>>) -> Result<Fresh<'t, Node<K, V>>, WriteError>>,
    ) -> Result<(), WriteError> {
        let len = table.len.get();
        match (old, entry) {
            (None, None) => Ok(()),
            (None, Some(entry)) => {
                table.keep_spare(turn)?;
                let fresh = entry(link.link())?;
                let count = Some((&table.len, len.wrapping_add(1)));
                turn.publish(link, fresh, None, count).map(drop)
            }
            (Some(old), Some(entry)) => turn.replace(link, entry(old.next())?).map(drop),
            (Some(old), None) => {
                let count = Some((&table.len, len.saturating_sub(1)));
                turn.remove_counted(link, old.next(), count)
            }
        }
    }

    /// Takes a turn in which there is room for an entry of so many bytes, if there can be.
    pub(crate) fn turn<'w>(
        &self,
        writer: &'w mut Writer,
        entry: u64,
    ) -> Result<Turn<'w>, WriteError> {
        writer.make_room(entry)?;
        let mut turn = writer.turn()?;
        let table = self.table(&turn);
        let lacks = table.is_none_or(Table::lacks_spare) && !turn.has_room::<Table<K, V>>();
        if lacks || !turn.has_bytes(entry) {
            if let Some(table) = table {
                table.drain(&turn, BATCH)?;
            }
            turn.reclaim()?;
        }
        Ok(turn)
    }

    /// Returns the table, in order and with buckets enough; `None` if there is none, or one without buckets and room for them.
    pub(crate) fn ready<'t>(
        &self,
        turn: &'t Turn<'_>,
    ) -> Result<Option<&'t Table<K, V>>, WriteError> {
        let root: &SharedAtomic<Table<K, V>> = turn.root(self.root);
        if root.link().is_null() {
            return Ok(None);
        }
        let table =
            self.table(turn).ok_or(WriteError::Misused("the root is no map of these types"))?;
        table.drain(turn, HELP)?;
        match table.furnish(turn) {
            Ok(()) => {}
            // It has no entries either.
            Err(WriteError::OutOfMemory { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        table.mend(turn)?;
        // Two, so that the buckets come after the entries where there was no room for a while.
        table.grow(turn)?;
        table.grow(turn)?;
        Ok(Some(table))
    }

    /// Removes all entries, at once for all readers. Their blocks are then taken away in turns of some microseconds each; if the
    /// process dies meanwhile, later calls go on with that.
    ///
    /// # Errors
    ///
    /// As for [`Writer::turn`]; and [`WriteError::Misused`] if there is something else at the root. No room is needed: the first
    /// insertion has made a table, of some 360 bytes, for this.
    pub fn clear(&self, writer: &mut Writer) -> Result<(), WriteError> {
        let turn = self.turn(writer, size_of::<Node<K, V>>() as u64)?;
        let Some(table) = self.ready(&turn)? else { return Ok(()) };
        match table.swap(&turn, turn.root(self.root), self.capacity) {
            Ok(()) => {}
            // Where it was cleared, and nothing inserted since, there may be no room for yet another table.
            Err(WriteError::OutOfMemory { .. }) if table.len.get() == 0 => return Ok(()),
            Err(error) => return Err(error),
        }
        // Where there is no room now, the next call gives it its buckets.
        match self.table(&turn).map_or(Ok(()), |table| table.furnish(&turn)) {
            Ok(()) | Err(WriteError::OutOfMemory { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut rounds = Sealed::map(&turn).len() / BATCH;
        drop(turn);
        while rounds > 0 {
            let turn = writer.turn()?;
            match self.table(&turn) {
                Some(table) if !table.drain(&turn, BATCH)? => rounds -= 1,
                _ => break,
            }
        }
        Ok(())
    }
}

/// The entries of a map: see [`SharedMap::iter`].
pub struct Iter<'v, W, K, V> {
    view: &'v W,
    table: Option<&'v Table<K, V>>,
    /// The next bucket, of so many at the beginning.
    next: u64,
    buckets: u64,
    /// Steps that it may still take.
    left: u64,
    /// Entries that it may still return.
    room: u64,
    batch: Vec<(K, V)>,
}

impl<W: View, K: Plain, V: Plain> Iterator for Iter<'_, W, K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        loop {
            if let Some(entry) = self.batch.pop() {
                return Some(entry);
            }
            if self.next >= self.buckets {
                return None;
            }
            let bucket = (self.next, self.buckets);
            self.next += 1;
            let entry = |node: SharedRef<'_, Node<K, V>>| Some((node.key.get(), node.value.get()));
            let (left, batch) = (&mut self.left, &mut self.batch);
            let found = self.table?.collect(self.view, bucket, left, batch, entry);
            let room = found.and_then(|()| self.room.checked_sub(self.batch.len() as u64));
            match room {
                Some(room) => self.room = room,
                None => {
                    (self.next, self.buckets) = (0, 0);
                    self.batch.clear();
                }
            }
        }
    }
}

impl<W, K, V> fmt::Debug for Iter<'_, W, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("next", &self.next).finish_non_exhaustive()
    }
}
