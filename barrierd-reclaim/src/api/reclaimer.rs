//! [`Reclaimer`], the type that authors of data structures begin with.

use crate::api::builder::Builder;
use crate::api::guard::Guard;
use crate::api::handle::Handle;
use crate::api::hazard::{Hazard, HazardPair};
use crate::api::owned::OwnedGuard;
use crate::api::robust::RobustGuard;
use crate::bag::{Item, free_box};
use crate::domain::keeper::Keeper;
use crate::domain::local::{self, DomainId};
use crate::domain::{Domain, Settings};
use crate::engine::record::Record;
use crate::error::SynchronizeError;
use crate::evidence::barriers::Barriers;
use crate::evidence::status::Status;
use crate::meter::stats::Stats;
use crate::report::blockers::Blocker;
use core::fmt;
use core::ptr;
use std::sync::Arc;
use std::time::Instant;

/// A domain of concurrent data structures whose removed objects are freed together.
///
/// Readers [`pin`](Reclaimer::pin) and follow pointers; writers unlink an object, so that no new reader can find it,
/// and [`retire`](Reclaimer::retire) it. It is freed once every CPU is known to have passed a memory barrier since
/// (or every thread to have seen the unlink), and every section that was open then has ended.
///
/// Clones share the domain. When the last one is dropped, everything retired is freed.
///
/// Objects are freed by calls to this library: a little in each `retire`, all that is safe in
/// [`flush`](Reclaimer::flush) and [`synchronize`](Reclaimer::synchronize), the rest when the last clone is dropped.
/// If a thread sleeps, blocks or has exited, the [background thread](Builder::background) frees what it holds, two
/// barrier rounds and some 20 ms after the thread's last call.
///
/// A retired object that owns a clone of its reclaimer keeps the domain alive until it is freed. While such an object
/// is queued, dropping all other clones frees nothing.
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use std::sync::atomic::{AtomicPtr, Ordering};
///
/// let reclaimer = Reclaimer::new();
/// let config = AtomicPtr::new(Box::into_raw(Box::new(String::from("old"))));
///
/// // A reader: no fence, no atomic read-modify-write, no system call.
/// let guard = reclaimer.pin();
/// // SAFETY: not null, and not freed while the guard lives.
/// let seen = unsafe { &*guard.protect(&config) };
/// assert_eq!(seen, "old");
///
/// // A writer: unlink, then retire.
/// let new = Box::into_raw(Box::new(String::from("new")));
/// let old = config.swap(new, Ordering::AcqRel);
/// // SAFETY: `old` came from a Box, can't be reached any more, and is retired once.
/// unsafe { reclaimer.retire(old) };
/// assert_eq!(seen, "old"); // still there: the guard holds it
/// drop(guard);
///
/// # // SAFETY: the last pointer, and nobody else has it.
/// # drop(unsafe { Box::from_raw(config.into_inner()) });
/// ```
#[derive(Clone)]
pub struct Reclaimer {
    id: DomainId,
    domain: Arc<Domain>,
    _last: Arc<Last>,
}

/// Shared by all clones, and by nothing else: it is dropped with the last of them, on that clone's thread. (The
/// domain itself may live a moment longer, while an exiting thread still holds it.)
struct Last(Arc<Domain>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close();
        if self.0.is_forked() {
            // The work of other threads, and the records' queues, may be half done: all of it is kept for good.
            core::mem::forget(self.0.clone());
        }
    }
}

impl Reclaimer {
    /// Makes a new domain on the best source of barriers that is available ([`Source::Auto`](crate::Source::Auto)).
    ///
    /// This costs one system call, a `stat` of the daemon's file: about a microsecond. It waits for nothing. The
    /// first call in a process asks the kernel three more questions. Where a daemon's file exists, that call also
    /// opens and maps it, in some thirty system calls. All domains of the process share the mapping.
    #[must_use]
    pub fn new() -> Reclaimer {
        Builder::default().build().unwrap_or_else(|_| {
            Reclaimer::on(Barriers::Fence { asked_for: false }, &Settings::default())
        })
    }

