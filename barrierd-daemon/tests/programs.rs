//! The BPF programs one by one, as root: run by hand through `BPF_PROG_TEST_RUN`, and sched_switch
//! on real switches.
//!
//! Owns the questions of what each program does to the shared words. Every test needs root and says
//! so.

#[path = "../../tests/common/idle.rs"]
mod idle;

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use barrierd_bpf::layout::{
    ANSWERED, ARMED, ASKED, ASKED_CPUS, ASKED_FIRST, ASLEEP, CONTROL_BYTES, DAEMON_TGID, GROUP,
    IDLE, IDLE_CPUS, MISSED, OVERFLOW, PREEMPTED, ROUND, ROUND_SHIFT, SLOT_BYTES, SWITCHED, WANTED,
};
use barrierd_bpf::{BarrierdSkel, BarrierdSkelBuilder, SchedSwitchSkel, SchedSwitchSkelBuilder};
use barrierd_daemon::online::{Online, possible_cpus};
use barrierd_daemon::words::Words;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{OpenObject, ProgramInput, ProgramMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// One at a time: they watch which tasks run.
static TURN: Mutex<()> = Mutex::new(());

/// The loaded programs with their words, on one CPU. Nothing is attached.
struct Programs<'s> {
    skel: BarrierdSkel<'s>,
    slots: Words,
    control: Words,
    cpu: usize,
    allowed: CpuSet,
    _turn: MutexGuard<'static, ()>,
}

impl<'s> Programs<'s> {
    fn load(storage: &'s mut MaybeUninit<OpenObject>) -> Self {
        let cpus = possible_cpus().expect("sysfs");
        Self::with_slots(storage, u32::try_from(cpus.next_power_of_two()).expect("few"))
    }

    fn with_slots(storage: &'s mut MaybeUninit<OpenObject>, entries: u32) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test loads BPF programs: run it as root (cargo test as root, or sudo -E)"
        );
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = BarrierdSkelBuilder::default().open(storage).expect("opens");
        open.maps.slots.set_max_entries(entries).expect("sized");
        let skel = open.load().expect("loads");
        let bytes = SLOT_BYTES * usize::try_from(entries).expect("few");
        let slots = Words::map(skel.maps.slots.as_fd(), bytes).expect("mapped");
        let control = Words::map(skel.maps.control.as_fd(), CONTROL_BYTES).expect("mapped");
        let allowed = sched_getaffinity(None).expect("an affinity");
        let programs = Self { skel, slots, control, cpu: sched_getcpu(), allowed, _turn: turn };
        pin(programs.cpu);
        programs
    }

    /// What knows of idle CPUs, on the same words.
    fn switch<'t>(&self, storage: &'t mut MaybeUninit<OpenObject>) -> SchedSwitchSkel<'t> {
        let mut open = SchedSwitchSkelBuilder::default().open(storage).expect("opens");
        open.maps.slots.reuse_fd(self.skel.maps.slots.as_fd()).expect("shared");
        open.maps.control.reuse_fd(self.skel.maps.control.as_fd()).expect("shared");
        open.maps.wake.reuse_fd(self.skel.maps.wake.as_fd()).expect("shared");
        let cpus = u32::try_from(possible_cpus().expect("sysfs")).expect("few");
        open.maps.idle_tasks.set_max_entries(cpus).expect("sized");
        open.load().expect("loads")
    }

    fn run(&self, program: &ProgramMut<'_>) {
        program.test_run(ProgramInput::default()).expect("runs");
    }

    fn event(&self) {
        self.run(&self.skel.progs.on_event);
    }

    fn task_event(&self) {
        self.run(&self.skel.progs.on_task_event);
    }

    fn slot(&self) -> u64 {
        self.slots.load(self.cpu * SLOT_BYTES)
    }

    fn set_slot(&self, value: u64) {
        self.slots.store(self.cpu * SLOT_BYTES, value);
    }

    /// A round as the daemon starts it.
    fn listen(&self, id: u64, wanted: u64, count: u64) {
        self.control.store(WANTED, wanted);
        self.control.store(ROUND, id << ROUND_SHIFT | count);
        self.control.store(ARMED, wanted);
    }

    fn round(&self) -> (u64, u64) {
        let round = self.control.load(ROUND);
        (round >> ROUND_SHIFT, round & ((1 << ROUND_SHIFT) - 1))
    }

    /// Whether the daemon would be woken within `patience`.
    fn woken(&self, patience: Duration) -> bool {
        let tv_nsec = patience.subsec_nanos().into();
        let timeout = Timespec { tv_sec: patience.as_secs().try_into().expect("few"), tv_nsec };
        let wake = self.skel.maps.wake.as_fd();
        poll(&mut [PollFd::new(&wake, PollFlags::IN)], Some(&timeout)).expect("polls") > 0
    }
}

