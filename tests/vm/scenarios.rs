//! What runs in the virtual machines: the one table, read by the host and by the guest.
//!
//! Owns which kernel and how many CPUs a scenario has, and the steps that the guest takes. Knows
//! nothing of how a machine is started or how a step is done.
//!
//! Time means nothing in an emulated machine: a step asserts order and progress, never a duration.

use rustix::thread::CapabilitySet;
use std::time::Duration;

/// A kernel of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// The release's own, for clouds.
    Cloud,
    /// The release's own, with PREEMPT_RT.
    Rt,
    /// The newest that the release has.
    NewCloud,
    /// The newest with PREEMPT_RT.
    NewRt,
    /// As `Cloud`, for arm64.
    Arm,
    /// As `NewCloud`, for arm64.
    NewArm,
    /// The newest for arm64 with pages of 16 KiB.
    Arm16k,
}

impl Kernel {
    /// Whether it is for arm64; else for x86-64.
    pub(crate) fn is_arm(self) -> bool {
        matches!(self, Kernel::Arm | Kernel::NewArm | Kernel::Arm16k)
    }
}

/// How a scenario must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every step holds.
    Holds,
    /// A step fails, with these words: the daemon is broken on purpose, and must be found out.
    Fails(&'static str),
}

/// One machine, from its boot to its verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// None: no machine, but this host, as root, on real CPUs. The flag game is sharp only here: an
    /// emulator runs hundreds of instructions where a CPU runs ten, and by then store buffers are
    /// empty.
    pub(crate) kernel: Option<Kernel>,
    /// Which kind of CPU the machine has, as qemu names them.
    pub(crate) cpu: &'static str,
    /// How many the machine starts with.
    pub(crate) cpus: usize,
    /// What follows the number of CPUs in qemu's `-smp`.
    pub(crate) smp: &'static str,
    /// On the kernel's command line, beside what every machine has.
    pub(crate) cmdline: &'static str,
    pub(crate) steps: &'static [Step],
    pub(crate) end: End,
}

const PLAIN: Scenario = Scenario {
    name: "",
    kernel: Some(Kernel::Cloud),
    cpu: "max",
    cpus: 8,
    smp: "",
    cmdline: "",
    steps: &[],
    end: End::Holds,
};

/// Armv8.2: exchanges are one instruction (LSE), with which the kernel and its BPF compiler do theirs.
const ARM: Scenario = Scenario { kernel: Some(Kernel::Arm), cpu: "cortex-a76", cpus: 4, ..PLAIN };

