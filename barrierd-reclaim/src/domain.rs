//! A domain: the words that readers and scans share, the threads' records, the source of barriers,
//! and the road of an item from `retire` to its destructor.
//!
//! Destructors run in [`Domain::free`], [`Domain::free_orphans`] and [`Domain::close`], under no lock.

use crate::bag::{self, Bag, Bags, Pushed};
use crate::error::SynchronizeError;
use crate::membarrier::Purse;
use crate::protocol::{self, ScanMemory, Words};
use crate::record::{Record, Records, TRANSIENT};
use crate::source::{ActiveSource, Asked, Barriers};
use crate::stats::{Counters, Stats};
use crate::sync::light_barrier;
use barrierd_client::clock::now_ns;
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Items freed by each `retire` while there is a backlog: more than one, so that the backlog
/// shrinks; few, so that no single call pays for a burst (Kim, Brown, Singh, "Are your epochs too
/// epic? Batch free can be harmful", PPoPP 2024).
const FREED_PER_RETIRE: usize = 2;

/// Most items that one `retire` frees, when destructors that retire have left it their share.
const MOST_PER_RETIRE: usize = 16;

/// Bags of exited threads that a `retire` frees when it looks after the domain, which is once a bag
/// or once a round: more than one, so that what threads leave behind shrinks.
const ORPHANS_PER_RETIRE: usize = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Domain {
    words: Words,
    records: Records,
    barriers: Barriers,
    readers_fence: bool,
    scan: Mutex<Scanner>,
    /// Sealed bags of threads that have exited. `None`: the last `Reclaimer` is gone, and with it
    /// everything that was retired.
    orphans: Mutex<Option<VecDeque<Bag>>>,
    /// A hint that `orphans` holds something.
    has_orphans: AtomicBool,
    /// The clock ran backwards past a barrier: nothing becomes safe any more.
    poisoned: AtomicBool,
    counters: Counters,
}

/// What one scan hands to the next.
#[derive(Debug, Default)]
struct Scanner {
    memory: ScanMemory,
    purse: Purse,
}

/// Resets the owner's `freeing` flag, also when a destructor panics.
struct Freeing<'r>(&'r Record);

impl Drop for Freeing<'_> {
    fn drop(&mut self) {
        self.0.freeing().set(false);
    }
}

