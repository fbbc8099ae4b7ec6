//! A collector, and the handles by which threads take part in it.

use super::default;
use super::guard::Guard;
use super::participant;
use crate::api::builder::Builder;
use crate::api::reclaimer::Reclaimer;
use crate::domain::Domain;
use crate::engine::record::Record;
use crate::error::BuildError;
use crate::evidence::status::Status;
use crate::meter::stats::Stats;
use crate::report::blockers::Blocker;
use crate::sync::{Ordering, fence};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;

/// A domain of structures whose garbage waits for the same guards. Clones are the same collector, and compare equal.
///
/// When the last clone, handle and guard is gone, everything that was deferred is called.
///
/// ```
/// use barrierd_reclaim::epoch::Collector;
///
/// let collector = Collector::new();
/// let handle = collector.register();
/// let guard = handle.pin();
/// assert_eq!(guard.collector(), Some(&collector));
/// ```
#[derive(Clone)]
pub struct Collector {
    /// It is not handed out: its hazards would be compared with closures
    /// ([`Item::closure`](crate::bag::Item::closure)).
    reclaimer: Reclaimer,
    /// Whether it is the process's own, or was that of a process which this one was forked from. It then stands for
    /// the one that this process has now.
    of_the_process: bool,
}

impl Collector {
    /// Makes a new collector on the best source of barriers that is available. It costs what [`Reclaimer::new`] does,
    /// about a microsecond.
    pub fn new() -> Collector {
        Collector { reclaimer: Reclaimer::new(), of_the_process: false }
    }

    /// Makes the collector that is about to be the process's own.
    pub(super) fn of_the_process(reclaimer: Reclaimer) -> Collector {
        Collector { reclaimer, of_the_process: true }
    }

    /// Makes a new collector with chosen settings: limits, source, background thread. crossbeam-epoch has no such
    /// method.
    ///
    /// ```
    /// use barrierd_reclaim::{Reclaimer, epoch::Collector};
    ///
    /// let collector = Collector::build(Reclaimer::builder().limit_items(100_000))?;
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Builder::build`].
    pub fn build(builder: Builder) -> Result<Collector, BuildError> {
        Ok(Collector { reclaimer: builder.build()?, of_the_process: false })
    }

    /// Registers a new participant. It costs about as much as an allocation and a fence.
    pub fn register(&self) -> LocalHandle {
        LocalHandle { record: participant::register(self.present()), _stays: PhantomData }
    }

    /// Returns what the collector has done so far: see [`Reclaimer::stats`].
    pub fn stats(&self) -> Stats {
        self.present().reclaimer.stats()
    }

    /// Returns which source of barriers serves, and why: see [`Reclaimer::status`].
    pub fn status(&self) -> Status {
        self.present().reclaimer.status()
    }

    /// Returns the threads that have a section open, the oldest first: see [`Reclaimer::blockers`].
    pub fn blockers(&self) -> Vec<Blocker> {
        self.present().reclaimer.blockers()
    }

    /// Returns the collector that it stands for: itself, except in the child of a fork.
    fn present(&self) -> &Collector {
        if self.of_the_process { default::default_collector() } else { self }
    }

    /// Returns whether it is or was the process's own.
    pub(super) fn is_of_the_process(&self) -> bool {
        self.of_the_process
    }

    /// Returns whether both are the same collector, and of the same process.
    #[inline]
    pub(super) fn is_here(&self, other: &Collector) -> bool {
        core::ptr::eq(self.domain(), other.domain())
    }

    #[inline]
    pub(super) fn domain(&self) -> &Domain {
        self.reclaimer.domain()
    }
}

impl Default for Collector {
    fn default() -> Collector {
        Collector::new()
    }
}

impl PartialEq for Collector {
    #[inline]
    fn eq(&self, other: &Collector) -> bool {
        self.is_here(other) || self.of_the_process && other.of_the_process
    }
}

impl Eq for Collector {}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Collector { .. }")
    }
}

/// A participant of a collector. Its guards nest among themselves, and not with those of other handles. It stays on
/// its thread, and its guards may outlive it.
pub struct LocalHandle {
    record: *const Record,
    _stays: PhantomData<*const ()>,
}

impl LocalHandle {
    /// Returns the participant, whose handle the caller owns from now on.
    pub(super) fn into_record(self) -> *const Record {
        ManuallyDrop::new(self).record
    }

    /// Opens a section. It costs two loads, a test and a store.
    #[inline]
    pub fn pin(&self) -> Guard {
        // SAFETY: handles stay on their thread.
        unsafe { participant::begin(self.record()) };
        Guard::of(self.record)
    }

    /// Returns whether this participant has a guard. If not, it runs a full fence, as for
    /// [`is_pinned`](super::is_pinned).
    #[inline]
    pub fn is_pinned(&self) -> bool {
        let pinned = self.record().reader().is_pinned();
        if !pinned {
            fence(Ordering::SeqCst);
        }
        pinned
    }

    /// Returns the collector that it takes part in.
    #[inline]
    pub fn collector(&self) -> &Collector {
        participant::collector(self.record())
    }

    #[inline]
    pub(super) fn record(&self) -> &Record {
        // SAFETY: a handle keeps its participant.
        unsafe { &*self.record }
    }
}

impl Drop for LocalHandle {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this gives up this handle's count, once.
        unsafe { participant::release(self.record) };
    }
}

impl fmt::Debug for LocalHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("LocalHandle { .. }")
    }
}

// A collector is meant to be shared between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Collector>();
};
