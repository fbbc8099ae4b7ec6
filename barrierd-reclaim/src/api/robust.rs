//! Robust guards, and the objects with a birth, of which a stalled robust guard holds only the older ones.
//!
//! This file owns what users see. The steps of the protocol are in `protocol/holders.rs`.

use crate::domain::Domain;
use crate::engine::record::Record;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicPtr, Ordering};

/// An object that records when it was made, its *birth*: made by [`Reclaimer::alloc`](crate::Reclaimer::alloc),
/// retired by [`Reclaimer::retire_born`](crate::Reclaimer::retire_born) (or a [`Handle`](crate::Handle)'s).
///
/// A stalled [`RobustGuard`] keeps none of those that were born after it stalled. Every other guard
/// and every hazard treats them as any object. It takes 8 bytes (or its alignment) more than `T`.
///
/// ```
/// use barrierd_reclaim::{Born, Reclaimer};
///
/// let reclaimer = Reclaimer::new();
/// let node: Box<Born<u32>> = reclaimer.alloc(7);
/// assert_eq!(**node, 7);
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Born<T> {
    /// The era before the object was published. Queues read it through `Item::birth`.
    birth: u64,
    value: T,
}

impl<T> Born<T> {
    pub(crate) fn new(birth: u64, value: T) -> Born<T> {
        Born { birth, value }
    }

    /// Returns the object itself, without its birth.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Born<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Born<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

/// A read-side section that may stall: it holds back only what was born before its last
/// [`protect`](RobustGuard::protect). Made by [`Reclaimer::pin_robust`](crate::Reclaimer::pin_robust).
///
/// Of [`Born`] objects it keeps those that were born before its last `protect` and retired since it was made; of
/// others, like any [`Guard`](crate::Guard), all that were retired since it was made. So what a stalled one keeps is
/// bounded by the objects that existed when it stalled, however much is retired later.
///
/// Each pointer must be loaded through `protect`: a plain load, or a load under another guard, protects nothing here.
/// Guards nest: they share one section, which lasts until the end of the last one.
///
/// # Which objects
/// Those that were not retired when `protect` loaded the pointer. A `next` field of a node that has been unlinked
/// still leads to its successor, which may be younger than the section and freed by now. So check, once `protect` has
/// returned, that the node is still linked: for example that its `next` has no mark, if nodes are marked before they
/// are unlinked (Harris's list), or that a queue's head is still the node. A plain [`Guard`](crate::Guard) needs no
/// such check.
///
/// # Cost
/// `pin_robust` is two loads and three stores. `protect` is two loads and a comparison beside its own load, and a
/// store once in an era. There is no fence (with [`Source::Fence`](crate::Source::Fence), one where it stores).
///
/// A thread that has once opened a robust guard is never put to sleep when it is idle, unlike others. While it is
/// idle, what other threads retire waits for the daemon, or for bought barriers.
///
/// Wen, Izraelevitz, Cai, Beadle, Scott, "Interval-based memory reclamation" (PPoPP 2018): 2GE-IBR,
/// without its fences.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let reclaimer = Reclaimer::new();
/// let cell = AtomicPtr::new(Box::into_raw(reclaimer.alloc(1)));
/// let guard = reclaimer.pin_robust();
/// // SAFETY: not null, and not freed while the guard lives.
/// let seen = unsafe { &*guard.protect(&cell) };
/// let old = cell.swap(Box::into_raw(reclaimer.alloc(2)), Ordering::AcqRel);
/// // SAFETY: from `alloc`, can't be reached any more, retired once.
/// unsafe { reclaimer.retire_born(old) };
/// assert_eq!(**seen, 1); // still there
/// drop(guard);
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(cell.into_inner()) });
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// let reclaimer = barrierd_reclaim::Reclaimer::new();
/// let guard = reclaimer.pin_robust();
/// std::thread::scope(|s| {
///     s.spawn(|| drop(guard)); // RobustGuard is not Send
/// });
/// ```
#[must_use = "the section ends when the guard is dropped"]
pub struct RobustGuard<'r> {
    /// This thread's record; a raw pointer, so that the guard is neither Send nor Sync.
    record: *const Record,
    domain: &'r Domain,
    _borrowed: PhantomData<&'r Record>,
}

