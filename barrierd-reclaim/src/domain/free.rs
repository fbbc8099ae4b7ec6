//! Where a thread runs the destructors of what it let go.
//!
//! Owns how many at once, and what destructors that retire leave over.

use super::running::{Freeing, Running, runs};
use super::*;

impl Domain {
    /// Runs one destructor. If it panics the panic goes on to the caller; that item is gone, no other
    /// is lost.
    ///
    /// # Safety
    /// The caller owns `record`; `item` was stamped before `safe`, so no reader can hold it
    /// (ARCHITECTURE.md, "Why a freed item has no reader"), and has left its queue.
    #[inline]
    pub(super) unsafe fn run(&self, record: &Record, item: Item) {
        let freeing = Freeing::new(record);
        record.freed().publish(1);
        // SAFETY: as the caller says; it has left its queue, so this is the only call.
        unsafe { item.free() };
        drop(freeing);
    }

    /// A destructor that retires only pushes; a later call frees for it.
    #[cold]
    pub(super) fn owe(&self, record: &Record, items: usize) {
        record.debt().set(record.debt().get().saturating_add(items));
    }

    /// Frees up to `limit` items that may go, oldest first, and some more if destructors retired.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(super) unsafe fn free(&self, record: &Record, limit: usize) {
        if record.freeing().get() || runs(self) {
            if self.in_destructor(record) {
                // What is there at most: a destructor that flushes owes no more than that.
                // SAFETY: the caller owns the record; `ready` runs no foreign code.
                let ready = unsafe { self.own(record, |work| work.ready()) };
                self.owe(record, limit.min(ready));
            }
            return;
        }
        if self.is_forked() {
            return;
        }
        // Objects that renew themselves have no end.
        let limit = if limit == usize::MAX {
            // SAFETY: the caller owns the record; `ready` runs no foreign code.
            unsafe { self.own(record, |work| work.ready()) }
        } else {
            limit
        };
        let debt = record.debt().get();
        let extra = debt.min(MOST_PER_RETIRE);
        record.debt().set(debt - extra);
        let _running = Running::new(record);
        for _ in 0..limit.saturating_add(extra) {
            // SAFETY: the caller owns the record; `take_safe` runs no foreign code.
            let Some(item) = (unsafe { self.own(record, |work| work.take_safe()) }) else {
                record.debt().set(0);
                break;
            };
            record.freed().publish(1);
            // SAFETY: as for `run`.
            unsafe { item.free() };
            if self.is_forked() {
                // This is a child, made in that destructor.
                return;
            }
        }
    }
}
