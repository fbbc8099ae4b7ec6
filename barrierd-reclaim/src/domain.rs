//! A domain: the words that readers and scans share, the threads' records, the source of barriers,
//! and the road of an item from `retire` to its destructor.
//!
//! Destructors run in [`Domain::run`], [`Domain::free_orphans`] and [`Domain::close`], under no lock.

use crate::background::Watch;
use crate::bag::{Bag, Bags, Item, Pushed, Refused, Work};
use crate::blockers::{self, Blocker};
use crate::error::SynchronizeError;
use crate::fork::Process;
use crate::hazard::Hazards;
use crate::holders::{self, Holders};
use crate::limit::Limits;
use crate::membarrier::Membarrier;
use crate::policy::{
    self, FREED_PER_RETIRE, MOST_PER_RETIRE, ORPHANS_LOOKED_AT, ORPHANS_PER_RETIRE,
};
use crate::protocol::{self, Safe, Scan, VtimeMemory, Words};
use crate::record::{Record, Records};
use crate::source::{ActiveSource, Asked, Barriers};
use crate::stats::{Counters, Stats};
use crate::status::Status;
use crate::sync::{fence, light_barrier};
use crate::takeover::{Hand, IDLE_AFTER, Marked};
use barrierd_client::abi::CLOCK_MARGIN_NS;
use barrierd_client::clock::now_ns;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use rustix::thread::gettid;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Domain {
    words: Words,
    records: Records,
    hazards: Hazards,
    /// A robust guard was opened once. Set before its interval: whoever would have to see the one
    /// sees the other.
    has_intervals: AtomicBool,
    /// Where it was made: in a child by fork it is dead.
    process: Process,
    barriers: Barriers,
    readers_fence: bool,
    passive: Mutex<Passive>,
    /// Sealed bags of threads that have exited. `None`: the last `Reclaimer` is gone, and with it
    /// everything that was retired.
    orphans: Mutex<Option<VecDeque<Bag>>>,
    /// A hint that `orphans` holds something.
    has_orphans: AtomicBool,
    /// A hint, too: the oldest stamp in `orphans`, nanoseconds.
    least_orphan_ns: AtomicU64,
    /// Queues that are being taken over. Locked with `orphans` locked, or alone.
    marked: Mutex<Vec<Marked>>,
    /// What the background thread is freeing.
    hand: Hand,
    /// Where it looks, if it looks after this domain.
    watch: Option<Watch>,
    /// How long a thread may not retire before its queue is taken over.
    idle_after: Duration,
    /// `retire` only pushes; full bags go to the background thread.
    lazy: bool,
    limits: Limits,
    /// The clock ran backwards past a barrier: nothing becomes safe any more.
    poisoned: AtomicBool,
    /// Items waiting on one thread above which a barrier is bought.
    budget: usize,
    counters: Counters,
}

/// What was learned of the daemon's rounds.
#[derive(Debug, Default)]
struct Passive {
    memory: VtimeMemory,
    last_ns: u64,
}

/// While destructors run: what they retire is only pushed. Resets the owner's flags, also when one
/// panics.
struct Freeing<'r>(&'r Record);

impl<'r> Freeing<'r> {
    #[inline]
    fn new(record: &'r Record) -> Freeing<'r> {
        record.freeing().set(true);
        Freeing(record)
    }
}

thread_local! {
    /// Destructors run on this thread, whichever record they were let go by: a destructor that takes
    /// another (by a handle, or late in the thread's exit) must not free others from there.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// The same, also for a thread that never frees in `retire` and so is always `freeing`.
struct Running<'r>(Freeing<'r>, bool);

impl<'r> Running<'r> {
    fn new(record: &'r Record) -> Running<'r> {
        record.running().set(true);
        Running(Freeing::new(record), RUNNING.replace(true))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.0.running().set(false);
        RUNNING.set(self.1);
    }
}

/// In a call that is asked to free, where `retire` doesn't.
struct Released<'r>(&'r Record, bool);

impl<'r> Released<'r> {
    fn new(record: &'r Record, lazy: bool) -> Released<'r> {
        let running = record.running().get();
        // Where `retire` frees, the flag says no more than that a destructor is running.
        let before = record.freeing().get();
        record.freeing().set(if lazy { running } else { before });
        Released(record, before)
    }
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.freeing().set(self.1);
    }
}

impl Drop for Freeing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.freeing().set(false);
    }
}

/// Keeps the background thread from taking the caller's queue over.
struct Attended<'r>(&'r Record);

impl<'r> Attended<'r> {
    fn new(record: &'r Record) -> Attended<'r> {
        record.set_attended(true);
        Attended(record)
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.0.set_attended(false);
    }
}

/// What a builder may choose, beside the source.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Items of one thread that wait for a barrier before one is bought.
    pub(crate) budget: usize,
    /// Whether the background thread looks after the domain.
    pub(crate) background: bool,
    /// How long a thread may not retire before its queue is taken over.
    pub(crate) idle_after: Duration,
    /// `retire` runs no destructor.
    pub(crate) lazy: bool,
    pub(crate) limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            budget: policy::BUDGET_ITEMS,
            background: true,
            idle_after: IDLE_AFTER,
            lazy: false,
            limits: Limits::default(),
        }
    }
}

