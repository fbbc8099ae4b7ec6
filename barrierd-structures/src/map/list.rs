//! The list of all entries, ordered by their hashes, and the table's dummies among them.
//!
//! It knows neither hashers nor guards: [`Retire`] is all that it asks of a section. `map/mod.rs` has the arguments.

use super::link::{self, Link};
use super::node::{self, Draft, Node};
use super::table::{Position, Table};
use core::marker::PhantomData;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// An open read-side section, as the list needs it.
pub(super) trait Retire {
    /// Frees a node once nobody can hold it.
    ///
    /// # Safety
    /// No link of the list leads to it any more, and it is retired once.
    unsafe fn retire<K, V>(&self, node: *mut Node<K, V>);
}

impl Retire for barrierd_reclaim::Guard<'_> {
    #[inline]
    unsafe fn retire<K, V>(&self, node: *mut Node<K, V>) {
        // SAFETY: unlinked before, and retired once, as the caller promises. That it may be dropped on any thread, at any time,
        // is in the bounds of those who remove entries: `Send` and `'static`.
        unsafe { self.retire_with(node, node::free) };
    }
}

pub(super) struct List<K, V> {
    pub(super) table: Table,
    /// It owns nodes, shares them, and is invariant: what is inserted as one type is never read as another.
    _nodes: PhantomData<*mut Node<K, V>>,
}

/// Where an entry is, or would be.
pub(super) struct Place<'g, K, V> {
    /// The link that leads there, and what it was.
    link: &'g Link,
    seen: *mut (),
    pub(super) found: Option<Found<'g, K, V>>,
}

/// An entry that was not removed when it was found.
pub(super) struct Found<'g, K, V> {
    pub(super) node: &'g Node<K, V>,
    /// What was behind it, without a mark.
    next: *mut (),
}

impl<K, V> List<K, V> {
    pub(super) fn new(buckets: usize) -> List<K, V> {
        List { table: Table::new(buckets), _nodes: PhantomData }
    }

