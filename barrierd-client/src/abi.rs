//! The layout of the public file, byte for byte.
//!
//! This module owns the offsets and the meaning of each word, for the daemon that writes them and
//! for the clients that read them. It knows nothing of files, mappings or clocks.
//!
//! Every field is a little-endian `u64`, naturally aligned, written by single 64-bit Release
//! stores. Offsets 0 to 32 and everything from [`PER_CPU`] on are those of the C daemon's
//! `struct barrierd_mapped_data` (`include/barrierd.h`), so its clients run unchanged; that daemon
//! leaves [`MAGIC`]..[`PER_CPU`] zero.
//!
//! | offset | constant | meaning |
//! |---|---|---|
//! | 0 | [`NCPU`] | entries in the per-CPU table |
//! | 8 | [`VTIME`] | current virtual time; the low half is a futex word |
//! | 16 | [`LAST_INTERRUPT_NS`] | the barrier has passed for every `t` below this, in nanoseconds of `CLOCK_MONOTONIC`; the low half is a futex word |
//! | 24 | [`LAST_INTERRUPT_VTIME`] | the same in virtual time; the low half is a futex word |
//! | 32 | [`MAGIC`] | [`MAGIC_VALUE`], stored last when a file is made |
//! | 40 | [`VERSION`] | [`VERSION_VALUE`] |
//! | 48 | [`FLAGS`] | bits: [`FLAG_STOPPED`], [`FLAG_PER_CPU_EXACT`], [`FLAG_EASY`] |
//! | 56 | [`BOOT_ID`] | 16 bytes: the kernel's boot id, in the order of its text form |
//! | 72 | [`GENERATION`] | raised by each daemon that takes the file over; never 0 |
//! | 80 | [`HEARTBEAT_NS`] | `CLOCK_MONOTONIC` of the daemon's last beat, at least every [`HEARTBEAT_PERIOD_NS`] |
//! | 88 | [`TRUSTED_VTIME`] | a copy of [`VTIME`] that only a daemon with a sound virtual time writes |
//! | 96 | [`TRUSTED_LAST_VTIME`] | the same for [`LAST_INTERRUPT_VTIME`] |
//! | 104..128 | | zero |
//! | 128 + 16 c | [`per_cpu_ns`] | CPU c's `last_interrupt_ns`; the low half is a futex word |
//! | 136 + 16 c | [`per_cpu_vtime`] | CPU c's `last_interrupt_vtime`; the low half is a futex word |
//!
//! Behind the table, on the next multiple of 128 bytes, lie the daemon's [`counters`](crate::counters).

use std::path::{Path, PathBuf};

/// Offset in bytes of the number of entries in the per-CPU table.
pub const NCPU: usize = 0;
/// Offset of the current virtual time (futex word).
pub const VTIME: usize = 8;
/// Offset of the global watermark in nanoseconds of `CLOCK_MONOTONIC` (futex word).
pub const LAST_INTERRUPT_NS: usize = 16;
/// Offset of the global watermark in virtual time (futex word).
pub const LAST_INTERRUPT_VTIME: usize = 24;
/// Offset of the magic number.
pub const MAGIC: usize = 32;
/// Offset of the layout's version.
pub const VERSION: usize = 40;
/// Offset of the flag bits.
pub const FLAGS: usize = 48;
/// Offset of the boot id, 16 bytes.
pub const BOOT_ID: usize = 56;
/// Offset of the generation.
pub const GENERATION: usize = 72;
/// Offset of the daemon's last sign of life, nanoseconds of `CLOCK_MONOTONIC`.
pub const HEARTBEAT_NS: usize = 80;
/// Offset of the trusted copy of [`VTIME`].
pub const TRUSTED_VTIME: usize = 88;
/// Offset of the trusted copy of [`LAST_INTERRUPT_VTIME`].
pub const TRUSTED_LAST_VTIME: usize = 96;
/// Offset of the per-CPU table.
pub const PER_CPU: usize = 128;
/// Bytes in one entry of the per-CPU table.
pub const PER_CPU_STRIDE: usize = 16;

