//! Sleeping until the first of several moments has passed.
//!
//! This module owns the choice among moments, in time and in virtual time, of one file. It knows
//! nothing of futexes, which are next door.
//!
//! One futex word serves for all: a daemon stores the watermark in time right after the one in
//! virtual time, in the same publication, so a thread that sleeps on the first misses no change of the
//! second. Hence no `futex_waitv`, which Linux has from 5.16 on. For several files there is no call:
//! a host has one daemon, and where its file is replaced, [`Barrier::reopen`] is what helps.

use std::time::Instant;

use crate::barrier::{Barrier, Watermark};
use crate::stamp::{Moment, Stamp};
use crate::wait::{MAX_SLEEP, SHORT_SLEEP, WaitError};

/// How a moment stands.
enum Standing {
    Passed,
    /// Not yet. The stamp in nanoseconds, or `u64::MAX` for one in virtual time.
    Waits(u64),
    /// Never: its daemon, of this generation, has gone.
    Lost(u64),
}

fn standing(moment: Moment, mark: Watermark) -> Standing {
    match moment {
        Moment::Time(stamp) if mark.ns > stamp.ns() => Standing::Passed,
        Moment::Time(stamp) => Standing::Waits(stamp.ns()),
        Moment::Virtual(stamp) if stamp.generation != mark.generation => {
            Standing::Lost(stamp.generation)
        }
        Moment::Virtual(stamp) if mark.vtime > stamp.vtime => Standing::Passed,
        Moment::Virtual(_) => Standing::Waits(u64::MAX),
    }
}

impl Barrier {
    /// Sleeps until the barrier for one of `moments` has passed, and returns its index: the lowest
    /// of those that have. Visibility is as for [`passed`](Self::passed).
    ///
    /// It is for programs that have work of several ages and go on with the oldest that is ready. It asks the daemon
    /// to expedite, and outlives the daemon's death, as [`wait`](Self::wait) does.
    ///
    /// It costs one futex call, one reading and one request for each publication, or for each [`MAX_SLEEP`], and a
    /// comparison for each moment and reading. It allocates nothing.
    ///
    /// ```no_run
    /// use std::time::{Duration, Instant};
    /// use barrierd_client::{Barrier, Moment, Stamp};
    ///
    /// let barrier = Barrier::open_default()?; // needs a running daemon
    /// let old: Moment = Stamp::now().into();
    /// let young: Moment = barrier.virtual_stamp().map_or(old, Moment::from);
    /// let ready = barrier.wait_any(&[old, young], Instant::now() + Duration::from_secs(1))?;
    /// # assert!(ready < 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`WaitError::NonePassed`] once `deadline` has come and a last reading didn't help; at once if
    /// `moments` is empty. [`WaitError::OtherGeneration`] if nothing is left but virtual stamps of
    /// a daemon that has gone. [`WaitError::Distrust`] as soon as the source isn't believed any more.
    pub fn wait_any(&self, moments: &[Moment], deadline: Instant) -> Result<usize, WaitError> {
        loop {
            // The deadline is checked before the watermark, so that the last reading is after it.
            let left = deadline.saturating_duration_since(Instant::now());
            let (word, watermark) = self.look_at_both()?;
            let mut lost = None;
            let mut least = None;
            for (index, &moment) in moments.iter().enumerate() {
                match standing(moment, watermark) {
                    Standing::Passed => return Ok(index),
                    Standing::Waits(ns) => {
                        least = Some(least.map_or(ns, |least: u64| least.min(ns)))
                    }
                    Standing::Lost(generation) => lost = Some(generation),
                }
            }
            let liveness = self.liveness();
            let Some(least) = least else {
                return Err(match lost {
                    Some(stamped) => {
                        WaitError::OtherGeneration { stamped, now: watermark.generation }
                    }
                    None => WaitError::NonePassed { moments: 0, watermark, liveness },
                });
            };
            if left.is_zero() {
                return Err(WaitError::NonePassed { moments: moments.len(), watermark, liveness });
            }
            // Never for a time to come: what it leads to would come too early. A barrier for now ends a round of
            // virtual time that was opened before. Not sent: then it passes in its own time.
            let _ = self.expedite(Stamp::now().min(Stamp::from_ns(least)));
            // Above the stamp and yet unusable: the clock lags, and no store will wake us.
            let longest = if word > least { SHORT_SLEEP } else { MAX_SLEEP };
            self.sleep(word, left.min(longest));
        }
    }
}
