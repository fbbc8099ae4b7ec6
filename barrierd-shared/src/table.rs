//! A map's table: buckets of lists that grow by one bucket at a time, and never move.
//!
//! This file owns the table's layout, its walks, and its growth. Each change goes by `change.rs`. It knows nothing of who
//! calls.
//!
//! With `n` buckets a hash belongs to that of its lowest bits, and to one of a bit less where that one is not there yet (linear
//! hashing). A bucket's list is in the order of the hashes' *reversed* bits. So what a new bucket gets from its parent is the end of
//! the parent's list (split-ordered lists), and it takes three stores to split one, after each of which every entry is
//! found:
//!
//! 1. The new bucket leads to the first of its entries, in the middle of the parent's list. Nobody looks there yet.
//! 2. The number of buckets rises. Who comes from now on goes by the new one; others go through the parent.
//! 3. The parent's list is cut before that entry. A reader that comes to the cut, and looks for what is behind it, finds no such
//!    key. Since it has seen the cut, it sees the new number too, if it looks: that is what it does, and begins anew.
//!
//! The buckets stand in segments, each as long as all before it, which stay where they are.

use crate::blocks::{Corrupt, HEADER};
use crate::change::{Fresh, Turn};
use crate::error::WriteError;
use crate::hash::{hash, seed};
use crate::share::{Field, Link, Plain, Shareable, SharedAtomic, SharedRef, View, Word};
use crate::steps::{Mutant, broken, pause};
use crate::sync::{AtomicU64, size};

/// Buckets in the first segment.
pub(crate) const FIRST: u64 = FIRST_LEN as u64;
const FIRST_LEN: usize = size(64, 2);
const SEGMENTS: usize = size(32, 4);
/// The most buckets.
const MOST: u64 = FIRST << (SEGMENTS - 1);
/// Keys and values are shorter than this.
pub(crate) const LONGEST: u64 = 1 << 20;
/// The lowest bits of a map's kind, if it has no schema.
pub(crate) const MAP: u64 = 0x70_616d;

/// Returns what a map's kind says of its keys' and values' sizes.
pub(crate) const fn sizes(key: u64, value: u64) -> u64 {
    key << 44 | value << 24
}

/// What a table shows of itself, for people: nothing keeps it, nor its numbers, from changing meanwhile.
pub(crate) struct Seen {
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) schema: bool,
    pub(crate) entries: u64,
    pub(crate) buckets: u64,
    /// Bytes of each segment.
    pub(crate) segments: Vec<u64>,
    /// Itself, and the one that is kept for `clear`.
    pub(crate) tables: u64,
    pub(crate) clearing: bool,
}

/// A hash has fewer homes than this, however often buckets are split.
const HOMES: usize = 64;

/// An entry.
#[repr(C)]
pub(crate) struct Node<K, V> {
    pub(crate) hash: Field<u64>,
    pub(crate) next: SharedAtomic<Node<K, V>>,
    pub(crate) key: Field<K>,
    pub(crate) value: Field<V>,
}

/// The beginning of a segment.
type Segment<K, V> = [SharedAtomic<Node<K, V>>; FIRST_LEN];

/// What a map's root leads to.
#[repr(C)]
pub(crate) struct Table<K, V> {
    /// So that participants who differ about the types notice.
    kind: Field<u64>,
    seed: Field<[u64; 2]>,
    /// How many buckets readers go by. 0: the table is being made.
    buckets: Word,
    segments: [SharedAtomic<Segment<K, V>>; SEGMENTS],
    /// How many entries there are.
    pub(crate) len: Word,
    /// How many buckets have lists that end.
    cut: Word,
    /// How many buckets to begin with.
    wanted: Word,
    /// The table before this one, from which entries are still taken away.
    before: SharedAtomic<Table<K, V>>,
    /// How many of its buckets are empty, once it is such a one.
    drained: Word,
    /// The table that comes after this one, so that a full region's map can be cleared. No reader looks at it. A table with
    /// entries has one.
    spare: SharedAtomic<Table<K, V>>,
}

