//! The queue's steps, for any scheme that protects a pointer: a list of segments, each an array of slots that are claimed in
//! turn.
//!
//! # What is where
//! A segment begins with how far it is claimed (`tail`), how far it is taken (`head`), the link to the next segment, and the
//! state of each slot, a byte. Values lie behind that. So a push and a pop that meet share few lines, and where many values
//! wait, those who push and those who pop are in different segments and share none.
//!
//! # Steps
//! A push claims the next slot (a compare-and-swap of `tail`), puts its value there, and says so (a compare-and-swap of the
//! slot's state from `EMPTY` to `FULL`). A pop finds the first slot that is not taken, and takes it by a compare-and-swap of
//! `head`; the value is its own then. Where that slot is claimed and still empty, it waits a little, some
//! microseconds; then it gives the slot up for good (`EMPTY` to `DEAD`), and the push that finds it so claims another.
//!
//! # Invariants
//! - `head` leads to a segment, `tail` to the same or a later one, and neither to one that is retired.
//! - In a segment 0 <= head <= tail <= N, and both only rise. A slot's state leaves `EMPTY` once and never changes after
//!   that; it leaves it only once the slot is claimed; `head` passes a slot only once it has left it.
//! - A slot's value belongs to the push that claimed it until the state is `FULL`, and after that to the pop that moves `head`
//!   past it. Nobody takes the value of a `DEAD` slot but its push, which puts it elsewhere.
//! - `next` is linked only once all slots are claimed, and never changes after that. The value that comes with a new segment
//!   is in its first slot.
//! - A segment is retired by the operation that moves `head` off it, after `tail` was moved off it.
//!
//! # When it happens
//! A push, at the last claim that it makes, or when it links its segment. A pop that takes a value, when it moves `head` past
//! it: all before it are taken or dead, so it is the first. A pop that finds nothing, when it loads the segment's `tail` (or
//! `next`, if all slots were taken): `head`, which it has loaded before, was as far by then, so every claim was taken or
//! dead.
//!
//! # Progress
//! Lock-free. A try to claim, to take or to give up fails only where another thread's succeeded. Two threads can't go on
//! claiming and giving up for ever: after N claims a segment is full, and the push that links the next one is done.
//!
//! # Sources
//! Segments with a claim by one atomic operation: Morrison and Afek, "Fast concurrent queues for x86 processors" (PPoPP
//! 2013). Slots that are given up, and the first value of a new segment in the link that publishes it: Correia and Ramalhete's
//! FAAArrayQueue ("Concurrency Freaks", 2016). Segments that are retired whole: both, and crossbeam's `SegQueue`, which frees
//! them by bits in each slot where this one has a guard. The ends' helping: Michael and Scott (PODC 1996).

use crate::backoff::Backoff;
use crate::nodes::Nodes;
use crate::protect::{DomainOf, NodeOf, Protect};
use crate::sync::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::{AtomicPtr, AtomicU8, AtomicU32, Mutant, Place, broken, ordered, unless};
use core::array;
use core::ptr;

/// Not written yet.
const EMPTY: u8 = 0;
/// There is a value.
const FULL: u8 = 1;
/// Given up: there will be none.
const DEAD: u8 = 2;

/// `N` slots.
#[repr(C)]
pub(crate) struct Segment<T, P: Protect, const N: usize> {
    next: AtomicPtr<Link<T, P, N>>,
    /// How many slots are claimed.
    tail: AtomicU32,
    /// How many are taken, or were given up.
    head: AtomicU32,
    states: [AtomicU8; N],
    values: [Place<T>; N],
}

// SAFETY: a retired segment is memory only: its values were moved out, and `next` is not followed.
unsafe impl<T, P: Protect, const N: usize> Send for Segment<T, P, N> {}

type Link<T, P, const N: usize> = NodeOf<P, Segment<T, P, N>>;

