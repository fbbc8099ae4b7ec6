//! Calls what still waits in the process's own collector at the end of the process.
//!
//! Rust drops no statics, so this file asks the C library. It calls back when `main` returns or a thread calls
//! `exit`, on that thread, after that thread's own thread-locals are gone. Other threads may still run. The call does
//! nothing that the background thread could not do at the same moment, so it needs no promise that a deferred closure
//! has not given. But it waits for other threads, with a deadline.

use super::{control, default};
use crate::panics::caught;
use crate::platform::at_exit;
use std::time::{Duration, Instant};

/// How long other threads' sections, and what they have not handed over, may delay an exit.
const AT_MOST: Duration = Duration::from_millis(50);

/// Has [`drain_at_exit`] called. If there is no room for it, nothing is called at the end, as without it.
pub(super) fn hook() {
    at_exit(drain_at_exit);
}

extern "C" fn drain_at_exit() {
    let Some(collector) = default::existing() else { return };
    while collector.domain().waiting() > 0 {
        // It is done, or something is in the way, and there is no caller left to tell.
        if caught(|| control::drain(Instant::now() + AT_MOST)).is_some() {
            return;
        }
        // A closure panicked, and is gone. The others are still queued.
    }
}