/// The bytes `barrierd` as a little-endian number.
pub const MAGIC_VALUE: u64 = u64::from_le_bytes(*b"barrierd");
/// The version of this layout.
pub const VERSION_VALUE: u64 = 1;
/// [`FLAGS`]: the daemon has stopped in good order and nothing here will change until another starts.
pub const FLAG_STOPPED: u64 = 1 << 0;
/// [`FLAGS`]: the per-CPU entries are each CPU's own times, not copies of the global minimum.
pub const FLAG_PER_CPU_EXACT: u64 = 1 << 1;
/// [`FLAGS`]: the daemon has seen nobody wait of late, so barriers are rare. It notices a sleeper on a
/// futex word at its next publication, and an [`announcement`] at once.
pub const FLAG_EASY: u64 = 1 << 2;

/// Longest time between two beats of a running daemon, in nanoseconds.
pub const HEARTBEAT_PERIOD_NS: u64 = 100_000_000;
/// An evidence time is the clock minus this, in nanoseconds, and minus the time that the reading took, since the
/// counters of two CPUs may differ by a little. `CLOCK_MONOTONIC` steps back by far more while it is slewed and time
/// is stolen from vCPUs. The daemon alone sees to it that evidence holds then, too (docs/proofs/daemon.md, "The
/// clock").
pub const CLOCK_MARGIN_NS: u64 = 10_000;
/// The largest number of CPUs that a file may name; a larger one is damage.
pub const MAX_CPUS: u64 = 1 << 16;
/// The suffix that makes the path of the datagram socket from that of the public file. The socket takes requests
/// for expedited barriers, and announcements.
pub const SOCKET_SUFFIX: &str = ".sock";
/// Size of a request in bytes: [`REQUEST_MAGIC`], then the time that must pass, both little-endian.
pub const REQUEST_BYTES: usize = 16;
/// The first word of a request; its last byte is the version of this layout.
pub const REQUEST_MAGIC: u64 = u64::from_le_bytes(*b"expedit\x01");
/// The first word of an [`announcement`]; its last byte is the version of this layout.
pub const ANNOUNCEMENT_MAGIC: u64 = u64::from_le_bytes(*b"waiting\x01");
/// The path of the daemon's file if none is given.
pub const DEFAULT_PATH: &str = "/run/barrierd/barrier";

/// Returns the offset of CPU `cpu`'s watermark in nanoseconds.
#[must_use]
pub const fn per_cpu_ns(cpu: usize) -> usize {
    PER_CPU + cpu * PER_CPU_STRIDE
}

/// Returns the offset of CPU `cpu`'s watermark in virtual time.
#[must_use]
pub const fn per_cpu_vtime(cpu: usize) -> usize {
    per_cpu_ns(cpu) + 8
}

/// Returns the least size in bytes of a file for `ncpu` CPUs, before rounding up to whole pages.
#[must_use]
pub const fn size_for(ncpu: usize) -> usize {
    PER_CPU + ncpu * PER_CPU_STRIDE
}

/// Returns the offset of the 32-bit futex word inside the `u64` at `offset`: of its low half, which on a
/// little-endian machine stands first.
#[must_use]
pub const fn futex_word(offset: usize) -> usize {
    offset
}

/// Returns the request for a barrier for the time `ns`, in nanoseconds of `CLOCK_MONOTONIC`.
#[must_use]
pub fn request(ns: u64) -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..8].copy_from_slice(&REQUEST_MAGIC.to_le_bytes());
    bytes[8..].copy_from_slice(&ns.to_le_bytes());
    bytes
}

/// Returns the message that a process waits, and needs no more than barriers at the usual pace:
/// [`ANNOUNCEMENT_MAGIC`], then zero. It is as long as a request, and is sent to the same socket.
#[must_use]
pub fn announcement() -> [u8; REQUEST_BYTES] {
    let mut bytes = [0; REQUEST_BYTES];
    bytes[..8].copy_from_slice(&ANNOUNCEMENT_MAGIC.to_le_bytes());
    bytes
}

/// Returns the path of the socket of the public file `public`.
#[must_use]
pub fn socket_path(public: &Path) -> PathBuf {
    let mut path = public.as_os_str().to_owned();
    path.push(SOCKET_SUFFIX);
    path.into()
}

// The C daemon's header, word for word: these can't move.
const _: () = {
    assert!(NCPU == 0 && VTIME == 8 && LAST_INTERRUPT_NS == 16 && LAST_INTERRUPT_VTIME == 24);
    assert!(PER_CPU == 8 * (4 + 12) && PER_CPU_STRIDE == 16);
    assert!(per_cpu_ns(3) == 176 && per_cpu_vtime(3) == 184);
    assert!(TRUSTED_LAST_VTIME + 8 <= PER_CPU);
    assert!(cfg!(target_endian = "little"), "the file is little-endian");
};
