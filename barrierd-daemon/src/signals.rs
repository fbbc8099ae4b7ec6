//! SIGTERM and SIGINT as something to poll for.
//!
//! Owns the handlers and their pipe. Knows nothing of what stopping means.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result};
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

/// Readable once a signal to stop has come.
#[derive(Debug)]
pub struct Signals {
    readable: UnixStream,
    handlers: Vec<SigId>,
    /// What the handlers write to; they own it.
    written: Vec<RawFd>,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT until dropped.
    ///
    /// # Errors
    ///
    /// The kernel has no more descriptors to give.
    pub fn take() -> Result<Self> {
        let register = || -> io::Result<Self> {
            let (readable, written) = UnixStream::pair()?;
            let mut signals = Self { readable, handlers: Vec::new(), written: Vec::new() };
            for signal in [SIGTERM, SIGINT] {
                let written = written.try_clone()?;
                signals.written.push(written.as_raw_fd());
                signals.handlers.push(pipe::register(signal, written)?);
            }
            Ok(signals)
        };
        register().context("setting up the handlers of SIGTERM and SIGINT")
    }

    /// The handlers' ends of the pipe, for the sandbox.
    #[must_use]
    pub fn written(&self) -> &[RawFd] {
        &self.written
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for handler in self.handlers.drain(..) {
            unregister(handler);
        }
    }
}
