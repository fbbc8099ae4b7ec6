//! What readers of a cell hold.

use super::Rcu;
use crate::api::guard::Guard;
use crate::api::hazard::Hazard;
use crate::api::owned::OwnedGuard;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr;
use core::sync::atomic::Ordering;

/// The value that a cell had when it was read, by [`Rcu::read`]. It stays on its thread.
///
/// The cell can't go away under it:
///
/// ```compile_fail,E0505
/// use barrierd_reclaim::Rcu;
///
/// let cell = Rcu::new(1);
/// let seen = cell.read();
/// drop(cell); // borrowed by `seen`
/// println!("{}", *seen);
/// ```
///
/// Nor can the value outlive it:
///
/// ```compile_fail,E0597
/// use barrierd_reclaim::Rcu;
///
/// let cell = Rcu::new(String::new());
/// let text: &str;
/// {
///     let seen = cell.read();
///     text = seen.as_str(); // `seen` does not live long enough
/// }
/// println!("{text}");
/// ```
///
/// ```
/// use barrierd_reclaim::Rcu;
///
/// let cell = Rcu::new(String::from("a"));
/// let text: &str;
/// let seen = cell.read();
/// text = seen.as_str();
/// assert_eq!(text, "a");
/// drop(seen);
/// drop(cell);
/// ```
#[must_use = "the value is kept while the guard lives"]
pub struct ReadGuard<'c, T> {
    /// Not a reference: when the guard is dropped, the value may go before the call ends.
    value: *const T,
    cell: &'c Rcu<T>,
    guard: Guard<'c>,
}

impl<'c, T> ReadGuard<'c, T> {
    #[inline]
    pub(super) fn new(cell: &'c Rcu<T>) -> ReadGuard<'c, T> {
        let guard = cell.reclaimer.pin();
        ReadGuard { value: cell.current(), cell, guard }
    }

    /// Reads the cell again. What is replaced from here on is what the guard keeps, unless this thread has other guards
    /// of the same reclaimer.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    ///
    /// let cell = Rcu::new(1);
    /// let mut seen = cell.read();
    /// cell.store(2);
    /// assert_eq!(*seen, 1);
    /// seen.refresh();
    /// assert_eq!(*seen, 2);
    /// ```
    pub fn refresh(&mut self) {
        self.guard.repin();
        self.value = self.cell.current();
    }

    /// Returns the value that the cell has now, in the same section: one load, and nothing is compared. This is the way
    /// of fewest instructions, for a loop that opens a section once for many reads.
    ///
    /// All values that it returned stay as long as the guard; and what is replaced meanwhile, in all cells of the
    /// reclaimer, waits for the guard's end, or for [`refresh`](ReadGuard::refresh), which such a loop calls now and then.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    ///
    /// let cell = Rcu::new(1);
    /// let mut seen = cell.read();
    /// for n in 2..5_000 {
    ///     let before = seen.latest();
    ///     cell.store(n);
    ///     assert_eq!((*before, *seen.latest()), (n - 1, n));
    ///     if n % 1_000 == 0 {
    ///         seen.refresh(); // lets the old ones go
    ///     }
    /// }
    /// ```
    ///
    /// None of them outlives a `refresh`:
    ///
    /// ```compile_fail,E0502
    /// use barrierd_reclaim::Rcu;
    ///
    /// let cell = Rcu::new(1);
    /// let mut seen = cell.read();
    /// let one = seen.latest();
    /// seen.refresh(); // `one` is still in use
    /// println!("{one}");
    /// ```
    #[inline]
    #[must_use]
    pub fn latest(&self) -> &T {
        // SAFETY: never null, and loaded under the guard, so it is not dropped while that lives and is not refreshed,
        // for which nothing may be borrowed.
        unsafe { &*self.cell.current() }
    }

    /// Goes on with a part of the value.
    ///
    /// ```
    /// use barrierd_reclaim::{Rcu, ReadGuard};
    ///
    /// let cell = Rcu::new((1, String::from("name")));
    /// let name = ReadGuard::map(cell.read(), |value| value.1.as_str());
    /// assert_eq!(&*name, "name");
    /// ```
    pub fn map<U: ?Sized>(
        guard: ReadGuard<'c, T>,
        part: impl FnOnce(&T) -> &U,
    ) -> MappedReadGuard<'c, U> {
        let value = ptr::from_ref(part(&guard));
        MappedReadGuard { value, _cell: PhantomData, _guard: guard.guard }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *const T {
        self.value
    }

    /// Returns whether it reads `cell`.
    pub(super) fn is_of(&self, cell: &Rcu<T>) -> bool {
        ptr::eq(self.cell, cell)
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: loaded under the guard, so it is not dropped while that lives; it is never changed.
        unsafe { &*self.value }
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for ReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A part of the value that a cell had when it was read: [`ReadGuard::map`].
#[must_use = "the value is kept while the guard lives"]
pub struct MappedReadGuard<'c, U: ?Sized> {
    value: *const U,
    /// What the part may borrow lives as long as the cell.
    _cell: PhantomData<&'c U>,
    _guard: Guard<'c>,
}

impl<'c, U: ?Sized> MappedReadGuard<'c, U> {
    /// Goes on with a part of the part.
    pub fn map<V: ?Sized>(
        guard: MappedReadGuard<'c, U>,
        part: impl FnOnce(&U) -> &V,
    ) -> MappedReadGuard<'c, V> {
        let value = ptr::from_ref(part(&guard));
        MappedReadGuard { value, _cell: PhantomData, _guard: guard._guard }
    }
}

impl<U: ?Sized> Deref for MappedReadGuard<'_, U> {
    type Target = U;

