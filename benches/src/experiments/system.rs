//! What the daemon costs a machine: an event, its own CPU time, switches and computing beside it.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, Load, StopOnDrop};
use crate::daemon;
use crate::report::Table;
use crate::stats::{Spread, number, per_mille, sorted};
use crate::turns::Samples;
use barrierd_bpf::BarrierdSkelBuilder;
use barrierd_bpf::layout::{ARMED, CONTROL_BYTES, SLOT_BYTES};
use barrierd_client::{Barrier, Stamp};
use barrierd_daemon::online::possible_cpus;
use barrierd_daemon::words::Words;
use libbpf_rs::libbpf_sys;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use rustix::io::{read, write};
use rustix::pipe::pipe;
use rustix::process::geteuid;
use rustix::thread::{sched_getcpu, set_name};
use std::fs;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "system",
    title: "What the daemon costs the machine",
    about: "\
*An event*: a system call that fires one tracepoint (`task:task_rename`), with barrierd's program on it and without, in \
turn; the difference, so the kernel's way to a program is in it, and an empty program shows how much that is. (The \
kernel's own statistics read the clock twice an event and say 66 to 82 ns for an empty one on a virtual machine.) Most \
events find their slot up to date. *The daemon*: its CPU time and context switches while nobody waits, so that it is \
easy, and beside one thread that waits, in time or in virtual time, sleeps up to 8 ms, and waits again. *The machine with and without it*: started and stopped again in each round; a byte \
sent to and fro between two threads through pipes, as `perf bench sched pipe` does, on one CPU (two switches there and \
back) and where the kernel likes; and all CPUs computing. A cycle of a barrier takes a tick or more, so computing \
loses one look of the daemon's each.",
    run,
    job: None,
};

fn run(bench: &mut Bench) {
    if !geteuid().is_root() {
        return bench.report.miss("the system's cost: it takes root");
    }
    let mut raw = Vec::new();
    eprintln!("         system, an event");
    // On a thread of its own: it stays on one CPU.
    let rows = bench.effort.pick(3, 51, 201);
    match thread::spawn(move || events(rows)).join().unwrap_or_else(|_| Err("it panicked".into())) {
        Ok(samples) => {
            let mut table = Table::new(["", "ns", "less an empty program"]);
            for name in &samples.names {
                let cell =
                    |spread: Option<Spread>| spread.map_or(String::new(), |spread| spread.shown());
                table.row([
                    name.clone(),
                    cell(samples.of(name)),
                    cell(samples.difference(name, EMPTY)),
                ]);
            }
            for (fact, row) in
                [("event up to date ns", UP_TO_DATE), ("event otherwise ns", OTHERWISE)]
            {
                if let Some(own) = samples.difference(row, EMPTY) {
                    bench.facts.insert(fact, own.median);
                }
            }
            if let Some(all) = samples.of(UP_TO_DATE) {
                bench.facts.insert("event with the kernel's way ns", all.median);
            }
            bench.report.table("An event", &table);
            raw.push(("an event, ns".into(), samples));
        }
        Err(error) => bench.report.miss(format!("an event's cost: {error}")),
    }
    raw.extend(own_time(bench));
    raw.extend(on_and_off(bench));
    bench.report.raw("system", "ns, per cent, or as it says", &raw);
}

/// Who waits while the daemon's cost is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
    Nobody,
    Time,
    VirtualTime,
}

impl Waiter {
    const ALL: [Waiter; 3] = [Waiter::Nobody, Waiter::Time, Waiter::VirtualTime];

    fn name(self) -> &'static str {
        match self {
            Waiter::Nobody => "nobody waits",
            Waiter::Time => "one waits in time",
            Waiter::VirtualTime => "one waits in virtual time",
        }
    }

    /// Waits off the ticks' beat until `stop`: milliseconds of each.
    fn waits(self, barrier: &Barrier, stop: &AtomicBool) -> Vec<f64> {
        let mut waits = Vec::new();
        if self == Waiter::Nobody {
            return waits;
        }
        for step in 0u64.. {
            if stop.load(Relaxed) {
                break;
            }
            thread::sleep(Duration::from_micros(step * 7919 % 8000));
            let (begin, until) = (Instant::now(), Instant::now() + Duration::from_secs(1));
            let stamp = barrier.vtime().unwrap_or(u64::MAX);
            loop {
                let waited = barrier.wait_passive(Stamp::now(), until);
                let passed = self == Waiter::Time
                    || barrier.watermark().is_ok_and(|mark| mark.vtime > stamp);
                if passed || waited.is_err() {
                    break;
                }
            }
            waits.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        waits
    }
}

