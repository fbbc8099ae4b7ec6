//! What of one thread's queue does not go in its order: items with a birth, which have bags of their
//! own, and items that could go but for one reader.
//!
//! Owns these and nothing else; it is made when a queue first needs it. Items without a birth (births
//! are eras, so none is 0) stay in the queue's order, as an interval holds them like a section would.

use super::{BAG_ITEMS, Bag, Item, SPARE_BAGS};
use crate::holders::{Holder, Holders};
use crate::protocol::Safe;
use core::mem::take;
use std::collections::VecDeque;

/// See the file's documentation.
#[derive(Default)]
pub(super) struct Aside {
    /// The open bag of items with a birth.
    open: Option<Bag>,
    /// Sealed, oldest first.
    sealed: VecDeque<Bag>,
    /// Would go, but an interval holds each item. By holder, so that nothing is looked at again while
    /// that one stays.
    kept: Vec<(Holder, Vec<Bag>)>,
    /// Would go, but a hazard holds them.
    hazarded: Vec<Item>,
}

impl Aside {
    /// The open bag's virtual time and its items, if there are any.
    pub(super) fn open(&self) -> Option<(u64, usize)> {
        self.open.as_ref().map(|bag| (bag.vtime, bag.len))
    }

    /// Puts an item with a birth into the open bag, which has room and is of this virtual time, or
    /// into a new one.
    pub(super) fn push(
        &mut self,
        item: Item,
        birth: u64,
        bytes: usize,
        vtime: u64,
        spare: &mut Vec<Bag>,
    ) {
        let bag = self.open.get_or_insert_with(|| {
            let mut bag = spare.pop().unwrap_or_else(Bag::new);
            (bag.vtime, bag.bytes, bag.birth) = (vtime, 0, u64::MAX);
            bag
        });
        bag.add(item);
        bag.bytes += bytes;
        bag.birth = bag.birth.min(birth);
    }

    /// Closes the open bag with the stamp `ns`.
    pub(super) fn seal(&mut self, ns: u64) {
        if let Some(mut bag) = self.open.take() {
            bag.ns = self.sealed.back().map_or(ns, |before| before.ns.max(ns));
            self.sealed.push_back(bag);
        }
    }

    /// Sealed bags that wait for a barrier or a section.
    pub(super) fn sealed(&self) -> &VecDeque<Bag> {
        &self.sealed
    }

    /// What may go goes to `free`, in bags.
    pub(super) fn release(
        &mut self,
        safe: Safe,
        holders: &Holders,
        free: &mut VecDeque<Bag>,
        spare: &mut Vec<Bag>,
    ) {
        let first = free.len();
        self.release_kept(holders, free, spare);
        let safe = holders.with_birth(safe);
        if self.sealed.is_empty() && self.open().is_some_and(|(vtime, _)| vtime < safe.vtime) {
            self.seal(u64::MAX);
        }
        while self.sealed.front().is_some_and(|bag| bag.is_safe(safe)) {
            let bag = self.sealed.pop_front().expect("looked at");
            self.sort(bag, holders, free, spare);
        }
        // What a hazard holds has no other holder: see `Aside::hazards`.
        for mut bag in free.split_off(first) {
            self.hazards(&mut bag, holders);
            put(bag, free, spare);
        }
        self.release_hazarded(holders, free, spare);
    }

    /// Looks at what intervals held again, where one of them is gone.
    fn release_kept(&mut self, holders: &Holders, free: &mut VecDeque<Bag>, spare: &mut Vec<Bag>) {
        if self.kept.iter().all(|(holder, _)| holders.has(*holder)) {
            return;
        }
        let (still, gone) =
            take(&mut self.kept).into_iter().partition(|(holder, _)| holders.has(*holder));
        self.kept = still;
        for bag in gone.into_iter().flat_map(|(_, bags)| bags) {
            self.sort(bag, holders, free, spare);
        }
    }

    /// Puts a bag that is safe but for intervals where it belongs, item by item if need be.
    fn sort(
        &mut self,
        mut bag: Bag,
        holders: &Holders,
        free: &mut VecDeque<Bag>,
        spare: &mut Vec<Bag>,
    ) {
        if holders.holder(bag.ns, bag.birth).is_some() {
            let ns = bag.ns;
            let bytes = bag.bytes / bag.waiting().max(1);
            // One holder is enough; when it has gone the next is found.
            bag.retain(|item| {
                // SAFETY: bags with a birth hold items that begin with theirs, and are not freed.
                let birth = unsafe { item.birth() };
                let Some(holder) = holders.holder(ns, birth) else { return true };
                self.keep(holder, *item, ns, birth, bytes, spare);
                false
            });
            bag.bytes = bytes * bag.waiting();
        }
        put(bag, free, spare);
    }

