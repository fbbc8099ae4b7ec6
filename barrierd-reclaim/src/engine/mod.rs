//! The engine of a domain: the words that readers and scans share, the threads' records, the source of barriers, and
//! the way of an item from a thread's queue to its destructor.
//!
//! Owns what happens to items, and knows nothing of reports about it: limits, hooks, `tracing` and the background
//! thread belong to the [`Domain`](crate::domain::Domain), which stands above and calls. Nothing here calls up.
//!
//! Destructors run in `free.rs`, `orphans.rs`, `takeover.rs` and [`Engine::close`], under no lock.

mod dormant;
mod evidence;
pub(crate) mod flights;
mod free;
pub(crate) mod hazards;
mod orphans;
pub(crate) mod pool;
mod queue;
pub(crate) mod record;
pub(crate) mod records;
pub(crate) mod running;
pub(crate) mod takeover;

use crate::bag::inbox::Inbox;
use crate::bag::{Bag, Orphans};
use crate::evidence::barriers::Barriers;
use crate::evidence::mapped::Mapped;
use crate::evidence::membarrier::Membarrier;
use crate::evidence::status::Status;
use crate::locks::lock;
use crate::meter::Meter;
use crate::meter::stats::{Counters, Stats};
use crate::meter::sums::Past;
use crate::panics::caught;
use crate::platform::now_ns;
use crate::platform::own_tid;
use crate::process::fork::Process;
use crate::protocol::holders::Holders;
use crate::protocol::{Safe, VtimeMemory, Words};
use crate::sync::real::AtomicU64;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use dormant::Dormant;
use flights::{Flights, InFlight};
use hazards::Hazards;
use record::Record;
use records::Records;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use takeover::Marked;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Engine {
    words: Words,
    records: Records,
    /// The counts of records that were given back.
    past: Past,
    /// Records that were handed over since such a call last scanned.
    handed_over: AtomicUsize,
    hazards: Hazards,
    /// A robust guard was opened once. Set before its interval: a scan that must see the one
    /// sees the other.
    has_intervals: AtomicBool,
    /// Where it was made: in a child by fork it is dead.
    process: Process,
    barriers: Barriers,
    readers_fence: bool,
    passive: Mutex<Passive>,
    /// The readers that sleep, and need not be asked for evidence.
    dormant: Dormant,
    /// The last scan of the holders, for threads that reclaim without one of their own.
    found: Mutex<Option<Arc<Found>>>,
    /// Sealed bags of threads that have exited. `None`: the last `Reclaimer` is gone, and with it
    /// everything that was retired.
    orphans: Mutex<Option<Orphans>>,
    /// Sealed bags that retiring threads hand over, without a lock, where they free nothing.
    inbox: Inbox<Bag>,
    /// A hint that `orphans` holds something.
    has_orphans: AtomicBool,
    /// A hint, too: none of them is stamped before this, nanoseconds.
    least_orphan_ns: AtomicU64,
    /// Queues that are being taken over. Locked with `orphans` locked, or alone.
    marked: Mutex<Vec<Marked>>,
    /// Bags that were among the orphans, and are being freed.
    flights: Flights,
    /// Of these, the one that the background thread is freeing.
    in_flight: InFlight,
    /// `retire` only pushes; full bags go to the background thread.
    lazy: bool,
    /// The clock ran backwards past a barrier: nothing becomes safe any more.
    poisoned: AtomicBool,
    /// Items waiting on one thread above which a barrier is bought.
    budget: usize,
    counters: Counters,
    /// The background thread looks after it.
    attended: bool,
}

/// A scan of the holders, and the `safe` that was loaded before it: not to be parted.
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

impl Engine {
    /// `budget`: items of one thread that wait for a barrier before one is bought. `lazy`: `retire` runs no destructor.
    /// `attended`: the background thread looks after it.
    pub(crate) fn new(barriers: Barriers, budget: usize, lazy: bool, attended: bool) -> Engine {
        let (source, last_ns) = (barriers.active(), barriers.old_news_ns());
        Engine {
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
            in_flight: InFlight::default(),
            lazy,
            poisoned: AtomicBool::new(false),
            budget,
            counters: Counters::new(source),
            attended,
        }
    }

    pub(crate) fn is_lazy(&self) -> bool {
        self.lazy
    }

    /// Returns whether a destructor runs on the owner's thread, from one of its calls to this domain.
    pub(crate) fn in_destructor(&self, record: &Record) -> bool {
        record.push_only().in_destructor() || running::runs(self)
    }

