//! Hazard pointers: a reader that may stall keeps one object, not all that is retired meanwhile.
//!
//! This file owns what users see of hazards. `engine/hazards.rs` has the domain's list of them, and
//! `protocol/holders.rs` the steps of the protocol.
//!
//! # One word
//! A [`Hazard`] is the address of its slot and nothing else, so two hazards that are swapped at each step of a walk
//! are two registers. The lowest bit says whether readers fence. The rest is found in the slot's line, which begins
//! where an address ends in zeros.

use crate::api::held::{Held, Section};
use crate::engine::hazards::line_of;
use crate::engine::record::Record;
use crate::protocol::holders::HazardSlot;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// The bit in a hazard that says that readers fence. It is free because slots are aligned.
const FENCED: usize = 1;

/// A hazard pointer: it keeps one object at a time from being freed, for as long as you like. It is made by
/// [`Reclaimer::hazard`](crate::Reclaimer::hazard) and [`Reclaimer::hazards`](crate::Reclaimer::hazards).
///
/// Everything else that is retired meanwhile is freed, so a reader that stalls (or is preempted, swapped out, stopped
/// by a debugger) keeps one object. A [`Guard`](crate::Guard) costs less and keeps all objects.
///
/// # Which objects
/// [`protect`](Hazard::protect) loads a pointer, stores it in the hazard, and loads it again. If the source still has
/// the same pointer, the object had not been retired when the hazard was stored. For that, the source must no longer
/// lead to an object once that object is retired. A `next` field of a node that may itself have been unlinked does
/// not qualify, unless unlinking changes the field (by a mark bit, as in Michael's list).
///
/// A hazard keeps the object at its address, if exactly this address is retired: by `retire`, `retire_with`,
/// `retire_born`, `retire_batch`, or as a count by `retire_arc`. A hazard keeps no part of another object, no slice
/// (`retire_slice`), and nothing that a value (`retire_value`) or a closure (`defer`) owns. These need a guard.
///
/// Addresses are all that is compared. A type without size has no address of its own: boxes of all such types lie at the
/// same few. So a hazard on a node without size keeps every such node that is retired, until it is cleared; give nodes a
/// byte. (Values without size in an [`Rcu`](crate::Rcu) have one.) And a hazard that is left on an object which is then
/// freed without being retired keeps whatever is retired at that address later; clear it, or drop it.
///
/// # Moving a pointer
/// - Hand over hand: [`core::mem::swap`] two hazards. Nothing is copied, and each goes on holding what it held. A
///   hazard is one word, so two hazards that are a function's own are two registers. Or take a [`HazardPair`], which
///   does the same by itself.
/// - From a guard to a hazard: [`keep`](Hazard::keep), then drop the guard.
/// - From one hazard to another: [`protect`](Hazard::protect) again, from the source. A copy is not enough: a scan
///   may read the second hazard before the copy and the first one after it was changed.
/// - From a hazard to a guard: load the pointer again under the guard, which protects nothing loaded earlier.
///
/// # Tags
/// The low bits that the object's alignment leaves free belong to the caller. They are compared, but the hazard holds
/// the address without them: retire the pointer without its tag.
///
/// # Cost
/// Two loads and a store, with no fence and no read-modify-write (with [`Source::Fence`](crate::Source::Fence), a
/// fence). It is lock-free: a try fails only where another thread has changed the source. A writer scans all hazards
/// of the domain whenever it scans the readers.
///
/// M. Michael, "Hazard pointers: safe memory reclamation for lock-free objects" (IEEE TPDS 2004); the domain's
/// barrier replaces the fence.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let mut hazard = reclaimer.hazard();
/// // SAFETY: `cell` leads to live objects only, and what it led to is retired after it was unlinked.
/// let seen = unsafe { hazard.protect(&cell).as_ref() }.expect("not null");
/// let old = cell.swap(Box::into_raw(Box::new(2)), Ordering::AcqRel);
/// // SAFETY: from a Box, can't be reached any more, retired once.
/// unsafe { reclaimer.retire(old) };
/// reclaimer.flush();
/// assert_eq!(*seen, 1); // still there
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
///
/// A hazard stays on its thread:
///
/// ```compile_fail,E0277
/// let reclaimer = barrierd_reclaim::Reclaimer::new();
/// let hazard = reclaimer.hazard();
/// std::thread::scope(|s| {
///     s.spawn(|| drop(hazard)); // Hazard is not Send
/// });
/// ```
pub struct Hazard<'r> {
    /// The address of its slot, in a line of this thread's record, with or without [`FENCED`]; a raw pointer, so that
    /// a hazard is neither Send nor Sync.
    at: *const HazardSlot,
    _borrowed: PhantomData<&'r Record>,
}

