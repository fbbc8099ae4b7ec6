//! What waits in a domain above its limits, and for whom.

use crate::engine::Engine;
use barrierd_client::clock::now_ns;
use std::time::Duration;

/// What a limit's hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Objects that wait, in the whole domain.
    pub items: u64,
    /// What they take, bytes; as for [`Stats::waiting_bytes`](crate::Stats::waiting_bytes).
    pub bytes: u64,
    /// Threads and handles that hold a guard.
    pub readers: usize,
    /// How long ago the last full stop was that the oldest of them had seen when it was opened: no longer has its
    /// guard been open.
    pub oldest_guard: Option<Duration>,
    /// The calling thread holds a guard itself.
    pub own_guard: bool,
}

impl Pressure {
    /// Costs a walk over the records.
    pub(crate) fn of(engine: &Engine, own_guard: bool) -> Pressure {
        let now = now_ns();
        let pinned = || engine.records().filter_map(|record| record.reader().pinned());
        Pressure {
            items: engine.waiting(),
            bytes: engine.waiting_bytes(),
            readers: pinned().count(),
            oldest_guard: pinned().min().map(|seen| Duration::from_nanos(now.saturating_sub(seen))),
            own_guard,
        }
    }
}
