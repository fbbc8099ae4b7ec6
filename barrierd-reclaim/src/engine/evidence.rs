//! From stamps and sources to what is reclaimable: stamps, watermarks, scans, purchases.
//!
//! Owns the order: evidence first, slots after, holders last. The steps themselves are in `protocol/mod.rs`
//! and `protocol/holders.rs`.

use super::Engine;
use super::Found;
use super::Passive;
use crate::bag::Work;
use crate::bag::pace;
use crate::engine::record::Record;
use crate::evidence::membarrier::{self, Membarrier};
use crate::evidence::purchase;
use crate::evidence::purchase::Asked;
use crate::evidence::purchase::Uncovered;
use crate::evidence::source::ActiveSource;
use crate::locks::try_lock;
use crate::platform::client::FUTURE_SLACK_NS;
use crate::platform::client::abi::CLOCK_MARGIN_NS;
use crate::platform::client::time_ns;
use crate::platform::now_ns;
use crate::protocol;
use crate::protocol::Learned;
use crate::protocol::Safe;
use crate::protocol::Scan;
use crate::protocol::holders;
use crate::protocol::holders::Holders;
use crate::sync::FLOOR;
use crate::sync::fence;
use core::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::time::Duration;

impl Engine {
    /// Fences and takes a stamp for a thread without a record.
    pub(crate) fn fence_and_stamp_unlisted(&self) -> u64 {
        self.judge(self.words.fence_and_stamp(&FLOOR, now_ns))
    }

    /// Fences and takes a stamp for the record's owner. Returns the stamp; one that never passes if the clock can't be
    /// trusted.
    pub(crate) fn fence_and_stamp(&self, record: &Record) -> u64 {
        self.judge(record.reader().fence_and_stamp(&self.words, &FLOOR, now_ns))
    }

    /// Returns the stamp, or one that never passes if the clock can't be trusted.
    ///
    /// A clock that lies behind what an earlier stamp found on it may have stepped back while it was slewed, by
    /// any amount: then it is still the daemon's clock, whose evidence is below all that it shows, and
    /// the stamp follows the earlier ones. Or it is another clock than before (setns into another time namespace):
    /// then stamps would be too early for the daemon's watermarks.
    pub(crate) fn judge(&self, stamp: protocol::Stamp) -> u64 {
        if stamp.lag_ns > CLOCK_MARGIN_NS
            && self.barriers.compares_clocks()
            && is_another_clock(time_ns::is_initial(), stamp.lag_ns)
        {
            // Relaxed, here and where it is loaded: this stamp is refused below, whenever other threads see the flag,
            // and each later one is judged for itself.
            self.poisoned.store(true, Ordering::Relaxed);
        }
        if self.poisoned.load(Ordering::Relaxed) { u64::MAX } else { stamp.ns }
    }

    /// Takes evidence, then scans the readers, and releases what is safe. The owner has just taken a
    /// stamp, and `work` is its queue.
    pub(crate) fn scan_and_release(&self, record: &Record, work: &mut Work<'_>, asked: Asked) {
        let own = record.reader().last_stamp();
        work.scanned();
        // A call that is asked to free looks after what other threads have left, too.
        let flushes = matches!(asked, Asked::OnFlush | Asked::OnFlushAgain);
        let left = flushes && self.has_orphans();
        let newest = work.newest_sealed();
        let uncovered = |watermark| {
            if newest < watermark && !left {
                return Uncovered::default();
            }
            let own = work.uncovered(watermark);
            let others = left && self.has_uncovered_orphan(watermark);
            let all = match own.any() {
                true => own,
                // None of those is stamped before that.
                false => Uncovered { items: usize::from(others), oldest_ns: watermark },
            };
            // No barrier sets free what another thread's section holds; the caller's own section may end any time.
            let held = || self.is_pinned_before(all.oldest_ns, record);
            if flushes && all.any() && held() { Uncovered::default() } else { all }
        };
        let scan = self.scan(own, asked, &uncovered);
        if let Some(scan) = scan {
            if flushes {
                let in_vain = uncovered(scan.watermark).any();
                work.flushed(in_vain);
            }
            let (safe, holders) = self.reclaimable();
            if !self.may_be_held() || pace::worth_scanning(1, self.scan_cost()) {
                work.release(safe, &holders);
            } else {
                // For threads that do not scan as well. A thread that holds the lock has a pair that is as good.
                let found = Arc::new(Found { safe, holders });
                if let Some(mut shared) = try_lock(&self.found) {
                    *shared = Some(found.clone());
                }
                work.release(safe, &found.holders);
            }
        }
    }

