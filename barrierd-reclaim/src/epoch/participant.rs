//! A participant: a record of a collector's domain that handles and guards share. It ends with the last of them.
//!
//! This file owns the count of handles, and the moment when the record is given back. It knows nothing of threads: a
//! participant stays on one because neither its handles nor its guards are `Send`.
//!
//! While there is a handle, the record counts the guards, as for any other record. When the last handle is dropped
//! and guards are left, the count is one more (`transient`). So the end of the last guard runs code in this file,
//! while all others take the fast path.

use super::child;
use super::collector::Collector;
use crate::engine::Engine;
use crate::engine::record::Record;
use core::cell::Cell;
use core::ptr;

/// What keeps a participant's domain alive.
struct Keeper {
    collector: Collector,
    /// 64 bits on every target, since safe code can count up without end by forgetting handles.
    handles: Cell<u64>,
}

/// Makes a new participant with one handle. It lives until handles and guards are gone.
pub(super) fn register(collector: &Collector) -> *const Record {
    let record = collector.domain().acquire();
    let keeper = Keeper { collector: collector.clone(), handles: Cell::new(1) };
    record.keeper().set(Box::into_raw(Box::new(keeper)).cast_const().cast());
    if collector.is_of_the_process() {
        child::joined();
    }
    record
}

fn keeper(record: &Record) -> &Keeper {
    // SAFETY: set by `register`, freed by `finish`, between which all other calls lie.
    unsafe { &*record.keeper().get().cast::<Keeper>() }
}

/// Returns the collector that it is registered with.
#[inline]
pub(super) fn collector(record: &Record) -> &Collector {
    &keeper(record).collector
}

/// Opens a guard.
///
/// # Safety
/// The caller is on the participant's thread, and no signal handler.
#[inline]
pub(super) unsafe fn begin(record: &Record) {
    // SAFETY: the caller is on the participant's thread, and no signal handler.
    if unsafe { record.reader().own_is_pinned() } {
        nest(record);
    } else {
        record.engine().pin(record);
    }
}

/// Counts one more guard. It is a function of its own, so that the first guard's path stays short.
#[inline(never)]
pub(super) fn nest(record: &Record) {
    record.nest();
}

/// Ends a guard.
///
/// # Safety
/// There is one, and it is not used any more. If there is no handle, the record must not be used either.
/// The caller is on the participant's thread, and no signal handler.
#[inline]
pub(super) unsafe fn end(record: *const Record) {
    // SAFETY: a guard keeps the participant.
    let own = unsafe { &*record };
    if own.nested() == 0 {
        own.reader().unpin();
    } else {
        // SAFETY: the caller promises what `end_nested` asks, which is the same.
        unsafe { end_nested(record) };
    }
}

/// Ends one guard of several, or the last one of a participant without a handle.
///
/// # Safety
/// As for `end`.
#[inline(never)]
unsafe fn end_nested(record: *const Record) {
    // SAFETY: a guard keeps the participant.
    let own = unsafe { &*record };
    own.unnest();
    if own.transient().get() && own.nested() == 0 {
        own.reader().unpin();
        // SAFETY: handles and guards are gone.
        unsafe { finish(record, Engine::hand_over) };
    }
}

/// Returns whether there is exactly one guard.
#[inline]
pub(super) fn is_sole(record: &Record) -> bool {
    record.nested() == u64::from(record.transient().get())
}

/// Begins a new section for the only guard, with what its thread has seen by now.
pub(super) fn repin(record: &Record) {
    record.engine().pin(record);
}

/// Counts one more handle, even if there is none.
pub(super) fn retain(record: &Record) {
    let handles = &keeper(record).handles;
    handles.set(handles.get() + 1);
    if record.transient().replace(false) {
        record.unnest();
    }
}

/// Counts one handle less.
///
/// # Safety
/// There is one, and it is not used any more. If it is the last one and there is no guard, the record
/// must not be used either.
pub(super) unsafe fn release(record: *const Record) {
    // SAFETY: the caller promises what `give_up` asks, which is the same.
    if unsafe { give_up(record) } {
        // SAFETY: handles and guards are gone.
        unsafe { finish(record, Engine::hand_over) };
    }
}

/// Does the same on the background thread.
///
/// # Safety
/// As for [`release`].
pub(super) unsafe fn release_in_background(record: *const Record) {
    // SAFETY: the caller promises what `give_up` asks, which is the same.
    if unsafe { give_up(record) } {
        // SAFETY: handles and guards are gone.
        unsafe { finish(record, Engine::hand_over_in_background) };
    }
}

/// Counts one handle less. Returns whether that was the end of the participant, since handles and guards are gone.
/// Otherwise the end of the last guard is. It runs no foreign code, takes no lock, and allocates and frees nothing.
///
/// # Safety
/// As for [`release`].
pub(super) unsafe fn give_up(record: *const Record) -> bool {
    // SAFETY: a handle keeps the participant.
    let own = unsafe { &*record };
    let handles = &keeper(own).handles;
    handles.set(handles.get() - 1);
    if handles.get() > 0 {
        return false;
    }
    let is_pinned = own.reader().is_pinned();
    if is_pinned {
        own.transient().set(true);
        own.nest();
    }
    !is_pinned
}

/// Gives the record back by `hand_over`, then gives up the collector, which may be the end of its domain.
///
/// # Safety
/// Handles and guards are gone; the record must not be used any more.
#[cold]
unsafe fn finish(record: *const Record, hand_over: unsafe fn(&Engine, &Record)) {
    // SAFETY: the keeper below keeps the domain, hence the record, as long as this block.
    let own = unsafe { &*record };
    // First: another thread may take the record as soon as it is given back.
    let keeper = own.keeper().replace(ptr::null()).cast_mut().cast::<Keeper>();
    // SAFETY: no handle and no guard is left, so the caller is the record's only owner.
    unsafe { hand_over(own.engine(), own) };
    // SAFETY: from `Box::into_raw` in `register`, taken out once.
    let keeper = unsafe { Box::from_raw(keeper) };
    if keeper.collector.is_of_the_process() {
        child::left(&keeper.collector);
    }
}
