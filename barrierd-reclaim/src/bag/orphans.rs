//! Bags that no thread owns: what threads leave, and what is taken over from them.
//!
//! Owns their order, so that no question that is asked under the domain's lock costs a walk over them all,
//! however many there are: which is reclaimable next, how old is the oldest, is any later than a watermark. What a
//! thread leaves comes here whole, as one *run* per kind, in the order of its stamps. This file knows nothing of locks,
//! and never runs a destructor.

use super::held::HeldBags;
use super::{Bag, Spares};
use crate::bag::inbox::{Inbox, Taken};
use crate::protocol::Safe;
use crate::protocol::holders::Holders;
use core::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most bags that are sorted in from an inbox under one hold of the domain's lock.
const SORTED_AT_ONCE: usize = 64;

/// The bags of a queue that its thread leaves.
#[derive(Default)]
pub(crate) struct Left {
    /// Found safe, and held by no reader: free for good (docs/proofs/holders.md, "What a hazard holds").
    pub(super) free: VecDeque<Bag>,
    /// Bags that wait, oldest first.
    pub(super) sealed: VecDeque<Bag>,
    /// Bags that were not in that order, each run of one kind.
    pub(super) held: Vec<VecDeque<Bag>>,
}

impl Left {
    /// Returns every bag.
    pub(crate) fn into_bags(self) -> impl Iterator<Item = Bag> {
        let waiting = self.sealed.into_iter().chain(self.held.into_iter().flatten());
        self.free.into_iter().chain(waiting)
    }
}

/// A time, nanoseconds, and a number that tells those with the same time apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key(u64, u64);

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        super::counted();
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Runs of bags, by the stamps of their first ones.
#[derive(Default)]
struct Runs {
    /// A bag, and those after it: a run of one takes no allocation of its own.
    by_stamp: BTreeMap<Key, (Bag, VecDeque<Bag>)>,
    /// When the first item came of each run's first bag, for reports.
    by_opening: BTreeSet<Key>,
    numbers: u64,
}

impl Runs {
    fn insert(&mut self, first: Bag, behind: VecDeque<Bag>) {
        self.numbers += 1;
        self.put(self.numbers, first, behind);
    }

    fn put(&mut self, number: u64, first: Bag, behind: VecDeque<Bag>) {
        self.by_opening.insert(Key(first.opened_ns, number));
        self.by_stamp.insert(Key(first.ns, number), (first, behind));
    }

    /// Returns the least stamp, nanoseconds.
    fn least_ns(&self) -> Option<u64> {
        self.by_stamp.first_key_value().map(|(key, _)| key.0)
    }

    /// Returns when the oldest bag was opened, nanoseconds.
    fn opened_ns(&self) -> Option<u64> {
        self.by_opening.first().map(|key| key.0)
    }

    /// Takes out the bag with the least stamp.
    fn pop(&mut self) -> Option<Bag> {
        let (Key(_, number), (bag, mut behind)) = self.by_stamp.pop_first()?;
        self.by_opening.remove(&Key(bag.opened_ns, number));
        if let Some(next) = behind.pop_front() {
            self.put(number, next, behind);
        }
        Some(bag)
    }

    fn into_bags(self) -> impl Iterator<Item = Bag> {
        self.by_stamp
            .into_values()
            .flat_map(|(first, behind)| core::iter::once(first).chain(behind))
    }
}

/// Splits a run into its first bag and those after it; where there are none, the rest has no room for any.
fn split(mut run: VecDeque<Bag>) -> Option<(Bag, VecDeque<Bag>)> {
    let first = run.pop_front()?;
    Some((first, if run.is_empty() { VecDeque::new() } else { run }))
}

/// See the file's documentation.
#[derive(Default)]
pub(crate) struct Orphans {
    /// Free for good.
    free: Runs,
    /// Bags without births, by stamp.
    plain: Runs,
    /// Those with births.
    born: Runs,
    /// Bags that are safe, except that a single reader holds them.
    held: HeldBags,
    /// No bag in `plain` and `born` has a later stamp, nanoseconds: the latest that there ever was. (A bag is taken out
    /// once `safe` is above its stamp, and callers ask whether a watermark is above this: the answer is the same
    /// as for the latest stamp that is left.)
    newest_ns: u64,
    /// Out of an inbox, and not sorted in yet.
    unsorted: Taken<Bag>,
    spares: Spares,
}

impl core::fmt::Debug for Orphans {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Orphans").field("least_ns", &self.least_ns()).finish_non_exhaustive()
    }
}

impl Orphans {
    /// Takes what a thread leaves.
    pub(crate) fn add(&mut self, left: Left) {
        let Left { free, sealed, held } = left;
        if let Some((first, behind)) = split(free) {
            self.free.insert(first, behind);
        }
        held.into_iter().chain([sealed]).for_each(|run| self.wait_in_order(run));
    }

