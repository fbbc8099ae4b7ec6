//! Who holds a round of virtual time up, and for how long.
//!
//! Owns the rule: the CPU that lagged at the last check before the round was complete was the last
//! in it. Knows nothing of how anyone checks.
//!
//! A round that nobody was ever seen to hold up has no last one: it took as long as the daemon left
//! between two checks, on purpose (asleep for 90 ms, say) or because it got no CPU itself.

/// A round that was held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldUp {
    /// From its opening to the scan that completed it, in nanoseconds.
    pub ns: u64,
    /// Who was last.
    pub cpu: usize,
}

/// The round under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Straggler {
    opened_ns: u64,
    lagging: Option<usize>,
}

impl Straggler {
    /// A round was opened at `at_ns`.
    pub fn opened(&mut self, at_ns: u64) {
        *self = Self { opened_ns: at_ns, lagging: None };
    }

    /// When the round under way, or the last one, was opened.
    #[must_use]
    pub fn opened_ns(&self) -> u64 {
        self.opened_ns
    }

    /// A check found that `cpu` lags; of several, the one with the oldest evidence.
    pub fn lags(&mut self, cpu: usize) {
        self.lagging = Some(cpu);
    }

    /// The round was found complete at `now_ns`.
    #[must_use]
    pub fn completed(&self, now_ns: u64) -> Option<HeldUp> {
        let ns = now_ns.saturating_sub(self.opened_ns);
        self.lagging.map(|cpu| HeldUp { ns, cpu })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_seen_to_lag_was_the_last() {
        let mut round = Straggler::default();
        round.opened(100);
        round.lags(3);
        round.lags(1);
        assert_eq!(round.completed(350), Some(HeldUp { ns: 250, cpu: 1 }));
    }

    #[test]
    fn a_round_that_nobody_held_up_has_no_last_one() {
        let mut round = Straggler::default();
        round.lags(2);
        round.opened(100);
        // The daemon slept.
        assert_eq!(round.completed(90_000_100), None);
    }
}
