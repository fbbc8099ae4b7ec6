//! Whom to kick: the rules, without clock or I/O.
//!
//! Owns who may be interrupted for whom and by which means, the limit on kicks, and which kicks are thought dead. Knows
//! nothing of how a kick is made, nor what a barrier is: a kick is a nudge and proves nothing. After
//! a hotplug cycle a perf event stays off, reading it succeeds, and nobody is interrupted; only the
//! slot that moves is evidence. So a kick that shows nothing is tried again, and then by other means.

use crate::bucket::Bucket;
use crate::cpulist::CpuSet;

/// Kicks in a row that missed by all means, after which that CPU's kicks are thought dead.
pub const MOST_MISSES: u8 = 3;

/// Misses that count are at least this far apart, in nanoseconds. A CPU that takes a kick along with an
/// earlier interrupt, or polls in its idle task, may miss several within microseconds and be well; a
/// dead one misses them all, and to find that out takes three reads that interrupt nobody.
pub const MISS_SPREAD_NS: u64 = 5_000_000;

/// Between two kicks that are thought dead, in nanoseconds. Not never: the CPU may just have polled
/// in its idle task all the time.
pub const RETRY_NS: u64 = 1_000_000_000;

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A CPU that lags this far is kicked though nobody waits, in nanoseconds.
    pub bound_ns: u64,
    /// The same for isolated CPUs, whoever waits; `None`: they are never kicked.
    pub isolated_bound_ns: Option<u64>,
    /// Isolated CPUs are treated as all others.
    pub kick_isolated: bool,
    /// Kicks a second, over all CPUs.
    pub kicks_per_second: u32,
}

/// How to kick: what [`kick`](crate::kick) can do with a CPU's perf event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// Read the event.
    Read,
    /// Enable or disable it, in turn: the first may find it so already, and then does nothing.
    Toggle,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Someone who waits.
    Waiter,
    /// The bound.
    Bound,
}

/// What became of a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The slot moved.
    Moved,
    /// It didn't.
    Missed,
    /// It didn't, once too often: from now on this CPU is kicked each [`RETRY_NS`] at most.
    Died,
}

/// Every CPU's standing.
#[derive(Clone, Debug)]
pub struct Laggards {
    rules: Rules,
    isolated: CpuSet,
    /// Those that could not be made kickable though they were online.
    closed: CpuSet,
    /// Kicks that moved nothing, since the last one that did, as far as they count.
    misses: Box<[u8]>,
    /// When the last of them was made.
    missed_ns: Box<[u64]>,
    /// Until when toggling comes first, because reads did not interrupt that CPU.
    toggle_until_ns: Box<[u64]>,
    /// When to try again those that are thought dead.
    retry_ns: Box<[u64]>,
    bucket: Bucket,
}

impl Laggards {
    /// The CPUs of `reachable` can be kicked, no others; `online` are those that were there to be made
    /// so.
    #[must_use]
    pub fn new(rules: Rules, isolated: CpuSet, reachable: &CpuSet, online: &CpuSet) -> Self {
        let cpus = reachable.capacity();
        let mut closed = CpuSet::none(cpus);
        online.iter().filter(|&cpu| !reachable.contains(cpu)).for_each(|cpu| closed.insert(cpu));
        let misses = (0..cpus).map(|cpu| if reachable.contains(cpu) { 0 } else { MOST_MISSES });
        let retry_ns = vec![u64::MAX; cpus].into();
        let (missed_ns, toggle_until_ns) = (vec![0; cpus].into(), vec![0; cpus].into());
        // Enough for one round over all CPUs at once, whatever the rate.
        let burst = u32::try_from(cpus).unwrap_or(u32::MAX).max(rules.kicks_per_second / 100);
        let bucket = Bucket::new(rules.kicks_per_second, burst);
        let misses = misses.collect();
        Self { rules, isolated, closed, misses, missed_ns, toggle_until_ns, retry_ns, bucket }
    }

