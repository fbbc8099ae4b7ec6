//! A domain: the words that readers and scans share, the threads' records, the source of barriers,
//! and the road of an item from `retire` to its destructor.
//!
//! Destructors run in `free.rs`, `orphans.rs`, `background/keeper.rs` and [`Domain::close`], under no lock.

mod dormant;
mod evidence;
mod flights;
mod free;
pub(crate) mod hazards;
pub(crate) mod limit;
pub(crate) mod local;
mod orphans;
pub(crate) mod places;
pub(crate) mod record;
mod retire;
mod running;
pub(crate) mod takeover;
pub(crate) mod tallies;
mod wait;

use crate::background::Watch;
use crate::background::keeper::IDLE_AFTER;
use crate::bag::inbox::Inbox;
use crate::bag::{Bag, Bags, Orphans, Refused, Work};
use crate::evidence::barriers::Barriers;
use crate::evidence::mapped::Mapped;
use crate::evidence::membarrier::Membarrier;
use crate::evidence::purchase;
use crate::evidence::status::Status;
use crate::meter::stats::{Counters, Stats};
use crate::process::fork::Process;
use crate::protocol::holders::Holders;
use crate::protocol::{Safe, VtimeMemory, Words};
use crate::report::blockers::{self, Blocker};
use crate::report::stalled::{StallHook, Stalls};
use crate::report::trace::{self, Told};
use barrierd_client::clock::now_ns;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use dormant::Dormant;
use flights::{Flights, Hand};
use hazards::Hazards;
use limit::Limits;
use record::{Record, Records};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use takeover::Marked;
use tallies::Past;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Domain {
    words: Words,
    records: Records,
    /// What was counted in records by those who have given them back.
    past: Past,
    /// Records that were handed over since such a call last scanned.
    handed_over: AtomicUsize,
    hazards: Hazards,
    /// A robust guard was opened once. Set before its interval: whoever would have to see the one
    /// sees the other.
    has_intervals: AtomicBool,
    /// Where it was made: in a child by fork it is dead.
    process: Process,
    barriers: Barriers,
    readers_fence: bool,
    passive: Mutex<Passive>,
    /// Who sleeps, and need not be asked for evidence.
    dormant: Dormant,
    /// The last look at who holds what, for those who let go without one of their own.
    found: Mutex<Option<Arc<Found>>>,
    /// Sealed bags of threads that have exited. `None`: the last `Reclaimer` is gone, and with it
    /// everything that was retired.
    orphans: Mutex<Option<Orphans>>,
    /// Sealed bags that retirers hand over where they free nothing, and have no time for a lock.
    inbox: Inbox<Bag>,
    /// A hint that `orphans` holds something.
    has_orphans: AtomicBool,
    /// A hint, too: none of them is stamped before this, nanoseconds.
    least_orphan_ns: AtomicU64,
    /// Queues that are being taken over. Locked with `orphans` locked, or alone.
    marked: Mutex<Vec<Marked>>,
    /// Bags that were among the orphans, and are being freed.
    flights: Flights,
    /// Of these, the background thread's.
    hand: Hand,
    /// Where it looks, if it looks after this domain.
    watch: Option<Watch>,
    /// How long a thread may not retire before its queue is taken over.
    idle_after: Duration,
    /// `retire` only pushes; full bags go to the background thread.
    lazy: bool,
    limits: Limits,
    stalls: Option<Stalls>,
    told: Told,
    /// The clock ran backwards past a barrier: nothing becomes safe any more.
    poisoned: AtomicBool,
    /// Items waiting on one thread above which a barrier is bought.
    budget: usize,
    counters: Counters,
}

/// A look at who holds what, and the `safe` that was loaded before it: not to be parted.
#[derive(Debug)]
struct Found {
    safe: Safe,
    holders: Holders,
}

/// What was learned of the daemon's rounds.
#[derive(Debug, Default)]
struct Passive {
    memory: VtimeMemory,
    last_ns: u64,
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
    pub(crate) stall_hook: Option<StallHook>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            budget: purchase::BUDGET_ITEMS,
            background: true,
            idle_after: IDLE_AFTER,
            lazy: false,
            limits: Limits::default(),
            stall_hook: None,
        }
    }
}