impl<T, P: Protect, const N: usize> Segment<T, P, N> {
    const SLOTS: u32 = {
        assert!(N > 0 && N < 1 << 16);
        #[allow(clippy::cast_possible_truncation, reason = "asserted")]
        let slots = N as u32;
        slots
    };

    fn with_claimed(tail: u32) -> Self {
        Segment {
            next: AtomicPtr::new(ptr::null_mut()),
            tail: AtomicU32::new(tail),
            head: AtomicU32::new(0),
            states: array::from_fn(|_| AtomicU8::new(EMPTY)),
            values: array::from_fn(|_| Place::empty()),
        }
    }

    /// Makes a segment with a first value.
    fn with(value: T) -> Self {
        let mut segment = Self::with_claimed(1);
        segment.states[0] = AtomicU8::new(FULL);
        segment.values[0] = Place::with(value);
        segment
    }
}

/// A line of its own, since the two ends are changed by different threads.
#[repr(align(128))]
struct End<T>(T);

/// The segment that is taken from, and its first slot that is not taken.
struct Front<'s, T, P: Protect, const N: usize> {
    segment: &'s Segment<T, P, N>,
    slot: u32,
}

/// See the file's documentation. What is left inside is leaked, and so is the last segment: its owner pops until nothing is
/// left, and then calls `free`.
pub(crate) struct RawQueue<T, P: Protect, const N: usize> {
    head: End<AtomicPtr<Link<T, P, N>>>,
    tail: End<AtomicPtr<Link<T, P, N>>>,
    pub(crate) domain: DomainOf<P>,
}

impl<T, P: Protect, const N: usize> RawQueue<T, P, N> {
    pub(crate) fn new(domain: DomainOf<P>) -> Self {
        let first = P::Nodes::alloc(&domain, Segment::with_claimed(0));
        RawQueue { head: End(AtomicPtr::new(first)), tail: End(AtomicPtr::new(first)), domain }
    }

    #[inline]
    pub(crate) fn push(&self, section: &mut P::Section<'_>, mut value: T) {
        let mut backoff = Backoff::new();
        loop {
            let link = P::protect(section, &self.tail.0);
            // SAFETY: never null, and the tail leads to no retired segment, so this one is protected.
            let segment: &Segment<T, P, N> = unsafe { &*link };
            // Relaxed: the exchange decides.
            let slot = segment.tail.load(Relaxed);
            if slot >= Segment::<T, P, N>::SLOTS {
                match self.push_segment(link, segment, value) {
                    Ok(()) => return,
                    Err(back) => value = back,
                }
                continue;
            }
            // SeqCst: pairs with the load by which `front` finds the queue empty. It publishes nothing.
            if segment
                .tail
                .compare_exchange_weak(slot, slot + 1, ordered(Relaxed), Relaxed)
                .is_err()
            {
                backoff.lost();
                continue;
            }
            let place = &segment.values[slot as usize];
            // SAFETY: the slot is claimed by this thread's exchange, and nobody reads it before it is full.
            unsafe { place.put(value) };
            let state = &segment.states[slot as usize];
            // Release: pairs with the Acquire of a pop that finds the slot full, and reads the value.
            let order = unless(Mutant::RelaxedPublish, Release);
            let full = if broken(Mutant::PublishByStore) {
                state.store(FULL, order);
                true
            } else {
                state.compare_exchange(EMPTY, FULL, order, Relaxed).is_ok()
            };
            if full {
                return;
            }
            // SAFETY: put there above. The slot is dead, so nobody else reads the value.
            value = unsafe { place.read() };
        }
    }

