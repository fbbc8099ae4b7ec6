//! What the daemon says of itself: lines, and counters.
//!
//! Owns the sums. Knows nothing of how they come about, nor of how a line is written.

use std::fmt;

pub use crate::log::say;
use crate::straggler::HeldUp;

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Scans.
    pub scans: u64,
    /// Waits that ended, by time or by notification.
    pub wake_ups: u64,
    /// Waits that BPF ended.
    pub notifications: u64,
    /// Waits on an idle machine, each until a user task ran or a beat fell due.
    pub sleeps: u64,
    /// Sound requests for expedited barriers.
    pub requests: u64,
    /// Requests that were malformed.
    pub dropped: u64,
    /// Rounds made for requests: one may serve many, and those whose barrier had passed take none.
    pub expedites: u64,
    /// CPUs interrupted.
    pub kicks: u64,
    /// Those of them that moved nothing.
    pub missed_kicks: u64,
    /// CPUs that aren't kicked any more.
    pub dead_kicks: u64,
    /// Rounds of virtual time completed.
    pub rounds: u64,
    /// The longest of those that a CPU was seen to hold up, in nanoseconds.
    pub longest_round_ns: u64,
    /// The CPU that was last in it.
    pub longest_round_cpu: Option<usize>,
    /// Switches out of idle that were found not to have been traced.
    pub missed_events: u64,
}

impl Counters {
    /// What was added since `earlier`. The longest round is that of all time.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            scans: self.scans - earlier.scans,
            wake_ups: self.wake_ups - earlier.wake_ups,
            notifications: self.notifications - earlier.notifications,
            sleeps: self.sleeps - earlier.sleeps,
            requests: self.requests - earlier.requests,
            dropped: self.dropped - earlier.dropped,
            expedites: self.expedites - earlier.expedites,
            kicks: self.kicks - earlier.kicks,
            missed_kicks: self.missed_kicks - earlier.missed_kicks,
            dead_kicks: self.dead_kicks - earlier.dead_kicks,
            rounds: self.rounds - earlier.rounds,
            longest_round_ns: self.longest_round_ns,
            longest_round_cpu: self.longest_round_cpu,
            missed_events: self.missed_events - earlier.missed_events,
        }
    }

    /// Takes a completed round into account.
    pub fn round(&mut self, held_up: Option<HeldUp>) {
        self.rounds += 1;
        if let Some(HeldUp { ns, cpu }) = held_up.filter(|held| held.ns > self.longest_round_ns) {
            self.longest_round_ns = ns;
            self.longest_round_cpu = Some(cpu);
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scans, wake_ups, notifications, sleeps, rounds, longest_round_ns, .. } = self;
        let Self { requests, dropped, expedites, kicks, missed_kicks, dead_kicks, .. } = self;
        let longest_us = longest_round_ns / 1_000;
        write!(
            f,
            "{scans} scans, {wake_ups} wake-ups, {notifications} by notification, {sleeps} sleeps, \
             {rounds} rounds, longest {longest_us} us; {requests} requests in {expedites} rounds, \
             {dropped} dropped; {kicks} kicks, {missed_kicks} missed, {dead_kicks} CPUs given up"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_the_difference_of_two_sums() {
        let mut sum = Counters { scans: 5, wake_ups: 4, ..Counters::default() };
        let held_up = |ns, cpu| Some(HeldUp { ns, cpu });
        sum.round(held_up(2_000, 0));
        let before = sum;
        sum.round(held_up(9_000, 1));
        sum.round(held_up(1_000, 2));
        sum.round(None);
        assert_eq!(sum.longest_round_cpu, Some(1));
        sum.scans += 3;
        let text = sum.since(&before).to_string();
        assert_eq!(
            text,
            "3 scans, 0 wake-ups, 0 by notification, 0 sleeps, 3 rounds, longest 9 us; 0 requests in \
             0 rounds, 0 dropped; 0 kicks, 0 missed, 0 CPUs given up"
        );
    }
}
