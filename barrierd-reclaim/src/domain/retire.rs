//! From `retire` into a thread's queue: the fast way, the slow way once a bag or once a round, and that
//! of batches.
//!
//! Owns the order of these steps. Destructors are run by `free.rs`.

use super::*;
use crate::sync::{Twin, broken, stage};

impl Domain {
    /// [`retire`](Domain::retire), whether readers fence or not.
    ///
    /// # Safety
    /// As for [`retire`](Domain::retire), but that readers may need fences.
    #[inline]
    pub(crate) unsafe fn retire_for<const BORN: bool>(
        &self,
        record: &Record,
        item: Item,
        bytes: usize,
    ) {
        // SAFETY: as the caller says.
        unsafe {
            if self.readers_fence {
                self.retire_fenced::<BORN>(record, item, bytes);
            } else {
                self.retire::<BORN>(record, item, bytes);
            }
        }
    }

    /// Queues an item of `bytes` bytes, and frees one that may go.
    ///
    /// # Safety
    /// The caller owns `record`, readers need no fence; what
    /// [`Reclaimer::retire_with`](crate::Reclaimer::retire_with) asks; and `BORN` says that the object
    /// begins with its birth, an era of this domain's.
    #[inline]
    pub(crate) unsafe fn retire<const BORN: bool>(
        &self,
        record: &Record,
        item: Item,
        bytes: usize,
    ) {
        // The unlink comes before the stamp in program order.
        light_barrier();
        record.retired().add(1);
        record.retired_bytes().add(bytes as u64);
        stage();
        // SAFETY: the owner's queue, or one that was just taken from it.
        match unsafe { (*record.bags()).push_as::<BORN>(item, bytes, !record.freeing().get()) } {
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
            Err(_) => unsafe { self.retire_slowly::<BORN>(record, item, bytes) },
        }
    }

    /// What `retire` does once a bag or once a round; and always where readers fence.
    ///
    /// # Safety
    /// As for `retire`, but that readers may need fences.
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
            !BORN || broken(Twin::BirthFromNow) || unsafe { item.birth() } <= self.words.era(),
            "retire_born: a birth of another reclaimer's"
        );
        // SAFETY: the caller owns the record.
        let (free, sealed, opened) = unsafe {
            self.own(record, |work| {
                let sealed = work.wants_seal_as::<BORN>();
                if sealed {
                    work.seal(self.full_stop(record));
                    self.follow_pace(work);
                }
                work.push_as::<BORN>(item, bytes);
                self.note::<BORN>(record, work, sealed);
                if self.lazy {
                    self.hand_off(work);
                } else if sealed {
                    self.look_in_turn(record, work, 1);
                }
                let free = policy::frees_a_call(work.gap_ns(), work.is_behind());
                (free, sealed, work.is_first::<BORN>())
            })
        };
        stage();
        // The item was counted before, so the fence of a full stop will do.
        self.after_slow_retire(sealed);
        self.free_orphans(record, ORPHANS_PER_RETIRE, false);
        // SAFETY: the caller owns the record.
        unsafe {
            self.free(record, free);
            if opened {
                self.heed_limits(record);
            }
        }
        self.heed_news(record);
    }

    /// Bags as large as the thread's pace is worth; where it frees nothing itself, as large as can be.
    fn follow_pace(&self, work: &mut Work<'_>) {
        if !self.lazy {
            let items = policy::items_a_bag(work.gap_ns(), self.scan_cost(), work.sealed());
            work.set_most(items);
        }
    }

    /// The same as [`retire`](Domain::retire) where readers may need fences.
    ///
    /// # Safety
    /// As for `retire`, but that readers may need fences.
    pub(crate) unsafe fn retire_fenced<const BORN: bool>(
        &self,
        record: &Record,
        item: Item,
        bytes: usize,
    ) {
        light_barrier();
        record.retired().add(1);
        record.retired_bytes().add(bytes as u64);
        stage();
        // SAFETY: the caller owns the record.
        unsafe { self.retire_slowly::<BORN>(record, item, bytes) };
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
        let stop = self.full_stop(record);
        // SAFETY: the caller owns the record.
        let opened = unsafe {
            self.own(record, |work| {
                let (mut opened, mut bags) = (false, 0);
                for item in batch.clone() {
                    if work.wants_seal() {
                        work.seal(stop);
                        bags += 1;
                    }
                    work.push(item, bytes);
                    if work.is_first::<false>() {
                        work.opened::<false>(record.reader().last_stop());
                        opened = true;
                    }
                }
                self.note_sealed(record, work, stop);
                if self.lazy {
                    self.hand_off(work);
                } else {
                    // The stop is made, be a bag full or not.
                    self.look_in_turn(record, work, bags.max(1));
                }
                opened
            })
        };
        self.after_slow_retire(true);
        self.free_orphans(record, ORPHANS_PER_RETIRE, false);
        // SAFETY: the caller owns the record.
        unsafe {
            self.free(record, count.saturating_mul(FREED_PER_RETIRE));
            if opened {
                self.heed_limits(record);
            }
        }
        self.heed_news(record);
    }

    /// For reports: after a push, `sealed` after a full stop of just now.
    fn note<const BORN: bool>(&self, record: &Record, work: &mut Work<'_>, sealed: bool) {
        let stop = record.reader().last_stop();
        if work.is_first::<BORN>() {
            work.opened::<BORN>(if sealed { stop } else { now_ns() });
        }
        if sealed {
            self.note_sealed(record, work, stop);
        }
    }

    /// For reports: the queue was sealed with the stamp `ns`, and all that was counted as retired is
    /// in it.
    pub(super) fn note_sealed(&self, record: &Record, work: &Work<'_>, ns: u64) {
        if !record.ledger().wants() {
            return;
        }
        let (items, bytes) = work.unsealed();
        let items = record.retired().get().saturating_sub(items as u64);
        let bytes = record.retired_bytes().get().saturating_sub(bytes as u64);
        record.ledger().note(Mark { ns, items, bytes }, self.words.safe_ns_relaxed());
    }

    /// Full bags go to the domain, without a lock.
    pub(super) fn hand_off(&self, work: &mut Work<'_>) {
        if work.sealed() > 0 {
            work.take_sealed().for_each(|bag| self.inbox.push(bag));
            work.show_oldest();
        }
    }

    /// The background thread hears of what was counted. `fenced`: a full fence came after that.
    pub(super) fn after_slow_retire(&self, fenced: bool) {
        if let Some(watch) = &self.watch {
            if !fenced {
                fence(Ordering::SeqCst);
            }
            if watch.rouse() {
                self.counters.woke();
            }
        }
        stage();
    }
}
