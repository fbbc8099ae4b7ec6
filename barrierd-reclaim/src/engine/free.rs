//! Runs the destructors of a thread's reclaimable items on that thread.
//!
//! Owns how many run at once, and what destructors that retire leave over.

use super::Engine;
use super::running::{Running, runs};
use crate::bag::Item;
use crate::bag::pace::FREED_PER_RETIRE;
use crate::bag::pace::MOST_PER_RETIRE;
use crate::engine::record::Record;

impl Engine {
    /// Runs one destructor. If it panics the panic goes on to the caller; that item is gone, no other
    /// is lost.
    ///
    /// # Safety
    /// The caller owns `record`; `item` was stamped before `safe`, so no reader can hold it
    /// (docs/proofs/reclaim.md, "Why a freed item has no reader"), and has left its queue.
    #[inline]
    pub(crate) unsafe fn run(record: &Record, item: Item) {
        let running = record.push_only().run_destructors();
        record.meter().frees();
        // SAFETY: the caller promises that no reader can hold it; it has left its queue, so this is the only call.
        unsafe { item.free() };
        drop(running);
    }

    /// A destructor that retires only pushes; a later call frees for it.
    #[cold]
    pub(crate) fn owe(&self, record: &Record, items: usize) {
        record.set_debt(record.debt().saturating_add(items));
    }

    /// Does the same for a push that took nothing out, if a destructor made it.
    #[inline(never)]
    pub(crate) fn owe_for_push(&self, record: &Record) {
        if !self.lazy {
            self.owe(record, 1);
        }
    }

    /// Frees what a push has to free beside the item that it took out.
    ///
    /// # Safety
    /// The caller owns `record`.
    #[cold]
    pub(crate) unsafe fn free_more(&self, record: &Record) {
        // SAFETY: the caller owns the record.
        unsafe { self.free(record, FREED_PER_RETIRE - 1) };
    }

    /// Frees up to `limit` reclaimable items, oldest first, and some more if destructors retired.
    ///
    /// # Safety
    /// The caller owns `record`.
    pub(crate) unsafe fn free(&self, record: &Record, limit: usize) {
        if record.push_only().is_any() || runs(self) {
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
        let debt = record.debt();
        let extra = debt.min(MOST_PER_RETIRE);
        record.set_debt(debt - extra);
        let _running = Running::new(record);
        for _ in 0..limit.saturating_add(extra) {
            // SAFETY: the caller owns the record; `take_safe` runs no foreign code.
            let next = unsafe {
                self.own(record, |work| {
                    let next = work.take_safe();
                    record.set_backlog(work.has_backlog());
                    next
                })
            };
            let Some(item) = next else {
                record.set_debt(0);
                break;
            };
            record.meter().frees();
            // SAFETY: as for `run`.
            unsafe { item.free() };
            if self.is_forked() {
                // This is a child, made in that destructor.
                return;
            }
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use crate::evidence::purchase::Asked;
    use crate::evidence::source::Source;

    unsafe fn nothing(_: *mut ()) {}

    /// One item a call would never work a backlog off.
    #[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
    #[test]
    fn calls_free_two_items_each_while_there_is_a_backlog() {
        let barriers = Barriers::choose(Source::Membarrier, None).expect("this kernel has it");
        let domain = Domain::new(barriers, &Settings { background: false, ..Settings::default() });
        let (record, reader) = (domain.acquire(), domain.acquire());
        let retire = || {
            let item = Item::new(core::ptr::null_mut(), nothing);
            // SAFETY: the record is this test's; `nothing` touches nothing.
            unsafe { Domain::retire::<false>(record, item, 8) };
        };
        domain.pin(reader);
        (0..2_000).for_each(|_| retire());
        reader.reader().unpin();
        let has_backlog = || {
            // SAFETY: the record is this test's.
            unsafe { domain.own(record, |work| work.has_backlog()) }
        };
        for _ in 0..10 {
            retire();
            // The reader shows what it has seen.
            let stamp = domain.fence_and_stamp(record);
            domain.pin(reader);
            reader.reader().unpin();
            // SAFETY: the record is this test's.
            unsafe {
                domain.own(record, |work| {
                    work.seal(stamp);
                    domain.scan_and_release(record, work, Asked::OnRetire);
                });
            }
        }
        assert!(has_backlog());
        // SAFETY: the record is this test's.
        unsafe { domain.free(record, 1) };
        assert!(record.owes());
        for _ in 0..50 {
            let before = record.meter().freed().items;
            retire();
            assert!(record.meter().freed().items >= before + 2);
        }
        domain.close();
    }
}