    /// Returns the entry of this hash whose key `is` the right one. It writes nothing, unless the bucket is looked for the
    /// first time, and retires nothing.
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
                    return Place { link, seen, found: Some(Found { node, next }) };
                } else {
                    (link, seen) = (&node.header.next, next);
                }
            }
        }
    }

    /// Puts a new node where no entry was found. Fails if something has changed there.
    pub(super) fn insert<'g>(
        &'g self,
        place: &Place<'g, K, V>,
        new: Draft<K, V>,
    ) -> Result<&'g Node<K, V>, Draft<K, V>> {
        let to = new.before(place.seen);
        // Release: whoever finds the node sees it whole.
        match place.link.compare_exchange(place.seen, to, Release, Relaxed) {
            // SAFETY: in the list since, and kept by the caller's section if it is removed.
            Ok(_) => Ok(unsafe { &*new.published() }),
            Err(_) => Err(new),
        }
    }

    /// Puts a new node in the place of one that was found, at one stroke: the exchange that removes the old one links the new
    /// one behind it. Fails if the old one is removed by now, or something came behind it.
    ///
    /// # Safety
    /// As for `find`; and `place` is of the same hash, with an entry.
    pub(super) unsafe fn replace<'g>(
        &'g self,
        section: &impl Retire,
        place: &Place<'g, K, V>,
        found: &Found<'g, K, V>,
        new: Draft<K, V>,
    ) -> Result<&'g Node<K, V>, Draft<K, V>> {
        let to = new.before(found.next);
        let next = &found.node.header.next;
        // Release: for the new node.
        if next.compare_exchange(found.next, link::marked(to), Release, Relaxed).is_err() {
            return Err(new);
        }
        // SAFETY: in the list since, and kept by the caller's section if it is removed.
        let new = unsafe { &*new.published() };
        // SAFETY: the caller's promise.
        unsafe { self.unlink(section, place, found, to) };
        Ok(new)
    }

    /// Removes a node that was found, and leaves it in the list: [`unlink`](List::unlink) is next. Fails if it is removed by
    /// now, or something came behind it.
    pub(super) fn mark(found: &Found<'_, K, V>) -> bool {
        let marked = link::marked(found.next);
        // Release: for the node behind, which others find through the removed one.
        found.node.header.next.compare_exchange(found.next, marked, Release, Relaxed).is_ok()
    }

    /// Takes a node out of the list that this thread has marked.
    ///
    /// # Safety
    /// As for `find`; and the caller has marked `found`, with `to` behind it.
    unsafe fn unlink(
        &self,
        section: &impl Retire,
        place: &Place<'_, K, V>,
        found: &Found<'_, K, V>,
        to: *mut (),
    ) {
        // AcqRel: as in `find`.
        if place.link.compare_exchange(place.seen, to, AcqRel, Relaxed).is_ok() {
            // SAFETY: as in `find`. The link held the node's own pointer.
            unsafe { section.retire(link::unmarked(place.seen).cast::<Node<K, V>>()) };
        } else {
            // Somebody changed the link before: a search up to the end of this hash unlinks it, if nobody has yet.
            // SAFETY: the caller's promise.
            unsafe { self.find(section, found.node.header.hash, |_| false) };
        }
    }

    /// Does what [`unlink`](List::unlink) does, for a node that [`mark`](List::mark) removed.
    ///
    /// # Safety
    /// As for `find`; and the caller has marked `found`.
    pub(super) unsafe fn unlink_marked(
        &self,
        section: &impl Retire,
        place: &Place<'_, K, V>,
        found: &Found<'_, K, V>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { self.unlink(section, place, found, found.next) };
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
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A section that keeps what is retired until its end.
    #[derive(Default)]
    struct Kept(RefCell<Vec<*mut ()>>);

    impl Retire for Kept {
        unsafe fn retire<K, V>(&self, node: *mut Node<K, V>) {
            self.0.borrow_mut().push(node.cast());
        }
    }

    type Numbers = List<u32, u32>;

    impl Kept {
        fn free(self) -> usize {
            let all = self.0.into_inner();
            // SAFETY: retired by a list of this type; nobody holds them.
            all.iter().for_each(|node| unsafe { node::free(node.cast::<Node<u32, u32>>()) });
            all.len()
        }
    }

    const HALF: usize = 1 << (usize::BITS - 1);

    fn find<'l>(list: &'l Numbers, kept: &Kept, hash: usize) -> Place<'l, u32, u32> {
        // SAFETY: nothing is freed while the list is used.
        unsafe { list.find(kept, hash, |_| true) }
    }

    fn insert(list: &Numbers, kept: &Kept, hash: usize) {
        assert!(list.insert(&find(list, kept, hash), Draft::new(hash, 0, 0)).is_ok());
    }

    fn has(list: &Numbers, hash: usize) -> bool {
        // SAFETY: nothing is freed while the list is used.
        unsafe { list.lookup(hash, |_| true) }.is_some()
    }

    /// The new half of the table comes into the list behind a node that is removed and not unlinked: that one stays removed.
    #[test]
    fn a_bucket_is_not_linked_behind_a_removed_node() {
        let (list, kept) = (Numbers::new(2), Kept::default());
        insert(&list, &kept, HALF - 1);
        let place = find(&list, &kept, HALF - 1);
        assert!(List::mark(place.found.as_ref().unwrap()));
        assert!(!has(&list, HALF) && !has(&list, HALF - 1));
        let slot = || {
            // SAFETY: of a table of two buckets or more; nothing is freed.
            unsafe { list.table.slot(HALF) }.load(Acquire)
        };
        assert!(!link::is_ready(slot()));
        // It is there all the same, by the bucket before. A writer's search unlinks the node, and the next one opens the bucket.
        insert(&list, &kept, HALF);
        assert!(has(&list, HALF) && !has(&list, HALF - 1));
        assert!(link::is_ready(slot()));
        assert_eq!(kept.free(), 1);
    }

    /// Whatever happens to an entry between a search and the change that it is for, the change fails.
    #[test]
    fn a_place_that_has_changed_is_refused() {
        let (list, kept) = (Numbers::new(2), Kept::default());
        let empty = find(&list, &kept, 10);
        insert(&list, &kept, 20);
        assert!(list.insert(&empty, Draft::new(10, 0, 0)).is_err(), "something came");
        insert(&list, &kept, 10);
        let (before, behind) = (find(&list, &kept, 10), find(&list, &kept, 15));
        let found = before.found.as_ref().unwrap();
        assert!(List::mark(found));
        assert!(!List::mark(found), "removed twice");
        assert!(list.insert(&behind, Draft::new(15, 0, 0)).is_err(), "behind a removed node");
        // SAFETY: of the same hash, with an entry; nothing is freed.
        let replaced = unsafe { list.replace(&kept, &before, found, Draft::new(10, 0, 0)) };
        assert!(replaced.is_err(), "in the place of a removed one");
        // SAFETY: marked above; nothing is freed.
        unsafe { list.unlink_marked(&kept, &before, found) };
        // Again, as a thread that comes too late: nothing is retired twice.
        find(&list, &kept, 10);
        assert!(!has(&list, 10) && has(&list, 20));
        assert_eq!(kept.free(), 1);
    }

    /// A reader at a node that was replaced goes on to the one in its place.
    #[test]
    fn what_takes_a_place_lies_right_behind() {
        let (list, kept) = (Numbers::new(2), Kept::default());
        insert(&list, &kept, 10);
        insert(&list, &kept, 20);
        let place = find(&list, &kept, 10);
        let found = place.found.as_ref().unwrap();
        // SAFETY: of the same hash, with an entry; nothing is freed.
        let new = unsafe { list.replace(&kept, &place, found, Draft::new(10, 0, 7)) };
        let new: *const Node<u32, u32> = new.ok().unwrap();
        let behind = found.node.header.next.load(Acquire);
        assert!(link::is_marked(behind));
        assert_eq!(link::unmarked(behind).cast_const().cast(), new);
        // SAFETY: nothing is freed.
        assert_eq!(unsafe { list.lookup(10, |_| true) }.map(|node| node.value), Some(7));
        assert_eq!(kept.free(), 1);
    }
}
