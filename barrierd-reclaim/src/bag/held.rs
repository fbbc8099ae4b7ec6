//! The items of one thread's queue that are not freed in its order: items with a birth, which have bags of their
//! own, and items that would be reclaimable if one reader did not hold them.
//!
//! Owns these and nothing else; it is made when a queue first needs it. Items without a birth (births
//! are eras, so none is 0) stay in the queue's order, as an interval holds them like a section would.

use super::{BAG_ITEMS, Bag, Item, Spares, counted};
use crate::protocol::Safe;
use crate::protocol::holders::{Holder, Holders};
use core::mem::take;
use std::collections::{BTreeMap, VecDeque};

/// See the file's documentation.
#[derive(Default)]
pub(super) struct HeldBags {
    /// The open bag of items with a birth; the queue's lane knows how many it has.
    open: Option<Bag>,
    /// Sealed, oldest first.
    sealed: VecDeque<Bag>,
    /// Safe, except that an interval holds each item. By holder, so that nothing is checked again while
    /// that holder stays.
    kept: Vec<Kept>,
    /// Room for the next of them.
    empty: Vec<Bag>,
    /// Safe, except that a hazard holds their address. By address, so that a hazard is looked for once, however many
    /// counts of one `Arc` it holds.
    hazarded: BTreeMap<u64, Vec<Hazarded>>,
    /// How many there have ever been.
    numbered: u64,
    /// When the first of these came, nanoseconds. For reports.
    hazarded_ns: u64,
}

/// An item that a hazard holds.
struct Hazarded {
    /// In the order in which they came.
    number: u64,
    item: Item,
    /// Its size, as far as that is known.
    bytes: usize,
}

/// The bags that one interval holds.
struct Kept {
    holder: Holder,
    bags: Vec<Bag>,
    /// When the first of it came, nanoseconds. For reports.
    oldest_ns: u64,
}

// SAFETY: as for `Slots`: the items' pointers belong to no thread.
unsafe impl Send for HeldBags {}

impl HeldBags {
    /// Opens a bag, where none was open, and returns its slots.
    pub(super) fn open(&mut self, spares: &mut Spares) -> *mut Item {
        self.open.insert(spares.bag()).slots.start()
    }

    /// Notes that the first item has just come into the open bag, at `ns`.
    pub(super) fn opened(&mut self, ns: u64) {
        if let Some(open) = &mut self.open {
            open.opened_ns = ns;
        }
    }

    /// Returns when the first item of the oldest bag here came, nanoseconds; `u64::MAX` if there is none.
    pub(super) fn oldest_ns(&self) -> u64 {
        let bags = self.open.iter().chain(self.sealed.front()).map(Bag::opened_ns);
        let kept = self.kept.iter().map(|kept| kept.oldest_ns);
        let hazarded = if self.hazarded.is_empty() { u64::MAX } else { self.hazarded_ns };
        bags.chain(kept).fold(hazarded, u64::min)
    }

    /// Closes the open bag with the stamp `ns`. `fill` writes down what it holds.
    pub(super) fn seal(&mut self, ns: u64, fill: impl FnOnce(&mut Bag)) {
        let mut bag = self.open.take().expect("open");
        fill(&mut bag);
        bag.ns = self.sealed.back().map_or(ns, |before| before.ns.max(ns));
        bag.opened_ns = bag.opened_ns.min(bag.ns);
        self.sealed.push_back(bag);
    }

    /// Returns the sealed bags that wait for a barrier or a section.
    pub(super) fn sealed(&self) -> &VecDeque<Bag> {
        &self.sealed
    }

    /// Takes these bags away.
    pub(super) fn take_sealed(&mut self) -> impl Iterator<Item = Bag> {
        self.sealed.drain(..)
    }

