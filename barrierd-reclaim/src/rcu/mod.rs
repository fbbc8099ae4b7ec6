//! A cell whose value is read all the time and replaced now and then, in safe code.
//!
//! Owns the pointer to the current value. `read.rs` has what readers hold, `retired.rs` what a writer gets back, `boxed.rs`
//! where a value lies. It is built on what users call (`api/`) and knows nothing below that, except for the wait for one
//! object.

mod boxed;
pub(crate) mod read;
pub(crate) mod retired;
#[cfg(feature = "serde")]
mod serde;

use crate::api::reclaimer::Reclaimer;
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicPtr, Ordering};
use read::{OwnedReadGuard, ReadGuard, Reader};
use retired::Retired;
use std::sync::Arc;

/// A value that threads read all the time and replace now and then: a configuration, a routing table, a snapshot.
///
/// A read costs no lock, no reference count and no fence, and never waits. A [`store`](Rcu::store) publishes a new value
/// at once and never waits for readers; the old value is dropped once nobody reads it any more. This is read-copy-update:
/// readers see one whole value, the old or the new one.
///
/// | | to read | keeps old values |
/// |---|---|---|
/// | [`read`](Rcu::read) | anywhere | all that are replaced while the guard lives |
/// | [`reader`](Rcu::reader) | in a thread's hot loop: a load and a comparison | one |
/// | [`ReadGuard::latest`] | many times under one guard: a load | as `read` |
/// | [`peek`](Rcu::peek) | for the time of a closure | as `read` |
/// | [`read_owned`](Rcu::read_owned) | across an `.await`, on any thread | as `read` |
///
/// ```
/// use barrierd_reclaim::Rcu;
/// use std::thread;
///
/// struct Config {
///     greeting: String,
/// }
///
/// let config = Rcu::new(Config { greeting: "hello".into() });
/// thread::scope(|scope| {
///     scope.spawn(|| {
///         let seen = config.read();
///         println!("{}", seen.greeting); // the old one or the new one
///     });
///     config.store(Config { greeting: "good morning".into() });
/// });
/// assert_eq!(config.read().greeting, "good morning");
/// ```
///
/// As a `static`, it is made by the first use:
///
/// ```
/// use barrierd_reclaim::Rcu;
/// use std::sync::LazyLock;
///
/// static LIMITS: LazyLock<Rcu<[u32; 2]>> = LazyLock::new(|| Rcu::new([10, 20]));
/// LIMITS.update(|old| [old[0] + 1, old[1]]);
/// assert_eq!(*LIMITS.read(), [11, 20]);
/// ```
///
/// # Where old values go
/// To the cell's reclaimer: the process's own ([`Reclaimer::global`]), unless the cell was made
/// [`with_reclaimer`](Rcu::with_reclaimer). Its background thread, or a later `store`, drops them: on some thread, some
/// milliseconds later. [`swap`](Rcu::swap) gives the old value back to a caller that wants to know when, or wants the value.
///
/// A guard that lives long keeps what is replaced meanwhile in all cells of the reclaimer. Where readers may stall, use
/// [`reader`](Rcu::reader)s.
///
/// No call here waits for a reader, except [`Retired::wait`], which says so if the reader is the caller itself, and a `store`
/// on a reclaimer that was told to wait above its limits ([`OnLimit::Block`](crate::OnLimit::Block)), which does not do so
/// under a guard of its own thread. So a `store` under such a guard is no deadlock. In the child of a fork, what is replaced
/// is kept for good.
///
/// # Sharing
/// The cell is `Sync` if `T` is `Send` and `Sync`: readers share the value, and any thread may be the one that drops it. For
/// the same reason what is replaced must be `'static`:
///
/// ```compile_fail,E0597
/// use barrierd_reclaim::Rcu;
///
/// let text = String::from("short-lived");
/// let cell = Rcu::new(text.as_str());
/// cell.store("another"); // `text` would have to live as long as the process
/// ```
///
/// A cell of values that borrow can be read:
///
/// ```
/// use barrierd_reclaim::Rcu;
///
/// let text = String::from("short-lived");
/// let cell = Rcu::new(text.as_str());
/// assert_eq!(*cell.read(), "short-lived");
/// ```
pub struct Rcu<T> {
    /// From `boxed::alloc`, never null. What it led to before was retired, or belongs to a [`Retired`].
    current: AtomicPtr<T>,
    /// A clone, or the process's own.
    reclaimer: Reclaimer,
    _owned: PhantomData<T>,
}

