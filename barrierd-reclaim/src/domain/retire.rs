//! From `retire` into a thread's queue: the fast path, the slow path once for each bag or each round, and the path of
//! batches.
//!
//! This file owns the order of these steps. `free.rs` runs destructors.

use super::Domain;
use crate::bag::pace::FREED_PER_RETIRE;
use crate::bag::pace::ORPHANS_PER_RETIRE;
use crate::bag::{BAG_ITEMS, Item};
use crate::engine::Engine;
use crate::engine::record::Record;
use crate::sync::fence;
use crate::sync::light_barrier;
use crate::sync::{Mutant, broken, stage};
use core::sync::atomic::Ordering;

impl Domain {
    /// Queues an item of `bytes` bytes, and frees one that is reclaimable. Where readers fence, it always takes the
    /// slow path.
    ///
    /// The fast path is inlined: some forty instructions, of which a call would be a fifth. It does not search for
    /// the domain.
    ///
    /// # Safety
    /// The caller owns `record`, and promises what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) asks. If
    /// `BORN`, the object begins with its birth, an era of this domain.
    #[inline(always)]
    pub(crate) unsafe fn retire<const BORN: bool>(record: &Record, item: Item, bytes: usize) {
        // The unlink comes before the stamp in program order.
        light_barrier();
        record.meter().retires(1, bytes as u64);
        stage();
        // SAFETY: the owner's queue, or one that was just taken from it.
        let pushed = unsafe {
            (*record.bags()).push_as::<BORN>(item, bytes, || !record.push_only().is_any())
        };
        match pushed {
            Ok(Some(safe)) => {
                // SAFETY: a scan found it reclaimable, and it has left its queue.
                unsafe { Engine::run(record, safe) };
                if record.owes() {
                    // SAFETY: the caller owns the record.
                    unsafe { record.engine().free_more(record) };
                }
            }
            Ok(None) => {
                if record.push_only().is_any() {
                    record.engine().owe_for_push(record);
                }
            }
            // SAFETY: the caller owns the record.
            Err(_) => unsafe { Domain::of(record).retire_slowly::<BORN>(record, item, bytes) },
        }
    }

    /// Does what `retire` does once for each bag or each round, and always where readers fence.
    ///
    /// # Safety
    /// As for `retire`.
    #[cold]
    pub(super) unsafe fn retire_slowly<const BORN: bool>(
        &self,
        record: &Record,
        item: Item,
        bytes: usize,
    ) {
        if self.is_forked() {
            return;
        }
        // This catches a `Born` that was moved here from another domain's box, which `retire_born` forbids.
        debug_assert!(
            // SAFETY: the caller promises that the object begins with its birth if `BORN`.
            !BORN || broken(Mutant::BirthFromNow) || unsafe { item.birth() } <= self.words().era(),
            "retire_born: a birth of another reclaimer's"
        );
        // SAFETY: the caller owns the record.
        let (next, more, sealed, opened, checks) = unsafe {
            self.own(record, |work| {
                let sealed = work.wants_seal_as::<BORN>();
                if sealed {
                    work.seal(self.fence_and_stamp(record));
                }
                work.push_as::<BORN>(item, bytes);
                self.note::<BORN>(record, work, sealed);
                let opened = work.is_first::<BORN>();
                if self.is_lazy() {
                    if sealed {
                        // No scan of a thread that retires does it here.
                        self.words().next_era(record.reader().last_stamp());
                    }
                    self.hand_off(work);
                    work.set_step(BAG_ITEMS);
                    return (None, 1, sealed, opened, self.limited(work));
                }
                self.scan_at_pace(record, work, sealed);
                // As on the fast path. A destructor's own items are left to the calls outside: see `free`.
                if record.push_only().is_any() {
                    return (None, 1, sealed, opened, false);
                }
                let checks = self.limited(work);
                let next = work.take_safe();
                record.set_backlog(work.has_backlog());
                let more = if work.has_many() { FREED_PER_RETIRE - 1 } else { 0 };
                (next, more, sealed, opened, checks)
            })
        };
        stage();
        if opened {
            // The item was counted before, so the fence of `fence_and_stamp` suffices. Items that are not the first
            // of their bag need no wake-up: see "When the background thread sleeps".
            self.after_slow_retire(sealed);
        }
        // SAFETY: the caller owns the record; a scan found what was taken out reclaimable, and it has left its queue.
        unsafe {
            if let Some(next) = next {
                Engine::run(record, next);
            }
            if more > 0 || record.debt() != 0 {
                self.free(record, more);
            }
        }
        if self.is_forked() {
            // This is a child, made in that destructor.
            return;
        }
        self.free_orphans(record, ORPHANS_PER_RETIRE, u64::MAX, false);
        if checks {
            // SAFETY: the caller owns the record.
            unsafe { self.check_limits(record) };
        }
        self.tell_news(record);
    }