    fn keep(
        &mut self,
        holder: Holder,
        item: Item,
        ns: u64,
        birth: u64,
        bytes: usize,
        spare: &mut Vec<Bag>,
    ) {
        let group = self.kept.iter().position(|(known, _)| *known == holder);
        let group = group.unwrap_or_else(|| {
            self.kept.push((holder, Vec::new()));
            self.kept.len() - 1
        });
        let bags = &mut self.kept[group].1;
        if bags.last().is_none_or(|bag| bag.len == BAG_ITEMS) {
            let mut bag = spare.pop().unwrap_or_else(Bag::new);
            (bag.ns, bag.vtime, bag.bytes, bag.birth) = (0, u64::MAX, 0, u64::MAX);
            bags.push(bag);
        }
        let bag = bags.last_mut().expect("not empty");
        bag.add(item);
        bag.bytes += bytes;
        // A later stamp and an earlier birth only keep longer.
        (bag.ns, bag.birth) = (bag.ns.max(ns), bag.birth.min(birth));
    }

    /// Takes out of a bag what hazards hold. It is safe, and no section or interval holds it: all that
    /// is left to look at later is the hazards, whenever that is.
    pub(super) fn hazards(&mut self, bag: &mut Bag, holders: &Holders) {
        if holders.has_hazards() {
            let held = &mut self.hazarded;
            bag.retain(|item| {
                let free = !holders.has_hazard(item.address());
                if !free {
                    held.push(*item);
                }
                free
            });
        }
    }

    fn release_hazarded(
        &mut self,
        holders: &Holders,
        free: &mut VecDeque<Bag>,
        spare: &mut Vec<Bag>,
    ) {
        if self.hazarded.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        self.hazarded.retain(|item| {
            let held = holders.has_hazard(item.address());
            if !held {
                gone.push(*item);
            }
            held
        });
        free.extend(pack(gone, spare));
    }

    /// Everything, in sealed bags; the open one must be empty. The stamp 0 says that only a hazard
    /// may stand in the way.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Bag> + use<> {
        debug_assert!(self.open.is_none(), "items left behind");
        let hazarded = pack(take(&mut self.hazarded), &mut Vec::new());
        let kept = take(&mut self.kept).into_iter().flat_map(|(_, bags)| bags);
        hazarded.into_iter().chain(kept).chain(take(&mut self.sealed))
    }
}

/// What is left of a bag goes; an empty one is used again.
fn put(bag: Bag, free: &mut VecDeque<Bag>, spare: &mut Vec<Bag>) {
    if bag.waiting() > 0 {
        free.push_back(bag);
    } else if spare.len() < SPARE_BAGS {
        let mut bag = bag;
        bag.clear();
        spare.push(bag);
    }
}

/// Items that may go but for hazards, in bags.
fn pack(items: Vec<Item>, spare: &mut Vec<Bag>) -> Vec<Bag> {
    let fill = |items: &[Item]| {
        let mut bag = spare.pop().unwrap_or_else(Bag::new);
        (bag.ns, bag.vtime, bag.bytes, bag.birth) = (0, u64::MAX, 0, 0);
        items.iter().for_each(|item| bag.add(*item));
        bag
    };
    items.chunks(BAG_ITEMS).map(fill).collect()
}

impl Bag {
    /// Splits a bag that was sealed by any thread and left by it: what may go, and what may not yet.
    /// `safe` was loaded before `holders` looked.
    pub(crate) fn sort(mut self, safe: Safe, holders: &Holders) -> (Option<Bag>, Option<Bag>) {
        let ns = self.ns;
        let limit = if self.birth == 0 { holders.without_birth(safe) } else { safe };
        if ns >= limit.ns {
            return (None, Some(self));
        }
        if holders.is_empty() {
            return (Some(self), None);
        }
        let born = self.birth != 0;
        let mut held = Bag::new();
        (held.ns, held.birth) = (ns, self.birth);
        self.retain(|item| {
            // SAFETY: bags with a birth hold items that begin with theirs, and are not freed.
            let kept = born && holders.holder(ns, unsafe { item.birth() }).is_some();
            let free = !kept && !holders.has_hazard(item.address());
            if !free {
                held.add(*item);
            }
            free
        });
        let full = |bag: Bag| Some(bag).filter(|bag| bag.waiting() > 0);
        (full(self), full(held))
    }

    fn add(&mut self, item: Item) {
        assert!(self.len < BAG_ITEMS);
        // SAFETY: `len` is below BAG_ITEMS.
        unsafe { self.slots.start().add(self.len).write(item) };
        self.len += 1;
    }

    /// Takes out what `free` says no to; the rest keeps its order.
    fn retain(&mut self, mut free: impl FnMut(&Item) -> bool) {
        let (first, mut to) = (self.taken, self.taken);
        for from in first..self.len {
            // SAFETY: those from `taken` to `len` were written; `to` is never above `from`.
            unsafe {
                let item = self.slots.start().add(from).read();
                if free(&item) {
                    self.slots.start().add(to).write(item);
                    to += 1;
                }
            }
        }
        self.len = to;
    }

    fn clear(&mut self) {
        (self.taken, self.len) = (0, 0);
    }

    /// Nothing but a hazard may stand in the way of what is left.
    pub(super) fn settle(mut self) -> Bag {
        (self.ns, self.birth) = (0, 0);
        self
    }
}
