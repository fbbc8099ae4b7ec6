//! The daemon's files that a domain has used: the present one, and those before it.
//!
//! Owns which of them is in use, the rule when to open the path again, and the judgement whether a daemon lives. The
//! mappings, which stay as long as the domain, are shared with other domains (`evidence/mapped.rs`). This file knows
//! nothing of membarrier or of scans.
//!
//! A watermark in nanoseconds is true whichever file it comes from. Virtual times of two files can't
//! be compared: only those of the first one count (see `Barriers::vtime_word`).

use crate::evidence::mapped::{self, Mapped};
use crate::evidence::status::Why;
use crate::locks::{lock, try_lock};
use crate::platform::client::abi::HEARTBEAT_PERIOD_NS;
use crate::platform::client::{Barrier, Liveness};
use crate::platform::now_ns;
use core::sync::atomic::{AtomicPtr, Ordering::*};
use std::path::PathBuf;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The path is checked no more often than this.
const CHECK_EVERY: Duration = Duration::from_millis(200);

/// A watermark older than this, nanoseconds, is not waited for where a barrier can be bought: the
/// daemon may beat while a CPU that takes no interrupts holds it up.
const OLD_NS: u64 = 2 * HEARTBEAT_PERIOD_NS;

/// A beat that is older than this, nanoseconds, is a dead daemon's, as far as one check can tell. A daemon that no
/// thread waits for beats each 90 ms; it is silent for as long as this only if it gets no CPU or the machine was
/// paused.
const DEAD_NS: u64 = 10 * HEARTBEAT_PERIOD_NS;

/// Returns whether the daemon gives barriers at the pace that can be expected of it.
pub(crate) fn keeps_up(barrier: &Barrier) -> bool {
    let alive = matches!(barrier.liveness(), Liveness::Alive | Liveness::Suspect);
    alive && barrier.watermark().is_ok_and(|mark| now_ns().saturating_sub(mark.ns) <= OLD_NS)
}

/// Returns whether the daemon is known to be gone, by this check and those before it.
pub(crate) fn is_gone(barrier: &Barrier) -> bool {
    match barrier.liveness() {
        Liveness::Alive => false,
        Liveness::Stopped | Liveness::Stale => true,
        // The C daemon has no beat: its watermark is used in place of one, and is suspicious only when it is a second
        // old.
        Liveness::Suspect => {
            barrier.heartbeat_ns().is_none_or(|beat| now_ns().abs_diff(beat) >= DEAD_NS)
        }
    }
}

/// See the file's documentation.
#[derive(Debug)]
pub(crate) struct Daemons {
    path: PathBuf,
    /// The one in use, or null. Points into `all`.
    current: AtomicPtr<Mapped>,
    /// The first one, whose virtual time counts, or null.
    first: *const Mapped,
    all: Mutex<All>,
}

#[derive(Debug)]
struct All {
    /// In the order in which they were taken up, so the last one is in use. Kept as long as the whole.
    kept: Vec<Arc<Mapped>>,
    /// Opened, but its daemon is not known to live yet.
    candidate: Option<Arc<Mapped>>,
    checked: Instant,
}

// SAFETY: the pointers lead to what `all` keeps until the drop, and `Mapped` may be shared.
unsafe impl Send for Daemons {}
// SAFETY: as above.
unsafe impl Sync for Daemons {}

impl Daemons {
    pub(crate) fn new(path: PathBuf, file: Option<Arc<Mapped>>) -> Daemons {
        let kept = Vec::from_iter(file);
        let first = kept.first().map_or(ptr::null(), Arc::as_ptr);
        Daemons {
            path,
            current: AtomicPtr::new(first.cast_mut()),
            first,
            all: Mutex::new(All { kept, candidate: None, checked: Instant::now() }),
        }
    }

    /// Returns the file in use, if there is one.
    pub(crate) fn current(&self) -> Option<&Mapped> {
        // SAFETY: null, or kept until `self` is dropped. Acquire: pairs with `adopt`.
        unsafe { self.current.load(Acquire).as_ref() }
    }

    /// Returns the file in use, if its daemon is well but no thread has waited for it of late. The result keeps the
    /// file.
    pub(crate) fn easy(&self) -> Option<Arc<Mapped>> {
        if !self.current().is_some_and(|file| file.is_easy() && keeps_up(file)) {
            return None;
        }
        lock(&self.all).kept.last().cloned()
    }

    /// Returns the file whose virtual time counts.
    pub(crate) fn labelled(&self) -> Option<&Mapped> {
        // SAFETY: null, or kept until `self` is dropped.
        unsafe { self.first.as_ref() }
    }

    /// Returns what keeps the daemon from serving, if anything.
    pub(crate) fn trouble(&self) -> Option<Why> {
        let Some(file) = self.current() else { return Some(Why::NoDaemon) };
        if file.watermark().is_err() {
            return Some(Why::DaemonDistrusted);
        }
        match file.liveness() {
            Liveness::Stopped => Some(Why::DaemonStopped),
            _ if is_gone(file) => Some(Why::DaemonStale),
            _ => (!keeps_up(file)).then_some(Why::DaemonLags),
        }
    }

    /// Checks, seldom, whether the path leads to a file that is not in use and is kept up to date.
    ///
    /// Costs a `stat`, or an open where there is something to open.
    pub(crate) fn check_path(&self) {
        let Some(mut all) = try_lock(&self.all) else { return };
        if all.checked.elapsed() < CHECK_EVERY {
            return;
        }
        all.checked = Instant::now();
        // The same file is not opened twice: one that was caught lying stays distrusted, and a
        // daemon that takes it over again is seen through the mapping that is there.
        if self.current().is_some_and(|file| file.same_file().unwrap_or(true)) {
            all.candidate = None;
            return;
        }
        if all.candidate.as_ref().is_none_or(|known| !known.same_file().unwrap_or(false)) {
            all.candidate = mapped::try_open(&self.path);
        }
        // An old beat may be that of a daemon that was idle: the next check tells.
        if let Some(file) = all.candidate.take_if(|known| known.liveness() == Liveness::Alive) {
            self.adopt(&mut all, file);
        }
    }

    fn adopt(&self, all: &mut All, file: Arc<Mapped>) {
        let current = Arc::as_ptr(&file);
        all.kept.push(file);
        // Release: pairs with the Acquire in `current`: a thread that loads the pointer sees the file whole.
        self.current.store(current.cast_mut(), Release);
    }
}
