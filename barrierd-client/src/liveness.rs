//! Whether the daemon is at work, judged from its heartbeat alone.
//!
//! This module owns the rule "the same old beat in two readings", without a lock. It knows nothing of
//! the file: it is handed a beat and the time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi;
use crate::trust::FUTURE_SLACK_NS;

/// A beat older than this puts the daemon on notice: 2.5 periods, in nanoseconds.
pub(crate) const BEAT_LIMIT_NS: u64 = abi::HEARTBEAT_PERIOD_NS / 2 * 5;
/// The same for a legacy file, which has no heartbeat and whose watermark stands in: 1 s. The C
/// daemon moves it only when every CPU took an interrupt, which an idle one may not for long.
pub(crate) const LEGACY_LIMIT_NS: u64 = 1_000_000_000;
/// Least time between the two readings that make a beat stale, in nanoseconds.
pub(crate) const NOTICE_NS: u64 = 50_000_000;

/// The state of the daemon, by its heartbeat.
///
/// It tells whether the watermark can be expected to move, not whether it may be believed: for that, see
/// [`Distrust`](crate::Distrust).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// The last beat is younger than 250 ms. (Legacy files: the watermark is younger than 1 s.)
    Alive,
    /// The daemon stopped in good order; nothing moves until another starts on this file.
    Stopped,
    /// The beat is old, and this is the first reading of it. Ask again 50 ms later. An idle daemon
    /// on a machine that was itself paused shows this once.
    Suspect,
    /// Two readings at least 50 ms apart found the same old beat: the daemon died or hangs. If
    /// [`Barrier::same_file`](crate::Barrier::same_file) returns false, the path names another file by
    /// now: open it again.
    Stale,
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Stopped => "stopped",
            Self::Suspect => "suspect",
            Self::Stale => "stale",
        })
    }
}

/// No beat is on notice. As a beat it would be a time 584 years after boot.
const NONE: u64 = u64::MAX;

/// The beat on notice and since when, shared by all readers of it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The old beat that was seen, or [`NONE`].
    beat: AtomicU64,
    /// Never earlier than the first reading of `beat`; only rises.
    since: AtomicU64,
}

impl Watch {
    pub(crate) const fn new() -> Self {
        Self { beat: AtomicU64::new(NONE), since: AtomicU64::new(0) }
    }

    /// Judges `beat`, read before the clock read `now`; older than `limit` is old, and so is one
    /// from the future, which no running daemon leaves.
    pub(crate) fn judge(&self, beat: u64, now: u64, limit: u64) -> Liveness {
        let ahead = beat.saturating_sub(now) >= FUTURE_SLACK_NS;
        if now.saturating_sub(beat) < limit && !ahead {
            return Liveness::Alive;
        }
        // Acquire, partner: the Release store below. A reader that sees this beat there sees a `since`
        // that is at least the time of the reading that put it there, so no reading is taken for an
        // earlier one and 50 ms are never cut short.
        if self.beat.load(Ordering::Acquire) == beat {
            let since = self.since.load(Ordering::Relaxed);
            if now.saturating_sub(since) >= NOTICE_NS {
                return Liveness::Stale;
            }
            return Liveness::Suspect;
        }
        // The maximum: a slow reader must not set it back for a beat that another put on notice.
        self.since.fetch_max(now, Ordering::Relaxed);
        self.beat.store(beat, Ordering::Release);
        Liveness::Suspect
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn judge(watch: &Watch, beat_ms: u64, now_ms: u64) -> Liveness {
        watch.judge(beat_ms * MS, now_ms * MS, BEAT_LIMIT_NS)
    }

    #[test]
    fn old_twice_is_stale_and_a_beat_revives() {
        let watch = Watch::new();
        assert_eq!(judge(&watch, 1000, 1000), Liveness::Alive);
        assert_eq!(judge(&watch, 1000, 1249), Liveness::Alive);
        assert_eq!(judge(&watch, 1000, 1250), Liveness::Suspect);
        assert_eq!(judge(&watch, 1000, 1299), Liveness::Suspect);
        assert_eq!(judge(&watch, 1000, 1300), Liveness::Stale);
        assert_eq!(judge(&watch, 1310, 1320), Liveness::Alive);
        // Another old beat is another notice.
        assert_eq!(judge(&watch, 1310, 9000), Liveness::Suspect);
        assert_eq!(judge(&watch, 1310, 9050), Liveness::Stale);
    }

    #[test]
    fn a_daemon_that_beats_slowly_is_never_stale() {
        let watch = Watch::new();
        for i in 0..20 {
            assert_eq!(judge(&watch, 1000 * i, 1000 * i + 300), Liveness::Suspect);
        }
    }

    #[test]
    fn a_file_that_never_beat_gets_its_notice_too() {
        let watch = Watch::new();
        assert_eq!(judge(&watch, 0, 100_000), Liveness::Suspect);
        assert_eq!(judge(&watch, 0, 100_050), Liveness::Stale);
    }

    #[test]
    fn a_beat_from_the_future_is_no_sign_of_life() {
        let watch = Watch::new();
        assert_eq!(watch.judge(1000 * MS + 999_999, 1000 * MS, BEAT_LIMIT_NS), Liveness::Alive);
        assert_eq!(judge(&watch, 5000, 1000), Liveness::Suspect);
        assert_eq!(judge(&watch, 5000, 1050), Liveness::Stale);
    }

    proptest! {
        /// Stale only ever follows a reading of the same beat at least 50 ms before.
        #[test]
        fn stale_has_two_witnesses(steps in prop::collection::vec((0u64..400, any::<bool>()), 1..60)) {
            let watch = Watch::new();
            let (mut now, mut beat) = (10_000, 10_000);
            let mut readings: Vec<(u64, u64)> = Vec::new();
            for (step, beats) in steps {
                now += step;
                if beats {
                    beat = now;
                }
                let verdict = judge(&watch, beat, now);
                let seen = readings.iter().any(|&(b, t)| b == beat && t + 50 <= now && t >= b + 250);
                prop_assert_eq!(verdict == Liveness::Stale, seen);
                prop_assert_eq!(verdict == Liveness::Alive, now - beat < 250);
                readings.push((beat, now));
            }
        }
    }
}