    /// Returns a builder for a domain with other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn on(barriers: Barriers, settings: &Settings) -> Reclaimer {
        let domain = Arc::new(Domain::new(barriers, settings));
        let id = local::next_id();
        if let Some(watch) = domain.watch() {
            watch.enlist(Box::new(Keeper::new(Arc::downgrade(&domain), id)));
        }
        Reclaimer { id, _last: Arc::new(Last(domain.clone())), domain }
    }

    #[inline]
    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Makes a handle: a record in this domain, for one thread's hot path.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.clone())
    }

    /// Opens a read-side section. It costs one store, some loads and tests.
    ///
    /// Guards nest. With [`Source::Fence`](crate::Source::Fence) the outermost `pin` runs a full fence too.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        let Some(record) = local::last(&self.domain) else { return Guard::new(self.pin_slow()) };
        // SAFETY: this thread's record in this domain, which `self` keeps alive.
        let own = unsafe { &*record };
        if own.reader().is_pinned() {
            own.nest();
        } else {
            self.domain.pin(own);
        }
        Guard::new(record)
    }

    /// Returns the record, which counts the new guard.
    #[cold]
    fn pin_slow(&self) -> *const Record {
        let found = local::find(self.id, &self.domain);
        // Late in a thread's exit there is no registration: a record for this guard alone.
        let record = found.unwrap_or_else(|| ptr::from_ref(self.domain.acquire()));
        // SAFETY: this thread's record in this domain, which `self` keeps alive.
        let own = unsafe { &*record };
        self.domain.pin_nested(own);
        if found.is_none() {
            // The count is one more than the guards, so that the end of the last one is noticed.
            own.transient().set(true);
            own.nest();
        }
        record
    }

    /// Opens a section that may move between threads, and across an `.await`.
    ///
    /// It costs about as much as an allocation and a fence: the guard takes a record in the domain, fences and takes
    /// a stamp.
    pub fn pin_owned(&self) -> OwnedGuard {
        OwnedGuard::new(self.clone())
    }

    /// Opens a section that may stall: it keeps nothing that is born later ([`RobustGuard`]). It costs two loads and
    /// three stores.
    #[inline]
    pub fn pin_robust(&self) -> RobustGuard<'_> {
        let Some(record) = local::last(&self.domain) else { return self.pin_robust_slow() };
        // SAFETY: this thread's record in this domain, which `self` keeps alive.
        let own = unsafe { &*record };
        RobustGuard::open(own, &self.domain, false)
    }

    #[cold]
    fn pin_robust_slow(&self) -> RobustGuard<'_> {
        RobustGuard::open(self.kept_record(), &self.domain, self.domain.readers_fence())
    }

    /// Makes a hazard pointer, which holds nothing yet. One in eight costs some atomic operations; the others cost
    /// the search for this thread's record.
    #[must_use]
    pub fn hazard(&self) -> Hazard<'_> {
        Hazard::new(self.kept_record())
    }

    /// Makes a few hazard pointers at once, for a pair or for a walk hand over hand.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    ///
    /// let reclaimer = Reclaimer::new();
    /// let [mut here, mut next] = reclaimer.hazards();
    /// // ... `next` protects the next node; then that is here:
    /// std::mem::swap(&mut here, &mut next);
    /// ```
    #[must_use]
    pub fn hazards<const N: usize>(&self) -> [Hazard<'_>; N] {
        // All share one record, also late in a thread's exit. For no hazards, no record is taken.
        let mut record = None;
        core::array::from_fn(|_| Hazard::new(record.get_or_insert_with(|| self.kept_record())))
    }

    /// Makes two hazard pointers that are used in turn, for a walk hand over hand: [`HazardPair`].
    #[must_use]
    pub fn hazard_pair(&self) -> HazardPair<'_> {
        HazardPair::new(self.kept_record())
    }

    /// Returns this thread's record, for a caller that at once counts itself in `Record::holds`. Late in the thread's
    /// exit, when there is no registration, it returns one that is given back after the last such holder.
    fn kept_record(&self) -> &Record {
        let record = local::find(self.id, &self.domain).unwrap_or_else(|| {
            let record = self.domain.acquire();
            record.transient().set(true);
            record
        });
        // SAFETY: this thread's record in this domain, which `self` keeps alive.
        unsafe { &*record }
    }

    /// Frees the object behind `ptr`, as its `Box`, once no reader can hold it.
    ///
    /// `T` must be `Send`, since any thread may run its destructor. A node that contains raw pointers is not `Send` by
    /// itself: if it may be dropped on any thread, say so by an `unsafe impl Send`. A node without size waits for all
    /// hazards on such nodes ([`Hazard`], "Which objects"). For costs, panics and more, see
    /// [`retire_with`](Reclaimer::retire_with).
    ///
    /// # Safety
    /// As for `retire_with`, and `ptr` came from [`Box::into_raw`].
    #[inline]
    pub unsafe fn retire<T: Send>(&self, ptr: *mut T) {
        // SAFETY: the caller promises what `retire_with` asks, and that `ptr` came from a `Box`.
        unsafe { self.retire_with(ptr, free_box) }
    }

    /// Calls `free(ptr)` once no reader can hold `ptr`, on any thread.
    ///
    /// Queueing the object costs no fence, no atomic read-modify-write and no clock reading (with
    /// [`Source::Fence`](crate::Source::Fence), a fence or two each time). Once in 64 objects, or in fewer where they
    /// come slowly, the thread runs a fence, reads the clock and exchanges a word that the domain shares. Then, and
    /// at its first retire of a barrier round, it reads the source's watermark and, if that has changed, scans the
    /// readers.
    ///
    /// Every call frees up to two objects that have become safe, the oldest first. It frees more if destructors
    /// retire, and once in 64 objects it also frees some of those that exited threads have left. If a destructor
    /// panics, the panic comes out of this call, and no other object is lost.
    ///
    /// `free` may call this reclaimer again; what it retires is queued. It must not block on a thread that waits for
    /// this one.
    ///
    /// # Safety
    /// - The object was reachable by readers only through pointers that they load inside a section
    ///   ([`pin`](Reclaimer::pin)) of this domain; it has been unlinked from all of them, by
    ///   atomic operations that happen before this call; and nothing links it again.
    /// - It is retired once.
    /// - `free(ptr)` is sound on any thread, at any time until the last clone of this reclaimer is
    ///   dropped: what the object borrows must live that long.
    #[inline]
    pub unsafe fn retire_with<T>(&self, ptr: *mut T, free: unsafe fn(*mut T)) {
        let item = Item::of(ptr, free);
        // SAFETY: the caller promises what `retire_item` asks, which is the same.
        unsafe { self.retire_item::<false>(item, size_of::<T>()) }
    }

    /// # Safety
    /// As for [`retire_with`](Reclaimer::retire_with); `BORN` as for `Domain::retire`.
    #[inline]
    pub(crate) unsafe fn retire_item<const BORN: bool>(&self, item: Item, bytes: usize) {
        match local::last(&self.domain) {
            // SAFETY: this thread's record in this domain, which `self` keeps alive; the rest is
            // the caller's promise.
            Some(record) => unsafe { Domain::retire::<BORN>(&*record, item, bytes) },
            // SAFETY: the caller's promise.
            None => unsafe { self.retire_anew::<BORN>(item, bytes) },
        }
    }

    /// # Safety
    /// As for `retire_item`.
    #[cold]
    unsafe fn retire_anew<const BORN: bool>(&self, item: Item, bytes: usize) {
        // SAFETY: the record is the caller's for this call; the rest is its promise.
        self.with_record(|_, record| unsafe { Domain::retire::<BORN>(record, item, bytes) });
    }

    /// Frees, on this thread, everything that this thread has retired and that is safe by now, and what exited
    /// threads have left. It never waits for a reader or a destructor, so what another thread is freeing at this
    /// moment may not be done when it returns.
    ///
    /// It costs a fence, a clock reading and a scan of the readers. Where only a barrier helps, because some thread
    /// idles and has not pinned for a while, `flush` buys one if it can, unless one was bought less than ten times
    /// its price ago. That costs a system call, and the first time in a process another one for the registration.
    /// Where it can't buy, it asks the daemon to hurry and does not wait for it.
    pub fn flush(&self) {
        self.with_record(|domain, record| {
            // SAFETY: the record is this thread's for this call.
            unsafe { domain.flush(record) }
        });
    }

    /// Waits until every section that was open at the call has ended and the barrier has passed. Then it frees
    /// everything that this thread, or any thread that has exited, retired before the call, except what a [`Hazard`]
    /// protects. It does not wait for hazards.
    ///
    /// `Ok` means that the destructors of all of it have returned, whichever thread ran them, except those that
    /// panicked. It waits for what another thread is freeing, in bags of 64. (A thread counts as exited once it was
    /// joined, not when a [`std::thread::scope`] ends, which does not wait for thread-locals.)
    ///
    /// While a reader has not shown that it went on, it first looks, without sleeping, for as long as a barrier would
    /// take, 20 us at most. With the daemon it then sleeps until the barrier comes, for some milliseconds. With membarrier
    /// it buys one; the first of a process has the price that [`Source::Membarrier`](crate::Source::Membarrier) states.
    ///
    /// # Errors
    /// Returns an error when `deadline` comes first, or when the wait could never end: see [`SynchronizeError`].
    /// Nothing is lost then. If a destructor on another thread takes longer than the deadline, the error is
    /// [`SynchronizeError::Destructors`]. Late in a thread's exit, when its registration is gone, a guard of the
    /// thread itself shows as [`SynchronizeError::Readers`], after the deadline.
    pub fn synchronize(&self, deadline: Instant) -> Result<(), SynchronizeError> {
        self.with_record(|domain, record| {
            // SAFETY: the record is this thread's for this call.
            unsafe { domain.synchronize(record, deadline) }
        })
    }

    /// Returns the threads that have a section open in this domain, the oldest first, and a destructor that blocks a
    /// background thread. Every section that holds back what [`Stats::waiting`] counts is among them. Hazard
    /// pointers, which hold one object each, are not.
    ///
    /// It costs a walk over the domain's threads, past ones too, and over their notes of what they retired, sorted by
    /// time; and a read from `/proc` for each thread that is listed.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    ///
    /// let reclaimer = Reclaimer::new();
    /// assert!(reclaimer.blockers().is_empty());
    /// let guard = reclaimer.pin();
    /// let blockers = reclaimer.blockers();
    /// assert_eq!(blockers.len(), 1);
    /// println!("{:?} has read for {:?}", blockers[0].thread, blockers[0].open_for);
    /// # drop(guard);
    /// ```
    #[must_use]
    pub fn blockers(&self) -> Vec<Blocker> {
        self.domain.blockers()
    }

    /// Returns what the domain has done so far. It costs a walk over its threads; with
    /// [`free_in_background`](Builder::free_in_background), also over the bags that came since they were last walked.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.domain.stats()
    }

    /// Returns which source of barriers serves at the moment, and why. It costs a few loads and a clock reading.
    #[must_use]
    pub fn status(&self) -> Status {
        self.domain.status()
    }

    /// Runs `work` with this thread's record; late in the thread's exit, with a record taken for this call.
    pub(crate) fn with_record<R>(&self, work: impl FnOnce(&Domain, &Record) -> R) -> R {
        if let Some(record) = local::find(self.id, &self.domain) {
            // SAFETY: this thread's record in this domain, which `self` keeps alive.
            return work(&self.domain, unsafe { &*record });
        }
        struct HandOver<'d>(&'d Domain, &'d Record);
        impl Drop for HandOver<'_> {
            fn drop(&mut self) {
                // SAFETY: the record was taken below for this call, which is over.
                unsafe { self.0.hand_over(self.1) };
            }
        }
        let taken = HandOver(&self.domain, self.domain.acquire());
        work(taken.0, taken.1)
    }
}

impl Default for Reclaimer {
    fn default() -> Reclaimer {
        Reclaimer::new()
    }
}

impl fmt::Debug for Reclaimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reclaimer").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

// A domain is meant to be shared between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Reclaimer>();
};
