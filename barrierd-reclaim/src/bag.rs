//! One thread's retired items, from retirement to the moment they are ready to be freed.
//!
//! Owns the queue and its order (first retired, first freed). It knows nothing of threads or
//! sources: stamps and the safe times come from the caller, and it never runs a destructor.

use crate::protocol::Safe;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;

/// Items in a bag: one fence and one clock read are shared by this many.
pub(crate) const BAG_ITEMS: usize = 64;
/// Emptied bags kept for reuse.
const SPARE_BAGS: usize = 16;
/// The stamp of a bag that is still open: no watermark is above it.
const OPEN: u64 = u64::MAX;
/// What a thread's first push is compared with: no source's virtual time is this, so the first push
/// always finds a new round.
const NO_PUSH_YET: u64 = u64::MAX - 1;

/// What stands in for a virtual clock where the source has none: no virtual time is above it, so
/// only the bag's nanoseconds count.
pub(crate) static NO_VTIME: AtomicU64 = AtomicU64::new(u64::MAX);

/// Where items take their virtual time from: the source's own word, never a copy, since a copy is
/// a stamp too early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VtimeWord(NonNull<AtomicU64>);

impl VtimeWord {
    pub(crate) fn none() -> VtimeWord {
        VtimeWord(NonNull::from(&NO_VTIME))
    }

    /// # Safety
    /// `word` stays mapped as long as any copy of the result is used.
    pub(crate) unsafe fn new(word: NonNull<AtomicU64>) -> VtimeWord {
        VtimeWord(word)
    }

    #[inline]
    fn load(self) -> u64 {
        // SAFETY: mapped for the life of the domain (`Source` keeps its `Barrier`), which outlives
        // every bag in it; read by a plain atomic load, all that a read-only mapping allows.
        // Relaxed: the stamp is meant to be early at worst, and the two full rounds behind
        // `last_interrupt_vtime` cover an unlink still in the store buffer (design, section 5).
        unsafe { self.0.as_ref() }.load(Ordering::Relaxed)
    }
}

/// A retired object and how to free it.
#[derive(Debug)]
pub(crate) struct Item {
    ptr: *mut (),
    free: unsafe fn(*mut ()),
    /// The virtual time at which it was retired; `u64::MAX` where there was none.
    vtime: u64,
}

impl Item {
    /// Runs the destructor.
    ///
    /// # Safety
    /// The item has passed its barrier and no reader can hold it (or the domain has no readers any
    /// more), and what `Reclaimer::retire_with` asks of its caller holds.
    pub(crate) unsafe fn free(self) {
        // SAFETY: `ptr` and `free` were given together, for one call, by `retire_with`'s caller.
        unsafe { (self.free)(self.ptr) }
    }
}

/// Items that share one stamp in nanoseconds.
#[derive(Debug)]
pub(crate) struct Bag {
    ns: u64,
    /// Items before this index are gone.
    taken: usize,
    items: Vec<Item>,
}

impl Bag {
    pub(crate) fn new() -> Bag {
        Bag { ns: OPEN, taken: 0, items: Vec::with_capacity(BAG_ITEMS) }
    }

    /// The bag's stamp, nanoseconds.
    pub(crate) fn ns(&self) -> u64 {
        self.ns
    }

    /// The next item, whatever its stamps say: the caller has compared [`Bag::ns`] with `safe`.
    pub(crate) fn take(&mut self) -> Option<Item> {
        let next = self.items.get(self.taken)?;
        self.taken += 1;
        Some(Item { ptr: next.ptr, free: next.free, vtime: next.vtime })
    }

    /// Items still there.
    pub(crate) fn waiting(&self) -> usize {
        self.items.len() - self.taken
    }

    fn take_if_safe(&mut self, safe: Safe) -> Option<Item> {
        let next = self.items.get(self.taken)?;
        if self.ns < safe.ns || next.vtime < safe.vtime { self.take() } else { None }
    }

    fn empty(&mut self) {
        self.items.clear();
        self.taken = 0;
        self.ns = OPEN;
    }
}

