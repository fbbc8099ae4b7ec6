//! Asking the daemon to make a barrier pass now, not at the CPUs' next tick; telling it that somebody
//! waits.
//!
//! This module owns what is asked for, and when. It knows nothing of what comes of it: a request is a nudge, and only the
//! watermark tells whether the barrier has passed.

use crate::abi;
use crate::barrier::Barrier;
use crate::requests::ExpediteError;
use crate::stamp::Stamp;

impl Barrier {
    /// Asks the daemon to make the barrier for `stamp` pass now, by interrupting the CPUs that have
    /// not been in the kernel since. [`wait`](Self::wait) does this by itself.
    ///
    /// A hint that may be lost: the daemon limits how often it does this for all its clients
    /// together, and serves those who ask at the same time together. A stamp from the future
    /// counts for the present.
    ///
    /// Never blocks. Cost: one system call here, and where the daemon serves it some microseconds
    /// on every busy CPU of the machine.
    ///
    /// # Errors
    ///
    /// [`ExpediteError`]: it was not sent. The barrier passes all the same, some milliseconds later.
    pub fn expedite(&self, stamp: Stamp) -> Result<(), ExpediteError> {
        self.requests().send(&abi::request(stamp.ns()))
    }

    /// Before a sleep: tells a daemon that has seen nobody wait of late that somebody does. It finds that
    /// out by itself at its next publication, some tens of milliseconds later.
    ///
    /// Never blocks. Cost: a load; a system call while the daemon is easy.
    pub(crate) fn announce(&self) {
        if self.is_easy() {
            // Not sent: see above.
            let _ = self.requests().send(&abi::announcement());
        }
    }
}
