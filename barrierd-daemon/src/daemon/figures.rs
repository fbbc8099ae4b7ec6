//! The daemon's figures as everyone may read them: what each word of the counters holds.
//!
//! Owns that list. The words' places and meanings are the client crate's.

use std::time::{SystemTime, UNIX_EPOCH};

use barrierd_client::counters::{NONE, Word, pack_version};

use super::Daemon;
use crate::{log, pace};

/// This program's version, packed.
const VERSION: u64 = pack_version(
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
    number(env!("CARGO_PKG_VERSION_PATCH")),
);

const fn number(text: &str) -> u64 {
    match u64::from_str_radix(text, 10) {
        Ok(number) => number,
        Err(_) => panic!("cargo gives whole numbers"),
    }
}

/// What never changes while the daemon runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixed {
    pid: u32,
    start_unix_ns: u64,
    tick_ns: u64,
    /// Between two barriers while some CPU is busy and somebody waits.
    pub(super) cycle_ns: u64,
}

impl Fixed {
    /// Of this process, that starts now.
    pub(super) fn now(tick_ns: u64, period_ns: Option<u64>) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            pid: std::process::id(),
            start_unix_ns: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
            tick_ns,
            cycle_ns: pace::cycle_ns(tick_ns, period_ns),
        }
    }
}

impl Daemon<'_> {
    /// Shows the figures as they stand. No system call, no allocation.
    pub(super) fn show(&self) {
        let (fixed, counters) = (&self.fixed, &self.counters);
        let small = |n: usize| u64::try_from(n).unwrap_or(NONE);
        self.publisher.count(|word| match word {
            Word::Pid => u64::from(fixed.pid),
            Word::Program => VERSION,
            Word::StartUnix => fixed.start_unix_ns,
            Word::Tick => fixed.tick_ns,
            Word::Cycle => fixed.cycle_ns,
            Word::BusyCpus => small(self.busy),
            Word::IdleInference => u64::from(self.infers_idle()),
            Word::TracingProved => u64::from(self.proved),
            Word::Rounds => counters.rounds,
            Word::Scans => counters.scans,
            Word::WakeUps => counters.wake_ups,
            Word::Notifications => counters.notifications,
            Word::Sleeps => counters.sleeps,
            Word::Requests => counters.requests,
            Word::DroppedRequests => counters.dropped,
            Word::Expedited => counters.expedites,
            Word::Kicks => counters.kicks,
            Word::MissedKicks => counters.missed_kicks,
            Word::DeadKicks => counters.dead_kicks,
            Word::MissedEvents => counters.missed_events,
            Word::LongestRound => counters.longest_round_ns,
            Word::LongestRoundCpu => counters.longest_round_cpu.map_or(NONE, small),
            Word::LostLogLines => log::lost(),
            Word::Keen => u64::from(!self.pace.is_easy()),
        });
    }
}
