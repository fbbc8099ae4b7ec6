//! A snapshot of the daemon: all that there is to read in its file, read once.
//!
//! Owns what is asked in which order. Knows nothing of how it is shown.

use std::thread::sleep;
use std::time::{Duration, Instant};

use barrierd_client::counters::{Counters, CountersError, Word};
use barrierd_client::{Barrier, Distrust, Liveness, Watermark, clock};

/// What was found, at `now_ns` of CLOCK_MONOTONIC.
pub(crate) struct Snapshot {
    pub(crate) liveness: Liveness,
    pub(crate) mark: Watermark,
    pub(crate) counters: Result<Counters, CountersError>,
    /// When each CPU last passed.
    pub(crate) cpus: Vec<u64>,
    /// Whether each of these is that CPU's own, not the least of all.
    pub(crate) exact: bool,
    pub(crate) now_ns: u64,
}

impl Snapshot {
    /// Takes up to half a second where the daemon's last beat is old.
    pub(crate) fn at(barrier: &Barrier) -> Result<Self, Distrust> {
        // One old heartbeat is a suspicion; a second reading settles it.
        let settled = Instant::now() + Duration::from_millis(500);
        let mut liveness = barrier.liveness();
        while liveness == Liveness::Suspect && Instant::now() < settled {
            sleep(Duration::from_millis(60));
            liveness = barrier.liveness();
        }
        let mut counters = barrier.counters();
        while counters == Err(CountersError::Changing) && Instant::now() < settled {
            sleep(Duration::from_millis(20));
            counters = barrier.counters();
        }
        Ok(Self { liveness, counters, ..Self::brief(barrier)? })
    }

    /// Takes no time: a daemon may be called suspect.
    pub(crate) fn brief(barrier: &Barrier) -> Result<Self, Distrust> {
        let (liveness, counters) = (barrier.liveness(), barrier.counters());
        let mark = barrier.watermark()?;
        let cpus = barrier.cpus().map(|cpu| cpu.ns).collect();
        // The clock last: no age is less than it is.
        let (exact, now_ns) = (barrier.per_cpu_is_exact(), clock::now_ns());
        Ok(Self { liveness, mark, counters, cpus, exact, now_ns })
    }

    /// The `n` CPUs that passed last longest ago, each with how long, oldest first; `None` where they
    /// are not told apart.
    pub(crate) fn laggards(&self, n: usize) -> Option<Vec<(usize, u64)>> {
        let ages = self.cpus.iter().map(|&ns| self.now_ns.saturating_sub(ns));
        let mut ages: Vec<_> = ages.enumerate().collect();
        if !self.exact {
            return None;
        }
        ages.sort_by_key(|&(cpu, age)| (std::cmp::Reverse(age), cpu));
        ages.truncate(n);
        Some(ages)
    }

    /// Whether the daemon is at work.
    pub(crate) fn well(&self) -> bool {
        self.liveness == Liveness::Alive
    }

    /// What became of it and what to do, if it is not, for who has not seen the rest of the snapshot.
    pub(crate) fn gone(&self, barrier: &Barrier) -> Option<String> {
        let advice = self.advice()?;
        let pid = self.counters.as_ref().ok().and_then(|counters| counters.get(Word::Pid));
        let process = pid.map(|pid| format!("process {pid}, "));
        let beat = barrier.heartbeat_ns().map(|beat_ns| self.now_ns.saturating_sub(beat_ns));
        let age = beat.map_or("no sign of life".into(), |age_ns| {
            format!(
                "last sign of life {}.{} s ago",
                age_ns / 1_000_000_000,
                age_ns / 100_000_000 % 10
            )
        });
        Some(format!("{advice} ({}{age})", process.unwrap_or_default()))
    }

    /// What to do, if it is not.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self.liveness {
            Liveness::Alive => None,
            Liveness::Stopped => Some("the daemon has stopped: start barrierd again"),
            Liveness::Suspect | Liveness::Stale => {
                Some("the daemon died, hangs or publishes nothing: its log says more; restart it")
            }
        }
    }
}
