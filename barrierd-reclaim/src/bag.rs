//! One thread's retired items, from retirement to the moment they are ready to be freed.
//!
//! Owns the queue and its order (first retired, first freed), and the flag by which another thread
//! takes it all over. It knows nothing of sources: stamps and the safe times come from the caller,
//! and it never runs a destructor.
//!
//! # Who may touch what
//! A [`Bags`] has one owner at a time: the thread whose record points to it, then, for good, the one
//! that took it over. The owner never waits and runs no fence; so the way over is asymmetric:
//!
//! - The owner: `busy` = true; light barrier; look at `limit`; work; `busy` = false (Release).
//! - The taker: `limit` = [`TAKEN`]; a barrier of the owner's CPU; then, once `busy` is false
//!   (Acquire), everything is the taker's.
//!
//! If the owner's `busy` store came before its CPU's barrier point, the taker sees it, or the
//! `false` behind it, with all that was done before. If it came after, so did its look at `limit`,
//! which then says [`TAKEN`]: the owner stores `busy` = false and never comes back, but goes on with
//! a new queue. `limit` is raised by compare-exchange alone, so that [`TAKEN`] stays.

mod aside;

use crate::holders::Holders;
use crate::policy::BACKLOG_BAGS;
use crate::protocol::Safe;
use crate::stats::Tally;
use crate::sync::{
    AtomicBool, AtomicUsize, Ordering, Owned, Twin, broken, fence, light_barrier, step,
};
use aside::Aside;
use core::cell::{Cell, UnsafeCell};
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
// The source's word: no part of what loom looks at.
use core::sync::atomic::AtomicU64;
use std::collections::VecDeque;

/// Items in a bag: one full stop is shared by this many.
pub(crate) const BAG_ITEMS: usize = 64;
/// Emptied bags kept for reuse.
const SPARE_BAGS: usize = 16;
/// [`Bags::limit`]: taken over. Below every other value.
const TAKEN: usize = 0;
/// [`Bags::fill`] of an open bag without items. A bag without items is never open for pushing: the
/// first item takes the slow path, so that somebody hears of it.
const EMPTY: usize = 1;

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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) ptr: *mut (),
    pub(crate) free: unsafe fn(*mut ()),
}

impl Item {
    /// Runs the destructor.
    ///
    /// # Safety
    /// The item has passed its barrier and no reader can hold it (or the domain has no readers any
    /// more), what `Reclaimer::retire_with` asks of its caller holds, and this is the only call.
    #[inline]
    pub(crate) unsafe fn free(self) {
        // SAFETY: `ptr` and `free` were given together, for one call, by `retire_with`'s caller.
        unsafe { (self.free)(self.ptr) }
    }

    /// What a hazard on it holds.
    fn address(&self) -> u64 {
        self.ptr.addr() as u64
    }

    /// Its birth.
    ///
    /// # Safety
    /// The object begins with its birth (`Born` in `robust.rs`), and is not freed.
    unsafe fn birth(&self) -> u64 {
        // SAFETY: as the caller says; a birth never changes.
        unsafe { self.ptr.cast::<u64>().read() }
    }
}

type Array = [MaybeUninit<Item>; BAG_ITEMS];

/// Room for [`BAG_ITEMS`]. Not a `Box`, because others point into it while it moves.
struct Slots(NonNull<Array>);

impl Slots {
    fn new() -> Slots {
        Slots(NonNull::from(Box::leak(Box::new([const { MaybeUninit::uninit() }; BAG_ITEMS]))))
    }

    fn start(&self) -> *mut Item {
        self.0.as_ptr().cast()
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: leaked in `new`, dropped once. Items need no drop.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// Items that share both stamps.
pub(crate) struct Bag {
    /// Nanoseconds; `u64::MAX` while the bag is open.
    ns: u64,
    vtime: u64,
    /// The earliest of the items' births; 0 if they have none.
    birth: u64,
    /// When its first item came, nanoseconds; `u64::MAX` if that is not known. For reports.
    opened_ns: u64,
    /// What the items take, bytes.
    bytes: usize,
    /// Items that were sealed in this queue, up to the last one here.
    sealed: u64,
    /// Items `taken..len` are there.
    taken: usize,
    len: usize,
    slots: Slots,
}

// SAFETY: the items' pointers belong to no thread: `retire` demands that any thread may run the
// destructor.
unsafe impl Send for Bag {}

impl core::fmt::Debug for Bag {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Bag { ns, vtime, .. } = self;
        write!(f, "Bag {{ {} items, ns: {ns}, vtime: {vtime} }}", self.waiting())
    }
}

impl Bag {
    fn new() -> Bag {
        Bag {
            ns: u64::MAX,
            vtime: u64::MAX,
            birth: 0,
            opened_ns: u64::MAX,
            bytes: 0,
            sealed: 0,
            taken: 0,
            len: 0,
            slots: Slots::new(),
        }
    }

