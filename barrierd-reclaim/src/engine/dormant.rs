//! Which readers are put to sleep, and when: rounds of marks, one at a time.
//!
//! Owns the round and its pace. A round marks readers that have been idle for a while, fences and takes a stamp, and
//! ends with the next barrier of all CPUs, from any source. Marks and sleep themselves are in `protocol/dormant.rs`;
//! the source answers for the barrier.

use super::Engine;
use crate::engine::record::Record;
use crate::locks::try_lock;
use crate::protocol;
use crate::protocol::dormant;
use crate::sync::real::AtomicU64;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering;
use std::sync::Mutex;

/// A thread that has opened nothing for this long is idle, nanoseconds; and rounds are at least this far apart.
/// Purchases are as far apart: so the barrier that is bought because of one idle thread is the last one that it
/// costs.
const IDLE_NS: u64 = 2_000_000;

/// There is no round.
const NONE: u64 = u64::MAX;

/// A domain's sleepers.
#[derive(Debug)]
pub(crate) struct Dormant {
    /// The stamp that was taken after the last mark of a round which awaits its barrier, or [`NONE`]. The thread that has it
    /// locked marks readers, and puts them to sleep. Only ever tried, so no thread waits for one that has it.
    round: Mutex<u64>,
    /// The same, as a hint.
    stamp: AtomicU64,
    /// No round begins before this, nanoseconds.
    next_ns: AtomicU64,
    /// Roughly the number of sleepers.
    sleepers: AtomicUsize,
}

impl Default for Dormant {
    fn default() -> Dormant {
        Dormant {
            round: Mutex::new(NONE),
            stamp: AtomicU64::new(NONE),
            next_ns: AtomicU64::new(0),
            sleepers: AtomicUsize::new(0),
        }
    }
}

impl Engine {
    /// Returns roughly how many readers sleep.
    pub(crate) fn sleepers(&self) -> usize {
        // Relaxed, and wherever it is counted: a hint of what a scan costs.
        self.dormant.sleepers.load(Ordering::Relaxed)
    }

    /// Walks over the readers ([`protocol::walk`]), except those that sleep, which have nothing to prove. `own`: a stamp
    /// of the calling thread.
    pub(crate) fn walk(&self, own: u64) -> protocol::Seen {
        protocol::walk(own, self.records.awake().map(Record::reader))
    }

    /// Returns the watermark alone that a walk collects.
    pub(crate) fn collect(&self, own: u64) -> u64 {
        self.walk(own).collected
    }

    /// Begins a round, if idle readers hold back what is `collected`, and none is under way. Returns a stamp of the calling
    /// thread: that of the round, for which a barrier should be bought, or `own`, an earlier one.
    #[inline]
    pub(crate) fn mark_idle_readers(&self, own: u64, collected: u64) -> u64 {
        if own.saturating_sub(collected) >= IDLE_NS { self.mark_idle_since(own) } else { own }
    }

    /// Does so, once some reader has shown nothing for as long.
    #[cold]
    #[inline(never)]
    fn mark_idle_since(&self, own: u64) -> u64 {
        let dormant = &self.dormant;
        let is_old = |seen: u64| own.saturating_sub(seen) >= IDLE_NS;
        // Relaxed, this and those below: hints.
        if own < dormant.next_ns.load(Ordering::Relaxed) {
            return own;
        }
        let Some(mut round) = try_lock(&dormant.round) else { return own };
        if *round != NONE {
            return own;
        }
        dormant.next_ns.store(own.saturating_add(IDLE_NS), Ordering::Relaxed);
        let mut marked = false;
        for record in self.records.awake() {
            if record.may_sleep() && record.reader().idle_since().is_some_and(is_old) {
                let (asleep, bed) = self.records.bed(record);
                dormant::mark(record.reader().sleep(), asleep, bed);
                marked = true;
            }
        }
        if !marked {
            return own;
        }
        // After the marks. Poisoned: there is none, and no barrier will pass for it.
        let stamp = self.fence_and_stamp_unlisted();
        *round = stamp;
        dormant.stamp.store(stamp, Ordering::Relaxed);
        if stamp == NONE { own } else { stamp }
    }

    /// Ends the round, if its barrier has passed: a barrier of all CPUs, for what was stamped before `passed`. What
    /// readers have seen is no such barrier. Returns whether any reader fell asleep.
    #[inline]
    pub(crate) fn put_to_sleep(&self, passed: u64) -> bool {
        passed > self.dormant.stamp.load(Ordering::Relaxed) && self.end_round(passed)
    }

