//! What a data structure's author uses: [`Reclaimer`] and its [`Builder`].

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
use std::sync::Arc;
use std::time::Instant;

/// A domain of concurrent data structures whose removed objects are freed together.
///
/// Readers [`pin`](Reclaimer::pin) and follow pointers; writers unlink an object, so that no new
/// reader can find it, and [`retire`](Reclaimer::retire) it. It is freed once every CPU has passed
/// a memory barrier since and every section that was open then has ended.
///
/// Clones share the domain. When the last one is dropped, everything retired is freed.
///
/// Objects are freed by calls to this library: a little in each `retire`, all that is safe in
/// [`flush`](Reclaimer::flush) and [`synchronize`](Reclaimer::synchronize), the rest when the last
/// clone is dropped. What a thread holds that sleeps, blocks or has exited is freed by the
/// [background thread](Builder::background), two barrier rounds and some 20 ms after its last call.
///
/// A retired object that owns a clone of its reclaimer keeps the domain alive until it is freed: with
/// one in the queue, dropping all other clones frees nothing.
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

/// Shared by all clones, and by nothing else: dropped with the last of them, on its thread. (The
/// domain itself may live a moment longer, in the hands of a thread that exits.)
struct Last(Arc<Domain>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.close();
        if self.0.is_forked() {
            // What other threads were at is half done, the records' queues too: kept for good.
            core::mem::forget(self.0.clone());
        }
    }
}

impl Reclaimer {
    /// A new domain on the best source of barriers there is ([`Source::Auto`](crate::Source::Auto)).
    ///
    /// Costs a system call, a `stat` of the daemon's file: about a microsecond, and waits for nothing. The first
    /// of a process asks the kernel three questions more, and where a daemon's file is there opens and maps it,
    /// some thirty system calls; all domains of the process share it.
    #[must_use]
    pub fn new() -> Reclaimer {
        Builder::default().build().unwrap_or_else(|_| {
            Reclaimer::on(Barriers::Fence { asked_for: false }, &Settings::default())
        })
    }

    /// A new domain with a chosen source.
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