impl Domain {
    pub(crate) fn new(barriers: Barriers, settings: &Settings) -> Domain {
        let source = barriers.active();
        Domain {
            words: Words::new(),
            records: Records::new(),
            hazards: Hazards::new(),
            has_intervals: AtomicBool::new(false),
            process: Process::current(),
            readers_fence: barriers.readers_fence(),
            barriers,
            passive: Mutex::default(),
            orphans: Mutex::new(Some(VecDeque::new())),
            has_orphans: AtomicBool::new(false),
            least_orphan_ns: AtomicU64::new(u64::MAX),
            marked: Mutex::default(),
            hand: Hand::default(),
            watch: settings.background.then(Watch::new),
            idle_after: settings.idle_after,
            lazy: settings.lazy,
            limits: settings.limits.clone(),
            poisoned: AtomicBool::new(false),
            budget: settings.budget,
            counters: Counters::new(source),
        }
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    pub(crate) fn idle_after(&self) -> Duration {
        self.idle_after
    }

    pub(crate) fn is_lazy(&self) -> bool {
        self.lazy
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether a destructor runs on the owner's thread, from one of its calls to this domain.
    pub(crate) fn in_destructor(&self, record: &Record) -> bool {
        if self.lazy { record.running().get() } else { record.freeing().get() }
    }

    pub(crate) fn hand(&self) -> &Hand {
        &self.hand
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    #[inline]
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    pub(crate) fn readers_fence(&self) -> bool {
        self.readers_fence
    }

    /// Whether this process was forked after the domain was made. Other threads' sections, locks and
    /// half-done work are as the fork found them, so nothing is freed here, and no lock is taken.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    pub(crate) fn hazards(&self) -> &Hazards {
        &self.hazards
    }

    /// A record's first robust guard is about to be opened.
    pub(crate) fn expect_intervals(&self) {
        // Release, for the next load of it to come before the interval's: nothing else rests on it.
        self.has_intervals.store(true, Ordering::Release);
    }

    /// A record for the calling thread, which owns it until it hands it over.
    pub(crate) fn acquire(&self) -> &Record {
        let record = self.records.acquire(self, self.barriers.vtime_word());
        record.freeing().set(self.lazy);
        record.set_tid(gettid().as_raw_nonzero().get().unsigned_abs());
        // In use first, then the stop: see `protocol::collect`.
        self.full_stop(record);
        record
    }

    /// Opens the first section of a record, with the fence that readers need where nothing else
    /// makes them pass a barrier.
    pub(crate) fn pin(&self, record: &Record) {
        if self.readers_fence {
            record.reader().pin_fenced(&self.words);
        } else {
            record.reader().pin(&self.words);
        }
    }

    /// Opens a section of a record that its owner pins once at a time.
    #[inline]
    pub(crate) fn pin_for(&self, record: &Record) {
        if self.readers_fence { self.pin(record) } else { record.reader().pin(&self.words) }
    }

    /// [`retire`](Domain::retire), whether readers fence or not.
    ///
    /// # Safety
    /// The caller owns `record`; and what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with)
    /// asks.
    #[inline]
    pub(crate) unsafe fn retire_for(&self, record: &Record, item: Item, bytes: usize) {
        // SAFETY: as the caller says.
        unsafe {
            if self.readers_fence {
                self.retire_fenced(record, item, bytes);
            } else {
                self.retire(record, item, bytes);
            }
        }
    }

    /// Queues an item of `bytes` bytes, and frees one that may go.
    ///
    /// # Safety
    /// The caller owns `record`, readers need no fence; and what
    /// [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) asks.
    #[inline]
    pub(crate) unsafe fn retire(&self, record: &Record, item: Item, bytes: usize) {
        // The unlink comes before the stamp in program order.
        light_barrier();
        record.retired().add(1);
        record.retired_bytes().add(bytes as u64);
        // SAFETY: the owner's queue, or one that was just taken from it.
        match unsafe { (*record.bags()).push(item, bytes, !record.freeing().get()) } {
            Ok(Pushed { next: Some(safe), behind }) => {
                // SAFETY: it was let go by a scan of this thread, and has left its queue.
                unsafe { self.run(record, safe) };
                if behind || record.debt().get() != 0 {
                    // SAFETY: the caller owns the record.
                    unsafe { self.free(record, FREED_PER_RETIRE - 1) };
                }
            }
            Ok(Pushed { next: None, .. }) => {
                if record.freeing().get() && !self.lazy {
                    self.owe(record, 1);
                }
            }
            // SAFETY: the caller owns the record.
            Err(_) => unsafe { self.retire_slowly(record, item, bytes) },
        }
    }

    /// What `retire` does once a bag or once a round; and always where readers fence.
    ///
    /// # Safety
    /// As for `retire`, but that readers may need fences.
    #[cold]
    unsafe fn retire_slowly(&self, record: &Record, item: Item, bytes: usize) {
        if self.is_forked() {
            return;
        }
        // SAFETY: the caller owns the record.
        let (free, sealed) = unsafe {
            self.own(record, |work| {
                let sealed = work.wants_seal();
                if sealed {
                    work.seal(self.full_stop(record));
                }
                work.push(item, bytes);
                if self.lazy {
                    self.hand_off(work);
                } else if sealed && policy::worth_scanning(work.sealed(), self.records.len()) {
                    self.look(record, work, Asked::OnRetire);
                }
                (if work.is_behind() { FREED_PER_RETIRE } else { 1 }, sealed)
            })
        };
        // The item was counted before, so the fence of a full stop will do.
        self.after_slow_retire(sealed);
        self.free_orphans(record, ORPHANS_PER_RETIRE);
        // SAFETY: the caller owns the record.
        unsafe {
            self.free(record, free);
            self.heed_limits(record);
        }
    }

    /// Queues an item that begins with its birth.
    ///
    /// # Safety
    /// As for `retire`, but that readers may need fences; and `item` points to a `Born` object that
    /// was born in `birth`, of this domain.
    pub(crate) unsafe fn retire_born(&self, record: &Record, item: Item, birth: u64, bytes: usize) {
        light_barrier();
        record.retired().add(1);
        record.retired_bytes().add(bytes as u64);
        if self.is_forked() {
            return;
        }
        // SAFETY: the caller owns the record.
        let (free, sealed, first) = unsafe {
            self.own(record, |work| {
                let sealed = work.wants_seal_born();
                if sealed {
                    work.seal(self.full_stop(record));
                }
                let first = !work.has_open_born();
                work.push_born(item, birth, bytes);
                if self.lazy {
                    self.hand_off(work);
                } else if sealed && policy::worth_scanning(work.sealed(), self.records.len()) {
                    self.look(record, work, Asked::OnRetire);
                }
                (if work.is_behind() { FREED_PER_RETIRE } else { 1 }, sealed, first)
            })
        };
        if sealed || first {
            self.after_slow_retire(sealed);
            self.free_orphans(record, ORPHANS_PER_RETIRE);
        }
        // SAFETY: the caller owns the record.
        unsafe {
            self.free(record, free);
            if sealed {
                self.heed_limits(record);
            }
        }
    }

    /// The same as [`retire`](Domain::retire) where readers may need fences.
    ///
    /// # Safety
    /// As for `retire`, but that readers may need fences.
    pub(crate) unsafe fn retire_fenced(&self, record: &Record, item: Item, bytes: usize) {
        light_barrier();
        record.retired().add(1);
        record.retired_bytes().add(bytes as u64);
        // SAFETY: the caller owns the record.
        unsafe { self.retire_slowly(record, item, bytes) };
    }

    /// Queues items of `bytes` bytes each, under one stamp, and frees as many that may go.
    ///
    /// # Safety
    /// The caller owns `record`; and what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with)
    /// asks, of each item, all of which were unlinked before the call.
    pub(crate) unsafe fn retire_batch(
        &self,
        record: &Record,
        batch: impl ExactSizeIterator<Item = Item> + Clone,
        bytes: usize,
    ) {
        light_barrier();
        let count = batch.len();
        if count == 0 {
            return;
        }
        record.retired().add(count as u64);
        record.retired_bytes().add(count as u64 * bytes as u64);
        // After all of them were unlinked, so good for each bag that they fill.
        let stop = self.full_stop(record);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| {
                for item in batch.clone() {
                    if work.wants_seal() {
                        work.seal(stop);
                    }
                    work.push(item, bytes);
                }
                if self.lazy {
                    self.hand_off(work);
                } else {
                    self.look(record, work, Asked::OnRetire);
                }
            });
        }
        self.after_slow_retire(true);
        self.free_orphans(record, ORPHANS_PER_RETIRE);
        // SAFETY: the caller owns the record.
        unsafe {
            self.free(record, count.saturating_mul(FREED_PER_RETIRE));
            self.heed_limits(record);
        }
    }

