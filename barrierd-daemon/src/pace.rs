//! When to scan next: the rules, without clock or I/O.
//!
//! Owns the period, the limit on scans, and the way into and out of sleep. Knows nothing of slots
//! or files: it is told what a scan found and what ended a wait, with the time.
//!
//! **Awake.** A scan at least every period while some other CPU is busy. Between two scans the
//! daemon listens: the last CPU to pass wakes it at once, which locks its scans to the slowest
//! CPU's tick. A scan before its period is up borrows the rest from a bucket of [`BURST`] periods,
//! which timers that fire late fill again. While the bucket is short the daemon doesn't listen but
//! pauses to the end of the period: so a busy machine costs it one wake-up a scan, and one scan a
//! period on average.
//!
//! **Asleep.** On an idle machine nothing is worth a wake-up, and a lost wake-up would be a stamp
//! that waits for the next heartbeat. The way in:
//!
//! 1. set the flag `asleep`, full fence; from here on any user task that starts on any CPU takes
//!    the flag away and wakes the daemon (`sched_switch.bpf.c`);
//! 2. a scan that finds every other CPU idle: no user task ran on them from their slot's load on,
//!    or the flag is gone. Stamps taken before that may be later than this scan's `s`;
//! 3. a period later a second one, its clock later than all those stamps by more than the margin,
//!    so its publication passes them all;
//! 4. scans until virtual time has passed what could be stamped by the first scan: two rounds;
//! 5. the flag still stands after all this, and after the last drain of the ring: sleep.
//!
//! The way out: a wake-up first waits a period, doubling to [`MOST_BACKOFF_NS`] while wake-ups find
//! everyone idle again. Otherwise a client thread woken by the publication that the wake-up led to,
//! or another daemon, would go round with this one without end.

use barrierd_client::abi::HEARTBEAT_PERIOD_NS;

/// Scans that may come early in a row.
pub const BURST: u64 = 4;

/// Longest wait after a wake-up from sleep, in nanoseconds.
pub const MOST_BACKOFF_NS: u64 = 20_000_000;

/// Longest sleep, in nanoseconds: a beat falls due, and a timer may be late.
pub const LONGEST_SLEEP_NS: u64 = HEARTBEAT_PERIOD_NS - HEARTBEAT_PERIOD_NS / 10;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Scan now.
    Scan,
    /// Wait, then ask [`Pace::woken`].
    Wait {
        /// What may end it early.
        how: How,
        /// When it ends, in nanoseconds of `CLOCK_MONOTONIC`.
        until_ns: u64,
    },
}

/// What may end a wait early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The last CPU has passed.
    Listen,
    /// Nothing.
    Pause,
    /// A user task runs. If one has run already, so that the flag is gone, the wait is over before
    /// it begins.
    Sleep,
}

/// What to do with the flag `asleep` before a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Take it away, if it is set.
    Clear,
    /// Set it, then a full fence.
    Set,
    /// Leave it as BPF has it.
    Keep,
}

/// What a scan found, after it was published.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The clock, at the scan.
    pub now_ns: u64,
    /// Whether every other CPU is known to be idle.
    pub others_idle: bool,
    /// The newest vtime that was published before the scan.
    pub vtime: u64,
    /// What the scan published of `last_interrupt_vtime`.
    pub last_vtime: Option<u64>,
    /// Whether the flag `asleep` still stands, after the scan.
    pub flag_stands: bool,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Its time was up.
    Timeout,
    /// BPF woke the daemon, or took the flag away before it slept.
    Notified,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Some other CPU is busy.
    Awake,
    /// On the way to sleep: step 1 is due.
    Drowsy,
    /// Steps 3 and 4, with the newest vtime that could be stamped by the first scan.
    Settling { vtime: u64 },
    /// Asleep, or beating.
    Asleep,
}

/// The daemon's sense of time.
#[derive(Clone, Debug)]
pub struct Pace {
    period_ns: u64,
    mode: Mode,
    backoff_ns: u64,
    /// Credit for early scans.
    bucket_ns: u64,
    last_scan_ns: u64,
}

impl Pace {
    /// Starts awake, with a full bucket. `period_ns` is the time between two scans.
    ///
    /// # Panics
    ///
    /// `period_ns` is 0 or longer than [`LONGEST_SLEEP_NS`].
    #[must_use]
    pub fn new(period_ns: u64, now_ns: u64) -> Self {
        assert!((1..=LONGEST_SLEEP_NS).contains(&period_ns), "a period of {period_ns} ns");
        Self {
            period_ns,
            mode: Mode::Awake,
            backoff_ns: period_ns,
            bucket_ns: BURST * period_ns,
            last_scan_ns: now_ns,
        }
    }

    /// What the next scan needs of the flag.
    #[must_use]
    pub fn flag(&self) -> Flag {
        match self.mode {
            Mode::Awake => Flag::Clear,
            Mode::Drowsy => Flag::Set,
            Mode::Settling { .. } | Mode::Asleep => Flag::Keep,
        }
    }

    /// A scan was made and published: what now?
    pub fn scanned(&mut self, found: &Found) -> Step {
        let now = found.now_ns;
        let earned = now.saturating_sub(self.last_scan_ns);
        let full = BURST * self.period_ns;
        self.bucket_ns = (self.bucket_ns + earned).min(full + self.period_ns);
        self.bucket_ns = self.bucket_ns.saturating_sub(self.period_ns).min(full);
        self.last_scan_ns = now;
        let after_period = now + self.period_ns;

        if !found.others_idle {
            self.mode = Mode::Awake;
            self.backoff_ns = self.period_ns;
            let how = if self.bucket_ns >= self.period_ns { How::Listen } else { How::Pause };
            return Step::Wait { how, until_ns: after_period };
        }
        match self.mode {
            Mode::Awake => {
                self.mode = Mode::Drowsy;
                Step::Wait { how: How::Pause, until_ns: after_period }
            }
            _ if !found.flag_stands => self.back_off(now),
            Mode::Drowsy => {
                self.mode = Mode::Settling { vtime: found.vtime };
                Step::Wait { how: How::Pause, until_ns: after_period }
            }
            // At most twice in a row: with every other CPU idle each scan completes a round.
            Mode::Settling { vtime } if found.last_vtime.is_none_or(|last| last <= vtime) => {
                Step::Scan
            }
            Mode::Settling { .. } | Mode::Asleep => {
                self.mode = Mode::Asleep;
                Step::Wait { how: How::Sleep, until_ns: now + LONGEST_SLEEP_NS }
            }
        }
    }

    /// A wait has ended: what now?
    pub fn woken(&mut self, now_ns: u64, by: Woken) -> Step {
        match (self.mode, by) {
            (Mode::Asleep, Woken::Notified) => self.back_off(now_ns),
            _ => Step::Scan,
        }
    }

    /// A user task ran while everyone else was idle: start over, later each time.
    fn back_off(&mut self, now_ns: u64) -> Step {
        let wait = self.backoff_ns;
        self.backoff_ns = (wait * 2).min(MOST_BACKOFF_NS.max(self.period_ns));
        self.mode = Mode::Drowsy;
        Step::Wait { how: How::Pause, until_ns: now_ns + wait }
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
