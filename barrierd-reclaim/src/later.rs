//! Moments that lie a given time ahead, however long that is; and sleeps until something has happened of which nobody
//! gives notice.
//!
//! `Instant + Duration` panics where the sum can't be represented, and users may ask for
//! `Duration::MAX` to say "for ever".

use std::time::{Duration, Instant};

/// "For ever": thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the moment `span` after `from`, or one thirty years after it where that can't be represented.
pub(crate) fn after(from: Instant, span: Duration) -> Instant {
    from + span.min(FAR)
}

/// Sleeps between the checks of a thread that waits for what others do without notice. They double, from the time of a
/// short section to one that nobody would call late, so the checks cost little however long it takes.
pub(crate) struct Backoff(Duration);

impl Backoff {
    /// The first sleep.
    const LEAST: Duration = Duration::from_micros(20);
    /// The longest sleep.
    const MOST: Duration = Duration::from_millis(2);

    pub(crate) fn new() -> Backoff {
        Backoff(Backoff::LEAST)
    }

    /// Sleeps, at most until `deadline`; the next time for twice as long.
    pub(crate) fn sleep(&mut self, deadline: Instant) {
        std::thread::sleep(self.next(deadline.saturating_duration_since(Instant::now())));
    }

    /// Returns how long the next sleep is where `left` is the time until the deadline.
    fn next(&mut self, left: Duration) -> Duration {
        let next = self.0.min(left);
        self.0 = (self.0 * 2).min(Backoff::MOST);
        next
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_span_is_too_long() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX), now + FAR);
    }

    #[test]
    fn sleeps_double_up_to_the_longest_and_never_pass_the_deadline() {
        let micros =
            |backoff: &mut Backoff, left| backoff.next(Duration::from_micros(left)).as_micros();
        let mut backoff = Backoff::new();
        let all = [(); 10].map(|()| micros(&mut backoff, 1_000_000));
        assert_eq!(all, [20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000]);
        assert_eq!(micros(&mut backoff, 7), 7);
        assert_eq!(micros(&mut backoff, 0), 0);
    }
}