    /// The bag's stamp, nanoseconds.
    pub(crate) fn ns(&self) -> u64 {
        self.ns
    }

    /// When its first item came, nanoseconds. For reports.
    pub(crate) fn opened_ns(&self) -> u64 {
        self.opened_ns
    }

    /// Items still there.
    pub(crate) fn waiting(&self) -> usize {
        self.len - self.taken
    }

    /// What the items took, bytes; to be counted once.
    pub(crate) fn take_bytes(&mut self) -> usize {
        core::mem::take(&mut self.bytes)
    }

    pub(crate) fn is_safe(&self, safe: Safe) -> bool {
        self.ns < safe.ns || self.vtime < safe.vtime
    }
}

impl Iterator for Bag {
    type Item = Item;

    /// The next item, whatever the stamps say.
    fn next(&mut self) -> Option<Item> {
        if self.taken == self.len {
            return None;
        }
        // SAFETY: those from `taken` to `len` were written.
        let item = unsafe { self.slots.start().add(self.taken).read() };
        self.taken += 1;
        Some(item)
    }
}

/// All that one thread has retired and not yet freed.
pub(crate) struct Bags {
    /// [`TAKEN`], or where the open bag ends.
    limit: AtomicUsize,
    busy: AtomicBool,
    /// One of owner and taker has left it.
    left: AtomicBool,
    /// All that follows.
    owned: Owned,
    /// One more than the items in the open bag.
    fill: Cell<usize>,
    /// The open bag's slots.
    open: Cell<*mut Item>,
    vtime: VtimeWord,
    /// The virtual time of every item in the open bag.
    tag: Cell<u64>,
    /// What the open bag's items take, bytes.
    bytes: Cell<usize>,
    /// Items that may go, in a bag of their own: `next..end` are left.
    next: Cell<*const Item>,
    end: Cell<*const Item>,
    /// More safe bags wait behind that one ...
    more: Cell<bool>,
    /// ... so many that one item a call is too slow.
    behind: Cell<bool>,
    /// Where bags that begin to go are counted, bytes. Null: nowhere.
    gone: Cell<*const Tally>,
    /// Where [`Rest::oldest_ns`] is shown. Null: nowhere.
    oldest: Cell<*const AtomicU64>,
    rest: UnsafeCell<Rest>,
}

/// What only slow paths touch.
struct Rest {
    open: Bag,
    /// Sealed, oldest first; their stamps never fall.
    sealed: VecDeque<Bag>,
    /// Items that were ever sealed.
    count: u64,
    /// Found safe, oldest first.
    safe: VecDeque<Bag>,
    /// So many of them are a backlog.
    surplus: usize,
    /// The bag whose items `next..end` are.
    going: Option<Bag>,
    spare: Vec<Bag>,
    /// What does not go in this order; made when it is needed.
    aside: Option<Box<Aside>>,
}

// SAFETY: one owner at a time (see the file's documentation); the items' pointers belong to no
// thread, and the vtime word is an atomic that any thread may load.
unsafe impl Send for Bags {}

/// A push that was done.
pub(crate) struct Pushed {
    /// An item that may go.
    pub(crate) next: Option<Item>,
    /// So many more may go that one a call is too slow.
    pub(crate) behind: bool,
}

/// Why a push was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The queue was taken over: go on with a new one.
    Taken,
    /// The open bag is full, has no items, or is of an earlier virtual time: see [`Work::push`].
    Closed,
}

impl Bags {
    pub(crate) fn new(vtime: VtimeWord) -> Bags {
        let open = Bag::new();
        Bags {
            limit: AtomicUsize::new(EMPTY),
            busy: AtomicBool::new(false),
            left: AtomicBool::new(false),
            owned: Owned::default(),
            fill: Cell::new(EMPTY),
            open: Cell::new(open.slots.start()),
            vtime,
            tag: Cell::new(0),
            bytes: Cell::new(0),
            next: Cell::new(ptr::null()),
            end: Cell::new(ptr::null()),
            more: Cell::new(false),
            behind: Cell::new(false),
            gone: Cell::new(ptr::null()),
            oldest: Cell::new(ptr::null()),
            rest: UnsafeCell::new(Rest {
                open,
                sealed: VecDeque::new(),
                count: 0,
                safe: VecDeque::new(),
                surplus: 0,
                going: None,
                spare: Vec::new(),
                aside: None,
            }),
        }
    }