    /// Moves what is reclaimable to `free`, in bags.
    pub(super) fn release(
        &mut self,
        safe: Safe,
        holders: &Holders,
        free: &mut VecDeque<Bag>,
        spares: &mut Spares,
    ) {
        self.each_gone(holders, |held, gone| {
            gone.drain(..).for_each(|bag| free.extend(held.sift(bag, holders, spares)));
        });
        let safe = holders.with_birth(safe);
        while self.sealed.front().is_some_and(|bag| bag.is_safe(safe)) {
            let bag = self.sealed.pop_front().expect("looked at");
            free.extend(self.sift(bag, holders, spares));
        }
        self.release_hazarded(holders, free, spares);
    }

    /// Returns whether nothing is held.
    pub(super) fn holds_nothing(&self) -> bool {
        self.kept.is_empty() && self.hazarded.is_empty()
    }

    /// Returns whether the holder of something here no longer holds it.
    pub(super) fn is_worth_a_look(&self, holders: &Holders) -> bool {
        self.kept.iter().any(|kept| !holders.has(kept.holder))
            || self.hazarded.keys().any(|&address| !has_hazard(holders, address))
    }

    /// Hands what intervals held that are gone to `again`, by interval: it is to be checked again, and what another
    /// interval holds may come back, to be kept with that one.
    pub(super) fn each_gone(
        &mut self,
        holders: &Holders,
        mut again: impl FnMut(&mut HeldBags, &mut Vec<Bag>),
    ) {
        let mut at = 0;
        while let Some(kept) = self.kept.get(at) {
            if holders.has(kept.holder) {
                at += 1;
                continue;
            }
            let mut gone = self.kept.remove(at).bags;
            again(self, &mut gone);
            self.empty = gone;
        }
    }

    /// Returns what is reclaimable of a bag that is safe except for single readers, if anything is. The rest is kept
    /// here, item by item if need be; the bag is kept as it is if one interval holds all of it, as that of a section
    /// which is open now does.
    pub(super) fn sift(
        &mut self,
        mut bag: Bag,
        holders: &Holders,
        spares: &mut Spares,
    ) -> Option<Bag> {
        if bag.birth != 0 && holders.holder(bag.ns, bag.birth).is_some() {
            if let Some(holder) = holders.holder(bag.ns, bag.last_birth) {
                bag.vtime = u64::MAX;
                self.keep_whole(holder, bag);
                return None;
            }
            let (ns, opened_ns) = (bag.ns, bag.opened_ns);
            // One holder is enough; when it has gone the next is found.
            bag.retain(|item, bytes| {
                // SAFETY: bags with a birth hold items that begin with theirs, and are not freed.
                let birth = unsafe { item.birth() };
                let Some(holder) = holders.holder(ns, birth) else { return true };
                let kept = self.keep(holder, opened_ns, spares);
                kept.add(*item);
                kept.bytes += bytes;
                // A later stamp and an earlier birth only keep longer.
                (kept.ns, kept.birth) = (kept.ns.max(ns), kept.birth.min(birth));
                kept.last_birth = u64::MAX;
                false
            });
        }
        // What a hazard holds has no other holder: see `HeldBags::hazards`.
        self.hazards(&mut bag, holders);
        spares.keep_if_empty(bag)
    }

    /// Returns the bags that `holder` holds.
    fn kept_by(&mut self, holder: Holder) -> &mut Kept {
        let group = self.kept.iter().position(|kept| kept.holder == holder);
        let group = group.unwrap_or_else(|| {
            let bags = take(&mut self.empty);
            self.kept.push(Kept { holder, bags, oldest_ns: u64::MAX });
            self.kept.len() - 1
        });
        &mut self.kept[group]
    }

    /// Keeps a bag all of which `holder` holds.
    fn keep_whole(&mut self, holder: Holder, bag: Bag) {
        let Kept { bags, oldest_ns, .. } = self.kept_by(holder);
        *oldest_ns = bag.opened_ns.min(*oldest_ns);
        bags.push(bag);
    }

