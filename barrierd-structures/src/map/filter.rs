//! Filters: bits beside the table that say of most absent keys that they are absent, so that nothing else is touched for them.
//!
//! It knows hashes and the list's order, neither keys nor values. A map has none until its table has [`LEAST`] buckets: below that
//! all of it lies in caches.
//!
//! # What a filter is
//! One bit for each hash, as in a Bloom filter with one function: the hash's first bits choose a word, and all of its bits,
//! mixed once more, the bit in it: any of them alone may be the same in all hashes of a weak hasher.
//! Bits are only ever set. So a filter says "absent" or "may be there", and it says the latter of more and more keys: of those that are there, of
//! those that were, and of others with the same bit. Once it says so too often, or the table has grown, another filter takes its place. "Too often" is told from
//! words in which many bits came to be set since the switch, so what is there all the time never makes two filters: from one to the next
//! there are insertions for half of the words at least.
//!
//! # How one takes another's place
//! 1. *Begin*: [`Filters::next`] gets one with no bits set (an exchange from null, so there is one at a time). From then on
//!    whoever inserts an absent key sets its bit there too, before it links the node.
//! 2. *Wait*: those that loaded `next` before, and may link a node without its bit, are in sections. A token is retired, and its
//!    release says that all of them have ended ([`Token::is_ready`]). Nobody waits for it. The table may have grown meanwhile, with no bound:
//!    a filter that is too small for it by now is *given up* before its first piece, and another one begun.
//! 3. *Fill*: each insertion walks a piece of the list, as many words as 16 buckets of the table have, and sets the bits of what is there.
//! 4. *Switch*: the one that ends the last piece stores it to [`Filters::now`] (Release), then null to `next` (Release), and retires the old one.
//!
//! A thread that never goes on (the process has forked, and this is the child) may leave a filter unfinished for ever. Then the old one
//! stays, which is as right, or none.
//!
//! # Why a bit that is not set means absent
//! Let a reader load a filter F from `now`, and find the bit of its key not set. Then the key was absent at some moment of the search, in
//! the key's own order (`mod.rs`, "Moments"). For suppose that the reader sees an insertion of the key, by happens-before, which no removal
//! followed. It loaded `next`, and then `now`, both Acquire, before it linked its node.
//! - It found F in one of them: it set the bit, or saw it set, before its exchange (Release). So the reader sees it set, by coherence:
//!   nobody takes a bit away.
//! - It loaded `next` before F's beginning. Then its section ended before F was filled (2), and the walk over the key's piece
//!   came after it. The key was there throughout that walk, or removed before it ended. In the first case the walk has met a node of the
//!   key (`mod.rs`), and set the bit, before the switch (Release, Acquire: `done`, then `now`), hence before the reader's load. In the second the
//!   key was absent, and the next insertion of it is the one to ask about.
//! - It loaded `next` after the switch from F to another filter G, and so `now` as G or later. Then the switch happens before the
//!   reader's load of `now`, which did not find F.
//! - It loaded `next` after a filter was given up, which was in `next` alone. The null that takes it away is a Release too, by a thread that acquired `next`, and with it
//!   the switch before (the exchange that began it goes on with the release sequence of the null before). So who loads that null finds `now`
//!   as after that switch: F or a later one, if F was switched to before. (No model rejects a Relaxed null: the section that loads it
//!   began after the token's wait, or it would have been waited for.) Whoever gives up has exchanged `begun` from 0 to all, so nobody has begun a
//!   piece or ever will, and there is no switch to what was given up.
//!
//! That it loads `next` first matters: a null of after the switch is an Acquire of `now` as it was switched to.
//!
//! The switch has to be a Release even so that a reader may follow the pointer: all that it has of the filter's words, their number and their
//! bits, which are Relaxed by themselves, it has by its Acquire of `now`, and by nothing else if it never loads `next` or `is_ready`.
//! With a Relaxed switch it might see a word of before the walk, and call a key absent that was there throughout; no model here rejects that
//! mutant, so this argument alone holds it.
//!
//! An entry that takes the place of another of its key finds the bit set, in every filter in which the key's insertion has to have it, so
//! only insertions of absent keys set bits.
//!
//! Along happens-before this is as good as a walk: a reader that is told "absent" by F has acquired the switch to F, and
//! with it the walk, which saw whatever removal it passed over.

pub(super) use super::bits::{Filter, Token};
use super::fetch::fetch;
use super::link::{self, AtomicPtr};
use super::node::Header;
use super::retire::Retire;
use super::table::Table;
use crate::sync::{Mutant, broken};
use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::Arc;

/// The fewest buckets for which there is a filter: their slots fill half of a second cache.
const LEAST: usize = if cfg!(test) { 8 } else { 1 << 16 };
/// A new filter's bytes for each bucket. The table may double twice before it has less than one, and the next one is begun.
const BYTES: usize = 4;

