//! When to arm, check and scan: the rules, without clock or I/O.
//!
//! Owns the beat of a busy machine, the way into and out of sleep, and how long somebody who waits is
//! remembered. Knows nothing of slots or files: it is told what a scan found and what ended a wait, with
//! the time, and that somebody waits.
//!
//! **Keen and easy.** A wake-up costs 16 to 60 us on a virtual machine, the more the rarer it is, so
//! barriers that nobody waits for are made rarely. [`Pace::demand`] says that somebody waits, and makes the
//! daemon *keen* for [`LEASE_NS`]; without it the daemon is *easy*. Who only looks at the file leaves no
//! trace (the mapping is read-only), so an easy daemon goes on making barriers: at each wake-up it scans
//! what it armed at the last one, and arms anew. It wakes up each [`EASY_NS`] while another CPU is busy, and
//! each [`LONGEST_SLEEP_NS`], as the beat demands, while all others are idle; user tasks that come and go
//! wake nobody. A stamp has passed at the second wake-up after it at the latest, one in virtual time at the
//! third.
//!
//! Keen, it goes by the rest of this page.
//!
//! **Awake.** A busy CPU that has no other business takes an interrupt at each tick, and the ticks of
//! all CPUs fall together, at a phase of CLOCK_MONOTONIC that never changes. So once a cycle, a whole
//! number of ticks, the daemon arms [`LEAD_NS`] before the tick, and [`TRAIL_NS`] after it checks: have
//! all CPUs passed, it scans and rests until the next arming. Two wake-ups a cycle, none of them by
//! BPF. Armed at once after the last scan instead, every barrier would be a tick older when it is
//! published; armed all the time, most armings would be for nothing.
//!
//! Where the check finds that a CPU lags, the daemon listens: the last CPU wakes it. After
//! [`MISSES`] such rounds in a row the phase is wrong (or not known yet), and the earliest of the
//! notifications gives the new one.
//! While it listens it arms anew each pause, for a cycle: where ticks don't fall together each CPU
//! then passes with a fresh arming. After that cycle it scans, and goes on listening in whole cycles.
//! A round that lasted beyond the next arming is followed by the next at once.
//!
//! Where other interrupts come in plenty every check finds all CPUs past, whatever the phase.
//!
//! **Asleep.** On an idle machine nothing is worth a wake-up, and a lost wake-up would be a stamp
//! that waits for the next heartbeat. The way in:
//!
//! 1. set the flag `asleep`, full fence; from here on any user task that starts on any CPU takes
//!    the flag away and wakes the daemon (`sched_switch.bpf.c`);
//! 2. a scan that finds every other CPU idle: no user task ran on them from their slot's load on,
//!    or the flag is gone. Stamps taken before that may be later than this scan's `s`;
//! 3. a pause later a second one, its clock later than all those stamps by more than the margin,
//!    so its publication passes them all;
//! 4. scans until virtual time has passed what could be stamped by the first scan: two rounds;
//! 5. the flag still stands after all this, and after the last drain of the ring: sleep.
//!
//! The way out: a wake-up first waits a pause, doubling to [`MOST_BACKOFF_NS`] while wake-ups find
//! everyone idle again. Otherwise a client thread woken by the publication that the wake-up led to,
//! or another daemon, would go round with this one without end.

use barrierd_client::abi::HEARTBEAT_PERIOD_NS;

/// How long before the tick to arm, in nanoseconds: the daemon's own timer may be late.
pub const LEAD_NS: u64 = 150_000;

/// How long after the tick to check, in nanoseconds: its handlers take time, on all CPUs.
pub const TRAIL_NS: u64 = 50_000;

/// Rounds in a row that must end late before the phase is thought wrong.
pub const MISSES: u32 = 3;

/// Longest pause between two scans on the way into sleep, and between two armings of a round that
/// is late, in nanoseconds.
pub const MOST_PAUSE_NS: u64 = 1_000_000;

/// Where the user sets no period, a cycle is the fewest ticks that last this long, in nanoseconds.
pub const LEAST_CYCLE_NS: u64 = 3_000_000;

/// Longest wait after a wake-up from sleep, in nanoseconds.
pub const MOST_BACKOFF_NS: u64 = 20_000_000;

/// Longest sleep, in nanoseconds: a beat falls due, and a timer may be late.
pub const LONGEST_SLEEP_NS: u64 = HEARTBEAT_PERIOD_NS - HEARTBEAT_PERIOD_NS / 10;

/// How long the daemon stays keen after somebody was last seen to wait, in nanoseconds.
pub const LEASE_NS: u64 = 1_000_000_000;

