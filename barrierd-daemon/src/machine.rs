//! What a scan of the slots lets the daemon publish: the rules, without clock or I/O.
//!
//! Owns each CPU's newest evidence, the minimum over CPUs, and the rounds of virtual time. Knows
//! nothing of files, BPF or how a scan was made; its caller keeps the order of steps that
//! [`Scan`] and [`Machine::opened`] ask for.
//!
//! **Credit.** A credit `a` for a CPU says: the CPU took a full memory barrier, in the kernel, after
//! the clock read `a`. It is given in four cases only: the CPU's slot holds `a`; the CPU was found idle
//! ([`IDLE`]); it is offline; the daemon itself runs on it. In the last three the credit is the scan's
//! `s`, read before all of that: the CPU was idle, offline or in the daemon's hands at a moment after
//! `s`, and getting there from user code and back is a barrier on either side.
//!
//! **Virtual time** runs in strictly serial rounds. Round `v` is opened by publishing `v`, a full
//! fence, then reading the clock: `T_v`. A CPU has `v` once its credit is at least `T_v`; all have
//! it: `v` is complete, and only then may `v + 1` open. A writer that stamps with a plain load of
//! the current vtime after a plain store may have that store still in its store buffer: it drains
//! in the next round, on the writer's own CPU, and the round after that is a barrier on every
//! reader's CPU. So `complete - 1` is published, and a stamp has passed when it is strictly less.
//!
//! **Restart.** `T_v` of an earlier process is lost, so nothing of virtual time is published until
//! this process has opened and completed both `v - 1` and `v`.

use crate::cpulist::CpuSet;

/// In a scan, the slot of a CPU that was found idle. Greater than every time, so that a minimum passes it over.
pub const IDLE: u64 = u64::MAX;

/// What an adopted file says that must stay true. All zero for a new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// `last_interrupt_ns` as it stood, in nanoseconds of `CLOCK_MONOTONIC`.
    pub last_interrupt_ns: u64,
    /// The greatest of all its words of virtual time.
    pub vtime: u64,
}

/// One scan of the machine. `s` was read from the clock, then came a full fence, then the mask, then
/// the slots; `own` was asked after `s`.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The evidence time of the scan, in nanoseconds.
    pub s: u64,
    /// The CPUs that may run user code.
    pub online: &'a CpuSet,
    /// The CPU that the daemon ran on.
    pub own: usize,
    /// Each CPU's slot; [`IDLE`] only where the CPU was in its idle task at a moment after `s`
    /// ([`read_slots`](crate::idle::read_slots)).
    pub slots: &'a [u64],
}

/// What a scan found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Online CPUs, the daemon's own excepted, that aren't known to be idle.
    pub busy: usize,
    /// The round of virtual time that this scan completed.
    pub completed: Option<u64>,
}

/// A round of virtual time under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    vtime: u64,
    opened_ns: u64,
}

/// The daemon's knowledge of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    credits: Box<[u64]>,
    last_interrupt_ns: u64,
    /// The newest vtime that is published, complete or not.
    vtime: u64,
    open: Option<Round>,
    /// The first vtime that this process opens.
    first: u64,
    /// The newest evidence time that a scan used.
    latest_s: u64,
}

impl Machine {
    /// A machine of `cpus` CPUs that nothing is known of yet.
    #[must_use]
    pub fn new(cpus: usize, inherited: Inherited) -> Self {
        Self {
            credits: vec![0; cpus].into(),
            last_interrupt_ns: inherited.last_interrupt_ns,
            vtime: inherited.vtime,
            open: None,
            first: inherited.vtime + 1,
            latest_s: 0,
        }
    }

