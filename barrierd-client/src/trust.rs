//! Whether the source may still be believed, and the one rule that a running source is held to.
//!
//! This module owns the sticky verdict and the comparison of a watermark with the clock. It knows
//! nothing of files or of who asks.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far a time in the file may lie after this process's clock before the file counts as lying, in
/// nanoseconds. A time from this project's daemon never lies after it. A time from the C daemon may, by less than
/// this, since its times are the clock's own and a clock that is slewed steps back.
pub const FUTURE_SLACK_NS: u64 = 1_000_000;

/// The reason why a source is no longer believed. This is for good: the next call returns the same.
///
/// Keep what was waiting for the source, and do not free it. Open another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Distrust {
    /// The watermark lay in the future by [`FUTURE_SLACK_NS`] or more: a forged file, one of
    /// another boot, or a clock that isn't the daemon's.
    #[error(
        "the watermark lies {ahead_ns} ns after CLOCK_MONOTONIC: the file is forged or stale, or this process reads another clock than the daemon; nothing more of it is believed; open the file again"
    )]
    FutureWatermark {
        /// How far it lies ahead, in nanoseconds (exact below 2^61).
        ahead_ns: u64,
    },
    /// The last complete virtual time was not below the current one.
    #[error(
        "the last complete virtual time is {ahead} above what the current one allows: the file is damaged; nothing more is believed, restart the daemon on a new file"
    )]
    FutureVtime {
        /// The last complete virtual time minus the current one, in rounds (exact below 2^61).
        ahead: u64,
    },
    /// This process was forked into another time namespace, where the clock is shifted.
    #[error(
        "this process was forked into a time namespace other than the initial one, where CLOCK_MONOTONIC is shifted; run it in the initial one"
    )]
    OtherTimeNamespace,
    /// This process was forked, and can't tell in which time namespace it is.
    #[error(
        "this process was forked and /proc/self/ns/time can't be read, so its clock may be shifted; mount /proc for it"
    )]
    UnknownTimeNamespace,
}

/// The verdict in one word, so that it is set and read whole: kind in the low bits, 0 for trusted.
#[derive(Debug)]
pub(crate) struct Trust(AtomicU64);

const KIND_BITS: u32 = 3;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;

impl Trust {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// `Err` once trust was lost.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Distrust> {
        // Relaxed: nothing is published behind the word, and each thread judges for itself anyway.
        match unpack(self.0.load(Ordering::Relaxed)) {
            None => Ok(()),
            Some(why) => Err(why),
        }
    }

    /// Ends trust for good and returns the reason that stands, which is the first.
    #[cold]
    pub(crate) fn lose(&self, why: Distrust) -> Distrust {
        match self.0.compare_exchange(0, pack(why), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => why,
            Err(first) => unpack(first).unwrap_or(why),
        }
    }
}

fn pack(why: Distrust) -> u64 {
    let (kind, by) = match why {
        Distrust::FutureWatermark { ahead_ns } => (1, ahead_ns),
        Distrust::FutureVtime { ahead } => (2, ahead),
        Distrust::OtherTimeNamespace => (3, 0),
        Distrust::UnknownTimeNamespace => (4, 0),
    };
    by.min(u64::MAX >> KIND_BITS) << KIND_BITS | kind
}

fn unpack(word: u64) -> Option<Distrust> {
    let by = word >> KIND_BITS;
    match word & KIND_MASK {
        1 => Some(Distrust::FutureWatermark { ahead_ns: by }),
        2 => Some(Distrust::FutureVtime { ahead: by }),
        3 => Some(Distrust::OtherTimeNamespace),
        4 => Some(Distrust::UnknownTimeNamespace),
        _ => None,
    }
}

/// Judges watermark `w`, read before the clock read `now`: usable as it is, 0 for "not now, look
/// again" (ahead by less than [`FUTURE_SLACK_NS`]), or a lie.
#[inline]
pub(crate) fn judge(w: u64, now: u64) -> Result<u64, Distrust> {
    match w.checked_sub(now) {
        None | Some(0) => Ok(w),
        Some(ahead) if ahead < FUTURE_SLACK_NS => Ok(0),
        Some(ahead_ns) => Err(Distrust::FutureWatermark { ahead_ns }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_reason_stands() {
        let trust = Trust::new();
        assert_eq!(trust.check(), Ok(()));
        let first = Distrust::FutureWatermark { ahead_ns: 1_234_567 };
        assert_eq!(trust.lose(first), first);
        assert_eq!(trust.lose(Distrust::OtherTimeNamespace), first);
        assert_eq!(trust.check(), Err(first));
    }

    #[test]
    fn every_reason_survives_packing() {
        for why in [
            Distrust::FutureWatermark { ahead_ns: FUTURE_SLACK_NS },
            Distrust::FutureVtime { ahead: 0 },
            Distrust::OtherTimeNamespace,
            Distrust::UnknownTimeNamespace,
        ] {
            assert_eq!(unpack(pack(why)), Some(why));
        }
        let far = pack(Distrust::FutureWatermark { ahead_ns: u64::MAX });
        assert_eq!(unpack(far), Some(Distrust::FutureWatermark { ahead_ns: u64::MAX >> 3 }));
    }

    #[test]
    fn a_watermark_is_held_to_the_clock() {
        assert_eq!(judge(5, 5), Ok(5));
        assert_eq!(judge(5, 6), Ok(5));
        assert_eq!(judge(6, 5), Ok(0));
        assert_eq!(judge(FUTURE_SLACK_NS + 4, 5), Ok(0));
        assert_eq!(
            judge(FUTURE_SLACK_NS + 5, 5),
            Err(Distrust::FutureWatermark { ahead_ns: FUTURE_SLACK_NS })
        );
    }

    proptest! {
        #[test]
        fn what_is_usable_never_lies_ahead(w: u64, now: u64) {
            if let Ok(ns) = judge(w, now) {
                prop_assert!(ns <= now);
                prop_assert!(ns == w || ns == 0);
            }
        }
    }
}
