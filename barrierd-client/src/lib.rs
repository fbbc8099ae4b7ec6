//! Client of `barrierd`: learn, by plain loads from a mapped file, that every CPU has passed a full
//! memory barrier since a given moment.
//!
//! This file owns the crate's front page and its list of public names; it holds no logic.
//!
//! A daemon watches every CPU take interrupts and publishes a *watermark*: "the barrier has passed
//! for every time before this". A program makes a change visible and takes a [`Stamp`]. Once the
//! watermark is greater than the stamp, every CPU has been at a full barrier since. The stores of
//! code that ran on a CPU before its barrier are visible here, and code that runs there after it
//! sees the change. Fast paths need no fence, no system call and no signal.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use barrierd_client::{Barrier, Stamp};
//!
//! let barrier = Barrier::open_default()?; // needs a running daemon
//! // ... unlink something from a shared structure ...
//! let unlinked = Stamp::now();
//! barrier.wait(unlinked, Instant::now() + Duration::from_secs(1))?;
//! // A thread that still holds it got it before `unlinked`, and what it stored is visible here.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A forged or foreign file would let memory be freed too early. So [`Barrier::open`] checks the
//! directories on the way, the file and its contents, and [`OpenError`] names what it refused. A
//! source that is caught lying later is given up for good: [`Distrust`].
//!
//! # Costs
//!
//! | call | cost |
//! |---|---|
//! | [`Stamp::now`] | one full fence and one vDSO clock read, tens of nanoseconds |
//! | [`Barrier::passed`], [`Barrier::watermark`] | a few loads and one vDSO clock read |
//! | [`Barrier::liveness`] | the same |
//! | [`Barrier::counters`] | some thirty loads |
//! | [`Barrier::cpus`] | two loads for each CPU |
//! | a load through [`Barrier::vtime_word`] | one load |
//! | [`Barrier::wait`] | one datagram, then sleeps on a futex, at most 20 ms at a time; interrupts busy CPUs |
//! | [`Barrier::wait_any`] | the same, and a comparison for each moment |
//! | [`Barrier::virtual_stamp`] | two loads |
//! | [`Barrier::wait_passive`] | sleeps on a futex, at most 20 ms at a time |
//! | [`Barrier::expedite`] | one datagram; interrupts busy CPUs |
//! | [`Barrier::open`] | some thirty system calls, two mappings, a few allocations |
//! | [`Barrier::reopen`] | one system call where nothing has changed, else the same as `open` |
//!
//! None of them locks or starts a thread, and only `open` and `reopen` allocate. [`Barrier`] is
//! `Send` and `Sync`.
//!
//! # Limits
//!
//! - It needs Linux 4.14 or later (`MADV_WIPEONFORK`), 64-bit and little-endian.
//! - A daemon never shrinks its file. If root or the file's owner does so under a mapping, a load
//!   raises `SIGBUS`.
//! - If a process moves itself into another time namespace by `setns` after opening, that isn't
//!   noticed until its clock is a millisecond behind the watermark. In a child born by `fork` it is
//!   noticed at the first call.
//! - The child of a fork may use the `Barrier` that it inherits; nothing needs to be opened again.
//!   A process restored from a checkpoint must open it again: the file may be another boot's by then.

#![cfg_attr(docsrs, feature(doc_cfg))]

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
