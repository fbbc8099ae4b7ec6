//! What turns do to a map's table: it is made and furnished, grows by splits, and is emptied.
//!
//! This file owns the writers' walks and changes. Each change of a link goes by `change.rs`. Where readers meet the three stores of a
//! split is said in `table.rs`.

use super::{FIRST, MOST, Node, Table, highest_bit, home, segment};
use crate::blocks::Corrupt;
use crate::change::Turn;
use crate::error::WriteError;
use crate::fresh::Fresh;
use crate::hash::seed;
use crate::link::{Link, SharedAtomic, SharedRef, View};
use crate::share::Plain;
use crate::steps::{Mutant, broken};
use crate::sync::AtomicU64;

fn corrupt(word: &AtomicU64, view: &impl View, what: &'static str) -> WriteError {
    Corrupt { at: view.map().offset_of(word).unwrap_or(0), what }.into()
}

/// What a walk has found, and the link that it ended at.
type Walked<'t, R, K, V> = (Option<R>, &'t SharedAtomic<Node<K, V>>);
/// A link, and the entry that it leads to if that is the one that was looked for.
pub(crate) type Place<'v, K, V> = (&'v SharedAtomic<Node<K, V>>, Option<SharedRef<'v, Node<K, V>>>);

impl<K: Plain, V: Plain> Table<K, V> {
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
