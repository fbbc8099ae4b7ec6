//! One thread's record in a domain.
//!
//! # Who may touch what
//! 1. `reader` is stored by the owning thread and loaded by scans.
//! 2. The owner is the thread whose [`Pool::take`](super::pool::Pool::take) returned the record, until it gives it
//!    back. It alone touches `nested`, `push_only`, `owed`, `transient`, `robust`, `hazards`, `line` and
//!    `keeper`. The registry, a `Guard` (neither is `Send`) or one call holds a record on its thread; a `Handle` or
//!    an `OwnedGuard` takes its own along when it is sent, with no borrow of it left behind. When the last
//!    `Reclaimer` is dropped, all records belong to that drop (`Engine::close`): no guard and no call can be left,
//!    and threads that exit find the door closed.
//! 3. `bags` is stored by the owner. What it points to is the owner's, until it is taken over
//!    (`bag/mod.rs`); then the owner puts another in its place.
//!    `taken`, and what of `meter` is in the domain's account, are stored by a thread that holds the lock of the
//!    domain's orphans.
//! 4. The rest of `meter` is written by the owner and read by any thread; except that a thread that takes a queue over
//!    writes to its ledger and its time of the oldest bag, too, which reports alone read.
//! 5. `home` and `number` never change, and records are freed together, when the domain is dropped and
//!    no thread has a reference to it.

use crate::bag::Bags;
use crate::engine::Engine;
use crate::engine::hazards::Line;
use crate::engine::running::PushOnly;
use crate::meter::Meter;
use crate::protocol::Reader;
use crate::protocol::VtimeWord;
use crate::protocol::dormant::Holds;
use crate::protocol::holders::Interval;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crossbeam_utils::CachePadded;

/// In [`Inner::owed`]: there was a backlog when the owner last checked.
const BACKLOG: usize = 1;

/// One thread's record in a domain: all that its hot calls touch, in two cache lines of its own.
#[derive(Debug)]
pub(crate) struct Record(CachePadded<Inner>);

// In this order, so that what scans load is one line, and what hot calls touch two: see below.
#[derive(Debug)]
#[repr(C)]
struct Inner {
    reader: Reader,
    /// What the owner's robust guards hold: stored by the owner, loaded by scans.
    interval: Interval,
    home: *const Engine,
    bags: AtomicPtr<Bags>,
    /// Guards that are open beside the first; stale, while none is open, where some were forgotten. Not in the
    /// slot, which the owner may load by atomic loads alone: no compiler folds those into a test.
    nested: Cell<u64>,
    /// Robust guards that the interval's word could not count. Safe code counts up without end by forgetting
    /// guards, so this, like every counter that it can drive, has 64 bits: they last for centuries.
    robust: Cell<u64>,
    /// Hazards that there are. Here begins the second line.
    hazards: Cell<u64>,
    /// Why what its owner retires is only pushed.
    push_only: PushOnly,
    /// Taken for one guard or call alone: given back at the end of the last guard.
    transient: Cell<bool>,
    /// What keeps it awake beside a section: stored by the owner, loaded by the thread that puts readers to sleep.
    holds: Holds,
    /// See [`debt`](Record::debt), twice that; and [`BACKLOG`].
    owed: Cell<usize>,
    /// What is counted for it. Its first part is hot; from there on: slow paths.
    meter: Meter,
    /// The queue that was taken over last; only compared, since it may be gone.
    taken: AtomicPtr<Bags>,
    /// The owner is in a call that frees its queue: it need not be taken over.
    attended: AtomicBool,
    /// What its owner keeps beside it (`epoch/participant.rs`).
    keeper: Cell<*const ()>,
    /// The thread that took it, for reports.
    tid: AtomicU32,
    /// Where the owner looks first for a free hazard.
    line: Cell<*const Line>,
    /// Its number among the domain's records.
    number: usize,
}

#[cfg(not(barrierd_loom))]
const _: () = {
    assert!(core::mem::offset_of!(Inner, home) <= 64, "what scans and looks load is one line");
    assert!(core::mem::offset_of!(Inner, meter) + Meter::HOT <= 128, "what hot calls touch is two");
};

// SAFETY: the cells are touched by the record's owner alone (rule 2), `bags` by rule 3; `home` is
// immutable and outlives it; the rest is immutable or atomic.
unsafe impl Sync for Record {}
// SAFETY: nothing in it is tied to a thread; ownership moves through `Pool::take`.
unsafe impl Send for Record {}