    #[cold]
    #[inline(never)]
    fn end_round(&self, passed: u64) -> bool {
        let dormant = &self.dormant;
        let Some(mut round) = try_lock(&dormant.round) else { return false };
        // No round is later than any barrier.
        if passed <= *round {
            return false;
        }
        let mut fallen = 0;
        for record in self.records.awake() {
            let (asleep, bed) = self.records.bed(record);
            let nothing_open = || record.is_idle() && record.may_sleep();
            if dormant::fall_asleep(record.reader().sleep(), asleep, bed, nothing_open) {
                fallen += 1;
            }
        }
        dormant.sleepers.fetch_add(fallen, Ordering::Relaxed);
        *round = NONE;
        dormant.stamp.store(NONE, Ordering::Relaxed);
        fallen > 0
    }

    /// Wakes the owner of `record`, which calls it after [`Sleep::is_awake`](dormant::Sleep::is_awake) returned false.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake(&self, record: &Record) {
        record.reader().sleep().wake(|| {
            let (asleep, bed) = self.records.bed(record);
            if asleep.clear(bed) {
                // It may come before the addition, and wrap around for a moment.
                self.dormant.sleepers.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use crate::evidence::purchase::Asked;
    use crate::evidence::purchase::Uncovered;
    use crate::evidence::source::Source;
    use std::time::Duration;

    fn domain() -> Domain {
        let barriers = Barriers::choose(Source::Membarrier, None).expect("membarrier");
        Domain::new(barriers, &Settings { background: false, ..Settings::default() })
    }

    /// Once everybody has been idle for a while: a round, and the barrier that ends it. How many sleep.
    fn rest(domain: &Domain, own: &Record) -> usize {
        std::thread::sleep(Duration::from_nanos(2 * IDLE_NS));
        let stamp = domain.fence_and_stamp(own);
        domain.scan(stamp, Asked::Now, &|_| Uncovered::some(true)).expect("not poisoned");
        let asleep = domain.records().count() - domain.records.awake().count();
        assert_eq!(domain.sleepers(), asleep);
        asleep
    }

    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn who_opens_nothing_sleeps_until_he_does() {
        let domain = domain();
        let [own, one, two] = [(); 3].map(|()| domain.acquire());
        domain.pin(one);
        one.reader().unpin();
        assert_eq!(rest(&domain, own), 2);
        assert_eq!(rest(&domain, own), 2, "they sleep on");
        // Now only the scanner's own stamps count.
        let stamp = domain.fence_and_stamp(own);
        assert!(domain.collect(stamp) > stamp);
        domain.pin(one);
        assert_eq!(domain.sleepers(), 1);
        assert!(domain.collect(domain.fence_and_stamp(own)) > stamp, "it shows what it has seen");
        assert_eq!(rest(&domain, own), 1, "a section is open");
        domain.pin(two);
        two.reader().unpin();
        one.reader().unpin();
        assert_eq!(domain.sleepers(), 0);
        assert_eq!(rest(&domain, own), 2, "all of them again");
        // The cost of a scan is that of who is awake.
        assert_eq!(domain.scan_cost(), 1);
        domain.close();
    }

    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn who_holds_something_stays_awake() {
        let domain = domain();
        let [own, holder, robust] = [(); 3].map(|()| domain.acquire());
        robust.expect_interval();
        holder.expect_hazard();
        holder.expect_hazard();
        holder.lose_hazard();
        assert_eq!(rest(&domain, own), 0);
        holder.lose_hazard();
        assert_eq!(rest(&domain, own), 1);
        holder.expect_hazard();
        assert_eq!(domain.sleepers(), 0);
        holder.lose_hazard();
        assert_eq!(rest(&domain, own), 1, "once a robust guard, never asleep");
        domain.close();
    }

    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn no_sleeper_is_counted_who_is_gone() {
        let domain = domain();
        let [own, gone] = [(); 2].map(|()| domain.acquire());
        assert_eq!(rest(&domain, own), 1);
        domain.give_back_unused(gone);
        assert_eq!((domain.sleepers(), domain.scan_cost()), (0, 1));
        let again = domain.acquire();
        assert!(core::ptr::eq(gone, again));
        assert!(domain.collect(domain.fence_and_stamp(own)) <= domain.fence_and_stamp(own));
        domain.close();
    }

    /// What readers have seen ends no round: it is no barrier.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn a_round_waits_for_its_barrier() {
        let domain = domain();
        let [own, one] = [(); 2].map(|()| domain.acquire());
        std::thread::sleep(Duration::from_nanos(2 * IDLE_NS));
        let stamp = domain.fence_and_stamp(own);
        let round = domain.mark_idle_readers(stamp, domain.collect(stamp));
        assert!(round > stamp && !domain.put_to_sleep(round));
        assert_eq!(domain.mark_idle_readers(u64::MAX - 1, 0), u64::MAX - 1, "one at a time");
        // It wakes meanwhile.
        domain.pin(one);
        one.reader().unpin();
        assert!(!domain.put_to_sleep(round + 16));
        assert_eq!(rest(&domain, own), 1);
        domain.close();
    }
}