    /// Queues items of `bytes` bytes each, under one stamp, and frees as many that are reclaimable.
    ///
    /// # Safety
    /// The caller owns `record`; and what [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) asks, for each
    /// item; all of them were unlinked before the call.
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
        record.meter().retires(count as u64, (count as u64).wrapping_mul(bytes as u64));
        if self.is_forked() {
            return;
        }
        stage();
        // The stamp comes after all of them were unlinked, so it is valid for each bag that they fill.
        let stamp = self.fence_and_stamp(record);
        // SAFETY: the caller owns the record.
        let checks = unsafe {
            self.own(record, |work| {
                let (mut checks, mut bags) = (false, 0);
                for item in batch.clone() {
                    if work.wants_seal() {
                        work.seal(stamp);
                        bags += 1;
                    }
                    work.push(item, bytes);
                    if work.is_first::<false>() {
                        work.opened::<false>(record.reader().last_stamp());
                        checks |= work.is_to_check_limits();
                    }
                }
                self.note_sealed(record, work, stamp);
                if self.is_lazy() {
                    self.hand_off(work);
                } else {
                    // The stamp is taken, whether or not a bag is full.
                    self.scan_in_turn(record, work, bags.max(1));
                }
                checks
            })
        };
        self.after_slow_retire(true);
        self.free_orphans(record, ORPHANS_PER_RETIRE, u64::MAX, false);
        // SAFETY: the caller owns the record.
        unsafe {
            self.free(record, count.saturating_mul(FREED_PER_RETIRE));
            if checks {
                self.check_limits(record);
            }
        }
        self.tell_news(record);
    }

    /// Makes the background thread learn of what was counted. `fenced` says that a full fence came after the count.
    pub(super) fn after_slow_retire(&self, fenced: bool) {
        if let Some(watch) = &self.watch {
            if !fenced {
                fence(Ordering::SeqCst);
            }
            if watch.wake_up() {
                self.counters().woke();
            }
        }
        stage();
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::BAG_ITEMS;
    use crate::bag::GAP_NS;
    use crate::bag::pace::scans_apart_ns;
    use crate::platform::now_ns;
    use crate::{Handle, Reclaimer, Source};

    /// A clock that says that items come fast: bags are filled up, and a scan serves all. The clock of a slow machine
    /// would say that items come slowly, and then each thread scans for its own bags.
    const FAST: u64 = 0;
    /// Bags of two.
    const SLOW: u64 = 1_000_000;

    unsafe fn nothing(_: *mut u64) {}

    /// `turns` times each of `threads` handles retires 64 items, one after another, `gap_ns` apart by what they
    /// believe. One thread stands for all. Returns the most items of a thread that waited after a turn, in the mean,
    /// rounded up.
    fn in_turn(source: Source, threads: usize, turns: usize, held: bool, gap_ns: u64) -> u64 {
        GAP_NS.set(Some(gap_ns));
        let reclaimer = Reclaimer::builder().source(source).background(false).build().unwrap();
        // From then on each scan reads hazards and intervals, too.
        let hazard = held.then(|| reclaimer.hazard());
        let all: Vec<Handle> = (0..threads).map(|_| reclaimer.handle()).collect();
        let mut most = 0;
        for _ in 0..turns {
            if held {
                // A thread that has a hazard is not put to sleep. So it shows what it has seen. Otherwise only bought
                // barriers would free anything, and when they are bought depends on time.
                drop(reclaimer.pin());
            }
            for handle in &all {
                for n in 1..=BAG_ITEMS {
                    // SAFETY: no reader follows it, and nothing is done to it.
                    unsafe { handle.retire_with(std::ptr::without_provenance_mut(8 * n), nothing) };
                }
            }
            most = most.max(reclaimer.stats().waiting());
        }
        GAP_NS.set(None);
        drop(hazard);
        most.div_ceil(threads as u64)
    }

    /// Threads that seal small bags share their scans: a busy machine makes fewer of them, an idle one no more than so
    /// many in the time that it takes.
    #[test]
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    fn many_threads_that_are_taken_for_slow_share_their_scans() {
        const THREADS: usize = 1_000;
        const TURNS: u64 = 20;
        GAP_NS.set(Some(SLOW));
        let reclaimer =
            Reclaimer::builder().source(Source::Membarrier).background(false).build().unwrap();
        let mut all: Vec<Handle> = (0..THREADS).map(|_| reclaimer.handle()).collect();
        // From then on they are never asleep: a scan of sleepers would cost nothing.
        all.iter_mut().for_each(|handle| drop(handle.pin_robust()));
        let begin = now_ns();
        for _ in 0..TURNS * BAG_ITEMS as u64 / 16 {
            for handle in &all {
                for n in 1..=16 {
                    // SAFETY: no reader follows it, and nothing is done to it.
                    unsafe { handle.retire_with(std::ptr::without_provenance_mut(8 * n), nothing) };
                }
            }
        }
        GAP_NS.set(None);
        let took = now_ns() - begin;
        let stats = reclaimer.stats();
        // Before the first bag of each thread nothing was known of its pace.
        let most = took / scans_apart_ns(THREADS) + THREADS as u64;
        assert!(stats.scans <= most, "{} scans, not {most}, in {took} ns", stats.scans);
        // What the others' turns were for.
        assert!(stats.freed > 0, "{stats:?}");
    }

    /// One bag is open; one was sealed in the last turn; and one in the turn before, whose stamp some threads had not
    /// seen when others scanned for them. A barrier that any thread buys meanwhile only makes more reclaimable.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn many_threads_keep_three_bags_each_however_many_they_are() {
        let bag = BAG_ITEMS as u64;
        for held in [false, true] {
            let cases =
                [(100, 100, SLOW), (100, 100, FAST), (1_000, 100, FAST), (10_000, 12, FAST)];
            for (threads, turns, gap_ns) in cases {
                let case = format!("{threads} threads, {gap_ns} ns apart, held {held}");
                let most = in_turn(Source::Membarrier, threads, turns, held, gap_ns);
                assert!(most <= 3 * bag, "{case}: {most} each");
                // A thread that scans there has all the evidence itself.
                let most = in_turn(Source::Fence, threads, turns, held, gap_ns);
                assert!(most <= 2 * bag, "{case}, and they fence: {most} each");
            }
        }
    }
}
