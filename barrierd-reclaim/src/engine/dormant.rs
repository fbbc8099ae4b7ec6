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
use core::sync::atomic::AtomicU64;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering;
use std::sync::Mutex;

/// A thread that has opened nothing for this long is idle, nanoseconds; and rounds are at least this far apart.
/// Purchases are as far apart: so the barrier that is bought because of one idle thread is the last one that it
/// costs.
const IDLE_NS: u64 = 2_000_000;

/// One scan marks this many readers, or puts this many to sleep, or up to 63 more: however many there are, no call
/// has to handle all of them.
const READERS_A_SCAN: usize = 128;

/// There is no stamp yet that a round waits for.
const NONE: u64 = u64::MAX;

/// A domain's sleepers.
#[derive(Debug)]
pub(crate) struct Dormant {
    /// The thread that has it locked marks readers, and puts them to sleep. Only ever tried, so no thread waits for
    /// one that has it.
    round: Mutex<Round>,
    /// The stamp that a barrier must have passed for before the round goes on, or [`NONE`]. A hint.
    stop: AtomicU64,
    /// No round begins before this, nanoseconds.
    next_ns: AtomicU64,
    /// Roughly the number of sleepers.
    sleepers: AtomicUsize,
}

/// A round of marks, as far as it has come. The steps of one are those of any number of threads, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// There is none.
    None,
    /// The words of readers before `word` were checked; and whether any reader was marked.
    Marks { word: usize, any: bool },
    /// It awaits the barrier for this stamp, which was taken after the last mark.
    Waits { stop: u64 },
    /// That has passed. The marked readers of the words before `word` sleep, or stay awake.
    Sleeps { word: usize },
}

