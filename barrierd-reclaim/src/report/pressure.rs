//! What waits in a domain above its limits, and for which readers.

use crate::engine::Engine;
use crate::platform::now_ns;
use std::time::Duration;

/// The argument of a limit hook.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// The number of objects that wait, in the whole domain.
    pub items: u64,
    /// Their size in bytes; as for [`Stats::waiting_bytes`](crate::Stats::waiting_bytes).
    pub bytes: u64,
    /// The number of threads and handles that hold a guard.
    pub readers: usize,
    /// The age of the last stamp that the oldest of them had seen when its guard was opened. The guard has been open
    /// no longer than that.
    pub oldest_guard: Option<Duration>,
    /// Whether the calling thread itself holds a guard.
    pub own_guard: bool,
}

impl Pressure {
    /// It costs a walk over the records.
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
