//! The bags that threads leave to the domain: how they come there, and which threads free them.
//!
//! Owns the lock of the domain's orphans. `bag/orphans.rs` has their order, `flights.rs` those that threads have taken
//! out, `engine/takeover.rs` the background thread's part.

use super::Engine;
use super::flights::Flight;
use super::lock;
use super::running::{Running, runs};
use super::takeover::Marked;
use crate::bag::Bag;
use crate::bag::Orphans;
use crate::bag::pace;
use crate::bag::pace::ORPHANS_CHECKED;
use crate::engine::record::Record;
use crate::evidence::purchase::Asked;
use crate::evidence::purchase::Uncovered;
use crate::locks::try_lock;
use crate::platform::now_ns;
use crate::protocol::Safe;
use crate::protocol::Scan;
use crate::sync::FLOOR;
use crate::sync::fence;
use core::sync::atomic::Ordering;
use std::sync::MutexGuard;

/// A bag of the domain that the calling thread is freeing.
struct BagInFlight<'d> {
    domain: &'d Engine,
    bag: Bag,
    /// Ends after what is left was put back.
    flight: Flight<'d>,
}

impl Drop for BagInFlight<'_> {
    fn drop(&mut self) {
        // A destructor panicked.
        if self.bag.waiting() == 0 {
            return;
        }
        if let Some(orphans) = lock(&self.domain.orphans).as_mut() {
            orphans.put_back(core::mem::replace(&mut self.bag, Bag::without_slots()));
            self.domain.note_orphans(orphans);
            self.flight.returns();
        }
    }
}

impl Engine {
    /// Frees up to `limit` safe bags that threads have left to the domain, of those that were sealed before the time
    /// `before`, nanoseconds: so that a thread that is to free all of them comes to an end, whatever others leave
    /// meanwhile. `waits`: the call may wait for their lock, which is held for a moment each time; if not, it leaves
    /// them to the thread that holds it.
    ///
    /// A bag is freed whole, on the spot: no thread takes another's items over and then sleeps on
    /// them. If a destructor panics, the rest of its bag goes back.
    pub(crate) fn free_orphans(&self, record: &Record, limit: usize, before: u64, waits: bool) {
        // A thread that must not miss what is here, or in flight, takes the lock: hints may be ahead of it.
        if !waits && !self.has_orphans() {
            return;
        }
        if record.push_only().is_any() || runs(self) || self.is_forked() {
            return;
        }
        if self.lazy {
            self.sort_in();
        }
        // Behind a pin there may be many: no check of them, and no lock, as long as none may go. Relaxed: a hint
        // that saves a lock; what counts is checked under it.
        if !waits && self.least_orphan_ns.load(Ordering::Relaxed) >= self.words.safe().ns {
            return;
        }
        let _running = Running::new(record);
        let mut checks = limit.saturating_mul(ORPHANS_CHECKED);
        for _ in 0..limit {
            let orphans = if waits { Some(lock(&self.orphans)) } else { try_lock(&self.orphans) };
            let taken = orphans.and_then(|mut orphans| {
                let (bag, flight) =
                    self.pick_safe(orphans.as_mut()?, record, before, &mut checks)?;
                Some(BagInFlight { domain: self, bag, flight })
            });
            let Some(mut taken) = taken else { return };
            for item in taken.bag.by_ref() {
                record.meter().frees();
                // SAFETY: its bag was stamped before `safe`, and no hazard or interval held it after,
                // so no reader can hold it; it has just left the bag, so this is the only call.
                unsafe { item.free() };
                if self.is_forked() {
                    // This is a child, made in that destructor: the rest is its parent's, and so are the locks.
                    return core::mem::forget(taken);
                }
            }
        }
    }

    /// Takes out a reclaimable bag; what single readers hold of it stays there. `checks`: the number of bags that the
    /// caller may check.
    fn pick_safe(
        &self,
        orphans: &mut Orphans,
        record: &Record,
        before: u64,
        checks: &mut usize,
    ) -> Option<(Bag, Flight<'_>)> {
        let (safe, holders) = self.reclaimable();
        // Less than is safe may be taken for all. Virtual time says nothing of when they were sealed.
        let safe = if before < safe.ns { Safe { ns: before, vtime: 0 } } else { safe };
        let taken = orphans.take(safe, &holders, checks);
        self.note_orphans(orphans);
        let mut bag = taken?;
        record.meter().frees_bytes(bag.take_bytes());
        Some((bag, self.flights.begin()))
    }

