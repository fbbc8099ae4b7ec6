//! Hazard pointers: a reader that may stall keeps one object, not all that is retired meanwhile.
//!
//! Owns the domain's list of hazards and what users see of them. The steps of the protocol are in
//! `holders.rs`.
//!
//! # Who may touch what
//! 1. A slot is stored by its [`Hazard`] and loaded by whoever looks.
//! 2. A line belongs to one record from [`Places::take`] until it is given back, which its last hazard
//!    does; its `used` is touched by that record's owner alone.
//! 3. Lines live as long as the domain, and `place` never changes.
//! 4. A hazard's record stays in use while the hazard lives (`Record::holds`): it is by the record's
//!    full stops, or by barriers that pass every thread, that the hazard is known to be seen.

use crate::guard::Guard;
use crate::holders::HazardSlot;
use crate::owned::OwnedGuard;
use crate::places::Places;
use crate::record::Record;
use crate::robust::RobustGuard;
use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use crossbeam_utils::CachePadded;

/// Hazards in a line.
const SLOTS: usize = 8;

/// Hazards of one thread, beside each other and away from other threads'.
pub(crate) struct Line(CachePadded<Inner>);

struct Inner {
    slots: [HazardSlot; SLOTS],
    /// A bit for each slot that has a [`Hazard`].
    used: Cell<u8>,
    /// Its number among the domain's lines.
    place: usize,
}

// SAFETY: the slots are atomic, `used` follows rule 2, `place` rule 3.
unsafe impl Sync for Line {}

impl Line {
    fn new(place: usize) -> Line {
        let slots = core::array::from_fn(|_| HazardSlot::new());
        Line(CachePadded::new(Inner { slots, used: Cell::new(0), place }))
    }

    /// A free slot's number.
    fn find(&self) -> Option<usize> {
        let free = (!self.0.used.get()).trailing_zeros() as usize;
        (free < SLOTS).then_some(free)
    }
}

/// All hazards of a domain: as many lines as were ever in use at once, and used again.
pub(crate) struct Hazards(Places<Line>);

impl Hazards {
    pub(crate) fn new() -> Hazards {
        Hazards(Places::new())
    }

    /// Whether there never was one, so that a domain without hazards pays one load a look. A line is in
    /// use before a hazard of it holds anything, so whoever would have to see the one sees the other.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_new()
    }

    /// Every hazard of a line that is in use. Nothing is loaded before it is called for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HazardSlot> {
        self.0.in_use().flat_map(|line| line.0.slots.iter())
    }

    /// What a look costs, in hazards that it loads.
    pub(crate) fn cost(&self) -> usize {
        self.0.cost() * SLOTS
    }

    /// A free slot for `record`, whose owner calls.
    fn take(&self, record: &Record) -> (&Line, usize) {
        // SAFETY: null, or a line that the owner has, which lives as long as the domain.
        let own = unsafe { record.line().get().as_ref() };
        let (line, slot) = own.and_then(|line| Some((line, line.find()?))).unwrap_or_else(|| {
            let line = self.0.take(|place| Box::into_raw(Box::new(Line::new(place))));
            record.line().set(line);
            (line, 0)
        });
        line.0.used.set(line.0.used.get() | 1 << slot);
        (line, slot)
    }

    /// Gives a slot of `line` back, cleared; it was `record`'s, whose owner calls.
    ///
    /// The line goes with its last hazard, so there are no more of them than hazards. Until then it is
    /// where the next one is taken.
    fn give_back(&self, record: &Record, line: &Line, slot: usize) {
        line.0.used.set(line.0.used.get() & !(1 << slot));
        if line.0.used.get() != 0 {
            record.line().set(line);
            return;
        }
        if ptr::eq(record.line().get(), line) {
            record.line().set(ptr::null());
        }
        self.0.give_back(line.0.place);
    }
}

impl fmt::Debug for Hazards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hazards").field("lines", &self.0.len()).finish_non_exhaustive()
    }
}

