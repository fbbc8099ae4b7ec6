//! From `retire` into a thread's queue: the fast way, the slow way once a bag or once a round, and that
//! of batches.
//!
//! Owns the order of these steps. Destructors are run by `free.rs`.

use super::Domain;
use crate::bag::Item;
use crate::bag::pace::FREED_PER_RETIRE;
use crate::bag::pace::ORPHANS_PER_RETIRE;
use crate::engine::Engine;
use crate::engine::record::Record;
use crate::sync::fence;
use crate::sync::light_barrier;
use crate::sync::{Mutant, broken, stage};
use core::sync::atomic::Ordering;

impl Domain {
    /// Queues an item of `bytes` bytes, and frees one that may go. Where readers fence, always by the slow way.
    ///
    /// Inlined, as far as it does not leave the fast way: some forty instructions, of which a call of its own would
    /// be a fifth. The domain is not looked for there.
    ///
    /// # Safety
    /// The caller owns `record`; what
    /// [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) asks; and `BORN` says that the object
    /// begins with its birth, an era of this domain's.
    #[inline(always)]
    pub(crate) unsafe fn retire<const BORN: bool>(record: &Record, item: Item, bytes: usize) {
        // The unlink comes before the stamp in program order.
        light_barrier();
        record.retired().add(1);
        record.retired_bytes().add(bytes as u64);
        stage();
        // SAFETY: the owner's queue, or one that was just taken from it.
        let pushed =
            unsafe { (*record.bags()).push_as::<BORN>(item, bytes, || !record.freeing().get()) };
        match pushed {
            Ok(Some(safe)) => {
                // SAFETY: it was let go by what a scan had found, and has left its queue.
                unsafe { Engine::run(record, safe) };
                if record.owes() {
                    // SAFETY: the caller owns the record.
                    unsafe { record.engine().free_more(record) };
                }
            }
            Ok(None) => {
                if record.freeing().get() {
                    record.engine().owe_for_push(record);
                }
            }
            // SAFETY: the caller owns the record.
            Err(_) => unsafe { Domain::of(record).retire_slowly::<BORN>(record, item, bytes) },
        }
    }

    /// What `retire` does once a bag or once a round; and always where readers fence.
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
        // What was moved here from another domain's box, where somebody forgot that it may not be.
        debug_assert!(
            // SAFETY: as the caller says.
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
                    self.hand_off(work);
                    return (None, 1, sealed, opened, work.is_to_check_limits());
                }
                self.scan_at_pace(record, work, sealed);
                // As on the fast way. A destructor's own items are for the calls outside: see `free`.
                if record.freeing().get() {
                    return (None, 1, sealed, opened, false);
                }
                let checks = work.is_to_check_limits();
                let next = work.take_safe();
                record.set_backlog(work.has_backlog());
                let more = if work.has_many() { FREED_PER_RETIRE - 1 } else { 0 };
                (next, more, sealed, opened, checks)
            })
        };
        stage();
        if opened {
            // The item was counted before, so the fence of a full stop will do. Those that are not the first of
            // their bag need nobody: see "When the background thread sleeps".
            self.after_slow_retire(sealed);
        }
        // SAFETY: the caller owns the record; what was taken out was let go by a scan, and has left its queue.
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
        record.retired_bytes().add((count as u64).wrapping_mul(bytes as u64));
        if self.is_forked() {
            return;
        }
        stage();
        // After all of them were unlinked, so good for each bag that they fill.
        let stop = self.fence_and_stamp(record);
        // SAFETY: the caller owns the record.
        let checks = unsafe {
            self.own(record, |work| {
                let (mut checks, mut bags) = (false, 0);
                for item in batch.clone() {
                    if work.wants_seal() {
                        work.seal(stop);
                        bags += 1;
                    }
                    work.push(item, bytes);
                    if work.is_first::<false>() {
                        work.opened::<false>(record.reader().last_stamp());
                        checks |= work.is_to_check_limits();
                    }
                }
                self.note_sealed(record, work, stop);
                if self.is_lazy() {
                    self.hand_off(work);
                } else {
                    // The stop is made, be a bag full or not.
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

    /// The background thread hears of what was counted. `fenced`: a full fence came after that.
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

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::bag::{BAG_ITEMS, GAP_NS};
    use crate::{Handle, Reclaimer, Source};

    /// As fast as can be: bags are filled up, and a scan serves all. The clock of a slow machine would say that items come
    /// slowly, and then each thread scans for its own bags.
    const FAST: u64 = 0;
    /// Bags of two.
    const SLOW: u64 = 1_000_000;

    unsafe fn nothing(_: *mut u64) {}

    /// `turns` times each of `threads` handles retires 64 items, one after another, `gap_ns` apart by what they believe.
    /// One thread stands for all. The most items of a thread that waited after a turn, in the mean; rounded up.
    fn in_turn(source: Source, threads: usize, turns: usize, held: bool, gap_ns: u64) -> u64 {
        GAP_NS.set(Some(gap_ns));
        let reclaimer = Reclaimer::builder().source(source).background(false).build().unwrap();
        // From then on each look at what may go is one at hazards and intervals, too.
        let hazard = held.then(|| reclaimer.hazard());
        let all: Vec<Handle> = (0..threads).map(|_| reclaimer.handle()).collect();
        let mut most = 0;
        for _ in 0..turns {
            if held {
                // Whoever has a hazard is not put to sleep. So it shows what it has seen: else only barriers that are
                // bought let anything go, and when they are is a matter of time.
                drop(reclaimer.pin());
            }
            for handle in &all {
                for n in 1..=BAG_ITEMS {
                    // SAFETY: nobody follows it, and nothing is done to it.
                    unsafe { handle.retire_with(std::ptr::without_provenance_mut(8 * n), nothing) };
                }
            }
            most = most.max(reclaimer.stats().waiting());
        }
        GAP_NS.set(None);
        drop(hazard);
        most.div_ceil(threads as u64)
    }

    /// One is open; one was sealed in the last turn; and one the turn before, whose stop some had not seen when others
    /// scanned for them. A barrier that is bought meanwhile, by whomever, only lets more go.
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
                // Whoever scans there has all the evidence himself.
                let most = in_turn(Source::Fence, threads, turns, held, gap_ns);
                assert!(most <= 2 * bag, "{case}, and they fence: {most} each");
            }
        }
    }
}