/// The daemon's own CPU time under each load, whoever waits.
fn own_time(bench: &mut Bench) -> Vec<(String, Samples)> {
    let mut table = Table::new([
        "",
        "per cent of a core",
        "its switches a second",
        "the machine's",
        "a wait, ms: p50, p99",
    ]);
    let mut all = Samples::default();
    let Some(live) = &bench.live else {
        bench.report.miss("the daemon's own time: no daemon in this run");
        return Vec::new();
    };
    let barrier = match Barrier::open(&live.file) {
        Ok(barrier) => barrier,
        Err(error) => {
            bench.report.miss(format!("the daemon's own time: {error}"));
            return Vec::new();
        }
    };
    let watch = Duration::from_millis(bench.effort.pick(50, 3_000, 10_000));
    // Longer than it remembers a waiter.
    let settle = Duration::from_millis(bench.effort.pick(5, 1_500, 1_500));
    for (load, waiter) in Load::ALL.into_iter().flat_map(|load| Waiter::ALL.map(|w| (load, w))) {
        let name = format!("{}, {}", load.name(), waiter.name());
        eprintln!("         system, the daemon's own time, {name}");
        let stop = AtomicBool::new(false);
        let measured = load.during(|| {
            thread::scope(|scope| {
                let _end = StopOnDrop(&stop);
                let waits = scope.spawn(|| waiter.waits(&barrier, &stop));
                thread::sleep(settle);
                let (before, others, begin) = (live.cost()?, switches(), Instant::now());
                thread::sleep(watch);
                let (after, seconds) = (live.cost()?, begin.elapsed().as_secs_f64());
                let rate = |after: f64, before: f64| (after - before) / seconds;
                let machine = rate(switches(), others);
                stop.store(true, Relaxed);
                let waits = waits.join().ok()?;
                Some((rate(after.0, before.0) * 100.0, rate(after.1, before.1), machine, waits))
            })
        });
        let Some((percent, own, machine, waits)) = measured else { continue };
        let waits = sorted(waits);
        let waits = match waits.as_slice() {
            [] => String::new(),
            waits => [500, 990].map(|part| number(per_mille(waits, part))).join(", "),
        };
        table.row([name.clone(), format!("{percent:.2}"), number(own), number(machine), waits]);
        all.push(&name, percent);
        if (load, waiter) == (Load::Full, Waiter::Time) {
            bench.facts.insert("daemon per cent", percent);
            bench.facts.insert("daemon switches", own);
        }
    }
    bench.report.table("The daemon", &table);
    vec![("the daemon, per cent of a core".into(), all)]
}

/// Context switches of the whole machine so far.
fn switches() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("ctxt "));
    line.and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// What is measured, and how.
type Measure = (&'static str, Box<dyn Fn() -> f64>);

fn on_and_off(bench: &mut Bench) -> Vec<(String, Samples)> {
    let (Some(binary), Some(dir)) = (bench.options.barrierd.clone(), bench.options.run_dir.clone())
    else {
        bench.report.miss("the machine with and without the daemon: no daemon in this run");
        return Vec::new();
    };
    // The whole run's own one would be "on" all the time.
    drop(bench.live.take());
    let trips = bench.effort.pick(100, 10_000, 40_000);
    let computing = Duration::from_millis(bench.effort.pick(5, 150, 500));
    let measures: [Measure; 3] = [
        ("pipe, one CPU, ns there and back", Box::new(move || pipe_trips(trips, true))),
        ("pipe, any CPUs, ns there and back", Box::new(move || pipe_trips(trips, false))),
        ("computing, ns a loop", Box::new(move || compute(computing))),
    ];
    let mut all = Samples::default();
    for round in 0..bench.effort.pick(1, 15, 41) {
        eprintln!("         system, on and off, round {round}");
        for (name, measure) in &measures {
            all.push(&format!("{name}, off"), measure());
        }
        match daemon::start(&binary, &dir, "on-and-off") {
            Ok(_live) => {
                // Its set-up is over, but what that left in the caches is not.
                thread::sleep(Duration::from_millis(100));
                for (name, measure) in &measures {
                    all.push(&format!("{name}, on"), measure());
                }
            }
            Err(error) => {
                bench.report.miss(error);
                break;
            }
        }
    }
    let mut table = Table::new(["", "off", "on", "on / off"]);
    for (name, _) in &measures {
        let (on, off) = (format!("{name}, on"), format!("{name}, off"));
        let cell = |spread: Option<Spread>| spread.map_or(String::new(), |spread| spread.shown());
        let ratio = all.ratio(&on, &off).map_or(String::new(), |ratio| {
            format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.low, ratio.high)
        });
        table.row([(*name).to_owned(), cell(all.of(&off)), cell(all.of(&on)), ratio]);
    }
    bench.report.table("The machine with and without the daemon", &table);
    match daemon::start_if_possible(&bench.options) {
        Ok(live) => bench.live = live,
        Err(error) => bench.report.miss(error),
    }
    vec![("with and without the daemon".into(), all)]
}

