//! One thread's retired items, from retirement to the moment they are ready to be freed.
//!
//! Owns the queue and its order (first retired, first freed), and the flag by which another thread
//! takes it all over. It knows nothing of sources: stamps and the safe times come from the caller,
//! and it never runs a destructor.
//!
//! # Who may touch what
//! A [`Bags`] has one owner at a time: the thread whose record points to it, then, for good, the one
//! that took it over. The owner never waits and runs no fence; so the takeover is asymmetric:
//!
//! - The owner: `busy` = true; light barrier; load `limit`; work; `busy` = false (Release).
//! - The taker: `limit` = [`TAKEN`]; a barrier of the owner's CPU; then, once `busy` is false
//!   (Acquire), everything is the taker's.
//!
//! If the owner's `busy` store came before its CPU's barrier point, the taker sees it, or the
//! `false` after it, with all that was done before. If it came after, so did its load of `limit`,
//! which then says [`TAKEN`]: the owner stores `busy` = false and never comes back, but goes on with
//! a new queue. [`TAKEN`] stays: the owner changes `limit`, too, but by an exchange that finds something else there.
//!
//! A push checks `limit` and `fill` by one comparison, since nothing is less than [`TAKEN`]. So it may load the
//! `fill` of a queue that is not the owner's any more: hence `fill` is an atomic, and whatever it says, the push is
//! refused and touches nothing. Where readers fence, `limit` refuses every push, and the slow path fences.
//!
//! # Two kinds of items
//! Those with a birth have bags of their own (`bag/held.rs`), and so there are two open bags, each with
//! a [`Lane`], which holds what a push has to know of it.

mod held;
pub(crate) mod inbox;
mod items;
mod orphans;
pub(crate) mod pace;
mod work;

use crate::meter::Meter;
use crate::protocol::{Safe, VtimeWord};
use crate::sync::{
    AtomicBool, AtomicUsize, Mutant, Ordering, Owned, broken, fence, light_barrier, step,
};
use core::cell::{Cell, UnsafeCell};
use core::ptr;
// The source's word, and a hint: loom does not model them.
use core::sync::atomic::{AtomicBool as Hint, AtomicUsize as Fill};
use pace::FIRST_BAG;
use std::collections::VecDeque;
use work::Rest;

pub(crate) use items::{Bag, Item, free_box};
use items::{FIRST_BIRTH, Spares};
pub(crate) use orphans::{Left, Orphans};
pub(crate) use work::Work;

/// The most items in a bag: so many share one fence and stamp.
pub(crate) const BAG_ITEMS: usize = 64;
/// Emptied bags whose room is kept.
const SPARE_BAGS: usize = 16;
/// The size of an item in a bag, bytes: fills and limits count in these, which saves a push the multiplication.
const SLOT: usize = size_of::<Item>();
/// [`Bags::limit`]: taken over.
const TAKEN: usize = 0;
/// [`Bags::limit`]: every push takes the slow path. A bag that is open has an item.
const NO_PUSH: usize = SLOT;
/// [`Lane::fill`] where there are no items. A bag without items is never open for pushing: the first
/// item takes the slow path, so that the background thread hears of it.
const CLOSED: usize = usize::MAX;

/// For tests that count work instead of time: a bag's stamp is compared.
#[inline(always)]
fn counted() {
    #[cfg(all(test, not(barrierd_loom)))]
    COMPARED.set(COMPARED.get() + 1);
}

/// So that finding a mutant is no matter of chance: its owner is preempted at two steps of one push in a hundred.
#[cfg(all(test, not(barrierd_loom)))]
fn preempted_at_times() {
    static STEPS: Fill = Fill::new(0);
    if STEPS.fetch_add(1, Ordering::Relaxed) % 200 < 2 {
        std::thread::sleep(core::time::Duration::from_micros(200));
    }
}