// SAFETY: the cell owns its value, which moves with it and may be dropped on another thread: `T: Send`. No guard or reader
// of it exists while it moves, since they borrow it.
unsafe impl<T: Send> Send for Rcu<T> {}
// SAFETY: through `&Rcu` threads share the value (`T: Sync`), and take it out, replace and drop it on any of them
// (`T: Send`).
unsafe impl<T: Send + Sync> Sync for Rcu<T> {}

impl<T> Rcu<T> {
    /// Makes a cell with a first value, on the process's own reclaimer ([`Reclaimer::global`]).
    ///
    /// It costs an allocation.
    #[must_use]
    pub fn new(value: T) -> Rcu<T> {
        Rcu::with_reclaimer(value, Reclaimer::global())
    }

    /// Makes a cell on a reclaimer of one's own. Its old values don't wait for readers of other cells then, and the reclaimer
    /// may have settings of its own ([`Reclaimer::builder`]).
    ///
    /// It costs an allocation.
    #[must_use]
    pub fn with_reclaimer(value: T, reclaimer: &Reclaimer) -> Rcu<T> {
        let current = AtomicPtr::new(boxed::alloc(value));
        Rcu { current, reclaimer: reclaimer.clone(), _owned: PhantomData }
    }

    /// Returns the reclaimer that old values go to.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.reclaimer
    }

    /// Returns the current value, which stays as it is, and stays there, while the guard lives.
    ///
    /// It costs a [`pin`](Reclaimer::pin) and a load, and never waits.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        ReadGuard::new(self)
    }

    /// Calls `work` with the current value: [`read`](Rcu::read), where a closure is handier than a guard.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    ///
    /// let names = Rcu::new(vec!["a", "b"]);
    /// assert_eq!(names.peek(|names| names.len()), 2);
    /// ```
    #[inline]
    pub fn peek<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        work(&self.read())
    }

    /// Returns a reader for this thread's hot path: see [`Reader`]. It costs nothing before the first
    /// [`get`](Reader::get), which makes a hazard pointer.
    #[must_use]
    pub fn reader(&self) -> Reader<'_, T> {
        Reader::new(self)
    }

    /// Returns the current value by a guard that may move between threads, and be held across an `.await`.
    ///
    /// It costs about as much as an allocation and a fence.
    pub fn read_owned(&self) -> OwnedReadGuard<'_, T> {
        OwnedReadGuard::new(self)
    }

    /// Returns the value; nobody reads it, since the cell is borrowed mutably.
    pub fn get_mut(&mut self) -> &mut T {
        // SAFETY: never null, from `alloc`, and the cell's alone: guards and readers borrow the cell.
        unsafe { &mut **self.current.get_mut() }
    }

    /// Returns the value of a cell that nobody reads any more.
    #[must_use]
    pub fn into_inner(self) -> T {
        let mut cell = core::mem::ManuallyDrop::new(self);
        let current = *cell.current.get_mut();
        // SAFETY: a field of what is not used again.
        unsafe { core::ptr::drop_in_place(&raw mut cell.reclaimer) };
        // SAFETY: from `alloc`, and the cell's alone.
        unsafe { boxed::take(current) }
    }

    /// Loads the current value's address, with all that was stored into it before it was published.
    #[inline]
    fn current(&self) -> *mut T {
        self.current.load(Ordering::Acquire)
    }
}

