//! The child of a fork: the process's own collector begins anew there.
//!
//! Owns what the C library calls in the child, and what stands for sections of the parent's collector that
//! are open there.
//!
//! # What is left of the parent's collector
//! It stays as the fork found it: nothing in it is freed, and none of its locks is taken. Of those who took
//! part in it, the forking thread alone is there. Its *place* is given up, so its next [`pin`](super::pin)
//! takes one in the child's collector. But guards may be open, and handles of users may open more: what is
//! loaded under them may be deferred in the child's collector, by another thread. So as long as one of these
//! *old participants* is there, a record of the child's collector stands in for them, pinned since before
//! anybody could defer there. It is given back at the end of the last.
//!
//! # One switch
//! [`begin_anew`] alone says that this is a child. One that is made without it (`_Fork`, `clone(2)`, or where
//! there was no room for it) finds the parent's collector in its place, whole and dead: it frees nothing. A
//! `vfork` child shares its parent's memory, and changes nothing here.

use super::collector::Collector;
use super::{default, participant};
use crate::domain::Domain;
use crate::engine::record::Record;
use core::cell::Cell;
use core::ffi::c_int;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::*};

unsafe extern "C" {
    /// POSIX: calls back at each `fork`, on the thread that forks. Not 0: no room for it.
    safe fn pthread_atfork(
        before: Option<extern "C" fn()>,
        in_the_parent: Option<extern "C" fn()>,
        in_the_child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// Has [`begin_anew`] called in children, and in theirs. If there is no room for it, their collector is as
/// dead as any other of their parent's.
pub(super) fn hook() {
    let _ = pthread_atfork(None, None, Some(begin_anew));
}

struct Participants {
    /// In the process's present collector.
    present: Cell<u64>,
    /// In those that the processes had which this one was forked from.
    old: Cell<u64>,
}

thread_local! {
    /// Of this thread. Without a destructor, for the handler, and for guards that end late.
    static MINE: Participants = const { Participants { present: Cell::new(0), old: Cell::new(0) } };
}

/// For this process's old participants.
static STAND_IN: StandIn<Record> = StandIn::new();

/// The beginning of a child, on its only thread. Takes no lock, allocates nothing and frees nothing (but that
/// the C library may have to make the thread-locals of a library that was opened late, and it may do that
/// here). Called twice in a row it does no more than once.
extern "C" fn begin_anew() {
    let place = default::forget();
    // SAFETY: the place's handle, which was forgotten. Participants of this thread are there until they have
    // finished.
    let ended = !place.is_null() && unsafe { participant::give_up(place) };
    MINE.with(|mine| {
        // One that has ended takes its keeper along, which nobody will use again: freeing it might lock.
        let left = mine.present.replace(0) - u64::from(ended);
        mine.old.set(mine.old.get() + left);
        STAND_IN.begin(mine.old.get() > 0);
    });
}

/// This thread has one more participant, of the present collector.
pub(super) fn joined() {
    MINE.with(|mine| mine.present.set(mine.present.get() + 1));
}

/// This thread has one less, of `collector`, which is or was the process's own.
pub(super) fn left(collector: &Collector) {
    let is_present = default::existing().is_some_and(|present| present.is_here(collector));
    MINE.with(|mine| {
        let count = if is_present { &mine.present } else { &mine.old };
        count.set(count.get() - 1);
        if !is_present && count.get() == 0 {
            // SAFETY: leaked by `stand_in_for_old`, and given to this thread alone.
            if let Some(record) = unsafe { STAND_IN.end().as_ref() } {
                release(record);
            }
        }
    });
}

/// Whether this thread has guards from before the fork, or handles that may have some.
#[inline]
pub(super) fn has_old() -> bool {
    MINE.with(|mine| mine.old.get() > 0)
}

/// In the domain of a collector that nobody knows yet: what stands in for old participants, if there are any.
pub(super) fn stand_in(domain: &Domain) -> *const Record {
    if !STAND_IN.is_wanted() {
        return ptr::null();
    }
    let record = domain.acquire();
    // The thread that forked is the child's first.
    record.set_tid(rustix::process::getpid().as_raw_nonzero().get().unsigned_abs());
    domain.pin(record);
    record
}

/// That collector is the process's own from now on; it is never dropped.
pub(super) fn stands_in(record: *const Record) {
    // SAFETY: null, or of `stand_in`, in a domain that is never dropped.
    let Some(own) = (unsafe { record.as_ref() }) else { return };
    if !STAND_IN.offer(own) {
        release(own);
    }
}

/// Nobody needs it any more.
fn release(record: &Record) {
    record.reader().unpin();
    // SAFETY: the caller got it from `stand_in`, by `StandIn` from whoever did, or could not pass it on; its
    // section has ended.
    unsafe { record.engine().hand_over(record) };
}

/// Who stands in: made by whoever makes the child's collector, given back by whoever comes second, its maker
/// or the end of the last old participant.
///
/// One word, changed by exchanges only, so they come in one order. If the offer comes first, the end gets what
/// was offered; if the end does, the offer is refused. A maker that sees the end before it makes anything needs
/// no stand-in: what was loaded under old guards has been used by then.
struct StandIn<R>(AtomicPtr<R>);

impl<R> StandIn<R> {
    /// Nobody needs one.
    const NONE: *mut R = ptr::null_mut();
    /// One is needed, and not there yet. No object's address.
    const WANTED: *mut R = ptr::dangling_mut();

    const fn new() -> StandIn<R> {
        StandIn(AtomicPtr::new(Self::NONE))
    }

    /// In a child that has one thread. Relaxed: threads that it makes come after.
    fn begin(&self, wanted: bool) {
        self.0.store(if wanted { Self::WANTED } else { Self::NONE }, Relaxed);
    }

    /// Acquire: pairs with `end`. If it says no, the uses of what old guards kept happen before all that is
    /// done with the collector that its caller makes.
    fn is_wanted(&self) -> bool {
        self.0.load(Acquire) == Self::WANTED
    }

    /// Whether it was taken; if not, it stays with the caller. Release: `end` gets the record with all that its
    /// maker did to it. Acquire: as in `is_wanted`, before the caller ends the stand-in's section.
    fn offer(&self, one: &R) -> bool {
        let one = ptr::from_ref(one).cast_mut();
        self.0.compare_exchange(Self::WANTED, one, Release, Acquire).is_ok()
    }

    /// The last old participant is gone: who stood in for it, or null. AcqRel: pairs with the three above.
    fn end(&self) -> *mut R {
        let one = self.0.swap(Self::NONE, AcqRel);
        if one == Self::WANTED { ptr::null_mut() } else { one }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All orders in which a maker's two steps and the end can come.
    #[test]
    fn whoever_comes_second_gives_the_stand_in_back() {
        let one = 1;
        let there = ptr::from_ref(&one).cast_mut();
        let begun = |wanted| {
            let stand_in = StandIn::new();
            stand_in.begin(wanted);
            stand_in
        };
        // Nothing is old.
        assert!(!begun(false).is_wanted());
        // Made, offered, ended.
        let stand_in = begun(true);
        assert!(stand_in.is_wanted() && stand_in.offer(&one));
        assert_eq!((stand_in.end(), stand_in.end()), (there, ptr::null_mut()));
        // Made, ended, offered.
        let stand_in = begun(true);
        assert!(stand_in.is_wanted() && stand_in.end().is_null());
        assert!(!stand_in.offer(&one));
        // Ended, not made.
        let stand_in = begun(true);
        assert!(stand_in.end().is_null() && !stand_in.is_wanted());
    }
}
