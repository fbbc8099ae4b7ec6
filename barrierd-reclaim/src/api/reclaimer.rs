//! What a data structure's author uses: [`Reclaimer`] and its [`Builder`].

use crate::bag::Item;
use crate::report::blockers::Blocker;
use crate::domain::{Domain, Settings};
use crate::error::{BuildError, SynchronizeError};
use crate::api::guard::Guard;
use crate::api::handle::Handle;
use crate::api::hazard::{Hazard, HazardPair};
use crate::domain::limit::{OnLimit, Pressure};
use crate::domain::local::{self, DomainId};
use crate::api::owned::OwnedGuard;
use crate::domain::record::Record;
use crate::api::robust::RobustGuard;
use crate::evidence::source::{Barriers, Source};
use crate::report::stalled::StallHook;
use crate::meter::stats::Stats;
use crate::evidence::status::Status;
use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    /// A new domain on the best source of barriers there is ([`Source::Auto`]).
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

    fn on(barriers: Barriers, settings: &Settings) -> Reclaimer {
        let domain = Arc::new(Domain::new(barriers, settings));
        let id = local::next_id();
        if let Some(watch) = domain.watch() {
            watch.enlist(Arc::downgrade(&domain), id);
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
    /// Guards nest. With [`Source::Fence`] the outermost `pin` runs a full fence too.
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
    /// Queues the object: no fence, no atomic read-modify-write, no clock (with [`Source::Fence`] a fence
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
        let item = Item::new(ptr.cast(), thin(free));
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
    /// buys one, the first of a process at the price that [`Source::Membarrier`] tells.
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

/// Drops what came from a `Box`.
///
/// # Safety
/// `ptr` came from `Box::into_raw` and is not used again.
pub(crate) unsafe fn free_box<T>(ptr: *mut T) {
    // SAFETY: this function's caller says so.
    drop(unsafe { Box::from_raw(ptr) });
}

/// The same function, for a pointer whose type is forgotten.
#[inline]
pub(crate) fn thin<T>(free: unsafe fn(*mut T)) -> unsafe fn(*mut ()) {
    // SAFETY: `*mut T` and `*mut ()` are both thin pointers, so the two function types have the same
    // ABI; callers cast the pointer alike.
    unsafe { core::mem::transmute::<unsafe fn(*mut T), unsafe fn(*mut ())>(free) }
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

/// Settings of a new [`Reclaimer`].
///
/// ```
/// use barrierd_reclaim::{Reclaimer, Source};
///
/// let reclaimer = Reclaimer::builder().source(Source::Fence).build()?;
/// # Ok::<(), barrierd_reclaim::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Builder {
    source: Source,
    path: Option<PathBuf>,
    settings: Settings,
}

impl Builder {
    /// Where barriers come from. The default is [`Source::Auto`].
    pub fn source(mut self, source: Source) -> Builder {
        self.source = source;
        self
    }

    /// The barrier daemon's file. The default is `/run/barrierd/barrier`.
    ///
    /// Whoever can write this file decides when memory is freed. It is refused unless it and its
    /// directories belong to root or to this process's own user; a process that names a file which
    /// its own user may write vouches for all programs of that user.
    ///
    /// It is mapped once a process, with one descriptor for all domains that go by it; the last one that was
    /// opened stays mapped for the domains to come.
    pub fn daemon_file(mut self, path: impl AsRef<Path>) -> Builder {
        self.path = Some(path.as_ref().to_path_buf());
        self
    }

    /// Items of one thread that may wait for a barrier before one is bought, whatever it costs (where
    /// the source can be asked for one). The default is 4,096.
    ///
    /// Fewer are bought for where barriers are cheap. A small budget keeps memory warm and interrupts
    /// other CPUs more often.
    pub fn budget(mut self, items: usize) -> Builder {
        self.settings.budget = items;
        self
    }

    /// Whether the background thread looks after the domain. The default is yes.
    ///
    /// One thread of the process, `barrierd-reclaim`, serves all domains that want it; it is started
    /// when the first item is retired, and sleeps while nothing waits. It frees what threads that
    /// have exited, sleep or block have left. Without it, that waits until another thread of the
    /// domain calls, and what a thread holds itself until that thread does.
    ///
    /// It has the default scheduling policy, and niceness and CPUs of the process's first thread. Its code
    /// stays mapped: a shared object that this library is part of is not unloaded any more by `dlclose`.
    ///
    /// Destructors then also run on that thread, one at a time. One that panics is reported by the
    /// panic hook and goes no further. One that blocks for longer than 100 ms keeps its own domain's garbage
    /// waiting that only this thread would free, no other's: a second thread of the same name, which watches
    /// the first once there is a second domain or a stall hook, takes its place. [`blockers`](Reclaimer::blockers) lists such a
    /// destructor, the [stall hook](Builder::stall_hook) is called for it, and a `tracing` event tells of it.
    /// There are four such threads at most; with four destructors that block, all domains wait, and of the
    /// fourth `blockers` alone tells.
    pub fn background(mut self, wanted: bool) -> Builder {
        self.settings.background = wanted;
        self
    }

    /// How long a thread may not retire before the background thread takes over what it holds; also
    /// how often that thread looks at a domain in which something waits. The default is 10 ms.
    ///
    /// Less than a barrier takes is of no use. A thread that retires more often than this is left
    /// alone; each takeover costs it an allocation when it retires again.
    pub fn idle_after(mut self, time: Duration) -> Builder {
        self.settings.idle_after = time;
        self
    }

    /// `retire` never runs a destructor and never buys a barrier: for threads that must not be held
    /// up, as in audio. Implies [`background`](Builder::background)`(true)`: the background thread
    /// frees everything.
    ///
    /// Once in 64 objects `retire` runs a fence, reads the clock, allocates a bag and hands the full
    /// one over by an exchange of one word, however much waits already: it takes no lock. The first object after a
    /// pause may wake the background thread, a futex call. What waits is what is retired in a barrier round and 2 ms, plus at most
    /// two bags for each thread; if the background thread is kept up by a destructor, or could not be
    /// started, it grows. [`flush`](Reclaimer::flush) and
    /// [`synchronize`](Reclaimer::synchronize) free on the thread that calls them, as always.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::thread;
    ///
    /// let reclaimer = Reclaimer::builder().free_in_background().build()?;
    /// let here = thread::current().id();
    /// reclaimer.defer(move || assert_ne!(thread::current().id(), here));
    /// while reclaimer.stats().waiting() > 0 {
    ///     thread::yield_now();
    /// }
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    pub fn free_in_background(mut self) -> Builder {
        self.settings.lazy = true;
        self.settings.background = true;
        self
    }

    /// How many retired objects may wait before `retire` does something about it, in the whole
    /// domain: it has a barrier pass at once (it buys one, or asks the daemon), frees all that is
    /// safe then, and goes on as [`on_limit`](Builder::on_limit) says. The default is no limit.
    ///
    /// It is looked at once in 64 objects of a thread, at the price of a walk over the threads. So it bounds what
    /// waits to that many and 64 for each thread, or 128 for one that retires objects with a birth and without
    /// (and a batch, while [`retire_batch`](Reclaimer::retire_batch) queues it), as long as no reader stands in the
    /// way, barriers come, and other threads free theirs; else [`on_limit`](Builder::on_limit) says what
    /// happens. What waits above it takes no more memory than without a limit. With
    /// [`free_in_background`](Builder::free_in_background) `retire` asks for no barrier and frees nothing.
    pub fn limit_items(mut self, items: u64) -> Builder {
        self.settings.limits.items = items;
        self
    }

    /// The same in bytes: the sizes of the types that were retired, not what the objects own. It bounds what waits
    /// to that many and the sizes of 64 objects, or 128, for each thread.
    ///
    /// ```
    /// use barrierd_reclaim::{OnLimit, Reclaimer};
    /// use std::time::Duration;
    ///
    /// let reclaimer = Reclaimer::builder()
    ///     .limit_bytes(64 << 20)
    ///     .on_limit(OnLimit::Block(Duration::from_millis(10)))
    ///     .limit_hook(|pressure| eprintln!("a reader stalls: {pressure:?}"))
    ///     .build()?;
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    pub fn limit_bytes(mut self, bytes: u64) -> Builder {
        self.settings.limits.bytes = bytes;
        self
    }

    /// What `retire` does above a limit when a barrier has not helped, since a reader is in the way or
    /// no barrier comes. Nothing, by default; it never fails and never aborts.
    pub fn on_limit(mut self, then: OnLimit) -> Builder {
        self.settings.limits.then = then;
        self
    }

    /// Called by `retire` when it leaves the domain above a limit, at most once in 64 objects, by one
    /// thread at a time. It may call the reclaimer. If it panics, the panic comes out of that `retire`.
    ///
    /// The domain keeps it: it must own no clone of the reclaimer, which would keep the domain for ever.
    pub fn limit_hook(mut self, hook: impl FnMut(&Pressure) + Send + 'static) -> Builder {
        self.settings.limits.hook = Some(Arc::new(Mutex::new(hook)));
        self
    }

    /// Called once for each section that stays open for longer than `after` while something waits:
    /// whoever forgets a guard, or blocks inside one, is named.
    ///
    /// The [background thread](Builder::background) calls it. It looks only while something waits, eight
    /// times in `after` but no more often than each millisecond and no more rarely than each 250 ms, and
    /// takes a section's time from its first look at it: the call comes late, never early, by at most a
    /// look or what a destructor on that thread takes. Until a barrier has passed since a section began it
    /// can't be told from the next one, and is not reported: then it is not what holds things up. Without a
    /// background thread, threads look when they retire (once a bag), flush or wait in `synchronize`.
    ///
    /// It is called by one thread at a time, under no lock of this library's that a call would wait for:
    /// it may call the reclaimer. A panic of it is reported by the panic hook and goes no further. The
    /// domain keeps it: it must own no clone of the reclaimer, which would keep the domain for ever. One
    /// that blocks for long holds up the background thread, as a destructor does.
    ///
    /// It is called as well, once, for a destructor of the domain that blocks the background thread
    /// for longer than 100 ms, whatever `after` is ([`Blocker::destructor`]).
    /// [`Guard::repin`](crate::Guard::repin) begins a new section.
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use std::time::Duration;
    ///
    /// let reclaimer = Reclaimer::builder()
    ///     .stall_hook(Duration::from_secs(1), |blocker| {
    ///         eprintln!("{:?} holds {} objects", blocker.thread, blocker.holds_items);
    ///     })
    ///     .build()?;
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    pub fn stall_hook(
        mut self,
        after: Duration,
        hook: impl FnMut(&Blocker) + Send + 'static,
    ) -> Builder {
        self.settings.stall_hook = Some(StallHook { after, hook: Arc::new(Mutex::new(hook)) });
        self
    }

    /// Makes the domain. Costs what [`Reclaimer::new`] does; never waits.
    ///
    /// # Errors
    /// When a source was asked for by name and can't be had; [`Source::Auto`] never fails.
    pub fn build(self) -> Result<Reclaimer, BuildError> {
        let barriers = Barriers::choose(self.source, self.path.as_deref())?;
        Ok(Reclaimer::on(barriers, &self.settings))
    }
}

// A domain is shared between threads by its nature.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Reclaimer>();
};
