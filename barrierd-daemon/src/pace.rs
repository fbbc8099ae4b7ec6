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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn listen(until_ns: u64) -> Step {
        Step::Wait { how: How::Listen, until_ns }
    }

    fn pause(until_ns: u64) -> Step {
        Step::Wait { how: How::Pause, until_ns }
    }

    fn sleep(until_ns: u64) -> Step {
        Step::Wait { how: How::Sleep, until_ns }
    }

    fn pace() -> Pace {
        Pace::new(MS, 0)
    }

    fn busy(now_ns: u64) -> Found {
        Found { now_ns, others_idle: false, vtime: 0, last_vtime: None, flag_stands: false }
    }

    fn idle(now_ns: u64, vtime: u64) -> Found {
        let last_vtime = vtime.checked_sub(1);
        Found { now_ns, others_idle: true, vtime, last_vtime, flag_stands: true }
    }

    /// From awake to asleep; returns the time of the last scan and the newest vtime.
    fn fall_asleep(pace: &mut Pace, now: u64) -> (u64, u64) {
        assert_eq!(pace.flag(), Flag::Clear);
        assert_eq!(pace.scanned(&idle(now, 5)), pause(now + MS));
        assert_eq!(pace.woken(now + MS, Woken::Timeout), Step::Scan);
        settle(pace, now + MS)
    }

    fn settle(pace: &mut Pace, now: u64) -> (u64, u64) {
        assert_eq!(pace.flag(), Flag::Set);
        assert_eq!(pace.scanned(&idle(now, 6)), pause(now + MS));
        assert_eq!(pace.flag(), Flag::Keep);
        assert_eq!(pace.woken(now + MS, Woken::Timeout), Step::Scan);
        // A stamp of 6 may be about: the second scan publishes 6, the third 7.
        assert_eq!(pace.scanned(&idle(now + MS, 7)), Step::Scan);
        assert_eq!(pace.flag(), Flag::Keep);
        let until_ns = now + MS + 1_000 + LONGEST_SLEEP_NS;
        assert_eq!(pace.scanned(&idle(now + MS + 1_000, 8)), sleep(until_ns));
        (now + MS + 1_000, 8)
    }

    #[test]
    fn busy_scans_listen_for_a_period() {
        let mut pace = pace();
        for i in 1..10 {
            assert_eq!(pace.scanned(&busy(i * MS)), listen((i + 1) * MS));
            assert_eq!(pace.woken((i + 1) * MS, Woken::Timeout), Step::Scan);
        }
    }

    #[test]
    fn early_scans_empty_the_bucket_and_late_timers_fill_it() {
        let mut pace = pace();
        let mut now = MS;
        // Four on credit, each at once.
        for _ in 0..4 {
            assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Listen, .. }));
            assert_eq!(pace.woken(now, Woken::Notified), Step::Scan);
        }
        assert_eq!(pace.scanned(&busy(now)), pause(now + MS));
        // Timers are late by 60 us: after 17 such pauses a period has been saved.
        for _ in 0..16 {
            now += MS + 60_000;
            assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Pause, .. }));
        }
        now += MS + 60_000;
        assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Listen, .. }));
    }

    #[test]
    fn a_long_silence_saves_no_more_than_the_burst() {
        let mut pace = pace();
        pace.scanned(&busy(1_000 * MS));
        let early = (0..10).take_while(|_| matches!(pace.scanned(&busy(1_000 * MS)), Step::Wait { how: How::Listen, .. }));
        assert_eq!(early.count(), 3);
    }

    #[test]
    fn the_way_into_sleep() {
        fall_asleep(&mut pace(), 10 * MS);
    }

    #[test]
    fn heartbeats_do_not_wake_it() {
        let mut pace = pace();
        let (mut now, mut vtime) = fall_asleep(&mut pace, 0);
        for _ in 0..3 {
            now += LONGEST_SLEEP_NS;
            vtime += 1;
            assert_eq!(pace.woken(now, Woken::Timeout), Step::Scan);
            assert_eq!(pace.flag(), Flag::Keep);
            let until_ns = now + LONGEST_SLEEP_NS;
            assert_eq!(pace.scanned(&idle(now, vtime)), sleep(until_ns));
        }
    }

    #[test]
    fn a_heartbeat_that_finds_someone_busy_ends_sleep() {
        let mut pace = pace();
        let (now, _) = fall_asleep(&mut pace, 0);
        assert!(matches!(pace.scanned(&busy(now + MS)), Step::Wait { how: How::Listen, .. }));
        assert_eq!(pace.flag(), Flag::Clear);
    }

    #[test]
    fn wake_ups_into_an_idle_machine_back_off() {
        let mut pace = pace();
        let (mut now, _) = fall_asleep(&mut pace, 0);
        for wait in [1, 2, 4, 8, 16, 20, 20] {
            let until_ns = now + wait * MS;
            assert_eq!(pace.woken(now, Woken::Notified), pause(until_ns));
            assert_eq!(pace.woken(until_ns, Woken::Timeout), Step::Scan);
            now = settle(&mut pace, until_ns).0;
        }
        // Real work resets it.
        assert_eq!(pace.woken(now, Woken::Notified), pause(now + 20 * MS));
        pace.scanned(&busy(now + 20 * MS));
        let (now, _) = fall_asleep(&mut pace, now + 21 * MS);
        assert_eq!(pace.woken(now, Woken::Notified), pause(now + MS));
    }

    #[test]
    fn a_task_that_runs_on_the_way_into_sleep_starts_it_over() {
        for scans_before in 0..3 {
            let mut pace = pace();
            pace.scanned(&idle(0, 5));
            let mut vtime = 6;
            for _ in 0..scans_before {
                pace.scanned(&idle(MS, vtime));
                vtime += 1;
            }
            let disturbed = Found { flag_stands: false, ..idle(2 * MS, vtime) };
            assert_eq!(pace.scanned(&disturbed), pause(3 * MS));
            assert_eq!(pace.flag(), Flag::Set);
        }
    }

    #[test]
    fn sleep_waits_for_virtual_time_after_a_restart_too() {
        let mut pace = pace();
        pace.scanned(&idle(0, 5));
        pace.scanned(&idle(MS, 6));
        let silent = Found { last_vtime: None, ..idle(2 * MS, 7) };
        assert_eq!(pace.scanned(&silent), Step::Scan);
        assert_eq!(pace.scanned(&idle(2 * MS, 7)), Step::Scan);
        assert!(matches!(pace.scanned(&idle(2 * MS, 8)), Step::Wait { how: How::Sleep, .. }));
    }

    proptest! {
        /// Whatever happens: never asleep without two scans of an idle machine and a flag that
        /// stands, at most a scan a period beyond the burst, never a wait beyond the beat.
        #[test]
        fn invariants(
            events in proptest::collection::vec((any::<[bool; 3]>(), 0..2 * MS), 1..300),
        ) {
            let mut pace = pace();
            let (mut now, mut scans, mut vtime) = (0u64, 0u64, 0u64);
            let (mut idle_scans, mut since_flag) = (0, 0);
            let mut extra = 0u64;
            let mut step = Step::Scan;
            for ([others_idle, flag_stands, notified], cost) in events {
                match step {
                    Step::Scan => {
                        if pace.flag() == Flag::Set {
                            since_flag = 0;
                        }
                        scans += 1;
                        since_flag += 1;
                        idle_scans = if others_idle { idle_scans + 1 } else { 0 };
                        vtime += 1;
                        let last_vtime = vtime.checked_sub(1);
                        let asleep = pace.mode == Mode::Asleep;
                        step = pace.scanned(&Found {
                            now_ns: now, others_idle, vtime, last_vtime, flag_stands,
                        });
                        if matches!(step, Step::Scan) {
                            extra += 1;
                        }
                        if matches!(step, Step::Wait { how: How::Sleep, .. }) {
                            prop_assert!(flag_stands);
                            prop_assert!(asleep || (idle_scans >= 2 && since_flag >= 2));
                        }
                    }
                    Step::Wait { how, until_ns } => {
                        prop_assert!(until_ns > now && until_ns - now <= LONGEST_SLEEP_NS);
                        let early = notified && how != How::Pause;
                        now = if early { (now + cost).min(until_ns) } else { until_ns };
                        let by = if early { Woken::Notified } else { Woken::Timeout };
                        step = pace.woken(now, by);
                    }
                }
            }
            prop_assert!(scans <= now / MS + BURST + extra + 1, "{} scans in {} ns", scans, now);
        }
    }
}