    /// These CPUs are isolated from now on. Without allocation.
    pub fn isolate(&mut self, cpus: &CpuSet) {
        self.isolated.clear();
        self.isolated.extend(cpus);
    }

    /// Whether to kick `cpu` now, which lags and whose last barrier point is `lag_ns` old.
    /// Takes a token if so.
    pub fn kick(&mut self, cpu: usize, lag_ns: u64, whom: For, now_ns: u64) -> bool {
        self.wants(cpu, lag_ns, whom, now_ns) && self.bucket.take(now_ns)
    }

    fn wants(&self, cpu: usize, lag_ns: u64, whom: For, now_ns: u64) -> bool {
        let bound_ns = self.bound_of(cpu, whom);
        let alive = self.misses[cpu] < MOST_MISSES || now_ns >= self.retry_ns[cpu];
        alive && bound_ns.is_some_and(|bound| lag_ns >= bound)
    }

    /// How old the last barrier point of `cpu` may be before it is kicked, in nanoseconds.
    fn bound_of(&self, cpu: usize, whom: For) -> Option<u64> {
        if self.isolated.contains(cpu) && !self.rules.kick_isolated {
            return self.rules.isolated_bound_ns;
        }
        match whom {
            For::Waiter => Some(0),
            For::Bound => Some(self.rules.bound_ns),
        }
    }

    /// Whether `cpu`, whose last barrier point is `lag_ns` old, may hold barriers up: the operator has
    /// it left alone, for so long or for good, or there are no means. Another start would change nothing.
    /// Not one whose kicks are thought dead, nor one that came online after the start.
    #[must_use]
    pub fn may_hold_up(&self, cpu: usize, lag_ns: u64) -> bool {
        let bound_ns = self.bound_of(cpu, For::Bound);
        self.closed.contains(cpu)
            || self.rules.kicks_per_second == 0
            || bound_ns.is_none_or(|bound_ns| lag_ns < bound_ns)
    }