/// Nanoseconds for a byte to go to another thread and back.
fn pipe_trips(trips: u32, one_cpu: bool) -> f64 {
    let (Ok((there_out, there_in)), Ok((back_out, back_in))) = (pipe(), pipe()) else {
        return f64::NAN;
    };
    let cpu = cpus::allowed()[0];
    let pass = move |from: &OwnedFd, to: &OwnedFd| {
        let mut byte = [0u8];
        let _ = read(from, &mut byte);
        let _ = write(to, &byte);
    };
    thread::scope(|scope| {
        scope.spawn(move || {
            if one_cpu {
                cpus::stay_on(cpu);
            }
            (0..trips).for_each(|_| pass(&there_out, &back_in));
        });
        let first = scope.spawn(move || {
            if one_cpu {
                cpus::stay_on(cpu);
            }
            let begin = Instant::now();
            let _ = write(&there_in, &[1]);
            (1..trips).for_each(|_| pass(&back_out, &there_in));
            let _ = read(&back_out, &mut [0u8]);
            begin.elapsed().as_secs_f64() * 1e9 / f64::from(trips)
        });
        first.join().unwrap_or(f64::NAN)
    })
}

/// Nanoseconds of a loop, all CPUs at it.
fn compute(time: Duration) -> f64 {
    let cpus = cpus::allowed();
    let all: f64 = thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|&cpu| {
                scope.spawn(move || {
                    cpus::stay_on(cpu);
                    let (begin, mut loops, mut x) = (Instant::now(), 0u64, 1u64);
                    while begin.elapsed() < time {
                        for _ in 0..1000 {
                            x = black_box(
                                x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1),
                            );
                        }
                        loops += 1000;
                    }
                    begin.elapsed().as_secs_f64() * 1e9 / loops as f64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).sum()
    });
    all / cpus.len() as f64
}

const EMPTY: &str = "an empty program";
const UP_TO_DATE: &str = "the slot is up to date";
const OTHERWISE: &str = "otherwise";

/// System calls in a row.
const CALLS: u32 = 20_000;

/// What an event costs the CPU that takes it.
fn events(rows: usize) -> Result<Samples, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let cpu = sched_getcpu();
    cpus::stay_on(cpu);
    let slots = possible_cpus().map_err(|error| failed("sysfs", &error))?.next_power_of_two();
    let mut storage = MaybeUninit::uninit();
    let mut open = BarrierdSkelBuilder::default()
        .open(&mut storage)
        .map_err(|error| failed("opening", &error))?;
    let entries = u32::try_from(slots).map_err(|error| failed("CPUs", &error))?;
    open.maps.slots.set_max_entries(entries).map_err(|error| failed("sizing", &error))?;
    let skel = open.load().map_err(|error| failed("loading", &error))?;
    let map = |fd, bytes| Words::map(fd, bytes).map_err(|error| failed("mapping", &error));
    let control = map(skel.maps.control.as_fd(), CONTROL_BYTES)?;
    let slot = map(skel.maps.slots.as_fd(), slots * SLOT_BYTES)?;

    let mut armed = 1u64;
    let mut row = |arm: bool| {
        let begin = Instant::now();
        for _ in 0..CALLS {
            if arm {
                armed += 1;
                control.store(ARMED, armed);
            }
            let _ = set_name(black_box(c"event"));
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    let empty = empty_program()?;
    let mut samples = Samples::default();
    for _ in 0..rows {
        let without = row(false);
        // SAFETY: a name that ends with a zero, and a loaded program's descriptor.
        let link = unsafe {
            libbpf_sys::bpf_raw_tracepoint_open(c"task_rename".as_ptr(), empty.as_raw_fd())
        };
        if link < 0 {
            return Err(format!("attaching an empty program: {link}"));
        }
        // SAFETY: just opened, and nobody else's.
        let link = unsafe { OwnedFd::from_raw_fd(link) };
        samples.push(EMPTY, row(false) - without);
        drop(link);
        for (arm, name) in [(false, UP_TO_DATE), (true, OTHERWISE)] {
            let without = row(arm);
            let link = skel.progs.on_event.attach_raw_tracepoint("task_rename");
            let link = link.map_err(|error| failed("attaching", &error))?;
            let _ = set_name(c"event");
            samples.push(name, row(arm) - without);
            drop(link);
        }
    }
    if slot.load(cpu * SLOT_BYTES) != control.load(ARMED) {
        return Err("the program did not run".into());
    }
    Ok(samples)
}

/// A program that returns 0 and does nothing else.
fn empty_program() -> Result<OwnedFd, String> {
    // `r0 = 0; exit` (Documentation/bpf/standardization/instruction-set.rst).
    let code = [0xb7u64, 0x95];
    // SAFETY: two instructions of eight bytes, and names that end with a zero; the kernel copies them.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            c"empty".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr().cast(),
            2,
            std::ptr::null_mut(),
        )
    };
    if fd < 0 {
        return Err(format!("loading an empty program: {fd}"));
    }
    // SAFETY: just opened, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
