//! A domain: the words that readers and scans share, the threads' records, the source of barriers,
//! and the road of an item from `retire` to its destructor.
//!
//! Destructors run in [`Domain::run`], [`Domain::free_orphans`] and [`Domain::close`], under no lock.

use crate::bag::{Bag, Bags, Item, Pushed, Refused, Work};
use crate::error::SynchronizeError;
use crate::policy::{self, FREED_PER_RETIRE, MOST_PER_RETIRE, ORPHANS_PER_RETIRE};
use crate::protocol::{self, Safe, Scan, VtimeMemory, Words};
use crate::record::{Record, Records};
use crate::source::{ActiveSource, Asked, Barriers};
use crate::stats::{Counters, Stats};
use crate::sync::{fence, light_barrier};
use barrierd_client::abi::CLOCK_MARGIN_NS;
use barrierd_client::clock::now_ns;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Domain {
    words: Words,
    records: Records,
    barriers: Barriers,
    readers_fence: bool,
    passive: Mutex<Passive>,
    /// Sealed bags of threads that have exited. `None`: the last `Reclaimer` is gone, and with it
    /// everything that was retired.
    orphans: Mutex<Option<VecDeque<Bag>>>,
    /// A hint that `orphans` holds something.
    has_orphans: AtomicBool,
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

/// Resets the owner's `freeing` flag, also when a destructor panics.
struct Freeing<'r>(&'r Record);

impl<'r> Freeing<'r> {
    fn new(record: &'r Record) -> Freeing<'r> {
        record.freeing().set(true);
        Freeing(record)
    }
}

impl Drop for Freeing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.freeing().set(false);
    }
}

impl Domain {
    pub(crate) fn new(barriers: Barriers, budget: usize) -> Domain {
        let source = match barriers {
            Barriers::Daemon { .. } => ActiveSource::Daemon,
            Barriers::Membarrier(_) => ActiveSource::Membarrier,
            Barriers::Fence => ActiveSource::Fence,
        };
        Domain {
            words: Words::new(),
            records: Records::new(),
            readers_fence: barriers.readers_fence(),
            barriers,
            passive: Mutex::default(),
            orphans: Mutex::new(Some(VecDeque::new())),
            has_orphans: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            budget,
            counters: Counters::new(source),
        }
    }

    #[inline]
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    pub(crate) fn readers_fence(&self) -> bool {
        self.readers_fence
    }