impl Drop for Programs<'_> {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.allowed).expect("as before");
    }
}

fn pin(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("an online CPU");
}

#[test]
fn an_event_stamps_once_an_arming_and_leaves_idle_alone() {
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::load(&mut storage);
    for run in [Programs::event, Programs::task_event] {
        programs.control.store(ARMED, 1_000);
        run(&programs);
        assert_eq!(programs.slot(), 1_000);
        programs.control.store(ARMED, 2_000);
        run(&programs);
        run(&programs);
        assert_eq!(programs.slot(), 2_000);
    }
    programs.set_slot(IDLE);
    programs.event();
    assert_eq!(programs.slot(), IDLE);
    assert_eq!((programs.control.load(MISSED), programs.control.load(OVERFLOW)), (0, 0));
}

#[test]
fn a_task_event_that_finds_idle_under_a_task_mends_it() {
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::load(&mut storage);
    programs.control.store(ARMED, 1_000);
    programs.control.store(ASLEEP, 1);
    programs.set_slot(IDLE);
    programs.task_event();
    assert_eq!((programs.control.load(MISSED), programs.slot()), (1, 1_000));
    // The switch that was missed would have woken the daemon.
    assert_eq!(programs.control.load(ASLEEP), 0);
    assert!(programs.woken(Duration::from_secs(5)));
}

#[test]
fn a_cpu_without_a_slot_is_never_passed_over_in_silence() {
    let cpus = Online::open(possible_cpus().expect("sysfs")).expect("sysfs").read().clone();
    let last = cpus.iter().last().expect("one is online");
    assert!(last > 0, "this test needs a second CPU");
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::with_slots(&mut storage, 1);
    pin(0);
    programs.event();
    assert_eq!(programs.control.load(OVERFLOW), 0);
    pin(last);
    programs.event();
    assert_eq!(programs.control.load(OVERFLOW), 1);
}

#[test]
fn each_cpu_counts_down_once_a_round_and_the_last_one_wakes() {
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::load(&mut storage);
    let soon = Duration::from_millis(1);
    programs.event();

    programs.listen(1, 1_000, 2);
    programs.event();
    assert_eq!(programs.round(), (1, 1));
    programs.event();
    // A newer arming in the same round: counted already.
    programs.control.store(ARMED, 1_100);
    programs.event();
    assert_eq!((programs.round(), programs.slot()), ((1, 1), 1_100));
    assert!(!programs.woken(soon));

    // As the last of a round whose armings went on.
    programs.listen(2, 2_000, 1);
    programs.control.store(ARMED, 2_100);
    programs.task_event();
    assert_eq!(programs.round(), (2, 0));
    assert!(programs.woken(Duration::from_secs(5)));

    // Nobody listens: nothing goes below 0.
    programs.listen(3, 3_000, 0);
    programs.event();
    assert_eq!(programs.round(), (3, 0));

    // Armed, but not yet as late as wanted.
    programs.listen(4, 4_000, 1);
    programs.control.store(ARMED, 3_500);
    programs.event();
    assert_eq!((programs.round(), programs.slot()), ((4, 1), 3_500));

    // Out of IDLE: not counted when the round began, so not counted down.
    programs.control.store(ARMED, 4_000);
    programs.set_slot(IDLE);
    programs.task_event();
    assert_eq!((programs.round(), programs.slot()), ((4, 1), 4_000));
}

#[test]
fn the_daemons_own_events_stamp_and_do_not_count() {
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::load(&mut storage);
    programs.run(&programs.skel.progs.who_am_i);
    // Tests run in the initial pid namespace, or the two would differ.
    assert_eq!(programs.control.load(DAEMON_TGID), u64::from(std::process::id()));
    programs.listen(1, 1_000, 1);
    programs.event();
    assert_eq!((programs.round(), programs.slot()), ((1, 1), 1_000));
}

