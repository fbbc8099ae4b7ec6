//! The plainest system: wasm32, Miri, and any target that has no file of its own. Readers fence, there is no system
//! call, and no background thread unless it was asked for. A fork is not noticed.

#[cfg(not(barrierd_loom))]
pub(crate) use super::by_std::WaitQueue;
pub(crate) use super::by_std::no_membarrier as membarrier;
pub(crate) use super::by_std::{mark, own_tid};

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub(crate) use super::by_std::now_ns;

/// Returns a number that rises by a microsecond with each call: there is no clock. So times in reports count calls.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub(crate) fn now_ns() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static NOW_NS: AtomicU64 = AtomicU64::new(1_000_000_000);
    NOW_NS.fetch_add(1_000, Relaxed)
}

/// There is one process.
pub(crate) fn process_id() -> u32 {
    1
}

/// Nothing is unloaded, as far as is known.
pub(crate) fn stay_loaded() {}

/// A new thread keeps what it has.
pub(crate) fn become_ordinary() {}

/// Nothing is called at the end.
pub(crate) fn at_exit(_: extern "C" fn()) {}

/// Nothing is called in a child.
pub(crate) fn in_children(_: extern "C" fn()) -> bool {
    true
}
