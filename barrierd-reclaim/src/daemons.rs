//! The daemon's files that a domain has used: the present one, and those before it.
//!
//! Owns the mappings, which stay as long as the domain, and the rule when to open the file again. It
//! knows nothing of membarrier or of scans.
//!
//! A watermark in nanoseconds is true whichever file it comes from. Virtual times of two files can't
//! be compared: only those of the first one count (see `Barriers::vtime_word`).

use crate::source::keeps_up;
use crate::status::Why;
use barrierd_client::clock::now_ns;
use barrierd_client::{Barrier, Liveness, Stamp};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The path is looked at no more often than this.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Requests to hurry are at least this far apart, nanoseconds ...
const ASK_NS: u64 = 1_000_000;
/// ... and this, while the last one has not been served.
const ASK_AGAIN_NS: u64 = 10_000_000;

/// See the file's documentation.
#[derive(Debug)]
pub(crate) struct Daemons {
    path: PathBuf,
    /// The one in use, or null. Points into `all`.
    current: AtomicPtr<Barrier>,
    /// The first one, whose virtual time counts, or null.
    first: *const Barrier,
    all: Mutex<All>,
    /// The stop for which the daemon was last asked to hurry, nanoseconds.
    asked_ns: AtomicU64,
}

#[derive(Debug)]
struct All {
    /// In the order in which they were taken up, so the last one is in use. Kept as long as the whole.
    kept: Vec<Arc<Barrier>>,
    /// Opened, but its daemon is not known to live yet.
    candidate: Option<Arc<Barrier>>,
    looked: Instant,
}

// SAFETY: the pointers lead to what `all` keeps until the drop, and `Barrier` may be shared.
unsafe impl Send for Daemons {}
// SAFETY: as above.
unsafe impl Sync for Daemons {}

impl Daemons {
    pub(crate) fn new(path: PathBuf, barrier: Option<Barrier>) -> Daemons {
        let kept: Vec<Arc<Barrier>> = barrier.map(Arc::new).into_iter().collect();
        let first = kept.first().map_or(ptr::null(), Arc::as_ptr);
        Daemons {
            path,
            current: AtomicPtr::new(first.cast_mut()),
            first,
            all: Mutex::new(All { kept, candidate: None, looked: Instant::now() }),
            asked_ns: AtomicU64::new(0),
        }
    }

    /// The file in use, if there is one.
    pub(crate) fn current(&self) -> Option<&Barrier> {
        // SAFETY: null, or kept until `self` is dropped. Acquire: pairs with `adopt`.
        unsafe { self.current.load(Acquire).as_ref() }
    }

    /// The file in use, if its daemon is well but has seen nobody wait of late; kept by the result.
    pub(crate) fn easy(&self) -> Option<Arc<Barrier>> {
        if !self.current().is_some_and(|barrier| barrier.is_easy() && keeps_up(barrier)) {
            return None;
        }
        self.all.lock().unwrap_or_else(PoisonError::into_inner).kept.last().cloned()
    }

    /// The file whose virtual time counts.
    pub(crate) fn labelled(&self) -> Option<&Barrier> {
        // SAFETY: null, or kept until `self` is dropped.
        unsafe { self.first.as_ref() }
    }

    /// What keeps the daemon from serving, if anything.
    pub(crate) fn trouble(&self) -> Option<Why> {
        let Some(barrier) = self.current() else { return Some(Why::NoDaemon) };
        if barrier.watermark().is_err() {
            return Some(Why::DaemonDistrusted);
        }
        match barrier.liveness() {
            Liveness::Stopped => Some(Why::DaemonStopped),
            Liveness::Stale => Some(Why::DaemonStale),
            Liveness::Alive | Liveness::Suspect => (!keeps_up(barrier)).then_some(Why::DaemonLags),
        }
    }

    /// Asks for a barrier soon, unless that was done a moment ago. Whether it was sent.
    pub(crate) fn expedite(&self, barrier: &Barrier, now_ns: u64) -> bool {
        // Relaxed, all: it decides who sends, and nothing rests on that.
        let before = self.asked_ns.load(Relaxed);
        let served = barrier.watermark().is_ok_and(|mark| mark.ns > before);
        let due = if served { ASK_NS } else { ASK_AGAIN_NS };
        if now_ns.saturating_sub(before) < due
            || self.asked_ns.compare_exchange(before, now_ns, Relaxed, Relaxed).is_err()
        {
            return false;
        }
        // A hint: if it is not taken the barrier comes all the same.
        let _ = barrier.expedite(Stamp::from_ns(now_ns));
        true
    }

    /// Looks, seldom, whether the path leads to a file that is not in use and is kept up to date.
    ///
    /// Costs a `stat`, or an open where there is something to open. Never waits.
    pub(crate) fn look(&self) {
        let Ok(mut all) = self.all.try_lock() else { return };
        if all.looked.elapsed() < LOOK_EVERY {
            return;
        }
        all.looked = Instant::now();
        // The same file is not opened twice: one that was caught lying stays distrusted, and a
        // daemon that takes it over again is seen through the mapping that is there.
        if self.current().is_some_and(|barrier| barrier.same_file().unwrap_or(true)) {
            all.candidate = None;
            return;
        }
        if all.candidate.as_ref().is_none_or(|known| !known.same_file().unwrap_or(false)) {
            all.candidate = Barrier::open(&self.path).ok().map(Arc::new);
        }
        // An old beat may be a daemon's that was idle: the next look tells.
        if let Some(barrier) = all.candidate.take_if(|known| known.liveness() == Liveness::Alive) {
            self.adopt(&mut all, barrier);
        }
    }

    fn adopt(&self, all: &mut All, barrier: Arc<Barrier>) {
        let current = Arc::as_ptr(&barrier);
        all.kept.push(barrier);
        self.asked_ns.store(now_ns(), Relaxed);
        // Release: whoever loads it sees it whole.
        self.current.store(current.cast_mut(), Release);
    }
}
