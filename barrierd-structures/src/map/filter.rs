//! Filters: bits beside the table that say of most absent keys that they are absent, so that nothing else is touched for them.
//!
//! It knows hashes and the list's order, neither keys nor values. A map has none until its table has [`LEAST`] buckets: below that
//! all of it lies in caches.
//!
//! # What a filter is
//! One bit for each hash, as in a Bloom filter with one function: the hash's first bits choose a word, others the bit in it.
//! Bits are only ever set. So a filter says "absent" or "may be there", and it says the latter of more and more keys: of those that are there, of
//! those that were, and of others with the same bit. Once it says so too often, or the table has grown, another filter takes its place.
//!
//! # How one takes another's place
//! 1. *Begin*: [`Filters::next`] gets one with no bits set (an exchange from null, so there is one at a time). From then on
//!    whoever inserts an absent key sets its bit there too, before it links the node.
//! 2. *Wait*: those that loaded `next` before, and may link a node without its bit, are in sections. A token is retired, and its
//!    release says that all of them have ended ([`Filter::is_ready`]). Nobody waits for it.
//! 3. *Fill*: each insertion walks a piece of the list, and sets the bits of what is there.
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

use super::fetch::fetch;
use super::link::{self, AtomicBool, AtomicPtr, AtomicUsize};
use super::list::Retire;
use super::node::Header;
use super::table::Table;
use crate::sync::{Mutant, broken};
use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crossbeam_utils::CachePadded;
use std::sync::Arc;

/// The fewest buckets for which there is a filter: their slots fill half of a second cache.
const LEAST: usize = if cfg!(test) { 8 } else { 1 << 16 };
/// A new filter's bytes for each bucket. The table may double twice before it has less than one, and the next one is begun.
const BYTES: usize = 4;
/// Words of a filter that are filled at once: as many as 16 buckets have in a new one.
const PIECE: usize =
    if cfg!(all(barrierd_loom, test)) { 1 } else { 16 * BYTES / size_of::<usize>() };
/// The bits of a hash that choose the bit in a word begin here: below those that choose the word, and where a product's bits depend on
/// many of the factor's.
const BIT_FROM: u32 = if usize::BITS == 64 { 26 } else { 4 };
/// One of so many bits that are set is counted, as so many.
const SAMPLE: usize = 64;

pub(super) struct Filter {
    words: Box<[AtomicUsize]>,
    /// What is left of a hash behind the bits that choose the word.
    shift: u32,
    /// About as many bits as were set.
    set: CachePadded<AtomicUsize>,
    /// Whether all that might insert without a look at it have ended.
    is_ready: AtomicBool,
    /// How many pieces were begun, and how many were ended.
    begun: AtomicUsize,
    done: AtomicUsize,
}

fn zeroed(words: usize) -> Option<Box<[AtomicUsize]>> {
    #[cfg(not(all(barrierd_loom, test)))]
    {
        let layout = std::alloc::Layout::array::<AtomicUsize>(words).ok()?;
        // SAFETY: not of size 0.
        let first = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<AtomicUsize>();
        // SAFETY: allocated with this layout, as a box would; zeros are valid.
        (!first.is_null())
            .then(|| unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(first, words)) })
    }
    #[cfg(all(barrierd_loom, test))]
    Some((0..words).map(|_| AtomicUsize::new(0)).collect())
}

impl Filter {
    /// Makes one with no bit set, of a power of two of bytes; or none without memory.
    fn new(bytes: usize) -> Option<Arc<Filter>> {
        let words = (bytes / size_of::<usize>()).max(2);
        Some(Arc::new(Filter {
            words: zeroed(words)?,
            shift: usize::BITS - words.trailing_zeros(),
            set: CachePadded::new(AtomicUsize::new(0)),
            is_ready: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        }))
    }

    fn bytes(&self) -> usize {
        self.words.len() * size_of::<usize>()
    }

    #[inline]
    fn word(&self, hash: usize) -> &AtomicUsize {
        &self.words[hash >> self.shift]
    }

    /// Relaxed: bits alone are read, and are never taken away. What they were set for is seen by other words.
    #[inline]
    fn rules_out(&self, hash: usize) -> bool {
        self.word(hash).load(Relaxed) & bit(hash) == 0
    }

    /// Sets a hash's bit. Returns whether too many are set by now, as a guess that is made now and then.
    #[inline]
    fn add(&self, hash: usize) -> bool {
        // Relaxed: the exchange that links the node is a Release. If the bit is set, by whomever, who sees the node sees it, too.
        if !self.rules_out(hash) {
            return false;
        }
        self.word(hash).fetch_or(bit(hash), Relaxed);
        // Other bits of the hash than those that chose this one.
        let is_counted = (hash >> (BIT_FROM / 2)) & (SAMPLE - 1) == 0;
        is_counted && self.set.fetch_add(SAMPLE, Relaxed) > 3 * self.bytes()
    }