    /// Takes in one scan. O(CPUs), no allocation.
    ///
    /// # Panics
    ///
    /// `scan.slots` has fewer entries than there are CPUs.
    pub fn scan(&mut self, scan: &Scan<'_>) -> Found {
        self.latest_s = self.latest_s.max(scan.s);
        let mut busy = 0;
        let mut covered = u64::MAX;
        let slots = &scan.slots[..self.credits.len()];
        // The usual case, without a test of the mask for each CPU.
        let all_online = scan.online.is_full();
        for (cpu, (credit, &slot)) in self.credits.iter_mut().zip(slots).enumerate() {
            let idle = slot == IDLE;
            let online = all_online || scan.online.contains(cpu);
            let evidence = if cfg!(barrierd_broken_credit) {
                // Unsound, on purpose: a build that `make vm` must find out. Where CPUs are busy the scan comes
                // some 200 us after `s`; and clients distrust what lies a millisecond ahead.
                scan.s + 900_000
            } else if idle || !online || cpu == scan.own {
                scan.s
            } else if slot <= scan.s {
                slot
            } else {
                // A time that the daemon can't have armed yet.
                0
            };
            busy += usize::from(online && !idle && cpu != scan.own);
            *credit = (*credit).max(evidence);
            covered = covered.min(*credit);
        }
        self.last_interrupt_ns = self.last_interrupt_ns.max(covered);
        let completed = self.open.take_if(|round| covered >= round.opened_ns);
        Found { busy, completed: completed.map(|round| round.vtime) }
    }

    /// The vtime to open, if no round is under way. The caller publishes it, runs a full fence,
    /// reads the clock and calls [`opened`](Self::opened).
    #[must_use]
    pub fn next_round(&self) -> Option<u64> {
        self.open.is_none().then_some(self.vtime + 1)
    }

    /// `vtime` was published, then came a full fence, then the clock read `at_ns`.
    ///
    /// # Panics
    ///
    /// `vtime` is not [`next_round`](Self::next_round)'s, or `at_ns` is not later than the evidence
    /// time of every scan: then credits from before the vtime was visible would complete it.
    pub fn opened(&mut self, vtime: u64, at_ns: u64) {
        assert_eq!(self.next_round(), Some(vtime), "rounds of virtual time are serial");
        assert!(at_ns > self.latest_s, "{at_ns} is not after the scan of {}", self.latest_s);
        self.vtime = vtime;
        self.open = Some(Round { vtime, opened_ns: at_ns });
    }

    /// The barrier has passed for every time below this, in nanoseconds. Never decreases.
    #[must_use]
    pub fn last_interrupt_ns(&self) -> u64 {
        self.last_interrupt_ns
    }

    /// The same in virtual time; `None` until this process knows. Never decreases.
    #[must_use]
    pub fn last_interrupt_vtime(&self) -> Option<u64> {
        self.one_late(self.complete())
    }

    /// The newest vtime that is published.
    #[must_use]
    pub fn vtime(&self) -> u64 {
        self.vtime
    }

    /// The number of CPUs.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.credits.len()
    }

    /// The CPU with the oldest evidence; of several the first. O(CPUs).
    #[must_use]
    pub fn slowest(&self) -> usize {
        (0..self.cpus()).min_by_key(|&cpu| self.credits[cpu]).unwrap_or(0)
    }

    /// CPU `cpu`'s own watermark in nanoseconds. Never decreases.
    ///
    /// # Panics
    ///
    /// There is no such CPU.
    #[must_use]
    pub fn cpu_ns(&self, cpu: usize) -> u64 {
        self.credits[cpu]
    }

    /// CPU `cpu`'s own watermark in virtual time. Never decreases.
    ///
    /// One late as the global one: a stamp `x` below it drained on its writer's CPU in round
    /// `x + 1`, complete on all CPUs, and this CPU has round `x + 2` or a later one.
    ///
    /// # Panics
    ///
    /// There is no such CPU.
    #[must_use]
    pub fn cpu_vtime(&self, cpu: usize) -> Option<u64> {
        let has = match self.open {
            Some(round) if self.credits[cpu] >= round.opened_ns => round.vtime,
            _ => self.complete(),
        };
        self.one_late(has)
    }

    /// The newest complete round.
    fn complete(&self) -> u64 {
        self.open.map_or(self.vtime, |round| round.vtime - 1)
    }

    /// What may be published when `has` is complete: `has - 1`, if this process opened that too.
    fn one_late(&self, has: u64) -> Option<u64> {
        (has > self.first).then(|| has - 1)
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