impl<T: Send + 'static> Rcu<T> {
    /// Replaces the value. The old one is dropped once nobody reads it any more; the call does not wait for that.
    ///
    /// It costs an allocation, an exchange and a [`retire`](Reclaimer::retire).
    ///
    /// # Panics
    /// If the drop of an older value panics, the panic may come out here, as out of `retire`. The new value is in place
    /// then.
    pub fn store(&self, value: T) {
        drop(self.swap(value));
    }

    /// Replaces the value, and returns the old one, which others may still be reading: see [`Retired`].
    ///
    /// It costs an allocation and an exchange. The old value is retired when what is returned is dropped; a panic that
    /// [`store`](Rcu::store) tells of comes out there.
    pub fn swap(&self, value: T) -> Retired<'_, T> {
        let new = boxed::alloc(value);
        // AcqRel: Release for the new value, Acquire for the old one, which the caller reads and drops.
        let old = self.current.swap(new, Ordering::AcqRel);
        // SAFETY: from `alloc`, and unlinked by this thread alone.
        unsafe { Retired::new(self, old) }
    }

    /// Replaces the value by what `change` makes of it. If another thread replaces it meanwhile, `change` is called again
    /// with what is there then. Returns the value that was replaced.
    ///
    /// It costs a section, and each time that `change` is called an allocation and a compare-exchange. `change` must not
    /// replace this cell's value itself each time, since it would be called for ever.
    ///
    /// # Panics
    /// If `change` panics, the value stays.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    ///
    /// let hits = Rcu::new(vec![0]);
    /// hits.update(|old| old.iter().copied().chain([7]).collect());
    /// assert_eq!(*hits.read(), [0, 7]);
    /// ```
    pub fn update(&self, mut change: impl FnMut(&T) -> T) -> Retired<'_, T> {
        let never = |replaced: Option<_>| replaced.expect("a change was made");
        never(self.try_update(|value| Some(change(value))))
    }

    /// Does what [`update`](Rcu::update) does, unless `change` returns `None`: then the value stays, and the result is
    /// `None`, too.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    ///
    /// let left = Rcu::new(1);
    /// let take = || left.try_update(|left: &u32| left.checked_sub(1)).is_some();
    /// assert!(take() && !take());
    /// ```
    ///
    /// # Panics
    /// If `change` panics, the value stays.
    pub fn try_update(&self, mut change: impl FnMut(&T) -> Option<T>) -> Option<Retired<'_, T>> {
        let mut seen = self.read();
        let mut new = change(&seen)?;
        loop {
            match self.compare_exchange(&seen, new) {
                Ok(replaced) => return Some(replaced),
                Err(_) => {
                    seen.refresh();
                    new = change(&seen)?;
                }
            }
        }
    }

    /// Replaces the value if it is still the one that `current` reads. Returns the value that was replaced.
    ///
    /// An equal value is not enough: it must be the same one. The guard keeps it, so its memory can't hold another.
    ///
    /// # Errors
    /// Returns `new`, if another thread has replaced the value, or `current` is another cell's.
    pub fn compare_exchange(
        &self,
        current: &ReadGuard<'_, T>,
        new: T,
    ) -> Result<Retired<'_, T>, T> {
        if !current.is_of(self) {
            return Err(new);
        }
        let new = boxed::alloc(new);
        let old = current.as_ptr().cast_mut();
        // AcqRel as in `swap`. Relaxed: after a failure the value found is not used.
        match self.current.compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed) {
            // SAFETY: from `alloc`, and unlinked by this thread alone.
            Ok(old) => Ok(unsafe { Retired::new(self, old) }),
            // SAFETY: from `alloc`, and never published.
            Err(_) => Err(unsafe { boxed::take(new) }),
        }
    }
}

impl<T: Send + 'static> Rcu<Option<T>> {
    /// Replaces the value by `None`, and returns it.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    ///
    /// let leader = Rcu::new(Some("a"));
    /// assert_eq!(*leader.take(), Some("a"));
    /// assert!(leader.read().is_none());
    /// ```
    pub fn take(&self) -> Retired<'_, Option<T>> {
        self.swap(None)
    }
}

impl<T> Rcu<Arc<T>> {
    /// Returns a clone of the current `Arc`, for a caller that keeps the value for long: it holds no other value back.
    ///
    /// It costs a [`read`](Rcu::read) and an increment of the `Arc`'s count.
    ///
    /// ```
    /// use barrierd_reclaim::Rcu;
    /// use std::sync::Arc;
    ///
    /// let config = Rcu::new(Arc::new(String::from("old")));
    /// let kept = config.load_full();
    /// config.store(Arc::new(String::from("new")));
    /// assert_eq!((&**kept, &**config.load_full()), ("old", "new"));
    /// ```
    #[must_use]
    pub fn load_full(&self) -> Arc<T> {
        self.peek(Arc::clone)
    }
}

impl<T> Drop for Rcu<T> {
    fn drop(&mut self) {
        // SAFETY: from `alloc`, and the cell's alone: guards, readers and what was retired borrow the cell.
        unsafe { boxed::free(*self.current.get_mut()) };
    }
}

impl<T: Default> Default for Rcu<T> {
    fn default() -> Rcu<T> {
        Rcu::new(T::default())
    }
}

impl<T> From<T> for Rcu<T> {
    fn from(value: T) -> Rcu<T> {
        Rcu::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Rcu<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rcu").field(&&*self.read()).finish()
    }
}