// SAFETY: fields, links, words and arrays of them, all whole words.
unsafe impl<K: Plain, V: Plain> Shareable for Node<K, V> {}
// SAFETY: as above.
unsafe impl<K: Plain, V: Plain> Shareable for Table<K, V> {}

/// Returns the bucket of a hash, if there are so many, 1 at least.
#[inline]
fn home(hash: u64, buckets: u64) -> u64 {
    let low = highest_bit(buckets);
    let fine = hash & (2 * low - 1);
    if fine < buckets { fine } else { fine & (low - 1) }
}

#[inline]
fn highest_bit(number: u64) -> u64 {
    1 << (63 - (number | 1).leading_zeros())
}

/// Returns the segment of a bucket, and the segment's first one.
#[inline]
fn segment(bucket: u64) -> (usize, u64) {
    let index = 64 - (bucket / FIRST).leading_zeros();
    (index as usize, (FIRST << index >> 1) & !(FIRST - 1))
}

fn corrupt(word: &AtomicU64, view: &impl View, what: &'static str) -> WriteError {
    Corrupt { at: view.map().offset_of(word).unwrap_or(0), what }.into()
}

/// What a walk has found, and the link that it ended at.
type Walked<'t, R, K, V> = (Option<R>, &'t SharedAtomic<Node<K, V>>);
/// A link, and the entry that it leads to if that is the one that was looked for.
pub(crate) type Place<'v, K, V> = (&'v SharedAtomic<Node<K, V>>, Option<SharedRef<'v, Node<K, V>>>);

impl<K: Plain, V: Plain> Table<K, V> {
    const KIND: u64 = {
        let (key, value) = (size_of::<K>() as u64, size_of::<V>() as u64);
        assert!(key < LONGEST && value < LONGEST, "keys and values are smaller than 1 MiB");
        sizes(key, value) | MAP
    };

    /// Returns what the table shows, if it looks like one, whatever its types are. `len` is the region's.
    pub(crate) fn seen(&self, len: u64) -> Option<Seen> {
        let (kind, buckets, wanted) = (self.kind.get(), self.buckets.get(), self.wanted.get());
        if buckets == 0 || buckets > len / 8 || !(FIRST..=MOST).contains(&wanted) {
            return None;
        }
        let there = self.segments.iter().take_while(|segment| !segment.link().is_null()).count();
        let ends = self.segments.iter().skip(there).all(|segment| segment.link().is_null());
        let bytes = |index: usize| (FIRST << index >> usize::from(index > 0)) * 8;
        let seen = Seen {
            key: kind >> 44,
            value: kind >> 24 & (LONGEST - 1),
            schema: kind & 0xff_ffff != MAP,
            entries: self.len.get(),
            buckets,
            segments: (0..there).map(bytes).collect(),
            tables: 1 + u64::from(!self.lacks_spare()),
            clearing: !self.before.link().is_null(),
        };
        (ends && there > segment(buckets - 1).0).then_some(seen)
    }

    /// `more` is what the types alone don't say: see `SharedMap::schema`, and `any.rs`.
    #[inline]
    pub(crate) fn is_right(&self, more: u64) -> bool {
        self.kind.get() == Self::KIND ^ more
    }

    /// Returns what stands where a map's kind does, for a message.
    pub(crate) fn kind(&self) -> u64 {
        self.kind.get()
    }

    #[inline]
    pub(crate) fn hash(&self, key: K) -> u64 {
        hash(key, self.seed.get())
    }

    pub(crate) fn seed(&self) -> [u64; 2] {
        self.seed.get()
    }

    /// Returns how many entries the region has room for: no list is longer, nor is any number of entries that are there at once
    /// larger.
    pub(crate) fn most(view: &impl View) -> u64 {
        view.map().len() / (size_of::<Node<K, V>>() as u64 + HEADER)
    }

    /// Returns the number of buckets. A broken word says that there are none.
    #[inline]
    pub(crate) fn buckets(&self, view: &impl View) -> u64 {
        let buckets = self.buckets.get();
        if buckets > view.map().len() / 8 { 0 } else { buckets }
    }

