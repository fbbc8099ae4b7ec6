//! The value that a writer has replaced, and that readers may still use.

use super::{Rcu, boxed};
use crate::api::hazard::address;
use crate::error::SynchronizeError;
use core::cell::Cell;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use std::time::Instant;

/// A value that was replaced, by [`Rcu::swap`] or [`Rcu::update`]; readers may still be using it.
///
/// Dropping this leaves the value to the reclaimer, which drops it once nobody reads it any more: what
/// [`store`](Rcu::store) does. Otherwise [`wait`](Retired::wait) until then, and take the value out.
///
/// ```
/// use barrierd_reclaim::Rcu;
/// use std::time::{Duration, Instant};
///
/// let connection = Rcu::new(String::from("old"));
/// let old = connection.swap(String::from("new"));
/// old.wait(Instant::now() + Duration::from_secs(10))?;
/// let old: String = old.try_unwrap().expect("nobody reads it after the wait");
/// assert_eq!(old, "old");
/// # Ok::<(), barrierd_reclaim::SynchronizeError>(())
/// ```
pub struct Retired<'c, T: Send + 'static> {
    /// From `boxed::alloc`, unlinked from the cell before this was made.
    value: *mut T,
    cell: &'c Rcu<T>,
    /// What is known of readers.
    readers: Cell<Readers>,
}

/// What is known of the readers of a retired value.
#[derive(Clone, Copy, Debug)]
enum Readers {
    /// Nothing was asked yet.
    Unknown,
    /// The stamp that was taken when it was first asked.
    Since(u64),
    /// There are none.
    Gone,
}

// SAFETY: it shares the value with readers on other threads (`T: Sync`) and drops it or hands it out (`T: Send`).
unsafe impl<T: Send + Sync + 'static> Send for Retired<'_, T> {}

impl<'c, T: Send + 'static> Retired<'c, T> {
    /// # Safety
    /// `value` came from `boxed::alloc`, was the cell's, and was unlinked by the caller alone.
    pub(super) unsafe fn new(cell: &'c Rcu<T>, value: *mut T) -> Retired<'c, T> {
        Retired { value, cell, readers: Cell::new(Readers::Unknown) }
    }

    /// Waits until nobody reads the value any more. Afterwards [`try_unwrap`](Retired::try_unwrap) succeeds.
    ///
    /// It costs what [`Reclaimer::synchronize`](crate::Reclaimer::synchronize) does, except that it frees nothing.
    ///
    /// # Errors
    /// Returns an error when `deadline` comes first, or when the wait could never end: this thread holds a guard of the
    /// cell's reclaimer, or runs the drop of a retired value, or is in the child of a fork ([`SynchronizeError`]). What
    /// this thread holds in another way shows as [`SynchronizeError::Readers`], after the deadline: a
    /// [`Reader`](crate::Reader) that keeps the value, an [`OwnedReadGuard`](crate::OwnedReadGuard), and, late in the
    /// thread's exit, a guard.
    pub fn wait(&self, deadline: Instant) -> Result<(), SynchronizeError> {
        if matches!(self.readers.get(), Readers::Gone) {
            return Ok(());
        }
        self.cell.reclaimer.with_record(|domain, record| {
            let stamp = self.stamp(|| domain.fence_and_stamp(record));
            domain.wait_until_unused(record, stamp, self.address(), deadline)
        })?;
        self.readers.set(Readers::Gone);
        Ok(())
    }

    /// Returns the value, if nobody reads it any more, as far as can be told without a wait.
    ///
    /// The first call of this or of [`wait`](Retired::wait) is the moment since when the readers are watched.
    ///
    /// # Errors
    /// Returns `self`, if somebody may still read the value; and in any case from the drop of a retired value and in the
    /// child of a fork, unless a call before has found that nobody does.
    pub fn try_unwrap(self) -> Result<T, Self> {
        if !self.is_unused() {
            return Err(self);
        }
        let value = ManuallyDrop::new(self).value;
        // SAFETY: from `alloc`, unlinked, and no reader can hold it: it is this caller's alone, and not retired.
        Ok(unsafe { boxed::take(value) })
    }

    fn is_unused(&self) -> bool {
        let gone = matches!(self.readers.get(), Readers::Gone)
            || self.cell.reclaimer.with_record(|domain, record| {
                let stamp = self.stamp(|| domain.fence_and_stamp(record));
                domain.is_unused(record, stamp, self.address())
            });
        if gone {
            self.readers.set(Readers::Gone);
        }
        gone
    }

    /// Returns a stamp that was taken after the value was unlinked.
    fn stamp(&self, take: impl FnOnce() -> u64) -> u64 {
        if let Readers::Since(stamp) = self.readers.get() {
            return stamp;
        }
        let stamp = take();
        self.readers.set(Readers::Since(stamp));
        stamp
    }

    /// Returns the address that a hazard which holds the value has.
    fn address(&self) -> u64 {
        address(self.value)
    }
}

impl<T: Send + 'static> Deref for Retired<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: it is dropped after this, at the earliest; nobody changes it.
        unsafe { &*self.value }
    }
}

impl<T: Send + 'static> Drop for Retired<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if matches!(self.readers.get(), Readers::Gone) {
            // SAFETY: from `alloc`, unlinked, and no reader can hold it.
            return unsafe { boxed::free(self.value) };
        }
        // SAFETY: from `alloc`, loaded by readers under guards or hazards of this reclaimer alone, unlinked by an exchange
        // before this was made, and retired here only. `T` is `Send` and borrows nothing.
        unsafe { self.cell.reclaimer.retire_with(self.value, boxed::free) };
    }
}

/// Without the value, so that [`Retired::try_unwrap`]'s result can be expected, whatever `T` is.
impl<T: Send + 'static> fmt::Debug for Retired<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retired").field("readers", &self.readers.get()).finish_non_exhaustive()
    }
}
