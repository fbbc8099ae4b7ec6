//! Client of `barrierd`: learn, by plain loads from a mapped file, that every CPU has passed a full
//! memory barrier since a given moment.
//!
//! This file owns the crate's front page and its list of public names; it holds no logic.
//!
//! A daemon watches every CPU take interrupts and publishes a *watermark*: "the barrier has passed
//! for every time before this". A program makes a change visible, takes a [`Stamp`], and once the
//! watermark is greater than the stamp it knows: code on any CPU that ran before its CPU's barrier
//! has its stores visible here, and code that runs after it sees the change. No fence in anybody's
//! fast path, no system call, no signal.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use barrierd_client::{Barrier, Stamp};
//!
//! let barrier = Barrier::open_default()?; // needs a running daemon
//! // ... unlink something from a shared structure ...
//! let unlinked = Stamp::now();
//! barrier.wait(unlinked, Instant::now() + Duration::from_secs(1))?;
//! // Whoever could still hold it got it before `unlinked`, and what they stored is visible here.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A forged or foreign file would let memory be freed too early, so [`Barrier::open`] checks the
//! road to the file, the file and its contents, and [`OpenError`] names what it refused. While it
//! runs, a source caught lying is given up for good: [`Distrust`].
//!
//! # Costs
//!
//! | call | cost |
//! |---|---|
//! | [`Stamp::now`] | one full fence and one vDSO clock read, tens of nanoseconds |
//! | [`Barrier::passed`], [`Barrier::watermark`] | a few loads and one vDSO clock read |
//! | [`Barrier::liveness`] | the same |
//! | [`Barrier::counters`] | some thirty loads |
//! | [`Barrier::cpus`] | two loads a CPU |
//! | a load through [`Barrier::vtime_word`] | one load |
//! | [`Barrier::wait`] | one datagram, then sleeps on a futex, at most 20 ms at a time; interrupts busy CPUs |
//! | [`Barrier::wait_any`] | the same, and a comparison per moment |
//! | [`Barrier::virtual_stamp`] | two loads |
//! | [`Barrier::wait_passive`] | sleeps on a futex, at most 20 ms at a time |
//! | [`Barrier::expedite`] | one datagram; interrupts busy CPUs |
//! | [`Barrier::reopen`] | one system call where nothing has changed |
//!
//! None of them allocates, locks or starts a thread, except that [`Barrier::open`], and
//! [`Barrier::reopen`] where it opens, allocate. [`Barrier`] is `Send` and `Sync`.
//!
//! # Limits
//!
//! - Linux only, 64-bit little-endian. Kernel 4.14 or later (`MADV_WIPEONFORK`).
//! - A daemon never shrinks its file. Should someone else do so under a mapping, a load raises
//!   `SIGBUS`; only root and the file's owner can.
//! - A process that moves itself into another time namespace with `setns` after opening isn't
//!   noticed until its clock falls a millisecond behind the watermark; a child born by `fork` is
//!   noticed at its first call.
//! - The child of a fork may use the `Barrier` that it inherits; nothing needs to be opened again.
//!   A process restored from a checkpoint must open it again: the file may be another boot's by then.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!(
    "barrierd-client needs 64-bit little-endian Linux: the public file is little-endian, and read by \
     64-bit loads from a read-only mapping, which Rust promises only there; barrierd-reclaim does \
     without it on other targets"
);

pub mod abi;
pub mod boot;
pub mod clock;
pub mod counters;
pub mod decode;
pub mod time_ns;
pub mod tracepoints;

mod barrier;
mod cpus;
mod error;
mod expedite;
mod fork;
mod liveness;
mod path_check;
mod requests;
mod stamp;
mod trust;
mod user_ns;
mod wait;
mod wait_any;
mod words;

pub use barrier::{Barrier, Watermark};
pub use cpus::PerCpu;
pub use error::OpenError;
pub use liveness::Liveness;
pub use requests::ExpediteError;
pub use stamp::{Moment, Stamp, VirtualStamp};
pub use trust::{Distrust, FUTURE_SLACK_NS};
pub use wait::{MAX_SLEEP, WaitError};

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
