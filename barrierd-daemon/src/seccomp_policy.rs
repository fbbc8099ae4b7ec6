//! What the daemon may ask of the kernel once it is set up: one table, with a reason for each row.
//!
//! Owns the table, and what a row means as numbers. Knows nothing of how a filter is made of them.
//! Whatever no row allows kills the process.

use std::os::fd::AsRawFd;

/// What a descriptor is for. Each row that takes one names its role, never "any descriptor".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What log lines are written to. There is none where that is a socket.
    Log,
    /// The same where it is one, as journald's.
    LogSocket,
    /// The handlers' ends of the pipe that signals to stop write to.
    Stop,
    /// sysfs's list of online CPUs.
    Online,
    /// cgroup v2's list of isolated CPUs. There is none on kernels before 6.8, nor where cgroup v1 has
    /// the cpuset controller.
    Isolated,
    /// The perf events that kick, one a CPU. There is none where none could be opened.
    Kick,
    /// The socket for expedited requests. There is none where there is no socket.
    Requests,
    /// The connection to the supervisor. There is none where no supervisor asked for one.
    Supervisor,
}

/// A condition on an argument. A row holds if all of its conditions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The first argument is a descriptor of this role.
    On(Role),
    /// Argument `.0`, counted from 0, is `.1`.
    Is(u32, u64),
}

/// Whether a daemon that runs for seconds and then stops makes the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It does: a trace that lacks it has found a row too many.
    Always,
    /// Not on every machine or in every run, for this reason.
    Rarely(&'static str),
}

/// An allowed system call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name.
    pub call: &'static str,
    /// Its conditions.
    pub when: &'static [When],
    /// Whether a trace shows it.
    pub seen: Seen,
    /// What needs it.
    pub why: &'static str,
}

/// `_IO('$', 0)` and `_IO('$', 1)` in include/uapi/linux/perf_event.h.
pub(crate) const PERF_EVENT_IOC_ENABLE: u64 = 0x2400;
pub(crate) const PERF_EVENT_IOC_DISABLE: u64 = 0x2401;
const FUTEX_WAKE: u64 = libc::FUTEX_WAKE.unsigned_abs() as u64;
const PR_SET_NAME: u64 = libc::PR_SET_NAME.unsigned_abs() as u64;
const MONOTONIC: u64 = libc::CLOCK_MONOTONIC.unsigned_abs() as u64;
/// Not TIMER_ABSTIME.
const RELATIVE: u64 = 0;
const THREAD_CPUTIME: u64 = libc::CLOCK_THREAD_CPUTIME_ID.unsigned_abs() as u64;
const MONOTONIC_RAW: u64 = libc::CLOCK_MONOTONIC_RAW.unsigned_abs() as u64;

use Role::{Isolated, Kick, Log, LogSocket, Online, Requests, Stop, Supervisor};
use Seen::{Always, Rarely};
use When::{Is, On};