    /// Does the same for the background thread: the bag is moved to its [`InFlight`](super::flights::InFlight).
    pub(crate) fn take_in_flight(&self, record: &Record) -> Option<Flight<'_>> {
        let mut orphans = lock(&self.orphans);
        let (bag, flight) =
            self.pick_safe(orphans.as_mut()?, record, u64::MAX, &mut usize::MAX.clone())?;
        self.in_flight.put(bag);
        Some(flight)
    }

    /// Takes what the background thread has not freed yet of the bag that it is freeing.
    pub(crate) fn take_back(&self) {
        let mut orphans = lock(&self.orphans);
        let Some(orphans) = orphans.as_mut() else { return };
        if let Some(bag) = self.in_flight.take() {
            orphans.put_back(bag);
            self.note_orphans(orphans);
            self.flights.put_back();
        }
    }

    /// Sorts in what retiring threads have handed over: all that came before the call. Each hold of the lock is short.
    pub(crate) fn sort_in(&self) {
        let mut inbox_due = true;
        while let Some(orphans) = lock(&self.orphans).as_mut() {
            let more = orphans.sort_in(&self.inbox, &mut inbox_due);
            self.note_orphans(orphans);
            if !more {
                return;
            }
        }
    }

    /// Notes whether there are any, and how old they are.
    pub(crate) fn note_orphans(&self, orphans: &Orphans) {
        self.least_orphan_ns.store(orphans.least_ns(), Ordering::Relaxed);
        self.has_orphans.store(!orphans.is_empty(), Ordering::Relaxed);
    }

    /// Returns whether there are any: a hint.
    pub(crate) fn has_orphans(&self) -> bool {
        self.has_orphans.load(Ordering::Relaxed) || !self.inbox.is_empty()
    }

    pub(crate) fn has_safe_orphan(&self) -> bool {
        let orphans = lock(&self.orphans);
        let (safe, holders) = self.reclaimable();
        orphans.as_ref().is_some_and(|orphans| orphans.is_worth_a_look(safe, &holders))
    }

    /// Returns when the first item of the oldest bag that lies with the domain came, nanoseconds.
    pub(crate) fn oldest_orphan_opened_ns(&self) -> Option<u64> {
        if self.lazy {
            self.sort_in();
        }
        lock(&self.orphans).as_ref()?.opened_ns()
    }

    /// Returns the least stamp of what lies with the domain, nanoseconds; 0: only single readers may stand in the way.
    pub(crate) fn oldest_orphan(&self) -> Option<u64> {
        let orphans = lock(&self.orphans);
        orphans.as_ref().filter(|orphans| !orphans.is_empty()).map(Orphans::least_ns)
    }

    /// Returns the latest stamp of what lies with the domain, or a later one, nanoseconds.
    pub(crate) fn newest_orphan(&self) -> u64 {
        self.sort_in();
        lock(&self.orphans).as_ref().map_or(0, Orphans::newest_ns)
    }

    pub(crate) fn lock_orphans(&self) -> MutexGuard<'_, Option<Orphans>> {
        lock(&self.orphans)
    }

    pub(crate) fn lock_marked(&self) -> MutexGuard<'_, Vec<Marked>> {
        lock(&self.marked)
    }

    /// Scans for what lies with the domain.
    pub(crate) fn scan_in_background(&self, asked: Asked) -> Option<Scan> {
        self.sort_in();
        let own = self.fence_and_stamp_unlisted();
        self.scan(own, asked, &|watermark| Uncovered::some(self.has_uncovered_orphan(watermark)))
    }

    /// Returns whether something lies with the domain whose stamp `watermark` does not cover.
    pub(crate) fn has_uncovered_orphan(&self, watermark: u64) -> bool {
        let orphans = lock(&self.orphans);
        orphans.as_ref().is_some_and(|orphans| orphans.is_uncovered(watermark))
    }

    /// Returns the watermark of a barrier of every CPU for what the calling thread stored before: the stamps below it,
    /// nanoseconds, have it. 0: it can't be had now.
    pub(crate) fn barrier_for_marks(&self) -> u64 {
        if self.readers_fence {
            // Owners fence between their two steps, as `Bags::own` does.
            fence(Ordering::SeqCst);
            return u64::MAX;
        }
        let watermark = self.barriers.passive().map_or(0, |news| news.ns);
        let Some(membarrier) = self.barriers.membarrier() else { return watermark };
        if self.barriers.keeps_up() || !membarrier.is_ready(now_ns(), || false) {
            return watermark;
        }
        self.counters.bought(Asked::InBackground);
        match membarrier.buy(self.words.fence_and_stamp(&FLOOR, now_ns).ns) {
            // The call itself came after the stores: all stamps before it have their barrier.
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

    /// Returns the number of objects that were retired and not yet freed; exact if none is retired meanwhile.
    pub(crate) fn waiting(&self) -> u64 {
        self.past.waiting(|| self.meters()).items
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
        let own = self.fence_and_stamp(record);
        if !self.lazy {
            let waits = {
                // Under the lock, as in `give_up`: once the door is closed, the queue is `close`'s.
                let orphans = lock(&self.orphans);
                let Some(orphans) = orphans.as_ref() else { return };
                // SAFETY: the caller owns the record.
                unsafe { self.own(record, |work| work.waits()) || !orphans.is_empty() }
            };
            // Relaxed: a count, by which nothing is reclaimed. Without it each of n threads that exit would scan the
            // others.
            let left = self.handed_over.fetch_add(1, Ordering::Relaxed) + 1;
            if waits && pace::worth_scanning(left, self.scan_cost()) {
                self.handed_over.store(0, Ordering::Relaxed);
                self.scan(own, Asked::OnExit, &|_| Uncovered::some(waits));
            }
        }
        // SAFETY: the caller owns the record, and touches it again only to end a guard of it.
        unsafe { self.give_up(record, own) };
    }

    /// Does the same by the background thread, which scans when it is time.
    ///
    /// # Safety
    /// As for [`hand_over`](Engine::hand_over).
    pub(crate) unsafe fn hand_over_in_background(&self, record: &Record) {
        // SAFETY: the caller owns the record, and touches it again only to end a guard of it.
        unsafe { self.give_up(record, self.fence_and_stamp(record)) };
    }

    /// # Safety
    /// As for [`hand_over`](Engine::hand_over); `own`: a stamp that the owner took after its last call.
    pub(crate) unsafe fn give_up(&self, record: &Record, own: u64) {
        // The lock is held while the bags are touched: once the door is closed they belong to
        // `close`. No foreign code runs under it.
        let mut orphans = lock(&self.orphans);
        let Some(orphans) = orphans.as_mut() else { return };
        // SAFETY: the caller owns the record.
        let left = unsafe {
            self.own(record, |work| {
                work.seal(own);
                self.note_sealed(record, work, own);
                work.take_all()
            })
        };
        orphans.add(left);
        self.note_orphans(orphans);
        record.set_debt(0);
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
            self.past.absorb(record.meter());
            self.records.give_back(record);
        }
    }

    /// Called when a robust guard or a hazard of this record is gone: gives the record back, if it was kept in
    /// use for such alone.
    ///
    /// # Safety
    /// As for `hand_over`.
    #[inline]
    pub(crate) unsafe fn hand_over_if_last(&self, record: &Record) {
        if record.transient().get() && !record.holds() && !record.reader().is_pinned() {
            // SAFETY: the caller owns the record, and touches it again only to end a guard of it.
            unsafe { self.hand_over(record) };
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::bag::COMPARED;
    use crate::bag::Item;
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use crate::protocol;
    use std::time::Duration;
    use std::time::Instant;

    unsafe fn nothing(_: *mut ()) {}

    /// A thread that is to free all that was left before a stamp is not kept busy by what others leave meanwhile.
    #[test]
    fn what_is_left_later_is_left_to_others() {
        let settings = Settings { background: false, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        let own = domain.acquire();
        let leave = || {
            let record = domain.acquire();
            let item = Item::new(core::ptr::null_mut(), nothing);
            // SAFETY: the record is this test's; `nothing` touches nothing.
            unsafe {
                Domain::retire::<false>(record, item, 8);
                domain.hand_over(record);
            }
        };
        leave();
        let stamp = domain.fence_and_stamp(own);
        leave();
        domain.scan_in_background(Asked::InBackground);
        domain.free_orphans(own, usize::MAX, protocol::above(stamp), true);
        assert_eq!(domain.waiting(), 1);
        domain.free_orphans(own, usize::MAX, u64::MAX, true);
        assert_eq!(domain.waiting(), 0);
        domain.close();
    }

    /// So many threads that exit, each with one object, behind a section; then its end, a look at what the
    /// background thread asks, and a flush: comparisons of stamps.
    fn comparisons(threads: usize, lazy: bool) -> u64 {
        let settings = Settings { background: false, lazy, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        let (reader, own) = (domain.acquire(), domain.acquire());
        domain.pin(reader);
        let before = COMPARED.get();
        for _ in 0..threads {
            let record = domain.acquire();
            let item = Item::new(core::ptr::null_mut(), nothing);
            // SAFETY: the record is this test's; `nothing` touches nothing.
            unsafe {
                Domain::retire::<false>(record, item, 8);
                domain.hand_over(record);
            }
            assert!(!domain.has_safe_orphan());
            assert!(domain.oldest_orphan().is_some() && domain.oldest().is_some());
        }
        reader.reader().unpin();
        domain.scan_in_background(Asked::InBackground);
        // SAFETY: the record is this test's.
        unsafe { domain.flush(own) };
        assert_eq!((domain.waiting(), domain.waiting_bytes()), (0, 0));
        let comparisons = COMPARED.get() - before;
        domain.close();
        comparisons
    }

    #[test]
    fn a5_what_threads_leave_costs_as_much_a_bag_however_much_there_is() {
        for lazy in [false, true] {
            let [few, more, many] = [1_000, 10_000, 100_000].map(|n| (n, comparisons(n, lazy)));
            println!("{few:?} {more:?} {many:?}");
            for (n, all) in [more, many] {
                // A tree grows by its depth.
                assert!(all / n as u64 <= 3 * few.1 / few.0 as u64, "{few:?}, {n} bags: {all}");
            }
        }
    }

    /// A queue comes to the domain as it is.
    #[test]
    fn a5_a_long_queue_is_left_in_one_go() {
        let settings = Settings { background: false, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        let (reader, own) = (domain.acquire(), domain.acquire());
        domain.pin(reader);
        let leave = |bags: u64| {
            let record = domain.acquire();
            for _ in 0..64 * bags {
                let item = Item::new(core::ptr::null_mut(), nothing);
                // SAFETY: the record is this test's; `nothing` touches nothing.
                unsafe { Domain::retire::<false>(record, item, 8) };
            }
            let before = COMPARED.get();
            // SAFETY: as above.
            unsafe { domain.hand_over(record) };
            COMPARED.get() - before
        };
        leave(1);
        assert!(leave(1000) <= 100);
        reader.reader().unpin();
        // SAFETY: the record is this test's.
        unsafe { domain.flush(own) };
        assert_eq!((domain.waiting(), domain.waiting_bytes()), (0, 0));
        domain.close();
    }

    /// A lazy domain's retirers find the lock taken, and don't wait.
    #[test]
    fn a5_who_only_retires_takes_no_lock() {
        let settings = Settings { background: false, lazy: true, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        let record = domain.acquire();
        {
            let _orphans = domain.lock_orphans();
            for _ in 0..64 * 100 + 1 {
                let item = Item::new(core::ptr::null_mut(), nothing);
                // SAFETY: the record is this test's; `nothing` touches nothing.
                unsafe { Domain::retire::<false>(record, item, 8) };
            }
            // SAFETY: as above.
            assert_eq!(unsafe { domain.own(record, |work| work.sealed()) }, 0, "handed over");
        }
        assert!(domain.has_orphans());
        domain.scan_in_background(Asked::InBackground);
        assert!(domain.has_safe_orphan());
        let late = Instant::now() + Duration::from_secs(20);
        // SAFETY: as above.
        assert_eq!(unsafe { domain.synchronize(record, late) }, Ok(()));
        assert_eq!(domain.waiting(), 0);
        // What no thread has sorted in is freed at the end.
        (0..65).for_each(|_| {
            let item = Item::new(core::ptr::null_mut(), nothing);
            // SAFETY: as above.
            unsafe { Domain::retire::<false>(record, item, 8) };
        });
        domain.close();
    }
}