    /// Full bags go to the domain, if nobody else is at it.
    fn hand_off(&self, work: &mut Work<'_>) {
        if work.sealed() == 0 {
            return;
        }
        if let Ok(mut orphans) = self.orphans.try_lock()
            && let Some(orphans) = orphans.as_mut()
        {
            orphans.extend(work.take_sealed());
            self.note_orphans(orphans);
        }
    }

    /// The background thread hears of what was counted. `fenced`: a full fence came after that.
    fn after_slow_retire(&self, fenced: bool) {
        if let Some(watch) = &self.watch {
            if !fenced {
                fence(Ordering::SeqCst);
            }
            if watch.rouse() {
                self.counters.woke();
            }
        }
    }

    /// Works on the owner's queue; on a new one, if it was taken over. `work` runs no foreign code.
    ///
    /// # Safety
    /// The caller owns `record`.
    unsafe fn own<R>(&self, record: &Record, mut work: impl FnMut(&mut Work<'_>) -> R) -> R {
        loop {
            let bags = record.bags();
            // SAFETY: the owner's queue, or one that was just taken from it; `work` runs no foreign
            // code, and fences where readers do.
            match unsafe { (*bags).own(self.readers_fence, &mut work) } {
                Ok(result) => return result,
                Err(Refused::Taken | Refused::Closed) => {
                    let new = Bags::new(self.barriers.vtime_word());
                    new.count_on(record.freed_bytes());
                    record.replace_bags(Box::into_raw(Box::new(new)));
                    // SAFETY: it is marked as taken, and this owner has another now.
                    unsafe { Bags::leave(bags) };
                }
            }
        }
    }

    /// A full stop of a thread without a record.
    pub(crate) fn stop_aside(&self) -> u64 {
        self.judge(self.words.stop(now_ns))
    }

    /// A full stop of the record's owner, for what it shows others.
    pub(crate) fn stop(&self, record: &Record) {
        self.full_stop(record);
    }

    /// A full stop of the record's owner. Its stamp; one that never passes if the clock can't be
    /// trusted.
    fn full_stop(&self, record: &Record) -> u64 {
        self.judge(record.reader().full_stop(&self.words, now_ns))
    }

    /// A stop by the clock that a stop of before has overtaken means that the clock was set back
    /// (setns into another time namespace): stamps would be too early for the daemon's watermarks.
    /// Steps of microseconds happen, and evidence has a margin for them.
    fn judge(&self, stop: protocol::Stop) -> u64 {
        if stop.behind_ns > CLOCK_MARGIN_NS {
            self.poisoned.store(true, Ordering::Relaxed);
        }
        if self.poisoned.load(Ordering::Relaxed) { u64::MAX } else { stop.ns }
    }

    /// Looks for evidence, then at the readers, and lets go what is safe. The owner has just come to
    /// a full stop, and `work` is its queue.
    fn look(&self, record: &Record, work: &mut Work<'_>, asked: Asked) {
        let own = record.reader().last_stop();
        if self.scan(own, asked, &|watermark| work.uncovered(watermark)).is_some() {
            self.release(work);
        }
    }

    /// Lets go what is safe, be it by another thread's scan, but for what single readers hold.
    fn release(&self, work: &mut Work<'_>) {
        let (safe, holders) = self.let_go();
        work.release(safe, &holders);
    }

    /// What may be let go, and who holds what of it.
    fn let_go(&self) -> (Safe, Holders) {
        holders::let_go(&self.words, || {
            // Acquire, as for the head of a list.
            let any = self.has_intervals.load(Ordering::Acquire);
            if !any && self.hazards.is_empty() {
                return Holders::default();
            }
            let open = || {
                let records = any.then(|| self.records.iter().map(Record::interval));
                records.into_iter().flatten()
            };
            Holders::look(open, || self.hazards.iter())
        })
    }

    /// One scan: evidence first, then the slots. `own`: a stop of the calling thread. `uncovered`: how
    /// many of its items a watermark does not cover.
    fn scan(&self, own: u64, asked: Asked, uncovered: &dyn Fn(u64) -> usize) -> Option<Scan> {
        if self.poisoned.load(Ordering::Relaxed) || self.is_forked() {
            return None;
        }
        let mut memory = None;
        let watermark = || {
            if self.readers_fence {
                // Pairs with the fence in `pin_fenced`: between the stop and the look at the slots.
                fence(Ordering::SeqCst);
                return own;
            }
            let readers = self.records.iter().map(Record::reader);
            let mut watermark = protocol::collect(own, readers);
            let membarrier = self.barriers.membarrier();
            if let Some(membarrier) = membarrier {
                watermark = watermark.max(membarrier.watermark_ns());
            }
            if let Some(news) = self.barriers.passive() {
                watermark = watermark.max(news.ns);
                memory = self.take_over(news);
            }
            // What the scan makes of it: else an item in the grain of the watermark would neither go
            // nor be bought for.
            let useful = protocol::era_of(watermark);
            watermark.max(self.buy(useful, own, asked, uncovered).unwrap_or(0))
        };
        let scan =
            protocol::scan(&self.words, watermark, || self.records.iter().map(Record::reader));
        if let Some(passive) = memory {
            self.words.publish_vtime(passive.memory.passed(scan.oldest));
        }
        self.counters.scanned(scan.advanced);
        Some(scan)
    }

    /// A round of the daemon's, taken over by one thread: the lock is held until its scan is done.
    fn take_over(&self, news: protocol::Evidence) -> Option<MutexGuard<'_, Passive>> {
        let mut passive = self.passive.try_lock().ok()?;
        if news.ns <= passive.last_ns {
            return None;
        }
        passive.last_ns = news.ns;
        // After the virtual time was learned.
        let era = self.words.era();
        passive.memory.remember(era, news.vtime);
        self.counters.round(ActiveSource::Daemon);
        Some(passive)
    }

