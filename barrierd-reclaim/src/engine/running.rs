//! What a call is doing, in flags of its record and its thread, reset however the call ends.
//!
//! Owns the flags' guards. Knows nothing of queues.

use crate::engine::Engine;
use crate::engine::record::Record;
use core::cell::Cell;
use core::ptr;

/// While destructors run: what they retire is only pushed. Resets the owner's flags, also when one
/// panics.
pub(crate) struct Freeing<'r>(&'r Record);

impl<'r> Freeing<'r> {
    #[inline]
    pub(crate) fn new(record: &'r Record) -> Freeing<'r> {
        record.freeing().set(true);
        Freeing(record)
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

/// [`Freeing`], also for a thread that never frees in `retire` and so is always `freeing`.
pub(crate) struct Running<'r>(Freeing<'r>, *const Engine);

impl<'r> Running<'r> {
    pub(crate) fn new(record: &'r Record) -> Running<'r> {
        record.running().set(true);
        Running(Freeing::new(record), RUNNING.replace(record.engine()))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.0.running().set(false);
        RUNNING.set(self.1);
    }
}

/// In a call that is asked to free, where `retire` doesn't.
pub(crate) struct Released<'r>(&'r Record, bool);

impl<'r> Released<'r> {
    pub(crate) fn new(record: &'r Record, lazy: bool) -> Released<'r> {
        let running = record.running().get();
        // Where `retire` frees, the flag says no more than that a destructor is running.
        let before = record.freeing().get();
        record.freeing().set(if lazy { running } else { before });
        Released(record, before)
    }
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.0.freeing().set(self.1);
    }
}

impl Drop for Freeing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.freeing().set(false);
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