/// Returns a hazard's slot, whose address is `at` without the bit.
///
/// # Safety
/// `at` belongs to a hazard that lives for `'r`.
#[inline]
unsafe fn slot_of<'r>(at: *const HazardSlot) -> &'r HazardSlot {
    // SAFETY: lines live as long as their domain, which the hazard keeps alive.
    unsafe { &*at.map_addr(|address| address & !FENCED) }
}

/// Takes a slot in `record`, which the caller owns, or two beside each other. Returns the first one's address, with the
/// bit as it must be.
fn take<const N: usize>(record: &Record) -> *const HazardSlot {
    (0..N).for_each(|_| record.expect_hazard());
    let slot = record.engine().hazards().take::<N>(record);
    let fenced = if record.engine().readers_fence() { FENCED } else { 0 };
    slot.map_addr(|address| address | fenced)
}

impl<'r> Hazard<'r> {
    /// Takes its slot in `record`, which the caller owns.
    pub(crate) fn new(record: &'r Record) -> Hazard<'r> {
        Hazard { at: take::<1>(record), _borrowed: PhantomData }
    }

    /// Loads a pointer whose object this hazard keeps from then on, in place of the one before.
    ///
    /// A null pointer is held like any other, and keeps nothing.
    #[inline]
    pub fn protect<T>(&mut self, source: &AtomicPtr<T>) -> Held<'_, T> {
        // SAFETY: `at` is this hazard's, which is borrowed.
        let ptr = unsafe { protect_by(self.at, self.at.addr() & FENCED != 0, source) };
        Held::new(ptr)
    }

    /// Makes one try of [`protect`](Hazard::protect) with a pointer that was loaded before.
    ///
    /// # Errors
    /// Returns what `source` holds now, if that is another pointer. The hazard then protects nothing that may be
    /// used.
    #[inline]
    pub fn try_protect<T>(
        &mut self,
        seen: *mut T,
        source: &AtomicPtr<T>,
    ) -> Result<Held<'_, T>, *mut T> {
        let fenced = self.at.addr() & FENCED != 0;
        self.slot().protect(seen, address, || source.load(Ordering::Acquire), fenced).map(Held::new)
    }

    /// Keeps an object that an open guard protects, so that the guard may be dropped. One store.
    ///
    /// The guard must be of the same reclaimer, and `ptr` must have been loaded under it.
    ///
    /// # Panics
    /// Panics if `guard` is of another reclaimer.
    #[inline]
    pub fn keep<T>(&mut self, guard: &impl Section, ptr: *mut T) -> Held<'_, T> {
        // SAFETY: this hazard's; records live as long as their domain, which `'r` and the guard keep alive.
        let own = unsafe { &*line_of(self.at).0.record.get() };
        assert_eq!(
            ptr::from_ref(own.engine()).addr(),
            guard.domain(),
            "Hazard::keep: a guard of another reclaimer"
        );
        // The guard's end is a Release store, so a scan that sees it sees this store as well.
        self.slot().hold(address(ptr));
        Held::new(ptr)
    }

    /// Stops keeping the object. One store.
    #[inline]
    pub fn clear(&mut self) {
        self.slot().clear();
    }

    #[inline]
    fn slot(&self) -> &HazardSlot {
        // SAFETY: `at` is its own, for as long as the hazard is borrowed.
        unsafe { slot_of(self.at) }
    }
}

/// Does [`Hazard::protect`], with the hazard by value, so that a hazard in a register stays there.
///
/// # Safety
/// `at` belongs to a hazard that lives, and `fenced` says whether it has the bit.
#[inline]
unsafe fn protect_by<T>(at: *const HazardSlot, fenced: bool, source: &AtomicPtr<T>) -> *mut T {
    // Relaxed: the pointer is not followed before the Acquire load after the hazard's store has found it again.
    let seen = source.load(Ordering::Relaxed);
    if !fenced {
        // SAFETY: without the bit it is the slot's address, and lines live as long as their domain, which
        // the hazard keeps alive.
        let slot = unsafe { &*at };
        if let Ok(ptr) = slot.protect(seen, address, || source.load(Ordering::Acquire), false) {
            return ptr;
        }
    }
    // SAFETY: the caller promises that the hazard at `at` lives.
    unsafe { protect_anew(at, source) }
}

/// Does [`Hazard::protect`] where another thread has changed the source meanwhile, or where readers fence.
///
/// # Safety
/// `at` belongs to a hazard that lives.
#[cold]
unsafe fn protect_anew<T>(at: *const HazardSlot, source: &AtomicPtr<T>) -> *mut T {
    // SAFETY: the caller promises that the hazard at `at` lives.
    let (slot, fenced) = (unsafe { slot_of(at) }, at.addr() & FENCED != 0);
    // Relaxed, as in `Hazard::protect`.
    let mut seen = source.load(Ordering::Relaxed);
    loop {
        match slot.protect(seen, address, || source.load(Ordering::Acquire), fenced) {
            Ok(ptr) => return ptr,
            Err(now) => seen = now,
        }
    }
}