/// What the guest does. A daemon that runs at the end must still run, must not have complained, and
/// is stopped by SIGTERM.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Starts the daemon with these arguments behind the file's name, and waits for it to be set up.
    Start(&'static [&'static str]),
    /// The same on tracepoints by the numbers that tracefs gives these.
    StartIds(&'static [&'static str]),
    /// The same as a user without privilege, but for these capabilities.
    StartConfined(CapabilitySet),
    /// The build that credits CPUs with barriers that they did not take.
    StartBroken,
    /// The build whose switch program misses each switch out of idle on CPU 1; believing what it shows of
    /// idle CPUs, or asking the kernel as ever.
    StartDeaf {
        /// Broken on purpose.
        believes: bool,
    },
    /// Starts it; it must end at once, and say this.
    Refused(&'static [&'static str], &'static str),
    /// The same as a user without privilege, but for these capabilities.
    RefusedConfined(CapabilitySet, &'static str),
    /// The daemon has said this.
    Said(&'static str),
    /// It hasn't said this.
    SaidNot(&'static str),
    /// So many barriers, one after the other.
    Waits(usize),
    /// So many, each after the machine was idle for a while.
    IdleWaits(usize),
    /// The same from a process of the confined daemon's user.
    ConfinedWaits(usize),
    /// The ground truth: spinners on these CPUs, so many barriers; one that passes without an
    /// interrupt or a task switch there passed early.
    Truth(&'static [usize], usize),
    /// The same on every CPU but the first, one after the other and then on all at once.
    TruthOnEach,
    /// The same by expedited waits only: where a CPU takes no interrupt by itself and nobody else
    /// has a reason to interrupt it.
    Expedited(&'static [usize], usize),
    /// Millions of sections and so many rounds of the flag game, on every CPU but the first: busy,
    /// idle at times, under kicks, and in virtual time.
    Game(usize),
    /// The game without a barrier must be lost, or it proves nothing here.
    LostGame,
    /// So many times every CPU but the first goes offline and back, under load, with waiters and
    /// the flag game.
    Storm(usize),
    /// So many seconds of the ground truth on the last CPU while the clock is slewed to and fro, by all
    /// that the kernel allows, thousands of times a second: it steps back, and no watermark may ever
    /// lie ahead of it.
    Slewed(u64),
    /// These CPUs go offline.
    Offline(&'static [usize]),
    /// One after the other goes offline and back.
    Replug(&'static [usize]),
    /// Every CPU that is there comes online.
    OnlineAll,
    /// One thread a core, or all.
    Smt(bool),
    /// So many CPUs are possible, and fewer are online.
    MorePossible(usize),
    /// A spinner on each of these CPUs takes no interrupt for a while: the kernel is set up as the
    /// scenario claims.
    Tickless(&'static [usize]),
    /// Mounts cgroup v2 with cpusets; whether the kernel lists there which CPUs are isolated.
    Cgroups { list: bool },
    /// This CPU, or none, is isolated by a partition from here on.
    Isolate(Option<usize>),
    /// Of so many expedited barriers, a spinner on this CPU is interrupted for most, or for hardly any.
    Kicked(usize, u64, bool),
    /// Task switches, page faults and TLB shootdowns on all CPUs, from here on.
    Load,
    /// Mounts tracefs, which is not there before.
    Tracefs,
    /// Takes the kernel's BTF out of sight.
    HideBtf,
    /// Writes to a file below /proc/sys.
    Sysctl(&'static str, &'static str),
    /// barrierctl, with this verb, has nothing to complain of.
    Ctl(&'static str),
    /// The daemon's exchanges are full barriers on arm64: by single instructions, or by loops. Its programs were shown
    /// in the kernel's log when they were loaded.
    Jitted { lse: bool },
    /// Stops the daemon.
    Stop,
    /// Stops the daemon, which ran with `-v`, and holds its counters to this.
    Counted(Count),
}

/// What the daemon's counters must say at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// BPF has woken it at most once a round, whatever the number of CPUs.
    OneWakeUpARound,
    /// It has slept while the machine was idle.
    Slept,
}

const USUAL: &[Step] = &[
    Step::Start(&[]),
    Step::IdleWaits(10),
    Step::Waits(20),
    Step::TruthOnEach,
    Step::LostGame,
    Step::Game(300_000),
];

/// What the guest says each [`A_PULSE`], so that the host can tell a step that hangs from a machine that
/// stands still.
pub(crate) const PULSE: &str = "alive";
pub(crate) const A_PULSE: Duration = Duration::from_secs(5);

/// By the operator's bound for isolated CPUs, a second unless told, and then as others.
const ISOLATED: &[Step] = &[
    Step::Tickless(&[2, 3]),
    Step::Start(&[]),
    Step::IdleWaits(5),
    Step::Truth(&[2], 5),
    Step::Truth(&[2, 3, 5], 5),
    Step::Stop,
    Step::Start(&["--kick-isolated"]),
    Step::Truth(&[2], 60),
    Step::Truth(&[2, 3, 5], 30),
    Step::Game(100_000),
];
const ISOLATE: &str = "nohz_full=2-3 isolcpus=2-3 rcu_nocbs=2-3";

/// No interrupt but for who asks: the bound is an hour. A perf event is off once its CPU was.
const REPLUG: &[Step] = &[
    Step::Start(&["--kick-isolated", "--bound-us=4000000000"]),
    Step::Tickless(&[2, 3]),
    Step::Expedited(&[2], 30),
    Step::Expedited(&[2, 3], 30),
    Step::Replug(&[2]),
    Step::Expedited(&[2], 30),
    Step::Replug(&[2, 3]),
    Step::Expedited(&[2, 3, 5], 30),
    Step::Tickless(&[2, 3]),
];

/// CPU 1's switches out of idle are missed: barriers pass on, and none early.
const DEAF: &[Step] = &[
    Step::StartDeaf { believes: false },
    Step::IdleWaits(10),
    Step::Waits(20),
    Step::TruthOnEach,
    Step::Game(100_000),
    Step::Said(NOT_TRACED),
];
const DEAF_HERE: &[Step] = &[
    Step::StartDeaf { believes: false },
    Step::IdleWaits(10),
    Step::TruthOnEach,
    Step::Game(20_000_000),
    Step::Said(NOT_TRACED),
];
const NOT_TRACED: &str = "the switch was not traced";
/// That CPU takes no interrupt by itself.
const ISOLATE_1: &str = "nohz_full=1 isolcpus=1 rcu_nocbs=1";

const STORM: &[Step] =
    &[Step::Start(&[]), Step::Storm(6), Step::OnlineAll, Step::TruthOnEach, Step::Waits(10)];

const JIT_OFF: &[Step] = &[
    Step::Sysctl("net/core/bpf_jit_enable", "0"),
    Step::Start(&[]),
    Step::IdleWaits(5),
    Step::TruthOnEach,
    Step::Game(100_000),
];

const NO_BTF: &[Step] = &[
    Step::HideBtf,
    Step::Start(&[]),
    Step::Said("going on without idle inference"),
    Step::Waits(5),
    Step::TruthOnEach,
    Step::Game(100_000),
];

const TO_TRACE: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
const CAPABILITIES: CapabilitySet = TO_TRACE.union(CapabilitySet::SETPCAP);
const NO_KICKS: &str = "not every CPU can be kicked";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "here",
        kernel: None,
        steps: &[
            Step::Start(&[]),
            Step::TruthOnEach,
            Step::LostGame,
            Step::Game(20_000_000),
            Step::Load,
            Step::Game(10_000_000),
        ],
        ..PLAIN
    },
    Scenario {
        name: "broken-credit-here",
        kernel: None,
        steps: &[Step::StartBroken, Step::Game(20_000_000)],
        end: End::Fails("stores were missed"),
        ..PLAIN
    },
    Scenario {
        name: "broken-credit",
        cpus: 4,
        // A CPU that ticks may tick between the looks at it: so often that it doesn't, once. On a
        // quiet host some hundred rounds do.
        steps: &[
            Step::StartBroken,
            Step::Truth(&[3], 2_000),
            Step::Truth(&[3], 2_000),
            Step::Truth(&[3], 2_000),
            Step::Truth(&[3], 2_000),
            Step::Truth(&[3], 2_000),
        ],
        end: End::Fails("passed early"),
        ..PLAIN
    },
    Scenario {
        name: "broken-credit-isolated",
        cmdline: ISOLATE,
        steps: &[Step::StartBroken, Step::Truth(&[2], 30)],
        end: End::Fails("passed early"),
        ..PLAIN
    },
    Scenario { name: "deaf-here", kernel: None, steps: DEAF_HERE, ..PLAIN },
    Scenario { name: "deaf", cpus: 4, steps: DEAF, ..PLAIN },
    Scenario {
        name: "deaf-isolated",
        cmdline: ISOLATE_1,
        steps: &[
            Step::StartDeaf { believes: false },
            Step::Tickless(&[1]),
            Step::IdleWaits(5),
            Step::Truth(&[1], 10),
            Step::Said(NOT_TRACED),
        ],
        ..PLAIN
    },
    Scenario {
        name: "deaf-believing",
        cmdline: ISOLATE_1,
        steps: &[Step::StartDeaf { believes: true }, Step::Truth(&[1], 30)],
        end: End::Fails("passed early"),
        ..PLAIN
    },
    Scenario { name: "defaults", steps: USUAL, ..PLAIN },
    Scenario {
        name: "slew",
        cpus: 4,
        steps: &[Step::Start(&[]), Step::Waits(10), Step::Slewed(30), Step::Game(100_000)],
        ..PLAIN
    },
    Scenario { name: "defaults-new", kernel: Some(Kernel::NewCloud), steps: USUAL, ..PLAIN },
    Scenario { name: "rt", kernel: Some(Kernel::Rt), steps: USUAL, ..PLAIN },
    Scenario { name: "rt-new", kernel: Some(Kernel::NewRt), steps: USUAL, ..PLAIN },
    Scenario {
        name: "idle",
        steps: &[Step::Start(&["-v"]), Step::IdleWaits(30), Step::Counted(Count::Slept)],
        ..PLAIN
    },
    Scenario { name: "isolated", cmdline: ISOLATE, steps: ISOLATED, ..PLAIN },
    Scenario {
        name: "isolated-new",
        kernel: Some(Kernel::NewCloud),
        cmdline: ISOLATE,
        steps: ISOLATED,
        ..PLAIN
    },
    Scenario { name: "isolated-replug", cmdline: ISOLATE, steps: REPLUG, ..PLAIN },
    Scenario {
        name: "isolated-replug-new",
        kernel: Some(Kernel::NewCloud),
        cmdline: ISOLATE,
        steps: REPLUG,
        ..PLAIN
    },
    Scenario {
        name: "partition-new",
        kernel: Some(Kernel::NewCloud),
        cpus: 4,
        steps: &[
            Step::Cgroups { list: true },
            Step::Start(&[]),
            Step::Kicked(2, 100, true),
            Step::Isolate(Some(2)),
            Step::Kicked(2, 100, false),
            Step::Kicked(3, 100, true),
            Step::Isolate(None),
            Step::Kicked(2, 100, true),
        ],
        ..PLAIN
    },
    // This kernel makes partitions and doesn't list their CPUs, so they are kicked.
    Scenario {
        name: "partition",
        cpus: 4,
        steps: &[
            Step::Cgroups { list: false },
            Step::Start(&[]),
            Step::Isolate(Some(2)),
            Step::Kicked(2, 100, true),
        ],
        ..PLAIN
    },
    Scenario { name: "hotplug", steps: STORM, ..PLAIN },
    Scenario { name: "hotplug-new", kernel: Some(Kernel::NewCloud), steps: STORM, ..PLAIN },
    Scenario { name: "hotplug-rt", kernel: Some(Kernel::Rt), steps: STORM, ..PLAIN },
    Scenario {
        name: "late-cpus",
        cmdline: "maxcpus=4",
        steps: &[
            Step::MorePossible(8),
            Step::Start(&[]),
            Step::Waits(10),
            Step::OnlineAll,
            Step::Truth(&[4, 5, 6, 7], 30),
            Step::Game(100_000),
            Step::Offline(&[1, 2, 6]),
            Step::Waits(10),
            Step::TruthOnEach,
        ],
        ..PLAIN
    },
    Scenario {
        name: "more-possible",
        cpus: 4,
        smp: ",maxcpus=16",
        steps: &[
            Step::MorePossible(16),
            Step::Start(&[]),
            Step::IdleWaits(5),
            Step::TruthOnEach,
            Step::Game(100_000),
        ],
        ..PLAIN
    },
    Scenario {
        name: "smt-off",
        kernel: Some(Kernel::NewCloud),
        smp: ",threads=2",
        steps: &[
            Step::Start(&[]),
            Step::Waits(10),
            Step::Smt(false),
            Step::Waits(10),
            Step::TruthOnEach,
            Step::Smt(true),
            Step::TruthOnEach,
        ],
        ..PLAIN
    },
    Scenario { name: "jit-off", steps: JIT_OFF, ..PLAIN },
    Scenario { name: "no-btf", steps: NO_BTF, ..PLAIN },
    Scenario {
        name: "tracepoints",
        steps: &[
            Step::Refused(&["no:such_tracepoint"], "no raw tracepoint `such_tracepoint`"),
            Step::Start(&[
                "tlb:tlb_flush",
                "irq_vectors/local_timer_entry",
                "raw_syscalls:sys_enter",
            ]),
            Step::Load,
            Step::TruthOnEach,
            Step::Game(100_000),
        ],
        ..PLAIN
    },
    Scenario {
        name: "ids",
        steps: &[
            Step::Refused(&["57"], "mount -t tracefs"),
            Step::Tracefs,
            Step::Refused(&["4000000000"], "no tracepoint has the number"),
            Step::StartIds(&["irq/softirq_entry", "irq_vectors/local_timer_entry"]),
            Step::IdleWaits(5),
            Step::TruthOnEach,
        ],
        ..PLAIN
    },
    Scenario {
        name: "capabilities",
        steps: &[
            Step::RefusedConfined(CapabilitySet::empty(), "CAP_BPF"),
            Step::RefusedConfined(CapabilitySet::BPF, "CAP_PERFMON"),
            Step::RefusedConfined(TO_TRACE, "CAP_SETPCAP"),
            // Debian's kernel wants more for a perf event, unless it is told not to.
            Step::StartConfined(CAPABILITIES),
            Step::Said(NO_KICKS),
            Step::ConfinedWaits(20),
            Step::Stop,
            Step::StartConfined(CAPABILITIES.union(CapabilitySet::SYS_ADMIN)),
            Step::SaidNot(NO_KICKS),
            Step::ConfinedWaits(20),
            Step::Stop,
            Step::Sysctl("kernel/perf_event_paranoid", "2"),
            Step::StartConfined(CAPABILITIES),
            Step::SaidNot(NO_KICKS),
            Step::ConfinedWaits(20),
        ],
        ..PLAIN
    },
    Scenario {
        name: "wake-ups",
        kernel: Some(Kernel::NewCloud),
        steps: &[Step::Start(&["-v"]), Step::TruthOnEach, Step::Counted(Count::OneWakeUpARound)],
        ..PLAIN
    },
    Scenario {
        name: "many-cpus",
        cpus: 32,
        steps: &[
            Step::Start(&["-v"]),
            Step::IdleWaits(5),
            Step::Truth(&[1], 30),
            Step::Truth(&[17, 31], 30),
            Step::Game(100_000),
            Step::Counted(Count::OneWakeUpARound),
        ],
        ..PLAIN
    },
    Scenario { name: "arm64-defaults", steps: USUAL, ..ARM },
    Scenario {
        name: "arm64-lse",
        kernel: Some(Kernel::NewArm),
        steps: &[
            Step::Sysctl("net/core/bpf_jit_enable", "2"),
            Step::Start(&[]),
            Step::Jitted { lse: true },
            Step::Waits(10),
        ],
        ..ARM
    },
    // Armv8.0: exchanges are loops, with a barrier instruction at their end.
    Scenario {
        name: "arm64-without-lse",
        cpu: "cortex-a72",
        steps: &[
            Step::Sysctl("net/core/bpf_jit_enable", "2"),
            Step::Start(&[]),
            Step::Jitted { lse: false },
            Step::IdleWaits(10),
            Step::TruthOnEach,
            Step::Game(100_000),
        ],
        ..ARM
    },
    Scenario { name: "arm64-defaults-new", kernel: Some(Kernel::NewArm), steps: USUAL, ..ARM },
    Scenario {
        name: "arm64-pages-16k",
        kernel: Some(Kernel::Arm16k),
        // The second finds the first one's file, of a page.
        steps: &[
            Step::Start(&[]),
            Step::IdleWaits(10),
            Step::TruthOnEach,
            Step::Game(100_000),
            Step::Stop,
            Step::Start(&[]),
            Step::Waits(10),
        ],
        ..ARM
    },
    Scenario {
        name: "arm64-broken-credit",
        cpus: 8,
        cmdline: ISOLATE,
        steps: &[Step::StartBroken, Step::Truth(&[2], 30)],
        end: End::Fails("passed early"),
        ..ARM
    },
    Scenario {
        name: "arm64-idle",
        steps: &[
            Step::Start(&["-v"]),
            // Each of the timer's interrupts.
            Step::Said("irq_handler_entry"),
            Step::Ctl("doctor"),
            Step::IdleWaits(30),
            Step::Ctl("status"),
            Step::Counted(Count::Slept),
        ],
        ..ARM
    },
    Scenario { name: "arm64-hotplug", cpus: 8, steps: STORM, ..ARM },
    Scenario { name: "arm64-isolated", cpus: 8, cmdline: ISOLATE, steps: ISOLATED, ..ARM },
    Scenario { name: "arm64-no-btf", cpus: 8, steps: NO_BTF, ..ARM },
    Scenario { name: "arm64-jit-off", steps: JIT_OFF, ..ARM },
];