    /// Called when the owner has sealed `bags` of its queue. If it is time for a scan, the owner scans for all
    /// threads of the domain; else it releases what others' scans have found.
    pub(crate) fn scan_in_turn(&self, record: &Record, work: &mut Work<'_>, bags: usize) {
        let cost = self.scan_cost();
        let worth = |sealed| pace::worth_scanning(sealed, cost);
        // Where each seal is worth a scan, seals need not be counted.
        if worth(1) || self.words.must_scan(bags, worth) {
            self.scan_and_release(record, work, Asked::OnRetire);
        } else {
            self.release_found(work);
        }
    }

    /// Releases what others' scans have found safe, for no more than that is worth. A scan of all intervals
    /// and hazards would be as dear as one of the readers, so the result of the last thread that scanned is used.
    ///
    /// It makes no difference which thread scans and which frees. `safe` is loaded Acquire, from the scan's Release
    /// (`Words::safe`). And what one scan of the holders, after `safe` was loaded, found held by no reader is free
    /// for good (`protocol/holders.rs`). So the pair of the two is as true for a thread that takes it over by a lock,
    /// and at any later time; but the scan of the holders is not true with another `safe`.
    pub(super) fn release_found(&self, work: &mut Work<'_>) {
        if !work.has_safe(self.words.safe()) {
            return;
        }
        if !self.may_be_held() {
            return self.release(work);
        }
        let found = try_lock(&self.found).and_then(|found| found.clone());
        if let Some(found) = found {
            work.release_shared(found.safe, &found.holders);
        }
    }

    /// Returns the price of a scan of the readers and holders, in words of other threads that are loaded.
    pub(crate) fn scan_cost(&self) -> usize {
        self.records.cost().saturating_sub(self.sleepers()) + self.hazards.cost()
    }

    /// Releases what is safe, by this or another thread's scan, except what single readers hold.
    pub(crate) fn release(&self, work: &mut Work<'_>) {
        let (safe, holders) = self.reclaimable();
        work.release(safe, &holders);
    }

    /// Returns what is reclaimable, and the holders of the rest.
    pub(crate) fn reclaimable(&self) -> (Safe, Holders) {
        holders::reclaimable(&self.words, || {
            if !self.may_be_held() {
                return Holders::default();
            }
            let any = self.has_intervals.load(Ordering::Acquire);
            let open = || {
                let records = any.then(|| self.records.in_use().map(Record::interval));
                records.into_iter().flatten()
            };
            Holders::collect(open, || self.hazards.iter())
        })
    }

    /// Returns whether barriers that came by themselves, or that any thread bought, cover the stamp. A hint.
    pub(crate) fn has_passed(&self, stamp: u64) -> bool {
        self.barriers.membarrier().is_some_and(|bought| bought.watermark_ns() > stamp)
            || self.barriers.passive().is_some_and(|news| news.ns > stamp)
    }

    /// Returns whether another's section is open that had not seen the stamp `stamp` when it began. For a decision
    /// what to buy: proves nothing.
    fn is_pinned_before(&self, stamp: u64, own: &Record) -> bool {
        self.records.awake().any(|record| {
            !core::ptr::eq(record, own) && record.reader().pinned().is_some_and(|seen| seen < stamp)
        })
    }

    /// Returns whether a hazard or an interval ever was in the domain.
    fn may_be_held(&self) -> bool {
        // Acquire, as for the head of a list.
        self.has_intervals.load(Ordering::Acquire) || !self.hazards.is_empty()
    }