    /// Has the bytes of bags that begin to go counted on `gone`, the owner's, which outlives this. To
    /// be called before anyone else knows the queue.
    pub(crate) fn count_on(&self, gone: &Tally) {
        self.gone.set(gone);
    }

    /// Has the time of the oldest bag shown on `oldest`, for reports; as for
    /// [`count_on`](Bags::count_on).
    pub(crate) fn show_on(&self, oldest: &AtomicU64) {
        self.oldest.set(oldest);
    }

    /// See [`show_on`](Bags::show_on). Owner only.
    fn show_oldest(&self, rest: &Rest) {
        // SAFETY: null, or as `show_on` says.
        if let Some(shown) = unsafe { self.oldest.get().as_ref() } {
            shown.store(rest.oldest_ns(self.fill.get() > EMPTY), Ordering::Relaxed);
        }
    }

    /// Puts an item into the open bag, and takes one out that may go.
    ///
    /// # Safety
    /// The caller owns the queue, or it was taken from it a moment ago.
    #[inline]
    pub(crate) unsafe fn push(
        &self,
        item: Item,
        bytes: usize,
        free: bool,
    ) -> Result<Pushed, Refused> {
        let early = broken(Twin::LimitBeforeBusy).then(|| self.look_early());
        step();
        // Relaxed, and no fence: see the file's documentation.
        self.busy.store(true, Ordering::Relaxed);
        light_barrier();
        step();
        // Acquire: a taker's queue is not ours any more: nothing of it is looked at before this says
        // that it is.
        let limit = early.unwrap_or_else(|| self.limit.load(Ordering::Acquire));
        let fill = if limit == TAKEN { BAG_ITEMS } else { self.fill.get() };
        if fill >= limit || self.vtime.load() != self.tag.get() {
            return Err(self.refuse());
        }
        step();
        self.owned.touch();
        // SAFETY: below `limit` there is room: `open` has BAG_ITEMS slots, and `fill` is one more
        // than the first that is free.
        unsafe { self.open.get().add(fill - EMPTY).write(item) };
        self.fill.set(fill + 1);
        self.bytes.set(self.bytes.get() + bytes);
        let next = if !free {
            None
        } else if let Some(next) = self.next_going() {
            Some(next)
        } else if self.more.get() {
            // SAFETY: the caller is the owner, and busy: the only reference.
            self.next_bag(unsafe { &mut *self.rest.get() })
        } else {
            None
        };
        let behind = self.behind.get();
        step();
        self.rest_from_work();
        Ok(Pushed { next, behind })
    }

    /// What [`Twin::LimitBeforeBusy`] does, its window opened wide.
    #[cold]
    fn look_early(&self) -> usize {
        let limit = self.limit.load(Ordering::Acquire);
        (0..20).for_each(|_| core::hint::spin_loop());
        limit
    }

    /// The owner is outside again.
    #[inline(always)]
    fn rest_from_work(&self) {
        // Release: pairs with `is_quiet`.
        let order = if broken(Twin::RelaxedQuiet) { Ordering::Relaxed } else { Ordering::Release };
        self.busy.store(false, order);
    }

    #[cold]
    fn refuse(&self) -> Refused {
        let taken = self.limit.load(Ordering::Acquire) == TAKEN;
        // Release: the last that its owner does to it.
        self.busy.store(false, Ordering::Release);
        if taken { Refused::Taken } else { Refused::Closed }
    }

    /// The next item of the bag that is going.
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

    /// The first item of the next bag that may go.
    #[cold]
    fn next_bag(&self, rest: &mut Rest) -> Option<Item> {
        if let Some(empty) = rest.going.take() {
            rest.spare(empty);
        }
        let mut bag = rest.safe.pop_front()?;
        // SAFETY: null, or as `count_on` says; called by the owner alone.
        if let Some(gone) = unsafe { self.gone.get().as_ref() } {
            gone.add(bag.take_bytes() as u64);
        }
        self.more.set(!rest.safe.is_empty());
        rest.surplus = rest.surplus.saturating_sub(1);
        self.behind.set(rest.surplus > 0);
        // SAFETY: within its slots.
        unsafe {
            self.next.set(bag.slots.start().add(bag.taken));
            self.end.set(bag.slots.start().add(bag.len));
        }
        rest.going = Some(bag);
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
            // Stands for the barrier between the taker's two looks, which is a fence there.
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
        // An exchange: behind any compare-exchange of the owner's that came first, for good.
        self.limit.swap(TAKEN, Ordering::SeqCst);
    }

