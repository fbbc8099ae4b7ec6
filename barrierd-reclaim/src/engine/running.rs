//! What a call is doing, in flags of its record and its thread, reset however the call ends.
//!
//! Owns the flags and their guards. Knows nothing of queues.

use crate::engine::Engine;
use crate::engine::record::Record;
use core::cell::Cell;
use core::ptr;

/// In [`PushOnly`]: a destructor is running in a call of the owner's.
const DESTRUCTOR: u8 = 1;
/// In [`PushOnly`]: `retire` frees nothing in this domain, and the owner is in no call that is asked to free.
const LAZY: u8 = 2;

/// The reasons why what a record's owner retires is only pushed, and frees nothing: a bit each.
#[derive(Debug, Default)]
pub(crate) struct PushOnly(Cell<u8>);

impl PushOnly {
    /// Begins anew, for the next owner.
    pub(crate) fn begin(&self, lazy: bool) {
        self.0.set(if lazy { LAZY } else { 0 });
    }

    /// Returns whether there is any reason.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.0.get() != 0
    }

    /// Returns whether a destructor is running in a call of the owner's.
    pub(crate) fn in_destructor(&self) -> bool {
        self.0.get() & DESTRUCTOR != 0
    }

    /// Notes that destructors run from here on. None does yet.
    #[inline]
    pub(crate) fn run_destructors(&self) -> Flipped<'_> {
        debug_assert!(!self.in_destructor(), "what they retire is only pushed");
        self.flip(DESTRUCTOR)
    }

    /// Notes that the owner is in a call that is asked to free, where `retire` doesn't.
    pub(crate) fn free_on_demand(&self) -> Flipped<'_> {
        self.flip(self.0.get() & LAZY)
    }

    #[inline]
    fn flip(&self, bits: u8) -> Flipped<'_> {
        self.0.set(self.0.get() ^ bits);
        Flipped(self, bits)
    }
}

/// Flips bits of a [`PushOnly`] back, also when a destructor panics. Calls within have flipped theirs back by then.
pub(crate) struct Flipped<'r>(&'r PushOnly, u8);

impl Drop for Flipped<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() ^ self.1);
    }
}

thread_local! {
    /// The domain whose destructors run on this thread, whichever record they were retired through: a destructor that
    /// takes another record (by a handle, or late in the thread's exit) must not free other items from there.
    static RUNNING: Cell<*const Engine> = const { Cell::new(ptr::null()) };
}

/// Returns whether destructors of `domain` run on this thread, outside of `retire`'s fast path.
pub(crate) fn runs(domain: &Engine) -> bool {
    ptr::eq(RUNNING.get(), domain)
}

/// A name of the calling thread, which no other has while it lives.
pub(crate) fn this_thread() -> usize {
    // Without a destructor, so it is there to the thread's very end.
    RUNNING.with(|cell| ptr::from_ref(cell).addr())
}

/// While destructors run, outside of `retire`'s fast path.
pub(crate) struct Running<'r> {
    /// The domain whose destructors the thread was running before.
    outer: *const Engine,
    _flipped: Flipped<'r>,
}

impl<'r> Running<'r> {
    pub(crate) fn new(record: &'r Record) -> Running<'r> {
        let _flipped = record.push_only().run_destructors();
        Running { outer: RUNNING.replace(record.engine()), _flipped }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        RUNNING.set(self.outer);
    }
}

/// Keeps the background thread from taking the caller's queue over.
pub(crate) struct Attended<'r>(&'r Record);

impl<'r> Attended<'r> {
    pub(crate) fn new(record: &'r Record) -> Attended<'r> {
        record.set_attended(true);
        Attended(record)
    }
}

impl Drop for Attended<'_> {
    fn drop(&mut self) {
        self.0.set_attended(false);
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    /// Each call resets its own reason, whatever others there are.
    #[test]
    fn reasons_come_and_go_by_themselves() {
        for lazy in [false, true] {
            let why = PushOnly::default();
            why.begin(lazy);
            let is = |any, in_destructor| {
                assert_eq!((why.is_any(), why.in_destructor()), (any, in_destructor), "{lazy}");
            };
            is(lazy, false);
            let freeing = why.free_on_demand();
            is(false, false);
            {
                let _running = why.run_destructors();
                is(true, true);
                // A destructor that flushes.
                drop(why.free_on_demand());
                is(true, true);
            }
            is(false, false);
            drop(freeing);
            is(lazy, false);
            drop(why.run_destructors());
            is(lazy, false);
        }
    }
}