    /// Runs one scan: evidence first, then the slots. `own`: a stamp of the calling thread. `uncovered` returns how
    /// many of its items a watermark does not cover.
    pub(crate) fn scan(
        &self,
        own: u64,
        asked: Asked,
        uncovered: &dyn Fn(u64) -> Uncovered,
    ) -> Option<Scan> {
        if self.poisoned.load(Ordering::Relaxed) || self.is_forked() {
            return None;
        }
        // Whatever holds evidence back: what a stalled robust guard keeps was born before a thread scans with a later stamp.
        self.words.next_era(own);
        let mut memory = None;
        let learn = || {
            if self.readers_fence {
                // Pairs with the fence after a reader's check (`Sleep::wake`): between the stamp and the loads of the
                // slots.
                fence(Ordering::SeqCst);
                return Learned::from(own);
            }
            // What all CPUs have passed. Before the walk, so that one serves for both.
            let mut passed = self.barriers.membarrier().map_or(0, Membarrier::watermark_ns);
            if let Some(news) = self.barriers.passive() {
                passed = passed.max(news.ns);
                memory = self.adopt(news);
            }
            // A reader that has just been put to sleep need not be waited for.
            self.put_to_sleep(passed);
            let walk = self.walk(own);
            let stamp = self.mark_idle_readers(own, walk.collected);
            let watermark = walk.collected.max(passed);
            // Others may have learned a later one meanwhile.
            let known = watermark.max(self.words.watermark());
            let found = uncovered(known);
            let buy = || self.buy(found, known, stamp, asked, uncovered);
            let Some(bought) = found.any().then(buy).flatten() else {
                return Learned { watermark, walk: Some(walk) };
            };
            self.put_to_sleep(bought);
            Learned::from(watermark.max(bought))
        };
        // A reader that sleeps by now has no section open that could have found anything that this watermark covers.
        let readers = || self.records.awake().map(Record::reader);
        let scan = protocol::scan(&self.words, learn, readers);
        if let Some(passive) = memory {
            self.words.publish_vtime(passive.memory.passed(scan.oldest));
        }
        self.counters.scanned(scan.advanced);
        Some(scan)
    }

    /// Adopts a round of the daemon, by one thread: the lock is held until its scan is done. A scan that panics leaves the
    /// memory whole, each of whose entries is true by itself, and keeps no later round out.
    fn adopt(&self, news: protocol::Evidence) -> Option<MutexGuard<'_, Passive>> {
        let mut passive = try_lock(&self.passive)?;
        if news.ns <= passive.last_ns {
            return None;
        }
        passive.last_ns = news.ns;
        // After the virtual time was learned. Not the era: it trails what readers pin.
        let latest = self.words.latest();
        passive.memory.remember(latest, news.vtime);
        self.counters.round(ActiveSource::Daemon);
        Some(passive)
    }

    /// Returns the time until the background thread may buy another barrier, where it has to.
    pub(crate) fn purchase_in(&self) -> Option<Duration> {
        let membarrier = self.barriers.membarrier()?;
        if self.barriers.keeps_up() || membarrier.is_refused() {
            return None;
        }
        Some(Duration::from_nanos(membarrier.affordable_in_ns(now_ns())))
    }

    /// Buys a barrier for what was `found` uncovered, if one can be had and is worth it.
    #[cold]
    fn buy(
        &self,
        found: Uncovered,
        watermark: u64,
        own: u64,
        asked: Asked,
        uncovered: &dyn Fn(u64) -> Uncovered,
    ) -> Option<u64> {
        let Some(membarrier) = self.barriers.membarrier() else {
            // The result shows in the daemon's watermark.
            let urgent = matches!(asked, Asked::AtLimit | Asked::OnFlush | Asked::OnFlushAgain);
            if urgent && self.barriers.expedite(own) {
                self.counters.bought(asked);
            }
            return None;
        };
        let wanted = match asked {
            Asked::Nothing => false,
            Asked::Now => !self.barriers.keeps_up(),
            Asked::OnFlush | Asked::OnFlushAgain => {
                if !membarrier.is_registered() && self.barriers.keeps_up() {
                    // Nearly there, for less than the registration would take.
                    if self.barriers.expedite(own) {
                        self.counters.bought(asked);
                    }
                    return None;
                }
                asked == Asked::OnFlushAgain || membarrier.is_worth_a_flush(own)
            }
            Asked::OnRetire | Asked::OnExit => {
                let is_worth =
                    |items| purchase::worth_buying(items, membarrier.price_ns(), self.budget);
                let worth = is_worth(found.items) && is_worth(self.would_go(watermark, uncovered));
                // Little garbage goes in time, too: what readers that are active see by themselves is not waited
                // for as long.
                let old = asked == Asked::OnExit
                    || membarrier.is_old(found.oldest_ns, own) && !self.is_held_at(watermark);
                let due = old && membarrier.is_due(own) && !self.barriers.keeps_up();
                (worth || due) && !membarrier.is_under_way(own)
            }
            Asked::AtLimit => {
                self.would_go(watermark, uncovered) > 0
                    && membarrier.is_affordable(own)
                    && !membarrier.is_under_way(own)
            }
            Asked::InBackground => !self.barriers.keeps_up() && !membarrier.is_under_way(own),
            Asked::Again => {
                !self.barriers.keeps_up()
                    && membarrier.is_affordable(own)
                    && !membarrier.is_under_way(own)
            }
        };
        let leaves_it = || self.leaves_registration(asked, found.items);
        if !wanted || !membarrier.is_ready(own, leaves_it) {
            return None;
        }
        self.counters.bought(asked);
        match membarrier.buy(own) {
            Ok(watermark) => {
                self.counters.round(ActiveSource::Membarrier);
                Some(watermark)
            }
            // A refusal (a seccomp filter that came later) means no watermark: the garbage is kept.
            Err(_) => {
                self.counters.refused();
                None
            }
        }
    }
}