/// All that one thread has retired and not yet freed.
#[derive(Debug)]
pub(crate) struct Bags {
    open: Bag,
    sealed: VecDeque<Bag>,
    spare: Vec<Bag>,
    vtime: VtimeWord,
    /// The virtual time of the last push: when it changes, a round has passed.
    last_vtime: u64,
}

// SAFETY: the items' pointers belong to no thread: `retire` demands that any thread may run the
// destructor. The vtime word is an atomic that any thread may load.
unsafe impl Send for Bag {}
// SAFETY: as for `Bag`.
unsafe impl Send for Bags {}

/// What the caller of [`Bags::push`] should see to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing.
    Quiet,
    /// The thread's first, or the virtual time has moved since the last one: a round has passed.
    NewRound,
    /// The open bag is full: seal it.
    Full,
}

impl Bags {
    pub(crate) fn new(vtime: VtimeWord) -> Bags {
        Bags {
            open: Bag::new(),
            sealed: VecDeque::new(),
            spare: Vec::new(),
            vtime,
            last_vtime: NO_PUSH_YET,
        }
    }

    /// Adds an item to the open bag.
    #[inline]
    pub(crate) fn push(&mut self, ptr: *mut (), free: unsafe fn(*mut ())) -> Pushed {
        let vtime = self.vtime.load();
        self.open.items.push(Item { ptr, free, vtime });
        if self.open.items.len() >= BAG_ITEMS {
            Pushed::Full
        } else if vtime != self.last_vtime {
            self.last_vtime = vtime;
            Pushed::NewRound
        } else {
            Pushed::Quiet
        }
    }

    /// Closes the open bag with `ns`, a stamp taken after everything in it was unlinked.
    pub(crate) fn seal(&mut self, ns: u64) {
        if self.open.waiting() == 0 {
            self.open.empty();
            return;
        }
        let fresh = self.spare.pop().unwrap_or_else(Bag::new);
        let mut full = core::mem::replace(&mut self.open, fresh);
        full.ns = ns;
        self.sealed.push_back(full);
    }

    /// The oldest item, if it is safe to free.
    #[inline]
    pub(crate) fn take_if_safe(&mut self, safe: Safe) -> Option<Item> {
        while let Some(oldest) = self.sealed.front_mut() {
            if oldest.waiting() > 0 {
                return oldest.take_if_safe(safe);
            }
            if let Some(mut bag) = self.sealed.pop_front()
                && self.spare.len() < SPARE_BAGS
            {
                bag.empty();
                self.spare.push(bag);
            }
        }
        let item = self.open.take_if_safe(safe);
        if self.open.waiting() == 0 && !self.open.items.is_empty() {
            self.open.empty();
        }
        item
    }

    /// Whether the open bag holds anything.
    pub(crate) fn has_open(&self) -> bool {
        self.open.waiting() > 0
    }

    /// Takes all sealed bags, for another thread to free. Seal first.
    pub(crate) fn take_sealed(&mut self) -> VecDeque<Bag> {
        debug_assert!(!self.has_open(), "items left behind");
        self.last_vtime = NO_PUSH_YET;
        core::mem::take(&mut self.sealed)
    }

    /// The newest stamp of a sealed bag; 0 if there is none.
    pub(crate) fn newest_sealed(&self) -> u64 {
        self.sealed.back().map_or(0, |bag| bag.ns)
    }

    /// Takes every item, safe or not: for a domain without readers.
    pub(crate) fn take_all(&mut self) -> VecDeque<Bag> {
        let open = core::mem::replace(&mut self.open, Bag::new());
        let mut all = core::mem::take(&mut self.sealed);
        all.push_back(open);
        all
    }
}