#[cfg(all(test, not(barrierd_loom)))]
std::thread_local! {
    /// See [`counted`].
    pub(crate) static COMPARED: Cell<u64> = const { Cell::new(0) };
    /// The time between items, nanoseconds, whatever the clock shows: for tests whose figures may not depend on the
    /// machine's pace.
    pub(crate) static GAP_NS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// All that one thread has retired and not yet freed.
pub(crate) struct Bags {
    /// [`TAKEN`], or how far a push may fill a bag.
    limit: AtomicUsize,
    busy: AtomicBool,
    /// One of owner and taker has left it.
    left: AtomicBool,
    /// Something was pushed into it once.
    used: Hint,
    /// All that follows.
    owned: Owned,
    /// With this many items in an open bag a push takes the slow path: the bag is full, or a scan is due.
    most: Cell<usize>,
    /// Readers fence, so `limit` is never more than [`NO_PUSH`].
    fenced: Cell<bool>,
    vtime: VtimeWord,
    /// The open bag of items without a birth.
    plain: Lane,
    /// The open bag of items that begin with their births.
    born: Lane,
    /// The latest birth in it.
    last_birth: Cell<u64>,
    /// Reclaimable items, in a bag of their own: `next..end` are left.
    next: Cell<*const Item>,
    end: Cell<*const Item>,
    /// More safe bags wait after that one ...
    more: Cell<bool>,
    /// ... so many that one item a call is too slow.
    behind: Cell<bool>,
    /// Where it counts what leaves it, and shows [`Rest::oldest_ns`]. Null: nowhere.
    meter: Cell<*const Meter>,
    rest: UnsafeCell<Rest>,
}

/// An open bag, as a push sees it.
struct Lane {
    /// How far it is filled, in [`SLOT`]s, or [`CLOSED`]. Relaxed, everywhere: only the owner uses it, except for a
    /// load whose result `limit` discards.
    fill: Fill,
    /// Its slots, if there are items.
    open: Cell<*mut Item>,
    /// The virtual time of every item.
    tag: Cell<u64>,
    /// The size of the items, bytes.
    bytes: Cell<usize>,
}

impl Lane {
    fn new() -> Lane {
        Lane {
            fill: Fill::new(CLOSED),
            open: Cell::new(ptr::null_mut()),
            tag: Cell::new(0),
            bytes: Cell::new(0),
        }
    }

    /// Returns the number of items.
    #[inline]
    fn items(&self) -> usize {
        let fill = self.fill.load(Ordering::Relaxed);
        if fill == CLOSED { 0 } else { fill / SLOT }
    }

    /// # Safety
    /// `fill` is what [`fill`](Lane::fill) says, below [`BAG_ITEMS`], and `open` leads to an open bag's slots.
    #[inline]
    unsafe fn add(&self, fill: usize, item: Item, bytes: usize) {
        // SAFETY: there are BAG_ITEMS slots.
        unsafe { self.open.get().byte_add(fill).write(item) };
        self.fill.store(fill + SLOT, Ordering::Relaxed);
        // For reports; a panic here would leave its owner inside for ever.
        self.bytes.set(self.bytes.get().wrapping_add(bytes));
    }

    /// Closes the lane: what it knew of the items moves to `bag`, which holds them.
    fn close(&self, bag: &mut Bag) {
        bag.len = self.items();
        (bag.vtime, bag.bytes) = (self.tag.get(), self.bytes.replace(0));
        self.fill.store(CLOSED, Ordering::Relaxed);
    }
}

// SAFETY: one owner at a time (see the file's documentation); the items' pointers belong to no
// thread, and the vtime word is an atomic that any thread may load.
unsafe impl Send for Bags {}

/// The reason why a push was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue was taken over: go on with a new one.
    Taken,
    /// The open bag is full, has no items, or is of an earlier virtual time: see [`Work::push`].
    Closed,
}