    /// A record for the calling thread, which owns it until it hands it over.
    pub(crate) fn acquire(&self) -> &Record {
        let record = self.records.acquire(self, self.barriers.vtime_word());
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
                if record.freeing().get() {
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
        // SAFETY: the caller owns the record.
        let free = unsafe {
            self.own(record, |work| {
                let sealed = work.wants_seal();
                if sealed {
                    work.seal(self.full_stop(record));
                }
                work.push(item, bytes);
                if sealed && policy::worth_scanning(work.sealed(), self.records.len()) {
                    self.look(record, work, Asked::OnRetire);
                }
                if work.is_behind() { FREED_PER_RETIRE } else { 1 }
            })
        };
        self.free_orphans(record, ORPHANS_PER_RETIRE);
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, free) };
    }

    /// The same as [`retire`](Domain::retire) where readers may need fences.
    ///
    /// # Safety
    /// As for `retire`, but that readers may need fences.
    pub(crate) unsafe fn retire_fenced(&self, record: &Record, item: Item, bytes: usize) {
        light_barrier();
        record.retired().add(1);
        // SAFETY: the caller owns the record.
        unsafe { self.retire_slowly(record, item, bytes) };
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
                    record.replace_bags(Box::into_raw(Box::new(new)));
                    // SAFETY: it is marked as taken, and this owner has another now.
                    unsafe { Bags::leave(bags) };
                }
            }
        }
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
        if let Some(scan) = self.scan(own, asked, &|watermark| work.uncovered(watermark)) {
            let shared = self.words.safe();
            work.release(Safe { ns: shared.ns.max(scan.safe), vtime: shared.vtime });
        }
    }

    /// One scan: evidence first, then the slots. `own`: a stop of the calling thread. `uncovered`: how
    /// many of its items a watermark does not cover.
    fn scan(&self, own: u64, asked: Asked, uncovered: &dyn Fn(u64) -> usize) -> Option<Scan> {
        if self.poisoned.load(Ordering::Relaxed) {
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
            watermark.max(self.buy(watermark, own, asked, uncovered).unwrap_or(0))
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
        let membarrier = self.barriers.membarrier()?;
        let wanted = match asked {
            Asked::Nothing => false,
            Asked::Now => !self.barriers.keeps_up(),
            Asked::OnRetire | Asked::OnFlush => {
                let uncovered = uncovered(watermark);
                let worth = policy::worth_buying(uncovered, membarrier.price_ns(), self.budget);
                // Little garbage goes in time, too.
                let due = uncovered > 0 && membarrier.is_due(own) && !self.barriers.keeps_up();
                (worth || due) && !membarrier.is_under_way()
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
        record.freed().add(1);
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
        if record.freeing().get() {
            self.owe(record, limit);
            return;
        }
        let debt = record.debt().get();
        let extra = debt.min(MOST_PER_RETIRE);
        record.debt().set(debt - extra);
        let _freeing = Freeing::new(record);
        for _ in 0..limit.saturating_add(extra) {
            // SAFETY: the caller owns the record; `take_safe` runs no foreign code.
            let Some(item) = (unsafe { self.own(record, |work| work.take_safe()) }) else { break };
            record.freed().add(1);
            // SAFETY: as for `run`.
            unsafe { item.free() };
        }
    }

    /// Frees up to `limit` safe bags that exited threads have left.
    ///
    /// A bag is freed whole, on the spot: no thread takes another's items over and then sleeps on
    /// them. If a destructor panics, the rest of its bag goes back.
    fn free_orphans(&self, record: &Record, limit: usize) {
        if !self.has_orphans.load(Ordering::Relaxed) || record.freeing().get() {
            return;
        }
        let _freeing = Freeing::new(record);
        struct PutBack<'d>(&'d Domain, Option<Bag>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                self.0.leave(self.1.take().filter(|bag| bag.waiting() > 0));
            }
        }
        for _ in 0..limit {
            let mut bag = PutBack(self, self.take_safe_orphan());
            let Some(items) = &mut bag.1 else { return };
            for item in items {
                record.freed().add(1);
                // SAFETY: its bag was stamped before `safe`, so no reader can hold it; it has just
                // left the bag, so this is the only call.
                unsafe { item.free() };
            }
        }
    }

    fn take_safe_orphan(&self) -> Option<Bag> {
        let mut orphans = lock(&self.orphans);
        let bags = orphans.as_mut()?;
        let safe = self.words.safe();
        let safe = bags.iter().position(|bag| bag.ns() < safe.ns)?;
        let bag = bags.remove(safe);
        self.has_orphans.store(!bags.is_empty(), Ordering::Relaxed);
        bag
    }

    /// Leaves sealed bags to whoever comes.
    fn leave(&self, bags: impl IntoIterator<Item = Bag>) {
        if let Some(orphans) = lock(&self.orphans).as_mut() {
            orphans.extend(bags);
            self.has_orphans.store(!orphans.is_empty(), Ordering::Relaxed);
        }
    }

    /// Gives a record up: its items go to the domain, and the record to the next thread. Runs no
    /// destructor, so that a thread may do it while it exits.
    ///
    /// # Safety
    /// The caller owns `record`, and touches it again only to end a guard of it.
    pub(crate) unsafe fn hand_over(&self, record: &Record) {
        // Threads that come and go retire too little to scan otherwise.
        let own = self.full_stop(record);
        self.scan(own, Asked::OnRetire, &|_| 1);
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
        self.has_orphans.store(!orphans.is_empty(), Ordering::Relaxed);
        record.debt().set(0);
        if record.reader().is_pinned() {
            // A guard outlives the thread's registration. Its end will give the record back; a
            // guard that was leaked keeps its section open for ever, and what it protects with it:
            // references from it may have gone to other threads.
            if !record.transient().replace(true) {
                record.nest();
            }
        } else {
            record.transient().set(false);
            record.reader().give_back();
        }
    }

    /// Seals, scans if there is news, and frees everything that is safe.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn flush(&self, record: &Record) {
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| {
                work.seal(self.full_stop(record));
                self.look(record, work, Asked::OnFlush);
            });
            self.free(record, usize::MAX);
        }
        self.free_orphans(record, usize::MAX);
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
        if record.freeing().get() {
            return Err(SynchronizeError::InDestructor);
        }
        if record.reader().is_pinned() {
            return Err(SynchronizeError::Pinned);
        }
        let stop = self.full_stop(record);
        // SAFETY: the caller owns the record.
        let newest = unsafe {
            self.own(record, |work| {
                work.seal(stop);
                work.newest_sealed()
            })
        };
        let stamp = stop.max(newest).max(self.newest_orphan());
        self.wait_until_safe(record, stamp, deadline)?;
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| work.release(self.words.safe()));
            self.free(record, usize::MAX);
        }
        self.free_orphans(record, usize::MAX);
        Ok(())
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
            if self.words.safe().ns > stamp {
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

    fn readers_before(&self, stamp: u64) -> usize {
        self.records
            .iter()
            .filter(|record| record.reader().pinned().is_some_and(|era| era <= stamp))
            .count()
    }

    pub(crate) fn stats(&self) -> Stats {
        // `freed` first, so that it seldom overtakes `retired`.
        let freed = self.records.iter().map(|record| record.freed().get()).sum();
        let retired = self.records.iter().map(|record| record.retired().get()).sum();
        self.counters.report(retired, freed, self.poisoned.load(Ordering::Relaxed))
    }

    /// Frees everything: called once, when the last `Reclaimer` is dropped. No guard and no other
    /// call can be under way, since each borrows a `Reclaimer`.
    pub(crate) fn close(&self) {
        // Threads that exit from here on find the door closed; one that is handing its record over
        // holds the lock.
        let orphans = lock(&self.orphans).take();
        let own = self.records.iter().flat_map(|record| {
            // SAFETY: no call is under way and no thread can hand over any more, so all records are
            // this function's (rule 2 of `record.rs`).
            unsafe { (*record.bags()).take_over(u64::MAX) }
        });
        for item in own.chain(orphans.into_iter().flatten()).flatten() {
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
        let domain = Domain::new(Barriers::Fence, policy::BUDGET_ITEMS);
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