impl Record {
    pub(super) fn new(home: *const Engine, vtime: VtimeWord, number: usize) -> Record {
        Record(CachePadded::new(Inner {
            reader: Reader::new(),
            interval: Interval::new(),
            home,
            bags: AtomicPtr::new(Box::into_raw(Box::new(Bags::new(vtime)))),
            taken: AtomicPtr::new(ptr::null_mut()),
            attended: AtomicBool::new(false),
            push_only: PushOnly::default(),
            transient: Cell::new(false),
            holds: Holds::new(),
            owed: Cell::new(0),
            nested: Cell::new(0),
            robust: Cell::new(0),
            hazards: Cell::new(0),
            meter: Meter::new(),
            keeper: Cell::new(ptr::null()),
            tid: AtomicU32::new(0),
            line: Cell::new(ptr::null()),
            number,
        }))
    }

    /// Its number among the domain's records.
    pub(super) fn number(&self) -> usize {
        self.0.number
    }

    /// Returns what scans see of it.
    #[inline]
    pub(crate) fn reader(&self) -> &Reader {
        &self.0.reader
    }

    /// Returns what scans see of its robust guards.
    #[inline]
    pub(crate) fn interval(&self) -> &Interval {
        &self.0.interval
    }

    /// Robust guards beside those that the interval counts. For tests.
    #[cfg(all(test, not(barrierd_loom)))]
    pub(crate) fn robust(&self) -> &Cell<u64> {
        &self.0.robust
    }

    /// The owner is about to make a hazard.
    pub(crate) fn expect_hazard(&self) {
        self.0.hazards.set(self.0.hazards.get() + 1);
        let awake = self.0.holds.hazard(self.0.reader.sleep());
        self.go_on(awake);
    }

    /// A hazard is gone, and was cleared. Owner only.
    pub(crate) fn lose_hazard(&self) {
        let hazards = self.0.hazards.get() - 1;
        self.0.hazards.set(hazards);
        if hazards == 0 {
            self.0.holds.no_hazard();
        }
    }

    /// The owner is about to open a robust guard, maybe its first.
    pub(crate) fn expect_interval(&self) {
        let awake = self.0.holds.robust(self.0.reader.sleep());
        self.go_on(awake);
    }

    /// Goes on after a check of the owner's.
    #[inline]
    pub(super) fn go_on(&self, awake: bool) {
        if !awake {
            self.engine().wake(self);
        }
    }

    /// Whether nothing but a section could find anything: no hazard, and never a robust guard.
    pub(crate) fn may_sleep(&self) -> bool {
        !self.0.holds.any()
    }

    /// Whether no section is open (Acquire: all of them have ended).
    pub(crate) fn is_idle(&self) -> bool {
        self.0.reader.idle_since().is_some()
    }

    /// A line of hazards that the owner has, and where one is free, if it isn't full; null if there is no
    /// such line. Owner only.
    #[inline]
    pub(crate) fn line(&self) -> &Cell<*const Line> {
        &self.0.line
    }

    /// What the owner keeps beside it; only the owner knows what that is. Owner only.
    #[cfg(not(barrierd_loom))]
    #[inline]
    pub(crate) fn keeper(&self) -> &Cell<*const ()> {
        &self.0.keeper
    }