/// Everything that is allowed.
pub const TABLE: &[Row] = &[
    Row {
        call: "ppoll",
        when: &[],
        seen: Always,
        why: "waits for the ring buffer, a request, a signal or the time of the next scan",
    },
    Row {
        call: "futex",
        when: &[Is(1, FUTEX_WAKE)],
        seen: Always,
        why: "wakes who waits on a word of the file; never waits, never requeues",
    },
    Row {
        call: "pread64",
        when: &[On(Online)],
        seen: Rarely("only while a CPU is offline or lags far"),
        why: "the mask of online CPUs",
    },
    Row {
        call: "pread64",
        when: &[On(Isolated)],
        seen: Rarely("only before kicks, once a second at most, where cgroup v2 has cpusets"),
        why: "the CPUs that were isolated since the start, which are spared",
    },
    Row {
        call: "prctl",
        when: &[Is(0, PR_SET_NAME)],
        seen: Rarely("kernels without BTF: idle isn't inferred"),
        why: "rings for the program that tells which CPUs are idle; the name is the daemon's own",
    },
    Row {
        call: "read",
        when: &[On(Kick)],
        seen: Rarely("only when a CPU lags and someone asks"),
        why: "makes the kernel interrupt that CPU",
    },
    Row {
        call: "ioctl",
        when: &[On(Kick), Is(1, PERF_EVENT_IOC_ENABLE)],
        seen: Rarely("only once reads interrupt a CPU no more, as after it was offline"),
        why: "interrupts it all the same",
    },
    Row {
        call: "ioctl",
        when: &[On(Kick), Is(1, PERF_EVENT_IOC_DISABLE)],
        seen: Rarely("only once reads interrupt a CPU no more, as after it was offline"),
        why: "the other half: either does so only after the other",
    },
    Row {
        call: "recvfrom",
        when: &[On(Requests)],
        seen: Rarely("only when a client asks"),
        why: "takes requests for an expedited barrier",
    },
    Row {
        call: "sendto",
        when: &[On(Supervisor)],
        seen: Rarely("only under a supervisor (NOTIFY_SOCKET)"),
        why: "READY, WATCHDOG and STOPPING",
    },
    Row {
        call: "sendto",
        when: &[On(Stop)],
        seen: Always,
        why: "a signal handler tells the loop to stop",
    },
    Row { call: "rt_sigreturn", when: &[], seen: Always, why: "the way back from that handler" },
    Row { call: "write", when: &[On(Log)], seen: Always, why: "log lines" },
    Row {
        call: "sendto",
        when: &[On(LogSocket)],
        seen: Rarely("only where standard error is a socket, as journald's"),
        why: "log lines, with MSG_DONTWAIT",
    },
    Row { call: "exit_group", when: &[], seen: Always, why: "the end" },
    Row {
        call: "clock_nanosleep",
        when: &[Is(0, MONOTONIC), Is(1, RELATIVE)],
        seen: Rarely("only when a wait did not switch tasks"),
        why: "the second check whether tracing works sleeps, which switches",
    },
    Row {
        call: "restart_syscall",
        when: &[],
        seen: Rarely("only after SIGSTOP and SIGCONT"),
        why: "the kernel goes on with a sleep that was stopped",
    },
    Row {
        call: "clock_gettime",
        when: &[Is(0, MONOTONIC)],
        seen: Rarely("only where the vDSO can't read the clock, as with hpet"),
        why: "the clock",
    },
    Row {
        call: "clock_gettime",
        when: &[Is(0, MONOTONIC_RAW)],
        seen: Rarely("only where the vDSO can't read the clock, as with hpet"),
        why: "how long reading an evidence time took",
    },
    Row {
        call: "clock_gettime",
        when: &[Is(0, THREAD_CPUTIME)],
        seen: Always,
        why: "what waking sleepers took of this CPU",
    },
    Row {
        call: "adjtimex",
        when: &[],
        seen: Always,
        why: "waits out an update of the clock, so that no later reading is below an evidence time; \
              without CAP_SYS_TIME, which is given up, it changes nothing",
    },
    Row {
        call: "getcpu",
        when: &[],
        seen: Rarely("only where the vDSO does not tell"),
        why: "the CPU that the daemon runs on",
    },
    Row {
        call: "brk",
        when: &[],
        seen: Rarely("the loop allocates nothing; an error's text may"),
        why: "memory to put an error into words",
    },
];

/// The daemon's open descriptors that the table speaks of.
#[derive(Clone, Debug, Default)]
pub struct Descriptors {
    all: Vec<(Role, u64)>,
}

impl Descriptors {
    /// Adds a descriptor, which has to stay open.
    ///
    /// # Panics
    ///
    /// `fd` is negative, so it isn't open.
    #[must_use]
    pub fn with(mut self, role: Role, fd: &impl AsRawFd) -> Self {
        self.all.push((role, u64::try_from(fd.as_raw_fd()).expect("open")));
        self
    }

    /// Those of `role`.
    #[must_use]
    pub fn of(&self, role: Role) -> Vec<u64> {
        self.all.iter().filter(|(of, _)| *of == role).map(|&(_, fd)| fd).collect()
    }
}

/// A test of one argument: `argument & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which, from 0.
    pub argument: u32,
    /// The bits that count.
    pub mask: u64,
    /// What they have to be.
    pub value: u64,
}

impl Row {
    /// The alternatives under which the call is allowed, each a set of tests that must all hold. At
    /// most one of a row's conditions is on a descriptor. None at all where there is no descriptor
    /// of the role.
    #[must_use]
    pub fn alternatives(&self, descriptors: &Descriptors) -> Vec<Vec<Compare>> {
        let mut alternatives = vec![Vec::new()];
        for when in self.when {
            let tests: Vec<Compare> = match *when {
                Is(argument, value) => vec![Compare { argument, mask: u64::MAX, value }],
                On(role) => blocks(descriptors.of(role))
                    .into_iter()
                    .map(|(mask, value)| Compare { argument: 0, mask, value })
                    .collect(),
            };
            alternatives = alternatives
                .iter()
                .flat_map(|so_far| tests.iter().map(|&test| [so_far.as_slice(), &[test]].concat()))
                .collect();
        }
        alternatives
    }
}