    /// Buys a barrier, if one can be had and is worth it.
    fn buy(
        &self,
        watermark: u64,
        own: u64,
        asked: Asked,
        uncovered: &dyn Fn(u64) -> usize,
    ) -> Option<u64> {
        let Some(membarrier) = self.barriers.membarrier() else {
            // What comes of it shows in the daemon's watermark.
            if asked == Asked::AtLimit && uncovered(watermark) > 0 && self.barriers.expedite(own) {
                self.counters.bought(asked);
            }
            return None;
        };
        let wanted = match asked {
            Asked::Nothing => false,
            Asked::Now => !self.barriers.keeps_up(),
            Asked::OnRetire | Asked::OnFlush => {
                let uncovered = uncovered(watermark);
                let worth = policy::worth_buying(uncovered, membarrier.price_ns(), self.budget);
                // Little garbage goes in time, too.
                let due = uncovered > 0 && membarrier.is_due(own) && !self.barriers.keeps_up();
                (worth || due) && !membarrier.is_under_way(own)
            }
            Asked::AtLimit => {
                uncovered(watermark) > 0
                    && membarrier.is_affordable(own)
                    && !membarrier.is_under_way(own)
            }
            Asked::Behind => {
                uncovered(watermark) > 0
                    && !self.barriers.keeps_up()
                    && !membarrier.is_under_way(own)
            }
        };
        if !wanted {
            return None;
        }
        self.counters.bought(asked);
        match membarrier.buy() {
            Ok(watermark) => {
                self.counters.round(ActiveSource::Membarrier);
                // Within the domain the barrier covers all stops before ours, without the margin
                // that clocks need: they happen before it.
                Some(watermark.max(own))
            }
            // A refusal (a seccomp filter that came later) means no watermark: the garbage is kept.
            Err(_) => {
                self.counters.refused();
                None
            }
        }
    }

