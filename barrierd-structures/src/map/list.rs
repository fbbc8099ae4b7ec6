//! The list of all entries, ordered by their hashes, and the table's dummies among them.
//!
//! It knows neither hashers nor guards: [`Retire`] is all that it asks of a section. `map/mod.rs` has the arguments.

use super::filter::Filters;
use super::link::{self, Link};
use super::node::{self, Draft, Node};
use super::retire::Retire;
use super::table::{Position, Table};
use crate::sync::{Mutant, broken};
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

pub(super) struct List<K, V> {
    pub(super) table: Table,
    pub(super) filters: Filters,
    /// It owns nodes, shares them, and is invariant: what is inserted as one type is never read as another.
    _nodes: PhantomData<*mut Node<K, V>>,
}

/// Where an entry is, or would be.
pub(super) struct Place<'g, K, V> {
    /// The link that leads there, and what it was.
    link: &'g Link,
    seen: *mut (),
    /// The entry, which was not removed when it was found.
    pub(super) found: Option<&'g Node<K, V>>,
}

impl<K, V> List<K, V> {
    pub(super) fn new(buckets: usize) -> List<K, V> {
        let table = Table::new(buckets);
        let filters = Filters::new(table.buckets());
        List { table, filters, _nodes: PhantomData }
    }

    /// Returns the entry of this hash whose key `is` the right one. It writes nothing, unless the bucket is not in the list
    /// yet, and retires nothing.
    ///
    /// # Safety
    /// The caller has a section open, as long as it uses the result, of the reclaimer that this list's nodes are retired to.
    #[inline]
    pub(super) unsafe fn lookup(
        &self,
        hash: usize,
        is: impl Fn(&K) -> bool,
    ) -> Option<&Node<K, V>> {
        // SAFETY: the caller's promise.
        if unsafe { self.filters.rule_out(hash) } {
            return None;
        }
        // SAFETY: the caller's promise.
        let mut at = unsafe { self.table.start(hash) }.seen;
        loop {
            // A slot's mark says nothing here (`table.rs`), and a removed node leads on as it did when it was removed.
            at = link::unmarked(at);
            if link::is_dummy(at) {
                if link::is_beyond(at, hash) {
                    return None;
                }
                at = self.table.behind(at).load(Acquire);
                continue;
            }
            // SAFETY: a node that was in the list when the section was open; so it is not freed yet.
            let node = unsafe { &*at.cast::<Node<K, V>>() };
            // Acquire: for the node behind.
            let next = node.header.next.load(Acquire);
            if node.header.hash >= hash {
                if node.header.hash > hash {
                    return None;
                }
                if is(&node.key) && !link::is_marked(next) {
                    return Some(node);
                }
            }
            at = next;
        }
    }

    /// Has fetched what an insertion of this hash comes to first.
    ///
    /// # Safety
    /// As for `lookup`.
    #[inline]
    pub(super) unsafe fn fetch(&self, hash: usize) {
        self.table.fetch(hash);
        // SAFETY: the caller's promise.
        unsafe { self.filters.fetch(hash) };
    }