impl<'r> RobustGuard<'r> {
    /// Opens the record's interval, or continues it. The caller owns the record.
    ///
    /// One word says whether the interval is open and how many guards there are. So a signal handler that opens and
    /// ends a guard anywhere in between leaves the word as it must be.
    #[inline]
    pub(crate) fn open(record: &'r Record, domain: &'r Domain, fenced: bool) -> RobustGuard<'r> {
        if record.interval().is_idle() {
            RobustGuard::begin(record, domain, fenced);
        } else {
            RobustGuard::open_slowly(record, domain);
        }
        RobustGuard { record, domain, _borrowed: PhantomData }
    }

    #[inline]
    fn begin(record: &Record, domain: &Domain, fenced: bool) {
        // This may come before or after the interval's stores: what the guard finds from here on is no older.
        record.reader().show_idle(record.interval().open(domain.words(), fenced));
    }

    /// Opens the record's first guard, or one beside others.
    #[cold]
    fn open_slowly(record: &Record, domain: &Domain) {
        if record.interval().is_new() {
            domain.expect_intervals();
            record.expect_interval();
            RobustGuard::begin(record, domain, domain.readers_fence());
        } else {
            record.nest_robust();
        }
    }

    /// Loads a pointer that stays valid as long as this guard, if it pointed to a live object.
    ///
    /// An Acquire load, repeated where the era has moved on since the last one. Tag bits belong to the caller and
    /// come back unchanged.
    #[inline]
    pub fn protect<T>(&self, pointer: &AtomicPtr<T>) -> *mut T {
        let load = || pointer.load(Ordering::Acquire);
        match self.record().interval().try_protect(self.domain.words(), load) {
            Some(found) => found,
            None => self.protect_anew(pointer),
        }
    }

    /// Runs at most once in an era.
    #[cold]
    fn protect_anew<T>(&self, pointer: &AtomicPtr<T>) -> *mut T {
        let load = || pointer.load(Ordering::Acquire);
        self.record().interval().protect(self.domain.words(), load, self.domain.readers_fence())
    }

    /// Ends the section and opens the next, in the present era, so that what was retired meanwhile can be freed.
    ///
    /// Returns false, and does nothing, if other robust guards of this thread and reclaimer (or of this handle) are
    /// open. Pointers from before must not be used any more.
    #[inline]
    pub fn repin(&mut self) -> bool {
        let record = self.record();
        if !record.interval().is_sole() {
            return false;
        }
        record.interval().close();
        RobustGuard::begin(record, self.domain, self.domain.readers_fence());
        true
    }

    #[inline]
    pub(crate) fn record(&self) -> &'r Record {
        // SAFETY: records live as long as their domain, which `'r` keeps alive.
        unsafe { &*self.record }
    }
}

impl Drop for RobustGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let record = self.record();
        if record.interval().is_sole() {
            record.interval().close();
            // SAFETY: this thread owns the record, and this guard, its last, is gone.
            unsafe { self.domain.hand_over_if_last(record) };
        } else {
            record.unnest_robust();
        }
    }
}

impl fmt::Debug for RobustGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RobustGuard")
            .field("ends", &self.record().interval().ends())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use crate::protocol::{GRAIN, walk};
    use crate::{Reclaimer, Source};

    /// However many guards were forgotten, one more must not close the section of those that are open.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn a3_forgotten_robust_guards_never_close_a_section() {
        let reclaimer =
            Reclaimer::builder().source(Source::Membarrier).build().expect("membarrier");
        let handle = reclaimer.handle();
        let mut kept = handle.pin_robust();
        let interval = kept.record().interval();
        let begun = interval.ends();
        for forgotten in 1..100 {
            core::mem::forget(handle.pin_robust());
            let more = [(); 40].map(|()| handle.pin_robust());
            assert!(!interval.is_sole() && interval.ends() == begun, "{forgotten} and 40");
            drop(more);
            assert!(!interval.is_sole() && interval.ends() == begun, "{forgotten}");
        }
        assert_eq!(kept.record().robust().get(), 100 - (GRAIN - 1));
        assert!(!kept.repin());
        drop(kept);
        assert!(interval.is_open());
    }

    /// What a robust guard has seen is evidence, unless a plain guard is open beside it.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn a_robust_guard_shows_the_stop_that_it_has_seen() {
        let reclaimer =
            Reclaimer::builder().source(Source::Membarrier).build().expect("membarrier");
        let handle = reclaimer.handle();
        let evidence = || walk(u64::MAX, core::iter::once(handle.record().reader())).collected;
        // A thread that registers fences and takes a stamp.
        let stop = || drop(reclaimer.handle());
        let mut robust = handle.pin_robust();
        let first = evidence();
        stop();
        assert_eq!(evidence(), first);
        assert!(robust.repin());
        let second = evidence();
        assert!(second > first);
        drop(robust);
        stop();
        let plain = handle.pin_nested();
        let third = evidence();
        assert!(third > second);
        stop();
        drop(handle.pin_robust());
        assert_eq!(evidence(), third, "the section is older");
        drop(plain);
        drop(handle.pin_robust());
        assert!(evidence() > third && !handle.record().reader().is_pinned());
    }

    /// More guards come and go than the word can count. The last one closes the section, and no other.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn the_last_robust_guard_closes_the_section() {
        let reclaimer =
            Reclaimer::builder().source(Source::Membarrier).build().expect("membarrier");
        let handle = reclaimer.handle();
        for guards in [1, 2, 15, 16, 17, 40] {
            let mut open: Vec<_> = (0..guards).map(|_| handle.pin_robust()).collect();
            let record = open[0].record();
            while let Some(guard) = open.pop() {
                assert!(record.interval().is_open());
                drop(guard);
            }
            assert!(record.interval().is_idle() && !record.interval().is_open());
            assert_eq!(record.robust().get(), 0);
        }
    }
}