/// Between two wake-ups of an easy daemon while another CPU is busy, in nanoseconds.
pub const EASY_NS: u64 = 64_000_000;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Scan, publish, tell [`Pace::scanned`].
    Scan,
    /// See whether all CPUs have passed what was armed, and tell [`Pace::checked`].
    Check,
    /// Wait, then ask [`Pace::woken`].
    Wait {
        /// What comes before the wait, and what may end it early.
        how: How,
        /// When it ends, in nanoseconds of `CLOCK_MONOTONIC`.
        until_ns: u64,
    },
}

/// What comes before a wait, and what may end it early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Don't arm; nothing ends it.
    Rest,
    /// Arm; nothing ends it.
    Pause,
    /// Arm; the last CPU to pass ends it.
    Listen,
    /// Arm; a user task that runs ends it. If one has run already, so that the flag is gone, the
    /// wait is over before it begins.
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
    /// Whether every CPU has passed what was listened for.
    pub passed: bool,
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
    Awake(Stage),
    /// On the way to sleep: step 1 is due.
    Drowsy,
    /// Steps 3 and 4, with the newest vtime that could be stamped by the first scan.
    Settling { vtime: u64 },
    /// Asleep, or beating.
    Asleep,
    /// Nobody waits.
    Easy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the next arming.
    Resting,
    /// Armed; the tick is due, then the check.
    Armed,
    /// Some CPU lagged at the check.
    Listening { since_ns: u64 },
}

/// The daemon's sense of time.
#[derive(Clone, Debug)]
pub struct Pace {
    cycle_ns: u64,
    pause_ns: u64,
    mode: Mode,
    /// Until when the daemon is keen.
    keen_until_ns: u64,
    backoff_ns: u64,
    /// The arming that is due, or the last one as it was due. The tick is [`LEAD_NS`] later.
    arm_at_ns: u64,
    /// Rounds in a row that ended late.
    misses: u32,
    /// The earliest end among them, counted from the tick as it was expected.
    earliest_ns: u64,
}

/// How long a cycle is, in nanoseconds, on a kernel whose ticks are `tick_ns` apart. A `period_ns`
/// that is given counts as it is below a tick, else as the next whole number of ticks.
///
/// # Panics
///
/// `tick_ns` is 0.
#[must_use]
pub fn cycle_ns(tick_ns: u64, period_ns: Option<u64>) -> u64 {
    match period_ns {
        Some(period) if period < tick_ns => period,
        Some(period) => period.next_multiple_of(tick_ns),
        None => LEAST_CYCLE_NS.next_multiple_of(tick_ns),
    }
}

impl Pace {
    /// Starts awake and keen, with a scan due: the first lease finds out the phase. `cycle_ns` is the
    /// time between two barriers while some other CPU is busy and somebody waits.
    ///
    /// # Panics
    ///
    /// `cycle_ns` is 0 or longer than [`LONGEST_SLEEP_NS`].
    #[must_use]
    pub fn new(cycle_ns: u64, now_ns: u64) -> Self {
        assert!((1..=LONGEST_SLEEP_NS).contains(&cycle_ns), "a cycle of {cycle_ns} ns");
        let pause_ns = cycle_ns.min(MOST_PAUSE_NS);
        Self {
            cycle_ns,
            pause_ns,
            mode: Mode::Awake(Stage::Resting),
            keen_until_ns: now_ns.saturating_add(LEASE_NS),
            backoff_ns: pause_ns,
            arm_at_ns: now_ns,
            misses: 0,
            earliest_ns: u64::MAX,
        }
    }

    /// The same, but keen for good.
    #[must_use]
    pub fn always_keen(self) -> Self {
        Self { keen_until_ns: u64::MAX, ..self }
    }

    /// Somebody was seen to wait. To be said before [`scanned`](Self::scanned) or
    /// [`served`](Self::served), so that they go by it.
    pub fn demand(&mut self, now_ns: u64) {
        self.keen_until_ns = self.keen_until_ns.max(now_ns.saturating_add(LEASE_NS));
    }

    /// Whether the wait that comes is an easy one.
    #[must_use]
    pub fn is_easy(&self) -> bool {
        self.mode == Mode::Easy
    }

    /// What the next scan needs of the flag.
    #[must_use]
    pub fn flag(&self) -> Flag {
        match self.mode {
            Mode::Awake(_) | Mode::Easy => Flag::Clear,
            Mode::Drowsy => Flag::Set,
            Mode::Settling { .. } | Mode::Asleep => Flag::Keep,
        }
    }

