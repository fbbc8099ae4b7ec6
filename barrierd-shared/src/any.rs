//! Maps and cells whose types are known by their sizes alone, for programs in other languages (`capi/`).
//!
//! This file owns what is done to bytes where the rest of the crate has types. A table of entries of no bytes is the beginning of
//! every table, so walks, growth and changes are `table.rs`'s and `hashmap.rs`'s own. No part of the interface of this crate.

use std::fmt;

use crate::blocks::{class_for, size_of_class};
use crate::change::Turn;
use crate::error::WriteError;
use crate::fresh::Fresh;
use crate::hash::{self, hash_bytes, words};
use crate::hashmap::SharedMap;
use crate::layout::{ROOTS, root_at};
use crate::link::{Link, SharedRef, TAG, View};
use crate::map::Map;
use crate::share::Field;
use crate::stats::MapStats;
use crate::sync::Ordering;
use crate::table::{self, LONGEST, MAP, sizes};
use crate::writer::Writer;

/// What is known of a key or a value.
type Nothing = [u64; 0];
type Node = table::Node<Nothing, Nothing>;
type Table = table::Table<Nothing, Nothing>;

/// A map of keys and values of these sizes.
#[derive(Clone, Copy)]
pub struct AnyMap {
    map: SharedMap<Nothing, Nothing>,
    root: usize,
    key: u64,
    value: u64,
    schema: u64,
}

/// What is at a map's root is another one, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherType {
    root: usize,
    found: u64,
    wanted: u64,
}

impl fmt::Display for OtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = |kind: u64| (kind & 0xff_ffff) ^ MAP;
        let of = |kind: u64| (kind >> 44, kind >> 24 & (LONGEST - 1));
        let ((key, value), root) = (of(self.wanted), self.root);
        match (of(self.found), schema(self.found)) {
            (found, _) if found == (key, value) => write!(
                f,
                "the map at root {root} has keys of {key} bytes and values of {value}, as this program says, but another schema: {}",
                match (schema(self.found), schema(self.wanted)) {
                    (0, _) => "it was made without one, and this program states one",
                    (_, 0) => "it was made with one, and this program states none",
                    _ => "state that of the program that made it",
                }
            ),
            ((key_there, value_there), 0) => write!(
                f,
                "the map at root {root} has keys of {key_there} bytes and values of {value_there}, and this program says {key} and {value}: state the sizes of the program that made it"
            ),
            _ => write!(
                f,
                "what is at root {root} is no map of keys of {key} bytes and values of {value}: a map of other sizes and another schema, or no map at all"
            ),
        }
    }
}

/// Returns how long an entry is: hash, link, key, value.
fn entry_bytes(key: u64, value: u64) -> u64 {
    16 + (key.div_ceil(8) + value.div_ceil(8)) * 8
}

/// Returns the maps that a region's roots seem to lead to. It is in no section, so a map that is cleared or replaced meanwhile may
/// be missing, or have any numbers.
pub(crate) fn maps(data: &Map) -> Vec<MapStats> {
    let size = |bytes| class_for(bytes).map_or(0, size_of_class);
    let seen = (0..ROOTS).filter_map(|root| {
        let link = data.word(root_at(root)).load(Ordering::Relaxed);
        let seen = data.get::<Table>(link & !TAG)?.seen(data.len())?;
        let entry = size(entry_bytes(seen.key, seen.value));
        let others: u64 = seen.segments.iter().map(|&bytes| size(bytes)).sum();
        Some(MapStats {
            root,
            key_bytes: seen.key,
            value_bytes: seen.value,
            has_schema: seen.schema,
            entries: seen.entries,
            buckets: seen.buckets,
            blocks: seen.entries.saturating_add(seen.segments.len() as u64 + seen.tables),
            bytes: seen
                .entries
                .saturating_mul(entry)
                .saturating_add(others + seen.tables * size(size_of::<Table>() as u64)),
            clearing: seen.clearing,
        })
    });
    seen.collect()
}

/// What an entry is: where its key and its value are, 8 bytes aligned, with as many bytes as the map's.
pub type Entry = (*const u8, *const u8);

impl AnyMap {
    /// Returns the map at a root; `None` if there is no such root, or keys or values would be too long. `schema` is what
    /// [`schema`] returns.
    #[must_use]
    pub fn new(root: u64, key: u64, value: u64, schema: u64) -> Option<AnyMap> {
        let root = usize::try_from(root).ok().filter(|&root| root < ROOTS)?;
        if key >= LONGEST || value >= LONGEST || schema >= 1 << 24 {
            return None;
        }
        let map = SharedMap::at(root).of_kind(sizes(key, value) ^ schema);
        Some(AnyMap { map, root, key, value, schema })
    }