    /// To be asked after that barrier.
    pub(crate) fn is_quiet(&self) -> bool {
        // Acquire: pairs with the owner's last store of `busy`.
        !self.busy.load(Ordering::Acquire)
    }

    /// Everything that is there, oldest first: safe bags, sealed ones, and the open one with the
    /// stamp `ns`, taken by the caller after the queue became its own.
    ///
    /// # Safety
    /// The queue is the caller's: marked, its barrier passed, quiet; or its owner is gone.
    pub(crate) unsafe fn take_over(&self, ns: u64) -> Vec<Bag> {
        self.owned.touch();
        // SAFETY: nobody else is inside.
        let rest = unsafe { &mut *self.rest.get() };
        // The owner may be showing its next queue there.
        let shown = self.oldest.replace(ptr::null());
        let oldest = rest.oldest_ns(self.fill.get() > EMPTY);
        let mut work = Work { bags: self, rest };
        work.seal(ns);
        let all = work.take_all();
        // SAFETY: null, or as `show_on` says.
        if let Some(shown) = unsafe { shown.as_ref() } {
            let _ = shown.compare_exchange(oldest, u64::MAX, Ordering::Relaxed, Ordering::Relaxed);
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

    /// Whether owner or taker has left. Asked by the taker, before it leaves itself: the owner has,
    /// and nothing that it did is still under way.
    pub(crate) fn is_left(&self) -> bool {
        // Acquire: pairs with `leave`.
        self.left.load(Ordering::Acquire)
    }

    /// Whether it is marked as taken over.
    pub(crate) fn is_taken(&self) -> bool {
        self.limit.load(Ordering::Acquire) == TAKEN
    }

    fn going(&self) -> usize {
        (self.end.get().addr() - self.next.get().addr()) / size_of::<Item>()
    }
}

impl Rest {
    fn spare(&mut self, mut bag: Bag) {
        if self.spare.len() < SPARE_BAGS {
            (bag.taken, bag.len, bag.opened_ns) = (0, 0, u64::MAX);
            self.spare.push(bag);
        }
    }

    /// When the first item came of the oldest bag that is not being freed, nanoseconds; `u64::MAX`:
    /// there is none. `open`: the open bag has items.
    fn oldest_ns(&self, open: bool) -> u64 {
        let first = self.safe.front().or(self.sealed.front());
        let first = first.or(open.then_some(&self.open)).map_or(u64::MAX, Bag::opened_ns);
        self.aside.as_ref().map_or(first, |aside| first.min(aside.oldest_ns()))
    }

    /// Sealed bags of items with a birth, if there is an [`Aside`].
    fn born(&self) -> Option<&VecDeque<Bag>> {
        self.aside.as_ref().map(|aside| aside.sealed())
    }
}

/// The owner at work on its queue.
pub(crate) struct Work<'b> {
    bags: &'b Bags,
    rest: &'b mut Rest,
}

impl Work<'_> {
    /// Items in the open bag.
    pub(crate) fn open(&self) -> usize {
        self.bags.fill.get() - EMPTY
    }

    /// Whether a push now would need another bag: this one is full, or of another virtual time.
    pub(crate) fn wants_seal(&self) -> bool {
        let open = self.open();
        open == BAG_ITEMS || open > 0 && self.bags.vtime.load() != self.bags.tag.get()
    }

    /// Whether a push of an item with a birth would need another bag.
    pub(crate) fn wants_seal_born(&self) -> bool {
        let open = self.rest.aside.as_ref().and_then(|aside| aside.open());
        open.is_some_and(|(vtime, items)| items == BAG_ITEMS || vtime != self.bags.vtime.load())
    }

    /// Whether an item with a birth lies in an open bag.
    pub(crate) fn has_open_born(&self) -> bool {
        self.rest.aside.as_ref().is_some_and(|aside| aside.open().is_some())
    }

