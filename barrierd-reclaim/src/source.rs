//! Where a domain's barriers come from.
//!
//! Every source speaks the same unit, nanoseconds of `CLOCK_MONOTONIC`, and every watermark is true
//! by itself; so a domain may take the next one from another source, and its era only rises.

use crate::bag::VtimeWord;
use crate::error::BuildError;
use crate::membarrier::Membarrier;
use crate::protocol::Evidence;
use crate::stats::Counters;
use barrierd_client::abi::{CLOCK_MARGIN_NS, DEFAULT_PATH, HEARTBEAT_PERIOD_NS};
use barrierd_client::clock::now_ns;
use barrierd_client::{Barrier, Liveness, Stamp};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Which source of barriers a [`Reclaimer`](crate::Reclaimer) should use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The daemon where one runs, else membarrier, else fences: chosen once. A domain that started
    /// with the daemon buys from membarrier while the daemon is away or its watermark is old.
    #[default]
    Auto,
    /// The barrier daemon's file, and nothing else: free of system calls, milliseconds late. While
    /// the daemon is away, nothing is freed.
    ///
    /// A daemon that is started again on the same file is taken back. One that had to make a new
    /// file (the old one was deleted) is not noticed: the file is opened once.
    Daemon,
    /// `membarrier(PRIVATE_EXPEDITED)`: no daemon, no root, Linux 4.14. A purchase interrupts the
    /// CPUs that run other threads of this process.
    Membarrier,
    /// Readers run a full fence in every `pin`. Works everywhere.
    Fence,
}

/// Where the last barrier came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActiveSource {
    /// The barrier daemon.
    Daemon,
    /// `membarrier(2)`.
    Membarrier,
    /// Fences in the readers.
    Fence,
}

impl core::fmt::Display for ActiveSource {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            ActiveSource::Daemon => "daemon",
            ActiveSource::Membarrier => "membarrier",
            ActiveSource::Fence => "fence",
        })
    }
}

/// Who asks for a barrier, and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `retire`: what is there, or what the policy allows to buy.
    OnRetire,
    /// `flush`: the same, counted apart.
    OnFlush,
    /// `synchronize`: where barriers are bought, buy now.
    Now,
    /// Only another look at the readers.
    Nothing,
    /// `retire` above a limit: buy, or ask the daemon.
    AtLimit,
    /// The background thread: buy, where none comes by itself.
    Behind,
}

/// The chosen source. Kept, mapping and all, for the life of the domain.
#[derive(Debug)]
pub(crate) enum Barriers {
    /// The daemon's file, with or without membarrier to fall back on.
    Daemon {
        barrier: Box<Barrier>,
        fallback: Option<Membarrier>,
        /// The stop for which the daemon was last asked to hurry, nanoseconds.
        asked_ns: AtomicU64,
    },
    /// Bought barriers only.
    Membarrier(Membarrier),
    /// The readers' own fences.
    Fence,
}

impl Barriers {
    pub(crate) fn choose(source: Source, path: Option<&Path>) -> Result<Barriers, BuildError> {
        let path = path.map_or_else(|| PathBuf::from(DEFAULT_PATH), Path::to_path_buf);
        match source {
            Source::Daemon => Ok(Barriers::Daemon {
                barrier: Box::new(open_live(&path)?),
                fallback: None,
                asked_ns: AtomicU64::new(0),
            }),
            Source::Membarrier => Ok(Barriers::Membarrier(Membarrier::register()?)),
            Source::Fence => Ok(Barriers::Fence),
            Source::Auto => {
                let membarrier = Membarrier::register().ok();
                Ok(match (open_live(&path), membarrier) {
                    (Ok(barrier), fallback) => Barriers::Daemon {
                        barrier: Box::new(barrier),
                        fallback,
                        asked_ns: AtomicU64::new(0),
                    },
                    (Err(_), Some(membarrier)) => Barriers::Membarrier(membarrier),
                    (Err(_), None) => Barriers::Fence,
                })
            }
        }
    }

    /// Whether readers must fence. Decided before the first pin, for good.
    pub(crate) fn readers_fence(&self) -> bool {
        matches!(self, Barriers::Fence)
    }

    /// The word that retired items are stamped with.
    pub(crate) fn vtime_word(&self) -> VtimeWord {
        match self {
            Barriers::Daemon { barrier, .. } => match barrier.vtime_word() {
                // SAFETY: the word lies in `barrier`'s mapping. The domain owns `self`, never
                // replaces it, and frees every bag before it.
                Some(word) => unsafe { VtimeWord::new(word) },
                None => VtimeWord::none(),
            },
            Barriers::Membarrier(_) | Barriers::Fence => VtimeWord::none(),
        }
    }