/// A list's filters.
pub(super) struct Filters {
    /// The one that readers go by, or null.
    now: AtomicPtr<Filter>,
    /// The one that is being filled, or null. Each of the two is a box's.
    next: AtomicPtr<Filter>,
    #[cfg(all(test, not(barrierd_loom)))]
    counts: tests::Counts,
}

impl Filters {
    /// For a list with no entries.
    pub(super) fn new(buckets: usize) -> Filters {
        let first = if buckets < LEAST { None } else { Filter::new(buckets) };
        Filters {
            now: AtomicPtr::new(first.map_or(ptr::null_mut(), Box::into_raw)),
            next: AtomicPtr::new(ptr::null_mut()),
            #[cfg(all(test, not(barrierd_loom)))]
            counts: tests::Counts::default(),
        }
    }

    /// Returns whether there is no entry of this hash. If not, there may be one.
    ///
    /// # Safety
    /// A section is open of the reclaimer that the list's nodes are retired to.
    #[inline]
    pub(super) unsafe fn rule_out(&self, hash: usize) -> bool {
        // Acquire: with all that was set before the switch to it.
        let now = self.now.load(Acquire);
        // SAFETY: not null; retired after it was replaced, so it stays while the section is open.
        !now.is_null() && unsafe { &*now }.rules_out(hash)
    }

    /// Has a hash's words fetched: a locked instruction that has to wait for its memory lets nothing else go on.
    ///
    /// # Safety
    /// As for `rule_out`.
    #[inline]
    pub(super) unsafe fn fetch(&self, hash: usize) {
        for filter in [&self.next, &self.now] {
            let filter = filter.load(Acquire);
            if !filter.is_null() {
                // SAFETY: as in `rule_out`.
                fetch(unsafe { &*filter }.word(hash));
            }
        }
    }

    /// Sets the bit of a hash that an entry is about to get. Returns whether [`crowded`](Filters::crowded) is to be called.
    ///
    /// # Safety
    /// As for `rule_out`; and the section stays open until the entry is linked.
    #[inline]
    pub(super) unsafe fn add(&self, hash: usize) -> bool {
        // Acquire, both, and in this order: see above.
        let early = broken(Mutant::NowBeforeNext).then(|| self.now.load(Acquire));
        let next = self.next.load(Acquire);
        if !next.is_null() {
            // SAFETY: as in `rule_out`.
            unsafe { &*next }.add(hash);
        }
        let now = early.unwrap_or_else(|| self.now.load(Acquire));
        // SAFETY: as in `rule_out`.
        !now.is_null() && unsafe { &*now }.add(hash)
    }

    /// Begins another filter if the one that is there has become too small for so many buckets.
    ///
    /// # Safety
    /// As for `rule_out`, and `section` is that section.
    pub(super) unsafe fn grown(&self, section: &impl Retire, buckets: usize) {
        let now = self.now.load(Acquire);
        // SAFETY: as in `rule_out`.
        let bytes = if now.is_null() { 0 } else { unsafe { &*now }.bytes() };
        if buckets >= LEAST && bytes < buckets {
            // SAFETY: the caller's promise.
            unsafe { self.begin(section, buckets) };
        }
    }

