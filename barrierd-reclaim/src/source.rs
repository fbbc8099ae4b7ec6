//! Where a domain's barriers come from.
//!
//! Every source speaks the same unit, nanoseconds of `CLOCK_MONOTONIC`, and every watermark is true
//! by itself; so a domain may take the next one from another source, and its era only rises.

use crate::bag::VtimeWord;
use crate::error::{BuildError, MembarrierError};
use crate::membarrier::{Membarrier, Purse};
use crate::protocol::Evidence;
use crate::stats::Counters;
use crate::sync::{Ordering, fence};
use barrierd_client::abi::{CLOCK_MARGIN_NS, DEFAULT_PATH, HEARTBEAT_PERIOD_NS};
use barrierd_client::clock::now_ns;
use barrierd_client::{Barrier, Liveness, Stamp};
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

/// Who asks for evidence, and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `retire`: what is there, or what the spacing allows to buy.
    OnRetire,
    /// `flush`: the same, counted apart.
    OnFlush,
    /// `synchronize`: where barriers are bought, buy now.
    Now,
    /// Only another look at the readers.
    Nothing,
}

/// The chosen source. Kept, mapping and all, for the life of the domain.
#[derive(Debug)]
pub(crate) enum Barriers {
    /// The daemon's file, with or without membarrier to fall back on.
    Daemon { barrier: Box<Barrier>, fallback: Option<Membarrier> },
    /// Bought barriers only.
    Membarrier(Membarrier),
    /// The readers' own fences.
    Fence,
}

impl Barriers {
    pub(crate) fn choose(source: Source, path: Option<&Path>) -> Result<Barriers, BuildError> {
        let path = path.map_or_else(|| PathBuf::from(DEFAULT_PATH), Path::to_path_buf);
        match source {
            Source::Daemon => {
                Ok(Barriers::Daemon { barrier: Box::new(open_live(&path)?), fallback: None })
            }
            Source::Membarrier => Ok(Barriers::Membarrier(Membarrier::register()?)),
            Source::Fence => Ok(Barriers::Fence),
            Source::Auto => {
                let membarrier = Membarrier::register().ok();
                Ok(match (open_live(&path), membarrier) {
                    (Ok(barrier), fallback) => {
                        Barriers::Daemon { barrier: Box::new(barrier), fallback }
                    }
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

    /// The best watermark to be had now, and whose it is. `None`: there is nothing new, or nothing
    /// that can be trusted.
    ///
    /// Whatever comes back was true before this returned: the caller looks at the slots after.
    pub(crate) fn evidence(
        &self,
        era: u64,
        asked: Asked,
        purse: &mut Purse,
        counters: &Counters,
    ) -> Option<(Evidence, ActiveSource)> {
        if asked == Asked::Nothing {
            return None;
        }
        match self {
            Barriers::Daemon { barrier, fallback } => {
                if let Ok(watermark) = barrier.watermark()
                    && watermark.ns > era
                {
                    let news = Evidence { ns: watermark.ns, vtime: watermark.vtime };
                    return Some((news, ActiveSource::Daemon));
                }
                // No news is the usual case between two rounds.
                let fallback = (*fallback)?;
                if keeps_up(barrier) {
                    return None;
                }
                buy(fallback, asked, purse, counters)
            }
            Barriers::Membarrier(membarrier) => buy(*membarrier, asked, purse, counters),
            Barriers::Fence => {
                let ns = now_ns().saturating_sub(CLOCK_MARGIN_NS);
                // Pairs with the fence in `Slot::pin_fenced`: between this time and the look at
                // the slots.
                fence(Ordering::SeqCst);
                Some((Evidence { ns, vtime: 0 }, ActiveSource::Fence))
            }
        }
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
            Barriers::Daemon { barrier, fallback } => {
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

fn buy(
    membarrier: Membarrier,
    asked: Asked,
    purse: &mut Purse,
    counters: &Counters,
) -> Option<(Evidence, ActiveSource)> {
    if asked != Asked::Now && !purse.may_buy(now_ns()) {
        return None;
    }
    counters.bought(asked);
    // A refusal (a seccomp filter that came later) means no watermark: the garbage is kept.
    match membarrier.buy(purse) {
        Ok(evidence) => Some((evidence, ActiveSource::Membarrier)),
        Err(
            MembarrierError::Unsupported | MembarrierError::Register(_) | MembarrierError::Call(_),
        ) => {
            counters.refused();
            None
        }
    }
}