    /// The daemon's watermark, if it can be had and is the source.
    ///
    /// Whatever comes back was true before this returned: the caller looks at the slots after.
    pub(crate) fn passive(&self) -> Option<Evidence> {
        let Barriers::Daemon { barrier, .. } = self else { return None };
        let watermark = barrier.watermark().ok()?;
        Some(Evidence { ns: watermark.ns, vtime: watermark.vtime })
    }

    /// Where barriers can be bought.
    pub(crate) fn membarrier(&self) -> Option<Membarrier> {
        match self {
            Barriers::Daemon { fallback, .. } => *fallback,
            Barriers::Membarrier(membarrier) => Some(*membarrier),
            Barriers::Fence => None,
        }
    }

    /// Whether barriers come by themselves.
    pub(crate) fn keeps_up(&self) -> bool {
        match self {
            Barriers::Daemon { barrier, .. } => keeps_up(barrier),
            Barriers::Membarrier(_) => false,
            Barriers::Fence => true,
        }
    }

    /// Asks the daemon to hurry, unless it was asked a moment ago. `now_ns`: a stop. Whether that took
    /// a system call.
    pub(crate) fn expedite(&self, now_ns: u64) -> bool {
        let Barriers::Daemon { barrier, asked_ns, .. } = self else { return false };
        let before = asked_ns.load(Relaxed);
        let answered = barrier.watermark().is_ok_and(|mark| mark.ns > before);
        if now_ns.saturating_sub(before) < if answered { ASK_NS } else { ASK_AGAIN_NS } {
            return false;
        }
        if asked_ns.compare_exchange(before, now_ns, Relaxed, Relaxed).is_err() {
            return false;
        }
        // A hint: if it is not taken the barrier comes all the same.
        let _ = barrier.expedite(Stamp::from_ns(now_ns));
        true
    }

    /// Sleeps until the barrier for `stamp` may have passed, at most until `deadline` and at most
    /// a short while: the caller looks again. Says why there is no barrier, where it is known.
    pub(crate) fn wait(
        &self,
        stamp: u64,
        deadline: Instant,
        counters: &Counters,
    ) -> Option<String> {
        match self {
            Barriers::Daemon { barrier, fallback, .. } => {
                if fallback.is_some() && !keeps_up(barrier) {
                    std::thread::sleep(Duration::from_nanos(CLOCK_MARGIN_NS));
                    return None;
                }
                let slice = deadline.min(Instant::now() + Duration::from_millis(20));
                counters.waited();
                let why = barrier.wait(Stamp::from_ns(stamp), slice).err()?;
                if barrier.watermark().is_err() || Instant::now() < slice {
                    // Refused at once: don't spin.
                    std::thread::sleep(Duration::from_millis(1));
                }
                Some(why.to_string())
            }
            Barriers::Membarrier(_) | Barriers::Fence => {
                // The evidence is bought, not waited for; it trails the clock by the margin.
                std::thread::sleep(Duration::from_nanos(CLOCK_MARGIN_NS));
                None
            }
        }
    }
}

/// Requests to hurry are at least this far apart, nanoseconds ...
const ASK_NS: u64 = 1_000_000;
/// ... and this, while the last one has not been served.
const ASK_AGAIN_NS: u64 = 10_000_000;

/// Opens the file of a daemon that runs. May take [`SECOND_LOOK`] to find out.
fn open_live(path: &Path) -> Result<Barrier, BuildError> {
    let barrier = Barrier::open(path)?;
    // An old beat at the first look is on notice: a daemon that was idle or starved beats again.
    if barrier.liveness() == Liveness::Suspect {
        std::thread::sleep(SECOND_LOOK);
    }
    match barrier.liveness() {
        Liveness::Alive | Liveness::Suspect => Ok(barrier),
        Liveness::Stopped | Liveness::Stale => {
            Err(BuildError::DaemonGone { path: path.to_path_buf() })
        }
    }
}

/// Two looks this far apart tell a dead daemon (`Barrier::liveness` asks for 50 ms).
const SECOND_LOOK: Duration = Duration::from_millis(60);

/// A watermark older than this, nanoseconds, is not waited for where a barrier can be bought: the
/// daemon may beat while a CPU that takes no interrupts holds it up.
const OLD_NS: u64 = 2 * HEARTBEAT_PERIOD_NS;

fn keeps_up(barrier: &Barrier) -> bool {
    let alive = matches!(barrier.liveness(), Liveness::Alive | Liveness::Suspect);
    alive && barrier.watermark().is_ok_and(|mark| now_ns().saturating_sub(mark.ns) <= OLD_NS)
}
