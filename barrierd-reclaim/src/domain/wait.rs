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
                    self.look(record, work, Asked::OnFlush);
                }
            });
            self.free_all(record);
        }
        self.heed_news(record);
    }

    /// What lies in the owner's open bags: items, bytes.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn unsealed(&self, record: &Record) -> (u64, u64) {
        // SAFETY: the caller owns the record; `unsealed` runs no foreign code.
        let (items, bytes) = unsafe { self.own(record, |work| work.unsealed()) };
        (items as u64, bytes as u64)
    }

    /// Above a limit: a barrier now, if one can be had, for what is sealed, and everything that is safe by then.
    /// Where `retire` frees nothing it is all left to the background thread, which has it already.
    ///
    /// # Safety
    /// The caller owns `record`, outside of destructors.
    pub(crate) unsafe fn relieve(&self, record: &Record) {
        if self.lazy {
            return;
        }
        let _attended = Attended::new(record);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| {
                // So that it covers what was sealed a moment ago: a watermark lets go what is of an earlier grain.
                // (0: a poisoned domain's.)
                let later = work.newest_sealed().checked_add(protocol::GRAIN).unwrap_or(0);
                self.judge(record.reader().full_stop(&self.words, &FLOOR, || now_ns().max(later)));
                self.look(record, work, Asked::AtLimit);
            });
            self.free_all(record);
        }
        self.heed_news(record);
    }

    /// Everything that is safe: what was taken over first, since it is older than what is here.
    ///
    /// # Safety
    /// The caller owns `record`.
    unsafe fn free_all(&self, record: &Record) {
        self.take_marked();
        self.free_orphans(record, usize::MAX, true);
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, usize::MAX) };
    }

    /// Waits until all that was retired here before the call can be freed, frees it, and waits for others that
    /// are freeing some of it.
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
        self.take_out_of_hand();
        self.free_orphans(record, usize::MAX, true);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| self.release(work));
            self.free(record, usize::MAX);
        }
        self.land(record, deadline)
    }

    /// Frees what lies with the domain, and waits for what others have taken from there.
    fn land(&self, record: &Record, deadline: Instant) -> Result<(), SynchronizeError> {
        loop {
            // Before the frees: what comes back by then is found by them, what comes back later is counted.
            let returned = self.flights.returned();
            self.take_out_of_hand();
            self.free_orphans(record, usize::MAX, true);
            match self.flights.wait(Some(deadline)) {
                Landing::Own => return Err(SynchronizeError::InDestructor),
                Landing::Late { threads } => return Err(SynchronizeError::Destructors { threads }),
                // A destructor of theirs panicked, and the rest of its bag is back.
                Landing::Done if self.flights.returned() != returned => {}
                Landing::Done => return Ok(()),
            }
        }
    }

    /// Waits until those have returned whose destructors others are running of what threads left to the domain.
    #[cfg(not(loom))]
    pub(crate) fn wait_for_others(&self, deadline: Instant) -> Result<(), SynchronizeError> {
        match self.flights.wait(Some(deadline)) {
            Landing::Done => Ok(()),
            Landing::Own => Err(SynchronizeError::InDestructor),
            Landing::Late { threads } => Err(SynchronizeError::Destructors { threads }),
        }
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
