//! The child of a fork, in which the process's own collector starts afresh.
//!
//! This file owns what the C library calls in the child, and the record that stands in for sections of the parent's
//! collector that are open there.
//!
//! # What is left of the parent's collector
//! It stays as the fork found it: nothing in it is freed, and none of its locks is taken. Of its participants, only
//! those of the forking thread exist in the child. The thread's participant is given up, so its next
//! [`pin`](super::pin) takes one in the child's collector. But guards may be open, and handles of users may open
//! more. What is loaded under them may be deferred in the child's collector, by another thread. So as long as one of
//! these *old participants* exists, a record of the child's collector stands in for them. It is pinned since before
//! any thread could defer there, and is given back at the end of the last old participant.
//!
//! # One switch
//! Only [`begin_anew`] records that this is a child. A child that is made without it (by `_Fork` or `clone(2)`, or
//! where the C library had no room for the handler) still has the parent's collector, whole and dead: it frees
//! nothing. A `vfork` child shares its parent's memory, and changes nothing here.

use super::collector::Collector;
use super::{default, participant};
use crate::domain::Domain;
use crate::engine::record::Record;
use crate::platform::{in_children, process_id};
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::*};

/// Has [`begin_anew`] called in children, and in their children. If there is no room for it, their collector is as
/// dead as any other of their parent's.
pub(super) fn hook() {
    let _ = in_children(begin_anew);
}

struct Participants {
    /// Participants in the process's present collector.
    present: Cell<u64>,
    /// Participants in the collectors of the processes that this one was forked from.
    old: Cell<u64>,
}

thread_local! {
    /// This thread's counts. They have no destructor, for the sake of the handler, and of guards that end late.
    static MINE: Participants = const { Participants { present: Cell::new(0), old: Cell::new(0) } };
}

/// The stand-in for this process's old participants.
static STAND_IN: StandIn<Record> = StandIn::new();

/// Runs at the beginning of a child, on its only thread. It takes no lock, allocates nothing and frees nothing
/// (except that the C library may have to make the thread-locals of a library that was opened late, and may do that
/// here). A second call in a row changes nothing.
extern "C" fn begin_anew() {
    let place = default::forget();
    // SAFETY: this is the participant's handle, which was forgotten. Participants of this thread exist until they have
    // finished.
    let ended = !place.is_null() && unsafe { participant::give_up(place) };
    MINE.with(|mine| {
        // A participant that has ended leaks its keeper, which no one will use again: freeing it might lock.
        let left = mine.present.replace(0) - u64::from(ended);
        mine.old.set(mine.old.get() + left);
        STAND_IN.begin(mine.old.get() > 0);
    });
}

/// Counts one more participant of this thread, in the present collector.
pub(super) fn joined() {
    MINE.with(|mine| mine.present.set(mine.present.get() + 1));
}

/// Counts one participant of this thread less, in `collector`, which is or was the process's own.
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

/// Returns whether this thread has guards from before the fork, or handles that may have some.
#[inline]
pub(super) fn has_old() -> bool {
    MINE.with(|mine| mine.old.get() > 0)
}

/// Makes the stand-in for old participants, if there are any, in the domain of a collector that is not published yet.
pub(super) fn stand_in(domain: &Domain) -> *const Record {
    if !STAND_IN.is_wanted() {
        return ptr::null();
    }
    let record = domain.acquire();
    // The thread that forked is the child's first, whose number is the process's.
    record.set_tid(process_id());
    domain.pin(record);
    record
}

/// Publishes the stand-in: its collector is the process's own from now on, and is never dropped.
pub(super) fn stands_in(record: *const Record) {
    // SAFETY: it is null or came from `stand_in`, in a domain that is never dropped.
    let Some(own) = (unsafe { record.as_ref() }) else { return };
    if !STAND_IN.offer(own) {
        release(own);
    }
}

/// Gives back a stand-in that is no longer needed.
fn release(record: &Record) {
    record.reader().unpin();
    // SAFETY: the caller made it by `stand_in` and could not pass it on, or got it through `StandIn` from the thread
    // that made it; its section has ended.
    unsafe { record.engine().hand_over(record) };
}

/// The stand-in's state. The thread that makes the child's collector makes the stand-in. The second of its maker and
/// the end of the last old participant gives it back.
///
/// It is one word that only exchanges change, so they have one order. If the offer comes first, the end gets what was
/// offered. If the end comes first, the offer is refused. A maker that sees the end before it makes anything needs no
/// stand-in: what was loaded under old guards has been used by then.
struct StandIn<R>(AtomicPtr<R>);

impl<R> StandIn<R> {
    /// No stand-in is needed.
    const NONE: *mut R = ptr::null_mut();
    /// A stand-in is needed, and does not exist yet. This is no object's address.
    const WANTED: *mut R = ptr::dangling_mut();

    const fn new() -> StandIn<R> {
        StandIn(AtomicPtr::new(Self::NONE))
    }

    /// Called in a child that has one thread. Relaxed: threads that it makes come after.
    fn begin(&self, wanted: bool) {
        self.0.store(if wanted { Self::WANTED } else { Self::NONE }, Relaxed);
    }

    /// Acquire: pairs with `end`. If this returns false, the uses of what old guards kept happen before everything
    /// that is done with the collector that the caller makes.
    fn is_wanted(&self) -> bool {
        self.0.load(Acquire) == Self::WANTED
    }

    /// Returns whether the stand-in was taken. If not, it stays with the caller. Release: `end` gets the record with
    /// everything that its maker did to it. Acquire: as in `is_wanted`, before the caller ends the stand-in's
    /// section.
    fn offer(&self, one: &R) -> bool {
        let one = ptr::from_ref(one).cast_mut();
        self.0.compare_exchange(Self::WANTED, one, Release, Acquire).is_ok()
    }

    /// Called when the last old participant is gone. Returns the stand-in, or null. AcqRel: pairs with the three
    /// above.
    fn end(&self) -> *mut R {
        let one = self.0.swap(Self::NONE, AcqRel);
        if one == Self::WANTED { ptr::null_mut() } else { one }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries all orders in which a maker's two steps and the end can come.
    #[test]
    fn whoever_comes_second_gives_the_stand_in_back() {
        let one = 1;
        let there = ptr::from_ref(&one).cast_mut();
        let begun = |wanted| {
            let stand_in = StandIn::new();
            stand_in.begin(wanted);
            stand_in
        };
        // There are no old participants.
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
