//! The table: where each bucket's dummy lies, how the table grows, and how a bucket comes into the list.
//!
//! It knows of nodes no more than their headers, and retires nothing.
//!
//! # Buckets and keys
//! Nodes are ordered by their hashes. In a table of 2^k buckets, a bucket is all hashes that begin with the same k bits, and its
//! key is the least of them: those k bits, and zeros. Twice as many buckets keep all keys and add one in the middle of each
//! bucket. So a bucket's slot never moves: keys that end in the same number of zeros came with the same doubling, and share
//! a segment, in the order of their first bits.
//!
//! A slot is the link behind its bucket's dummy, and nothing else: a link *to* the dummy is the bucket's key, from which the slot
//! follows. So whoever meets the next bucket's dummy need not touch it to know that it is beyond.
//!
//! # How a bucket comes into the list
//! Its slot begins as 0. The thread that exchanges that for the mark alone owns the slot. It searches for the place from a bucket
//! before; stores, with the mark, where the slot will lead; and links the dummy by an exchange of the link before it, as any
//! node is inserted. Then it takes the mark off. Until the exchange, no link leads to the slot, so nobody else writes it: threads
//! that find it by the table see 0 or the mark, and go by a bucket before, which is slower and no less right. They need not
//! wait for the owner. From the exchange on, threads come to it along the list too. These know that it is linked, so they take no
//! notice of the mark, and what they write is without it. Whoever finds the slot by the table and without a mark reads it by
//! Acquire, from the Release that took the mark off.
//!
//! Readers may do this as well as writers, once for a bucket. They retire nothing: where a removed node is in the way, which the one
//! who removed it is about to unlink, the bucket is left to the next comer; an owner who meets one stores 0 again. Who finds the slot owned
//! writes nothing either. An owner that never goes on (it was another thread of a process that forked, and this is the child)
//! leaves a bucket that is searched from the one before, for ever.
//!
//! # How the table grows
//! [`grow`](Table::grow) publishes the slots of twice as many buckets. From then on each insertion of a new key opens a piece of them,
//! in the order of their keys ([`help`](Table::help)): slots, parents and nodes of a piece lie together or are fetched together, where
//! buckets that are opened one by one wait for memory each. Searches go by the old mask meanwhile, and pass the new dummies along the
//! list. Once all pieces are begun, whoever sees it first widens the mask. So nobody waits for a piece: a bucket that is not open by then
//! (its thread was stopped, or a removed node was in the way) is opened by those who look for it. So are all buckets of
//! a table that was made for many entries, or had room reserved.
//!
//! # Which slots exist
//! The segment of a doubling is published before the mask that has its bits (Release), and a thread has a bucket's key only from
//! a mask or the segment that it has loaded (Acquire), or from a link that was written by a thread that had (Release, Acquire).

use super::fetch::fetch;
use super::link::{self, AtomicPtr, AtomicUsize, Link};
use super::node::Header;
use crate::sync::{Mutant, broken};
use core::ptr;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::alloc::{Layout, alloc_zeroed, dealloc};

const BITS: u32 = usize::BITS;
/// The most bits that a bucket has: keys keep some zeros at their ends, for tags.
const MOST_BITS: u32 = BITS - 4;

/// The most slots that are fetched at once.
const MOST_FETCHED: usize = 64;

/// So many buckets are opened at once while the table grows: two lines of slots.
const PIECE: usize = if cfg!(all(barrierd_loom, test)) { 1 } else { 16 };

pub(super) struct Table {
    /// The bits of a hash that are its bucket's key: the first k of them, for 2^k buckets.
    mask: AtomicUsize,
    /// The slots of all keys with that many zeros at the end; of key 0, at the end of the array. Those of the first size are
    /// one allocation, which begins there.
    segments: [AtomicPtr<Link>; BITS as usize + 1],
    /// How many slots have had somebody who opens them in a piece, those of the sizes before counted in: it goes from the number of buckets
    /// to twice that while the table grows.
    begun: AtomicUsize,
    first_bits: u32,
}

/// What remains of a list, from a link on.
pub(super) struct Position<'t> {
    pub(super) link: &'t Link,
    /// What the link was.
    pub(super) seen: *mut (),
}

