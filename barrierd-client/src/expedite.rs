//! Asking the daemon to make a barrier pass now, not at the CPUs' next tick; telling it that a process
//! waits.
//!
//! This module owns what is asked for, and when. It does not know what follows: a request is a nudge, and only the
//! watermark tells whether the barrier has passed.

use crate::abi;
use crate::barrier::Barrier;
use crate::requests::ExpediteError;
use crate::stamp::Stamp;

impl Barrier {
    /// Asks the daemon to make the barrier for `stamp` pass now, by interrupting the CPUs that have
    /// not been in the kernel since. [`wait`](Self::wait) does this by itself.
    ///
    /// It is a hint that may be lost. The daemon limits how often it does this for all its clients
    /// together, and serves requests that come at the same time together. A stamp from the future
    /// counts as one from the present.
    ///
    /// It never blocks. It costs one system call here and, if the daemon serves it, some microseconds
    /// on every busy CPU of the machine.
    ///
    /// # Errors
    ///
    /// Returns an [`ExpediteError`] if the request was not sent. The barrier passes all the same, some milliseconds
    /// later.
    pub fn expedite(&self, stamp: Stamp) -> Result<(), ExpediteError> {
        self.requests().send(&abi::request(stamp.ns()))
    }

    /// Called before a sleep: tells a daemon that has seen nobody wait of late that this process does. Otherwise the
    /// daemon finds that out at its next publication, some tens of milliseconds later.
    ///
    /// It never blocks. It costs a load, and a system call while the daemon is easy.
    pub(crate) fn announce(&self) {
        if self.is_easy() {
            // Not sent: see above.
            let _ = self.requests().send(&abi::announcement());
        }
    }
}