impl Engine {
    /// Returns how many of the items that `watermark` does not cover a barrier would set free: those that no section
    /// which is open now holds back, the caller's own included. A later barrier covers the others as well. A hint.
    ///
    /// Where an interval is open it is all of them: it holds back only what is older than its last load.
    fn would_go(&self, watermark: u64, uncovered: &dyn Fn(u64) -> Uncovered) -> usize {
        let all = uncovered(watermark).items;
        // Relaxed: what is bought is a matter of price.
        let is_open = |record: &Record| record.interval().is_open();
        if self.has_intervals.load(Ordering::Relaxed) && self.records.in_use().any(is_open) {
            return all;
        }
        let readers = self.records.awake().map(Record::reader);
        let Some(oldest) = readers.filter_map(protocol::Reader::pinned).min() else { return all };
        all.saturating_sub(uncovered(watermark.max(protocol::above(oldest))).items)
    }

    /// Returns whether an open section holds back all that `watermark` does not cover: then a barrier makes nothing
    /// reclaimable. Once the section has ended its thread shows what it has seen, or a barrier is worth its price. A
    /// hint.
    fn is_held_at(&self, watermark: u64) -> bool {
        let mut readers = self.records.awake().map(Record::reader);
        readers.any(|reader| reader.pinned().is_some_and(|seen| seen < watermark))
    }

    /// Returns whether the caller leaves the registration for membarrier to the background thread, which then waits
    /// for it in the caller's place. A caller above its budget, or the domain's limits, registers by itself.
    fn leaves_registration(&self, asked: Asked, uncovered: usize) -> bool {
        matches!(asked, Asked::OnRetire | Asked::OnExit)
            && uncovered < self.budget
            && self.attended
            && membarrier::is_attended()
    }

    /// Called by the background thread, while something waits: registers the process for membarrier, if no daemon keeps
    /// up or some thread wanted to buy all the same. May take some 10 ms, once a process.
    pub(crate) fn prepare_to_buy(&self) {
        let Some(membarrier) = self.barriers.membarrier() else { return };
        if !membarrier.is_prepared(|| !self.barriers.keeps_up()) && membarrier.prepare() {
            self.counters.refused();
        }
    }
}

/// A clock that lags by this, nanoseconds, for an unknown reason counts as another one: the daemon's clients call a
/// clock wrong by the same.
const MOST_LAG_NS: u64 = FUTURE_SLACK_NS;

