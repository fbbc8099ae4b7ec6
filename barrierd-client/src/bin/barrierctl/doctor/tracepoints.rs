//! The tracepoints that barrierd attaches to by default, as data.
//!
//! Owns that list for the doctor. The daemon has its own, and its tests hold the one against the other:
//! so this file stands for itself.

/// A tracepoint that barrierd attaches to by default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tracepoint {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    /// Whether a kernel may lack it.
    pub(crate) optional: bool,
}

const fn needed(group: &'static str, name: &'static str) -> Tracepoint {
    Tracepoint { group, name, optional: false }
}

const fn optional(group: &'static str, name: &'static str) -> Tracepoint {
    Tracepoint { group, name, optional: true }
}

/// What this project's barrierd attaches to unless told otherwise.
#[cfg(target_arch = "x86_64")]
pub(crate) const TRACEPOINTS: [Tracepoint; 5] = [
    needed("sched", "sched_switch"),
    needed("irq", "softirq_entry"),
    needed("irq_vectors", "local_timer_entry"),
    optional("irq_vectors", "call_function_single_entry"),
    optional("csd", "csd_function_entry"),
];

/// What this project's barrierd attaches to unless told otherwise.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const TRACEPOINTS: [Tracepoint; 4] = [
    needed("sched", "sched_switch"),
    needed("irq", "softirq_entry"),
    optional("ipi", "ipi_entry"),
    optional("csd", "csd_function_entry"),
];
