//! The meaning of a file's words, and which of them are refused: pure rules.
//!
//! This module owns the header's checks. It is handed a way to load words, the clock and this
//! boot's id, so that tests need no file; it knows nothing of mappings, owners or paths (`path`
//! only names the file in a refusal).
//!
//! Whatever the words are, it never panics and never reads one outside the file.

use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use crate::abi;
use crate::boot::BootId;
use crate::counters;
use crate::error::OpenError;
use crate::trust::FUTURE_SLACK_NS;

/// The facts about an accepted file that never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Entries in the per-CPU table, all of them inside the file.
    pub ncpu: usize,
    /// Whether the C daemon wrote it. Then only its `last_interrupt_ns` is usable: its virtual time is
    /// unsound, and it has no boot id, generation or heartbeat.
    pub legacy: bool,
    /// The watermark when the file was opened, in nanoseconds of `CLOCK_MONOTONIC`. In a legacy file it proves
    /// nothing until it moves: it may be left over from an earlier boot whose clock this boot's has overtaken.
    pub last_interrupt_ns: u64,
}

/// Returns the number of bytes to map of a file that is `file_len` bytes long: as many as a file can mean, no more.
///
/// # Errors
///
/// Returns [`OpenError::TooShort`] if not even one CPU fits.
pub fn len_to_map(path: &Path, file_len: u64) -> Result<usize, OpenError> {
    const LEAST: usize = abi::size_for(1);
    #[expect(clippy::cast_possible_truncation, reason = "a constant of 65536")]
    const MOST: usize = counters::file_size_for(abi::MAX_CPUS as usize);
    let len = usize::try_from(file_len).unwrap_or(usize::MAX).min(MOST);
    if len < LEAST { Err(too_short(path, file_len, LEAST)) } else { Ok(len) }
}

/// Reads and judges a file's words.
///
/// `load` is called with multiples of 8 at least 8 below [`len_to_map`]'s answer for `file_len`,
/// and may be Relaxed: the fences are here. `now` is called once, after the last word was read.
///
/// ```
/// use barrierd_client::{OpenError, abi, boot::BootId, decode::decode};
///
/// let boot = BootId([7; 16]);
/// let load = |offset| match offset {
///     abi::NCPU => 2,
///     abi::MAGIC => abi::MAGIC_VALUE,
///     abi::VERSION => abi::VERSION_VALUE,
///     abi::BOOT_ID => boot.words()[0],
///     offset if offset == abi::BOOT_ID + 8 => boot.words()[1],
///     abi::GENERATION => 1,
///     abi::LAST_INTERRUPT_NS => 1_000,
///     _ => 0,
/// };
/// let header = decode("demo".as_ref(), 4096, boot, load, || 2_000)?;
/// assert_eq!((header.ncpu, header.legacy), (2, false));
///
/// let refused = decode("demo".as_ref(), 4096, BootId([8; 16]), load, || 2_000);
/// assert!(matches!(refused, Err(OpenError::ForeignBoot { .. })));
/// # Ok::<(), OpenError>(())
/// ```
///
/// # Errors
///
/// Returns an [`OpenError`]: `TooShort`, `NotReady`, `BadMagic`, `UnknownVersion`, `BadNcpu`, `ForeignBoot`,
/// `FutureTime` and `Damaged`, in this order where several fit.
pub fn decode(
    path: &Path,
    file_len: u64,
    own_boot: BootId,
    load: impl Fn(usize) -> u64,
    now: impl FnOnce() -> u64,
) -> Result<Header, OpenError> {
    len_to_map(path, file_len)?;
    let legacy = is_legacy(path, &load)?;
    if !legacy {
        let found = load(abi::VERSION);
        if found != abi::VERSION_VALUE {
            return Err(OpenError::UnknownVersion { path: path.into(), found });
        }
    }
    let ncpu = ncpu(path, file_len, load(abi::NCPU))?;
    if !legacy {
        let found = BootId::from_words([load(abi::BOOT_ID), load(abi::BOOT_ID + 8)]);
        if found != own_boot {
            return Err(OpenError::ForeignBoot { path: path.into(), found, own: own_boot });
        }
    }
    let last_interrupt_ns = no_future_time(path, ncpu, legacy, &load, now)?;
    if !legacy {
        no_damage(path, &load)?;
    }
    Ok(Header { ncpu, legacy, last_interrupt_ns })
}

