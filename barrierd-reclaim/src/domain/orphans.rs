//! What threads leave to the domain: how it comes there, and who frees it.
//!
//! Owns the list of orphans, with its lock. The background thread's part is `takeover.rs`.

use super::running::{Running, runs};
use super::*;

impl Domain {
    /// Frees up to `limit` safe bags that exited threads have left.
    ///
    /// A bag is freed whole, on the spot: no thread takes another's items over and then sleeps on
    /// them. If a destructor panics, the rest of its bag goes back.
    pub(super) fn free_orphans(&self, record: &Record, limit: usize) {
        let running = record.freeing().get() || runs(self);
        // Relaxed, both words: hints that save a lock; what counts is looked at under it.
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

    pub(super) fn take_safe_orphan(&self, record: &Record, looks: &mut usize) -> Option<Bag> {
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

    /// When the first item came of the oldest bag that lies with the domain, nanoseconds.
    pub(super) fn oldest_orphan_opened_ns(&self) -> Option<u64> {
        lock(&self.orphans).iter().flatten().map(Bag::opened_ns).min()
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
    pub(crate) fn scan_behind(&self, asked: Asked) -> Option<Scan> {
        let own = self.stop_aside();
        self.scan(own, asked, &|watermark| {
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
        match membarrier.buy(self.words.stop(&FLOOR, now_ns).ns) {
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
    pub(super) fn leave(&self, bags: impl IntoIterator<Item = Bag>) {
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
            let waits = {
                // Under the lock, as in `give_up`: once the door is closed, the queue is `close`'s.
                let orphans = lock(&self.orphans);
                let Some(orphans) = orphans.as_ref() else { return };
                // SAFETY: the caller owns the record.
                unsafe { self.own(record, |work| work.waits()) || !orphans.is_empty() }
            };
            self.scan(own, Asked::OnFlush, &|_| usize::from(waits));
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
    pub(super) unsafe fn give_up(&self, record: &Record, own: u64) {
        // The lock is held while the bags are touched: once the door is closed they belong to
        // `close`. No foreign code runs under it.
        let mut orphans = lock(&self.orphans);
        let Some(orphans) = orphans.as_mut() else { return };
        // SAFETY: the caller owns the record.
        let mut bags = unsafe {
            self.own(record, |work| {
                work.seal(own);
                self.note_sealed(record, work, own);
                work.take_all()
            })
        };
        // Not a look at all of them: behind a pin there may be many.
        let least = bags.iter().map(Bag::ns).min().unwrap_or(u64::MAX);
        self.least_orphan_ns.fetch_min(least, Ordering::Relaxed);
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
}