    /// What to try on `cpu`, one after the other, until its slot moves. Reads come first, twice, since a
    /// CPU that is on its way out of a handler takes a kick along; of two toggles one may do nothing.
    #[must_use]
    pub fn means(&self, cpu: usize, now_ns: u64) -> &'static [Means] {
        if now_ns < self.toggle_until_ns[cpu] {
            &[Means::Toggle, Means::Toggle, Means::Read]
        } else {
            &[Means::Read, Means::Read, Means::Toggle, Means::Toggle]
        }
    }

    /// Takes in by what means the slot of `cpu` moved, if by any, in the kick that was made at `now_ns`.
    pub fn kicked(&mut self, cpu: usize, moved: Option<Means>, now_ns: u64) -> Outcome {
        if let Some(by) = moved {
            if by == Means::Toggle && now_ns >= self.toggle_until_ns[cpu] {
                self.toggle_until_ns[cpu] = now_ns.saturating_add(RETRY_NS);
            }
            self.misses[cpu] = 0;
            return Outcome::Moved;
        }
        self.retry_ns[cpu] = now_ns.saturating_add(RETRY_NS);
        let again = now_ns.saturating_sub(self.missed_ns[cpu]) < MISS_SPREAD_NS;
        if self.misses[cpu] == MOST_MISSES || (self.misses[cpu] > 0 && again) {
            return Outcome::Missed;
        }
        self.missed_ns[cpu] = now_ns;
        self.misses[cpu] += 1;
        if self.misses[cpu] < MOST_MISSES { Outcome::Missed } else { Outcome::Died }
    }

    /// The least age of a barrier point at which [`For::Bound`] kicks anyone, in nanoseconds.
    #[must_use]
    pub fn bound_ns(&self) -> u64 {
        self.rules.bound_ns.min(self.rules.isolated_bound_ns.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules {
        bound_ns: 10,
        isolated_bound_ns: Some(1_000),
        kick_isolated: false,
        kicks_per_second: 1_000_000,
    };

    /// CPU 1 of 4 is isolated, CPU 3 can't be kicked.
    fn laggards(rules: Rules) -> Laggards {
        let (mut isolated, mut reachable) = (CpuSet::none(4), CpuSet::none(4));
        isolated.parse(b"1\n").expect("a list");
        reachable.parse(b"0-2\n").expect("a list");
        Laggards::new(rules, isolated, &reachable, &CpuSet::all(4))
    }

    fn kicked(rules: Rules, lag_ns: u64, whom: For) -> Vec<usize> {
        let mut laggards = laggards(rules);
        (0..4).filter(|&cpu| laggards.kick(cpu, lag_ns, whom, 1)).collect()
    }

    #[test]
    fn for_a_waiter_at_once_and_for_nobody_past_the_bound() {
        assert_eq!(kicked(RULES, 1, For::Waiter), [0, 2]);
        assert_eq!(kicked(RULES, 9, For::Bound), []);
        assert_eq!(kicked(RULES, 10, For::Bound), [0, 2]);
    }

    #[test]
    fn isolated_cpus_only_when_asked_or_past_their_own_bound() {
        assert_eq!(kicked(RULES, 999, For::Waiter), [0, 2]);
        assert_eq!(kicked(RULES, 1_000, For::Waiter), [0, 1, 2]);
        assert_eq!(kicked(RULES, 1_000, For::Bound), [0, 1, 2]);
        let never = Rules { isolated_bound_ns: None, ..RULES };
        assert_eq!(kicked(never, u64::MAX, For::Waiter), [0, 2]);
        let asked = Rules { kick_isolated: true, ..never };
        assert_eq!(kicked(asked, 1, For::Waiter), [0, 1, 2]);
        assert_eq!(kicked(asked, 9, For::Bound), []);
        assert_eq!(kicked(asked, 10, For::Bound), [0, 1, 2]);
    }

    #[test]
    fn b15_isolated_are_those_that_were_named_last() {
        let mut laggards = laggards(RULES);
        let mut isolated = CpuSet::none(4);
        isolated.insert(2);
        laggards.isolate(&isolated);
        let mut kicked = |lag_ns| -> Vec<usize> {
            (0..4).filter(|&cpu| laggards.kick(cpu, lag_ns, For::Waiter, 1)).collect()
        };
        assert_eq!(kicked(999), [0, 1]);
        assert_eq!(kicked(1_000), [0, 1, 2]);
    }

    #[test]
    fn b7_who_may_hold_barriers_up() {
        let holds_up = |rules, lag_ns| {
            let laggards = laggards(rules);
            (0..4).filter(|&cpu| laggards.may_hold_up(cpu, lag_ns)).collect::<Vec<_>>()
        };
        // CPU 3 can't be kicked, CPU 1 is left alone for longer than the others.
        assert_eq!(holds_up(RULES, 9), [0, 1, 2, 3]);
        assert_eq!(holds_up(RULES, 10), [1, 3]);
        assert_eq!(holds_up(RULES, 1_000), [3]);
        assert_eq!(holds_up(Rules { isolated_bound_ns: None, ..RULES }, u64::MAX), [1, 3]);
        assert_eq!(holds_up(Rules { kick_isolated: true, ..RULES }, 10), [3]);
        assert_eq!(holds_up(Rules { kicks_per_second: 0, ..RULES }, u64::MAX), [0, 1, 2, 3]);
        // Kicks that are thought dead, and CPUs that came later, are what another start is for.
        let mut dead = laggards(RULES);
        for miss in 1..=u64::from(MOST_MISSES) {
            dead.kicked(0, None, miss * MISS_SPREAD_NS);
        }
        assert!(!dead.may_hold_up(0, 10));
        let none = CpuSet::none(4);
        let mut later = Laggards::new(RULES, CpuSet::none(4), &none, &none);
        assert!(!later.may_hold_up(2, 10) && !later.kick(2, 10, For::Bound, 1));
    }

    #[test]
    fn whom_reads_do_not_interrupt_is_toggled_first_for_a_while() {
        let mut laggards = laggards(RULES);
        let now = 1_000_000_000;
        assert_eq!(laggards.means(0, now)[0], Means::Read);
        assert_eq!(laggards.kicked(0, Some(Means::Toggle), now), Outcome::Moved);
        assert_eq!(laggards.means(0, now)[0], Means::Toggle);
        assert_eq!(laggards.means(2, now)[0], Means::Read, "the others as before");
        // However often it is toggled meanwhile.
        assert_eq!(laggards.kicked(0, Some(Means::Toggle), now + RETRY_NS / 2), Outcome::Moved);
        assert_eq!(laggards.means(0, now + RETRY_NS)[0], Means::Read);
        assert!(laggards.means(0, now).contains(&Means::Read));
        assert_eq!(laggards.means(0, 0).iter().filter(|&&means| means == Means::Toggle).count(), 2);
    }

    #[test]
    fn after_misses_spread_over_time_it_is_tried_once_a_second() {
        let mut laggards = laggards(RULES);
        let mut now = 1_000_000_000;
        let kick = |laggards: &mut Laggards, now| laggards.kick(0, 50, For::Waiter, now);
        let missed = |laggards: &mut Laggards, now| {
            assert!(kick(laggards, now));
            laggards.kicked(0, None, now)
        };
        // Any number at once is one.
        for _ in 0..50 {
            assert_eq!(missed(&mut laggards, now + MISS_SPREAD_NS - 1), Outcome::Missed);
        }
        now += 2 * MISS_SPREAD_NS;
        assert_eq!(missed(&mut laggards, now), Outcome::Missed);
        // One that moves it makes up for them.
        assert!(kick(&mut laggards, now));
        assert_eq!(laggards.kicked(0, Some(Means::Read), now), Outcome::Moved);
        for _ in 1..MOST_MISSES {
            assert_eq!(missed(&mut laggards, now), Outcome::Missed);
            now += MISS_SPREAD_NS;
        }
        assert_eq!(missed(&mut laggards, now), Outcome::Died);
        assert!(!kick(&mut laggards, now + RETRY_NS - 1));
        assert!(laggards.kick(2, 50, For::Waiter, now), "the others go on");
        // Still dead, said once.
        let later = now + RETRY_NS;
        assert!(kick(&mut laggards, later));
        assert_eq!(laggards.kicked(0, None, later), Outcome::Missed);
        assert!(!kick(&mut laggards, later + 1));
        assert!(kick(&mut laggards, later + RETRY_NS));
        assert_eq!(laggards.kicked(0, Some(Means::Read), later + RETRY_NS), Outcome::Moved);
        assert!(kick(&mut laggards, later + RETRY_NS));
        assert!(!laggards.kick(3, 50, For::Waiter, u64::MAX - 1), "there is nothing to kick it by");
    }

    #[test]
    fn no_kicks_a_second_are_none() {
        let rules = Rules { kicks_per_second: 0, kick_isolated: true, ..RULES };
        assert_eq!(kicked(rules, u64::MAX, For::Waiter), []);
    }

    proptest! {
        /// Over any second no more than the rate and the burst, however many ask and for whom.
        #[test]
        fn the_rate_holds(
            rate in 1u32..5_000,
            asks in proptest::collection::vec((0usize..4, any::<bool>(), 0u64..2_000_000), 1..500),
        ) {
            let rules = Rules { kicks_per_second: rate, kick_isolated: true, ..RULES };
            let mut laggards = laggards(rules);
            let (mut now, mut kicks) = (0u64, 0u64);
            for (cpu, waits, pause) in asks {
                now += pause;
                let whom = if waits { For::Waiter } else { For::Bound };
                kicks += u64::from(laggards.kick(cpu, 100, whom, now));
            }
            let burst = u64::from((rate / 100).max(4));
            prop_assert!(kicks <= burst + now * u64::from(rate) / 1_000_000_000 + 1);
        }
    }
}