    /// The number of entries to have buckets for, as [`SharedMap::capacity`].
    #[must_use]
    pub fn capacity(self, entries: usize) -> AnyMap {
        AnyMap { map: self.map.capacity(entries), ..self }
    }

    fn kind(&self) -> u64 {
        sizes(self.key, self.value) | (MAP ^ self.schema)
    }

    fn key_words(&self) -> u64 {
        self.key.div_ceil(8)
    }

    fn bytes(&self) -> u64 {
        entry_bytes(self.key, self.value)
    }

    /// Returns where a node is, if all of it is in the region.
    fn whole(&self, view: &impl View, node: SharedRef<'_, Node>) -> Option<u64> {
        let at = node.link().offset();
        view.map().holds(at, self.bytes()).then_some(at)
    }

    fn is(&self, view: &impl View, node: SharedRef<'_, Node>, key: &[u8]) -> bool {
        self.whole(view, node).is_some_and(|at| {
            words(key).zip(0..).all(|(word, index)| {
                // Relaxed: as in `Field::get`.
                let there = view.map().word(at + 16 + index * 8);
                there.load(Ordering::Relaxed) == word
            })
        })
    }

    fn entry(&self, view: &impl View, node: SharedRef<'_, Node>) -> Option<Entry> {
        let at = usize::try_from(self.whole(view, node)? + 16).ok()?;
        let key = view.map().begin().wrapping_add(at);
        Some((key, key.wrapping_add(usize::try_from(self.key_words() * 8).ok()?)))
    }

    /// Returns the table; `None` if nothing was ever inserted.
    ///
    /// # Errors
    ///
    /// [`OtherType`].
    fn table<'v>(&self, view: &'v impl View) -> Result<Option<&'v Table>, OtherType> {
        if view.root::<Table>(self.root).link().is_null() {
            return Ok(None);
        }
        self.map.table(view).map(Some).ok_or_else(|| self.other(view))
    }

    #[cold]
    fn other(&self, view: &impl View) -> OtherType {
        let found = self.map.any_table(view).map_or(0, |table| table.kind());
        OtherType { root: self.root, found, wanted: self.kind() }
    }

    /// Returns a key's entry. It stays as long as the view.
    ///
    /// # Errors
    ///
    /// [`OtherType`].
    ///
    /// # Panics
    ///
    /// If the key is not as long as this map's.
    pub fn find(&self, view: &impl View, key: &[u8]) -> Result<Option<Entry>, OtherType> {
        self.must_be_long(key, self.key);
        let Some(table) = self.table(view)? else { return Ok(None) };
        let hash = hash_bytes(key, table.seed());
        let node = table.find_by(view, hash, |node| self.is(view, node, key));
        Ok(node.and_then(|node| self.entry(view, node)))
    }

    /// Returns the number of entries.
    ///
    /// # Errors
    ///
    /// [`OtherType`].
    pub fn len(&self, view: &impl View) -> Result<u64, OtherType> {
        Ok(self.table(view)?.map_or(0, |table| table.len.get()))
    }

    /// Begins to walk over all entries.
    ///
    /// # Errors
    ///
    /// [`OtherType`].
    pub fn walk(&self, view: &impl View) -> Result<Walk, OtherType> {
        let buckets = self.table(view)?.map_or(0, |table| table.buckets(view));
        // Both as in `SharedMap::iter`.
        let (left, room) = (view.map().len() / 4, Table::most(view));
        let table = view.root::<Table>(self.root).link();
        Ok(Walk { map: *self, table, next: 0, buckets, left, room, batch: Vec::new() })
    }

    /// Inserts an entry, or replaces it. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// As for [`SharedMap::insert`].
    ///
    /// # Panics
    ///
    /// If key or value are not as long as this map's.
    pub fn insert(
        &self,
        writer: &mut Writer,
        key: &[u8],
        value: &[u8],
    ) -> Result<bool, WriteError> {
        self.must_be_long(value, self.value);
        self.change(writer, key, Some(value))
    }

    /// Removes an entry. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// As for [`SharedMap::insert`].
    ///
    /// # Panics
    ///
    /// If the key is not as long as this map's.
    pub fn remove(&self, writer: &mut Writer, key: &[u8]) -> Result<bool, WriteError> {
        self.change(writer, key, None)
    }

    /// Removes all entries, as [`SharedMap::clear`].
    ///
    /// # Errors
    ///
    /// As for [`SharedMap::insert`].
    pub fn clear(&self, writer: &mut Writer) -> Result<(), WriteError> {
        self.map.clear(writer)
    }

    fn change(
        &self,
        writer: &mut Writer,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<bool, WriteError> {
        self.must_be_long(key, self.key);
        let turn = self.map.turn(writer, self.bytes())?;
        let table = match self.map.ready(&turn)? {
            Some(table) => table,
            None if value.is_none() => return Ok(false),
            None => self.map.make(&turn)?,
        };
        let hash = hash_bytes(key, table.seed());
        let place = table.place(&turn, hash, |node| self.is(&turn, node, key))?;
        let found = place.1.is_some();
        let entry = value.map(|value| |next| self.fresh(&turn, (hash, key, value), next));
        SharedMap::put(&turn, table, place, entry)?;
        Ok(found)
    }

    /// Allocates an entry that leads to `next`.
    fn fresh<'t>(
        &self,
        turn: &'t Turn<'_>,
        (hash, key, value): (u64, &[u8], &[u8]),
        next: Link<Node>,
    ) -> Result<Fresh<'t, Node>, WriteError> {
        let fresh = turn.alloc_long::<Node>(self.bytes(), 0)?;
        fresh.write(|node| &node.hash, hash);
        let at = fresh.link().offset() + 16;
        for (word, index) in words(key).chain(words(value)).zip(0..) {
            turn.blocks().put(at + index * 8, word);
        }
        fresh.lead(|node| &node.next, next);
        Ok(fresh)
    }

    fn must_be_long(&self, bytes: &[u8], wanted: u64) {
        assert!(bytes.len() as u64 == wanted, "{} bytes instead of {wanted}", bytes.len());
    }
}