fn layout(slots: usize) -> Option<Layout> {
    Layout::array::<Link>(slots).ok()
}

/// Returns how many bits tell so many buckets apart, at least one.
///
/// # Panics
/// If there can't be so many.
fn bits(buckets: usize) -> u32 {
    let bits = buckets.max(2).checked_next_power_of_two().map_or(BITS, usize::trailing_zeros);
    assert!(bits <= MOST_BITS, "capacity overflow");
    bits
}

/// Returns so many slots with 0 in them, or null.
fn allocate(slots: usize) -> *mut Link {
    let Some(layout) = layout(slots) else { return ptr::null_mut() };
    #[cfg(not(all(barrierd_loom, test)))]
    // SAFETY: not of size 0.
    let segment = unsafe { alloc_zeroed(layout) }.cast::<Link>();
    #[cfg(all(barrierd_loom, test))]
    // SAFETY: not of size 0, and each slot is written within it. loom's atomics are not valid as zeros.
    let segment = unsafe {
        let segment = alloc_zeroed(layout).cast::<Link>();
        (0..slots).for_each(|slot| segment.add(slot).write(Link::new(link::none())));
        segment
    };
    segment
}

/// # Safety
/// `segment` came from `allocate(slots)`, and nobody uses it any more.
unsafe fn deallocate(segment: *mut Link, slots: usize) {
    if let Some(layout) = layout(slots) {
        // SAFETY: the caller's promise.
        unsafe {
            #[cfg(all(barrierd_loom, test))]
            ptr::slice_from_raw_parts_mut(segment, slots).drop_in_place();
            dealloc(segment.cast(), layout);
        }
    }
}

impl Table {
    /// Makes a table of at least so many buckets, and at least two; the first one is in the list.
    pub(super) fn new(buckets: usize) -> Table {
        let bits = bits(buckets);
        let slots = 1 << bits;
        let first = allocate(slots);
        if first.is_null() {
            let layout = layout(slots).expect("capacity overflow");
            std::alloc::handle_alloc_error(layout);
        }
        let segments = core::array::from_fn(|zeros| {
            let segment = match BITS - u32::try_from(zeros).expect("at most BITS") {
                0 => first,
                // SAFETY: 2^(own - 1) slots from 2^(own - 1) on, of 2^bits.
                own if own <= bits => unsafe { first.add(1 << (own - 1)) },
                _ => ptr::null_mut(),
            };
            AtomicPtr::new(segment)
        });
        let mask = AtomicUsize::new(!0 << (BITS - bits));
        let table = Table { mask, segments, begun: AtomicUsize::new(slots), first_bits: bits };
        table.first().store(link::end(), Relaxed);
        table
    }

    /// The number of buckets.
    pub(super) fn buckets(&self) -> usize {
        1 << self.mask.load(Relaxed).count_ones()
    }

    /// The slot of the first bucket, where the list begins.
    pub(super) fn first(&self) -> &Link {
        // SAFETY: it is there from the beginning.
        unsafe { self.slot(0) }
    }

    /// # Safety
    /// `key` is a bucket's, of a mask that this thread has loaded, or has it from a link: "Which slots exist" above.
    #[inline]
    pub(super) unsafe fn slot(&self, key: usize) -> &Link {
        let zeros = key.trailing_zeros();
        // Relaxed: it was published before the key.
        let segment = self.segments[zeros as usize].load(Relaxed);
        // SAFETY: the bits before the last one that is set count the keys with as many zeros; for key 0, that is 0.
        unsafe { &*segment.add(key.wrapping_shr(zeros) >> 1) }
    }

    /// The slot behind the dummy that a link leads to.
    #[inline]
    pub(super) fn behind(&self, dummy: *mut ()) -> &Link {
        // SAFETY: from a link of the list, loaded by Acquire.
        unsafe { self.slot(link::key(dummy)) }
    }