    /// What lies in open bags: items, bytes.
    pub(crate) fn unsealed(&self) -> (usize, usize) {
        let (items, bytes) = self.rest.aside.as_ref().map_or((0, 0), |aside| aside.unsealed());
        (self.open() + items, self.bags.bytes.get() + bytes)
    }

    /// Whether the last push was the first into its bag (`born`: that of items with a birth).
    pub(crate) fn is_first(&self, born: bool) -> bool {
        let aside = self.rest.aside.as_ref();
        if born { aside.is_some_and(|aside| aside.unsealed().0 == 1) } else { self.open() == 1 }
    }

    /// The first item has just come into an open bag (`born`: that of items with a birth), at `ns`.
    /// For reports.
    pub(crate) fn opened(&mut self, ns: u64, born: bool) {
        if born {
            self.rest.aside.iter_mut().for_each(|aside| aside.opened(ns));
        } else {
            self.rest.open.opened_ns = ns;
        }
        // SAFETY: null, or as `show_on` says. Nothing is younger, so it shows only where nothing else does.
        if let Some(shown) = unsafe { self.bags.oldest.get().as_ref() }
            && shown.load(Ordering::Relaxed) == u64::MAX
        {
            shown.store(ns, Ordering::Relaxed);
        }
    }

    /// After bags were taken away.
    pub(crate) fn show_oldest(&self) {
        self.bags.show_oldest(self.rest);
    }

    /// Whether anything waits for a barrier or a reader.
    pub(crate) fn waits(&self) -> bool {
        self.open() > 0 || self.sealed() > 0 || self.has_open_born()
    }

    /// Puts an item that begins with its birth into a bag of its own kind, which has room.
    pub(crate) fn push_born(&mut self, item: Item, birth: u64, bytes: usize) {
        let vtime = self.bags.vtime.load();
        let Rest { aside, spare, .. } = &mut *self.rest;
        aside.get_or_insert_default().push(item, birth, bytes, vtime, spare);
    }

    /// Closes the open bags with `ns`, a stamp taken after everything in them was unlinked.
    pub(crate) fn seal(&mut self, ns: u64) {
        if let Some(aside) = &mut self.rest.aside {
            aside.seal(ns);
        }
        self.seal_plain(ns);
    }

    fn seal_plain(&mut self, ns: u64) {
        let items = self.open();
        if items == 0 {
            return;
        }
        let mut full = self.rest.spare.pop().unwrap_or_else(Bag::new);
        core::mem::swap(&mut full, &mut self.rest.open);
        self.bags.open.set(self.rest.open.slots.start());
        // Stamps never fall, so that a search may rely on it: the clocks of two CPUs may differ.
        full.ns = self.rest.sealed.back().map_or(ns, |before| before.ns.max(ns));
        (full.vtime, full.birth) = (self.bags.tag.get(), 0);
        (full.len, full.taken) = (items, 0);
        full.opened_ns = full.opened_ns.min(full.ns);
        full.bytes = self.bags.bytes.replace(0);
        self.rest.count += u64::try_from(items).expect("at most 64");
        full.sealed = self.rest.count;
        self.rest.sealed.push_back(full);
        self.bags.fill.set(EMPTY);
        self.close();
    }

