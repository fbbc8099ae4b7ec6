//! One look at the daemon: all that there is to read in its file.
//!
//! Owns what is asked in which order. Knows nothing of how it is shown.

use std::thread::sleep;
use std::time::{Duration, Instant};

use barrierd_client::counters::{Counters, CountersError};
use barrierd_client::{Barrier, Distrust, Liveness, Watermark, clock};

/// What was found, at `now_ns` of CLOCK_MONOTONIC.
pub(crate) struct Look {
    pub(crate) liveness: Liveness,
    pub(crate) mark: Watermark,
    pub(crate) counters: Result<Counters, CountersError>,
    pub(crate) now_ns: u64,
}

impl Look {
    /// Takes up to half a second where the daemon's last beat is old.
    pub(crate) fn at(barrier: &Barrier) -> Result<Self, Distrust> {
        // One old heartbeat is a suspicion; the second look settles it.
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
        let mark = barrier.watermark()?;
        Ok(Self { liveness, mark, counters, now_ns: clock::now_ns() })
    }

    /// Whether the daemon is at work.
    pub(crate) fn well(&self) -> bool {
        self.liveness == Liveness::Alive
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
