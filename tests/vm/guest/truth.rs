//! The ground truth: has the kernel been on that CPU at all?
//!
//! Owns spinners, the kernel's own counters, and the comparison. Knows nothing of how the daemon
//! learns of interrupts.
//!
//! A spinner is pinned to its CPU and never enters the kernel by itself. Before a stamp the CPU's
//! column in /proc/interrupts and the spinner's task switches are read, and again after its barrier
//! has passed. If nothing has moved, the kernel wasn't there, and the barrier passed early.
//!
//! Two things that a counter doesn't tell are asked of the spinner, by its turns:
//!
//! - An interrupt is counted a few instructions after the tracepoint `local_timer_entry`. So nothing is
//!   concluded from counters that stand still until the spinner has been seen to spin on: an
//!   interrupt that the barrier was taken from is over by then, hence counted.
//! - An interrupt is counted before the soft interrupts that it raised run (`softirq_entry`), and a
//!   spinner's switch away before the switch back to it: the barrier may rightly be taken from the
//!   second, and nothing is counted then. So nothing is concluded of a spinner that has not been seen to
//!   turn between the first reading and the stamp: only one that was in user code then must enter the
//!   kernel anew, and each entry is counted.

use crate::PATIENCE;
use crate::game::pin_to;
use barrierd_client::{Barrier, Stamp};
use rustix::thread::gettid;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A thread that keeps its CPU in user code. Dropped, it stops.
pub(crate) struct Spinner {
    cpu: usize,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
#[repr(align(128))]
struct Shared {
    turns: AtomicU64,
    tid: AtomicI32,
    stop: AtomicBool,
}

impl Spinner {
    /// Starts one, and waits until it spins.
    pub(crate) fn on(cpu: usize) -> Spinner {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = thread::spawn(move || {
            pin_to(cpu).unwrap_or_else(|errno| panic!("CPU {cpu}: {errno}"));
            own.tid.store(gettid().as_raw_pid(), Relaxed);
            let mut turns = 0;
            while !own.stop.load(Relaxed) {
                turns += 1;
                own.turns.store(turns, Relaxed);
            }
        });
        let spinner = Spinner { cpu, shared, thread: Some(thread) };
        spinner.spins_on();
        spinner
    }

    fn turns(&self) -> u64 {
        self.shared.turns.load(Relaxed)
    }

    /// Waits until it has run user code from here on.
    fn spins_on(&self) {
        let (from, stop) = (self.turns(), Instant::now() + PATIENCE);
        while self.turns() < from + FRESH_TURNS {
            assert!(Instant::now() < stop, "the spinner on CPU {} doesn't run", self.cpu);
            std::hint::spin_loop();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has shown in spins_on.
            let _ = thread.join();
        }
    }
}

/// So many turns more, and the spinner has run since: the stores of fewer may have been under way, in
/// the CPU's store buffer.
const FRESH_TURNS: u64 = 128;

/// Takes far longer than so many turns, and far less than a tick. What `spin_loop` is on arm64, a barrier for
/// instructions, takes an emulator a tenth of the time.
const LOOKS: usize = if cfg!(target_arch = "aarch64") { 20_000 } else { 2_000 };

/// Which of them run user code just now. The others' emulated CPUs are in the kernel, or wait for one of
/// the host's.
fn turning(spinners: &[Spinner]) -> Vec<bool> {
    let from: Vec<u64> = spinners.iter().map(Spinner::turns).collect();
    let mut turning = vec![false; spinners.len()];
    for _ in 0..LOOKS {
        for (n, spinner) in spinners.iter().enumerate() {
            turning[n] |= spinner.turns() >= from[n] + FRESH_TURNS;
        }
        if turning.iter().all(|&turning| turning) {
            break;
        }
        std::hint::spin_loop();
    }
    turning
}

/// The kernel's own counts, to be read and compared: as text until then, so that little time goes by
/// between the reading and the stamp, or a CPU that ticks has ticked again.
struct Counts {
    interrupts: String,
    statuses: Vec<String>,
}

impl Counts {
    fn read(spinners: &[Spinner]) -> Counts {
        let status = |spinner: &Spinner| {
            let path = format!("/proc/self/task/{}/status", spinner.shared.tid.load(Relaxed));
            fs::read_to_string(&path).expect(&path)
        };
        let statuses = spinners.iter().map(status).collect();
        let interrupts = fs::read_to_string("/proc/interrupts").expect("/proc/interrupts");
        Counts { interrupts, statuses }
    }

