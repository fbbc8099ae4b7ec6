//! `tracing` events, if the feature `tracing` is on; otherwise empty functions.
//!
//! This file owns their wording. A subscriber is foreign code, so these functions are called outside of queues and of
//! locks that a call would wait for, and never on the fast path of `retire`.

#[cfg(feature = "tracing")]
pub(crate) use on::*;

#[cfg(not(feature = "tracing"))]
pub(crate) use off::*;

#[cfg(feature = "tracing")]
mod on {
    use super::super::blockers::Blocker;
    use super::super::pressure::Pressure;
    use crate::evidence::status::{Status, Why};
    use tracing::{debug, error, info, warn};

    pub(crate) const IS_ON: bool = true;

    /// Reports that the background thread could not be started.
    pub(crate) fn no_thread(error: &std::io::Error) {
        warn!(%error, "no background thread: what idle threads hold waits for them");
    }

    /// Reports that queues of idle threads were taken over.
    pub(crate) fn took_over(queues: usize) {
        debug!(queues, "took over queues of threads that do not retire");
    }

    /// Reports that a section is open for longer than the stall hook's limit.
    pub(crate) fn stalled(blocker: &Blocker) {
        warn!(
            tid = blocker.tid,
            thread = blocker.thread.as_deref().unwrap_or(""),
            open_for_ms = u64::try_from(blocker.open_for.as_millis()).unwrap_or(u64::MAX),
            robust = blocker.robust,
            items = blocker.holds_items,
            bytes = blocker.holds_bytes,
            "a guard is open for too long"
        );
    }

    /// Reports that a destructor has kept a background thread for too long.
    pub(crate) fn blocked(blocker: &Blocker) {
        warn!(
            tid = blocker.tid,
            thread = blocker.thread.as_deref().unwrap_or(""),
            runs_for_ms = u64::try_from(blocker.open_for.as_millis()).unwrap_or(u64::MAX),
            items = blocker.holds_items,
            "a destructor blocks a background thread"
        );
    }

    /// Reports that barriers come from another source than before, or for the first time.
    pub(crate) fn source(status: Status, first: bool) {
        let asked_for = matches!(status, Status::Membarrier(Why::AskedFor));
        match status {
            Status::Poisoned => {
                error!(%status, "the clock ran backwards: nothing is freed any more");
            }
            Status::Nothing(_) => warn!(%status, "no barriers"),
            Status::Membarrier(_) if !first && !asked_for => {
                warn!(%status, "barriers come from another source");
            }
            _ => info!(%status, "barriers come from this source"),
        }
    }

    /// Reports that the kernel refuses membarrier.
    pub(crate) fn refused() {
        warn!("the kernel refuses membarrier");
    }

    /// Reports that more waits than the limits allow.
    pub(crate) fn pressed(pressure: &Pressure) {
        let Pressure { items, bytes, readers, .. } = pressure;
        warn!(items, bytes, readers, "above the limit of what may wait");
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use super::super::blockers::Blocker;
    use super::super::pressure::Pressure;
    use crate::evidence::status::Status;

    pub(crate) const IS_ON: bool = false;

    #[inline(always)]
    pub(crate) fn no_thread(_: &std::io::Error) {}

    #[inline(always)]
    pub(crate) fn took_over(_: usize) {}

    #[inline(always)]
    pub(crate) fn stalled(_: &Blocker) {}

    #[inline(always)]
    pub(crate) fn blocked(_: &Blocker) {}

    #[inline(always)]
    pub(crate) fn source(_: Status, _: bool) {}

    #[inline(always)]
    pub(crate) fn refused() {}

    #[inline(always)]
    pub(crate) fn pressed(_: &Pressure) {}
}
