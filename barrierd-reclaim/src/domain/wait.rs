//! The calls whose purpose is to free: `flush` frees what it can, `synchronize` waits for the rest.

use super::Domain;
#[cfg(not(barrierd_loom))]
use crate::bag::pace;
use crate::engine::flights::Landing;
use crate::engine::record::Record;
use crate::engine::running::Attended;
use crate::error::SynchronizeError;
use crate::evidence::purchase::Asked;
use crate::evidence::purchase::Uncovered;
use crate::later::Backoff;
use crate::platform::now_ns;
use crate::protocol;
use crate::sync::stage;
use std::time::Instant;

impl Domain {
    /// Seals, scans, and frees everything that is safe.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn flush(&self, record: &Record) {
        // SAFETY: the caller owns the record.
        unsafe { self.flush_as(record, None) };
    }

    /// Does the same, and leaves to the domain what is not reclaimable yet, so that the next call of any thread frees
    /// it, as in crossbeam-epoch.
    ///
    /// # Safety
    /// The caller owns `record`.
    #[cfg(not(barrierd_loom))]
    pub(crate) unsafe fn flush_for_all(&self, record: &Record) {
        // SAFETY: the caller owns the record.
        unsafe { self.flush_as(record, Some(pace::ORPHANS_PER_FLUSH)) };
    }

    /// With `for_all`, what is not reclaimable is left to the domain, and so many bags of the domain's are freed.
    ///
    /// # Safety
    /// The caller owns `record`.
    unsafe fn flush_as(&self, record: &Record, for_all: Option<usize>) {
        if self.is_forked() {
            return;
        }
        let _frees = record.push_only().free_on_demand();
        let _attended = Attended::new(record);
        // SAFETY: the caller owns the record.
        unsafe {
            let left = self.own(record, |work| {
                let stamp = self.fence_and_stamp(record);
                if work.unsealed().items > 0 {
                    work.flushed(false);
                }
                work.seal(stamp);
                self.note_sealed(record, work, stamp);
                if self.is_lazy() && record.push_only().in_destructor() {
                    // The background thread frees the rest.
                    self.hand_off(work);
                } else {
                    let again = work.is_impatient();
                    let asked = if again { Asked::OnFlushAgain } else { Asked::OnFlush };
                    self.scan_and_release(record, work, asked);
                }
                (for_all.is_some() && work.sealed() > 0).then(|| work.leave_sealed())
            });
            if let Some(left) = left {
                if let Some(orphans) = self.lock_orphans().as_mut() {
                    orphans.add(left);
                    self.note_orphans(orphans);
                }
            }
            if for_all.is_some() {
                // Otherwise the background thread may stay asleep.
                self.take_back();
            }
            self.free_all(record, for_all.unwrap_or(usize::MAX));
        }
        self.tell_news(record);
    }

    /// Relieves a domain above a limit: makes a barrier now, if possible, for what is sealed, and frees everything
    /// that is safe by then. Where `retire` frees nothing, all of it is left to the background thread, which already
    /// has it.
    ///
    /// # Safety
    /// The caller owns `record`, outside of destructors.
    pub(crate) unsafe fn relieve(&self, record: &Record) {
        if self.is_lazy() {
            return;
        }
        let _attended = Attended::new(record);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| {
                // This way it covers what was sealed a moment ago.
                self.fence_and_stamp(record);
                self.scan_and_release(record, work, Asked::AtLimit);
            });
            self.free_all(record, usize::MAX);
        }
        self.tell_news(record);
    }

    /// Frees everything that is safe. What was taken over comes first, since it is older than what is here. Of what
    /// lies with the domain, up to `limit` bags are freed.
    ///
    /// # Safety
    /// The caller owns `record`.
    unsafe fn free_all(&self, record: &Record, limit: usize) {
        self.take_marked();
        // The caller has fenced and taken a stamp.
        let before = protocol::above(record.reader().last_stamp());
        self.free_orphans(record, limit, before, true);
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, usize::MAX) };
    }

    /// Waits until everything that was retired here before the call can be freed, frees it, and waits for other
    /// threads that are freeing some of it.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn synchronize(
        &self,
        record: &Record,
        deadline: Instant,
    ) -> Result<(), SynchronizeError> {
        self.may_wait(record)?;
        let _attended = Attended::new(record);
        let _frees = record.push_only().free_on_demand();
        let stamp = self.fence_and_stamp(record);
        // SAFETY: the caller owns the record.
        let newest = unsafe {
            self.own(record, |work| {
                work.seal(stamp);
                self.note_sealed(record, work, stamp);
                work.newest_sealed()
            })
        };
        // If the queue was taken over, its items are found with the domain.
        self.take_marked();
        let stamp = stamp.max(newest).max(self.newest_orphan());
        self.wait_until_safe(record, stamp, deadline)?;
        // What was taken over is older than what is here.
        self.take_back();
        let before = protocol::above(stamp);
        self.free_orphans(record, usize::MAX, before, true);
        // SAFETY: the caller owns the record.
        unsafe {
            self.own(record, |work| self.release(work));
            self.free(record, usize::MAX);
        }
        self.land(record, before, deadline)
    }

    /// Returns an error, if a wait for readers could never end.
    pub(super) fn may_wait(&self, record: &Record) -> Result<(), SynchronizeError> {
        if self.is_forked() {
            return Err(SynchronizeError::Forked);
        }
        if self.in_destructor(record) {
            return Err(SynchronizeError::InDestructor);
        }
        if record.reader().is_pinned() || record.interval().is_open() {
            return Err(SynchronizeError::Pinned);
        }
        Ok(())
    }

    /// Frees what lies with the domain, and waits for what other threads have taken from there.
    fn land(
        &self,
        record: &Record,
        before: u64,
        deadline: Instant,
    ) -> Result<(), SynchronizeError> {
        loop {
            // The owner's own queue may have been marked since it was sealed; it has left that by now.
            self.take_marked();
            self.take_back();
            // This comes before the frees: they find what has come back by now, and what comes back later is counted.
            let returned = self.flights().returned();
            stage();
            self.free_orphans(record, usize::MAX, before, true);
            let late = Instant::now() >= deadline;
            self.wait_for_others(deadline)?;
            if self.flights().returned() == returned {
                return Ok(());
            }
            // A destructor on another thread panicked, or a flush took the bag from it: the rest of the bag is back.
            if late {
                return Err(SynchronizeError::Destructors { threads: 1 });
            }
        }
    }

    /// Waits until the destructors that other threads are running, of what threads left to the domain, have returned.
    pub(crate) fn wait_for_others(&self, deadline: Instant) -> Result<(), SynchronizeError> {
        match self.flights().wait(Some(deadline)) {
            Landing::Done => Ok(()),
            Landing::Own => Err(SynchronizeError::InDestructor),
            Landing::Late { threads } => Err(SynchronizeError::Destructors { threads }),
        }
    }

    /// Looks for as long as a barrier would take, at most, whether the readers show that they have seen `stamp`: those
    /// that open one section after another do so within two of them, and then none of them is interrupted. `own`: a
    /// stamp of the calling thread, later than `stamp`.
    ///
    /// It decides when to scan, and proves nothing: the scan that follows collects its own evidence.
    fn watch_readers(&self, own: u64, stamp: u64, deadline: Instant) {
        let until = now_ns().saturating_add(self.barriers().watch_ns());
        // Where the daemon's barrier or another thread's has come, the scan finds it.
        while self.collect(own) <= stamp && !self.has_passed(stamp) {
            let late = now_ns() >= until || Instant::now() >= deadline;
            stage();
            if late {
                break;
            }
            core::hint::spin_loop();
        }
    }

    pub(super) fn wait_until_safe(
        &self,
        record: &Record,
        stamp: u64,
        deadline: Instant,
    ) -> Result<(), SynchronizeError> {
        let mut backoff = Backoff::new();
        let mut why = None;
        let mut asked = Asked::Now;
        loop {
            let late = Instant::now() >= deadline;
            let own = self.fence_and_stamp(record);
            if asked == Asked::Now {
                self.watch_readers(own, stamp, deadline);
            }
            // What the readers have seen may cover it. Then nothing is bought.
            let scan = self.scan(own, asked, &|watermark| Uncovered::some(watermark <= stamp));
            if self.is_safe(stamp) {
                return Ok(());
            }
            self.tell_news(record);
            let Some(scan) = scan else { return Err(SynchronizeError::Poisoned) };
            let barrier_passed = scan.watermark > stamp;
            if late {
                return Err(if barrier_passed {
                    SynchronizeError::Readers { readers: self.readers_before(stamp).max(1) }
                } else {
                    let refused = self.is_refused().then(|| "the kernel refuses membarrier".into());
                    let why = why.or(refused).unwrap_or_else(|| "it was too near".into());
                    SynchronizeError::NoBarrier { why }
                });
            }
            if barrier_passed {
                // Once the barrier has passed, only readers are waited for, and nothing more is bought. Readers end
                // their sections without notice, so this scans again, ever more rarely.
                asked = Asked::Nothing;
                backoff.sleep(deadline);
            } else {
                why = self.barriers().wait(stamp, deadline, || self.counters().waited()).or(why);
            }
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::super::Settings;
    use super::*;
    use crate::bag::Item;
    use crate::evidence::barriers::Barriers;
    use crate::evidence::source::Source;
    use crate::locks::lock;
    use core::sync::atomic::AtomicBool;
    use core::sync::atomic::AtomicUsize;
    use core::sync::atomic::Ordering;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    /// A reader that goes on is given a moment to show what it has seen. (Where another test has just bought a barrier,
    /// nothing is bought either.)
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn readers_that_go_on_are_watched_before_a_barrier_is_bought() {
        let barriers = Barriers::choose(Source::Membarrier, None).expect("this kernel has it");
        let domain = Domain::new(barriers, &Settings { background: false, ..Settings::default() });
        let (record, reader) = (domain.acquire(), domain.acquire());
        let section = || {
            domain.pin(reader);
            reader.reader().unpin();
        };
        let late = Instant::now() + Duration::from_secs(20);
        for _ in 0..10 {
            // Two steps in `take_marked`, then the one after the first look at the readers.
            crate::sync::preempt_at(2, section, || {
                // SAFETY: the record is this thread's.
                assert_eq!(unsafe { domain.synchronize(record, late) }, Ok(()));
            });
        }
        assert_eq!(domain.stats().other_syscalls, 0);
        domain.close();
    }

    static FREED: AtomicUsize = AtomicUsize::new(0);
    static GATE: AtomicBool = AtomicBool::new(false);

    unsafe fn count(p: *mut ()) {
        if p.addr() == 40 {
            while !GATE.load(Ordering::Acquire) {
                thread::yield_now();
            }
        }
        FREED.fetch_add(1, Ordering::SeqCst);
    }

    /// While one thread waits, what the background thread has in flight goes back to the domain, into flight again,
    /// and from there to a third thread.
    #[test]
    fn a7_ok_means_that_all_destructors_have_returned() {
        let settings = Settings { background: false, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        let domain = &domain;
        let left = domain.acquire();
        for n in 0..60 {
            let item = Item::new(core::ptr::without_provenance_mut(n), count);
            // SAFETY: the record is this thread's; `count` touches nothing of the item's.
            unsafe { Domain::retire::<false>(left, item, 8) };
        }
        // SAFETY: the record is this thread's; `count` touches nothing of the item's.
        unsafe { domain.hand_over(left) };
        thread::sleep(Duration::from_millis(1));
        domain.scan_in_background(Asked::InBackground);
        let late = Instant::now() + Duration::from_secs(20);
        thread::scope(|scope| {
            let (go, gone) = channel::<()>();
            let (ack, acked) = channel::<()>();
            let bg = scope.spawn(move || {
                let bg = domain.acquire();
                let next = || domain.in_flight().next(1);
                // What is safe, then the rest of it.
                for _ in 0..2 {
                    let flight = domain.take_in_flight(bg).expect("safe");
                    let one = next().expect("there");
                    ack.send(()).unwrap();
                    gone.recv().unwrap();
                    // SAFETY: `count` touches nothing, and it is the only call.
                    unsafe { one.free() };
                    assert!(next().is_none());
                    drop(flight);
                }
            });
            acked.recv().unwrap();
            let acked = Mutex::new(acked);
            let go2 = go.clone();
            let (t1, t3) = (
                domain.acquire() as *const Record as usize,
                domain.acquire() as *const Record as usize,
            );
            let t1 = scope.spawn(move || {
                // SAFETY: the domain, which outlives the scope, has it for this thread.
                let t1 = unsafe { &*(t1 as *const Record) };
                let mut answer = None;
                // stages: two in take_marked, then land's.
                let came = crate::sync::preempt_at(
                    2,
                    || {
                        go2.send(()).unwrap();
                        lock(&acked).recv().unwrap();
                    },
                    || answer = Some(domain.land(t1, u64::MAX, late)),
                );
                assert!(came);
                (answer.unwrap(), FREED.load(Ordering::SeqCst))
            });
            thread::sleep(Duration::from_millis(100));
            let t3 = scope.spawn(move || {
                // SAFETY: the domain, which outlives the scope, has the record for this thread.
                let t3 = unsafe { &*(t3 as *const Record) };
                // SAFETY: the record is this thread's.
                unsafe { domain.synchronize(t3, late) }
            });
            thread::sleep(Duration::from_millis(100));
            go.send(()).unwrap();
            thread::sleep(Duration::from_millis(200));
            let early = t1.is_finished();
            GATE.store(true, Ordering::Release);
            let (answer, freed) = t1.join().unwrap();
            println!("early: {early}, {answer:?}, freed then: {freed}");
            t3.join().unwrap().unwrap();
            bg.join().unwrap();
            assert!(!early && freed == 60, "{answer:?} with {freed} of 60 freed");
        });
        domain.close();
    }
}