    /// Links a segment with `value` behind one whose slots are all claimed, or moves the tail on if there is one already: then
    /// the value comes back.
    #[cold]
    fn push_segment(
        &self,
        link: *mut Link<T, P, N>,
        segment: &Segment<T, P, N>,
        value: T,
    ) -> Result<(), T> {
        // Acquire: whoever goes by the tail that this thread moves finds the segment whole, too.
        let mut next = segment.next.load(Acquire);
        let mut left = None;
        if next.is_null() {
            let new = P::Nodes::alloc(&self.domain, Segment::with(value));
            // Release: pairs with the Acquire loads of the link, which find the segment whole. SeqCst: pairs with the load by
            // which a pop finds the queue empty.
            let order = unless(Mutant::RelaxedLink, ordered(Release));
            match segment.next.compare_exchange(ptr::null_mut(), new, order, Acquire) {
                Ok(_) => next = new,
                Err(now) => {
                    // SAFETY: made above, with the value in its first slot, and nobody else knows it.
                    left = Some(unsafe { (&*new).values[0].read() });
                    // SAFETY: from `alloc`, and nobody else knows it.
                    unsafe { P::Nodes::free(new) };
                    next = now;
                }
            }
        } else {
            left = Some(value);
        }
        self.move_tail(link, next);
        left.map_or(Ok(()), Err)
    }

    /// Moves the tail from a segment to its next one, unless another thread has.
    fn move_tail(&self, link: *mut Link<T, P, N>, next: *mut Link<T, P, N>) {
        // Release: pairs with the Acquire of `protect` in `push`, which finds the next segment whole. Acquire, also where
        // another thread was faster: what that thread did before it moved the tail happened before this thread retires the
        // segment.
        let order = unless(Mutant::RelaxedLink, AcqRel);
        let _ = self.tail.0.compare_exchange(link, next, order, Acquire);
    }

