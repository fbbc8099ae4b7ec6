//! A limit on how often something is done: so many a second, a few more at once.
//!
//! Owns the arithmetic. Knows nothing of what is limited, and reads no clock.

/// Tokens that come at a steady rate and are kept up to a burst.
///
/// Kept as the time at which the bucket would be full again, so that no sum overflows and nothing is
/// lost by rounding, however often it is asked.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Nanoseconds a token; `None`: there are none, ever.
    cost_ns: Option<u64>,
    /// What a full bucket has saved, less one token, in nanoseconds.
    slack_ns: u64,
    /// When it is full.
    full_at_ns: u64,
}

impl Bucket {
    /// A full bucket of `burst` tokens that fills at `per_second`. With 0 `per_second` it gives
    /// nothing, ever.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let cost_ns = 1_000_000_000u64.checked_div(u64::from(per_second)).map(|cost| cost.max(1));
        let slack_ns = cost_ns.unwrap_or(0).saturating_mul(u64::from(burst.saturating_sub(1)));
        Self { cost_ns, slack_ns, full_at_ns: 0 }
    }

    /// Takes a token, if there is one at `now_ns`.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let Some(cost) = self.cost_ns else { return false };
        let ready = self.ready_at_ns().is_some_and(|ready| ready <= now_ns);
        if ready {
            self.full_at_ns = self.full_at_ns.max(now_ns).saturating_add(cost);
        }
        ready
    }

    /// From when on there is a token, in nanoseconds; `None`: never.
    #[must_use]
    pub fn ready_at_ns(&self) -> Option<u64> {
        self.cost_ns.map(|_| self.full_at_ns.saturating_sub(self.slack_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = Bucket::new(1_000, 3);
        let now = 5_000_000_000;
        assert_eq!((0..10).filter(|_| bucket.take(now)).count(), 3);
        assert_eq!(bucket.ready_at_ns(), Some(now + 1_000_000));
        assert!(!bucket.take(now + 999_999) && bucket.take(now + 1_000_000));
        // A long silence saves the burst and no more.
        assert_eq!((0..10).filter(|_| bucket.take(2 * now)).count(), 3);
    }

    #[test]
    fn none_a_second_is_none_ever() {
        let mut bucket = Bucket::new(0, 100);
        assert!(!bucket.take(u64::MAX));
        assert_eq!(bucket.ready_at_ns(), None);
    }

    proptest! {
        /// In any stretch of time: at most the burst and what the rate makes of it; and whoever
        /// waits until it says it is ready gets a token.
        #[test]
        fn never_more_than_the_rate_and_never_stuck(
            per_second in prop_oneof![1u32..2_000, 1u32..2_000_000],
            burst in 1u32..50,
            steps in proptest::collection::vec(0u64..3_000_000, 1..300),
        ) {
            let mut bucket = Bucket::new(per_second, burst);
            let (mut now, start) = (1_000_000_000u64, 1_000_000_000u64);
            let mut taken = 0u64;
            for step in steps {
                now += step;
                if bucket.take(now) {
                    taken += 1;
                } else {
                    let ready = bucket.ready_at_ns().expect("a rate");
                    prop_assert!(ready > now && bucket.clone().take(ready));
                }
            }
            let cost = 1_000_000_000 / u64::from(per_second);
            prop_assert!(taken <= u64::from(burst) + (now - start) / cost);
        }
    }
}