    /// Returns where a search for this hash begins, and what is there: the slot of its bucket or, if that is not in the list
    /// yet, of one before.
    ///
    /// # Safety
    /// The caller has a section open of the reclaimer that the list's nodes are retired to, as long as it uses the result.
    #[inline]
    pub(super) unsafe fn start(&self, hash: usize) -> Position<'_> {
        // Acquire: the segments of the mask are there (`grow`).
        let mask = self.mask.load(Acquire);
        // SAFETY: of the mask that was loaded.
        let link = unsafe { self.slot(hash & mask) };
        // Acquire: what it leads to was published by a Release.
        let seen = link.load(Acquire);
        if link::is_ready(seen) {
            return Position { link, seen };
        }
        // SAFETY: the caller's promise.
        unsafe { self.start_anew(hash, mask) }
    }

    /// Has a hash's slot fetched, and that of the bucket before which it opens if it is new, for a search that comes soon: what
    /// is done meanwhile costs no time then.
    #[inline]
    pub(super) fn fetch(&self, hash: usize) {
        // Acquire: as in `start`.
        let bucket = hash & self.mask.load(Acquire);
        // SAFETY: of the mask that was loaded, both.
        let slots = unsafe { [self.slot(bucket), self.slot(bucket & bucket.wrapping_sub(1))] };
        slots.into_iter().for_each(|slot| fetch(slot));
    }

    /// Has fetched the slots of the buckets from one to another one.
    pub(super) fn fetch_slots(&self, first: usize, last: usize) {
        self.slots(first, last).for_each(|slot| fetch(slot));
    }

    /// Has fetched the nodes that those slots lead to.
    pub(super) fn fetch_nodes(&self, first: usize, last: usize) {
        for slot in self.slots(first, last) {
            // Relaxed: the node is not read.
            let to = slot.load(Relaxed);
            if !link::is_dummy(to) {
                fetch(link::unmarked(to));
            }
        }
    }

    fn slots(&self, first: usize, last: usize) -> impl Iterator<Item = &Link> {
        // Acquire: as in `start`.
        let mask = self.mask.load(Acquire);
        let keys = (first & mask..=last).step_by(mask & mask.wrapping_neg()).take(MOST_FETCHED);
        // SAFETY: of the mask that was loaded.
        keys.map(|key| unsafe { self.slot(key) })
    }

    /// # Safety
    /// As for `start`, and `mask` was loaded.
    #[cold]
    #[inline(never)]
    unsafe fn start_anew(&self, hash: usize, mask: usize) -> Position<'_> {
        // SAFETY: the caller's promise.
        let link = unsafe { self.opened(hash & mask, mask) };
        Position { link, seen: link.load(Acquire) }
    }

    /// Puts a bucket into the list, and the one before that it needs. Returns its slot; or, if another thread is at it, or a
    /// removed node in the way, the slot of one before, which is in the list.
    ///
    /// # Safety
    /// As for `start`, and `bucket` is one of `mask`, which was loaded.
    unsafe fn opened(&self, bucket: usize, mask: usize) -> &Link {
        // SAFETY: `bucket` is one of `mask`.
        let own = unsafe { self.slot(bucket) };
        let now = own.load(Acquire);
        if link::is_ready(now) {
            return own;
        }
        // The bucket just before, if it is there already. Else the one that this one is a half of. The first one is there
        // always, so this ends, after as many steps as the bucket's key has bits set.
        // SAFETY: a bucket of `mask` as well.
        let neighbour = unsafe { self.slot(bucket - (mask & mask.wrapping_neg())) };
        let before = match link::is_ready(neighbour.load(Acquire)) {
            true => neighbour,
            // SAFETY: the caller's promise.
            false => unsafe { self.opened(bucket & (bucket - 1), mask) },
        };
        // An owner who is at it, or never comes back, is not disturbed, and nothing is written where there is no place yet.
        // SAFETY: the caller's promise; `before` is in the list.
        if now.is_null() && unsafe { self.open(own, bucket, before) }
            || link::is_ready(own.load(Acquire))
        {
            return own;
        }
        before
    }

    /// Puts a bucket into the list whose slot, `own`, was 0 just now. Fails if another thread is at it, or a removed node in the way.
    ///
    /// # Safety
    /// As for `start`; `before` is in the list, and the slot of a bucket before this one.
    #[inline]
    unsafe fn open(&self, own: &Link, bucket: usize, before: &Link) -> bool {
        // SAFETY: the caller's promise.
        let Some(mut place) = (unsafe { self.position(before, bucket - 1) }) else { return false };
        let mut behind = link::marked(place.seen);
        // Relaxed: the slot says nothing yet. Only its owner goes on. Another one, earlier, has not linked the dummy: it gave the
        // slot back as 0.
        if own.compare_exchange(link::none(), behind, Relaxed, Relaxed).is_err() {
            return false;
        }
        loop {
            let Position { link, seen } = place;
            // Release: whoever comes along this link sees what is behind it. As a node that is inserted: it fails if the link
            // has changed, or belongs to a node that was removed.
            if broken(Mutant::OpenByStore) {
                link.store(link::dummy(bucket), Release);
                return true;
            }
            if link.compare_exchange(seen, link::dummy(bucket), Release, Relaxed).is_ok() {
                // Release: with what it leads to, for those who come by the table. If it fails, someone who came along the
                // list has changed the slot, and thereby taken off the mark.
                let ready = link::unmarked(behind);
                let _ = own.compare_exchange(behind, ready, Release, Relaxed);
                return true;
            }
            // SAFETY: the caller's promise.
            let Some(again) = (unsafe { self.position(before, bucket - 1) }) else {
                // Nobody else has written it, since no link leads to it.
                own.store(link::none(), Relaxed);
                return false;
            };
            place = again;
            behind = link::marked(place.seen);
            own.store(behind, Relaxed);
        }
    }

    /// Returns the link from the last node or dummy whose key is at most `bound`, unless a removed node is in the way.
    ///
    /// # Safety
    /// As for `start`, and `from` is in the list.
    unsafe fn position<'t>(&'t self, from: &'t Link, bound: usize) -> Option<Position<'t>> {
        let mut link = from;
        let mut seen = link.load(Acquire);
        loop {
            // A slot's mark says nothing to those who know it to be linked.
            let here = link::unmarked(seen);
            if link::is_dummy(here) {
                if link::is_beyond(here, bound) {
                    return Some(Position { link, seen });
                }
                link = self.behind(here);
                seen = link.load(Acquire);
                continue;
            }
            // SAFETY: a node that was loaded from a link of the list; the caller has a guard.
            let node = unsafe { &*here.cast::<Header>() };
            if node.hash > bound {
                return Some(Position { link, seen });
            }
            let next = node.next.load(Acquire);
            if link::is_marked(next) {
                return None;
            }
            (link, seen) = (&node.next, next);
        }
    }

    /// Begins to double the number of buckets, if there are still `buckets` of them: from then on [`help`](Table::help) opens the new ones.
    /// Without memory it leaves things as they are.
    pub(super) fn grow(&self, buckets: usize) {
        let mask = self.mask.load(Acquire);
        let bits = mask.count_ones();
        if 1 << bits == buckets && bits < MOST_BITS {
            self.allocate_for(mask, bits + 1);
        }
    }

    /// Opens a piece of the buckets that the table is about to have, if it grows; once all were begun, it has them. Returns whether it grows.
    ///
    /// # Safety
    /// As for `start`.
    #[inline]
    pub(super) unsafe fn help(&self) -> bool {
        let mask = self.mask.load(Acquire);
        // Acquire: with its zeros.
        let next = self.segments[mask.trailing_zeros() as usize - 1].load(Acquire);
        if !next.is_null() {
            // SAFETY: the caller's promise; just loaded.
            unsafe { self.open_some(mask) };
        }
        !next.is_null()
    }

    /// # Safety
    /// As for `start`; `mask` was loaded, and then the segment of the next doubling.
    #[cold]
    unsafe fn open_some(&self, mask: usize) {
        let wider = mask | mask >> 1;
        let (step, half) = (mask & mask.wrapping_neg(), wider & wider.wrapping_neg());
        let all = 1 << mask.count_ones();
        // Relaxed, both: who has a piece is all that it says. `reserve` takes no notice of it, so it may have fallen behind.
        let seen = self.begun.load(Relaxed);
        let begun = seen.max(all);
        let some = PIECE.min(all);
        if begun >= 2 * all {
            // Whoever has the last piece may be long at it.
            self.widen(mask, wider);
            return;
        }
        if self.begun.compare_exchange(seen, begun + some, Relaxed, Relaxed).is_err() {
            return;
        }
        let first = (begun - all) * step;
        let last = first + (some - 1) * step;
        for key in (first..=last).step_by(step) {
            // SAFETY: `key` is of `mask`, the other one of the segment that was loaded.
            let (before, own) = unsafe { (self.slot(key), self.slot(key + half)) };
            // Acquire: as in `start`. A slot that is not linked is its owner's.
            let seen = before.load(Acquire);
            if link::is_ready(seen) || broken(Mutant::OpenBehindUnlinked) && !seen.is_null() {
                // SAFETY: the caller's promise; `before` is in the list. If it fails, it is left to those who look for it.
                unsafe { self.open(own, key + half, before) };
            }
        }
        if begun + some == 2 * all {
            self.widen(mask, wider);
            return;
        }
        // What the next piece and the one after it come to, so that it is there by then.
        let piece = some * step;
        if begun + 2 * some < 2 * all {
            self.fetch_slots(first + 2 * piece, last + 2 * piece);
        }
        self.fetch_nodes(first + piece, last + piece);
    }

    /// Makes at least so many buckets. Without memory for all of them it leaves things as they are.
    ///
    /// # Panics
    /// If they are more than there can be.
    pub(super) fn reserve(&self, buckets: usize) {
        let bits = bits(buckets);
        // There would be no layout for those of the last doubling, or for an array of all.
        assert!(layout(1 << bits).is_some(), "capacity overflow");
        let mask = self.mask.load(Acquire);
        if mask.count_ones() < bits && self.allocate_for(mask, bits) {
            self.widen(mask, !0 << (BITS - bits));
        }
    }

    /// Makes the segments of `bits` bits, those beyond `mask`, which was loaded by Acquire. All are allocated before one is published.
    /// Returns whether there was memory for them.
    fn allocate_for(&self, mask: usize, bits: u32) -> bool {
        let mut new = Segments([ptr::null_mut(); BITS as usize]);
        for bits in mask.count_ones() + 1..=bits {
            // Relaxed: it is not used here.
            if self.segments[(BITS - bits) as usize].load(Relaxed).is_null() {
                let segment = allocate(1 << (bits - 1));
                if segment.is_null() {
                    return false;
                }
                new.0[bits as usize - 1] = segment;
            }
        }
        for bits in mask.count_ones() + 1..=bits {
            let segment = &self.segments[(BITS - bits) as usize];
            let own = &mut new.0[bits as usize - 1];
            // AcqRel: Acquire where another thread was faster, whose zeros those see who get the mask from this one.
            if segment.compare_exchange(ptr::null_mut(), *own, AcqRel, Acquire).is_ok() {
                *own = ptr::null_mut();
            }
        }
        true
    }

    /// Makes the mask at least as wide as `wider`, from `mask` on, which was loaded. This thread has loaded the segments by Acquire, or
    /// made them.
    fn widen(&self, mask: usize, wider: usize) {
        let mut seen = mask;
        while seen < wider {
            // Release: the segments come before the mask. If it fails, another thread has made it wider.
            match self.mask.compare_exchange(seen, wider, AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}

/// Segments that were not published, by their bits less one; they go with it.
struct Segments([*mut Link; BITS as usize]);

impl Drop for Segments {
    fn drop(&mut self) {
        for (bits, &segment) in self.0.iter().enumerate() {
            if !segment.is_null() {
                // SAFETY: allocated with so many slots, and never published.
                unsafe { deallocate(segment, 1 << bits) };
            }
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let slots = |bits: u32| if bits == 0 { 1 } else { 1 << (bits - 1) };
        for bits in self.first_bits + 1..=MOST_BITS {
            let segment = self.segments[(BITS - bits) as usize].load(Acquire);
            if !segment.is_null() {
                // SAFETY: allocated by `grow` with so many slots; nobody uses the table any more.
                unsafe { deallocate(segment, slots(bits)) };
            }
        }
        let first = self.segments[BITS as usize].load(Acquire);
        // SAFETY: allocated by `new`, likewise.
        unsafe { deallocate(first, 1 << self.first_bits) };
    }
}

#[cfg(all(test, not(barrierd_loom)))]
#[path = "table_tests.rs"]
mod tests;