/// Tells the C daemon's files from ours, by the magic number.
fn is_legacy(path: &Path, load: impl Fn(usize) -> u64) -> Result<bool, OpenError> {
    let magic = load(abi::MAGIC);
    // Partner: the daemon's Release store of the magic number, which comes after all the rest.
    fence(Ordering::Acquire);
    match magic {
        abi::MAGIC_VALUE => Ok(false),
        // The C daemon leaves the reserved words zero; without ncpu its file is still being made.
        // Ours adopts it by filling them, magic number last: what lies between is nobody's file.
        0 => {
            let mut reserved = (abi::MAGIC + 8..abi::PER_CPU).step_by(8);
            if load(abi::NCPU) == 0 || reserved.any(|offset| load(offset) != 0) {
                return Err(OpenError::NotReady { path: path.into() });
            }
            Ok(true)
        }
        found => Err(OpenError::BadMagic { path: path.into(), found }),
    }
}

/// The number of CPUs, if the whole table lies inside the file.
fn ncpu(path: &Path, file_len: u64, ncpu: u64) -> Result<usize, OpenError> {
    let bad = || OpenError::BadNcpu { path: path.into(), ncpu };
    if ncpu == 0 || ncpu > abi::MAX_CPUS {
        return Err(bad());
    }
    let cpus = usize::try_from(ncpu).map_err(|_| bad())?;
    let need = abi::size_for(cpus);
    if usize::try_from(file_len).is_ok_and(|len| len < need) {
        return Err(too_short(path, file_len, need));
    }
    Ok(cpus)
}

/// Refuses a file where a time lies after now, and returns the watermark.
fn no_future_time(
    path: &Path,
    ncpu: usize,
    legacy: bool,
    load: impl Fn(usize) -> u64,
    now: impl FnOnce() -> u64,
) -> Result<u64, OpenError> {
    let last_interrupt_ns = load(abi::LAST_INTERRUPT_NS);
    let heartbeat = if legacy { 0 } else { load(abi::HEARTBEAT_NS) };
    let per_cpu = (0..ncpu).map(|cpu| (load(abi::per_cpu_ns(cpu)), Field::PerCpu(cpu)));
    let header = [(last_interrupt_ns, Field::Watermark), (heartbeat, Field::Heartbeat)];
    let latest = header.into_iter().chain(per_cpu).max_by_key(|&(ns, _)| ns);
    // The clock must be read after the words, or a running daemon's look like the future. Partner:
    // the daemon's Release stores of them.
    fence(Ordering::Acquire);
    let now = now();
    match latest {
        Some((ns, field)) if ns.saturating_sub(now) >= FUTURE_SLACK_NS => {
            let ahead_ns = ns - now;
            Err(OpenError::FutureTime { path: path.into(), field: field.name(), ahead_ns })
        }
        _ => Ok(last_interrupt_ns),
    }
}

/// Which time was the latest.
enum Field {
    Watermark,
    Heartbeat,
    PerCpu(usize),
}

impl Field {
    fn name(&self) -> String {
        match self {
            Self::Watermark => "last_interrupt_ns".into(),
            Self::Heartbeat => "heartbeat_ns".into(),
            Self::PerCpu(cpu) => format!("per_cpu[{cpu}].last_interrupt_ns"),
        }
    }
}

/// Refuses what only damage explains.
fn no_damage(path: &Path, load: impl Fn(usize) -> u64) -> Result<(), OpenError> {
    let damaged = |field, value| Err(OpenError::Damaged { path: path.into(), field, value });
    if load(abi::GENERATION) == 0 {
        return damaged("the generation", 0);
    }
    let last = load(abi::TRUSTED_LAST_VTIME);
    // Partner: the daemon's Release store of the last complete vtime, made long after that of the
    // current one.
    fence(Ordering::Acquire);
    if last != 0 && last >= load(abi::TRUSTED_VTIME) {
        return damaged("the last complete virtual time, not below the current one,", last);
    }
    Ok(())
}

fn too_short(path: &Path, len: u64, need: usize) -> OpenError {
    let need = u64::try_from(need).unwrap_or(u64::MAX);
    OpenError::TooShort { path: path.into(), len, need }
}