/// Replaces a cell's value, as [`SharedCell::set`](crate::SharedCell::set). `None` if there is no such root.
pub fn set_cell(writer: &mut Writer, root: u64, value: &[u8]) -> Option<Result<(), WriteError>> {
    let root = usize::try_from(root).ok().filter(|&root| root < ROOTS)?;
    let mut set = || {
        let bytes = 8 + value.len().div_ceil(8) as u64 * 8;
        writer.make_room(bytes)?;
        let mut turn = writer.turn()?;
        if !turn.has_bytes(bytes) {
            turn.reclaim()?;
        }
        // The beginning of every cell's value: its size.
        let fresh = turn.alloc_long::<Field<u64>>(bytes, 0)?;
        fresh.write(|size| size, value.len() as u64);
        let at = fresh.link().offset() + 8;
        for (word, index) in words(value).zip(0..) {
            turn.blocks().put(at + index * 8, word);
        }
        turn.replace(turn.root(root), fresh).map(drop)
    };
    Some(set())
}

/// Returns what [`AnyMap::new`] takes for a schema.
#[must_use]
pub fn schema(text: &[u8]) -> u64 {
    hash::schema(text)
}

/// A walk over a map's entries, in one section.
pub struct Walk {
    map: AnyMap,
    /// What the map was as the walk began.
    table: Link<Table>,
    next: u64,
    buckets: u64,
    left: u64,
    /// How many entries there can be still.
    room: u64,
    batch: Vec<Entry>,
}

/// A walk came to something that a participant has broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenMap;

impl Walk {
    /// Returns the next entry. A walk over a map that is cleared meanwhile ends.
    ///
    /// # Errors
    ///
    /// [`BrokenMap`].
    pub fn next(&mut self, view: &impl View) -> Result<Option<Entry>, BrokenMap> {
        while self.batch.is_empty() && self.next < self.buckets {
            let table = view.follow(self.table).ok_or(BrokenMap)?;
            let bucket = (self.next, self.buckets);
            self.next += 1;
            let (map, left) = (self.map, &mut self.left);
            let entry = |node| map.entry(view, node);
            let found = table.get().collect(view, bucket, left, &mut self.batch, entry);
            let room = found.and_then(|()| self.room.checked_sub(self.batch.len() as u64));
            if let Some(room) = room {
                self.room = room;
            } else {
                (self.next, self.buckets) = (0, 0);
                self.batch.clear();
                // Who clears a map takes the old table's segments away after the root leads elsewhere (Release), so whoever
                // misses one (Acquire) sees that here.
                let now = view.root::<Table>(map.root).link();
                return if now == self.table { Err(BrokenMap) } else { Ok(None) };
            }
        }
        Ok(self.batch.pop())
    }
}