    /// Returns a bag of `holder` with room for an item from a bag of `opened_ns`.
    fn keep(&mut self, holder: Holder, opened_ns: u64, spares: &mut Spares) -> &mut Bag {
        let Kept { bags, oldest_ns, .. } = self.kept_by(holder);
        *oldest_ns = opened_ns.min(*oldest_ns);
        if bags.last().is_none_or(|bag| bag.len == BAG_ITEMS) {
            bags.push(Bag { ns: 0, birth: u64::MAX, ..spares.bag() });
        }
        let bag = bags.last_mut().expect("not empty");
        bag.opened_ns = opened_ns.min(bag.opened_ns);
        bag
    }

    /// Takes out of a bag what hazards hold. The bag is safe, and no section or interval holds it: later, at any time,
    /// only the hazards are left to check.
    fn hazards(&mut self, bag: &mut Bag, holders: &Holders) {
        if holders.has_hazards() {
            let held = &mut self.hazarded;
            let (before, none, opened_ns) = (self.numbered, held.is_empty(), bag.opened_ns);
            bag.retain(|item, bytes| {
                let address = item.address();
                let free = !holders.has_hazard(address);
                if !free {
                    self.numbered += 1;
                    let one = Hazarded { number: self.numbered, item: *item, bytes };
                    held.entry(address).or_default().push(one);
                }
                free
            });
            if self.numbered > before {
                let oldest = if none { u64::MAX } else { self.hazarded_ns };
                self.hazarded_ns = oldest.min(opened_ns);
            }
        }
    }

    /// Checks again what hazards held.
    pub(super) fn release_hazarded(
        &mut self,
        holders: &Holders,
        free: &mut VecDeque<Bag>,
        spares: &mut Spares,
    ) {
        if self.hazarded.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        self.hazarded.retain(|&address, items| {
            let held = has_hazard(holders, address);
            if !held {
                gone.append(items);
            }
            held
        });
        free.extend(pack(in_order(gone), self.hazarded_ns, spares));
    }

    /// Takes everything, in sealed bags, in runs of one kind and of stamps that never fall as long as no bag was moved
    /// between holders; the open one must be empty. The stamp 0 says that only a hazard may stand in the way.
    pub(super) fn take_all(&mut self) -> Vec<VecDeque<Bag>> {
        debug_assert!(self.open.is_none(), "items left behind");
        let hazarded = in_order(take(&mut self.hazarded).into_values().flatten().collect());
        let hazarded = pack(hazarded, self.hazarded_ns, &mut Spares::default());
        let kept = take(&mut self.kept).into_iter().map(|kept| VecDeque::from(kept.bags));
        let all = kept.chain([VecDeque::from(hazarded), take(&mut self.sealed)]);
        all.filter(|run| !run.is_empty()).collect()
    }
}

/// Returns whether a hazard still holds the items at `address`.
fn has_hazard(holders: &Holders, address: u64) -> bool {
    counted();
    holders.has_hazard(address)
}

/// Returns the items in the order in which they came, each with its size.
fn in_order(mut items: Vec<Hazarded>) -> Vec<(Item, usize)> {
    items.sort_unstable_by_key(|one| one.number);
    items.into_iter().map(|one| (one.item, one.bytes)).collect()
}