/// A hazard pointer: keeps one object at a time from being freed, however long; made by
/// [`Reclaimer::hazard`](crate::Reclaimer::hazard) and [`Reclaimer::hazards`](crate::Reclaimer::hazards).
///
/// Everything else that is retired meanwhile is freed, so a reader that stalls (or is preempted,
/// swapped out, stopped by a debugger) keeps one object. A [`Guard`] costs less and keeps all of them.
///
/// # Which objects
/// [`protect`](Hazard::protect) loads a pointer, writes it down, and loads it again: if it is still
/// there, its object had not been retired when it was written down. That needs a place that no longer
/// leads to an object once it is retired. A `next` field of a node that may have been unlinked itself
/// is none, unless unlinking changes the field (a mark bit, as in Michael's list).
///
/// What is kept is the object at this address, if it is this address that is retired: by `retire`,
/// `retire_with`, `retire_born`, `retire_batch`, or as a count by `retire_arc`. A hazard keeps no part of
/// another object, no slice (`retire_slice`), and nothing that a value (`retire_value`) or a closure
/// (`defer`) owns: these need a guard.
///
/// # Moving a pointer
/// - Hand over hand: [`core::mem::swap`] two hazards; nothing is copied, each goes on holding what it
///   held.
/// - From a guard to a hazard: [`keep`](Hazard::keep), then drop the guard.
/// - From one hazard to another: [`protect`](Hazard::protect) again, from its source. A copy is not
///   enough: whoever looks may see the second before and the first after.
/// - From a hazard to a guard: load it again under the guard, which protects nothing older.
///
/// # Tags
/// The low bits that the object's alignment leaves free are the caller's. They are compared, but what
/// is held is the address without them: retire the pointer without its tag.
///
/// # Cost
/// Two loads and a store: no fence, no read-modify-write (with [`Source::Fence`](crate::Source::Fence) a
/// fence). It is lock-free: a try fails only where somebody has changed the source. A writer looks at
/// all hazards of the domain whenever it looks at the readers.
///
/// M. Michael, "Hazard pointers: safe memory reclamation for lock-free objects" (IEEE TPDS 2004); the
/// fence is left to the domain's barrier.
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
    slot: &'r HazardSlot,
    fenced: bool,
    number: usize,
    line: &'r Line,
    /// This thread's record; a raw pointer, so that a hazard is neither Send nor Sync.
    record: *const Record,
    _borrowed: PhantomData<&'r Record>,
}

impl<'r> Hazard<'r> {
    /// The caller owns `record`.
    pub(crate) fn new(record: &'r Record) -> Hazard<'r> {
        record.expect_hazard();
        let (line, number) = record.domain().hazards().take(record);
        let slot = &line.0.slots[number];
        let fenced = record.domain().readers_fence();
        Hazard { slot, fenced, number, line, record, _borrowed: PhantomData }
    }

    /// Loads a pointer whose object this hazard keeps from then on, in place of the one before.
    ///
    /// Null is held like any other pointer, and keeps nothing.
    #[inline]
    pub fn protect<T>(&mut self, source: &AtomicPtr<T>) -> Held<'_, T> {
        // Relaxed: not followed before the Acquire load behind the hazard has found it again.
        let mut seen = source.load(Ordering::Relaxed);
        loop {
            match self.slot.protect(seen, address, || source.load(Ordering::Acquire), self.fenced) {
                Ok(ptr) => return Held { ptr, _held: PhantomData },
                Err(now) => seen = now,
            }
        }
    }

    /// One try of [`protect`](Hazard::protect) with a pointer that was loaded before.
    ///
    /// # Errors
    /// What `source` says now, if it is something else. Nothing is held then that may be used.
    #[inline]
    pub fn try_protect<T>(
        &mut self,
        seen: *mut T,
        source: &AtomicPtr<T>,
    ) -> Result<Held<'_, T>, *mut T> {
        self.slot
            .protect(seen, address, || source.load(Ordering::Acquire), self.fenced)
            .map(|ptr| Held { ptr, _held: PhantomData })
    }

    /// Keeps an object that an open guard protects, so that the guard may be dropped. One store.
    ///
    /// The guard is one of the same reclaimer under which `ptr` was loaded.
    ///
    /// # Panics
    /// If `guard` is of another reclaimer.
    #[inline]
    pub fn keep<T>(&mut self, guard: &impl Section, ptr: *mut T) -> Held<'_, T> {
        // SAFETY: records live as long as their domain, which `'r` and the guard keep alive.
        let own = unsafe { &*self.record };
        assert_eq!(
            ptr::from_ref(own.domain()).addr(),
            guard.domain(),
            "Hazard::keep: a guard of another reclaimer"
        );
        // The guard's end is a Release store, so whoever sees it sees this one.
        self.slot.hold(address(ptr));
        Held { ptr, _held: PhantomData }
    }

    /// Keeps nothing. One store.
    #[inline]
    pub fn clear(&mut self) {
        self.slot.clear();
    }
}