    /// Runs one destructor. If it panics the panic goes on to the caller; that item is gone, no other
    /// is lost.
    ///
    /// # Safety
    /// The caller owns `record`; `item` was stamped before `safe`, so no reader can hold it
    /// (ARCHITECTURE.md, "Why a freed item has no reader"), and has left its queue.
    #[inline]
    unsafe fn run(&self, record: &Record, item: Item) {
        let freeing = Freeing::new(record);
        record.freed().publish(1);
        // SAFETY: as the caller says; it has left its queue, so this is the only call.
        unsafe { item.free() };
        drop(freeing);
    }

    /// A destructor that retires only pushes; a later call frees for it.
    #[cold]
    fn owe(&self, record: &Record, items: usize) {
        record.debt().set(record.debt().get().saturating_add(items));
    }

    /// Frees up to `limit` items that may go, oldest first, and some more if destructors retired.
    ///
    /// # Safety
    /// The caller owns `record`.
    unsafe fn free(&self, record: &Record, limit: usize) {
        if record.freeing().get() || RUNNING.get() {
            if self.in_destructor(record) {
                // What is there at most: a destructor that flushes owes no more than that.
                // SAFETY: the caller owns the record; `ready` runs no foreign code.
                let ready = unsafe { self.own(record, |work| work.ready()) };
                self.owe(record, limit.min(ready));
            }
            return;
        }
        if self.is_forked() {
            return;
        }
        // Objects that renew themselves have no end.
        let limit = if limit == usize::MAX {
            // SAFETY: the caller owns the record; `ready` runs no foreign code.
            unsafe { self.own(record, |work| work.ready()) }
        } else {
            limit
        };
        let debt = record.debt().get();
        let extra = debt.min(MOST_PER_RETIRE);
        record.debt().set(debt - extra);
        let _running = Running::new(record);
        for _ in 0..limit.saturating_add(extra) {
            // SAFETY: the caller owns the record; `take_safe` runs no foreign code.
            let Some(item) = (unsafe { self.own(record, |work| work.take_safe()) }) else {
                record.debt().set(0);
                break;
            };
            record.freed().publish(1);
            // SAFETY: as for `run`.
            unsafe { item.free() };
        }
    }