/// Returns what a hazard on `ptr` holds: its address without the bits that alignment leaves free.
#[inline]
pub(crate) fn address<T>(ptr: *mut T) -> u64 {
    (ptr.addr() & !(align_of::<T>() - 1)) as u64
}

/// Two hazard pointers that are used in turn, for a walk hand over hand; made by
/// [`Reclaimer::hazard_pair`](crate::Reclaimer::hazard_pair).
///
/// Each [`protect`](HazardPair::protect) uses the one of the two that was not used last. So what one call returned is
/// kept until the call after the next one, and a node is kept while its successor is protected. A pair does what two
/// [`Hazard`]s do that are swapped at each step ("Which objects" there applies), in fewer instructions, which matters
/// for short lists.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::ptr::null_mut;
/// use std::sync::atomic::AtomicPtr;
///
/// struct Node {
///     value: u32,
///     next: AtomicPtr<Node>,
/// }
///
/// let reclaimer = Reclaimer::new();
/// let last = Box::into_raw(Box::new(Node { value: 2, next: AtomicPtr::new(null_mut()) }));
/// let first = Box::into_raw(Box::new(Node { value: 1, next: AtomicPtr::new(last) }));
/// let head = AtomicPtr::new(first);
///
/// let mut pair = reclaimer.hazard_pair();
/// let (mut sum, mut at) = (0, pair.protect(&head).as_ptr());
/// // SAFETY: null, or kept until the call of `protect` after the next one. (Nodes here are never taken off;
/// // else a link that has changed would say so.)
/// while let Some(here) = unsafe { at.as_ref() } {
///     sum += here.value;
///     at = pair.protect(&here.next).as_ptr();
/// }
/// assert_eq!(sum, 3);
/// # // SAFETY: nobody else has them.
/// # drop(unsafe { (Box::from_raw(first), Box::from_raw(last)) });
/// ```
pub struct HazardPair<'r> {
    /// The first of two slots, as in a [`Hazard`].
    at: *const HazardSlot,
    /// Which of the two was used last.
    turn: usize,
    _borrowed: PhantomData<&'r Record>,
}

impl<'r> HazardPair<'r> {
    /// Takes its slots in `record`, which the caller owns.
    pub(crate) fn new(record: &'r Record) -> HazardPair<'r> {
        HazardPair { at: take::<2>(record), turn: 1, _borrowed: PhantomData }
    }

    /// Does [`Hazard::protect`] by the other of the two. What the call before this one protected stays protected
    /// until the next call.
    #[inline]
    pub fn protect<T>(&mut self, source: &AtomicPtr<T>) -> Held<'_, T> {
        self.turn ^= 1;
        // The address is in the same line, also with the bit.
        let at = self.at.wrapping_add(self.turn);
        // SAFETY: `at` is one of its own, and the pair is borrowed.
        let ptr = unsafe { protect_by(at, self.at.addr() & FENCED != 0, source) };
        Held::new(ptr)
    }

    /// Stops keeping both objects. Two stores.
    #[inline]
    pub fn clear(&mut self) {
        for turn in 0..2 {
            // SAFETY: its own.
            unsafe { slot_of(self.at.wrapping_add(turn)) }.clear();
        }
    }
}

impl Drop for HazardPair<'_> {
    #[inline]
    fn drop(&mut self) {
        for turn in 0..2 {
            // SAFETY: the address is of its own hazard, which ends here.
            unsafe { end(self.at.wrapping_add(turn)) };
        }
    }
}

impl fmt::Debug for HazardPair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: its own.
        let held = [0, 1].map(|turn| unsafe { slot_of(self.at.wrapping_add(turn)) }.held());
        f.debug_struct("HazardPair").field("addresses", &held).finish_non_exhaustive()
    }
}

impl Drop for Hazard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `at` is this hazard's, which ends here.
        unsafe { end(self.at) };
    }
}

/// Ends a hazard. It is passed by value, as in [`protect_anew`].
///
/// # Safety
/// `at` belongs to a hazard that is being dropped.
#[inline(never)]
unsafe fn end(at: *const HazardSlot) {
    // SAFETY: the caller drops the hazard at `at`; records live as long as their domain, which the hazard keeps
    // alive.
    unsafe {
        slot_of(at).clear();
        let (line, number) = line_of(at);
        let record = &*line.record.get();
        record.engine().hazards().give_back(record, line, number);
        record.lose_hazard();
        // This thread owns the record, and this hazard, its last, is gone.
        record.engine().hand_over_if_last(record);
    }
}

impl fmt::Debug for Hazard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hazard").field("address", &self.slot().held()).finish_non_exhaustive()
    }
}