    #[inline]
    fn deref(&self) -> &U {
        // SAFETY: borrowed from the value, which is not dropped while the guard lives.
        unsafe { &*self.value }
    }
}

impl<U: ?Sized + fmt::Debug> fmt::Debug for MappedReadGuard<'_, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// One thread's way to a cell that it reads over and over, made by [`Rcu::reader`].
///
/// [`get`](Reader::get) is a load and a comparison as long as the value is not replaced; then it takes over the new one.
/// The reader keeps the value that it returned last, and no other: between two calls, at most one old value lives on for
/// its sake. It holds it by a hazard pointer ([`Hazard`]). While it holds none, before the first `get` and after
/// [`release`](Reader::release), its thread costs those that free no barrier.
///
/// ```
/// use barrierd_reclaim::Rcu;
///
/// let config = Rcu::new(1);
/// let mut reader = config.reader();
/// assert_eq!(*reader.get(), 1);
/// config.store(2);
/// assert!(reader.is_stale());
/// assert_eq!(*reader.get(), 2);
/// ```
///
/// A value is good until the next call:
///
/// ```compile_fail,E0499
/// use barrierd_reclaim::Rcu;
///
/// let config = Rcu::new(1);
/// let mut reader = config.reader();
/// let one = reader.get();
/// let two = reader.get(); // `one` is still in use
/// println!("{one} {two}");
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// use barrierd_reclaim::Rcu;
///
/// let config = Rcu::new(1);
/// let reader = config.reader();
/// std::thread::scope(|s| {
///     s.spawn(|| drop(reader)); // Reader is not Send
/// });
/// ```
pub struct Reader<'c, T> {
    /// What the hazard holds: null, or a value that it protected when the cell had it.
    held: *const T,
    cell: &'c Rcu<T>,
    /// Made when there is something to hold: its owner is never put to sleep (`protocol/dormant.rs`).
    hazard: Option<Hazard<'c>>,
}

impl<'c, T> Reader<'c, T> {
    pub(super) fn new(cell: &'c Rcu<T>) -> Reader<'c, T> {
        Reader { held: ptr::null(), cell, hazard: None }
    }

    /// Returns the current value.
    #[inline]
    pub fn get(&mut self) -> &T {
        // The same address is the same value: the hazard has held it all the time, so its memory was not used again.
        // Relaxed: what was stored into that value has been acquired when it was taken over (`renew`), and another
        // one is not followed before that. So the compiler may keep `held` in a register from call to call.
        if !ptr::eq(self.cell.current.load(Ordering::Relaxed), self.held) {
            self.renew();
        }
        // SAFETY: never null; the hazard holds it until the next call, for which this is borrowed.
        unsafe { &*self.held }
    }

    /// Takes over the value that the cell has now. Acquire, in `protect`: pairs with the exchange that published it.
    #[cold]
    fn renew(&mut self) {
        let cell = self.cell;
        let hazard = self.hazard.get_or_insert_with(|| cell.reclaimer.hazard());
        self.held = hazard.protect(&cell.current).as_ptr();
    }

    /// Returns whether the value has been replaced since the last [`get`](Reader::get), or there was none.
    #[inline]
    #[must_use]
    pub fn is_stale(&self) -> bool {
        !ptr::eq(self.cell.current(), self.held)
    }

    /// Lets the value go that the reader keeps, before a long pause. The next [`get`](Reader::get) takes a hazard pointer
    /// anew, which costs as much as to make a reader and read for the first time.
    pub fn release(&mut self) {
        self.hazard = None;
        self.held = ptr::null();
    }
}

impl<T> fmt::Debug for Reader<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("is_stale", &self.is_stale()).finish_non_exhaustive()
    }
}

/// The value that a cell had when it was read, by [`Rcu::read_owned`]: on any thread, and across an `.await`.
///
/// ```
/// use barrierd_reclaim::Rcu;
///
/// let cell = Rcu::new(String::from("a"));
/// let seen = cell.read_owned();
/// std::thread::scope(|scope| {
///     scope.spawn(|| assert_eq!(*seen, "a"));
/// });
/// ```
#[must_use = "the value is kept while the guard lives"]
pub struct OwnedReadGuard<'c, T> {
    value: *const T,
    cell: &'c Rcu<T>,
    guard: OwnedGuard,
}

// SAFETY: it is a shared reference to a value, and to its cell, and a guard that may move.
unsafe impl<T: Send + Sync> Send for OwnedReadGuard<'_, T> {}
// SAFETY: likewise.
unsafe impl<T: Send + Sync> Sync for OwnedReadGuard<'_, T> {}

impl<'c, T> OwnedReadGuard<'c, T> {
    pub(super) fn new(cell: &'c Rcu<T>) -> OwnedReadGuard<'c, T> {
        let guard = cell.reclaimer.pin_owned();
        OwnedReadGuard { value: cell.current(), cell, guard }
    }

    /// Reads the cell again. What is replaced from here on is what the guard keeps. It costs a fence.
    pub fn refresh(&mut self) {
        self.guard.repin();
        self.value = self.cell.current();
    }
}

impl<T> Deref for OwnedReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: loaded under the guard, so it is not dropped while that lives; it is never changed.
        unsafe { &*self.value }
    }
}

impl<T: fmt::Debug> fmt::Debug for OwnedReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