    /// Frees up to `limit` safe bags that exited threads have left.
    ///
    /// A bag is freed whole, on the spot: no thread takes another's items over and then sleeps on
    /// them. If a destructor panics, the rest of its bag goes back.
    fn free_orphans(&self, record: &Record, limit: usize) {
        let running = record.freeing().get() || RUNNING.get();
        if !self.has_orphans.load(Ordering::Relaxed) || running || self.is_forked() {
            return;
        }
        // Behind a pin there may be many: no look at them, and no lock, as long as none may go.
        if self.least_orphan_ns.load(Ordering::Relaxed) >= self.words.safe().ns {
            return;
        }
        let _running = Running::new(record);
        struct PutBack<'d>(&'d Domain, Option<Bag>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                self.0.leave(self.1.take().filter(|bag| bag.waiting() > 0));
            }
        }
        let mut looks = limit.saturating_mul(ORPHANS_LOOKED_AT);
        for _ in 0..limit {
            let mut bag = PutBack(self, self.take_safe_orphan(record, &mut looks));
            let Some(items) = &mut bag.1 else { return };
            for item in items {
                record.freed().publish(1);
                // SAFETY: its bag was stamped before `safe`, and no hazard or interval held it after,
                // so no reader can hold it; it has just left the bag, so this is the only call.
                unsafe { item.free() };
            }
        }
    }

    fn take_safe_orphan(&self, record: &Record, looks: &mut usize) -> Option<Bag> {
        self.pick_safe(lock(&self.orphans).as_mut()?, record, looks)
    }

    /// Items that may go; those of their bag that may not stay behind, at the end. `looks`: bags that
    /// the caller may look into.
    pub(crate) fn pick_safe(
        &self,
        orphans: &mut VecDeque<Bag>,
        record: &Record,
        looks: &mut usize,
    ) -> Option<Bag> {
        let (safe, holders) = self.let_go();
        let mut taken = None;
        *looks = (*looks).min(orphans.len());
        while taken.is_none() && *looks > 0 {
            let next = orphans.iter().position(|bag| bag.is_worth_a_look(safe, &holders));
            let Some(bag) = next.and_then(|next| orphans.remove(next)) else { break };
            let (free, held) = bag.sort(&holders);
            orphans.extend(held);
            taken = free;
            *looks -= 1;
        }
        self.note_orphans(orphans);
        let bag = taken.as_mut()?;
        record.freed_bytes().add(bag.take_bytes() as u64);
        taken
    }

    /// Says whether there are any, and how old.
    pub(crate) fn note_orphans(&self, orphans: &VecDeque<Bag>) {
        let least = orphans.iter().map(Bag::ns).min().unwrap_or(u64::MAX);
        self.least_orphan_ns.store(least, Ordering::Relaxed);
        self.has_orphans.store(!orphans.is_empty(), Ordering::Relaxed);
    }

    pub(crate) fn has_orphans(&self) -> bool {
        self.has_orphans.load(Ordering::Relaxed)
    }

    pub(crate) fn has_safe_orphan(&self) -> bool {
        let (safe, holders) = self.let_go();
        let orphans = lock(&self.orphans);
        orphans.iter().flatten().any(|bag| bag.is_worth_a_look(safe, &holders))
    }

    pub(crate) fn oldest_orphan(&self) -> Option<u64> {
        lock(&self.orphans).iter().flatten().map(Bag::ns).min()
    }

    pub(crate) fn lock_orphans(&self) -> MutexGuard<'_, Option<VecDeque<Bag>>> {
        lock(&self.orphans)
    }

    pub(crate) fn lock_marked(&self) -> MutexGuard<'_, Vec<Marked>> {
        lock(&self.marked)
    }

    /// A scan for what lies with the domain.
    pub(crate) fn scan_behind(&self) -> Option<Scan> {
        let own = self.stop_aside();
        self.scan(own, Asked::Behind, &|watermark| {
            lock(&self.orphans).iter().flatten().filter(|bag| bag.ns() >= watermark).count()
        })
    }

    /// A barrier of every CPU for what the calling thread stored before: the stops before the result,
    /// nanoseconds, have it. 0: it can't be had now.
    pub(crate) fn barrier_for_marks(&self) -> u64 {
        if self.readers_fence {
            // Owners fence between their two steps, as `Bags::own` does.
            fence(Ordering::SeqCst);
            return u64::MAX;
        }
        let watermark = self.barriers.passive().map_or(0, |news| news.ns);
        let Some(membarrier) = self.barriers.membarrier() else { return watermark };
        if self.barriers.keeps_up() {
            return watermark;
        }
        self.counters.bought(Asked::Behind);
        match membarrier.buy() {
            // The call itself came after the stores: all stops before it have their barrier.
            Ok(_) => u64::MAX,
            Err(_) => {
                self.counters.refused();
                watermark
            }
        }
    }

    /// Runs `work`, which frees, so that destructors which retire only push.
    pub(crate) fn while_freeing<R>(&self, record: &Record, work: impl FnOnce() -> R) -> R {
        let _running = Running::new(record);
        work()
    }

    /// Objects that were retired and not yet freed; exact if none is retired meanwhile.
    pub(crate) fn waiting(&self) -> u64 {
        // `freed` first, Acquire: what was freed had been counted as retired before, so the
        // difference is never too small.
        let freed: u64 = self.records.iter().map(|record| record.freed().read()).sum();
        let retired: u64 = self.records.iter().map(|record| record.retired().get()).sum();
        retired.saturating_sub(freed)
    }

    /// Leaves sealed bags to whoever comes.
    fn leave(&self, bags: impl IntoIterator<Item = Bag>) {
        if let Some(orphans) = lock(&self.orphans).as_mut() {
            orphans.extend(bags);
            self.note_orphans(orphans);
        }
    }

    /// Gives a record up: its items go to the domain, and the record to the next thread. Runs no
    /// destructor, so that a thread may do it while it exits.
    ///
    /// # Safety
    /// The caller owns `record`, and touches it again only to end a guard of it.
    pub(crate) unsafe fn hand_over(&self, record: &Record) {
        if self.is_forked() {
            return;
        }
        // Threads that come and go retire too little to scan otherwise.
        let own = self.full_stop(record);
        if !self.lazy {
            // SAFETY: the caller owns the record.
            let waits = unsafe { self.own(record, |work| work.waits()) } || self.has_orphans();
            self.scan(own, Asked::OnRetire, &|_| usize::from(waits));
        }
        // SAFETY: as the caller says.
        unsafe { self.give_up(record, own) };
    }

    /// The same by the background thread, which scans when it is time.
    ///
    /// # Safety
    /// As for [`hand_over`](Domain::hand_over).
    pub(crate) unsafe fn hand_over_behind(&self, record: &Record) {
        // SAFETY: as the caller says.
        unsafe { self.give_up(record, self.full_stop(record)) };
    }

    /// # Safety
    /// As for [`hand_over`](Domain::hand_over); `own`: a full stop of the owner's after its last call.
    unsafe fn give_up(&self, record: &Record, own: u64) {
        // The lock is held while the bags are touched: once the door is closed they belong to
        // `close`. No foreign code runs under it.
        let mut orphans = lock(&self.orphans);
        let Some(orphans) = orphans.as_mut() else { return };
        // SAFETY: the caller owns the record.
        let mut bags = unsafe {
            self.own(record, |work| {
                work.seal(own);
                work.take_all()
            })
        };
        orphans.extend(bags.drain(..));
        self.note_orphans(orphans);
        record.debt().set(0);
        if record.reader().is_pinned() {
            // A guard outlives the thread's registration. Its end will give the record back; a
            // guard that was leaked keeps its section open for ever, and what it protects with it:
            // references from it may have gone to other threads.
            if !record.transient().replace(true) {
                record.nest();
            }
        } else if record.holds() {
            // The same for robust guards and hazards: see `hand_over_if_last`.
            record.transient().set(true);
        } else {
            record.transient().set(false);
            record.reader().give_back();
        }
    }

    /// A robust guard or a hazard of this record is gone: the record is given back, if it was kept in
    /// use for such alone.
    ///
    /// # Safety
    /// As for `hand_over`.
    #[inline]
    pub(crate) unsafe fn hand_over_if_last(&self, record: &Record) {
        if record.transient().get() && !record.holds() && !record.reader().is_pinned() {
            // SAFETY: as the caller says.
            unsafe { self.hand_over(record) };
        }
    }

    /// Seals, scans if there is news, and frees everything that is safe.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn flush(&self, record: &Record) {
        if self.is_forked() {
            return;
        }
        let _released = Released::new(record, self.lazy);
        // SAFETY: the caller owns the record.
        unsafe { self.flush_for(record, Asked::OnFlush) };
    }

    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn flush_for(&self, record: &Record, asked: Asked) {
        let _attended = Attended::new(record);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| {
                work.seal(self.full_stop(record));
                if self.lazy && record.freeing().get() {
                    // The background thread does the rest.
                    self.hand_off(work);
                } else {
                    self.look(record, work, asked);
                }
            });
        }
        // What was taken over is older than what is here.
        self.take_marked();
        self.free_orphans(record, usize::MAX);
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, usize::MAX) };
    }

    /// Waits until all that was retired here before the call can be freed, and frees it.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn synchronize(
        &self,
        record: &Record,
        deadline: Instant,
    ) -> Result<(), SynchronizeError> {
        if self.is_forked() {
            return Err(SynchronizeError::Forked);
        }
        if self.in_destructor(record) {
            return Err(SynchronizeError::InDestructor);
        }
        if record.reader().is_pinned() || record.robust().get() > 0 {
            return Err(SynchronizeError::Pinned);
        }
        let _attended = Attended::new(record);
        let _released = Released::new(record, self.lazy);
        let stop = self.full_stop(record);
        // SAFETY: the caller owns the record.
        let newest = unsafe {
            self.own(record, |work| {
                work.seal(stop);
                work.newest_sealed()
            })
        };
        // If its queue was taken over, what was in it is found there.
        self.take_marked();
        let stamp = stop.max(newest).max(self.newest_orphan());
        self.wait_until_safe(record, stamp, deadline)?;
        // What was taken over is older than what is here.
        self.settle(Some(deadline));
        self.free_orphans(record, usize::MAX);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| self.release(work));
            self.free(record, usize::MAX);
        }
        self.settle(Some(deadline));
        self.free_orphans(record, usize::MAX);
        Ok(())
    }

    /// Takes what the background thread has not freed yet of the bag that it is freeing, and waits
    /// for the destructor that it is in.
    fn settle(&self, deadline: Option<Instant>) {
        let bag = self.hand.settle(deadline);
        if let (Some(bag), Some(orphans)) = (bag, lock(&self.orphans).as_mut()) {
            orphans.push_front(bag);
            self.note_orphans(orphans);
        }
    }

    fn newest_orphan(&self) -> u64 {
        let orphans = lock(&self.orphans);
        orphans.iter().flatten().map(Bag::ns).max().unwrap_or(0)
    }

    fn wait_until_safe(
        &self,
        record: &Record,
        stamp: u64,
        deadline: Instant,
    ) -> Result<(), SynchronizeError> {
        let mut nap = Duration::from_micros(20);
        let mut why = None;
        let mut asked = Asked::Now;
        loop {
            let late = Instant::now() >= deadline;
            let own = self.full_stop(record);
            let scan = self.scan(own, asked, &|_| 0);
            if self.words.safe().ns > stamp && !self.holds_back(stamp) {
                return Ok(());
            }
            let Some(scan) = scan else { return Err(SynchronizeError::Poisoned) };
            let barrier_passed = scan.watermark > stamp;
            if late {
                return Err(if barrier_passed {
                    SynchronizeError::Readers { readers: self.readers_before(stamp).max(1) }
                } else {
                    let why = why.unwrap_or_else(|| "it was too near".into());
                    SynchronizeError::NoBarrier { why }
                });
            }
            if barrier_passed {
                // Once the barrier has passed only readers are waited for: nothing more to buy. They
                // end their sections without telling anyone: look again, ever more rarely.
                asked = Asked::Nothing;
                std::thread::sleep(nap.min(deadline.saturating_duration_since(Instant::now())));
                nap = (nap * 2).min(Duration::from_millis(2));
            } else {
                why = self.barriers.wait(stamp, deadline, &self.counters).or(why);
            }
        }
    }

    /// Who has a section open.
    pub(crate) fn blockers(&self) -> Vec<Blocker> {
        blockers::look(self.records.iter())
    }

    fn readers_before(&self, stamp: u64) -> usize {
        self.records
            .iter()
            .filter(|record| {
                record.reader().pinned().is_some_and(|era| era <= stamp)
                    || record.interval().holds_back(stamp)
            })
            .count()
    }

    /// What waiting objects take, bytes, but for bags that are being freed.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        let freed: u64 = self.records.iter().map(|record| record.freed_bytes().get()).sum();
        let retired: u64 = self.records.iter().map(|record| record.retired_bytes().get()).sum();
        retired.saturating_sub(freed)
    }

    /// Which source serves, and why.
    pub(crate) fn status(&self) -> Status {
        if self.poisoned.load(Ordering::Relaxed) {
            return Status::Poisoned;
        }
        let refused = self.barriers.membarrier().is_some_and(Membarrier::is_refused);
        self.barriers.status(refused)
    }

    pub(crate) fn look_for_daemon(&self) {
        self.barriers.look_for_daemon();
    }

    /// Whether a robust guard is open that was so at `stamp`. After `safe`, as in `let_go`.
    fn holds_back(&self, stamp: u64) -> bool {
        self.has_intervals.load(Ordering::Acquire)
            && self.records.iter().any(|record| record.interval().holds_back(stamp))
    }

    pub(crate) fn stats(&self) -> Stats {
        // `freed` first, so that it seldom overtakes `retired`.
        let freed = self.records.iter().map(|record| record.freed().read()).sum();
        let retired = self.records.iter().map(|record| record.retired().get()).sum();
        let waiting_bytes = self.waiting_bytes();
        let poisoned = self.poisoned.load(Ordering::Relaxed);
        Stats { waiting_bytes, ..self.counters.report(retired, freed, poisoned) }
    }

    /// Frees everything: called once, when the last `Reclaimer` is dropped. No guard and no other
    /// call can be under way, since each borrows a `Reclaimer`.
    ///
    /// In a child of a fork it frees nothing, and the domain must be kept.
    pub(crate) fn close(&self) {
        if self.is_forked() {
            return;
        }
        // Threads that exit from here on find the door closed; one that is handing its record over
        // holds the lock.
        let orphans = lock(&self.orphans).take();
        // The rest of the bag that the background thread is freeing; and it is out of the destructor
        // that it was in, or this is that destructor.
        let in_hand = self.hand.settle(None);
        // SAFETY: the door is closed, and no call is under way.
        let marked = unsafe { self.take_all_marked() };
        let own = self.records.iter().flat_map(|record| {
            // SAFETY: no call is under way and no thread can hand over any more, so all records are
            // this function's (rule 2 of `record.rs`).
            unsafe { (*record.bags()).take_over(u64::MAX) }
        });
        let left = in_hand.into_iter().chain(orphans.into_iter().flatten()).chain(marked);
        for item in left.chain(own).flatten() {
            // SAFETY: there is no reader left, so no barrier is needed; the item has left its
            // queue, so this is the only call.
            let freed = catch_unwind(AssertUnwindSafe(|| unsafe { item.free() }));
            // The panic hook has reported it. Unwinding out of a drop would lose the items behind
            // it, and abort the program where the drop is itself part of an unwinding. The payload
            // stays: its own destructor might panic again.
            if let Err(payload) = freed {
                core::mem::forget(payload);
            }
        }
    }
}

/// Locks; a panic under these locks can't happen, since no foreign code runs there.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    unsafe fn nothing(_: *mut ()) {}

    /// The clock is set back past a stop: everything is kept, and `synchronize` says so.
    #[test]
    fn a_clock_that_runs_backwards_poisons() {
        let domain = Domain::new(
            Barriers::Fence { asked_for: true },
            &Settings { background: false, ..Settings::default() },
        );
        let record = domain.acquire();
        let item = Item { ptr: core::ptr::null_mut(), free: nothing };
        // SAFETY: the record is this test's; `nothing` touches nothing.
        unsafe { domain.retire_fenced(record, item, 0) };
        domain.words.stop(|| now_ns() + 3_600_000_000_000);
        let late = Instant::now() + Duration::from_millis(50);
        // SAFETY: the record is this test's.
        let answer = unsafe { domain.synchronize(record, late) };
        assert_eq!(answer, Err(SynchronizeError::Poisoned));
        // SAFETY: the record is this test's.
        unsafe { domain.flush(record) };
        assert_eq!(domain.stats().freed, 0);
        assert!(domain.stats().poisoned);
        domain.close();
    }
}