/// What a hazard on `ptr` holds: its address without the bits that alignment leaves free.
#[inline]
fn address<T>(ptr: *mut T) -> u64 {
    (ptr.addr() & !(align_of::<T>() - 1)) as u64
}

impl Drop for Hazard<'_> {
    fn drop(&mut self) {
        self.slot.clear();
        // SAFETY: records live as long as their domain, which `'r` keeps alive.
        let record = unsafe { &*self.record };
        record.domain().hazards().give_back(record, self.line, self.number);
        record.lose_hazard();
        // SAFETY: this thread owns the record, and this hazard, its last, is gone.
        unsafe { record.domain().hand_over_if_last(record) };
    }
}

impl fmt::Debug for Hazard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hazard").field("address", &self.slot.held()).finish_non_exhaustive()
    }
}

/// A pointer whose object a [`Hazard`] keeps while this borrows it.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::AtomicPtr;
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let [mut one, mut two] = reclaimer.hazards();
/// let (a, b) = (one.protect(&cell), two.protect(&cell)); // disjoint borrows
/// assert!(a == b && !a.is_null());
/// // SAFETY: what `cell` leads to is live.
/// assert_eq!(unsafe { a.as_ref() }, Some(&1));
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
pub struct Held<'h, T> {
    ptr: *mut T,
    _held: PhantomData<&'h T>,
}

impl<'h, T> Held<'h, T> {
    /// The pointer as it was loaded, tags and all. What is held is held until the hazard is next used.
    #[inline]
    #[must_use]
    pub fn as_ptr(self) -> *mut T {
        self.ptr
    }

    /// Whether it is null, but for its tag.
    #[inline]
    #[must_use]
    pub fn is_null(self) -> bool {
        address(self.ptr) == 0
    }

    /// The object, if the pointer is not null (but for its tag, which is taken off).
    ///
    /// # Safety
    /// The pointer leads to an object that was not retired when it was protected
    /// (see [`Hazard`], "Which objects"), and that nobody has a `&mut` to while this lives.
    #[inline]
    #[must_use]
    pub unsafe fn as_ref(self) -> Option<&'h T> {
        let untagged = self.ptr.map_addr(|address| address & !(align_of::<T>() - 1));
        // SAFETY: null, or an object that the hazard keeps for `'h`.
        unsafe { untagged.as_ref() }
    }
}

impl<T> Clone for Held<'_, T> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Held<'_, T> {}

impl<T> PartialEq for Held<'_, T> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.ptr, other.ptr)
    }
}

impl<T> Eq for Held<'_, T> {}

impl<T> fmt::Debug for Held<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.ptr).finish()
    }
}

/// An open guard, of any kind: what [`Hazard::keep`] can take over from.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::AtomicPtr;
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(Box::new(1)));
/// let mut hazard = reclaimer.hazard();
/// let kept = {
///     let guard = reclaimer.pin();
///     hazard.keep(&guard, guard.protect(&cell))
/// };
/// // The section has ended, the object stays.
/// // SAFETY: not null, and live when the guard protected it.
/// assert_eq!(unsafe { kept.as_ref() }, Some(&1));
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
pub trait Section: sealed::Section {}

impl Section for Guard<'_> {}
impl Section for OwnedGuard {}
impl Section for RobustGuard<'_> {}

mod sealed {
    pub trait Section {
        /// The address of its domain.
        fn domain(&self) -> usize;
    }
}

impl sealed::Section for Guard<'_> {
    fn domain(&self) -> usize {
        ptr::from_ref(self.record().domain()).addr()
    }
}

impl sealed::Section for OwnedGuard {
    fn domain(&self) -> usize {
        ptr::from_ref(self.reclaimer().domain()).addr()
    }
}

impl sealed::Section for RobustGuard<'_> {
    fn domain(&self) -> usize {
        ptr::from_ref(self.record().domain()).addr()
    }
}