    /// Returns the place of the entry of this hash whose key `is` the right one, or behind all of this hash. Removed nodes on the
    /// way are unlinked and retired.
    ///
    /// # Safety
    /// `section` is open, of the reclaimer that this list's nodes are retired to, and nodes may be dropped on any thread at any
    /// time.
    pub(super) unsafe fn find<'g>(
        &'g self,
        section: &impl Retire,
        hash: usize,
        mut is: impl FnMut(&K) -> bool,
    ) -> Place<'g, K, V> {
        'again: loop {
            // SAFETY: the caller's promise.
            let Position { mut link, mut seen } = unsafe { self.table.start(hash) };
            loop {
                let here = link::unmarked(seen);
                if link::is_dummy(here) {
                    if link::is_beyond(here, hash) {
                        return Place { link, seen, found: None };
                    }
                    link = self.table.behind(here);
                    seen = link.load(Acquire);
                    continue;
                }
                // SAFETY: a node that was in the list when the section was open; so it is not freed yet.
                let node = unsafe { &*here.cast::<Node<K, V>>() };
                let next = node.header.next.load(Acquire);
                if link::is_marked(next) {
                    let next = link::unmarked(next);
                    // AcqRel: Release for the node behind, which whoever comes along this link reads. It fails if the link has
                    // changed, or belongs to a node that is itself removed: so one thread unlinks a node.
                    if link.compare_exchange(seen, next, AcqRel, Relaxed).is_err() {
                        continue 'again;
                    }
                    // SAFETY: unlinked by this thread, so retired by it alone; the one link to it was exchanged.
                    unsafe { section.retire(here.cast::<Node<K, V>>()) };
                    seen = next;
                } else if node.header.hash > hash {
                    return Place { link, seen, found: None };
                } else if node.header.hash == hash && is(&node.key) {
                    return Place { link, seen, found: Some(node) };
                } else {
                    (link, seen) = (&node.header.next, next);
                }
            }
        }
    }

    /// Puts a new node where no entry was found. Fails if something has changed there.
    ///
    /// # Safety
    /// As for `find`, and `place` was found in this section.
    pub(super) unsafe fn insert<'g>(
        &'g self,
        section: &impl Retire,
        place: &Place<'g, K, V>,
        new: Draft<K, V>,
    ) -> Result<&'g Node<K, V>, Draft<K, V>> {
        let hash = new.hash();
        // SAFETY: the caller's promise. Before the node is linked.
        if !broken(Mutant::BitAfterLink) && unsafe { self.filters.add(hash) } {
            // SAFETY: the caller's promise.
            unsafe { self.filters.crowded(section, self.table.buckets()) };
        }
        let to = new.before(place.seen);
        // Release: whoever finds the node sees it whole, and the bit.
        let result = match place.link.compare_exchange(place.seen, to, Release, Relaxed) {
            // SAFETY: in the list since, and kept by the caller's section if it is removed.
            Ok(_) => Ok(unsafe { &*new.published() }),
            Err(_) => Err(new),
        };
        if broken(Mutant::BitAfterLink) {
            // SAFETY: the caller's promise.
            let _ = unsafe { self.filters.add(hash) };
        }
        result
    }

    /// Puts a new node in the place of one that was found, at one stroke: the exchange that removes the old one links the new
    /// one behind it. Fails if the old one is removed by now, and for no other reason.
    ///
    /// # Safety
    /// As for `find`; and `place` is of the same hash, with an entry.
    pub(super) unsafe fn replace<'g>(
        &'g self,
        section: &impl Retire,
        place: &Place<'g, K, V>,
        found: &'g Node<K, V>,
        new: Draft<K, V>,
    ) -> Result<&'g Node<K, V>, Draft<K, V>> {
        // What is behind it may change any number of times before.
        let Some(to) = Self::remove(found, |next| new.before(next)) else { return Err(new) };
        // SAFETY: in the list since, and kept by the caller's section if it is removed.
        let new = unsafe { &*new.published() };
        // SAFETY: the caller's promise.
        unsafe { self.unlink(section, Some(place), found, to) };
        Ok(new)
    }

    /// Removes a node that was found, and leaves it in the list: [`unlink`](List::unlink) is next. Returns the link to what is
    /// behind it, which stays so; or nothing, if the node was removed by now.
    pub(super) fn mark(found: &Node<K, V>) -> Option<*mut ()> {
        Self::remove(found, |next| next)
    }

    /// Marks a node, and makes it lead to what `to` makes of the link to the next one. A neighbour that comes, goes or is
    /// replaced meanwhile is no reason to fail: the node is still its key's only one.
    fn remove(node: &Node<K, V>, to: impl Fn(*mut ()) -> *mut ()) -> Option<*mut ()> {
        // Acquire, here and below: for the node behind, which is passed on.
        let mut next = node.header.next.load(Acquire);
        while !link::is_marked(next) {
            let to = to(next);
            // Release: for the node behind, which others find through the removed one.
            match node.header.next.compare_exchange(next, link::marked(to), Release, Acquire) {
                Ok(_) => return Some(to),
                Err(now) => next = now,
            }
        }
        None
    }

    /// Takes a node out of the list that this thread has marked. `place` is where it was found, if that is known. Returns whether
    /// the link there was still the one that led to it, and leads to `to` now.
    ///
    /// # Safety
    /// As for `find`; and the caller has marked `found`, with `to` behind it.
    pub(super) unsafe fn unlink(
        &self,
        section: &impl Retire,
        place: Option<&Place<'_, K, V>>,
        found: &Node<K, V>,
        to: *mut (),
    ) -> bool {
        // AcqRel: as in `find`.
        let there = place
            .filter(|place| place.link.compare_exchange(place.seen, to, AcqRel, Relaxed).is_ok());
        match there {
            Some(place) => {
                // SAFETY: as in `find`. The link held the node's own pointer.
                unsafe { section.retire(link::unmarked(place.seen).cast::<Node<K, V>>()) };
                true
            }
            None => {
                // Somebody changed the link before: a search up to the end of this hash unlinks it, if nobody has yet.
                // SAFETY: the caller's promise.
                unsafe { self.find(section, found.header.hash, |_| false) };
                false
            }
        }
    }

    /// Removes the entries that `is_to_stay` does not say so of, along the list, each by itself: nothing is looked for by key.
    /// `one_less` is called for each, before it is retired.
    ///
    /// # Safety
    /// As for `find`.
    pub(super) unsafe fn retain<R>(
        &self,
        section: &impl Retire,
        mut is_to_stay: impl FnMut(&K, &V) -> bool,
        one_less: impl Fn() -> R,
    ) {
        // The link that leads to `at`, unless that was changed: then a search unlinks what is to go.
        let mut link = Some(self.table.first());
        let mut at = self.table.first().load(Acquire);
        loop {
            let here = link::unmarked(at);
            if link::is_end(here) {
                return;
            }
            if link::is_dummy(here) {
                let behind = self.table.behind(here);
                (link, at) = (Some(behind), behind.load(Acquire));
                continue;
            }
            // SAFETY: a node that was in the list when the section was open; so it is not freed yet.
            let node = unsafe { &*here.cast::<Node<K, V>>() };
            let next = node.header.next.load(Acquire);
            if link::is_marked(next) {
                // Removed or replaced by others, who unlink it.
                (link, at) = (None, link::unmarked(next));
            } else if is_to_stay(&node.key, &node.value) {
                (link, at) = (Some(&node.header.next), next);
            } else if let Some(to) = Self::mark(node) {
                one_less();
                let place = link.map(|link| Place { link, seen: at, found: Some(node) });
                // SAFETY: the caller's promise; marked above.
                link = match unsafe { self.unlink(section, place.as_ref(), node, to) } {
                    true => link,
                    false => None,
                };
                at = to;
            }
            // Else it was changed just now: what is there is seen at the next turn.
        }
    }

    /// Returns the value of the entry of this hash whose key `is` the right one.
    pub(super) fn get_mut(&mut self, hash: usize, is: impl Fn(&K) -> bool) -> Option<&mut V> {
        // SAFETY: the caller alone has the list, so no node that it leads to is retired meanwhile.
        let mut at = unsafe { self.table.start(hash) }.seen;
        loop {
            at = link::unmarked(at);
            if link::is_dummy(at) {
                if link::is_beyond(at, hash) {
                    return None;
                }
                at = self.table.behind(at).load(Acquire);
                continue;
            }
            let node = at.cast::<Node<K, V>>();
            // SAFETY: in the list, so not retired, and the list's alone.
            let (header, key) = unsafe { (&(*node).header, &(*node).key) };
            if header.hash > hash {
                return None;
            }
            at = header.next.load(Acquire);
            if header.hash == hash && !link::is_marked(at) && is(key) {
                // SAFETY: likewise; no other reference to the value exists, and this one borrows the list.
                return Some(unsafe { &mut (*node).value });
            }
        }
    }

    /// Takes out the first node. It may be one that is removed already.
    fn pop_node(&mut self) -> Option<*mut Node<K, V>> {
        // Relaxed: nobody else is there.
        let mut at = self.table.first().load(Relaxed);
        while !link::is_end(at) {
            if link::is_dummy(at) {
                at = link::unmarked(self.table.behind(at).load(Relaxed));
                continue;
            }
            let node = at.cast::<Node<K, V>>();
            // SAFETY: in the list, so not retired, and the list's alone.
            let next = unsafe { (*node).header.next.load(Relaxed) };
            self.table.first().store(link::unmarked(next), Relaxed);
            return Some(node);
        }
        self.table.first().store(at, Relaxed);
        None
    }

    /// Takes out the first entry.
    pub(super) fn pop(&mut self) -> Option<(K, V)> {
        loop {
            let node = self.pop_node()?;
            // SAFETY: it was taken out of a list that nobody else has, so it is this call's alone.
            unsafe {
                if link::is_marked((*node).header.next.load(Relaxed)) {
                    node::free(node);
                } else {
                    return Some(Draft::again(node).into_parts());
                }
            }
        }
    }
}

impl<K, V> Drop for List<K, V> {
    fn drop(&mut self) {
        /// Goes on behind a destructor that panics.
        struct Rest<'l, K, V>(&'l mut List<K, V>);
        impl<K, V> Drop for Rest<'_, K, V> {
            fn drop(&mut self) {
                while let Some(node) = self.0.pop_node() {
                    // SAFETY: taken out, so not used again.
                    unsafe { node::free(node) };
                }
            }
        }
        let rest = Rest(self);
        while let Some(node) = rest.0.pop_node() {
            // SAFETY: taken out, so not used again.
            unsafe { node::free(node) };
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
#[path = "list_tests.rs"]
mod tests;
