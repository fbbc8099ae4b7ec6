//! Memory reclamation between processes.
//!
//! This file owns the crate's front page and its list of public names; it holds no logic.
#![doc = concat!("\n", include_str!("../README.md"))]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", target_endian = "little")))]
compile_error!("barrierd-shared needs 64-bit little-endian Linux, as barrierd-client does");

#[doc(hidden)]
pub mod any;
mod blocks;
mod cell;
mod change;
mod error;
mod files;
#[cfg_attr(barrierd_loom, allow(dead_code, reason = "a model's locks are no system calls"))]
mod fork;
mod fresh;
mod hand;
mod hash;
mod hashmap;
mod join;
mod journal;
mod layout;
mod link;
#[cfg_attr(barrierd_loom, path = "models/lock.rs")]
mod lock;
mod map;
#[cfg(barrierd_loom)]
mod models;
#[doc(hidden)]
pub mod raw;
mod reader;
mod reclaim;
mod region;
mod share;
mod slots;
mod source;
mod stats;
mod steps;
mod sweep;
mod sync;
mod table;
mod turn;
mod writer;

pub use blocks::{Census, Corrupt};
pub use cell::SharedCell;
pub use change::Turn;
pub use error::{Held, JoinError, RegionError, WriteError};
pub use fresh::Fresh;
pub use hashmap::{Iter, SharedMap};
pub use layout::{MAX_READERS, MAX_WRITERS, ROOTS};
pub use link::{Link, SharedAtomic, SharedRef, View};
pub use reader::{Reader, SharedGuard};
pub use region::{Options, Region};
#[doc(hidden)]
pub use share::checks;
pub use share::{Field, Plain, Shareable};
pub use source::Source;
pub use stats::{MapStats, ReaderStats, Stats, WriterStats};
pub use writer::{Writer, WriterOptions};

/// How tests kill and break. No part of the interface.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing {
    pub use crate::steps::Mutant;
    pub use crate::steps::testing::{at_pause, at_step, kill_at, leave_out, never_came};
}