    /// A place in this domain for one thread's hot path.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.clone())
    }

    /// Opens a read-side section: one store, some loads and tests.
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

    /// The record that counts a guard now.
    #[cold]
    fn pin_slow(&self) -> *const Record {
        let found = local::find(self.id, &self.domain);
        // Late in a thread's exit there is no registration: a record for this guard alone.
        let record = found.unwrap_or_else(|| core::ptr::from_ref(self.domain.acquire()));
        // SAFETY: this thread's record in this domain, which `self` keeps alive.
        let own = unsafe { &*record };
        self.domain.pin_nested(own);
        if found.is_none() {
            // One more than the guards, so that the last one's end is noticed.
            own.transient().set(true);
            own.nest();
        }
        record
    }

    /// Opens a section that may move between threads, and across an `.await`.
    ///
    /// Costs about as much as an allocation and a fence: a place in the domain, and a full stop.
    pub fn pin_owned(&self) -> OwnedGuard {
        OwnedGuard::new(self.clone())
    }

    /// Opens a section that may stall: it keeps nothing that is born later ([`RobustGuard`]). Two
    /// loads and three stores.
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

    /// A hazard pointer, which holds nothing yet. One in eight costs some atomic operations, the others
    /// what finding this thread's place does.
    #[must_use]
    pub fn hazard(&self) -> Hazard<'_> {
        Hazard::new(self.kept_record())
    }

    /// A few hazard pointers at once, for a pair or hand over hand.
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
        // One record for all, also late in a thread's exit; none for none.
        let mut record = None;
        core::array::from_fn(|_| Hazard::new(record.get_or_insert_with(|| self.kept_record())))
    }

    /// Two hazard pointers in turn, for a walk hand over hand: [`HazardPair`].
    #[must_use]
    pub fn hazard_pair(&self) -> HazardPair<'_> {
        HazardPair::new(self.kept_record())
    }

    /// This thread's record, for somebody who counts in `Record::holds` at once; late in the thread's
    /// exit, when there is no registration, one that is given back after the last of them.
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
    /// See [`retire_with`](Reclaimer::retire_with).
    ///
    /// # Safety
    /// As for `retire_with`, and `ptr` came from [`Box::into_raw`].
    #[inline]
    pub unsafe fn retire<T: Send>(&self, ptr: *mut T) {
        // SAFETY: this function's caller says so.
        unsafe { self.retire_with(ptr, free_box) }
    }

    /// Calls `free(ptr)` once no reader can hold `ptr`, on whichever thread comes to it.
    ///
    /// Queues the object: no fence, no atomic read-modify-write, no clock (with [`Source::Fence`](crate::Source::Fence) a fence
    /// or two each time). Once every 64 objects, or fewer where they come slowly, the thread runs a fence, exchanges a word that the domain
    /// shares and reads the clock; then, and at its first retire of a barrier
    /// round, it reads the source's watermark and, if that is news, looks at the readers.
    ///
    /// Every call frees up to two objects that have become safe, the oldest first; more if
    /// destructors retire, and once in 64 objects some of those that exited threads have left. If
    /// the destructor of one panics, the panic comes out here, and no other object is lost.
    ///
    /// `free` may call this reclaimer again: what it retires is queued. It must not block on a
    /// thread that waits for this one.
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
        // SAFETY: this function's caller says so.
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

    /// Frees, on this thread, all that it has retired and that is safe by now, and what exited
    /// threads have left. Never waits for a reader or a destructor: what another thread is freeing at
    /// this moment may not be done when it returns.
    ///
    /// Costs a fence, a clock read and a look at the readers. Where nothing but a barrier helps, since a thread idles
    /// that has not pinned for a while, it buys one if it can (a system call, and the first time in a process that of
    /// the registration), unless one was bought less than ten times its price ago; or asks the daemon to hurry, and
    /// does not wait for it.
    pub fn flush(&self) {
        self.with_record(|domain, record| {
            // SAFETY: the record is this thread's for this call.
            unsafe { domain.flush(record) }
        });
    }

    /// Waits until every section that was open at the call has ended and the barrier has passed;
    /// then frees all that this thread, or any thread that has exited, retired before the call, but for
    /// what a [`Hazard`] protects: it is not waited for.
    ///
    /// `Ok` means that the destructors of all of it have returned, whichever thread ran them: what another thread
    /// is freeing is waited for, in bags of 64. (Except where one has panicked. And an exited thread has exited
    /// once it was joined, not when a [`std::thread::scope`] ends, which does not wait for thread-locals.)
    ///
    /// With the daemon it sleeps until the barrier comes, some milliseconds; with membarrier it
    /// buys one, the first of a process at the price that [`Source::Membarrier`](crate::Source::Membarrier) tells.
    ///
    /// # Errors
    /// When `deadline` comes first, or when the wait could never end: see [`SynchronizeError`].
    /// Nothing is lost then; and so it ends with [`SynchronizeError::Destructors`] where a destructor of another
    /// thread's takes longer. Late in a thread's exit, when its registration is gone, a guard of its
    /// own shows as [`SynchronizeError::Readers`], after the deadline.
    pub fn synchronize(&self, deadline: Instant) -> Result<(), SynchronizeError> {
        self.with_record(|domain, record| {
            // SAFETY: the record is this thread's for this call.
            unsafe { domain.synchronize(record, deadline) }
        })
    }

    /// Who has a section open in this domain, the oldest first: whoever holds back what
    /// [`Stats::waiting`] counts is among them (hazard pointers hold one object each, and are not); and a
    /// destructor that blocks a background thread.
    ///
    /// Costs a walk over the domain's threads, past ones too, and what they noted of what they retired,
    /// sorted by time; and a look into `/proc` for each thread that is listed.
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

    /// What the domain has done so far. Costs a walk over its threads; with
    /// [`free_in_background`](Builder::free_in_background) also over the bags that came since anybody looked.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.domain.stats()
    }

    /// Which source of barriers serves at the moment, and why. Costs a few loads and a clock read.
    #[must_use]
    pub fn status(&self) -> Status {
        self.domain.status()
    }

    /// Runs `work` with this thread's record, or, late in the thread's exit, with one taken for
    /// this call.
    pub(crate) fn with_record<R>(&self, work: impl FnOnce(&Domain, &Record) -> R) -> R {
        if let Some(record) = local::find(self.id, &self.domain) {
            // SAFETY: this thread's record in this domain, which `self` keeps alive.
            return work(&self.domain, unsafe { &*record });
        }
        struct HandOver<'d>(&'d Domain, &'d Record);
        impl Drop for HandOver<'_> {
            fn drop(&mut self) {
                // SAFETY: taken below for this call, which is over.
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

// A domain is shared between threads by its nature.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Reclaimer>();
};