    /// Whether a robust guard or a hazard needs it in use. Owner only.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.0.interval.is_open() || self.0.hazards.get() != 0
    }

    /// The engine that it is a record of.
    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        // SAFETY: an engine owns its records and outlives every reference to them.
        unsafe { &*self.0.home }
    }

    /// The same as a pointer, which is good for all of what the engine is a part of.
    #[inline]
    pub(crate) fn home(&self) -> *const Engine {
        self.0.home
    }

    /// The owner's queue.
    #[inline]
    pub(crate) fn bags(&self) -> *mut Bags {
        // Relaxed: the owner reads its own last store.
        self.0.bags.load(Ordering::Relaxed)
    }

    /// Returns the queue, for another thread: it may belong to the owner still.
    pub(crate) fn foreign_bags(&self) -> *mut Bags {
        // Acquire: pairs with the Release in `replace_bags`, so the queue is seen whole.
        self.0.bags.load(Ordering::Acquire)
    }

    /// The owner goes on with another queue: the old one was taken over.
    pub(crate) fn replace_bags(&self, bags: *mut Bags) {
        self.0.bags.store(bags, Ordering::Release);
    }

    /// The queue that was taken over last. Touched only with the domain's orphans locked.
    pub(crate) fn taken(&self) -> *mut Bags {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// See [`taken`](Record::taken).
    pub(crate) fn set_taken(&self, bags: *mut Bags) {
        self.0.taken.store(bags, Ordering::Relaxed);
    }

    /// Whether the owner is looking after its queue. A hint.
    pub(crate) fn is_attended(&self) -> bool {
        self.0.attended.load(Ordering::Relaxed)
    }

    /// See [`is_attended`](Record::is_attended). Owner only.
    pub(crate) fn set_attended(&self, attended: bool) {
        self.0.attended.store(attended, Ordering::Relaxed);
    }

    /// Returns why what the owner retires is only pushed. Owner only.
    #[inline]
    pub(crate) fn push_only(&self) -> &PushOnly {
        &self.0.push_only
    }

    /// Taken for one guard or one call. Owner only.
    #[inline]
    pub(crate) fn transient(&self) -> &Cell<bool> {
        &self.0.transient
    }

    /// Frees that calls from within destructors have left to the calls outside. Owner only.
    pub(crate) fn debt(&self) -> usize {
        self.0.owed.get() / 2
    }

    /// See [`debt`](Record::debt).
    pub(crate) fn set_debt(&self, items: usize) {
        self.0.owed.set((items.min(usize::MAX / 2) * 2) | (self.0.owed.get() & BACKLOG));
    }

    /// Notes whether its queue has so many reclaimable items that one a call is too slow. Owner only.
    pub(crate) fn set_backlog(&self, behind: bool) {
        self.0.owed.set(self.debt() * 2 + if behind { BACKLOG } else { 0 });
    }

    /// Whether a call that has freed an item should free more. Owner only.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        self.0.owed.get() != 0
    }

    /// The thread that took it last; 0 for a moment before it says so. For reports.
    pub(crate) fn tid(&self) -> u32 {
        self.0.tid.load(Ordering::Relaxed)
    }

    pub(crate) fn set_tid(&self, tid: u32) {
        self.0.tid.store(tid, Ordering::Relaxed);
    }

    /// Returns what is counted for it.
    #[inline]
    pub(crate) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// No guard is left, though some may not have been dropped. Owner only.
    pub(crate) fn end_guards(&self) {
        self.0.nested.set(0);
        self.0.reader.unpin();
        self.0.robust.set(0);
        if self.0.interval.is_open() {
            self.0.interval.close();
        }
    }

    /// Guards that are open beside the first, if one is. Owner only.
    #[inline]
    pub(crate) fn nested(&self) -> u64 {
        self.0.nested.get()
    }

    /// The first guard is about to be opened: those of a section whose guards were forgotten, where
    /// `Handle::pin` began and ended another, don't count any more. Owner only.
    pub(crate) fn forget_nested(&self) {
        self.0.nested.set(0);
    }

    /// Counts one more guard of an interval that is open. Owner only.
    pub(crate) fn nest_robust(&self) {
        if self.0.interval.nest().is_err() {
            self.0.robust.set(self.0.robust.get() + 1);
        }
    }

    /// Takes back one [`nest_robust`](Record::nest_robust). Owner only.
    #[cold]
    pub(crate) fn unnest_robust(&self) {
        match self.0.robust.get() {
            0 => self.0.interval.unnest(),
            beyond => self.0.robust.set(beyond - 1),
        }
    }

    /// Counts one more guard of a section that is open. Owner only.
    ///
    /// Checks whether it was taken for asleep, too: in a signal handler, the section may be one that is being opened,
    /// between its store and its own check.
    pub(crate) fn nest(&self) {
        self.0.nested.set(self.0.nested.get() + 1);
        self.go_on(self.0.reader.sleep().is_awake());
    }

    /// Takes back one [`nest`](Record::nest). Owner only.
    pub(crate) fn unnest(&self) {
        self.0.nested.set(self.0.nested.get() - 1);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let bags = *self.0.bags.get_mut();
        // SAFETY: made by `Box::into_raw`; its owner is gone, and this stands in for it. A taker that still
        // has it frees it.
        unsafe { if (*bags).is_taken() { Bags::leave(bags) } else { drop(Box::from_raw(bags)) } }
    }
}