    /// Returns a bucket's link; `None` if the segment is gone, or a participant has broken the table.
    #[inline]
    fn bucket<'v>(&self, view: &'v impl View, bucket: u64) -> Option<&'v SharedAtomic<Node<K, V>>> {
        let (index, first) = segment(bucket);
        let segment = self.segments.get(index)?.link();
        if segment.is_null() {
            return None;
        }
        view.map().get(segment.offset().wrapping_add((bucket - first) * 8))
    }

    /// Returns a key's entry.
    #[inline]
    pub(crate) fn find<'v>(
        &self,
        view: &'v impl View,
        key: K,
    ) -> Option<SharedRef<'v, Node<K, V>>> {
        self.find_by(view, self.hash(key), |node| node.key.is(key))
    }

    /// Returns the entry of this hash that `is` is true of.
    #[inline]
    pub(crate) fn find_by<'v>(
        &self,
        view: &'v impl View,
        hash: u64,
        is: impl Fn(SharedRef<'v, Node<K, V>>) -> bool,
    ) -> Option<SharedRef<'v, Node<K, V>>> {
        let mut buckets = self.buckets(view);
        for _ in 0..HOMES {
            pause();
            if buckets == 0 {
                return None;
            }
            let own = home(hash, buckets);
            let mut left = Self::most(view);
            let mut at = view.load(self.bucket(view, own)?);
            while let Some(node) = at {
                if node.hash.get() == hash && is(node) {
                    return Some(node);
                }
                left = left.checked_sub(1)?;
                at = view.load(&node.get().next);
            }
            // The end may be a cut. Whoever sees that sees the number that was stored before it.
            buckets = self.buckets(view);
            if buckets == 0 || home(hash, buckets) == own || broken(Mutant::TrustedMiss) {
                return None;
            }
        }
        None
    }

    /// Collects what `entry` makes of the entries that belonged to `bucket` when there were `then` buckets. What is there all the
    /// time is found once.
    pub(crate) fn collect<'v, R>(
        &self,
        view: &'v impl View,
        (bucket, then): (u64, u64),
        left: &mut u64,
        into: &mut Vec<R>,
        entry: impl Fn(SharedRef<'v, Node<K, V>>) -> Option<R>,
    ) -> Option<()> {
        // In a list that goes round, memory must not grow without end.
        let most = Self::most(view);
        loop {
            into.clear();
            let now = self.buckets(view);
            pause();
            // Those that have been split off it since, and off those.
            let step = usize::try_from(highest_bit(then)).ok()?;
            let split = (bucket % step as u64..now).step_by(step);
            let split = split.filter(|&one| one >= then && home(one, then) == bucket);
            for one in std::iter::once(bucket).chain(split) {
                *left = left.checked_sub(1)?;
                let mut at = view.load(self.bucket(view, one)?);
                while let Some(node) = at {
                    if home(node.hash.get(), now) == one {
                        if into.len() as u64 > most {
                            return None;
                        }
                        into.push(entry(node)?);
                    }
                    *left = left.checked_sub(1)?;
                    at = view.load(&node.get().next);
                }
            }
            if self.buckets(view) == now {
                return Some(());
            }
            *left = left.checked_sub(1)?;
        }
    }

    /// Returns the link that leads to the entry of this hash that `is` is true of, and the entry; or the link where it belongs.
    pub(crate) fn place<'t>(
        &self,
        turn: &'t Turn<'_>,
        hash: u64,
        is: impl Fn(SharedRef<'t, Node<K, V>>) -> bool,
    ) -> Result<Place<'t, K, V>, WriteError> {
        let mut before = None;
        let own = home(hash, self.buckets(turn));
        self.walk(turn, own, |link, node| {
            let found = node.hash.get();
            if found == hash && is(node) {
                return Some((link, Some(node)));
            }
            // Before all of the same hash: an iteration that is there does not meet it again.
            if found.reverse_bits() >= hash.reverse_bits() {
                before.get_or_insert(link);
            }
            (found.reverse_bits() > hash.reverse_bits()).then_some(())?;
            before.map(|link| (link, None))
        })
        .map(|(found, end)| found.unwrap_or((before.unwrap_or(end), None)))
    }

    /// Calls `visit` with each link of a bucket and the node that it leads to, until it returns something. Returns that, and the
    /// last link.
    fn walk<'t, R>(
        &self,
        turn: &'t Turn<'_>,
        bucket: u64,
        mut visit: impl FnMut(&'t SharedAtomic<Node<K, V>>, SharedRef<'t, Node<K, V>>) -> Option<R>,
    ) -> Result<Walked<'t, R, K, V>, WriteError> {
        let broken = |what| corrupt(self.buckets.word(), turn, what);
        let mut link = self.bucket(turn, bucket).ok_or_else(|| broken("a map's buckets"))?;
        for _ in 0..=Self::most(turn) {
            let Some(node) = turn.load(link) else { return Ok((None, link)) };
            if let Some(found) = visit(link, node) {
                return Ok((Some(found), link));
            }
            link = &node.get().next;
        }
        Err(broken("a list that ends"))
    }

    /// Returns the link in a bucket's list to the first entry whose hash has this bit, or the last link.
    fn half<'t>(
        &self,
        turn: &'t Turn<'_>,
        bucket: u64,
        bit: u64,
    ) -> Result<&'t SharedAtomic<Node<K, V>>, WriteError> {
        let has = |node: SharedRef<'t, Node<K, V>>| (node.hash.get() & bit != 0).then_some(());
        Ok(self.walk(turn, bucket, |_, node| has(node))?.1)
    }

    /// Allocates a table of a kind, without buckets.
    fn fresh<'t>(
        turn: &'t Turn<'_>,
        kind: u64,
        wanted: u64,
    ) -> Result<Fresh<'t, Self>, WriteError> {
        let fresh = turn.alloc::<Table<K, V>>()?;
        fresh.write(|table| &table.kind, kind);
        fresh.write(|table| &table.seed, seed());
        turn.store(&fresh.wanted, wanted.clamp(FIRST, MOST))?;
        Ok(fresh)
    }

    /// Makes a table behind a link, unless one is there that has got no buckets for want of room.
    pub(crate) fn make<'t>(
        turn: &'t Turn<'_>,
        root: &SharedAtomic<Table<K, V>>,
        wanted: u64,
        more: u64,
    ) -> Result<SharedRef<'t, Table<K, V>>, WriteError> {
        match turn.load(root) {
            Some(table) => Ok(table),
            None => turn.put(root, Self::fresh(turn, Self::KIND ^ more, wanted)?),
        }
    }

    /// Returns whether there is no table to come after this one.
    pub(crate) fn lacks_spare(&self) -> bool {
        self.spare.link().is_null()
    }

    /// Returns the table to come after this one. It is made if there is none, which whoever inserts an entry does first.
    pub(crate) fn keep_spare<'t>(
        &self,
        turn: &'t Turn<'_>,
    ) -> Result<SharedRef<'t, Table<K, V>>, WriteError> {
        let kind = self.kind.get();
        match turn.load(&self.spare) {
            None => turn.put(&self.spare, Self::fresh(turn, kind, FIRST)?),
            Some(spare) if spare.kind.get() == kind => Ok(spare),
            Some(_) => Err(corrupt(self.spare.word(), turn, "a map's next table")),
        }
    }

    /// Puts the spare table in the place of this one, which the root leads to: no memory is needed. `drain` follows.
    pub(crate) fn swap(
        &self,
        turn: &Turn<'_>,
        root: &SharedAtomic<Table<K, V>>,
        wanted: u64,
    ) -> Result<(), WriteError> {
        let spare = self.keep_spare(turn)?;
        turn.store(&spare.wanted, wanted.clamp(FIRST, MOST))?;
        turn.set(&spare.before, root.link())?;
        turn.set(root, spare.link())
    }

    /// Gives a table that was made its buckets, as many as were wanted or as there is room for.
    pub(crate) fn furnish(&self, turn: &Turn<'_>) -> Result<(), WriteError> {
        if self.buckets(turn) != 0 {
            return Ok(());
        }
        let wanted = self.wanted.get().clamp(FIRST, MOST);
        let mut buckets = 0;
        for (index, link) in self.segments.iter().enumerate() {
            if buckets >= wanted {
                break;
            }
            let end = FIRST << index;
            let bytes = (end - buckets) * 8;
            if link.link().is_null() {
                if buckets > 0 && !turn.has_bytes(bytes) {
                    break;
                }
                turn.put(link, turn.alloc_long(bytes, bytes)?)?;
            }
            buckets = end.min(wanted);
        }
        turn.store(&self.cut, buckets)?;
        turn.store(&self.buckets, buckets)
    }

    /// Completes a split that a death has left: cuts the list of the last bucket's parent.
    pub(crate) fn mend(&self, turn: &Turn<'_>) -> Result<(), WriteError> {
        let buckets = self.buckets(turn);
        if self.cut.get() == buckets || buckets <= 1 {
            return Ok(());
        }
        let bit = highest_bit(buckets - 1);
        turn.set(self.half(turn, buckets - 1 - bit, bit)?, Link::NULL)?;
        turn.store(&self.cut, buckets)
    }

    /// Adds a bucket if there are more entries than buckets. Where there is no room for it, lists get longer.
    pub(crate) fn grow(&self, turn: &Turn<'_>) -> Result<(), WriteError> {
        let buckets = self.buckets(turn);
        if self.len.get() <= buckets || buckets >= MOST {
            return Ok(());
        }
        let corrupt = || corrupt(self.buckets.word(), turn, "a map's buckets");
        if buckets == 0 {
            return Err(corrupt());
        }
        let (index, first) = segment(buckets);
        let link = self.segments.get(index).ok_or_else(corrupt)?;
        if link.link().is_null() {
            // Bytes that are not cleared: a bucket is stored before it counts.
            let bytes = first.max(FIRST) * 8;
            if !turn.has_bytes(bytes) {
                return Ok(());
            }
            turn.put(link, turn.alloc_long(bytes, 0)?)?;
        }
        let bit = highest_bit(buckets);
        let half = self.half(turn, buckets - bit, bit)?;
        turn.lead_unseen(self.bucket(turn, buckets).ok_or_else(corrupt)?, half.link())?;
        if broken(Mutant::EarlyCut) {
            turn.set(half, Link::NULL)?;
        }
        turn.store(&self.buckets, buckets + 1)?;
        self.mend(turn)
    }

    /// Allocates an entry that leads to `next`.
    pub(crate) fn entry<'t>(
        turn: &'t Turn<'_>,
        (hash, key, value): (u64, K, V),
        next: Link<Node<K, V>>,
    ) -> Result<Fresh<'t, Node<K, V>>, WriteError> {
        let fresh = turn.alloc::<Node<K, V>>()?;
        fresh.write(|node| &node.hash, hash);
        fresh.write(|node| &node.key, key);
        fresh.write(|node| &node.value, value);
        fresh.lead(|node| &node.next, next);
        Ok(fresh)
    }

    /// Takes entries and buckets of the table before this one away, `most` of them. Returns whether there is none left.
    pub(crate) fn drain(&self, turn: &Turn<'_>, most: u64) -> Result<bool, WriteError> {
        let Some(old) = turn.load(&self.before) else { return Ok(true) };
        let old = old.get();
        // Its successor has taken its place, and is nobody's spare any more.
        turn.set(&old.spare, Link::NULL)?;
        let corrupt = || corrupt(old.buckets.word(), turn, "a map's buckets");
        let mut left = most;
        let mut drained = old.drained.get();
        while drained < old.buckets(turn) {
            if left == 0 {
                return Ok(false);
            }
            let link = old.bucket(turn, drained).ok_or_else(corrupt)?;
            while let Some(node) = turn.load(link) {
                if left == 0 {
                    return Ok(false);
                }
                turn.remove(link, node.next.link())?;
                left -= 1;
            }
            drained += 1;
            turn.store(&old.drained, drained)?;
            left = left.saturating_sub(1);
        }
        for segment in old.segments.iter().filter(|segment| !segment.link().is_null()) {
            turn.remove(segment, Link::NULL)?;
        }
        turn.remove(&self.before, old.before.link())?;
        Ok(self.before.link().is_null())
    }
}

impl<K: Plain, V: Plain> Node<K, V> {
    /// Returns the link to the next one.
    pub(crate) fn next(&self) -> Link<Node<K, V>> {
        self.next.link()
    }
}
