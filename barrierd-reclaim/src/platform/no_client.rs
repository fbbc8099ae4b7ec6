//! The names of the daemon's client where it does not run: of the types of which there is no value, so that the code
//! that uses them is the same everywhere, and nothing of it is left.

#![allow(dead_code, reason = "nobody has one")]

use core::fmt;
use core::ptr::NonNull;
use std::io;
use std::path::Path;
use std::time::Instant;

/// See `barrierd_client::FUTURE_SLACK_NS`.
pub(crate) const FUTURE_SLACK_NS: u64 = 1_000_000;

pub(crate) mod abi {
    /// See `barrierd_client::abi`. Here it is the least wait that is worth a sleep.
    pub(crate) const CLOCK_MARGIN_NS: u64 = 10_000;
    pub(crate) const HEARTBEAT_PERIOD_NS: u64 = 100_000_000;
    pub(crate) const DEFAULT_PATH: &str = "/run/barrierd/barrier";
}

pub(crate) mod time_ns {
    /// No clock is compared with a daemon's.
    #[expect(clippy::unnecessary_wraps, reason = "as in the client")]
    pub(crate) fn is_initial() -> std::io::Result<bool> {
        Ok(true)
    }
}

/// A daemon's file can't be opened on this target.
#[derive(Debug)]
pub struct OpenError(());

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is for 64-bit little-endian Linux")
    }
}

impl core::error::Error for OpenError {}

#[derive(Debug)]
pub(crate) enum Barrier {}

#[derive(Debug)]
pub(crate) enum Distrust {}

impl fmt::Display for Distrust {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum WaitError {
    Distrust(Distrust),
}

impl fmt::Display for WaitError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            WaitError::Distrust(ref never) => match *never {},
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    Suspect,
    Stopped,
    Stale,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Watermark {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp(());

impl Stamp {
    pub(crate) fn from_ns(_: u64) -> Stamp {
        Stamp(())
    }
}

impl Barrier {
    pub(crate) fn open(_: &Path) -> Result<Barrier, OpenError> {
        Err(OpenError(()))
    }

    pub(crate) fn watermark(&self) -> Result<Watermark, Distrust> {
        match *self {}
    }

    pub(crate) fn liveness(&self) -> Liveness {
        match *self {}
    }

    pub(crate) fn is_easy(&self) -> bool {
        match *self {}
    }

    pub(crate) fn vtime_word<W>(&self) -> Option<NonNull<W>> {
        match *self {}
    }

    pub(crate) fn heartbeat_ns(&self) -> Option<u64> {
        match *self {}
    }

    pub(crate) fn path(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn same_file(&self) -> io::Result<bool> {
        match *self {}
    }

    pub(crate) fn reopen(&self) -> Result<Option<Barrier>, OpenError> {
        match *self {}
    }

    pub(crate) fn expedite(&self, _: Stamp) -> Result<(), OpenError> {
        match *self {}
    }

    pub(crate) fn wait(&self, _: Stamp, _: Instant) -> Result<(), WaitError> {
        match *self {}
    }

    pub(crate) fn wait_passive(&self, _: Stamp, _: Instant) -> Result<(), WaitError> {
        match *self {}
    }
}