    /// A scan was made and published: what now?
    pub fn scanned(&mut self, found: &Found) -> Step {
        let now = found.now_ns;
        if now >= self.keen_until_ns {
            self.mode = Mode::Easy;
            self.backoff_ns = self.pause_ns;
            let wait_ns = if found.others_idle { LONGEST_SLEEP_NS } else { EASY_NS };
            return Step::Wait { how: How::Pause, until_ns: now + wait_ns };
        }
        let after_pause = now + self.pause_ns;
        if !found.others_idle {
            self.backoff_ns = self.pause_ns;
            if matches!(self.mode, Mode::Awake(Stage::Listening { .. })) && !found.passed {
                return Step::Wait { how: How::Listen, until_ns: now + self.cycle_ns };
            }
            return self.rest(now);
        }
        match self.mode {
            Mode::Awake(_) | Mode::Easy => {
                self.mode = Mode::Drowsy;
                Step::Wait { how: How::Pause, until_ns: after_pause }
            }
            _ if !found.flag_stands => self.back_off(now),
            Mode::Drowsy => {
                self.mode = Mode::Settling { vtime: found.vtime };
                Step::Wait { how: How::Pause, until_ns: after_pause }
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
            (Mode::Awake(Stage::Resting), _) => self.armed(now_ns),
            (Mode::Awake(Stage::Listening { .. }), Woken::Notified) => {
                self.missed(now_ns);
                Step::Scan
            }
            (Mode::Awake(Stage::Armed | Stage::Listening { .. }), _) => Step::Check,
            (Mode::Asleep, Woken::Notified) => self.back_off(now_ns),
            _ => Step::Scan,
        }
    }

    /// The check was made; `passed`: every other CPU has passed what was armed, or is idle.
    pub fn checked(&mut self, now_ns: u64, passed: bool) -> Step {
        let since_ns = match self.mode {
            Mode::Awake(Stage::Listening { since_ns }) => since_ns,
            _ => {
                if passed {
                    self.misses = 0;
                    self.earliest_ns = u64::MAX;
                }
                now_ns
            }
        };
        if passed {
            self.mode = Mode::Awake(Stage::Resting);
            return Step::Scan;
        }
        self.mode = Mode::Awake(Stage::Listening { since_ns });
        let give_up = since_ns + self.cycle_ns;
        if now_ns >= give_up {
            return Step::Scan;
        }
        Step::Wait { how: How::Listen, until_ns: give_up.min(now_ns + self.pause_ns) }
    }

    /// A wait was interrupted by a request, which has been served by an arming and a scan of its
    /// own: what instead of the rest of the wait? `None`: go on with it.
    #[must_use]
    pub fn served(&self, now_ns: u64) -> Option<Step> {
        match self.mode {
            Mode::Awake(Stage::Listening { .. }) => Some(Step::Check),
            // Somebody has come.
            Mode::Easy if now_ns < self.keen_until_ns => Some(Step::Scan),
            _ => None,
        }
    }

    /// Until the next arming that isn't past.
    fn rest(&mut self, now_ns: u64) -> Step {
        let listened = matches!(self.mode, Mode::Awake(Stage::Listening { .. }));
        self.mode = Mode::Awake(Stage::Resting);
        if let Some(past) = now_ns.checked_sub(self.arm_at_ns) {
            let cycles = past / self.cycle_ns;
            if cycles > 0 && listened {
                self.arm_at_ns += cycles * self.cycle_ns;
                return self.armed(now_ns);
            }
            self.arm_at_ns += (cycles + 1) * self.cycle_ns;
        }
        Step::Wait { how: How::Rest, until_ns: self.arm_at_ns }
    }

    /// The arming is due, and the tick after it.
    fn armed(&mut self, now_ns: u64) -> Step {
        self.mode = Mode::Awake(Stage::Armed);
        let late = now_ns > self.arm_at_ns + LEAD_NS / 2;
        let from = if late { now_ns } else { self.arm_at_ns };
        Step::Wait { how: How::Pause, until_ns: from + LEAD_NS + TRAIL_NS }
    }

    /// The last CPU passed at `now_ns` only.
    fn missed(&mut self, now_ns: u64) {
        let late_by = now_ns.saturating_sub(self.arm_at_ns + LEAD_NS) % self.cycle_ns;
        self.earliest_ns = self.earliest_ns.min(late_by);
        self.misses += 1;
        if self.misses == MISSES {
            self.misses = 0;
            self.arm_at_ns += std::mem::replace(&mut self.earliest_ns, u64::MAX);
        }
    }

    /// A user task ran while everyone else was idle: start over, later each time.
    fn back_off(&mut self, now_ns: u64) -> Step {
        let wait = self.backoff_ns;
        self.backoff_ns = (wait * 2).min(MOST_BACKOFF_NS);
        self.mode = Mode::Drowsy;
        Step::Wait { how: How::Pause, until_ns: now_ns + wait }
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