    /// How often the kernel has been on each spinner's CPU.
    fn visits(&self, spinners: &[Spinner]) -> Vec<Visits> {
        let visits = |(spinner, status): (&Spinner, &String)| {
            (interrupts(&self.interrupts, spinner.cpu), switches(status))
        };
        spinners.iter().zip(&self.statuses).map(visits).collect()
    }
}

/// Interrupts of a CPU, and task switches of its spinner. Each counter only grows, so equal sums
/// mean equal counters.
type Visits = (u64, u64);

/// Voluntary and other task switches.
fn switches(status: &str) -> u64 {
    let switches = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
    let switches: Vec<u64> = switches.map(|(_, n)| n.trim().parse().expect("a number")).collect();
    assert_eq!(switches.len(), 2, "{status}");
    switches.iter().sum()
}

/// The sum of a CPU's column.
fn interrupts(text: &str, cpu: usize) -> u64 {
    column(text, cpu, |_| true)
}

/// The number of a CPU in the row `name`.
pub(crate) fn row(text: &str, name: &str, cpu: usize) -> u64 {
    column(text, cpu, |row| row.trim_start().starts_with(name))
}

/// The sum of a CPU's column over the rows that `counts` takes.
fn column(text: &str, cpu: usize, counts: impl Fn(&str) -> bool) -> u64 {
    let (header, rows) = text.split_once('\n').expect("a header");
    let name = format!("CPU{cpu}");
    let column = header.split_whitespace().position(|cpu| cpu == name);
    let column = column.unwrap_or_else(|| panic!("no {name} in {header}"));
    // Rows of sums over all CPUs (ERR, MIS) have one number, which is no CPU's.
    let columns = header.split_whitespace().count();
    let numbers = |row: &str| -> Vec<u64> {
        row.split_whitespace().skip(1).map_while(|word| word.parse().ok()).take(columns).collect()
    };
    let rows = rows.lines().filter(|row| counts(row));
    rows.map(numbers).filter(|row| row.len() == columns).map(|row| row[column]).sum()
}

/// How barriers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// By an expedited wait, and by looking only, in turn.
    InTurn,
    /// By expedited waits only.
    Expedited,
}

/// So many rounds on `cpus` at once, of which something must have been concluded; if not, so many more: a busy
/// host may have had no time for the spinners.
pub(crate) fn check(barrier: &Barrier, cpus: &[usize], rounds: usize, asks: Asks) {
    let stop = Instant::now() + PATIENCE;
    while rounds_judged(barrier, cpus, rounds, asks) == 0 {
        let given = Instant::now() < stop;
        assert!(given, "no spinner on CPUs {cpus:?} was seen to turn in {rounds} rounds and more");
    }
}

/// So many rounds on `cpus` at once; returns how often something was concluded of a CPU.
pub(crate) fn rounds_judged(barrier: &Barrier, cpus: &[usize], rounds: usize, asks: Asks) -> usize {
    let spinners: Vec<Spinner> = cpus.iter().map(|&cpu| Spinner::on(cpu)).collect();
    let mut judged = 0;
    for round in 0..rounds {
        let before = Counts::read(&spinners);
        let turning = turning(&spinners);
        let stamp = Stamp::now();
        if asks == Asks::Expedited || round % 2 == 0 {
            barrier.wait(stamp, Instant::now() + PATIENCE).unwrap_or_else(|e| panic!("{e}"));
        } else {
            poll(barrier, stamp);
        }
        let after = Counts::read(&spinners);
        let before = before.visits(&spinners);
        let suspects = (0..cpus.len()).zip(after.visits(&spinners));
        let suspects = suspects.filter(|&(n, after)| turning[n] && after == before[n]);
        let suspects: Vec<usize> = suspects.map(|(n, _)| n).collect();
        judged += turning.iter().filter(|&&turning| turning).count();
        if suspects.is_empty() {
            continue;
        }
        for &n in &suspects {
            spinners[n].spins_on();
        }
        let after = Counts::read(&spinners).visits(&spinners);
        for n in suspects {
            let (interrupts, switches) = before[n];
            assert!(
                after[n] != before[n],
                "round {round}: the barrier passed early: CPU {} has had {interrupts} interrupts \
                 and its spinner {switches} task switches, before the stamp as after the barrier",
                cpus[n]
            );
        }
    }
    judged
}

/// As a client that doesn't sleep.
fn poll(barrier: &Barrier, stamp: Stamp) {
    let stop = Instant::now() + PATIENCE;
    while !barrier.passed(stamp).expect("a source to be trusted") {
        assert!(Instant::now() < stop, "a polled barrier had not passed by the deadline");
        std::hint::spin_loop();
    }
}

/// A spinner on each of these CPUs takes no interrupt for a while, soon.
pub(crate) fn tickless(cpus: &[usize]) {
    let spinners: Vec<Spinner> = cpus.iter().map(|&cpu| Spinner::on(cpu)).collect();
    let stop = Instant::now() + PATIENCE;
    loop {
        let visits = || Counts::read(&spinners).visits(&spinners);
        let before = visits();
        thread::sleep(Duration::from_millis(300));
        let after = visits();
        if before == after {
            return;
        }
        assert!(Instant::now() < stop, "CPUs {cpus:?} are not tickless: {before:?}, {after:?}");
    }
}