#[test]
fn sched_switch_writes_idle_and_wakes_a_sleeping_daemon() {
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::load(&mut storage);
    // This process is not the daemon.
    programs.control.store(DAEMON_TGID, u64::from(u32::MAX));
    programs.control.store(ARMED, 1_000);
    let mut switch_storage = MaybeUninit::uninit();
    let switch = programs.switch(&mut switch_storage);
    let _link = switch.progs.on_sched_switch.attach_trace().expect("attaches");

    // This thread's own CPU shows it running after any switch to it.
    assert!(soon(|| programs.slot() == 1_000));

    // Some CPU goes idle sooner or later.
    let cpus = possible_cpus().expect("sysfs");
    let slot = |cpu: usize| programs.slots.load(cpu * SLOT_BYTES);
    once_another_idles(programs.cpu, || (0..cpus).any(|cpu| slot(cpu) == IDLE));

    // A user task runs: another process's, on this CPU or another.
    programs.control.store(ASLEEP, 1);
    assert!(soon(|| {
        assert!(Command::new("true").status().expect("runs").success());
        programs.control.load(ASLEEP) == 0
    }));
    assert!(programs.woken(Duration::from_secs(5)));

    // Who is switched to in place of a task that wants to go on is told so, and only then.
    programs.run(&programs.skel.progs.who_am_i);
    let cpu = programs.cpu.to_string();
    let mut spinning = Command::new("taskset")
        .args(["-c", &cpu, "sh", "-c", "while :; do :; done"])
        .spawn()
        .expect("util-linux");
    let told = |wanted| soon(|| programs.control.load(PREEMPTED) == wanted);
    let in_place_of_it = told(1);
    spinning.kill().expect("it runs");
    spinning.wait().expect("waited for");
    assert!(in_place_of_it && told(0));

    // And at which arming.
    programs.control.store(ARMED, 2_000);
    assert!(soon(|| programs.control.load(SWITCHED) == 2_000));
}

#[test]
fn b2_who_is_idle_is_told_to_the_daemon_alone_and_whatever_the_slots_show() {
    let mut storage = MaybeUninit::uninit();
    let programs = Programs::load(&mut storage);
    programs.control.store(DAEMON_TGID, u64::from(u32::MAX));
    let mut switch_storage = MaybeUninit::uninit();
    let switch = programs.switch(&mut switch_storage);
    let _switches = switch.progs.on_sched_switch.attach_trace().expect("attaches");
    let _answers = switch.progs.who_is_idle.attach_raw_tracepoint("task_rename").expect("attaches");
    let cpus = possible_cpus().expect("sysfs").min(GROUP);
    let number = std::cell::Cell::new(0);
    // All are asked about, whatever their slots show; `None`: no answer.
    let ask = || {
        number.set(number.get() + 1);
        programs.control.store(ASKED_FIRST, 0);
        programs.control.store(ASKED_CPUS, u64::MAX >> (GROUP - cpus));
        programs.control.store(ASKED, number.get());
        rustix::thread::set_name(c"programs").expect("a name");
        let answered = programs.control.load(ANSWERED) == number.get();
        answered.then(|| programs.control.load(IDLE_CPUS))
    };
    assert_eq!(ask(), None, "another process's question");
    programs.run(&programs.skel.progs.who_am_i);

    // Sooner or later another CPU is idle, and this one, which asks, never is.
    let others = !(1 << programs.cpu);
    once_another_idles(programs.cpu, || {
        programs.set_slot(IDLE);
        let idle = ask().expect("answered");
        assert_eq!(idle & !others, 0, "this CPU runs a task, though its slot shows IDLE");
        idle != 0
    });

    // A CPU that is kept busy is not idle, whatever its slot shows.
    let busy = (0..cpus).find(|&cpu| cpu != programs.cpu).expect("this test needs a second CPU");
    let mut spinning = Command::new("taskset")
        .args(["-c", &busy.to_string(), "sh", "-c", "while :; do :; done"])
        .spawn()
        .expect("util-linux");
    let is_busy = || ask().is_some_and(|idle| idle >> busy & 1 == 0);
    let spins = soon(is_busy) && soon(is_busy);
    let always = spins
        && (0..1_000).all(|_| {
            programs.slots.store(busy * SLOT_BYTES, IDLE);
            is_busy()
        });
    spinning.kill().expect("it runs");
    spinning.wait().expect("waited for");
    assert!(always, "CPU {busy} was found idle while it was kept busy");
}

/// Sleeps, and so is switched to, again and again until the programs have seen it. One time is not
/// always enough: some virtual machines' kernels pass over single events of sched_switch.
fn soon(seen: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        thread::sleep(Duration::from_millis(1));
        if seen() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
    }
}

/// Asks again and again until another CPU than `own`, on which this thread runs, was seen idle: which comes once one is.
/// Where other programs leave none idle for long there is nothing to see: it says so, except where `CI` is set, which must
/// have a CPU to spare.
fn once_another_idles(own: usize, seen: impl Fn() -> bool) {
    let (begun, before) = (Instant::now(), idle::spent_except_on(Some(own)));
    while !seen() {
        thread::sleep(Duration::from_micros(300));
        let spent = idle::spent_except_on(Some(own)) - before;
        // By the kernel's count. A look every 300 us can't have missed all of that.
        assert!(spent < Duration::from_secs(10), "idle for {spent:?}, and not seen so");
        let patience = if spent < Duration::from_secs(1) { 20 } else { 120 };
        if begun.elapsed() > Duration::from_secs(patience) {
            assert!(std::env::var_os("CI").is_none(), "no CPU was idle, and CI must see one");
            return eprintln!("\n*** NOT SEEN: an idle CPU; the machine is too busy ***\n");
        }
    }
}