    /// No push without a slow path, unless the queue is taken: then there is none anyway.
    fn close(&self) {
        let limit = self.bags.limit.load(Ordering::Relaxed);
        if limit != TAKEN {
            // Fails if it was just taken.
            let _ = self.bags.limit.compare_exchange(
                limit,
                EMPTY,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    /// Puts an item into the open bag, which has room, and opens it for pushing. The open bag is
    /// empty, or of the present virtual time.
    pub(crate) fn push(&mut self, item: Item, bytes: usize) {
        let bags = self.bags;
        let open = self.open();
        debug_assert!(open < BAG_ITEMS);
        if open == 0 {
            bags.tag.set(bags.vtime.load());
            let limit = bags.limit.load(Ordering::Relaxed);
            // Fails if the queue was just taken: then its next push finds that.
            if limit != TAKEN {
                let _ = bags.limit.compare_exchange(
                    limit,
                    EMPTY + BAG_ITEMS,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
            }
        }
        // SAFETY: `open` is below BAG_ITEMS.
        unsafe { bags.open.get().add(open).write(item) };
        bags.fill.set(bags.fill.get() + 1);
        bags.bytes.set(bags.bytes.get() + bytes);
    }

    /// Lets what is safe go, but for what `holders` hold: later calls take it out. `holders` looked
    /// after `safe` was loaded.
    ///
    /// Where barriers come in rounds, much becomes safe at once, and one item a call is just enough
    /// until the next round. What is left over by then is a backlog.
    pub(crate) fn release(&mut self, safe: Safe, holders: &Holders) {
        let left = self.rest.safe.len();
        let plain = holders.without_birth(safe);
        while self.rest.sealed.front().is_some_and(|bag| bag.is_safe(plain)) {
            let bag = self.rest.sealed.pop_front().expect("looked at");
            self.let_go(bag, holders);
        }
        // An open bag goes by virtual time alone.
        if self.rest.sealed.is_empty() && self.open() > 0 && self.bags.tag.get() < plain.vtime {
            self.seal_plain(u64::MAX);
            let bag = self.rest.sealed.pop_front().expect("sealed");
            self.let_go(bag, holders);
        }
        let Rest { aside, safe: free, spare, .. } = &mut *self.rest;
        if let Some(aside) = aside {
            aside.release(safe, holders, free, spare);
        }
        if self.rest.safe.len() > left {
            self.rest.surplus = if left > BACKLOG_BAGS { left } else { 0 };
            self.bags.behind.set(self.rest.surplus > 0);
            self.bags.more.set(true);
        }
    }

    /// Only hazards may hold it.
    fn let_go(&mut self, mut bag: Bag, holders: &Holders) {
        if holders.has_hazards() {
            self.rest.aside.get_or_insert_default().hazards(&mut bag, holders);
        }
        if bag.waiting() > 0 {
            self.rest.safe.push_back(bag);
        } else {
            self.rest.spare(bag);
        }
    }

    /// The next item that may go.
    pub(crate) fn take_safe(&mut self) -> Option<Item> {
        self.bags.next_going().or_else(|| self.bags.next_bag(self.rest))
    }

    /// Whether so many may go that one item a call is too slow.
    pub(crate) fn is_behind(&self) -> bool {
        self.bags.behind.get()
    }

    /// Items that may go.
    pub(crate) fn ready(&self) -> usize {
        self.bags.going() + self.rest.safe.iter().map(Bag::waiting).sum::<usize>()
    }

    /// Items of sealed bags whose stamp `watermark` does not cover.
    pub(crate) fn uncovered(&self, watermark: u64) -> usize {
        let sealed = &self.rest.sealed;
        let covered = sealed.partition_point(|bag| bag.ns < watermark);
        let plain = sealed.get(covered).map_or(0, |first| {
            let waiting = u64::try_from(first.waiting()).expect("at most 64");
            usize::try_from(self.rest.count - first.sealed + waiting).unwrap_or(usize::MAX)
        });
        plain
            + self.rest.born().map_or(0, |bags| {
                let covered = bags.partition_point(|bag| bag.ns < watermark);
                bags.range(covered..).map(Bag::waiting).sum()
            })
    }

    /// Takes every sealed bag that waits.
    pub(crate) fn take_sealed(&mut self) -> impl Iterator<Item = Bag> {
        let Rest { sealed, aside, .. } = &mut *self.rest;
        sealed.drain(..).chain(aside.iter_mut().flat_map(|aside| aside.take_sealed()))
    }

    /// Sealed bags that wait for a barrier or a reader.
    pub(crate) fn sealed(&self) -> usize {
        self.rest.sealed.len() + self.rest.born().map_or(0, VecDeque::len)
    }

    /// The newest stamp of a sealed bag; 0 if there is none.
    pub(crate) fn newest_sealed(&self) -> u64 {
        let newest = |bags: Option<&Bag>| bags.map_or(0, |bag| bag.ns);
        newest(self.rest.sealed.back()).max(newest(self.rest.born().and_then(VecDeque::back)))
    }

    /// Takes every sealed bag and every one that may go. Seal first.
    pub(crate) fn take_all(&mut self) -> Vec<Bag> {
        debug_assert!(self.open() == 0, "items left behind");
        let left = self.bags.going();
        let mut going = self.rest.going.take();
        if let Some(going) = &mut going {
            going.taken = going.len - left;
        }
        self.bags.next.set(ptr::null());
        self.bags.end.set(ptr::null());
        self.bags.more.set(false);
        self.bags.behind.set(false);
        self.rest.surplus = 0;
        let safe = core::mem::take(&mut self.rest.safe);
        let sealed = core::mem::take(&mut self.rest.sealed);
        let mut all: Vec<Bag> = going.into_iter().chain(safe).map(Bag::settle).collect();
        all.extend(sealed);
        all.extend(self.rest.aside.iter_mut().flat_map(|aside| aside.take_all()));
        all.retain(|bag| bag.waiting() > 0);
        self.show_oldest();
        all
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    unsafe fn nothing(_: *mut ()) {}

    fn numbered(n: usize) -> Item {
        Item { ptr: ptr::without_provenance_mut(n), free: nothing }
    }

    /// Owned by this thread alone, which never has it taken.
    struct Queue(Bags);

    impl Queue {
        fn new(vtime: VtimeWord) -> Queue {
            Queue(Bags::new(vtime))
        }

        fn work<R>(&self, work: impl FnOnce(&mut Work<'_>) -> R) -> R {
            // SAFETY: this thread's own.
            unsafe { self.0.own(false, work) }.expect("not taken")
        }

        /// What a domain does.
        fn push(&self, n: usize, now: u64) {
            // SAFETY: this thread's own.
            match unsafe { self.0.push(numbered(n), 8, false) } {
                Ok(pushed) => assert!(pushed.next.is_none()),
                Err(Refused::Taken) => panic!("not taken"),
                Err(Refused::Closed) => self.work(|work| {
                    if work.wants_seal() {
                        work.seal(now);
                    }
                    work.push(numbered(n), 8);
                }),
            }
        }

        fn take(&self, safe: Safe) -> Option<usize> {
            self.work(|work| {
                work.release(safe, &Holders::default());
                work.take_safe().map(|item| item.ptr.addr())
            })
        }
    }

    #[test]
    fn an_open_bag_waits_for_its_seal() {
        let queue = Queue::new(VtimeWord::none());
        queue.push(1, 0);
        let all = Safe { ns: u64::MAX, vtime: u64::MAX };
        assert_eq!(queue.take(all), None);
        queue.work(|work| work.seal(7));
        assert_eq!(queue.take(Safe { ns: 7, vtime: 0 }), None, "7 is not before 7");
        assert_eq!(queue.take(Safe { ns: 8, vtime: 0 }), Some(1));
    }

    #[test]
    fn virtual_time_frees_an_open_bag() {
        let clock = AtomicU64::new(5);
        // SAFETY: `clock` outlives `queue`.
        let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
        queue.push(1, 10);
        queue.push(2, 11);
        assert_eq!(queue.take(Safe { ns: 0, vtime: 5 }), None, "5 is not before 5");
        assert_eq!(queue.take(Safe { ns: 0, vtime: 6 }), Some(1));
        clock.store(6, Ordering::Relaxed);
        // The other is safe already; the third is of another round.
        queue.push(3, 12);
        let six = Safe { ns: 0, vtime: 6 };
        assert_eq!((queue.take(six), queue.take(six)), (Some(2), None));
        assert_eq!(queue.take(Safe { ns: 0, vtime: 7 }), Some(3));
    }

    #[test]
    fn what_no_watermark_covers_is_counted() {
        let queue = Queue::new(VtimeWord::none());
        for (n, ns) in [(1, 10), (2, 10), (3, 20), (4, 30)] {
            queue.push(n, 0);
            if n != 1 {
                queue.work(|work| work.seal(ns));
            }
        }
        let uncovered = |watermark| queue.work(|work| work.uncovered(watermark));
        assert_eq!([10, 11, 21, 31].map(uncovered), [4, 2, 1, 0]);
    }

    /// A round's worth goes one by one; what a second round finds left goes faster.
    #[test]
    fn only_what_is_left_over_is_a_backlog() {
        let queue = Queue::new(VtimeWord::none());
        let round = |ns| {
            (0..5 * BAG_ITEMS).for_each(|n| queue.push(n, ns));
            queue.work(|work| {
                work.seal(ns);
                work.release(Safe { ns: ns + 1, vtime: 0 }, &Holders::default());
                work.is_behind()
            })
        };
        assert!(!round(10));
        assert!(round(20));
        (0..9 * BAG_ITEMS).for_each(|_| assert!(queue.work(|work| work.take_safe()).is_some()));
        assert!(!queue.work(|work| work.is_behind()));
        assert!(!round(30), "one bag left over is none");
    }

    /// A round that goes by seals the bag: everything in a bag is of one virtual time.
    #[test]
    fn a_new_round_seals() {
        let clock = AtomicU64::new(5);
        // SAFETY: `clock` outlives `queue`.
        let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
        queue.push(1, 10);
        clock.store(6, Ordering::Relaxed);
        queue.push(2, 20);
        assert_eq!(queue.work(|work| (work.sealed(), work.open())), (1, 1));
        assert_eq!(queue.take(Safe { ns: 21, vtime: 0 }), Some(1));
    }

    #[test]
    fn a_taken_queue_is_left() {
        let queue = Queue::new(VtimeWord::none());
        (0..70).for_each(|n| queue.push(n, 5));
        queue.0.mark_taken();
        // SAFETY: it was this thread's own.
        assert_eq!(unsafe { queue.0.push(numbered(70), 8, true) }.err(), Some(Refused::Taken));
        // SAFETY: as above.
        assert!(unsafe { queue.0.own(true, |_| ()) }.is_err());
        assert!(queue.0.is_quiet());
        // SAFETY: marked, quiet, and this thread is the owner.
        let mut bags = unsafe { queue.0.take_over(9) };
        let stamps: Vec<_> =
            bags.iter_mut().map(|bag| (bag.ns(), bag.waiting(), bag.take_bytes())).collect();
        assert_eq!(stamps, [(5, 64, 512), (9, 6, 48)]);
        let names: Vec<_> = bags.into_iter().flatten().map(|item| item.ptr.addr()).collect();
        assert_eq!(names, (0..70).collect::<Vec<_>>());
    }

    /// The owner was inside while the mark was set: what it pushed is there all the same.
    #[test]
    fn a_mark_survives_the_owner() {
        let queue = Queue::new(VtimeWord::none());
        queue.work(|work| {
            queue.0.mark_taken();
            work.push(numbered(1), 8);
            work.seal(3);
            work.push(numbered(2), 8);
        });
        // SAFETY: it was this thread's own.
        assert_eq!(unsafe { queue.0.push(numbered(3), 8, true) }.err(), Some(Refused::Taken));
        // SAFETY: marked, quiet, and this thread is the owner.
        let bags = unsafe { queue.0.take_over(9) };
        let names: Vec<_> = bags.into_iter().flatten().map(|item| item.ptr.addr()).collect();
        assert_eq!(names, [1, 2]);
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
            const OPEN: u64 = u64::MAX;
            let clock = AtomicU64::new(1);
            // SAFETY: `clock` outlives `queue`.
            let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
            let mut plain: VecDeque<(usize, u64, u64)> = VecDeque::new(); // (name, ns, vtime)
            // Once safe, an item may go, however low the times of later calls.
            let mut safe_up_to = 0;
            let (mut name, mut now) = (0, 1);
            for step in steps {
                now += 1;
                match step {
                    Step::Push => {
                        let vtime = clock.load(Ordering::Relaxed);
                        let open = plain.iter().filter(|item| item.1 == OPEN).count();
                        if open == BAG_ITEMS || plain.back().is_some_and(|last| last.2 != vtime) {
                            plain.iter_mut().filter(|item| item.1 == OPEN).for_each(|item| item.1 = now);
                        }
                        name += 1;
                        queue.push(name, now);
                        plain.push_back((name, OPEN, vtime));
                    }
                    Step::Seal => {
                        queue.work(|work| work.seal(now));
                        plain.iter_mut().filter(|item| item.1 == OPEN).for_each(|item| item.1 = now);
                    }
                    Step::Tick => {
                        clock.fetch_add(1, Ordering::Relaxed);
                    }
                    Step::Take { ns_behind, vtime_behind } => {
                        let safe = Safe {
                            ns: u64::saturating_sub(now, ns_behind),
                            vtime: clock.load(Ordering::Relaxed).saturating_sub(vtime_behind),
                        };
                        for &(name, ns, vtime) in &plain {
                            if name > safe_up_to && (ns < safe.ns || vtime < safe.vtime) {
                                safe_up_to = name;
                            } else if name > safe_up_to {
                                break;
                            }
                        }
                        let expected = plain.front().map(|item| item.0).filter(|&name| name <= safe_up_to);
                        prop_assert_eq!(queue.take(safe), expected);
                        if expected.is_some() {
                            plain.pop_front();
                        }
                    }
                };
            }
            // SAFETY: this thread is the owner.
            let bags = unsafe { queue.0.take_over(now) };
            let left: Vec<usize> = bags.into_iter().flatten().map(|item| item.ptr.addr()).collect();
            let expected: Vec<usize> = plain.iter().map(|&(name, ..)| name).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