    pub(crate) fn barriers(&self) -> &Barriers {
        &self.barriers
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.flights
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the records that threads own.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.in_use()
    }

    /// Returns what is counted for them.
    fn meters(&self) -> impl Iterator<Item = &Meter> {
        self.records().map(Record::meter)
    }

    /// Returns all records that there are.
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

    /// Returns whether this process was forked after the domain was made. Other threads' sections, locks and
    /// half-done work are as the fork found them, so nothing is freed here, and no lock is taken.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }

    pub(crate) fn hazards(&self) -> &Hazards {
        &self.hazards
    }

    /// Notes that a record's first robust guard is about to be opened.
    pub(crate) fn expect_intervals(&self) {
        // Release, for the next load of it to come before the interval's: nothing else rests on it.
        self.has_intervals.store(true, Ordering::Release);
    }

    /// Returns a record for the calling thread, which owns it until it hands it over. `home`: this engine, by a
    /// pointer that is good for all of what it is a part of ([`Record::home`]).
    pub(crate) fn acquire_for(&self, home: *const Engine) -> &Record {
        let record = self.records.acquire(home, self.barriers.vtime_word());
        record.push_only().begin(self.lazy);
        record.set_tid(own_tid());
        if self.readers_fence {
            record.reader().sleep().fence_always();
        }
        // In use first, then the stamp: see `protocol::walk`.
        self.fence_and_stamp(record);
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

    pub(crate) fn readers_before(&self, stamp: u64) -> usize {
        self.records()
            .filter(|record| {
                record.reader().pinned().is_some_and(|seen| seen < stamp)
                    || record.interval().holds_back(stamp)
            })
            .count()
    }

    /// Returns the size of waiting objects, bytes, except bags that are being freed.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.past.waiting(|| self.meters()).bytes
    }

    /// Returns the source that serves, and why.
    pub(crate) fn status(&self) -> Status {
        if self.poisoned.load(Ordering::Relaxed) {
            return Status::Poisoned;
        }
        self.barriers.status(self.is_refused())
    }

    /// Returns whether the kernel refused the last membarrier of this process.
    pub(crate) fn is_refused(&self) -> bool {
        self.barriers.membarrier().is_some_and(Membarrier::is_refused)
    }

    pub(crate) fn look_for_daemon(&self) {
        self.barriers.look_for_daemon();
    }

    pub(crate) fn easy_daemon(&self) -> Option<Arc<Mapped>> {
        self.barriers.easy_daemon()
    }

    /// Returns whether a robust guard is open that was so at `stamp`. Called after `safe` was loaded, as in
    /// `reclaimable`.
    pub(crate) fn holds_back(&self, stamp: u64) -> bool {
        self.has_intervals.load(Ordering::Acquire)
            && self.records().any(|record| record.interval().holds_back(stamp))
    }

    pub(crate) fn stats(&self) -> Stats {
        let (retired, freed) = self.past.sums(|| self.meters());
        let poisoned = self.poisoned.load(Ordering::Relaxed);
        let oldest = if retired.items > freed.items { self.oldest() } else { None };
        let waiting_bytes = retired.bytes.saturating_sub(freed.bytes);
        let report = self.counters.report(retired.items, freed.items, poisoned);
        Stats { waiting_bytes, oldest, ..report }
    }

    /// Returns how long the oldest bag has waited, except those that are being freed.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let queues = self.meters().map(Meter::oldest_ns);
        // In a child of a fork the lock may never be given back.
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
        let in_hand = self.in_flight.take();
        self.flights.wait(None);
        // SAFETY: the door is closed, and no call is under way.
        let marked = unsafe { self.take_all_marked() };
        let own = self.records.all().flat_map(|record| {
            // SAFETY: no call is under way and no thread can hand over any more, so all records are
            // this function's (rule 2 of `engine/record.rs`).
            unsafe { (*record.bags()).take_over(u64::MAX) }.into_bags()
        });
        let left = orphans.into_iter().flat_map(Orphans::into_bags);
        let left = in_hand.into_iter().chain(left).chain(handed).chain(marked);
        for item in left.chain(own).flatten() {
            // A panic that came out of a drop would lose the items behind it, and abort the program where the drop is
            // itself part of an unwinding.
            // SAFETY: there is no reader left, so no barrier is needed; the item has left its
            // queue, so this is the only call.
            caught(|| unsafe { item.free() });
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
impl Engine {
    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn are_orphans_locked(&self) -> bool {
        self.orphans.try_lock().is_err()
    }
}