impl Bags {
    pub(crate) fn new(vtime: VtimeWord) -> Bags {
        let open = Bag::without_slots();
        Bags {
            limit: AtomicUsize::new(BAG_ITEMS * SLOT),
            busy: AtomicBool::new(false),
            left: AtomicBool::new(false),
            used: Hint::new(false),
            owned: Owned::default(),
            most: Cell::new(BAG_ITEMS),
            fenced: Cell::new(false),
            vtime,
            plain: Lane::new(),
            born: Lane::new(),
            last_birth: Cell::new(0),
            next: Cell::new(ptr::null()),
            end: Cell::new(ptr::null()),
            more: Cell::new(false),
            behind: Cell::new(false),
            meter: Cell::new(ptr::null()),
            rest: UnsafeCell::new(Rest {
                open,
                sealed: VecDeque::new(),
                count: 0,
                kept_back: 0,
                unchecked: 0,
                begun_ns: u64::MAX,
                gap_ns: 0,
                step: BAG_ITEMS,
                scan_left: false,
                safe: VecDeque::new(),
                released: Safe::default(),
                surplus: 0,
                going: None,
                spares: Spares::default(),
                held: None,
            }),
        }
    }

    /// Makes the queue count and show on `meter`, the owner's, which outlives the queue, and its first bag a small one.
    /// `fenced`: readers fence, and so must every thread that touches the queue, so no push takes the fast path. To be
    /// called before another thread knows the queue.
    pub(crate) fn serve(&mut self, meter: &Meter, fenced: bool) {
        self.meter.set(meter);
        self.fenced.set(fenced);
        self.most.set(FIRST_BAG);
        self.rest.get_mut().step = FIRST_BAG;
        let limit = if fenced { NO_PUSH } else { FIRST_BAG * SLOT };
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Returns where the queue counts, if it does.
    fn meter(&self) -> Option<&Meter> {
        // SAFETY: null, or as `serve` says.
        unsafe { self.meter.get().as_ref() }
    }

    /// Sets the number of items that a bag takes from here on. Called by the owner, inside.
    fn set_most(&self, items: usize) {
        if self.most.replace(items) == items || self.fenced.get() {
            return;
        }
        if broken(Mutant::LimitByStore) {
            return self.limit.store(items * SLOT, Ordering::Relaxed);
        }
        // Relaxed: reads the owner's own last exchange, or what a taker put there, which stays.
        let before = self.limit.load(Ordering::Relaxed);
        if before != TAKEN {
            // Release: pairs with `mark_taken`, an exchange too. So the mark comes either before this, which then
            // fails, or after it, and no later load of the owner's may find this instead of the mark.
            let (order, failed) = (Ordering::Release, Ordering::Relaxed);
            let _ = self.limit.compare_exchange(before, items * SLOT, order, failed);
        }
    }

    /// Shows the time of the oldest bag, for reports. Owner only.
    fn show_oldest(&self, rest: &Rest) {
        if let Some(meter) = self.meter() {
            meter.show_oldest(rest.oldest_ns(self.plain.items() > 0));
        }
    }

    /// [`push_as`](Bags::push_as) of an item without a birth.
    ///
    /// # Safety
    /// The caller owns the queue, or it was taken from it a moment ago.
    #[cfg(test)]
    pub(crate) unsafe fn push(
        &self,
        item: Item,
        bytes: usize,
        free: bool,
    ) -> Result<Option<Item>, Refused> {
        // SAFETY: the caller owns the queue, or it was taken from it a moment ago; the item has no birth.
        unsafe { self.push_as::<false>(item, bytes, || free) }
    }

    /// Puts an item into the open bag of its kind, and takes out a reclaimable one, if `free` returns true.
    ///
    /// # Safety
    /// The caller owns the queue, or it was taken from it a moment ago. `BORN`: the object begins with
    /// its birth.
    #[inline(always)]
    pub(crate) unsafe fn push_as<const BORN: bool>(
        &self,
        item: Item,
        bytes: usize,
        free: impl FnOnce() -> bool,
    ) -> Result<Option<Item>, Refused> {
        let early = broken(Mutant::LimitBeforeBusy).then(|| self.look_early());
        step();
        // Relaxed, and no fence: see the file's documentation.
        self.busy.store(true, Ordering::Relaxed);
        light_barrier();
        step();
        // Acquire: a queue that was taken over is not ours any more. Nothing of it is read before this says
        // that it is ours, except `fill`.
        let limit = early.unwrap_or_else(|| self.limit.load(Ordering::Acquire));
        let lane = self.lane::<BORN>();
        let fill = lane.fill.load(Ordering::Relaxed);
        if fill >= limit || self.vtime.load() != lane.tag.get() {
            // Release: the last that its owner does to it, if it was taken.
            self.busy.store(false, Ordering::Release);
            return Err(if limit == TAKEN { Refused::Taken } else { Refused::Closed });
        }
        step();
        #[cfg(all(test, not(barrierd_loom)))]
        if early.is_some() {
            preempted_at_times();
        }
        self.owned.touch();
        // SAFETY: there is room, and the caller promises that an object of kind `BORN` begins with its birth.
        unsafe { self.add::<BORN>(fill, item, bytes) };
        let next = if !free() {
            None
        } else if let Some(next) = self.next_going() {
            Some(next)
        } else if self.more.get() {
            // SAFETY: the caller is the owner, and busy: the only reference.
            self.next_bag(unsafe { &mut *self.rest.get() })
        } else {
            None
        };
        step();
        self.rest_from_work();
        Ok(next)
    }

    /// Returns the open bag's lane of that kind.
    #[inline]
    fn lane<const BORN: bool>(&self) -> &Lane {
        if BORN { &self.born } else { &self.plain }
    }

    /// # Safety
    /// The owner is inside, its open bag of that kind is filled as far as `fill` says and has room, and `BORN` is
    /// true only for an object that begins with its birth and is not freed.
    #[inline]
    unsafe fn add<const BORN: bool>(&self, fill: usize, item: Item, bytes: usize) {
        // SAFETY: the owner is inside and its open bag has room up to `fill`, as the caller promises.
        unsafe {
            self.lane::<BORN>().add(fill, item, bytes);
            if BORN && item.birth() > self.last_birth.get() {
                self.raise_last_birth(item.birth());
            }
        }
    }

    /// Notes a later birth: once an era.
    #[cold]
    fn raise_last_birth(&self, birth: u64) {
        self.last_birth.set(birth);
    }

    /// What [`Mutant::LimitBeforeBusy`] does, its window opened wide.
    #[cold]
    fn look_early(&self) -> usize {
        let limit = self.limit.load(Ordering::Acquire);
        (0..20).for_each(|_| core::hint::spin_loop());
        #[cfg(all(test, not(barrierd_loom)))]
        preempted_at_times();
        limit
    }

    /// Notes that the owner is outside again.
    #[inline(always)]
    fn rest_from_work(&self) {
        // Release: pairs with `is_quiet`.
        let order =
            if broken(Mutant::RelaxedQuiet) { Ordering::Relaxed } else { Ordering::Release };
        self.busy.store(false, order);
    }

    #[cold]
    fn refuse(&self) -> Refused {
        let taken = self.limit.load(Ordering::Acquire) == TAKEN;
        // Release: the last that its owner does to it.
        self.busy.store(false, Ordering::Release);
        if taken { Refused::Taken } else { Refused::Closed }
    }

    /// Returns the next item of the bag that is being freed.
    #[inline]
    fn next_going(&self) -> Option<Item> {
        let next = self.next.get();
        if next == self.end.get() {
            return None;
        }
        // SAFETY: `next..end` are written slots of the bag `going`, which stays where it is.
        unsafe {
            self.next.set(next.add(1));
            Some(next.read())
        }
    }

    /// Returns the first item of the next reclaimable bag.
    #[cold]
    fn next_bag(&self, rest: &mut Rest) -> Option<Item> {
        let Some(mut bag) = rest.safe.pop_front() else {
            rest.going.take().into_iter().for_each(|gone| rest.spares.keep(gone));
            return None;
        };
        if let Some(meter) = self.meter() {
            meter.frees_bytes(bag.take_bytes());
        }
        self.more.set(!rest.safe.is_empty());
        rest.surplus = rest.surplus.saturating_sub(1);
        self.behind.set(rest.surplus > 0);
        // SAFETY: within its slots.
        unsafe {
            self.next.set(bag.slots.start().add(bag.taken));
            self.end.set(bag.slots.start().add(bag.len));
        }
        if let Some(gone) = rest.going.replace(bag) {
            rest.spares.keep(gone);
        }
        self.show_oldest(rest);
        self.next_going()
    }

    /// Runs `work` as the owner, unless the queue was taken over.
    ///
    /// # Safety
    /// The caller owns the queue, or it was taken from it a moment ago; `work` runs no foreign code.
    /// Where readers fence (`fenced`), so does this.
    pub(crate) unsafe fn own<R>(
        &self,
        fenced: bool,
        work: impl FnOnce(&mut Work<'_>) -> R,
    ) -> Result<R, Refused> {
        step();
        self.busy.store(true, Ordering::Relaxed);
        light_barrier();
        step();
        if fenced {
            // Stands for the barrier between the taker's two steps, which is a fence there.
            fence(Ordering::SeqCst);
        }
        if self.limit.load(Ordering::Acquire) == TAKEN {
            return Err(self.refuse());
        }
        step();
        self.owned.touch();
        // SAFETY: busy and not taken, so this is the only reference, and `work` does not come back.
        let result = work(&mut Work { bags: self, rest: unsafe { &mut *self.rest.get() } });
        step();
        self.rest_from_work();
        Ok(result)
    }

    /// Marks the queue as taken over. It is the caller's once a barrier of the owner's CPU has
    /// passed since and [`is_quiet`](Bags::is_quiet).
    pub(crate) fn mark_taken(&self) {
        // SeqCst, once a takeover: AcqRel would do, since the stamp that the barrier is counted from comes
        // later and has a fence of its own. An exchange: see `set_most`.
        self.limit.swap(TAKEN, Ordering::SeqCst);
    }

    /// Returns whether the owner is outside. To be called after that barrier.
    pub(crate) fn is_quiet(&self) -> bool {
        // Acquire: pairs with the owner's last store of `busy`.
        !self.busy.load(Ordering::Acquire)
    }

    /// Returns everything that is there: safe bags, sealed ones, and the open one with the
    /// stamp `ns`, which the caller took after the queue became its own.
    ///
    /// # Safety
    /// The queue is the caller's: marked, its barrier passed, quiet; or its owner is gone.
    pub(crate) unsafe fn take_over(&self, ns: u64) -> Left {
        self.owned.touch();
        // SAFETY: the queue is the caller's, so no other thread is inside.
        let rest = unsafe { &mut *self.rest.get() };
        // The owner may be showing its next queue there.
        let shown = self.meter.replace(ptr::null());
        let oldest = rest.oldest_ns(self.plain.items() > 0);
        let mut work = Work { bags: self, rest };
        work.seal(ns);
        let all = work.take_all();
        // An owner that came back since the mark found this time shown, so it did not show its own, later one. From
        // here on it shows none, until its next bag. SAFETY: null, or as `serve` says.
        if let Some(meter) = unsafe { shown.as_ref() } {
            meter.taken_over(oldest);
        }
        all
    }

    /// Owner and taker each leave a queue that was taken over, once; the second one frees it.
    ///
    /// # Safety
    /// `bags` came from a `Box`, is marked as taken, and the caller doesn't touch it again.
    pub(crate) unsafe fn leave(bags: *mut Bags) {
        // SAFETY: the other one has not left, or leaves it to us. AcqRel: what it did comes before
        // the free.
        if unsafe { (*bags).left.swap(true, Ordering::AcqRel) } {
            // SAFETY: both have left.
            drop(unsafe { Box::from_raw(bags) });
        }
    }

    /// Returns whether owner or taker has left. Asked by the taker before it leaves itself: true means that the owner
    /// has left, and nothing that it did is still under way.
    pub(crate) fn is_left(&self) -> bool {
        // Acquire: pairs with `leave`.
        self.left.load(Ordering::Acquire)
    }

    /// Returns whether something was pushed into it since it was made. A caller that gets false may ask again later.
    pub(crate) fn is_used(&self) -> bool {
        // Relaxed: what is there is read after the takeover's own steps.
        self.used.load(Ordering::Relaxed)
    }

    /// Returns whether it is marked as taken over.
    pub(crate) fn is_taken(&self) -> bool {
        self.limit.load(Ordering::Acquire) == TAKEN
    }

    fn going(&self) -> usize {
        (self.end.get().addr() - self.next.get().addr()) / size_of::<Item>()
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests;