    /// Finds the first slot that has a value and is not taken. `None`: the queue is empty.
    #[inline]
    fn front<'s>(&'s self, section: &'s mut P::Section<'_>) -> Option<Front<'s, T, P, N>> {
        let mut backoff = Backoff::new();
        loop {
            let link = P::protect(section, &self.head.0);
            // SAFETY: never null, and the head leads to no retired segment, so this one is protected; that ends with the
            // section, or when it protects another one, and it is borrowed as long as the result lives.
            let segment: &'s Segment<T, P, N> = unsafe { &*link };
            // Acquire: what is seen of the slots from here on is not older.
            let slot = segment.head.load(Acquire);
            if slot >= Segment::<T, P, N>::SLOTS {
                // SeqCst: see `push_segment`; and Acquire, which finds the next segment whole.
                let next = segment.next.load(ordered(Acquire));
                if next.is_null() {
                    return None;
                }
                self.move_head(section, link, next);
                continue;
            }
            let state = &segment.states[slot as usize];
            // Acquire: pairs with the Release in `push`, so the value is there.
            match state.load(Acquire) {
                FULL => return Some(Front { segment, slot }),
                EMPTY => {
                    // SeqCst: pairs with the claim in `push`. A push that was done before this pop began, also as seen by
                    // a third structure, comes earlier in the order of all SeqCst operations, so its claim is seen here.
                    if broken(Mutant::EmptyUnasked) || segment.tail.load(ordered(Relaxed)) <= slot {
                        return None;
                    }
                    if !backoff.wait() {
                        // The push was stopped. Relaxed: nothing is published, and the value is not looked at.
                        let _ = state.compare_exchange(EMPTY, DEAD, Relaxed, Relaxed);
                    }
                }
                _ => {
                    // Dead. Relaxed: no value goes with it, and its state is final.
                    let _ = segment.head.compare_exchange(slot, slot + 1, Release, Relaxed);
                }
            }
        }
    }

    /// Moves the head from a segment that is taken whole to its next one, and retires it.
    #[cold]
    fn move_head(
        &self,
        section: &mut P::Section<'_>,
        link: *mut Link<T, P, N>,
        next: *mut Link<T, P, N>,
    ) {
        if !broken(Mutant::TailLeftBehind) {
            self.move_tail(link, next);
        }
        // Release: pairs with the Acquire of `protect`, which finds the next segment whole. Relaxed: another thread moved it
        // and retires the segment.
        if self.head.0.compare_exchange(link, next, Release, Relaxed).is_ok() {
            // SAFETY: from `alloc`. The head was moved off it by this thread, and the tail before that, by this thread or by
            // one that it has acquired; both only move on. Its values were moved out or put elsewhere, by operations that
            // hold it as long as they read.
            unsafe { P::retire(section, link) };
        }
    }

    #[inline]
    pub(crate) fn pop(&self, section: &mut P::Section<'_>) -> Option<T> {
        let mut backoff = Backoff::new();
        loop {
            let Front { segment, slot } = self.front(section)?;
            // Release, Acquire: who finds the head moved sees, at the slots behind it, what this thread saw. The value needs
            // none of it: the state's Acquire is its own.
            let taken = if broken(Mutant::TakeByStore) {
                segment.head.store(slot + 1, Release);
                true
            } else {
                segment.head.compare_exchange_weak(slot, slot + 1, Release, Relaxed).is_ok()
            };
            if taken {
                // SAFETY: full, which this thread has acquired, and taken by this thread's exchange, so the value is its own.
                return Some(unsafe { segment.values[slot as usize].read() });
            }
            backoff.lost();
        }
    }

    /// Looks at the first value, by `work`, at a moment when it is the first.
    #[inline]
    fn at_front<R>(
        &self,
        section: &mut P::Section<'_>,
        work: impl Fn(&Place<T>) -> R,
    ) -> Option<R> {
        loop {
            let Front { segment, slot } = self.front(section)?;
            let result = work(&segment.values[slot as usize]);
            // Relaxed: after the Acquire load that found the slot full. If the head is there still, the slot was the first
            // one then.
            if segment.head.load(Relaxed) == slot {
                return Some(result);
            }
        }
    }

    /// Copies the first value.
    #[inline]
    pub(crate) fn peek(&self, section: &mut P::Section<'_>) -> Option<T>
    where
        T: Copy,
    {
        // SAFETY: full, which this thread has acquired, so it is not written any more; it is `Copy`, so another thread may take
        // it as well.
        self.at_front(section, |place| unsafe { place.read() })
    }

    #[inline]
    pub(crate) fn is_empty(&self, section: &mut P::Section<'_>) -> bool {
        self.at_front(section, |_| ()).is_none()
    }

    /// Takes the first value of a queue that is its caller's alone.
    pub(crate) fn pop_mut(&mut self) -> Option<T> {
        loop {
            // Relaxed, here and below: it is borrowed mutably, so all operations happened before.
            let link = self.head.0.load(Relaxed);
            // SAFETY: never null, not retired, and nobody else's.
            let segment: &Segment<T, P, N> = unsafe { &*link };
            let slot = segment.head.load(Relaxed);
            if slot < segment.tail.load(Relaxed) {
                segment.head.store(slot + 1, Relaxed);
                if segment.states[slot as usize].load(Relaxed) == FULL {
                    // SAFETY: full and not taken.
                    return Some(unsafe { segment.values[slot as usize].read() });
                }
                continue;
            }
            let next = segment.next.load(Relaxed);
            if next.is_null() {
                return None;
            }
            if self.tail.0.load(Relaxed) == link {
                self.tail.0.store(next, Relaxed);
            }
            self.head.0.store(next, Relaxed);
            // SAFETY: from `alloc`, off the list, never retired, its values taken.
            unsafe { P::Nodes::free(link) };
        }
    }

    /// Where its ends lead, for models.
    #[cfg(all(barrierd_loom, test))]
    pub(crate) fn ends(&self) -> [usize; 2] {
        [&self.head.0, &self.tail.0].map(|end| end.load(Relaxed).addr())
    }

    /// Frees the last segment of a queue that was emptied.
    ///
    /// # Safety
    /// `pop_mut` has returned `None`, and the queue is not used any more.
    pub(crate) unsafe fn free(&mut self) {
        // SAFETY: from `alloc`, never retired, empty, and not used any more.
        unsafe { P::Nodes::free(self.head.0.load(Relaxed)) };
    }
}