impl Default for Dormant {
    fn default() -> Dormant {
        Dormant {
            round: Mutex::new(Round::None),
            stop: AtomicU64::new(NONE),
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

    /// Returns what the readers themselves prove ([`protocol::collect`]), except those that sleep, which have nothing
    /// to prove. `own`: a stamp of the calling thread.
    pub(crate) fn collect(&self, own: u64) -> u64 {
        protocol::collect(own, self.records.awake().map(Record::reader))
    }

    /// Calls `each` for some readers that are awake, from the word `word` on. Returns the word to go on with; `None`:
    /// those were the last.
    fn some_awake(&self, mut word: usize, mut each: impl FnMut(&Record)) -> Option<usize> {
        let mut seen = 0;
        while seen < READERS_A_SCAN {
            self.records.awake_in(word)?.for_each(|record| {
                seen += 1;
                each(record);
            });
            word += 1;
        }
        Some(word)
    }

    /// Begins a round, if idle readers hold back what is `collected`, and none is under way; or goes on with its
    /// marks. Returns a stamp of the calling thread: that of the round, if this was its last mark, for which a
    /// barrier should be bought; or `own`, an earlier one.
    pub(crate) fn mark_idle_readers(&self, own: u64, collected: u64) -> u64 {
        let dormant = &self.dormant;
        let is_old = |seen: u64| own.saturating_sub(seen) >= IDLE_NS;
        // Relaxed, this and those below: hints.
        if !is_old(collected) || own < dormant.next_ns.load(Ordering::Relaxed) {
            return own;
        }
        let Some(mut round) = try_lock(&dormant.round) else { return own };
        let (word, mut any) = match *round {
            Round::None => (0, false),
            Round::Marks { word, any } => (word, any),
            Round::Waits { .. } | Round::Sleeps { .. } => return own,
        };
        let next = self.some_awake(word, |record| {
            if record.may_sleep() && record.reader().idle_since().is_some_and(is_old) {
                let (asleep, bed) = self.records.bed(record);
                dormant::mark(record.reader().sleep(), asleep, bed);
                any = true;
            }
        });
        if let Some(word) = next {
            *round = Round::Marks { word, any };
            return own;
        }
        dormant.next_ns.store(own.saturating_add(IDLE_NS), Ordering::Relaxed);
        if !any {
            *round = Round::None;
            return own;
        }
        // After the marks, those of others as well: they were made under the lock. Poisoned: no barrier will pass for
        // it, and no round will follow.
        let stop = self.fence_and_stamp_unlisted();
        *round = Round::Waits { stop };
        dormant.stop.store(stop, Ordering::Relaxed);
        if stop == NONE { own } else { stop }
    }

    /// Goes on with a round whose barrier has passed: a barrier of all CPUs, for what was stamped before `passed`. What
    /// readers have seen is no such barrier. Returns whether any reader fell asleep.
    pub(crate) fn put_to_sleep(&self, passed: u64) -> bool {
        let dormant = &self.dormant;
        if passed <= dormant.stop.load(Ordering::Relaxed) {
            return false;
        }
        let Some(mut round) = try_lock(&dormant.round) else { return false };
        let word = match *round {
            Round::Waits { stop } if passed > stop => 0,
            // By the thread that learned of it, under the lock.
            Round::Sleeps { word } => word,
            _ => return false,
        };
        let mut fallen = 0;
        let next = self.some_awake(word, |record| {
            let (asleep, bed) = self.records.bed(record);
            let nothing_open = || record.is_idle() && record.may_sleep();
            if dormant::fall_asleep(record.reader().sleep(), asleep, bed, nothing_open) {
                fallen += 1;
            }
        });
        dormant.sleepers.fetch_add(fallen, Ordering::Relaxed);
        let (after, stop) = match next {
            Some(word) => (Round::Sleeps { word }, 0),
            None => (Round::None, NONE),
        };
        *round = after;
        dormant.stop.store(stop, Ordering::Relaxed);
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

#[cfg(all(test, not(loom)))]
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
        let stop = domain.fence_and_stamp(own);
        domain.scan(stop, Asked::Now, &|_| Uncovered::some(true)).expect("not poisoned");
        let asleep = domain.records().count() - domain.records.awake().count();
        assert_eq!(domain.sleepers(), asleep);
        asleep
    }

    #[test]
    fn who_opens_nothing_sleeps_until_he_does() {
        let domain = domain();
        let [own, one, two] = [(); 3].map(|()| domain.acquire());
        domain.pin(one);
        one.reader().unpin();
        assert_eq!(rest(&domain, own), 2);
        assert_eq!(rest(&domain, own), 2, "they sleep on");
        // Now only the scanner's own stops count.
        let stop = domain.fence_and_stamp(own);
        assert!(domain.collect(stop) > stop);
        domain.pin(one);
        assert_eq!(domain.sleepers(), 1);
        assert!(domain.collect(domain.fence_and_stamp(own)) > stop, "it shows what it has seen");
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

    /// However many there are, no scan checks all of them for it; and a reader that wakes meanwhile is awake.
    #[test]
    fn a_round_of_many_takes_many_scans() {
        const MANY: usize = 1_000;
        let most = 191;
        let domain = domain();
        let own = domain.acquire();
        let many = [(); MANY].map(|()| domain.acquire());
        std::thread::sleep(Duration::from_nanos(2 * IDLE_NS));
        let marked = || many.iter().filter(|one| one.reader().sleep().is_marked()).count();
        let scan = |asked| {
            let stop = domain.fence_and_stamp(own);
            domain.scan(stop, asked, &|_| Uncovered::some(true)).expect("not poisoned");
        };
        let (mut before, mut scans) = (0, 0);
        while marked() < MANY {
            scan(Asked::Nothing);
            let now = marked();
            assert!((before + 1..=before + most).contains(&now), "{before} {now}");
            (before, scans) = (now, scans + 1);
        }
        assert!(scans >= MANY / most && domain.sleepers() == 0);
        // Some wake before the barrier, others between two scans.
        many[..100].iter().for_each(|one| {
            domain.pin(one);
            one.reader().unpin();
        });
        (before, scans) = (0, 0);
        scan(Asked::Now);
        many[900..].iter().for_each(|one| {
            domain.pin(one);
            one.reader().unpin();
        });
        while domain.sleepers() < MANY - 200 {
            let now = domain.sleepers();
            assert!((before + 1..=before + most).contains(&now), "{before} {now}");
            (before, scans) = (now, scans + 1);
            scan(Asked::Nothing);
        }
        assert!(scans >= (MANY - 200) / most);
        let asleep = domain.records().count() - domain.records.awake().count();
        assert_eq!(asleep, MANY - 200);
        domain.close();
    }

    /// What readers have seen ends no round: it is no barrier.
    #[test]
    fn a_round_waits_for_its_barrier() {
        let domain = domain();
        let [own, one] = [(); 2].map(|()| domain.acquire());
        std::thread::sleep(Duration::from_nanos(2 * IDLE_NS));
        let stop = domain.fence_and_stamp(own);
        let round = domain.mark_idle_readers(stop, domain.collect(stop));
        assert!(round > stop && !domain.put_to_sleep(round));
        assert_eq!(domain.mark_idle_readers(u64::MAX - 1, 0), u64::MAX - 1, "one at a time");
        // It wakes meanwhile.
        domain.pin(one);
        one.reader().unpin();
        assert!(!domain.put_to_sleep(round + 16));
        assert_eq!(rest(&domain, own), 1);
        domain.close();
    }
}
