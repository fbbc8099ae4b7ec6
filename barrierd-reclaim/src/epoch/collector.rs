//! A collector, and the handles by which threads take part in it.

use super::guard::Guard;
use super::participant;
use crate::blockers::Blocker;
use crate::domain::Domain;
use crate::error::BuildError;
use crate::reclaimer::{Builder, Reclaimer};
use crate::record::Record;
use crate::stats::Stats;
use crate::status::Status;
use crate::sync::{Ordering, fence};
use core::fmt;
use core::marker::PhantomData;

/// A domain of structures whose garbage waits for the same guards. Clones are the same collector, and
/// equal.
///
/// When clones, handles and guards are gone, everything that was deferred is called.
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
    /// Not handed out: its hazards would be compared with closures ([`Item::closure`](crate::bag::Item::closure)).
    reclaimer: Reclaimer,
}

impl Collector {
    /// A new collector on the best source of barriers there is. Costs a few system calls.
    pub fn new() -> Collector {
        Collector { reclaimer: Reclaimer::new() }
    }

    /// A new collector with chosen settings: limits, source, background thread. crossbeam-epoch's has
    /// none.
    ///
    /// ```
    /// use barrierd_reclaim::{Reclaimer, epoch::Collector};
    ///
    /// let collector = Collector::build(Reclaimer::builder().limit_items(100_000))?;
    /// # Ok::<(), barrierd_reclaim::BuildError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn build(builder: Builder) -> Result<Collector, BuildError> {
        Ok(Collector { reclaimer: builder.build()? })
    }

    /// A new participant. Costs about as much as an allocation and a fence.
    pub fn register(&self) -> LocalHandle {
        LocalHandle { record: participant::register(self), _stays: PhantomData }
    }

    /// What it has done so far: [`Reclaimer::stats`].
    pub fn stats(&self) -> Stats {
        self.reclaimer.stats()
    }

    /// Which source of barriers serves, and why: [`Reclaimer::status`].
    pub fn status(&self) -> Status {
        self.reclaimer.status()
    }

    /// Who has a section open, the oldest first: [`Reclaimer::blockers`].
    pub fn blockers(&self) -> Vec<Blocker> {
        self.reclaimer.blockers()
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
        core::ptr::eq(self.domain(), other.domain())
    }
}

impl Eq for Collector {}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Collector { .. }")
    }
}

/// A participant of a collector: its guards nest among themselves, and not with those of other handles.
/// Stays on its thread. Its guards may outlive it.
pub struct LocalHandle {
    record: *const Record,
    _stays: PhantomData<*const ()>,
}

impl LocalHandle {
    /// Opens a section: a load and a store, and a load of the source's kind.
    #[inline]
    pub fn pin(&self) -> Guard {
        // SAFETY: handles stay on their thread.
        unsafe { participant::begin(self.record()) };
        Guard::of(self.record)
    }

    /// Whether this participant has a guard. If not, a full fence is run, as for
    /// [`is_pinned`](super::is_pinned).
    #[inline]
    pub fn is_pinned(&self) -> bool {
        let pinned = self.record().reader().is_pinned();
        if !pinned {
            fence(Ordering::SeqCst);
        }
        pinned
    }

    /// The collector that it takes part in.
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
        // SAFETY: this handle's count, once.
        unsafe { participant::release(self.record) };
    }
}

impl fmt::Debug for LocalHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("LocalHandle { .. }")
    }
}

// A collector is shared between threads by its nature.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Collector>();
};