    /// Says that all that had begun before have ended.
    ///
    /// # Safety
    /// The pointer is an [`Arc`]'s own, which goes.
    unsafe fn ready(token: *mut Filter) {
        // SAFETY: the caller's promise.
        let filter = unsafe { Arc::from_raw(token) };
        // Release: with what they linked.
        filter.is_ready.store(true, Release);
    }

    /// # Safety
    /// The pointer is an [`Arc`]'s own, which goes.
    unsafe fn release(own: *mut Filter) {
        // SAFETY: the caller's promise.
        drop(unsafe { Arc::from_raw(own) });
    }
}

#[inline]
fn bit(hash: usize) -> usize {
    1 << ((hash >> BIT_FROM) & (usize::BITS as usize - 1))
}

/// A list's filters.
pub(super) struct Filters {
    /// The one that readers go by, or null.
    now: AtomicPtr<Filter>,
    /// The one that is being filled, or null. Each of the two is an [`Arc`]'s own.
    next: AtomicPtr<Filter>,
}

impl Filters {
    /// For a list with no entries.
    pub(super) fn new(buckets: usize) -> Filters {
        let first = if buckets < LEAST { None } else { Filter::new(buckets) };
        let now = first.map_or(ptr::null_mut(), |filter| Arc::into_raw(filter).cast_mut());
        Filters { now: AtomicPtr::new(now), next: AtomicPtr::new(ptr::null_mut()) }
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
        let token = Arc::into_raw(filter.clone()).cast_mut();
        let own = Arc::into_raw(filter).cast_mut();
        // Release: it is whole. Acquire is not needed: nothing is read.
        if self.next.compare_exchange(ptr::null_mut(), own, Release, Relaxed).is_err() {
            // SAFETY: both were made above, and nobody else has them.
            unsafe {
                Filter::release(own);
                Filter::release(token);
            }
            return;
        }
        // SAFETY: an `Arc`'s own, which goes with the call. It is retired after `next` was changed, so that sections that found it null
        // have ended.
        unsafe { section.retire_filter(token, Filter::ready) };
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
            unsafe { self.fill(section, table, &*next) };
        }
    }

    /// # Safety
    /// As for `help`.
    #[cold]
    unsafe fn fill(&self, section: &impl Retire, table: &Table, next: &Filter) {
        // Acquire: with what those linked that never saw `next`.
        if !next.is_ready.load(Acquire) && !broken(Mutant::FillUnasked) {
            return;
        }
        let piece = PIECE.min(next.words.len());
        let pieces = next.words.len() / piece;
        // Relaxed, both: who has a piece is all that they say. The first one keeps the number from rising for ever.
        if next.begun.load(Relaxed) >= pieces {
            return;
        }
        let own = next.begun.fetch_add(1, Relaxed);
        if own >= pieces {
            return;
        }
        let first = (own * piece) << next.shift;
        let last = first + ((piece << next.shift).wrapping_sub(1));
        table.fetch_all(first, last);
        // SAFETY: the caller's promise.
        unsafe { walk(table, first, last, |hash| _ = next.add(hash)) };
        // AcqRel: each piece's bits, and what its walk has seen, come before the switch.
        if next.done.fetch_add(1, AcqRel) + 1 < pieces && !broken(Mutant::SwitchEarly) {
            return;
        }
        // Once, by one thread. Release, both, and in this order: see above.
        let old = self.now.load(Relaxed);
        self.now.store(ptr::from_ref(next).cast_mut(), Release);
        self.next.store(ptr::null_mut(), Release);
        if !old.is_null() {
            // SAFETY: an `Arc`'s own, which no link leads to any more.
            unsafe { section.retire_filter(old, Filter::release) };
        }
    }

    /// Returns whether there is a filter that readers go by.
    #[cfg(test)]
    pub(super) fn is_there(&self) -> bool {
        !self.now.load(Acquire).is_null()
    }
}

/// Shows the hashes of all nodes from `first` to `last`, and perhaps others that are in the list.
///
/// # Safety
/// As for [`Table::start`].
unsafe fn walk(table: &Table, first: usize, last: usize, mut show: impl FnMut(usize)) {
    // SAFETY: the caller's promise.
    let mut at = unsafe { table.start(first) }.seen;
    loop {
        at = link::unmarked(at);
        if link::is_dummy(at) {
            if link::is_beyond(at, last) {
                return;
            }
            at = table.behind(at).load(Acquire);
            continue;
        }
        // SAFETY: a node that was in the list when the section was open; so it is not freed yet.
        let node = unsafe { &*at.cast::<Header>() };
        if node.hash > last {
            return;
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
                // SAFETY: an `Arc`'s own.
                unsafe { Filter::release(own) };
            }
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
#[path = "filter_tests.rs"]
mod tests;