/// Returns whether a clock that is `lag_ns` behind what it showed is another one than the daemon's. A daemon's
/// file is opened in the initial time namespace alone, so a process that is still there reads the same clock.
fn is_another_clock(initial: std::io::Result<bool>, lag_ns: u64) -> bool {
    initial.map_or(lag_ns >= MOST_LAG_NS, |initial| !initial)
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use crate::evidence::source::Source;
    use std::io::{Error, ErrorKind};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    #[test]
    fn a_panic_in_a_scan_keeps_out_no_later_round() {
        let barriers = Barriers::choose(Source::Fence, None).expect("any system has them");
        let domain = Domain::new(barriers, &Settings { background: false, ..Settings::default() });
        let round = |ns| protocol::Evidence { ns, vtime: ns };
        drop(domain.adopt(round(1 << 60)).expect("news"));
        // Without a word to standard error, as a scan that panics while it holds the lock.
        let unwinds = catch_unwind(AssertUnwindSafe(|| {
            let _held = domain.adopt(round(2 << 60)).expect("news");
            resume_unwind(Box::new(()));
        }));
        assert!(unwinds.is_err());
        assert!(domain.adopt(round(2 << 60)).is_none(), "no news");
        assert!(domain.adopt(round(3 << 60)).is_some(), "adopted as before");
        domain.close();
    }

    /// Whatever holds evidence back, what is born after a scan is younger than what an open interval holds.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn eras_move_without_evidence() {
        let barriers = Barriers::choose(Source::Membarrier, None).expect("this kernel has it");
        let domain = Domain::new(barriers, &Settings { background: false, ..Settings::default() });
        let [own, stale, robust] = [(); 3].map(|()| domain.acquire());
        // From here on it shows nothing later.
        domain.pin(stale);
        stale.reader().unpin();
        robust.interval().open(domain.words(), false);
        let (_, end) = robust.interval().ends().expect("open");
        let stamp = domain.fence_and_stamp(own);
        domain.scan(stamp, Asked::Nothing, &|_| Uncovered::default()).expect("not poisoned");
        assert!(holders::birth(domain.words(), now_ns) > end);
        robust.interval().close();
        domain.close();
    }

    /// A barrier that is bought after the walk is newer than what that walk saw: a pin whose store was still on its way
    /// then (here it is made, with an old stamp, while the scan finds out what it would buy for) holds its items back.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn after_a_purchase_the_scan_walks_again() {
        let barriers = Barriers::choose(Source::Membarrier, None).expect("this kernel has it");
        let domain = Domain::new(barriers, &Settings { background: false, ..Settings::default() });
        let [own, late] = [(); 2].map(|()| domain.acquire());
        let old = domain.fence_and_stamp(late);
        let stamp = domain.fence_and_stamp(own);
        let shows = |_: u64| {
            late.reader().show(old);
            Uncovered::some(true)
        };
        let scan = domain.scan(stamp, Asked::Now, &shows).expect("not poisoned");
        assert!(scan.watermark > stamp, "bought");
        assert_eq!(scan.oldest, Some(old));
        assert!(domain.words().safe().ns <= protocol::above(old));
        late.reader().unpin();
        domain.close();
    }

    /// Eras go on with what is retired, also where no retiring thread scans.
    #[test]
    fn eras_move_where_retire_frees_nothing() {
        let barriers = Barriers::choose(Source::Fence, None).expect("any system has them");
        let settings = Settings { background: false, lazy: true, ..Settings::default() };
        let domain = Domain::new(barriers, &settings);
        let [own, robust] = [(); 2].map(|()| domain.acquire());
        robust.interval().open(domain.words(), true);
        let (_, end) = robust.interval().ends().expect("open");
        unsafe fn nothing(_: *mut ()) {}
        for n in 1..200 {
            let item = crate::bag::Item::new(core::ptr::without_provenance_mut(n), nothing);
            // SAFETY: the record is this thread's; `nothing` touches nothing of the item's.
            unsafe { Domain::retire::<false>(own, item, 8) };
        }
        assert!(holders::birth(domain.words(), now_ns) > end);
        robust.interval().close();
        domain.close();
    }

    /// An era is the greatest stamp that a scan began with: a scan with an earlier one moves nothing back.
    #[test]
    fn a_scan_with_an_earlier_stamp_begins_no_era() {
        let barriers = Barriers::choose(Source::Fence, None).expect("any system has them");
        let domain = Domain::new(barriers, &Settings { background: false, ..Settings::default() });
        let [one, two] = [(); 2].map(|()| domain.acquire());
        let first = domain.fence_and_stamp(one);
        let second = domain.fence_and_stamp(two);
        for own in [second, first] {
            domain.scan(own, Asked::Nothing, &|_| Uncovered::default()).expect("not poisoned");
            assert_eq!(domain.words().era(), second);
        }
        domain.close();
    }

    #[test]
    fn b1_only_another_time_namespace_is_another_clock() {
        let hour = 3_600_000_000_000;
        assert!(!is_another_clock(Ok(true), hour), "a slew, however far");
        assert!(is_another_clock(Ok(false), CLOCK_MARGIN_NS + 1));
        let unknown = || Err(Error::from(ErrorKind::NotFound));
        assert!(!is_another_clock(unknown(), 400_000) && is_another_clock(unknown(), hour));
    }
}