/// Every item of `bags` that is still there, in order.
pub(crate) fn drain(bags: VecDeque<Bag>) -> impl Iterator<Item = Item> {
    bags.into_iter().flat_map(|bag| {
        let taken = bag.taken;
        bag.items.into_iter().skip(taken)
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    unsafe fn nothing(_: *mut ()) {}

    fn numbered(n: usize) -> *mut () {
        core::ptr::without_provenance_mut(n)
    }

    #[test]
    fn an_open_bag_waits_for_its_seal() {
        let mut bags = Bags::new(VtimeWord::none());
        bags.push(numbered(1), nothing);
        let all = Safe { ns: u64::MAX, vtime: u64::MAX };
        assert!(bags.take_if_safe(all).is_none());
        bags.seal(7);
        assert!(bags.take_if_safe(Safe { ns: 7, vtime: 0 }).is_none(), "7 is not before 7");
        assert!(bags.take_if_safe(Safe { ns: 8, vtime: 0 }).is_some());
    }

    #[test]
    fn virtual_time_frees_an_open_bag() {
        let clock = AtomicU64::new(5);
        // SAFETY: `clock` outlives `bags`.
        let mut bags = Bags::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
        assert_eq!(bags.push(numbered(1), nothing), Pushed::NewRound);
        assert_eq!(bags.push(numbered(2), nothing), Pushed::Quiet);
        clock.store(6, Ordering::Relaxed);
        assert_eq!(bags.push(numbered(3), nothing), Pushed::NewRound);
        assert!(bags.take_if_safe(Safe { ns: 0, vtime: 5 }).is_none(), "5 is not before 5");
        let six = Safe { ns: 0, vtime: 6 };
        assert_eq!(bags.take_if_safe(six).map(|item| item.ptr), Some(numbered(1)));
        assert_eq!(bags.take_if_safe(six).map(|item| item.ptr), Some(numbered(2)));
        assert!(bags.take_if_safe(six).is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push,
        Seal,
        Tick,
        Take { ns_behind: u64, vtime_behind: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Push),
            1 => Just(Step::Seal),
            2 => Just(Step::Tick),
            6 => (0..200u64, 0..6u64)
                .prop_map(|(ns_behind, vtime_behind)| Step::Take { ns_behind, vtime_behind }),
        ]
    }

    proptest! {
        /// Against a plain list: nothing leaves before either of its stamps is past, everything
        /// leaves in order and once.
        #[test]
        fn like_a_plain_queue(steps in proptest::collection::vec(step(), 0..600)) {
            let clock = AtomicU64::new(1);
            // SAFETY: `clock` outlives `bags`.
            let mut bags = Bags::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
            let mut plain: VecDeque<(usize, u64, u64)> = VecDeque::new(); // (name, ns, vtime)
            let (mut name, mut now) = (0, 1);
            for step in steps {
                now += 1;
                let seal = match step {
                    Step::Push => {
                        name += 1;
                        plain.push_back((name, OPEN, clock.load(Ordering::Relaxed)));
                        bags.push(numbered(name), nothing) == Pushed::Full
                    }
                    Step::Seal => true,
                    Step::Tick => {
                        clock.fetch_add(1, Ordering::Relaxed);
                        false
                    }
                    Step::Take { ns_behind, vtime_behind } => {
                        let safe = Safe {
                            ns: u64::saturating_sub(now, ns_behind),
                            vtime: clock.load(Ordering::Relaxed).saturating_sub(vtime_behind),
                        };
                        let expected = plain
                            .front()
                            .filter(|&&(_, ns, vtime)| ns < safe.ns || vtime < safe.vtime)
                            .map(|&(name, ..)| name);
                        let taken = bags.take_if_safe(safe).map(|item| item.ptr.addr());
                        prop_assert_eq!(taken, expected);
                        if taken.is_some() {
                            plain.pop_front();
                        }
                        false
                    }
                };
                if seal {
                    bags.seal(now);
                    plain.iter_mut().filter(|item| item.1 == OPEN).for_each(|item| item.1 = now);
                }
            }
            let left: Vec<usize> = drain(bags.take_all()).map(|item| item.ptr.addr()).collect();
            let expected: Vec<usize> = plain.iter().map(|&(name, ..)| name).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
