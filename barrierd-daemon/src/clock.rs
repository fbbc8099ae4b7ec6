//! `CLOCK_MONOTONIC`, and the times that serve as evidence.
//!
//! Owns what makes a reading a bound for all later ones, and the strict order of evidence times. Knows
//! nothing of what they prove.

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
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

fn nanoseconds(time: Timespec) -> u64 {
    // Neither is ever negative: these clocks start at boot.
    let part = |n: i64| u64::try_from(n).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
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
pub fn sleep(ns: u64) {
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

/// `CLOCK_MONOTONIC_RAW` in nanoseconds: the counter alone, at one rate from boot on, so it never steps
/// back. It measures how long something took. Cost: as [`now_ns`].
fn raw_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::MonotonicRaw))
}

/// For how long this thread has run, in nanoseconds. Cost: a system call, 0.3 us.
#[must_use]
pub fn running_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ThreadCPUTime))
}

/// Waits until the kernel is not updating its clocks: `adjtimex` with modes 0, which needs no privilege
/// and changes nothing, takes the lock under which it updates them (`do_adjtimex` and
/// `timekeeping_advance` in kernel/time/timekeeping.c, in every kernel that has what the daemon needs).
/// What comes after runs after every update that began before. Cost: a system call, 1.3 to 2.6 us.
fn pass_the_lock() -> io::Result<()> {
    // SAFETY: plain numbers, for which zeros are values; modes 0 is "read".
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // Not the C library's function of this name, which makes whatever call it prefers: clock_adjtime.
    // SAFETY: `state` is a `timex` for it to read and to write, as the kernel has it on 64 bits.
    match unsafe { libc::syscall(libc::SYS_adjtimex, &raw mut state) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes evidence times: each is no later than any `CLOCK_MONOTONIC` reading that anybody makes after
/// it was read, on any CPU, and each is later than the last.
///
/// **The clock steps back.** To slew it the kernel reads the counter (moment `u0`), computes a new rate
/// with which the clock goes on from what it shows at `u0`, and makes that known (`u1`), all under one
/// lock. Whoever reads the clock in between still sees the old rate. If the new rate is lower, the clock
/// steps back at `u1`, by `u1 - u0` times the difference; if a hypervisor takes the CPU away in
/// between, by much more than the margin. It never shows less than it did at `u0`.
///
/// **So** a reading exceeds a later one only if an update was under way when it was made, and then by
/// no more than the time since that update's `u0`, times what the rate fell. An evidence time is read
/// after the lock was free (`pass_the_lock`), so such an update began after that: the time since is at
/// most what the two steps took by the raw clock, whatever stalls them. All of that is subtracted. Half
/// would do: the rate lies within 23 % of the counter's (`ADJ_TICK` 10 %, a phase correction 12.5 %,
/// frequency and `adjtime` 0.05 % each). Kernels that discipline themselves by a pulse a second
/// (`CONFIG_NTP_PPS`, which rules out dynamic ticks) may correct 50 %, and stay below the whole too.
///
/// **The margin** ([`CLOCK_MARGIN_NS`]) is for the counters of two CPUs, which may differ by a little.
///
/// **Strictly increasing**, because "the slot holds at least `T_v`" must mean "of the arming of `T_v`
/// or a later one": an older time that is no smaller would complete a round of virtual time with
/// barriers from before it. Where the reading is not later than the last time given, that and a
/// nanosecond is given. It is true as well: since that one was read, every clock has gained more than
/// a nanosecond, for there was a system call in between, and the least rate is three quarters.
#[derive(Debug)]
pub struct EvidenceClock {
    last: u64,
}

impl EvidenceClock {
    /// A clock that has given no time yet.
    ///
    /// # Errors
    ///
    /// The kernel doesn't let this process look at its clock's state.
    pub fn new() -> Result<Self> {
        match pass_the_lock() {
            Ok(()) => Ok(Self { last: 0 }),
            Err(error) => bail!(
                "asking the kernel for the state of its clock (adjtimex that changes nothing, which \
                 needs no privilege): {error}; a seccomp filter forbids it, and without it a barrier \
                 might pass early while the clock is slewed: allow adjtimex in the container's seccomp \
                 profile; under systemd, set ProtectClock=no and SystemCallFilter=adjtimex"
            ),
        }
    }

    /// The next evidence time, in nanoseconds: the barrier of a CPU that acts on it comes after
    /// the moment when every clock has passed it. Cost: a system call and three readings.
    pub fn read(&mut self) -> u64 {
        let before = raw_ns();
        let passed = pass_the_lock().is_ok();
        let clock = now_ns();
        // The counters of two CPUs may differ; by less than the margin.
        let took = raw_ns().saturating_sub(before);
        // It was allowed at the start. If it no longer is, there is no reading, only the last time.
        self.after(if passed { bound(clock, took) } else { 0 })
    }

    /// The time that was given last, which is still true: for whoever needs no newer one.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    fn after(&mut self, bound_ns: u64) -> u64 {
        self.last = bound_ns.max(self.last + 1);
        self.last
    }
}

/// What every clock shows at least from now on, if one shows `clock_ns` and was read within the last
/// `took_ns`, at the beginning of which no update was under way.
fn bound(clock_ns: u64, took_ns: u64) -> u64 {
    clock_ns.saturating_sub(CLOCK_MARGIN_NS).saturating_sub(took_ns)
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
    use proptest::prelude::*;

    #[test]
    fn evidence_is_older_than_the_clock_and_strictly_increases() {
        let mut clock = EvidenceClock::new().expect("adjtimex");
        assert_eq!(clock.after(1_000_000), 1_000_000);
        // The clock stands still, then steps back.
        assert_eq!(clock.after(1_000_000), 1_000_001);
        assert_eq!(clock.after(999_000), 1_000_002);
        assert_eq!((clock.after(2_000_000), clock.last()), (2_000_000, 2_000_000));
        assert!(clock.read() < now_ns());
    }

    /// The kernel's clock, in nanoseconds of the counter and a grain of the rate: what it shows is
    /// linear between updates, and an update is continuous at the moment of its own reading.
    #[derive(Clone, Copy, Debug)]
    struct Kernel {
        /// When the update read the counter, and what the clock showed then.
        from: u64,
        shown: u64,
        /// Thousandths of the counter's.
        rate: u64,
    }

    impl Kernel {
        fn shows(&self, at: u64) -> u64 {
            self.shown + (at - self.from) * self.rate / 1_000
        }

        fn updated(&self, at: u64, rate: u64) -> Kernel {
            Kernel { from: at, shown: self.shows(at), rate }
        }
    }

    #[derive(Clone, Copy, Debug)]
    struct Update {
        /// Free, before it begins.
        free_ns: u64,
        /// From its reading of the counter until others see it.
        under_way_ns: u64,
        rate: u64,
    }

    fn update() -> impl Strategy<Value = Update> {
        // A vCPU may be away for long, and seldom is.
        let spans = || prop_oneof![0..2_000u64, 0..50_000_000u64];
        (spans(), spans(), 770..=1_230u64).prop_map(|(free_ns, under_way_ns, rate)| Update {
            free_ns,
            under_way_ns,
            rate,
        })
    }

    /// What a reading at `at` shows, and whether an update is under way then; the lock is free from the
    /// moment that follows.
    fn reading(updates: &[Update], at: u64) -> (u64, Option<u64>) {
        let mut kernel = Kernel { from: 0, shown: 1_000_000_000, rate: 1_000 };
        let mut now = 0;
        for update in updates {
            let begins = now + update.free_ns;
            let ends = begins + update.under_way_ns;
            if at < begins {
                break;
            }
            if at < ends {
                return (kernel.shows(at), Some(ends));
            }
            kernel = kernel.updated(begins, update.rate);
            now = ends;
        }
        (kernel.shows(at), None)
    }

    proptest! {
        /// Whatever the slew and whoever is stalled where: what was read before is below all that is
        /// read later. The reading falls into an update that began after the lock was free.
        #[test]
        fn b1_evidence_is_below_every_later_reading(
            updates in proptest::collection::vec(update(), 1..10),
            which in any::<proptest::sample::Index>(),
            [before, into] in [0..=100u64, 0..=100u64],
            stall in 0..1_000_000u64,
            later in proptest::collection::vec(0..60_000_000u64, 1..40),
        ) {
            let which = which.index(updates.len());
            let passed = updates[..which].iter().map(|u| u.free_ns + u.under_way_ns).sum::<u64>();
            let Update { free_ns, under_way_ns, .. } = updates[which];
            let part = |of: u64, share: u64| of * share / 100;
            let begins = passed + free_ns;
            let start = begins - part(free_ns, before);
            let read = begins + part(under_way_ns, into);
            let evidence = bound(reading(&updates, read).0, read + stall - start);
            let after = passed + free_ns + under_way_ns;
            for later in later.into_iter().chain([0, after - read]) {
                let shown = reading(&updates, read + later).0;
                prop_assert!(evidence <= shown, "{} > {}", evidence, shown);
            }
        }
    }

    /// The property above can fail: an update that reads the counter, loses its CPU for 50 ms, and makes
    /// a lower rate known.
    #[test]
    fn b1_a_reading_alone_may_be_far_above_a_later_one() {
        let updates = [Update { free_ns: 1_000, under_way_ns: 50_000_000, rate: 800 }];
        let read = 50_000_900;
        let (shown, busy) = reading(&updates, read);
        let later = reading(&updates, read + 200).0;
        assert_eq!(busy, Some(50_001_000));
        assert!(shown - CLOCK_MARGIN_NS > later + 9_900_000, "{shown}, then {later}");
        // With the lock taken before, the reading comes after the update.
        let read = busy.expect("under way") + 10;
        assert!(bound(reading(&updates, read).0, read - 900) <= later);
    }

    /// A container's filter, here one thread's.
    #[test]
    fn b1_a_filter_that_forbids_adjtimex_is_named() {
        let error = std::thread::spawn(|| {
            use libseccomp::{ScmpAction, ScmpFilterContext, ScmpSyscall};
            let mut filter = ScmpFilterContext::new(ScmpAction::Allow).expect("a filter");
            let call = ScmpSyscall::from_name("adjtimex").expect("known");
            filter.add_rule(ScmpAction::Errno(libc::EPERM), call).expect("a rule");
            filter.load().expect("loaded");
            EvidenceClock::new().expect_err("forbidden").to_string()
        });
        let error = error.join().expect("no panic");
        assert!(error.contains("Operation not permitted"), "{error}");
        assert!(error.contains("seccomp") && error.contains("ProtectClock=no"), "{error}");
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
        sleep(2_000_000);
        assert!(now_ns() - before >= 2_000_000);
    }

    #[test]
    fn tests_run_in_the_initial_namespace() {
        check_time_namespace().expect("the initial time namespace");
    }
}