/// `numbers` as aligned blocks of (mask, value): thousands of descriptors in a row, one a CPU, take
/// a dozen tests, where one test each would exceed what a filter can hold.
fn blocks(mut numbers: Vec<u64>) -> Vec<(u64, u64)> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut blocks = Vec::new();
    let mut rest = numbers.as_slice();
    while let [first, ..] = rest {
        let run = rest.iter().zip(*first..).take_while(|&(&n, next)| n == next).count();
        // The largest power of two that fits into the run and that `first` is a multiple of.
        let in_run = 1_u64 << run.ilog2();
        let size = if *first == 0 { in_run } else { in_run.min(1 << first.trailing_zeros()) };
        blocks.push((!(size - 1), *first));
        rest = &rest[usize::try_from(size).expect("at most the run")..];
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn allowed(row: &Row, descriptors: &Descriptors, arguments: [u64; 2]) -> bool {
        let holds = |test: &Compare| {
            arguments[usize::try_from(test.argument).expect("small")] & test.mask == test.value
        };
        row.alternatives(descriptors).iter().any(|tests| tests.iter().all(holds))
    }

    #[test]
    fn every_row_has_a_reason_and_stands_once() {
        for (i, row) in TABLE.iter().enumerate() {
            assert!(!row.why.is_empty(), "{row:?}");
            assert!(row.when.iter().filter(|when| matches!(when, On(_))).count() <= 1, "{row:?}");
            let mutant = |other: &Row| other.call == row.call && other.when == row.when;
            assert!(!TABLE[..i].iter().any(mutant), "{row:?}");
        }
    }

    #[test]
    fn a_row_without_its_descriptor_allows_nothing() {
        let row = TABLE.iter().find(|row| row.when == [On(Online)]).expect("there");
        assert!(row.alternatives(&Descriptors::default()).is_empty());
        let file = tempfile::tempfile().expect("a file");
        let open = Descriptors::default().with(Online, &file);
        let fd = u64::try_from(file.as_raw_fd()).expect("open");
        assert!(allowed(row, &open, [fd, 0]));
        assert!(!allowed(row, &open, [fd + 1, 0]) && !allowed(row, &open, [fd | 1 << 32, 0]));
    }

    #[test]
    fn a_futex_may_be_woken_and_nothing_else() {
        let row = TABLE.iter().find(|row| row.call == "futex").expect("there");
        for operation in 0..400 {
            let wake = operation == FUTEX_WAKE;
            assert_eq!(allowed(row, &Descriptors::default(), [7, operation]), wake);
        }
    }

    #[test]
    fn b16_a_nap_is_one_call_in_one_form() {
        let sleeps: Vec<_> = TABLE.iter().filter(|row| row.call.contains("nanosleep")).collect();
        let [row] = sleeps[..] else { panic!("{sleeps:?}") };
        let none = Descriptors::default();
        assert!(allowed(row, &none, [MONOTONIC, 0]));
        for (clock, flags) in [(0, 0), (MONOTONIC, 1), (7, 0)] {
            assert!(!allowed(row, &none, [clock, flags]), "{clock} {flags}");
        }
    }

    #[test]
    fn a_row_of_descriptors_takes_few_tests() {
        assert_eq!(blocks((9..9 + 4096).collect()).len(), 13);
        assert_eq!(blocks(vec![0, 1, 2, 3]), [(!3, 0)]);
        assert_eq!(blocks(vec![5, 3, 5]), [(!0, 3), (!0, 5)]);
    }

    proptest! {
        #[test]
        fn blocks_hold_the_numbers_and_no_others(numbers in proptest::collection::btree_set(0u64..64, 0..64)) {
            let blocks = blocks(numbers.iter().copied().collect());
            let held = |n: &u64| blocks.iter().any(|(mask, value)| n & mask == *value);
            prop_assert_eq!((0..200).filter(held).collect::<BTreeSet<_>>(), numbers);
        }
    }
}
