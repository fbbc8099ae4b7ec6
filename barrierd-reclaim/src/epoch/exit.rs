//! The end of the process: what still waits in its own collector is called.
//!
//! Rust drops no statics, so the C library is asked: it calls back when `main` returns or somebody calls
//! `exit`, on that thread, after that thread's own thread-locals have gone. Other threads may run still.
//! The call does nothing that the background thread would not do at the same moment, so it needs no
//! promise that a deferred closure has not given; but it waits for others by a deadline.

use super::{control, default};
use core::ffi::c_int;
use std::panic::catch_unwind;
use std::time::{Duration, Instant};

/// How long an exit may be held up by other threads' sections, and by what they have not handed over.
const AT_MOST: Duration = Duration::from_millis(50);

unsafe extern "C" {
    /// ISO C: calls back at a normal end of the process. Not 0: no room for it.
    safe fn atexit(call: extern "C" fn()) -> c_int;
}

/// Has [`drain_at_exit`] called. If there is no room for it, nothing is called at the end, as without it.
pub(super) fn hook() {
    let _ = atexit(drain_at_exit);
}

extern "C" fn drain_at_exit() {
    let Some(collector) = default::existing() else { return };
    while collector.domain().waiting() > 0 {
        match catch_unwind(|| control::drain(Instant::now() + AT_MOST)) {
            // Done, or something stands in the way, and nobody is left to tell.
            Ok(_) => return,
            // A closure panicked, and is gone; the hook has reported it. The others are still there. The
            // payload's own destructor might panic again.
            Err(payload) => core::mem::forget(payload),
        }
    }
}
