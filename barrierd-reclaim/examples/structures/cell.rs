//! A read-copy-update cell: readers see one value or the next, and never wait.
//! To use one, take [`barrierd_reclaim::Rcu`], which needs no `unsafe`; this shows how one is built.
//!
//! McKenney and Slingwine, "Read-copy update: using execution history to solve concurrency problems"
//! (PDCS 1998).

use barrierd_reclaim::{Guard, Reclaimer};
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// See the file's documentation.
#[derive(Debug)]
pub struct RcuCell<T> {
    reclaimer: Reclaimer,
    value: AtomicPtr<T>,
}

// SAFETY: values are shared by reference, replaced, and dropped on any thread.
unsafe impl<T: Send + Sync> Sync for RcuCell<T> {}
// SAFETY: the cell owns its value.
unsafe impl<T: Send> Send for RcuCell<T> {}

impl<T: Send + Sync> RcuCell<T> {
    /// A cell with its first value.
    pub fn new(reclaimer: Reclaimer, value: T) -> RcuCell<T> {
        RcuCell { reclaimer, value: AtomicPtr::new(Box::into_raw(Box::new(value))) }
    }

    /// The present value, for as long as `guard` lives.
    pub fn read<'g>(&'g self, guard: &'g Guard<'_>) -> &'g T {
        assert!(guard.belongs_to(&self.reclaimer), "a guard of another reclaimer");
        // SAFETY: never null; what is replaced after this load is not freed before `guard` ends.
        unsafe { &*guard.protect(&self.value) }
    }

    /// Replaces the value.
    pub fn set(&self, value: T) {
        let old = self.value.swap(Box::into_raw(Box::new(value)), AcqRel);
        // SAFETY: from a Box, unlinked by the swap, which gives each pointer to one caller.
        unsafe { self.reclaimer.retire(old) };
    }

    /// Replaces the value by what `change` makes of it; again, if somebody else was faster.
    pub fn update(&self, guard: &Guard<'_>, mut change: impl FnMut(&T) -> T) {
        let mut old = std::ptr::from_ref(self.read(guard)).cast_mut();
        loop {
            // SAFETY: loaded under `guard`, so not freed yet.
            let new = Box::into_raw(Box::new(change(unsafe { &*old })));
            match self.value.compare_exchange(old, new, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => {
                    // SAFETY: it was never in the cell.
                    drop(unsafe { Box::from_raw(new) });
                    old = now;
                }
            }
        }
        // SAFETY: from a Box, unlinked by this thread's compare-exchange, retired once.
        unsafe { guard.retire(old) };
    }
}

impl<T> Drop for RcuCell<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody reads; the present value was not retired.
        drop(unsafe { Box::from_raw(*self.value.get_mut()) });
    }
}
