//! The collector of each execution of a model, and each thread's participant in it.

use super::collector::{Collector, LocalHandle};
use super::guard::Guard;

loom_crate::lazy_static! {
    static ref COLLECTOR: Collector = Collector::new();
}

loom_crate::thread_local! {
    static HANDLE: LocalHandle = COLLECTOR.register();
}

/// Runs `work` with this thread's participant; late in the thread's exit, when that is gone, with one for this call.
fn with_handle<R>(work: impl Fn(&LocalHandle) -> R) -> R {
    HANDLE.try_with(|handle| work(handle)).unwrap_or_else(|_| work(&COLLECTOR.register()))
}

/// Opens a section of the default collector.
pub fn pin() -> Guard {
    with_handle(LocalHandle::pin)
}

/// Returns whether this thread has a section of the default collector open. If not, it runs a full fence.
pub fn is_pinned() -> bool {
    with_handle(LocalHandle::is_pinned)
}

/// Returns the default collector of this execution.
pub fn default_collector() -> &'static Collector {
    &COLLECTOR
}
