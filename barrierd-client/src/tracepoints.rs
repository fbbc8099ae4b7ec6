//! The tracepoints that barrierd attaches to unless its command line names others, as data.
//!
//! This module owns that list, the one place for it: the daemon attaches by it, and `barrierctl doctor` checks whether
//! the kernel has them. Nothing in the library uses it.

/// A tracepoint that barrierd attaches to by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracepoint {
    /// Its group in tracefs.
    pub group: &'static str,
    /// Its name, without the group. The kernel identifies it by the name alone.
    pub name: &'static str,
    /// Whether a kernel may lack it.
    pub optional: bool,
}

const fn needed(group: &'static str, name: &'static str) -> Tracepoint {
    Tracepoint { group, name, optional: false }
}

const fn optional(group: &'static str, name: &'static str) -> Tracepoint {
    Tracepoint { group, name, optional: true }
}

/// The tracepoint that is always traced, by a program of its own.
pub const SCHED_SWITCH: Tracepoint = needed("sched", "sched_switch");

/// The soft interrupt, always traced while idle is inferred: its program mends slots that show IDLE
/// without being idle.
pub const SOFTIRQ_ENTRY: Tracepoint = needed("irq", "softirq_entry");

/// Where a CPU runs what another asked of it, since Linux 6.5: every kick shows there. Not every kick
/// is an interrupt of its own: a CPU takes it along with an earlier one, and one that polls in its
/// idle task takes it without any (`__smp_call_single_queue` in kernel/smp.c).
pub const CSD_FUNCTION_ENTRY: Tracepoint = optional("csd", "csd_function_entry");

/// What is traced when the command line names nothing.
#[cfg(target_arch = "x86_64")]
pub const DEFAULTS: [Tracepoint; 5] = [
    SCHED_SWITCH,
    SOFTIRQ_ENTRY,
    needed("irq_vectors", "local_timer_entry"),
    // Absent from kernels for one CPU.
    optional("irq_vectors", "call_function_single_entry"),
    CSD_FUNCTION_ENTRY,
];

/// What is traced when the command line names nothing. On arm64 the timer's interrupt is one like the others
/// (`handle_percpu_devid_irq` in kernel/irq/chip.c), as are those by which CPUs interrupt each other.
#[cfg(not(target_arch = "x86_64"))]
pub const DEFAULTS: [Tracepoint; 5] = [
    SCHED_SWITCH,
    SOFTIRQ_ENTRY,
    needed("irq", "irq_handler_entry"),
    // Absent from kernels for one CPU.
    optional("ipi", "ipi_entry"),
    CSD_FUNCTION_ENTRY,
];
