//! The words that the BPF programs and the daemon share, by number.
//!
//! This file owns every offset and value that both sides must agree on. `build.rs` hands them to
//! clang as macros of the same names, and `shared.bpf.h` asserts them against its structs, so the
//! two sides can't drift apart. It knows nothing of what the programs do.
//!
//! All offsets are in bytes; every word is a `u64`.

/// Bytes between two CPUs' slots: two 64-byte lines, because CPUs fetch lines in pairs.
pub const SLOT_BYTES: usize = 128;

/// The value of a slot whose CPU runs its idle task, which is no user code.
pub const IDLE: u64 = u64::MAX;

/// Bytes of the one entry of the `control` map.
pub const CONTROL_BYTES: usize = 768;

/// `control`: the newest evidence time, in nanoseconds of `CLOCK_MONOTONIC`. Only the daemon writes.
pub const ARMED: usize = 0;
/// `control`: `id << ROUND_SHIFT | CPUs that must still reach WANTED`. Both sides write.
pub const ROUND: usize = 128;
/// `control`: the slot value that counts a CPU down. Only the daemon writes.
pub const WANTED: usize = 136;
/// `control`: 1 while the daemon sleeps until a user task runs. Daemon 0 to 1 and back, BPF 1 to 0.
pub const ASLEEP: usize = 256;
/// `control`: 1 once `IDLE` can't be believed any more. Both sides set it, nobody clears it.
pub const BROKEN: usize = 384;
/// `control`: 1 once an event ran on a CPU that has no slot. Only BPF sets it.
pub const OVERFLOW: usize = 392;
/// `control`: the daemon's process id as BPF sees it, which may differ from `getpid`. BPF writes.
pub const DAEMON_TGID: usize = 512;
/// `control`: 1 if the last switch to the daemon took its CPU from a user task that wanted to go on,
/// else 0. Only BPF writes, on the CPU of that switch.
pub const PREEMPTED: usize = 640;
/// `control`: what was armed at the last switch to the daemon, so that it knows that the sched_switch
/// program is there. Only BPF writes, on the CPU of that switch.
pub const SWITCHED: usize = 648;

/// Bits of [`ROUND`] that hold the count.
pub const ROUND_SHIFT: u32 = 16;
