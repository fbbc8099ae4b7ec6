//! `CLOCK_MONOTONIC`, and the times that serve as evidence.
//!
//! Owns the margin and the strict order of evidence times. Knows nothing of what they prove.

use std::fs;
use std::io;

use anyhow::{Result, bail};
use barrierd_client::abi::CLOCK_MARGIN_NS;
use rustix::thread::{NanosleepRelativeResult, clock_nanosleep_relative};
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// The initial time namespace's inode: `PROC_TIME_INIT_INO` in the kernel's include/linux/proc_ns.h.
const INITIAL_TIME_NAMESPACE: &str = "time:[4026531834]";

/// `CLOCK_MONOTONIC` in nanoseconds. Cost: a vDSO call, about 25 ns.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative: the clock starts at boot.
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// `ns` as the kernel takes it.
///
/// # Panics
///
/// Never: a `u64` of nanoseconds is fewer seconds than an `i64` holds.
#[must_use]
pub fn timespec(ns: u64) -> Timespec {
    let part = |n: u64| i64::try_from(n).expect("below 2^63");
    Timespec { tv_sec: part(ns / 1_000_000_000), tv_nsec: part(ns % 1_000_000_000) }
}

/// Sleeps for `ns` nanoseconds at least, however many signals come. Not by the standard library: which
/// system call that takes is its own choice, and the sandbox allows this one, in this form.
pub fn nap(ns: u64) {
    let mut left = timespec(ns);
    while let NanosleepRelativeResult::Interrupted(rest) =
        clock_nanosleep_relative(ClockId::Monotonic, &left)
    {
        left = rest;
    }
}

/// The time between two ticks of the kernel, in nanoseconds: the coarse clock's resolution
/// (`posix_get_coarse_res` in kernel/time/posix-timers.c).
#[must_use]
pub fn tick_ns() -> u64 {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    u64::try_from(resolution.tv_nsec).unwrap_or(0).clamp(100_000, 10_000_000)
}

/// Makes evidence times: what the clock said, less the margin, and each later than the last.
///
/// The margin, because `CLOCK_MONOTONIC` may step back by microseconds between CPUs while it is
/// slewed and vCPUs are stolen from. Strictly increasing, because "the slot holds at least `T_v`"
/// must mean "of the arming of `T_v` or a later one" also when the clock has stepped back: an older
/// time that is no smaller would complete a round of virtual time with barriers from before it.
///
/// Where the clock stepped back, the time given is the last one and a nanosecond. That eats into
/// the margin by no more than the step, since a call takes longer than the nanosecond that it adds.
#[derive(Debug, Default)]
pub struct EvidenceClock {
    last: u64,
}

impl EvidenceClock {
    /// A clock that has given no time yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next evidence time, in nanoseconds: the barrier of a CPU that acts on it comes after
    /// the moment when every clock has passed it.
    pub fn read(&mut self) -> u64 {
        self.after(now_ns())
    }

    fn after(&mut self, now_ns: u64) -> u64 {
        self.last = now_ns.saturating_sub(CLOCK_MARGIN_NS).max(self.last + 1);
        self.last
    }
}

/// Makes sure that this process's `CLOCK_MONOTONIC` is everybody's.
///
/// # Errors
///
/// The process is in a time namespace of its own, or `/proc` doesn't tell.
pub fn check_time_namespace() -> Result<()> {
    match fs::read_link("/proc/self/ns/time") {
        Ok(link) if link.as_os_str() == INITIAL_TIME_NAMESPACE => Ok(()),
        Ok(link) => bail!(
            "this process is in time namespace {}, not the initial one ({INITIAL_TIME_NAMESPACE}): \
             its clock may be shifted, and what it published would be wrong for everyone else; \
             start it outside of the container, or without a time namespace",
            link.display()
        ),
        // A kernel before 5.6, or built without time namespaces.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::exists("/proc/self/ns")? => {
            Ok(())
        }
        Err(error) => bail!(
            "reading /proc/self/ns/time, to make sure of the clock: {error}; is /proc mounted?"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_older_than_the_clock_and_strictly_increases() {
        let mut clock = EvidenceClock::new();
        assert_eq!(clock.after(1_000_000), 1_000_000 - CLOCK_MARGIN_NS);
        // The clock stands still, then steps back.
        assert_eq!(clock.after(1_000_000), 1_000_001 - CLOCK_MARGIN_NS);
        assert_eq!(clock.after(999_000), 1_000_002 - CLOCK_MARGIN_NS);
        assert_eq!(clock.after(2_000_000), 2_000_000 - CLOCK_MARGIN_NS);
        assert!(clock.read() < now_ns());
    }

    #[test]
    fn a_tick_is_a_whole_fraction_of_a_second() {
        let rate = 1_000_000_000 / tick_ns();
        assert!([100, 250, 300, 1000].contains(&rate), "{rate} ticks a second");
    }

    #[test]
    fn a_timespec_is_whole_seconds_and_the_rest() {
        let t = timespec(3_000_000_007);
        assert_eq!((t.tv_sec, t.tv_nsec), (3, 7));
    }

    #[test]
    fn a_nap_lasts_as_long_as_it_should() {
        let before = now_ns();
        nap(2_000_000);
        assert!(now_ns() - before >= 2_000_000);
    }

    #[test]
    fn tests_run_in_the_initial_namespace() {
        check_time_namespace().expect("the initial time namespace");
    }
}
