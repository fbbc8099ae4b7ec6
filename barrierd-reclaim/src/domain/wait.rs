//! Calls that are asked to free: `flush` frees what it can, `synchronize` waits for the rest.

use super::running::{Attended, Released};
use super::*;

impl Domain {
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
                let stop = self.full_stop(record);
                work.seal(stop);
                self.note_sealed(record, work, stop);
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
        self.heed_news(record);
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
                self.note_sealed(record, work, stop);
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
    pub(super) fn settle(&self, deadline: Option<Instant>) {
        {
            // Under the lock, so that it is always in the hand or here; and here before the wait, so that
            // nobody's garbage waits for it too.
            let mut orphans = lock(&self.orphans);
            if let Some(orphans) = orphans.as_mut()
                && let Some(bag) = self.hand.take()
            {
                orphans.push_front(bag);
                self.note_orphans(orphans);
            }
        }
        self.hand.wait(deadline);
    }

    pub(super) fn newest_orphan(&self) -> u64 {
        let orphans = lock(&self.orphans);
        orphans.iter().flatten().map(Bag::ns).max().unwrap_or(0)
    }

    pub(super) fn wait_until_safe(
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
            self.heed_news(record);
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
}