impl Domain {
    pub(crate) fn new(barriers: Barriers) -> Domain {
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
            scan: Mutex::default(),
            orphans: Mutex::new(Some(VecDeque::new())),
            has_orphans: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            counters: Counters::new(source),
        }
    }

    pub(crate) fn readers_fence(&self) -> bool {
        self.readers_fence
    }

    /// A record for the calling thread, which owns it until it hands it over.
    pub(crate) fn acquire(&self) -> &Record {
        self.records.acquire(self.barriers.vtime_word())
    }

    /// Opens a section, or a section within one. The fast path: `record` is the caller's own.
    #[inline]
    pub(crate) fn pin(&self, record: &Record) {
        let depth = record.depth().get();
        record.depth().set(depth + 1);
        if depth == 0 {
            record.slot().pin(&self.words);
        }
    }

    /// The same for records and domains that the fast path does not know: readers that must fence,
    /// and records taken for one guard.
    #[cold]
    pub(crate) fn pin_outermost(&self, record: &Record) {
        if self.readers_fence {
            record.slot().pin_fenced(&self.words);
        } else {
            record.slot().pin(&self.words);
        }
    }

    /// Queues an item.
    ///
    /// # Safety
    /// The caller owns `record`; and what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with)
    /// asks.
    #[inline]
    pub(crate) unsafe fn retire(&self, record: &Record, ptr: *mut (), free: unsafe fn(*mut ())) {
        // The unlink comes before the stamp in program order.
        light_barrier();
        // SAFETY: the caller owns the record; `push` runs no foreign code.
        let pushed = unsafe { record.with_bags(|bags| bags.push(ptr, free)) };
        record.retired.add(1);
        if pushed != Pushed::Quiet {
            // SAFETY: the caller owns the record.
            unsafe { self.housekeep(record, pushed) };
        }
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, FREED_PER_RETIRE) };
    }

    /// What `retire` does once a bag or once a round.
    ///
    /// # Safety
    /// The caller owns `record`.
    #[cold]
    unsafe fn housekeep(&self, record: &Record, pushed: Pushed) {
        if pushed == Pushed::Full {
            // SAFETY: the caller owns the record.
            unsafe { self.seal(record) };
        }
        self.try_scan(Asked::OnRetire);
        self.free_orphans(record, ORPHANS_PER_RETIRE);
    }

    /// Scans, unless another thread is at it.
    fn try_scan(&self, asked: Asked) {
        if let Ok(scanner) = self.scan.try_lock() {
            self.scan(scanner, asked);
        }
    }

    /// Closes the open bag: everything retired so far has a stamp in nanoseconds.
    ///
    /// # Safety
    /// The caller owns `record`.
    unsafe fn seal(&self, record: &Record) {
        let ns = self.stamp();
        // SAFETY: the caller owns the record; `seal` runs no foreign code.
        unsafe { record.with_bags(|bags| bags.seal(ns)) };
    }

    /// A stamp for what was unlinked before; one that never passes if the clock can't be trusted.
    fn stamp(&self) -> u64 {
        // Every era was at most the clock when it was published. A later look at the clock that
        // gives less means that it was set back (setns into another time namespace), and its
        // stamps would be too early.
        let era = self.words.era();
        let ns = protocol::stamp(now_ns);
        if ns < era {
            self.poisoned.store(true, Ordering::Relaxed);
        }
        if self.poisoned.load(Ordering::Relaxed) { u64::MAX } else { ns }
    }

    /// One scan: evidence first, then the slots. The lock is in the caller's hand.
    fn scan(&self, mut scanner: MutexGuard<'_, Scanner>, asked: Asked) {
        if self.poisoned.load(Ordering::Relaxed) {
            return;
        }
        let Scanner { memory, purse } = &mut *scanner;
        let evidence = || {
            let (evidence, source) =
                self.barriers.evidence(self.words.era(), asked, purse, &self.counters)?;
            self.counters.set_source(source);
            Some(evidence)
        };
        let slots = || self.records.iter().map(Record::slot);
        let scanned = protocol::scan(&self.words, memory, evidence, slots);
        self.counters.scanned(scanned);
    }

    /// Frees up to `limit` items that are safe, oldest first.
    ///
    /// If a destructor panics the panic goes on to the caller; that item is gone, no other is lost.
    ///
    /// # Safety
    /// The caller owns `record`.
    #[inline]
    unsafe fn free(&self, record: &Record, limit: usize) {
        // A destructor that retires only pushes; a later call frees for it.
        if record.freeing().get() {
            record.debt().set(record.debt().get().saturating_add(limit));
            return;
        }
        let mut limit = limit;
        if record.debt().get() != 0 {
            let extra = record.debt().get().min(MOST_PER_RETIRE);
            record.debt().set(record.debt().get() - extra);
            limit = limit.saturating_add(extra);
        }
        record.freeing().set(true);
        let _freeing = Freeing(record);
        let safe = self.words.safe();
        for _ in 0..limit {
            // SAFETY: the caller owns the record; `take_if_safe` runs no foreign code.
            let Some(item) = (unsafe { record.with_bags(|bags| bags.take_if_safe(safe)) }) else {
                break;
            };
            record.freed.add(1);
            // SAFETY: stamped before `safe`, so no reader can hold it (ARCHITECTURE.md, "Why a
            // freed item has no reader"), and it has just left the queue, so this is the only call.
            unsafe { item.free() };
        }
    }

    /// Frees up to `limit` safe bags that exited threads have left.
    ///
    /// A bag is freed whole, on the spot: no thread takes another's items over and then sleeps on
    /// them. If a destructor panics, the rest of its bag goes back.
    fn free_orphans(&self, record: &Record, limit: usize) {
        if !self.has_orphans.load(Ordering::Relaxed) || record.freeing().replace(true) {
            return;
        }
        let _freeing = Freeing(record);
        struct PutBack<'d>(&'d Domain, Bag);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                if self.1.waiting() > 0 {
                    let rest = core::mem::replace(&mut self.1, Bag::new());
                    self.0.leave([rest]);
                }
            }
        }
        for _ in 0..limit {
            let Some(bag) = self.take_safe_orphan() else { return };
            let mut bag = PutBack(self, bag);
            while let Some(item) = bag.1.take() {
                record.freed.add(1);
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
        self.try_scan(Asked::OnRetire);
        // The lock is held while the bags are touched: once the door is closed they belong to
        // `close`. No foreign code runs under it.
        let mut orphans = lock(&self.orphans);
        let Some(orphans) = orphans.as_mut() else { return };
        // SAFETY: the caller owns the record; none of these runs foreign code.
        unsafe {
            if record.with_bags(|bags| bags.has_open()) {
                self.seal(record);
            }
            orphans.extend(record.with_bags(Bags::take_sealed));
        }
        self.has_orphans.store(!orphans.is_empty(), Ordering::Relaxed);
        record.debt().set(0);
        if record.depth().get() == 0 {
            self.records.release(record);
        } else {
            // A guard outlives the thread's registration. Its end will give the record back; a
            // guard that was leaked keeps its section open for ever, and what it protects with it:
            // references from it may have gone to other threads.
            record.depth().set(record.depth().get() | TRANSIENT);
        }
    }

    /// Seals, scans if there is news, and frees everything that is safe.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn flush(&self, record: &Record) {
        // SAFETY: the caller owns the record.
        unsafe { self.seal(record) };
        self.try_scan(Asked::OnFlush);
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, usize::MAX) };
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
        if record.depth().get() != 0 {
            return Err(SynchronizeError::Pinned);
        }
        // SAFETY: the caller owns the record; `newest_sealed` runs no foreign code.
        let newest = unsafe {
            self.seal(record);
            record.with_bags(|bags| bags.newest_sealed())
        };
        // The clocks of two CPUs may differ by microseconds, and this thread may have moved.
        let stamp = self.stamp().max(newest).max(self.newest_orphan());
        self.wait_until_safe(stamp, deadline)?;
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, usize::MAX) };
        self.free_orphans(record, usize::MAX);
        Ok(())
    }

    fn newest_orphan(&self) -> u64 {
        let orphans = lock(&self.orphans);
        orphans.iter().flatten().map(Bag::ns).max().unwrap_or(0)
    }

    fn wait_until_safe(&self, stamp: u64, deadline: Instant) -> Result<(), SynchronizeError> {
        let mut nap = Duration::from_micros(20);
        let mut why = None;
        loop {
            let late = Instant::now() >= deadline;
            // Once the barrier has passed only readers are waited for: nothing more to buy.
            let barrier_passed = self.words.era() > stamp;
            self.scan(lock(&self.scan), if barrier_passed { Asked::Nothing } else { Asked::Now });
            if self.words.safe().ns > stamp {
                return Ok(());
            }
            if self.poisoned.load(Ordering::Relaxed) {
                return Err(SynchronizeError::Poisoned);
            }
            let barrier_passed = self.words.era() > stamp;
            if late {
                return Err(if barrier_passed {
                    SynchronizeError::Readers { readers: self.readers_before(stamp).max(1) }
                } else {
                    let why = why.unwrap_or_else(|| "it was too near".into());
                    SynchronizeError::NoBarrier { why }
                });
            }
            if barrier_passed {
                // Readers end their sections without telling anyone: look again, ever more rarely.
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
            .filter(|record| record.slot().pinned().is_some_and(|era| era <= stamp))
            .count()
    }

    pub(crate) fn stats(&self) -> Stats {
        // `freed` first, so that it seldom overtakes `retired`.
        let freed = self.records.iter().map(|record| record.freed.get()).sum();
        let retired = self.records.iter().map(|record| record.retired.get()).sum();
        self.counters.report(retired, freed, self.poisoned.load(Ordering::Relaxed))
    }
}

impl Domain {
    /// Frees everything: called once, when the last `Reclaimer` is dropped. No guard and no other
    /// call can be under way, since each borrows a `Reclaimer`.
    pub(crate) fn close(&self) {
        // Threads that exit from here on find the door closed; one that is handing its record over
        // holds the lock.
        let orphans = lock(&self.orphans).take();
        let own = self.records.iter().map(|record| {
            // SAFETY: no call is under way and no thread can hand over any more, so all records are
            // this function's (rule 2 of `record.rs`); `take_all` runs no foreign code.
            unsafe { record.with_bags(Bags::take_all) }
        });
        for item in own.chain(orphans).flat_map(bag::drain) {
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
    use crate::protocol::Evidence;

    unsafe fn nothing(_: *mut ()) {}

    /// The clock is set back past an era: everything is kept, and `synchronize` says so.
    #[test]
    fn a_clock_that_runs_backwards_poisons() {
        let domain = Domain::new(Barriers::Fence);
        let record = domain.acquire();
        // SAFETY: the record is this test's; `nothing` touches nothing.
        unsafe { domain.retire(record, core::ptr::null_mut(), nothing) };
        let hour_ahead = Evidence { ns: now_ns() + 3_600_000_000_000, vtime: 0 };
        protocol::scan(
            &domain.words,
            &mut lock(&domain.scan).memory,
            || Some(hour_ahead),
            core::iter::empty,
        );
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
