//! The operations of a queue's owner on its slow paths.
//!
//! Owns the order of sealed and safe bags. The owner is inside the queue all the while ([`Bags::own`]),
//! and no foreign code runs.

use super::held::HeldBags;
use super::pace::{BACKLOG_BAGS, MOST_SMALL_BAGS, PATIENT_FLUSHES};
use super::{BAG_ITEMS, Bag, Bags, FIRST_BIRTH, Item, Left, Spares};
use crate::evidence::purchase::Uncovered;
use crate::meter::sums::Sum;
use crate::protocol::Safe;
use crate::protocol::holders::Holders;
use crate::sync::{Mutant, Ordering, broken};
use core::ptr;
use std::collections::VecDeque;

/// The part of a queue that only slow paths touch.
pub(super) struct Rest {
    pub(super) open: Bag,
    /// Sealed, oldest first; their stamps never fall.
    pub(super) sealed: VecDeque<Bag>,
    /// The number of items that were ever sealed.
    pub(super) count: u64,
    /// Times in a row that its owner was asked to free, had nothing new, and could not buy.
    pub(super) kept_back: u32,
    /// Items of the bags that were sealed since the domain's limits were last checked.
    pub(super) unchecked: usize,
    /// When the first item came since the last seal, nanoseconds; `u64::MAX`: none has.
    pub(super) begun_ns: u64,
    /// The time between the items that were sealed last, nanoseconds.
    pub(super) gap_ns: u64,
    /// The number of items that a bag takes at this pace.
    pub(super) step: usize,
    /// A scan is left to the next call on the slow path.
    pub(super) scan_left: bool,
    /// Found safe, oldest first.
    pub(super) safe: VecDeque<Bag>,
    /// The time by which these were last found safe.
    pub(super) released: Safe,
    /// So many of them are a backlog.
    pub(super) surplus: usize,
    /// The bag whose items `next..end` are.
    pub(super) going: Option<Bag>,
    pub(super) spares: Spares,
    /// What is not freed in this order; made when it is needed.
    pub(super) held: Option<Box<HeldBags>>,
}

impl Rest {
    /// Returns when the first item of the oldest bag that is not being freed came, nanoseconds; `u64::MAX` if
    /// there is none. `open`: the open bag has items.
    pub(super) fn oldest_ns(&self, open: bool) -> u64 {
        // Where a robust guard holds items back, safe ones may be younger than others: each queue is asked.
        let first = |bags: &VecDeque<Bag>| bags.front().map_or(u64::MAX, Bag::opened_ns);
        let open = if open { self.open.opened_ns } else { u64::MAX };
        let held = self.held.as_ref().map_or(u64::MAX, |held| held.oldest_ns());
        first(&self.safe).min(first(&self.sealed)).min(open).min(held)
    }

    /// Returns the sealed bags of items with a birth, if there is an [`HeldBags`].
    fn born(&self) -> Option<&VecDeque<Bag>> {
        self.held.as_ref().map(|held| held.sealed())
    }
}

/// The owner at work on its queue.
pub(crate) struct Work<'b> {
    pub(super) bags: &'b Bags,
    pub(super) rest: &'b mut Rest,
}

