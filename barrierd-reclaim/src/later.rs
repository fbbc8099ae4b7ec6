//! Moments that lie a given time ahead, however long that is.
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

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_span_is_too_long() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX), now + FAR);
    }
}