    /// Takes a bag, or what is left of it, that was taken out as free and not freed.
    pub(crate) fn put_back(&mut self, bag: Bag) {
        if bag.waiting() > 0 {
            self.free.insert(bag, VecDeque::new());
        }
    }

    fn wait_in_order(&mut self, run: VecDeque<Bag>) {
        if let Some((first, behind)) = split(run) {
            self.wait(first, behind);
        }
    }

    fn wait(&mut self, first: Bag, behind: VecDeque<Bag>) {
        let last = behind.back().unwrap_or(&first);
        self.newest_ns = self.newest_ns.max(last.ns);
        let runs = if first.birth == 0 { &mut self.plain } else { &mut self.born };
        runs.insert(first, behind);
    }

    /// Sorts in some bags that were put into `inbox`. Call it again while it returns true, with the same `inbox_due`, true
    /// at first: then everything is here that was in the inbox at the first call.
    pub(crate) fn sort_in(&mut self, inbox: &Inbox<Bag>, inbox_due: &mut bool) -> bool {
        if self.unsorted.is_empty() && core::mem::take(inbox_due) {
            self.unsorted = inbox.take();
        }
        for _ in 0..SORTED_AT_ONCE {
            let Some(bag) = self.unsorted.next() else { break };
            self.wait(bag, VecDeque::new());
        }
        *inbox_due || !self.unsorted.is_empty()
    }

    /// Returns a time that no bag here is stamped before, nanoseconds: 0 where the stamp alone says nothing. (After
    /// the first bag of a run that a reader held there may be earlier ones, which are safe already and are taken out
    /// with it.)
    pub(crate) fn least_ns(&self) -> u64 {
        if !self.free.by_stamp.is_empty() || !self.held.holds_nothing() || !self.unsorted.is_empty()
        {
            return 0;
        }
        let least = |runs: &Runs| runs.least_ns().unwrap_or(u64::MAX);
        least(&self.plain).min(least(&self.born))
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Orphans { free, plain, born, held, unsorted, .. } = self;
        [free, plain, born].into_iter().all(|runs| runs.by_stamp.is_empty())
            && held.holds_nothing()
            && unsorted.is_empty()
    }

    /// Returns whether there may be a bag whose stamp `watermark` is not above.
    pub(crate) fn is_uncovered(&self, watermark: u64) -> bool {
        let waits = |runs: &Runs| !runs.by_stamp.is_empty();
        !self.unsorted.is_empty()
            || (waits(&self.plain) || waits(&self.born)) && self.newest_ns >= watermark
    }

    /// Returns a time that no bag here has a later stamp than, nanoseconds.
    pub(crate) fn newest_ns(&self) -> u64 {
        self.newest_ns
    }

    /// Returns when the first item of the oldest bag came, nanoseconds.
    pub(crate) fn opened_ns(&self) -> Option<u64> {
        let runs = [&self.free, &self.plain, &self.born].into_iter().filter_map(Runs::opened_ns);
        runs.chain(Some(self.held.oldest_ns())).min().filter(|&ns| ns != u64::MAX)
    }

    /// Returns whether [`take`](Orphans::take) would find a bag to check.
    pub(crate) fn is_worth_a_look(&self, safe: Safe, holders: &Holders) -> bool {
        !self.free.by_stamp.is_empty()
            || self.next(safe, holders).is_some()
            || self.held.is_worth_a_look(holders)
    }

    /// Returns where the next bag is that `safe` is above, by nanoseconds alone: with births or without.
    fn next(&self, safe: Safe, holders: &Holders) -> Option<bool> {
        let plain = self.plain.least_ns().filter(|&ns| ns < holders.without_birth(safe).ns);
        let born = self.born.least_ns().filter(|&ns| ns < safe.ns);
        match (plain, born) {
            (None, None) => None,
            (plain, born) => Some(plain.is_none_or(|plain| born.is_some_and(|born| born < plain))),
        }
    }

    /// Takes out a reclaimable bag. What single readers hold of the bags that are checked stays here, and is not
    /// checked again while they hold it. `safe` was loaded before the scan that made `holders`, and both under the
    /// lock that this is called under: no scan is older than one that came before it here. `checks`: the number of
    /// bags that may be checked.
    pub(crate) fn take(
        &mut self,
        safe: Safe,
        holders: &Holders,
        checks: &mut usize,
    ) -> Option<Bag> {
        // Another holder may still hold it.
        let (mut gone, mut free) = (Vec::new(), VecDeque::new());
        self.held.each_gone(holders, |_, bags| gone.push(VecDeque::from(core::mem::take(bags))));
        gone.into_iter().for_each(|run| self.wait_in_order(run));
        self.held.release_hazarded(holders, &mut free, &mut self.spares);
        free.into_iter().for_each(|bag| self.put_back(bag));
        loop {
            if let Some(bag) = self.free.pop() {
                return Some(bag);
            }
            if *checks == 0 {
                return None;
            }
            let runs = if self.next(safe, holders)? { &mut self.born } else { &mut self.plain };
            let bag = runs.pop()?;
            *checks -= 1;
            let free = self.held.sift(bag, holders, &mut self.spares);
            if free.is_some() {
                return free;
            }
        }
    }

