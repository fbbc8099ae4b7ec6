//! The words that the BPF programs and the daemon share, by number.
//!
//! This file owns every offset and value that both sides must agree on. `build.rs` hands them to
//! clang as macros of the same names, and `shared.bpf.h` asserts them against its structs, so the
//! two sides can't drift apart. It knows nothing of what the programs do.
//!
//! All offsets are in bytes; every word is a `u64`.

/// Bytes between two CPUs' slots: two 64-byte lines, because CPUs fetch lines in pairs.
pub const SLOT_BYTES: usize = 128;

/// The value of a slot whose CPU was last seen to switch to its idle task. A hint: what is believed of it
/// is what the kernel says when it is asked (`who_is_idle` in `sched_switch.bpf.c`).
pub const IDLE: u64 = u64::MAX;

/// Bytes of the one entry of the `control` map.
pub const CONTROL_BYTES: usize = 896;

/// `control`: the newest evidence time, in nanoseconds of `CLOCK_MONOTONIC`. Only the daemon writes.
pub const ARMED: usize = 0;
/// `control`: `id << ROUND_SHIFT | CPUs that must still reach WANTED`. Both sides write.
pub const ROUND: usize = 128;
/// `control`: the slot value that counts a CPU down. Only the daemon writes.
pub const WANTED: usize = 136;
/// `control`: 1 while the daemon sleeps until a user task runs. Daemon 0 to 1 and back, BPF 1 to 0.
pub const ASLEEP: usize = 256;
/// `control`: how often a task was seen to have run while its CPU showed [`IDLE`], so that the switch out of idle was not
/// traced. Both sides count.
pub const MISSED: usize = 384;
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
/// `control`: the number of the daemon's last question for idle CPUs. Only the daemon writes.
pub const ASKED: usize = 768;
/// `control`: the first of the [`GROUP`] CPUs that it is about. Only the daemon writes.
pub const ASKED_FIRST: usize = 776;
/// `control`: which of them, one bit each. Only the daemon writes.
pub const ASKED_CPUS: usize = 784;
/// `control`: those of them that were in their idle task. Only BPF writes, in the daemon's own context.
pub const IDLE_CPUS: usize = 792;
/// `control`: the number of the question that [`IDLE_CPUS`] answers. BPF writes it last.
pub const ANSWERED: usize = 800;

/// How many CPUs a question is about: the bits of a word.
pub const GROUP: usize = 64;

/// Bits of [`ROUND`] that hold the count.
pub const ROUND_SHIFT: u32 = 16;