    /// Begins another filter, since too many bits are set in the one that is there.
    ///
    /// # Safety
    /// As for `grown`.
    #[cold]
    pub(super) unsafe fn crowded(&self, section: &impl Retire, buckets: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.begin(section, buckets) };
    }

    /// # Safety
    /// As for `grown`.
    #[cold]
    pub(super) unsafe fn begin(&self, section: &impl Retire, buckets: usize) {
        if !self.next.load(Relaxed).is_null() {
            return;
        }
        let Some(filter) = buckets.checked_mul(BYTES).and_then(Filter::new) else { return };
        let token = filter.token.clone();
        let own = Box::into_raw(filter);
        // Release: it is whole. Acquire is not needed: nothing is read.
        if self.next.compare_exchange(ptr::null_mut(), own, Release, Relaxed).is_err() {
            // SAFETY: made above, and nobody else has it.
            unsafe { Filter::free(own) };
            return;
        }
        #[cfg(all(test, not(barrierd_loom)))]
        self.counts.begun.fetch_add(1, Relaxed);
        // SAFETY: an `Arc`'s own, which goes with the call. It is retired after `next` was changed, so that sections that found it null
        // have ended.
        unsafe { section.retire_token(Arc::into_raw(token).cast_mut()) };
    }

    /// Fills a piece of the next filter, if there is one and its time has come.
    ///
    /// # Safety
    /// As for `grown`; `table` is the list's.
    #[inline]
    pub(super) unsafe fn help(&self, section: &impl Retire, table: &Table) {
        // Acquire: for what it leads to.
        let next = self.next.load(Acquire);
        if !next.is_null() {
            // SAFETY: the caller's promise; as in `rule_out`.
            unsafe { self.fill(section, table, next) };
        }
    }

    /// # Safety
    /// As for `help`; `own` was loaded from `next`.
    #[cold]
    unsafe fn fill(&self, section: &impl Retire, table: &Table, own: *mut Filter) {
        // SAFETY: as in `rule_out`.
        let next = unsafe { &*own };
        // Acquire: with what those linked that never saw `next`.
        if !next.token.is_ready.load(Acquire) && !broken(Mutant::FillUnasked) {
            return;
        }
        let (words, buckets) = (next.words.len(), table.buckets());
        // Relaxed, as below: who has a piece is all that it says. This one keeps the number from rising for ever.
        let begun = next.begun.load(Relaxed);
        if begun >= words {
            return;
        }
        if begun == 0 && next.bytes() < buckets {
            // SAFETY: the caller's promise.
            unsafe { self.give_up(section, own, buckets) };
            return;
        }
        let some = next.piece(buckets);
        let start = next.begun.fetch_add(some, Relaxed);
        if start >= words {
            return;
        }
        let some = some.min(words - start);
        let first = start << next.shift;
        let last = first + (some << next.shift).wrapping_sub(1);
        table.fetch_slots(first, last);
        table.fetch_nodes(first, last);
        // SAFETY: the caller's promise.
        let _steps = unsafe { walk(table, first, last, |hash| _ = next.add(hash)) };
        #[cfg(all(test, not(barrierd_loom)))]
        self.counts.steps.fetch_max(_steps, Relaxed);
        // AcqRel: each piece's bits, and what its walk has seen, come before the switch.
        if next.done.fetch_add(some, AcqRel) + some < words && !broken(Mutant::SwitchEarly) {
            return;
        }
        // What is there from the beginning is no reason for another one.
        next.full.store(0, Relaxed);
        // Once, by one thread. Release, both, and in this order: see above.
        let old = self.now.load(Relaxed);
        self.now.store(own, Release);
        self.next.store(ptr::null_mut(), Release);
        if !old.is_null() {
            // SAFETY: a box's, which no link leads to any more.
            unsafe { section.retire_filter(old) };
        }
    }

    /// Gives up a filter of which no piece was begun, and begins another.
    ///
    /// # Safety
    /// As for `fill`.
    #[cold]
    unsafe fn give_up(&self, section: &impl Retire, own: *mut Filter, buckets: usize) {
        // SAFETY: as in `rule_out`.
        let next = unsafe { &*own };
        let all = next.words.len();
        if broken(Mutant::GiveUpBegun) {
            next.begun.store(all, Relaxed);
        } else if next.begun.compare_exchange(0, all, Relaxed, Relaxed).is_err() {
            return;
        }
        // Release: see above. By one thread alone, as nobody switches to it.
        let seen = self.next.swap(ptr::null_mut(), Release);
        debug_assert_eq!(seen, own, "given up and switched to");
        #[cfg(all(barrierd_loom, test))]
        assert_eq!(seen, own, "given up and switched to");
        // SAFETY: a box's, which no link leads to any more.
        unsafe { section.retire_filter(own) };
        // SAFETY: the caller's promise.
        unsafe { self.begin(section, buckets) };
    }

    /// Returns whether there is a filter that readers go by.
    #[cfg(test)]
    pub(super) fn is_there(&self) -> bool {
        !self.now.load(Acquire).is_null()
    }
}

/// Shows the hashes of all nodes from `first` to `last`, and perhaps others that are in the list. Returns how many nodes and dummies it
/// has passed.
///
/// # Safety
/// As for [`Table::start`].
unsafe fn walk(table: &Table, first: usize, last: usize, mut show: impl FnMut(usize)) -> usize {
    // SAFETY: the caller's promise.
    let mut at = unsafe { table.start(first) }.seen;
    let mut steps = 0;
    loop {
        at = link::unmarked(at);
        steps += 1;
        if link::is_dummy(at) {
            if link::is_beyond(at, last) {
                return steps;
            }
            at = table.behind(at).load(Acquire);
            continue;
        }
        // SAFETY: a node that was in the list when the section was open; so it is not freed yet.
        let node = unsafe { &*at.cast::<Header>() };
        if node.hash > last {
            return steps;
        }
        show(node.hash);
        at = node.next.load(Acquire);
    }
}

impl Drop for Filters {
    fn drop(&mut self) {
        // Relaxed: nobody else is there.
        let (now, next) = (self.now.load(Relaxed), self.next.load(Relaxed));
        // They are the same if the thread that made the switch is another one of before a fork.
        let last = if next == now { ptr::null_mut() } else { next };
        for own in [now, last] {
            if !own.is_null() {
                // SAFETY: a box's. The token of one that is not ready goes by itself, later.
                unsafe { Filter::free(own) };
            }
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
#[path = "filter_tests.rs"]
mod tests;
