//! Where a writer's barriers come from.
//!
//! This file owns the daemon's file as this crate uses it, and the one system call that stands in for it. It knows nothing of
//! regions.
//!
//! A barrier here must reach every CPU of the host, whichever process runs there. The daemon's does. Of `membarrier(2)` only
//! `MEMBARRIER_CMD_GLOBAL` does without a registration of each reader: it returns after all threads that run have "passed through a
//! state where all memory accesses to user-space addresses match program order between entry to and return from the system
//! call" (membarrier(2)). So it proves every stamp that was taken before the call. It takes milliseconds and is refused on
//! kernels with `nohz_full`, so it is asked only by who waits, and only while no daemon is at work.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Liveness, Stamp, WaitError};

use crate::slots;
use crate::sync::{self, AtomicU64, Ordering};

/// Between two looks for a daemon that is not there.
const RETRY: Duration = Duration::from_millis(200);
/// The longest wait for the daemon before its life is asked again.
const SLICE: Duration = Duration::from_millis(60);

const CMD_QUERY: i32 = 0;
const CMD_GLOBAL: i32 = 1;

/// What a writer's barriers come from at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The daemon's file.
    Daemon,
    /// `MEMBARRIER_CMD_GLOBAL`, for calls that wait.
    GlobalMembarrier,
    /// Nothing: what readers show by themselves is all there is.
    None,
}

impl Source {
    /// Returns what writers here have by default where no daemon is at work. It costs a system call.
    #[must_use]
    pub fn without_daemon() -> Source {
        if has_global() { Source::GlobalMembarrier } else { Source::None }
    }
}

fn has_global() -> bool {
    membarrier_call(CMD_QUERY).is_some_and(|has| has & CMD_GLOBAL != 0)
}

pub(crate) struct Barriers {
    path: PathBuf,
    barrier: Option<Barrier>,
    /// The daemon's file was open and lied.
    distrusted: bool,
    tried: Option<Instant>,
    global: bool,
    /// Every stamp below this has passed, by a membarrier.
    passed: u64,
    /// What a model has in place of the daemon's file.
    #[cfg(barrierd_loom)]
    pub(crate) asked: Option<Box<dyn FnMut() -> u64 + Send>>,
}

impl Barriers {
    pub(crate) fn new(path: &Path, membarrier: bool) -> Barriers {
        let global = membarrier && has_global();
        let mut new = Barriers {
            path: path.into(),
            barrier: None,
            distrusted: false,
            tried: None,
            global,
            passed: 0,
            #[cfg(barrierd_loom)]
            asked: None,
        };
        new.look();
        new
    }

    pub(crate) fn source(&self) -> Source {
        match &self.barrier {
            Some(barrier) if !self.distrusted && is_there(barrier) => Source::Daemon,
            _ if self.global => Source::GlobalMembarrier,
            _ => Source::None,
        }
    }

    /// Looks for a daemon, or for another file at its path, now and then.
    fn look(&mut self) {
        let now = sync::now();
        if self.tried.is_some_and(|tried| now - tried < RETRY) {
            return;
        }
        self.tried = Some(now);
        // Not there, or not right: then there is none for now.
        let found = match &self.barrier {
            Some(barrier) => barrier.reopen().ok().flatten(),
            None => Barrier::open(&self.path).ok(),
        };
        if found.is_some() {
            (self.barrier, self.distrusted) = (found, false);
        }
    }

    /// Returns how far barriers have passed: for every stamp below it. It waits for nothing.
    pub(crate) fn watermark(&mut self) -> u64 {
        #[cfg(barrierd_loom)]
        if let Some(asked) = &mut self.asked {
            return asked();
        }
        if self.barrier.as_ref().is_none_or(|barrier| self.distrusted || !is_there(barrier)) {
            self.look();
        }
        let Some(barrier) = self.barrier.as_ref().filter(|_| !self.distrusted) else {
            return self.passed;
        };
        match barrier.watermark() {
            // The greater: each is true by itself.
            Ok(watermark) => watermark.ns.max(self.passed),
            Err(_) => {
                self.distrusted = true;
                self.passed
            }
        }
    }

    /// Waits until the barrier for `stamp` has passed, `deadline` at most, or for a while: the caller asks again. `latest` is the
    /// region's, and `stamp` was taken before.
    pub(crate) fn wait(&mut self, stamp: u64, latest: &AtomicU64, deadline: Instant) {
        let now = sync::now();
        match self.source() {
            Source::Daemon => {
                let Some(barrier) = &self.barrier else { return };
                let slice = deadline.min(now + SLICE);
                if let Err(WaitError::Distrust(_)) = barrier.wait(Stamp::from_ns(stamp), slice) {
                    self.distrusted = true;
                }
            }
            Source::GlobalMembarrier => {
                // No clock: the stamps up to the one that is there now were taken before the call (they only rise, and this is
                // Acquire), so what they stand for was unlinked before it.
                let before = latest.load(Ordering::Acquire);
                if !slots::can_be(before, sync::now_ns()) {
                    // Broken meanwhile: it would vouch for stamps yet to be taken. The next turn says so.
                    return;
                }
                if membarrier_call(CMD_GLOBAL).is_some() {
                    self.passed = self.passed.max(before.saturating_add(1));
                } else {
                    self.global = false;
                }
            }
            Source::None => {
                sync::sleep(Duration::from_millis(1).min(deadline.saturating_duration_since(now)));
                self.look();
            }
        }
    }
}

fn is_there(barrier: &Barrier) -> bool {
    matches!(barrier.liveness(), Liveness::Alive | Liveness::Suspect)
}

/// Returns what the system call does; `None` if it fails.
fn membarrier_call(command: i32) -> Option<i32> {
    // SAFETY: it takes three numbers, and stores nothing.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    i32::try_from(done).ok().filter(|&done| done >= 0)
}
