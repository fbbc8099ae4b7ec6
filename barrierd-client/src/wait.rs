//! Sleeping until the barrier for a stamp has passed.
//!
//! This module owns the futex and the rule that a futex is a hint. It knows nothing of how a
//! watermark is judged.

use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::futex;

use crate::abi;
use crate::barrier::{Barrier, Watermark};
use crate::liveness::Liveness;
use crate::stamp::Stamp;
use crate::trust::Distrust;

/// Longest sleep between two readings of the watermark.
///
/// A process that can read the file can requeue its futex waiters to where nobody wakes them, or sleep there
/// in such numbers that the daemon has no time to wake all; and the 32-bit word that is compared wraps in
/// 4.3 s. So no wake-up is relied on: a barrier that has passed is seen this much later at most.
pub const MAX_SLEEP: Duration = Duration::from_millis(20);

/// Sleep where the futex can't serve: the clock lags the watermark, or the system refuses.
pub(crate) const SHORT_SLEEP: Duration = Duration::from_millis(1);

/// The reason why a wait ended without the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The deadline came first. Don't free what waits for the barrier; `liveness` tells whether to wait again.
    #[error(
        "the barrier for {stamp_ns} ns had not passed by the deadline; the watermark is at {watermark_ns} ns and the daemon is {liveness}: {}", advice(*liveness)
    )]
    TimedOut {
        /// The stamp, in nanoseconds of `CLOCK_MONOTONIC`.
        stamp_ns: u64,
        /// The usable watermark at the end, in nanoseconds of `CLOCK_MONOTONIC`; 0 for none.
        watermark_ns: u64,
        /// The daemon at the end.
        liveness: Liveness,
    },
    /// None of several moments had passed by the deadline.
    #[error(
        "none of {moments} moments had passed by the deadline; the watermark is at {} ns, vtime {}, and the daemon is {liveness}: {}", watermark.ns, watermark.vtime, advice(*liveness)
    )]
    NonePassed {
        /// The number of moments that were waited for.
        moments: usize,
        /// The watermark at the end.
        watermark: Watermark,
        /// The daemon at the end.
        liveness: Liveness,
    },
    /// Nothing is left to wait for but virtual stamps of a daemon that has gone, which never pass.
    #[error(
        "a virtual stamp of generation {stamped}, and the file is at generation {now} since the daemon was started again: take a Stamp::now() and wait for that"
    )]
    OtherGeneration {
        /// The stamp's generation.
        stamped: u64,
        /// The file's; 0 for a legacy one, which has no virtual time.
        now: u64,
    },
    /// The source was caught lying: waiting longer won't help.
    #[error(transparent)]
    Distrust(#[from] Distrust),
}

fn advice(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Alive => "wait longer; if that never helps, a CPU runs without interrupts",
        Liveness::Suspect => "look again in 50 ms",
        Liveness::Stopped => "start barrierd again, on this file",
        Liveness::Stale => "restart barrierd, and open the file again if the path names another",
    }
}

impl Barrier {
    /// Sleeps until the barrier for `stamp` has passed. Visibility is as for
    /// [`passed`](Barrier::passed).
    ///
    /// A daemon that has stopped or died does not end the wait: one that is started again before
    /// the deadline, on the same file, lets it succeed. A program that would rather do something else
    /// then waits in slices and calls [`liveness`](Barrier::liveness) between them. The deadline always
    /// ends the wait, late by no more than the scheduler is.
    ///
    /// It asks the daemon to [`expedite`](Self::expedite) the barrier, which interrupts the CPUs that
    /// lag. The barrier then takes tens of microseconds instead of milliseconds, if this user may ask and
    /// the daemon's limits allow it. [`wait_passive`](Self::wait_passive) interrupts nobody.
    ///
    /// It costs one futex call, one reading and one request for each publication, or for each [`MAX_SLEEP`].
    ///
    /// ```no_run
    /// use std::time::{Duration, Instant};
    /// use barrierd_client::{Barrier, Stamp};
    ///
    /// let barrier = Barrier::open_default()?; // needs a running daemon
    /// barrier.wait(Stamp::now(), Instant::now() + Duration::from_millis(100))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`WaitError::TimedOut`] once `deadline` has come and a last reading didn't help, and
    /// [`WaitError::Distrust`] as soon as the source isn't believed any more.
    pub fn wait(&self, stamp: Stamp, deadline: Instant) -> Result<(), WaitError> {
        self.wait_until(stamp, deadline, || {
            // Not sent: then it passes in its own time. Sent again after each publication that did
            // not do, since requests may be lost: a full queue, a daemon that was just started.
            let _ = self.expedite(stamp);
        })
    }

    /// Does what [`wait`](Self::wait) does, but lets the CPUs come to their barriers in their own time, some
    /// milliseconds. It is for programs that are in no hurry.
    ///
    /// A daemon that has seen nobody wait for a second makes barriers rarely. If this user may send requests, this
    /// call tells it; else it notices the sleep at its next publication, up to 90 ms later.
    ///
    /// It costs one futex call and one reading for each publication, or for each [`MAX_SLEEP`], and one datagram more
    /// while the daemon is [easy](Self::is_easy).
    ///
    /// # Errors
    ///
    /// As for [`wait`](Self::wait).
    pub fn wait_passive(&self, stamp: Stamp, deadline: Instant) -> Result<(), WaitError> {
        self.wait_until(stamp, deadline, || self.announce())
    }

    fn wait_until(&self, stamp: Stamp, deadline: Instant, ask: impl Fn()) -> Result<(), WaitError> {
        loop {
            // The deadline is checked before the watermark, so that the last reading is after it.
            let left = deadline.saturating_duration_since(Instant::now());
            let reading = self.read_watermark()?;
            if reading.ns > stamp.ns() {
                return Ok(());
            }
            // Every round, so that a dead daemon is known for stale by the time of the deadline.
            let liveness = self.liveness();
            if left.is_zero() {
                let (stamp_ns, watermark_ns) = (stamp.ns(), reading.ns);
                return Err(WaitError::TimedOut { stamp_ns, watermark_ns, liveness });
            }
            // Above the stamp and yet unusable: most likely the clock lags, and no store will wake us.
            ask();
            let longest = if reading.word > stamp.ns() { SHORT_SLEEP } else { MAX_SLEEP };
            self.sleep(reading.word, left.min(longest));
        }
    }

    /// Sleeps until the watermark in time isn't `word` any more, someone wakes us, or `limit` has passed.
    pub(crate) fn sleep(&self, word: u64, limit: Duration) {
        #[expect(clippy::cast_possible_truncation, reason = "the futex word is the low half")]
        let low = word as u32;
        let timeout = futex::Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
        // Not PRIVATE: the waker is another process. A change between the reading and this call makes
        // the kernel return at once (EAGAIN), so no publication is slept through.
        let at = self.words().futex(abi::LAST_INTERRUPT_NS);
        match futex::wait(at, futex::Flags::empty(), low, Some(&timeout)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
            // No futex here (a seccomp filter, say): poll, but don't spin.
            Err(_) => thread::sleep(limit.min(SHORT_SLEEP)),
        }
    }
}
