//! How much a thread had retired by which time: what a section holds back is the rest.
//!
//! Owns a few marks for each record in a domain, written once in two bags by the record's owner (or by the thread that
//! took its queue over), read by reports. It orders nothing and proves nothing. No thread waits for its
//! lock: an owner that finds it taken leaves the mark out, and a report that does so shows less.

use crate::locks::try_lock;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::collections::VecDeque;
use std::sync::Mutex;

/// Marks that are kept at most. While more bags than this wait, some are left out.
const ROOM: usize = 16;

/// What had been retired with stamps up to this one, since the record was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The stamp, nanoseconds.
    pub(crate) ns: u64,
    pub(crate) items: u64,
    pub(crate) bytes: u64,
}

/// See the file's documentation.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    marks: Mutex<Marks>,
    /// The next mark may be left out: the one before it was not.
    rests: AtomicBool,
}

#[derive(Debug, Default)]
struct Marks {
    /// Oldest first.
    kept: VecDeque<Mark>,
    /// One mark in `1 << thinned` is kept.
    thinned: u32,
    left_out: u64,
}

impl Ledger {
    /// Returns whether a mark is wanted: every second one is enough. Owner only.
    #[inline]
    pub(crate) fn wants(&self) -> bool {
        // Relaxed: one thread's own word.
        let rests = self.rests.load(Relaxed);
        self.rests.store(!rests, Relaxed);
        !rests
    }

    /// Notes a mark; `safe_ns`: no open section began before it. A few stores, and an allocation the
    /// first time.
    pub(crate) fn note(&self, mark: Mark, safe_ns: u64) {
        if let Some(mut marks) = try_lock(&self.marks) {
            marks.note(mark, safe_ns);
        }
    }

    /// Hands every mark to `to`, oldest first.
    fn each(&self, to: impl FnMut(Mark)) {
        if let Some(marks) = try_lock(&self.marks) {
            marks.kept.iter().copied().for_each(to);
        }
    }
}

/// What several threads together had retired by which time: all their marks in one row, so that a search finds it,
/// however many threads there are.
#[derive(Debug, Default)]
pub(crate) struct Together {
    /// In order of time; each with all that came before it.
    marks: Vec<Mark>,
}

impl Together {
    pub(crate) fn new<'l>(ledgers: impl Iterator<Item = &'l Ledger>) -> Together {
        let mut marks = Vec::new();
        for ledger in ledgers {
            let mut last = Mark::default();
            ledger.each(|mark| {
                // A taker's mark may say less than its owner's before it.
                let items = mark.items.wrapping_sub(last.items);
                let bytes = mark.bytes.wrapping_sub(last.bytes);
                marks.push(Mark { items, bytes, ..mark });
                last = mark;
            });
        }
        marks.sort_unstable_by_key(|mark| mark.ns);
        let mut sum = Mark::default();
        for mark in &mut marks {
            sum.items = sum.items.wrapping_add(mark.items);
            sum.bytes = sum.bytes.wrapping_add(mark.bytes);
            (mark.items, mark.bytes) = (sum.items, sum.bytes);
        }
        Together { marks }
    }

    /// Returns what had been retired by the last mark of each thread before the stamp `era`; zeros where none is known.
    pub(crate) fn before(&self, era: u64) -> Mark {
        let later = self.marks.partition_point(|mark| mark.ns < era);
        later.checked_sub(1).map_or(Mark::default(), |last| self.marks[last])
    }
}

impl Marks {
    fn note(&mut self, mark: Mark, safe_ns: u64) {
        // A poisoned domain's stamps never pass.
        if mark.ns == u64::MAX || self.kept.back().is_some_and(|last| last.ns >= mark.ns) {
            return;
        }
        // Of those that every section began after, the last one is enough.
        while self.kept.get(1).is_some_and(|second| second.ns < safe_ns) {
            self.kept.pop_front();
        }
        if self.kept.len() < ROOM / 4 {
            self.thinned = 0;
        }
        self.left_out += 1;
        if self.left_out < 1 << self.thinned {
            return;
        }
        self.left_out = 0;
        if self.kept.len() == ROOM {
            let mut keep = false;
            self.kept.retain(|_| {
                keep = !keep;
                keep
            });
            self.thinned = (self.thinned + 1).min(u64::BITS - 1);
        }
        self.kept.push_back(mark);
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use core::iter::once;
    use proptest::prelude::*;

    fn last_before(ledger: &Ledger, era: u64) -> Mark {
        Together::new(once(ledger)).before(era)
    }

    fn mark(n: u64) -> Mark {
        Mark { ns: 10 * n, items: 64 * n, bytes: 512 * n }
    }

    #[test]
    fn the_last_mark_before_an_era() {
        let ledger = Ledger::default();
        assert_eq!(last_before(&ledger, u64::MAX), Mark::default());
        (1..=5).for_each(|n| ledger.note(mark(n), 0));
        assert_eq!(last_before(&ledger, 10), Mark::default(), "strictly");
        assert_eq!(last_before(&ledger, 11), mark(1));
        assert_eq!(last_before(&ledger, 35), mark(3));
        ledger.note(Mark { ns: u64::MAX, ..mark(9) }, 0);
        ledger.note(mark(4), 0);
        assert_eq!(last_before(&ledger, u64::MAX), mark(5));
    }

    #[test]
    fn what_no_section_needs_is_forgotten() {
        let ledger = Ledger::default();
        (1..=1000).for_each(|n| ledger.note(mark(n), (10 * n).saturating_sub(25)));
        let marks = try_lock(&ledger.marks).expect("nobody else");
        assert_eq!(marks.thinned, 0);
        assert!(marks.kept.len() <= 4, "{marks:?}");
    }

    proptest! {
        /// Many ledgers against a walk over each of them.
        #[test]
        fn together_they_are_the_sum(
            notes in proptest::collection::vec((0..4usize, 1..9u64, 0..100u64), 0..80), ask in 0..400u64,
        ) {
            let ledgers: [Ledger; 4] = Default::default();
            let mut last = [Mark::default(); 4];
            for (who, ns, items) in notes {
                let Mark { ns: before, items: had, .. } = last[who];
                let items = had + items;
                last[who] = Mark { ns: before + ns, items, bytes: 8 * items };
                ledgers[who].note(last[who], 0);
            }
            let found = Together::new(ledgers.iter()).before(ask);
            let mut walked = (0, 0);
            for ledger in &ledgers {
                let mut of_this = Mark::default();
                ledger.each(|mark| if mark.ns < ask { of_this = mark });
                walked = (walked.0 + of_this.items, walked.1 + of_this.bytes);
            }
            prop_assert_eq!((found.items, found.bytes), walked);
        }

        /// Never more than what had been retired before, and short of it by one part in seven of what
        /// came after the oldest era that is asked for, at most; whatever was there before the stall.
        #[test]
        fn marks_are_thinned(before in 0..40u64, stalled in 1..3000u64, ask in 0..100u64) {
            let ledger = Ledger::default();
            (1..=before).for_each(|n| ledger.note(mark(n), (10 * n).saturating_sub(25)));
            let safe = 10 * before;
            (before + 1..=before + stalled).for_each(|n| ledger.note(mark(n), safe));
            let n = before + stalled * ask / 100;
            let found = last_before(&ledger, 10 * n + 1);
            prop_assert!(found.items <= 64 * n);
            prop_assert!(64 * n - found.items <= 64 * (stalled / 7 + 2), "{found:?} for {n}");
        }
    }
}
