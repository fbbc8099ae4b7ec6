//! The six ways to a barrier: what each needs, and one wait by each, timed.
//!
//! Owns the page whose protection changes, and membarrier's registration. Knows nothing of the output.

use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Distrust, ExpediteError, OpenError, Stamp, clock};
use memmap2::MmapMut;
use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

use crate::args::By;
use crate::snapshot::Snapshot;
use crate::wait::{Hindrance, Waited, wait};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Mprotect,
    Ns,
    Vtime,
    Global,
    Private,
    Expedited,
}

/// All of them, in the order in which they take turns.
pub(super) const WAYS: [Way; 6] =
    [Way::Mprotect, Way::Ns, Way::Vtime, Way::Global, Way::Private, Way::Expedited];

impl Way {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mprotect => "mprotect IPI",
            Self::Ns => "ns",
            Self::Vtime => "vtime",
            Self::Global => "RCU membarrier",
            Self::Private => "expedited membarrier",
            Self::Expedited => "expedited barrier",
        }
    }

    /// For programs.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Mprotect => "mprotect",
            Self::Ns => "ns",
            Self::Vtime => "vtime",
            Self::Global => "membarrier_global",
            Self::Private => "membarrier_private",
            Self::Expedited => "expedited",
        }
    }

    /// How the daemon's barrier is waited for, if it is the daemon's.
    fn by(self) -> Option<By> {
        match self {
            Self::Ns => Some(By::Ns),
            Self::Vtime => Some(By::Vtime),
            // It asks by itself, once. Whether it may was asked before.
            Self::Expedited => Some(By::Default),
            Self::Mprotect | Self::Global | Self::Private => None,
        }
    }
}

/// Why a wait was not timed.
#[derive(Debug)]
pub(super) enum Failure {
    /// It can't be had, for this reason.
    Missing(String),
    /// The daemon's file lies: nothing more is timed.
    Distrust(Distrust),
}

pub(super) struct Ways {
    barrier: Result<Barrier, OpenError>,
    /// What became of the daemon, if it was not at work at the beginning.
    gone: Option<String>,
    page: Option<MmapMut>,
}

impl Ways {
    pub(super) fn new(barrier: Result<Barrier, OpenError>) -> Self {
        // A file that lies is found out by the first wait.
        let snapshot = barrier.as_ref().ok().and_then(|barrier| Snapshot::at(barrier).ok());
        let gone = snapshot
            .zip(barrier.as_ref().ok())
            .and_then(|(snapshot, barrier)| snapshot.gone(barrier));
        Self { barrier, gone, page: None }
    }

    /// Makes ready; or says why it can't be had here.
    pub(super) fn prepare(&mut self, way: Way) -> Result<(), String> {
        let supported = |query: MembarrierQuery| {
            let all = membarrier_query();
            all.contains(query).then_some(()).ok_or_else(|| {
                "this kernel has no such membarrier (nohz_full, seccomp or an old one)".to_owned()
            })
        };
        match way {
            Way::Mprotect => {
                let page = MmapMut::map_anon(PAGE).map_err(|e| format!("mapping a page: {e}"))?;
                self.page = Some(page);
                Ok(())
            }
            Way::Global => supported(MembarrierQuery::GLOBAL),
            Way::Private => {
                supported(MembarrierQuery::PRIVATE_EXPEDITED)?;
                membarrier(MembarrierCommand::RegisterPrivateExpedited)
                    .map_err(|errno| format!("registering for membarrier: {errno}"))
            }
            Way::Ns | Way::Vtime | Way::Expedited => {
                let barrier = self.barrier.as_ref().map_err(ToString::to_string)?;
                self.gone.clone().map_or(Ok(()), Err)?;
                if way != Way::Expedited {
                    return Ok(());
                }
                match barrier.expedite(Stamp::now()) {
                    // Full of requests: it will be asked again by each wait.
                    Ok(()) | Err(ExpediteError::Busy) => Ok(()),
                    Err(why) => Err(why.to_string()),
                }
            }
        }
    }

    /// Waits once: nanoseconds, or `None` if the time was up first.
    pub(super) fn time(&mut self, way: Way, timeout: Duration) -> Result<Option<u64>, Failure> {
        let missing = |what: &str| Failure::Missing(what.into());
        if let Some(by) = way.by() {
            let barrier = self.barrier.as_ref().map_err(|why| missing(&why.to_string()))?;
            let deadline = Instant::now() + timeout;
            let begin = clock::now_ns();
            return match wait(barrier, by, deadline) {
                Ok(Waited::Passed) => Ok(Some(clock::now_ns().saturating_sub(begin))),
                Ok(Waited::Late(_)) => Ok(None),
                Err(Hindrance::Distrust(why)) => Err(Failure::Distrust(why)),
                Err(why) => Err(missing(&why.to_string())),
            };
        }
        let begin = match way {
            Way::Mprotect => return self.mprotect().map(Some),
            Way::Global => {
                let begin = clock::now_ns();
                membarrier(MembarrierCommand::Global).map(|()| begin)
            }
            _ => {
                let begin = clock::now_ns();
                membarrier(MembarrierCommand::PrivateExpedited).map(|()| begin)
            }
        };
        let end = clock::now_ns();
        let begin = begin.map_err(|errno| missing(&format!("membarrier: {errno}")))?;
        Ok(Some(end.saturating_sub(begin)))
    }

    /// Takes write access from a page that was just written to, so that every CPU that runs this
    /// process has to forget what it knows of it, and gives it back.
    fn mprotect(&mut self) -> Result<u64, Failure> {
        let failed = |error: std::io::Error| Failure::Missing(format!("mprotect: {error}"));
        let mut page = self.page.take().ok_or_else(|| Failure::Missing("no page".into()))?;
        page[0] = page[0].wrapping_add(1);
        let begin = clock::now_ns();
        let page = page.make_read_only().and_then(memmap2::Mmap::make_mut).map_err(failed)?;
        let end = clock::now_ns();
        self.page = Some(page);
        Ok(end.saturating_sub(begin))
    }
}

/// Bytes; the kernel makes whole pages of it.
const PAGE: usize = 4096;