impl Work<'_> {
    /// Returns the number of items in the open bag of those without a birth.
    pub(crate) fn open(&self) -> usize {
        self.bags.plain.items()
    }

    /// Returns [`wants_seal_as`](Work::wants_seal_as) for an item without a birth that comes with others, however fast
    /// they come.
    pub(crate) fn wants_seal(&self) -> bool {
        self.has_no_room::<false>(BAG_ITEMS)
    }

    /// Returns whether a push now would need another bag: this one is full, or of another virtual time.
    pub(crate) fn wants_seal_as<const BORN: bool>(&self) -> bool {
        self.has_no_room::<BORN>(self.most())
    }

    fn has_no_room<const BORN: bool>(&self, most: usize) -> bool {
        let lane = self.bags.lane::<BORN>();
        let open = lane.items();
        open >= most || open > 0 && self.bags.vtime.load() != lane.tag.get()
    }

    /// Returns the time between the items that were sealed last, nanoseconds.
    pub(crate) fn gap_ns(&self) -> u64 {
        #[cfg(all(test, not(barrierd_loom)))]
        if let Some(gap_ns) = super::GAP_NS.get() {
            return gap_ns;
        }
        // Under valgrind a busy loop looks like a slow one: `tests/instructions.rs` counts at full speed.
        if cfg!(barrierd_unpaced) { 0 } else { self.rest.gap_ns }
    }

    /// Sets the number of items that a bag takes from here on.
    pub(crate) fn set_step(&mut self, items: usize) {
        debug_assert!((1..=BAG_ITEMS).contains(&items));
        self.rest.step = items;
        self.open_way(self.most());
    }

    /// Returns whether bags are sealed before they are full, since items come slowly.
    pub(crate) fn is_paced(&self) -> bool {
        self.rest.step < BAG_ITEMS
    }

    /// Returns whether so many bags wait that they are filled up.
    pub(crate) fn is_crowded(&self) -> bool {
        self.sealed() >= MOST_SMALL_BAGS
    }

    /// Returns the number of items that a bag takes now.
    fn most(&self) -> usize {
        if self.is_crowded() { BAG_ITEMS } else { self.rest.step }
    }

    /// Lets pushes take the fast path as long as the open bag has fewer items.
    fn open_way(&self, items: usize) {
        // Never 0, which says that the queue was taken: without items the fast path is closed in any case.
        self.bags.set_most(items.clamp(1, BAG_ITEMS));
    }

    /// Returns whether a scan was left to this call.
    pub(crate) fn is_scan_left(&self) -> bool {
        self.rest.scan_left
    }

    /// Leaves a scan to the next call; after `bag`: after a bag's worth of items.
    pub(crate) fn leave_scan(&mut self, bag: bool) {
        self.rest.scan_left = true;
        let open = self.bags.plain.items().max(self.bags.born.items());
        self.open_way(open + if bag { self.rest.step } else { 0 });
    }

    /// Sets when the next scan comes, after a scan: with the next bag; or, where bags are filled up, after as many
    /// items as a bag takes at this pace, so that it is soon known when what they wait for has come.
    pub(crate) fn goes_on(&mut self) {
        if self.is_crowded() && self.is_paced() {
            self.leave_scan(true);
        } else {
            self.open_way(self.most());
        }
    }

    /// Returns, after one item was taken out, whether there were more than calls that free one item each would free
    /// before as many have come again.
    pub(crate) fn has_many(&self) -> bool {
        let Rest { safe, step, .. } = &*self.rest;
        let next = safe.front().map_or(0, Bag::waiting);
        self.has_backlog() || safe.len() > 1 || self.bags.going() + next >= *step
    }

    /// Returns what is in open bags.
    pub(crate) fn unsealed(&self) -> Sum {
        let Bags { plain, born, .. } = self.bags;
        let bytes = plain.bytes.get().wrapping_add(born.bytes.get());
        Sum { items: self.open_items() as u64, bytes: bytes as u64 }
    }

    /// Returns the number of items in open bags.
    fn open_items(&self) -> usize {
        self.bags.plain.items() + self.bags.born.items()
    }

    /// Returns whether the last push, of this kind, was the first into its bag.
    pub(crate) fn is_first<const BORN: bool>(&self) -> bool {
        self.bags.lane::<BORN>().items() == 1
    }

    /// Notes that the first item has just come into the open bag of its kind, at `ns`. For reports.
    pub(crate) fn opened<const BORN: bool>(&mut self, ns: u64) {
        self.rest.begun_ns = self.rest.begun_ns.min(ns);
        if BORN {
            self.rest.held.iter_mut().for_each(|held| held.opened(ns));
        } else {
            self.rest.open.opened_ns = ns;
        }
        // The new bag is the youngest, so its time is shown only if no other bag's is.
        if let Some(meter) = self.bags.meter() {
            meter.opened(ns);
        }
    }

    /// Shows the oldest bag again, after bags were taken away.
    pub(crate) fn show_oldest(&self) {
        self.bags.show_oldest(self.rest);
    }

    /// Returns whether anything waits for a barrier or a reader.
    pub(crate) fn waits(&self) -> bool {
        self.open_items() > 0 || self.sealed() > 0
    }

    /// Closes the open bags with `ns`, a stamp taken after everything in them was unlinked.
    pub(crate) fn seal(&mut self, ns: u64) {
        let items = self.open_items();
        if items > 0 {
            let begun = core::mem::replace(&mut self.rest.begun_ns, u64::MAX);
            self.rest.gap_ns = ns.saturating_sub(begun) / items as u64;
            self.rest.unchecked = self.rest.unchecked.saturating_add(items);
        }
        self.seal_born(ns);
        self.seal_plain(ns);
    }

    fn seal_born(&mut self, ns: u64) {
        if self.bags.born.items() == 0 {
            return;
        }
        let held = self.rest.held.as_mut().expect("it has the open bag");
        held.seal(ns, |bag| {
            self.bags.born.close(bag);
            (bag.birth, bag.last_birth) = (FIRST_BIRTH, self.bags.last_birth.replace(0));
        });
    }

    fn seal_plain(&mut self, ns: u64) {
        if self.open() == 0 {
            return;
        }
        let next = self.rest.spares.bag();
        let mut full = core::mem::replace(&mut self.rest.open, next);
        self.bags.plain.close(&mut full);
        // Stamps never fall, so that a search may rely on it: the clocks of two CPUs may differ.
        full.ns = self.rest.sealed.back().map_or(ns, |before| before.ns.max(ns));
        full.opened_ns = full.opened_ns.min(full.ns);
        self.rest.count += u64::try_from(full.len).expect("at most 64");
        full.sealed = self.rest.count;
        self.rest.sealed.push_back(full);
    }

    /// Puts an item without a birth into its open bag.
    pub(crate) fn push(&mut self, item: Item, bytes: usize) {
        // SAFETY: without a birth.
        unsafe { self.push_as::<false>(item, bytes) }
    }

    /// Puts an item into the open bag of its kind, which has room, and opens it for pushing. The open
    /// bag is empty, or of the present virtual time.
    ///
    /// # Safety
    /// `BORN`: the object begins with its birth.
    pub(crate) unsafe fn push_as<const BORN: bool>(&mut self, item: Item, bytes: usize) {
        let lane = self.bags.lane::<BORN>();
        if lane.items() == 0 {
            if BORN {
                let Rest { held, spares, .. } = &mut *self.rest;
                lane.open.set(held.get_or_insert_default().open(spares));
            } else {
                self.rest.open.slots.make();
                lane.open.set(self.rest.open.slots.start());
            }
            lane.tag.set(self.bags.vtime.load());
            lane.fill.store(0, Ordering::Relaxed);
            // Relaxed: see `is_used`.
            self.bags.used.store(true, Ordering::Relaxed);
        }
        assert!(lane.items() < BAG_ITEMS);
        let fill = lane.fill.load(Ordering::Relaxed);
        // SAFETY: there is room, and the caller promises that an object of kind `BORN` begins with its birth.
        unsafe { self.bags.add::<BORN>(fill, item, bytes) };
    }

    /// Moves what is safe to where later calls take it out, except what `holders` hold. The scan that made `holders`
    /// came after `safe` was loaded.
    ///
    /// Where barriers come in rounds, much becomes safe at once, and one item a call is just enough
    /// until the next round. What is left over by then is a backlog.
    pub(crate) fn release(&mut self, safe: Safe, holders: &Holders) {
        self.rest.released = safe;
        let left = self.rest.safe.len();
        let plain = holders.without_birth(safe);
        while self.rest.sealed.front().is_some_and(|bag| bag.is_safe(plain)) {
            let bag = self.rest.sealed.pop_front().expect("looked at");
            self.reclaimable(bag, holders);
        }
        // An open bag is reclaimed by virtual time alone.
        if self.rest.sealed.is_empty() && self.open() > 0 && self.bags.plain.tag.get() < plain.vtime
        {
            self.seal_plain(u64::MAX);
            let bag = self.rest.sealed.pop_front().expect("sealed");
            self.reclaimable(bag, holders);
        }
        let born = &self.bags.born;
        let none_sealed = self.rest.born().is_none_or(VecDeque::is_empty);
        if none_sealed && born.items() > 0 && born.tag.get() < holders.with_birth(safe).vtime {
            self.seal_born(u64::MAX);
        }
        let Rest { held, safe: free, spares, .. } = &mut *self.rest;
        if let Some(held) = held {
            held.release(safe, holders, free, spares);
        }
        if self.rest.safe.len() > left {
            self.rest.surplus = if left > BACKLOG_BAGS { left } else { 0 };
            self.bags.behind.set(self.rest.surplus > 0);
            self.bags.more.set(true);
        }
    }

    /// Does the same by another thread's scan of the holders, which may be older than the last one that was used
    /// here: what that one held back, being safe by then, need not have been safe before this one.
    pub(crate) fn release_shared(&mut self, safe: Safe, holders: &Holders) {
        let Safe { ns, vtime } = self.rest.released;
        let older = safe.ns < ns || safe.vtime < vtime;
        if !older || broken(Mutant::OlderScan) {
            self.release(safe, holders);
        }
    }

    /// Moves a bag that only hazards may hold to the safe ones.
    fn reclaimable(&mut self, bag: Bag, holders: &Holders) {
        let Rest { held, safe, spares, .. } = &mut *self.rest;
        if holders.has_hazards() {
            safe.extend(held.get_or_insert_default().sift(bag, holders, spares));
        } else {
            safe.push_back(bag);
        }
    }

    /// Returns the next reclaimable item.
    pub(crate) fn take_safe(&mut self) -> Option<Item> {
        self.bags.next_going().or_else(|| self.bags.next_bag(self.rest))
    }

    /// Returns whether so many are reclaimable that one item a call is too slow.
    pub(crate) fn has_backlog(&self) -> bool {
        self.bags.behind.get()
    }

    /// Returns the number of reclaimable items.
    pub(crate) fn ready(&self) -> usize {
        self.bags.going() + self.rest.safe.iter().map(Bag::waiting).sum::<usize>()
    }

    /// Returns the items of sealed bags whose stamp `watermark` does not cover.
    pub(crate) fn uncovered(&self, watermark: u64) -> Uncovered {
        if self.newest_sealed() < watermark {
            return Uncovered::default();
        }
        let uncovered = |bags: &VecDeque<Bag>| bags.partition_point(|bag| bag.ns < watermark);
        let sealed = &self.rest.sealed;
        let plain = sealed.get(uncovered(sealed));
        let items = plain.map_or(0, |first| {
            let waiting = u64::try_from(first.waiting()).expect("at most 64");
            usize::try_from(self.rest.count - first.sealed + waiting).unwrap_or(usize::MAX)
        });
        let born = self.rest.born().map(|bags| bags.range(uncovered(bags)..));
        let born = born.into_iter().flatten();
        let oldest_ns = plain.into_iter().chain(born.clone()).map(|bag| bag.ns).min().unwrap_or(0);
        Uncovered { items: items + born.map(Bag::waiting).sum::<usize>(), oldest_ns }
    }

    /// Takes every sealed bag that waits.
    pub(crate) fn take_sealed(&mut self) -> impl Iterator<Item = Bag> {
        let Rest { sealed, held, .. } = &mut *self.rest;
        sealed.drain(..).chain(held.iter_mut().flat_map(|held| held.take_sealed()))
    }

    /// Takes the same, as a thread leaves them.
    pub(crate) fn leave_sealed(&mut self) -> Left {
        let Rest { sealed, held, .. } = &mut *self.rest;
        let born = held.iter_mut().map(|held| held.take_sealed().collect()).collect();
        let left = Left { free: VecDeque::new(), sealed: core::mem::take(sealed), held: born };
        self.show_oldest();
        left
    }

    /// Returns the number of sealed bags that wait for a barrier or a reader.
    pub(crate) fn sealed(&self) -> usize {
        self.rest.sealed.len() + self.rest.born().map_or(0, VecDeque::len)
    }

    /// Returns whether a sealed bag is reclaimable by `safe`, except what single readers hold.
    pub(crate) fn has_safe(&self, safe: Safe) -> bool {
        let is_safe = |bags: &VecDeque<Bag>| bags.front().is_some_and(|bag| bag.is_safe(safe));
        is_safe(&self.rest.sealed) || self.rest.born().is_some_and(is_safe)
    }

    /// Notes that the owner scans now.
    pub(crate) fn scanned(&mut self) {
        self.rest.scan_left = false;
    }

    /// Returns, on each slow path after the scan, whether the domain's limits must be checked now: without the check,
    /// more than 64 items could come between two checks, before the slow path is taken again.
    pub(crate) fn is_to_check_limits(&mut self) -> bool {
        let Bags { plain, born, most, .. } = self.bags;
        let open = self.open_items();
        // With those that were open at the last check, which are allowed beside the limit.
        let since = self.rest.unchecked + open;
        let fills = [plain.items(), born.items()].into_iter().filter(|&fill| fill > 0);
        let way = most.get().saturating_sub(fills.min().unwrap_or(0));
        let due = since + way >= BAG_ITEMS;
        if due {
            self.rest.unchecked = 0;
        }
        due
    }

    /// Notes that its owner was held up until `ns` by something else than its own work: that does not count as its
    /// pace.
    pub(crate) fn was_held_up(&mut self, ns: u64) {
        if self.rest.begun_ns != u64::MAX {
            self.rest.begun_ns = ns;
        }
    }

    /// Returns whether its owner was so often asked to free in vain, with nothing new, that it is waiting.
    pub(crate) fn is_impatient(&self) -> bool {
        self.rest.kept_back >= PATIENT_FLUSHES
    }

    /// Notes that its owner was asked to free. `in_vain`: something is left that a barrier would make reclaimable.
    pub(crate) fn flushed(&mut self, in_vain: bool) {
        self.rest.kept_back = if in_vain { self.rest.kept_back + 1 } else { 0 };
    }

    /// Returns the newest stamp of a sealed bag; 0 if there is none.
    pub(crate) fn newest_sealed(&self) -> u64 {
        let newest = |bags: Option<&Bag>| bags.map_or(0, |bag| bag.ns);
        newest(self.rest.sealed.back()).max(newest(self.rest.born().and_then(VecDeque::back)))
    }

    /// Takes every sealed bag and every reclaimable one, in a time that does not depend on how many there are,
    /// except for what single readers hold. Seal first.
    pub(crate) fn take_all(&mut self) -> Left {
        debug_assert!(self.open() == 0, "items left behind");
        let left = self.bags.going();
        let going = self.rest.going.take().map(|mut going| {
            going.taken = going.len - left;
            going
        });
        self.bags.next.set(ptr::null());
        self.bags.end.set(ptr::null());
        self.bags.more.set(false);
        self.bags.behind.set(false);
        self.rest.surplus = 0;
        let mut free = core::mem::take(&mut self.rest.safe);
        going.filter(|going| going.waiting() > 0).into_iter().for_each(|bag| free.push_front(bag));
        let sealed = core::mem::take(&mut self.rest.sealed);
        let held = self.rest.held.as_mut().map_or(Vec::new(), |held| held.take_all());
        self.show_oldest();
        Left { free, sealed, held }
    }
}