    /// Returns every bag.
    pub(crate) fn into_bags(self) -> impl Iterator<Item = Bag> {
        let Orphans { free, plain, born, mut held, unsorted, .. } = self;
        let runs = [free, plain, born].into_iter().flat_map(Runs::into_bags);
        runs.chain(held.take_all().into_iter().flatten()).chain(unsorted)
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::bag::Item;
    use proptest::prelude::*;

    unsafe fn nothing(_: *mut ()) {}

    fn bag(ns: u64, birth: u64, opened_ns: u64) -> Bag {
        let mut bag = Spares::default().bag();
        bag.add(Item::new(core::ptr::null_mut(), nothing));
        (bag.ns, bag.birth, bag.opened_ns) = (ns, birth, opened_ns);
        bag
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Stamps, in order, and whether they are of bags with births.
        Leave(Vec<u64>, bool),
        HandOver(u64),
        /// `safe`.
        Take(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let run = (proptest::collection::vec(1..1000u64, 0..6), any::<bool>());
        prop_oneof![
            run.prop_map(|(mut run, born)| {
                run.sort_unstable();
                Step::Leave(run, born)
            }),
            (1..1000u64).prop_map(Step::HandOver),
            (1..1200u64).prop_map(Step::Take),
        ]
    }

    proptest! {
        /// Beside a plain list. The stamp of a bag is when it was opened, too, so that both orders are known.
        #[test]
        fn every_question_is_answered_as_by_a_walk(
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let (mut orphans, inbox) = (Orphans::default(), Inbox::new());
            let (mut all, mut safe_ns) = (Vec::new(), 0);
            let holders = Holders::default();
            for step in steps {
                match step {
                    Step::Leave(run, born) => {
                        // What comes is younger than what has gone.
                        let run: Vec<u64> = run.into_iter().map(|ns| safe_ns + ns).collect();
                        all.extend(&run);
                        let run = run.iter().map(|&ns| bag(ns, u64::from(born), ns)).collect();
                        orphans.add(Left { sealed: run, ..Left::default() });
                    }
                    Step::HandOver(ns) => {
                        all.push(safe_ns + ns);
                        inbox.push(bag(safe_ns + ns, 0, safe_ns + ns));
                    }
                    Step::Take(ns) => {
                        safe_ns = safe_ns.max(ns);
                        let safe = Safe { ns: safe_ns, vtime: 0 };
                        let mut inbox_due = true;
                        while orphans.sort_in(&inbox, &mut inbox_due) {}
                        all.sort_unstable();
                        while let Some(bag) = orphans.take(safe, &holders, &mut 1) {
                            prop_assert!(bag.ns < safe_ns);
                            prop_assert_eq!(bag.ns, all.remove(0), "the oldest first");
                        }
                        prop_assert!(all.first().is_none_or(|&ns| ns >= safe_ns));
                    }
                }
                let mut inbox_due = true;
                while orphans.sort_in(&inbox, &mut inbox_due) {}
                all.sort_unstable();
                prop_assert_eq!(orphans.is_empty(), all.is_empty());
                prop_assert_eq!(orphans.opened_ns(), all.first().copied());
                prop_assert_eq!(orphans.least_ns(), all.first().copied().unwrap_or(u64::MAX));
                // Watermarks are no less than what is safe.
                for watermark in [safe_ns, safe_ns + 1, safe_ns + 500, safe_ns + 1001] {
                    let uncovered = all.last().is_some_and(|&ns| ns >= watermark);
                    prop_assert_eq!(orphans.is_uncovered(watermark), uncovered);
                }
                let safe = Safe { ns: safe_ns, vtime: 0 };
                prop_assert_eq!(
                    orphans.is_worth_a_look(safe, &holders),
                    all.first().is_some_and(|&ns| ns < safe_ns)
                );
            }
            let mut left: Vec<u64> = orphans.into_bags().map(|bag| bag.ns).collect();
            left.sort_unstable();
            prop_assert_eq!(left, all);
        }
    }

    #[test]
    fn what_comes_back_goes_first_without_another_look() {
        let mut orphans = Orphans::default();
        orphans.add(Left { held: vec![[bag(5, 0, 5)].into()], ..Left::default() });
        let (safe, holders) = (Safe { ns: 9, vtime: 0 }, Holders::default());
        let taken = orphans.take(safe, &holders, &mut 1).expect("safe");
        assert!(orphans.is_empty() && orphans.take(safe, &holders, &mut 1).is_none());
        orphans.put_back(taken);
        assert_eq!(orphans.least_ns(), 0);
        assert!(orphans.take(Safe::default(), &holders, &mut 0).is_some());
        let mut emptied = bag(5, 0, 5);
        emptied.next();
        orphans.put_back(emptied);
        assert!(orphans.is_empty());
    }
}