impl Domain {
    pub(crate) fn new(barriers: Barriers, settings: &Settings) -> Domain {
        let (source, last_ns) = (barriers.active(), barriers.old_news_ns());
        Domain {
            words: Words::new(),
            records: Records::new(),
            past: Past::default(),
            handed_over: AtomicUsize::new(0),
            hazards: Hazards::new(),
            has_intervals: AtomicBool::new(false),
            process: Process::current(),
            readers_fence: barriers.readers_fence(),
            barriers,
            passive: Mutex::new(Passive { last_ns, ..Passive::default() }),
            dormant: Dormant::default(),
            found: Mutex::default(),
            orphans: Mutex::new(Some(Orphans::default())),
            inbox: Inbox::new(),
            has_orphans: AtomicBool::new(false),
            least_orphan_ns: AtomicU64::new(u64::MAX),
            marked: Mutex::default(),
            flights: Flights::default(),
            hand: Hand::default(),
            watch: settings.background.then(Watch::new),
            idle_after: settings.idle_after,
            lazy: settings.lazy,
            limits: settings.limits.clone(),
            stalls: settings.stall_hook.clone().map(Stalls::new),
            told: Told::default(),
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

    pub(crate) fn stalls(&self) -> Option<&Stalls> {
        self.stalls.as_ref()
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// A thread's slow call is at its end, outside of its queue: what people want to hear of, where the
    /// background thread does not tell them. Foreign code may run here.
    #[inline]
    pub(crate) fn heed_news(&self, record: &Record) {
        if self.stalls.is_some() || trace::IS_ON {
            self.heed_news_now(record);
        }
    }

    #[cold]
    fn heed_news_now(&self, record: &Record) {
        let served = self.watch.as_ref().is_some_and(Watch::is_served);
        // A thread that must not run destructors had better run no hooks either.
        if served || self.lazy || self.in_destructor(record) {
            return;
        }
        self.heed_stalls();
        self.told.look(self);
    }

    /// Whether a destructor runs on the owner's thread, from one of its calls to this domain.
    pub(crate) fn in_destructor(&self, record: &Record) -> bool {
        let own = if self.lazy { record.running().get() } else { record.freeing().get() };
        own || running::runs(self)
    }

    pub(crate) fn hand(&self) -> &Hand {
        &self.hand
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The records that somebody has.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.in_use()
    }

    /// All that there are.
    pub(crate) fn all_records(&self) -> impl Iterator<Item = &Record> {
        self.records.all()
    }

    /// Gives back the record of a guard through which nothing was retired. The caller owns it.
    pub(crate) fn give_back_unused(&self, record: &Record) {
        self.records.give_back(record);
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
        record.set_tid(blockers::own_tid());
        if self.readers_fence {
            record.reader().sleep().fence_always();
        }
        // In use first, then the stop: see `protocol::collect`.
        self.full_stop(record);
        record
    }

    /// Opens the first section of a record.
    #[inline]
    pub(crate) fn pin(&self, record: &Record) {
        if !record.reader().open(&self.words) {
            self.wake(record);
        }
    }

    /// Opens a section of a record, or goes on with the one that is open.
    pub(crate) fn pin_nested(&self, record: &Record) {
        if record.reader().is_pinned() {
            record.nest();
        } else {
            record.forget_nested();
            self.pin(record);
        }
    }

    /// Works on the owner's queue; on a new one, if it was taken over. `work` runs no foreign code.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn own<R>(
        &self,
        record: &Record,
        mut work: impl FnMut(&mut Work<'_>) -> R,
    ) -> R {
        loop {
            let bags = record.bags();
            // SAFETY: the owner's queue, or one that was just taken from it; `work` runs no foreign
            // code, and fences where readers do.
            match unsafe { (*bags).own(self.readers_fence, &mut work) } {
                Ok(result) => return result,
                Err(Refused::Taken | Refused::Closed) => {
                    let new = Bags::new(self.barriers.vtime_word());
                    new.count_on(record.freed_bytes());
                    new.show_on(record.oldest_ns());
                    if self.readers_fence {
                        new.fence();
                    }
                    record.replace_bags(Box::into_raw(Box::new(new)));
                    // SAFETY: it is marked as taken, and this owner has another now.
                    unsafe { Bags::leave(bags) };
                }
            }
        }
    }

    /// Who has a section open.
    pub(crate) fn blockers(&self) -> Vec<Blocker> {
        blockers::look(self)
    }

    fn readers_before(&self, stamp: u64) -> usize {
        self.records()
            .filter(|record| {
                record.reader().pinned().is_some_and(|seen| seen < stamp)
                    || record.interval().holds_back(stamp)
            })
            .count()
    }

    /// What waiting objects take, bytes, but for bags that are being freed.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.past.waiting(&self.records).bytes
    }

    /// Which source serves, and why.
    pub(crate) fn status(&self) -> Status {
        if self.poisoned.load(Ordering::Relaxed) {
            return Status::Poisoned;
        }
        self.barriers.status(self.is_refused())
    }

    /// Whether the kernel refused the last membarrier of this process.
    pub(crate) fn is_refused(&self) -> bool {
        self.barriers.membarrier().is_some_and(Membarrier::is_refused)
    }

    pub(crate) fn look_for_daemon(&self) {
        self.barriers.look_for_daemon();
    }

    pub(crate) fn easy_daemon(&self) -> Option<Arc<Mapped>> {
        self.barriers.easy_daemon()
    }

    /// Whether a robust guard is open that was so at `stamp`. After `safe`, as in `let_go`.
    fn holds_back(&self, stamp: u64) -> bool {
        self.has_intervals.load(Ordering::Acquire)
            && self.records().any(|record| record.interval().holds_back(stamp))
    }

    pub(crate) fn stats(&self) -> Stats {
        let (retired, freed) = self.past.sums(&self.records);
        let poisoned = self.poisoned.load(Ordering::Relaxed);
        let oldest = if retired.items > freed.items { self.oldest() } else { None };
        let waiting_bytes = retired.bytes.saturating_sub(freed.bytes);
        let report = self.counters.report(retired.items, freed.items, poisoned);
        Stats { waiting_bytes, oldest, ..report }
    }

    /// How long the oldest bag has waited, but for those that are being freed.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        // Relaxed: for reports.
        let queues = self.records().map(|record| record.oldest_ns().load(Ordering::Relaxed));
        // In a child of a fork nobody may ever give the lock back.
        let left = if self.is_forked() { None } else { self.oldest_orphan_opened_ns() };
        let oldest = queues.chain(left).min().filter(|&ns| ns != u64::MAX)?;
        Some(Duration::from_nanos(now_ns().saturating_sub(oldest)))
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
        // What retirers handed over. Each borrows a `Reclaimer` while it does so, and threads that exit leave theirs
        // by the door: nothing comes after this.
        let handed = self.inbox.take();
        // The rest of the bag that the background thread is freeing, which puts no other into its hand any more;
        // then it is out of the destructor that it was in, or this is that destructor.
        let in_hand = self.hand.take();
        self.flights.wait(None);
        // SAFETY: the door is closed, and no call is under way.
        let marked = unsafe { self.take_all_marked() };
        let own = self.records.all().flat_map(|record| {
            // SAFETY: no call is under way and no thread can hand over any more, so all records are
            // this function's (rule 2 of `domain/record.rs`).
            unsafe { (*record.bags()).take_over(u64::MAX) }.into_bags()
        });
        let left = orphans.into_iter().flat_map(Orphans::into_bags);
        let left = in_hand.into_iter().chain(left).chain(handed).chain(marked);
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
    use crate::bag::Item;
    use crate::error::SynchronizeError;
    use crate::sync::FLOOR;
    use std::time::Instant;

    impl Domain {
        pub(crate) fn poison(&self) {
            self.poisoned.store(true, Ordering::Relaxed);
        }

        pub(crate) fn are_orphans_locked(&self) -> bool {
            self.orphans.try_lock().is_err()
        }
    }

    unsafe fn nothing(_: *mut ()) {}

    /// The clock steps back past a stop, as it does under a slew: nothing passes before it has caught up,
    /// and then all is as ever.
    #[test]
    fn b1_a_clock_that_steps_back_poisons_nobody() {
        let domain = Domain::new(
            Barriers::Fence { asked_for: true },
            &Settings { background: false, ..Settings::default() },
        );
        let record = domain.acquire();
        let ahead = domain.words.stop(&FLOOR, || now_ns() + 20_000_000).ns;
        let item = Item::new(core::ptr::null_mut(), nothing);
        // SAFETY: the record is this test's; `nothing` touches nothing.
        unsafe { Domain::retire::<false>(record, item, 0) };
        assert!(domain.full_stop(record) > ahead);
        let late = Instant::now() + Duration::from_secs(60);
        // SAFETY: the record is this test's.
        assert_eq!(unsafe { domain.synchronize(record, late) }, Ok(()));
        assert_eq!((domain.stats().freed, domain.stats().poisoned), (1, false));
        domain.close();
    }

    /// Stops that can't be compared with the daemon's watermarks: everything is kept, and `synchronize`
    /// says so.
    #[test]
    fn a_poisoned_domain_keeps_everything() {
        let domain = Domain::new(
            Barriers::Fence { asked_for: true },
            &Settings { background: false, ..Settings::default() },
        );
        let record = domain.acquire();
        let item = Item::new(core::ptr::null_mut(), nothing);
        // SAFETY: the record is this test's; `nothing` touches nothing.
        unsafe { Domain::retire::<false>(record, item, 0) };
        domain.poison();
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