/// Packs items that are reclaimable except for hazards, the first of which came at `opened_ns`, into bags.
fn pack(items: Vec<(Item, usize)>, opened_ns: u64, spares: &mut Spares) -> Vec<Bag> {
    let fill = |items: &[(Item, usize)]| {
        let mut bag = Bag { ns: 0, opened_ns, ..spares.bag() };
        for &(item, bytes) in items {
            bag.add(item);
            bag.bytes += bytes;
        }
        bag
    };
    items.chunks(BAG_ITEMS).map(fill).collect()
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::super::{Bags, COMPARED, VtimeWord};
    use super::*;
    use crate::meter::Meter;
    use crate::protocol::holders::{HazardSlot, Interval};
    use crate::protocol::{GRAIN, Words};
    use proptest::prelude::*;

    unsafe fn nothing(_: *mut ()) {}

    /// What a queue is told of an item, and what becomes of it.
    struct Known {
        birth: u64,
        /// `u64::MAX` while its bag is open.
        ns: u64,
        /// Found safe, and in no interval: none that comes later can find it.
        settled: bool,
        gone: bool,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        /// With the era of its birth.
        PushBorn(u64),
        Seal,
        /// An interval of that number is opened, or goes on, in this era; or ends.
        Interval(usize, Option<u64>),
        /// A hazard of that number is set on an item, counted from the newest; or cleared.
        Hazard(usize, Option<usize>),
        /// Eras behind the present.
        Release(u64),
        Take(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            20 => Just(Step::Push),
            40 => (0..30u64).prop_map(Step::PushBorn),
            3 => Just(Step::Seal),
            2 => (0..3usize, proptest::option::of(0..30u64)).prop_map(|(n, era)| Step::Interval(n, era)),
            3 => (0..3usize, proptest::option::of(0..200usize)).prop_map(|(n, at)| Step::Hazard(n, at)),
            6 => (0..30u64).prop_map(Step::Release),
            3 => (1..100usize).prop_map(Step::Take),
        ]
    }

    struct Queue {
        bags: Bags,
        /// Bytes of bags that began to go, and those pushed.
        meter: Box<Meter>,
        pushed: u64,
        /// Each begins with its birth; their places don't change.
        #[expect(clippy::vec_box, reason = "queues hold their addresses")]
        objects: Vec<Box<u64>>,
        known: Vec<Known>,
        words: Words,
        intervals: [Interval; 3],
        ends: [Option<(u64, u64)>; 3],
        slots: [HazardSlot; 3],
        held: [Option<usize>; 3],
    }

    impl Queue {
        fn new() -> Queue {
            let (mut bags, meter) = (Bags::new(VtimeWord::none()), Box::new(Meter::new()));
            bags.serve(&meter, false);
            Queue {
                bags,
                meter,
                pushed: 0,
                objects: Vec::new(),
                known: Vec::new(),
                words: Words::new(),
                intervals: core::array::from_fn(|_| Interval::new()),
                ends: [None; 3],
                slots: core::array::from_fn(|_| HazardSlot::new()),
                held: [None; 3],
            }
        }

        fn advance(&self, era: u64) {
            self.words.next_era(era);
        }

        /// Opens an interval as if that were the time.
        fn open(&self, at: usize, now: u64) -> (u64, u64) {
            self.advance(now);
            let none = crate::sync::AtomicU64::new(0);
            if self.words.latest() < now {
                self.words.fence_and_stamp(&none, || now);
            }
            self.intervals[at].open(&self.words, false);
            self.intervals[at].ends().expect("open")
        }

        fn holders(&self) -> Holders {
            Holders::collect(|| self.intervals.iter(), || self.slots.iter())
        }

        fn seal(&mut self, ns: u64) {
            // SAFETY: this thread's own.
            unsafe { self.bags.own(false, |work| work.seal(ns)) }.expect("not taken");
            self.known.iter_mut().filter(|item| item.ns == u64::MAX).for_each(|item| item.ns = ns);
        }

        fn push(&mut self, birth: u64, now: u64) {
            self.objects.push(Box::new(birth));
            let object: *const u64 = &**self.objects.last().expect("just pushed");
            let item = Item::new(object.cast_mut().cast(), nothing);
            let bytes = self.objects.len() * 37 % 1000;
            self.pushed += bytes as u64;
            let mut sealed = false;
            let work = |work: &mut super::super::Work<'_>| {
                sealed = if birth == 0 { work.wants_seal() } else { work.wants_seal_as::<true>() };
                if sealed {
                    work.seal(now);
                }
                if birth == 0 {
                    work.push(item, bytes);
                } else {
                    // SAFETY: it begins with its birth.
                    unsafe { work.push_as::<true>(item, bytes) };
                }
            };
            // SAFETY: this thread's own.
            unsafe { self.bags.own(false, work) }.expect("not taken");
            if sealed {
                self.known.iter_mut().filter(|i| i.ns == u64::MAX).for_each(|i| i.ns = now);
            }
            self.known.push(Known { birth, ns: u64::MAX, settled: false, gone: false });
        }

        fn name(&self, item: &Item) -> usize {
            let found = self.objects.iter().position(|object| {
                core::ptr::addr_eq(core::ptr::from_ref::<u64>(object), item.ptr().cast_const())
            });
            found.expect("one of ours")
        }

        /// Whether an interval holds it at this moment.
        fn is_inside(&self, name: usize) -> bool {
            let item = &self.known[name];
            let inside = |&(lo, up): &(u64, u64)| lo <= item.ns && item.birth <= up;
            self.ends.iter().flatten().any(inside)
        }
    }

    /// Something older comes to a holder that has a full bag already.
    #[test]
    fn the_oldest_that_is_kept_has_an_age() {
        let mut queue = Queue::new();
        let release = |queue: &Queue, era: u64| {
            let (safe, holders) = (Safe { ns: era * GRAIN, vtime: 0 }, queue.holders());
            // SAFETY: this thread's own.
            let oldest = unsafe {
                queue.bags.own(false, |work| {
                    work.release(safe, &holders);
                    work.rest.oldest_ns(false)
                })
            };
            oldest.expect("not taken") / GRAIN
        };
        (0..2).for_each(|at| assert_eq!(queue.open(at, 10 * GRAIN), (10 * GRAIN, 10 * GRAIN)));
        queue.push(5 * GRAIN, 11 * GRAIN);
        queue.seal(11 * GRAIN);
        assert_eq!(release(&queue, 15), 11);
        queue.advance(20 * GRAIN);
        queue.intervals[1].protect(&queue.words, || (), false);
        (0..BAG_ITEMS).for_each(|_| queue.push(15 * GRAIN, 21 * GRAIN));
        queue.seal(21 * GRAIN);
        assert_eq!(release(&queue, 30), 11);
        queue.intervals[0].close();
        assert_eq!(release(&queue, 30), 11, "the other interval holds it, too");
        queue.intervals[1].close();
        release(&queue, 30);
        // SAFETY: this thread's own.
        let ready = unsafe { queue.bags.own(false, |work| work.ready()) };
        assert_eq!(ready.expect("not taken"), BAG_ITEMS + 1);
    }

    /// By address, not one by one: else a thread would ask again for all that waits each time it retires a count.
    #[test]
    fn counts_of_one_object_are_asked_for_once() {
        const BAGS: usize = 100;
        let (mut object, slot) = (0u64, HazardSlot::new());
        let object: *mut u64 = &raw mut object;
        slot.hold(object.addr() as u64);
        let holders =
            || Holders::collect(core::iter::empty::<&Interval>, || core::iter::once(&slot));
        let (mut held, mut spares) = (HeldBags::default(), Spares::default());
        let (mut free, before) = (VecDeque::new(), COMPARED.get());
        for _ in 0..BAGS {
            let mut bag = spares.bag();
            (0..BAG_ITEMS).for_each(|_| bag.add(Item::new(object.cast(), nothing)));
            assert!(held.sift(bag, &holders(), &mut spares).is_none(), "all are held");
            held.release_hazarded(&holders(), &mut free, &mut spares);
            assert!(!held.is_worth_a_look(&holders()));
        }
        assert_eq!(COMPARED.get() - before, 2 * BAGS as u64);
        slot.clear();
        assert!(held.is_worth_a_look(&holders()));
        held.release_hazarded(&holders(), &mut free, &mut spares);
        assert_eq!(free.iter().map(Bag::waiting).sum::<usize>(), BAGS * BAG_ITEMS);
        assert!(held.holds_nothing());
    }

    proptest! {
        /// Against a plain list: nothing that is held or not safe is let go, nothing is lost or comes
        /// twice, not a byte either, and everything goes once it may.
        #[test]
        fn like_a_plain_list(steps in proptest::collection::vec(step(), 0..500)) {
            let mut queue = Queue::new();
            let mut now = 40 * GRAIN;
            // Safe, and released by a scan that found no holder: may come out from now on.
            let mut free = Vec::<usize>::new();
            let mut safe_ns = 0;
            for step in steps {
                now += 100;
                match step {
                    Step::Push => queue.push(0, now),
                    Step::PushBorn(behind) => queue.push(now - behind * GRAIN, now),
                    Step::Seal => queue.seal(now),
                    Step::Interval(at, None) => {
                        if queue.ends[at].take().is_some() {
                            queue.intervals[at].close();
                        }
                    }
                    Step::Interval(at, Some(behind)) => {
                        if queue.ends[at].is_some() {
                            queue.advance(now - behind * GRAIN);
                            queue.intervals[at].protect(&queue.words, || (), false);
                            queue.ends[at] = queue.intervals[at].ends();
                        } else {
                            queue.ends[at] = Some(queue.open(at, now - behind * GRAIN));
                        }
                    }
                    Step::Hazard(at, back) => {
                        // Only what is not safe yet can be found by a reader.
                        let name = back.and_then(|back| queue.known.len().checked_sub(back + 1));
                        let name = name.filter(|name| !free.contains(name) && !queue.known[*name].gone);
                        let address = |name: usize| core::ptr::from_ref::<u64>(&queue.objects[name]).addr();
                        queue.slots[at].hold(name.map_or(0, |name| address(name) as u64));
                        queue.held[at] = name;
                    }
                    Step::Release(behind) => {
                        // It never falls.
                        safe_ns = safe_ns.max(now - behind * GRAIN);
                        let safe = Safe { ns: safe_ns, vtime: 0 };
                        let holders = queue.holders();
                        // SAFETY: this thread's own.
                        unsafe { queue.bags.own(false, |work| work.release(safe, &holders)) }.expect("not taken");
                        for name in 0..queue.known.len() {
                            if queue.known[name].ns < safe.ns && !queue.is_inside(name) {
                                queue.known[name].settled = true;
                            }
                            if queue.known[name].settled && !queue.held.contains(&Some(name)) {
                                free.push(name);
                            }
                        }
                        free.sort_unstable();
                        free.dedup();
                    }
                    Step::Take(most) => {
                        for _ in 0..most {
                            // SAFETY: this thread's own.
                            let item = unsafe { queue.bags.own(false, |work| work.take_safe()) };
                            let Some(item) = item.expect("not taken") else { break };
                            let name = queue.name(&item);
                            prop_assert!(free.contains(&name), "{name} was let go too early");
                            prop_assert!(!queue.known[name].gone, "{name} came twice");
                            queue.known[name].gone = true;
                        }
                    }
                }
            }
            // Half the time it is taken over as it is, half the time all goes by itself.
            now += 1000 * GRAIN;
            queue.seal(now);
            queue.slots.iter().for_each(HazardSlot::clear);
            let mut taken = 0;
            let mut left: Vec<usize> = if now % 200 == 0 {
                // SAFETY: this thread's own, which goes on using it nowhere.
                let mut bags = unsafe { queue.bags.take_over(now) }.into_bags().collect::<Vec<_>>();
                taken = bags.iter_mut().map(Bag::take_bytes).sum();
                bags.into_iter().flatten().map(|item| queue.name(&item)).collect()
            } else {
                queue.intervals.iter().for_each(Interval::close);
                let safe = Safe { ns: u64::MAX, vtime: 0 };
                let holders = queue.holders();
                // SAFETY: this thread's own.
                let all = unsafe {
                    queue.bags.own(false, |work| {
                        work.release(safe, &holders);
                        core::iter::from_fn(|| work.take_safe()).collect::<Vec<_>>()
                    })
                };
                all.expect("not taken").iter().map(|item| queue.name(item)).collect()
            };
            left.sort_unstable();
            let known = queue.known.iter().enumerate();
            let expected: Vec<usize> =
                known.filter(|(_, item)| !item.gone).map(|(name, _)| name).collect();
            prop_assert_eq!(left, expected);
            prop_assert_eq!(queue.meter.freed().bytes + taken as u64, queue.pushed);
        }
    }
}
