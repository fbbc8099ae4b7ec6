//! A map's table: buckets of lists that grow by one bucket at a time, and never move.
//!
//! This file owns the table's layout and the readers' walks. What turns do to it is `table/turns.rs`'s. It knows nothing of who
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

mod turns;

use crate::blocks::HEADER;
use crate::hash::hash;
use crate::link::{Link, SharedAtomic, SharedRef, View};
use crate::share::{Field, Plain, Shareable, Word};
use crate::steps::{Mutant, broken, pause};
use crate::sync::size;

pub(crate) use turns::Place;

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
}

impl<K: Plain, V: Plain> Node<K, V> {
    /// Returns the link to the next one.
    pub(crate) fn next(&self) -> Link<Node<K, V>> {
        self.next.link()
    }
}
