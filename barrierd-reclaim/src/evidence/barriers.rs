//! The source that a domain has chosen.
//!
//! Every source speaks the same unit, nanoseconds of `CLOCK_MONOTONIC`, and every watermark is true
//! by itself; so a domain may take the next one from another source, and its watermark only rises.

use crate::error::BuildError;
use crate::evidence::daemons::{Daemons, is_gone, keeps_up};
use crate::evidence::mapped::{self, Mapped};
use crate::evidence::membarrier::{self, Membarrier};
use crate::evidence::source::{ActiveSource, Source};
use crate::evidence::status::{Status, Why};
use crate::platform::HAS_CLIENT;
use crate::platform::client::abi::{CLOCK_MARGIN_NS, DEFAULT_PATH};
use crate::platform::client::{Barrier, Liveness, Stamp};
use crate::platform::membarrier::MAY_EXIST;
use crate::protocol::{Evidence, VtimeWord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The chosen source. Kept, mappings and all, for the life of the domain.
#[derive(Debug)]
pub(crate) enum Barriers {
    /// The daemon's file, with or without membarrier to fall back on. It may not be there yet.
    Daemon { daemons: Daemons, fallback: Option<Membarrier> },
    /// Bought barriers only. Whether that was asked for.
    Membarrier { membarrier: Membarrier, asked_for: bool },
    /// The readers' own fences. Whether that was asked for.
    Fence { asked_for: bool },
}

/// Readers are watched for so long at most, nanoseconds, by a thread that spins. The daemon's barrier takes three times
/// as long; a membarrier that takes longer has met a busy machine.
const MOST_WATCH_NS: u64 = 20_000;

impl Barriers {
    /// Chooses by one check of the file, and one question to the system in each process: without a wait.
    pub(crate) fn choose(source: Source, path: Option<&Path>) -> Result<Barriers, BuildError> {
        membarrier::begin_anew_in_a_child();
        let path = path.map_or_else(|| PathBuf::from(DEFAULT_PATH), Path::to_path_buf);
        match source {
            Source::Daemon if !HAS_CLIENT => Err(BuildError::DaemonElsewhere),
            Source::Daemon => {
                let file = mapped::open(&path)?;
                if is_gone(&file) {
                    return Err(BuildError::DaemonGone { path });
                }
                Ok(Barriers::Daemon { daemons: Daemons::new(path, Some(file)), fallback: None })
            }
            Source::Membarrier => {
                Ok(Barriers::Membarrier { membarrier: Membarrier::find()?, asked_for: true })
            }
            Source::Fence => Ok(Barriers::Fence { asked_for: true }),
            // No daemon will come.
            Source::Auto if !HAS_CLIENT => Ok(match Membarrier::find() {
                Ok(membarrier) => Barriers::Membarrier { membarrier, asked_for: false },
                Err(_) => Barriers::Fence { asked_for: false },
            }),
            Source::Auto => {
                let file = mapped::try_open(&path);
                let fallback = Membarrier::find().ok();
                // With membarrier nothing need be known at once: each use checks whether the daemon keeps
                // up. Without it a daemon that never comes back would keep all garbage, so in doubt: fences.
                let alive = |file: &Arc<Mapped>| file.liveness() == Liveness::Alive;
                if fallback.is_none() && !file.as_ref().is_some_and(alive) {
                    return Ok(Barriers::Fence { asked_for: false });
                }
                Ok(Barriers::Daemon { daemons: Daemons::new(path, file), fallback })
            }
        }
    }

    /// Returns the source that the first barrier will come from.
    pub(crate) fn active(&self) -> ActiveSource {
        match self {
            Barriers::Daemon { fallback: None, .. } => ActiveSource::Daemon,
            Barriers::Daemon { .. } if self.keeps_up() => ActiveSource::Daemon,
            Barriers::Daemon { .. } | Barriers::Membarrier { .. } => ActiveSource::Membarrier,
            Barriers::Fence { .. } => ActiveSource::Fence,
        }
    }

    /// Returns the watermark that a daemon which does not keep up had published before the domain was made,
    /// nanoseconds: true, but not new.
    pub(crate) fn old_news_ns(&self) -> u64 {
        let old = || if self.keeps_up() { None } else { self.passive() };
        old().map_or(0, |news| news.ns)
    }

    /// Returns whether readers must fence. Decided before the first pin, for good.
    pub(crate) fn readers_fence(&self) -> bool {
        matches!(self, Barriers::Fence { .. })
    }

    /// Returns the word that gives retired items their virtual time: the first file's, or none. Virtual times of two
    /// files can't be compared, so only this file's count in the domain; with other files only nanoseconds do.
    pub(crate) fn vtime_word(&self) -> VtimeWord {
        let Barriers::Daemon { daemons, .. } = self else { return VtimeWord::none() };
        match daemons.labelled().and_then(|file| file.vtime_word()) {
            // SAFETY: the word lies in the first file's mapping, which is kept as long as `self`;
            // the domain owns that, and frees every bag before it.
            Some(word) => unsafe { VtimeWord::new(word) },
            None => VtimeWord::none(),
        }
    }

    /// Returns the daemon's watermark, if it can be had and is the source.
    ///
    /// The watermark was true before this returned: the caller loads the slots after.
    pub(crate) fn passive(&self) -> Option<Evidence> {
        let Barriers::Daemon { daemons, .. } = self else { return None };
        let file = daemons.current()?;
        let watermark = file.watermark().ok()?;
        let labelled = daemons.labelled().is_some_and(|first| core::ptr::eq(first, file));
        Some(Evidence { ns: watermark.ns, vtime: if labelled { watermark.vtime } else { 0 } })
    }

    /// Returns whether this process's clock is compared with another's: the daemon's. Bought and
    /// collected evidence rests on the order of stamps.
    pub(crate) fn compares_clocks(&self) -> bool {
        matches!(self, Barriers::Daemon { daemons, .. } if daemons.current().is_some())
    }

    /// Returns the seller of barriers, if barriers can be bought.
    pub(crate) fn membarrier(&self) -> Option<Membarrier> {
        match self {
            Barriers::Daemon { fallback, .. } => *fallback,
            Barriers::Membarrier { membarrier, .. } => Some(*membarrier),
            Barriers::Fence { .. } => None,
        }
    }

    /// Returns whether barriers come without a purchase.
    pub(crate) fn keeps_up(&self) -> bool {
        match self {
            Barriers::Daemon { daemons, .. } => {
                daemons.current().is_some_and(|file| keeps_up(file))
            }
            Barriers::Membarrier { .. } => false,
            Barriers::Fence { .. } => true,
        }
    }

    /// Returns how long a call that waits should watch the readers before it buys a barrier or asks for one,
    /// nanoseconds. Whoever waits as long as the thing costs that it waits to be spared pays twice the least at worst.
    pub(crate) fn watch_ns(&self) -> u64 {
        match self {
            Barriers::Fence { .. } => 0,
            Barriers::Daemon { .. } if self.keeps_up() => MOST_WATCH_NS,
            Barriers::Daemon { fallback: None, .. } => 0,
            Barriers::Daemon { fallback: Some(membarrier), .. }
            | Barriers::Membarrier { membarrier, .. } => membarrier.price_ns().min(MOST_WATCH_NS),
        }
    }

    /// Returns the daemon, if barriers are rare because no thread has waited for one of late.
    pub(crate) fn easy_daemon(&self) -> Option<Arc<Mapped>> {
        let Barriers::Daemon { daemons, .. } = self else { return None };
        daemons.easy()
    }

    /// Checks, for the background thread, whether a daemon has come, or a new file.
    pub(crate) fn look_for_daemon(&self) {
        if let Barriers::Daemon { daemons, .. } = self {
            daemons.check_path();
        }
    }

    /// Returns the source that serves at the moment, and why. `refused`: membarrier was refused the last time.
    pub(crate) fn status(&self, refused: bool) -> Status {
        match self {
            Barriers::Fence { asked_for: true } => Status::Fence(Why::AskedFor),
            Barriers::Fence { asked_for: false } if !MAY_EXIST => Status::Fence(Why::NotHere),
            Barriers::Fence { asked_for: false } => Status::Fence(Why::NoMembarrier),
            Barriers::Membarrier { .. } if refused => Status::Nothing(Why::MembarrierRefused),
            Barriers::Membarrier { asked_for: true, .. } => Status::Membarrier(Why::AskedFor),
            Barriers::Membarrier { asked_for: false, .. } => Status::Membarrier(Why::NotHere),
            Barriers::Daemon { daemons, fallback } => {
                let Some(why) = daemons.trouble() else { return Status::Daemon };
                match fallback {
                    Some(_) if refused => Status::Nothing(Why::MembarrierRefused),
                    Some(_) => Status::Membarrier(why),
                    None => Status::Nothing(why),
                }
            }
        }
    }

    /// Asks the daemon to hurry, unless it was asked a moment ago. `now_ns`: a stamp. Returns whether that took
    /// a system call.
    pub(crate) fn expedite(&self, now_ns: u64) -> bool {
        let Barriers::Daemon { daemons, .. } = self else { return false };
        daemons.current().is_some_and(|file| file.hurry(now_ns))
    }

    /// Sleeps until the barrier for `stamp` may have passed, at most until `deadline` and at most a short while: the
    /// caller checks again. `sleeps` is called where that takes a system call. Returns why there is no barrier, where
    /// that is known.
    pub(crate) fn wait(
        &self,
        stamp: u64,
        deadline: Instant,
        sleeps: impl FnOnce(),
    ) -> Option<String> {
        match self {
            Barriers::Daemon { daemons, fallback } => {
                let barrier: &Barrier = match daemons.current() {
                    Some(file) if fallback.is_none() || keeps_up(file) => file,
                    _ => {
                        std::thread::sleep(Duration::from_nanos(CLOCK_MARGIN_NS));
                        return None;
                    }
                };
                let slice = deadline.min(Instant::now() + Duration::from_millis(20));
                sleeps();
                let why = barrier.wait(Stamp::from_ns(stamp), slice).err()?;
                if barrier.watermark().is_err() || Instant::now() < slice {
                    // Refused at once: don't spin.
                    std::thread::sleep(Duration::from_millis(1));
                }
                Some(why.to_string())
            }
            Barriers::Membarrier { .. } | Barriers::Fence { .. } => {
                // The evidence is bought, not waited for; it trails the clock by the margin.
                std::thread::sleep(Duration::from_nanos(CLOCK_MARGIN_NS));
                None
            }
        }
    }
}
