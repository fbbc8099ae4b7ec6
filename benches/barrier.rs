//! What a barrier costs: how long a wait takes, what the daemon burns, what an event costs.
//!
//! `make bench` as root, or `cargo bench --bench barrier -- --file FILE --pid PID` on a live daemon;
//! `--only "1 busy"` for one state of the machine alone, `--watch SECONDS` for another time of watching.
//!
//! Three states of the machine: idle, a spinning task on the last CPU, one on each CPU. Beside the
//! waits, `membarrier(2)` in the same run. BPF costs are the kernel's own count (run_time_ns /
//! run_cnt, which includes the counting).

use barrierd_client::{Barrier, Stamp};
use rustix::thread::{CpuSet, MembarrierCommand, membarrier, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const WAITS: usize = 400;
/// How long the daemon's CPU time is watched, without anyone waiting, in seconds.
const WATCH: u64 = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let (Some(file), Some(pid)) = (value("--file"), value("--pid")) else {
        println!("barrier: needs a live daemon: --file FILE --pid PID (`make bench` as root)");
        return;
    };
    let only = value("--only");
    let watch = value("--watch").map_or(WATCH, |seconds| seconds.parse().expect("--watch SECONDS"));
    let barrier = Barrier::open(&file).unwrap_or_else(|error| panic!("{error}"));
    let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok()
        && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    let allowed = sched_getaffinity(None).expect("this process's CPUs");
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();

    let states = [("idle", &cpus[..0]), ("1 busy", &cpus[cpus.len() - 1..]), ("all busy", &cpus)];
    println!("{} CPUs, {WAITS} waits each, microseconds", cpus.len());
    println!("  {:<10}{:<34}{:>10}{:>10}{:>10}", "", "", "p50", "p99", "max");
    let wanted = |state: &str| only.as_deref().is_none_or(|only| only == state);
    for (state, busy) in states.into_iter().filter(|(state, _)| wanted(state)) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for &cpu in busy {
                let stop = &stop;
                scope.spawn(move || spin_on(cpu, stop));
            }
            thread::sleep(Duration::from_millis(200));
            let far = || Instant::now() + Duration::from_secs(10);
            row(state, "barrierd passive", || {
                barrier.wait_passive(Stamp::now(), far()).expect("a barrier");
            });
            row(state, "barrierd expedited", || {
                barrier.wait(Stamp::now(), far()).expect("a barrier");
            });
            row(state, "barrierd vtime", || {
                let stamp = barrier.vtime().expect("a sound virtual time");
                while barrier.watermark().expect("a true source").vtime <= stamp {
                    // The nanoseconds move with it: sleep on them.
                    let _ = barrier.wait_passive(Stamp::now(), far());
                }
            });
            if registered {
                for (name, command) in [
                    ("membarrier PRIVATE_EXPEDITED", MembarrierCommand::PrivateExpedited),
                    ("membarrier GLOBAL", MembarrierCommand::Global),
                ] {
                    row(state, name, || membarrier(command).expect("registered"));
                }
            }
            let (before, others, begin) = (cost(&pid), switches(), Instant::now());
            thread::sleep(Duration::from_secs(watch));
            let (after, seconds) = (cost(&pid), begin.elapsed().as_secs_f64());
            println!(
                "  {state:<10}daemon: {:.2} % of a core, {:.0} switches/s of the machine's {:.0}",
                (after.0 - before.0) / seconds * 100.0,
                (after.1 - before.1) / seconds,
                (switches() - others) / seconds
            );
            stop.store(true, Relaxed);
        });
    }
    if only.is_none() {
        bpf_events();
    }
}

/// Context switches of the whole machine so far: how idle it was.
fn switches() -> f64 {
    let text = fs::read_to_string("/proc/stat").expect("procfs");
    let line = text.lines().find_map(|line| line.strip_prefix("ctxt "));
    line.and_then(|n| n.parse().ok()).expect("a number")
}

fn spin_on(cpu: usize, stop: &AtomicBool) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("an allowed CPU");
    while !stop.load(Relaxed) {
        std::hint::spin_loop();
    }
}

fn row(state: &str, name: &str, mut wait: impl FnMut()) {
    let mut took: Vec<Duration> = (0..WAITS)
        .map(|i| {
            // Off the beat of ticks and rounds.
            thread::sleep(Duration::from_micros(u64::try_from(i * 7919 % 4000).expect("small")));
            let begin = Instant::now();
            wait();
            begin.elapsed()
        })
        .collect();
    took.sort_unstable();
    let at = |index: usize| took[index].as_secs_f64() * 1e6;
    let (p50, p99, max) = (at(WAITS / 2), at(WAITS * 99 / 100), at(WAITS - 1));
    println!("  {state:<10}{name:<34}{p50:>10.0}{p99:>10.0}{max:>10.0}");
}

/// The daemon's CPU seconds and context switches so far.
fn cost(pid: &str) -> (f64, f64) {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the daemon runs");
    let schedstat = read("schedstat");
    let ns: f64 = schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number");
    let status = read("status");
    let switches = status
        .lines()
        .filter(|line| line.contains("ctxt_switches"))
        .filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok())
        .sum();
    (ns / 1e9, switches)
}

/// Switches the kernel's BPF statistics on for a while, under load, and prints each program's.
fn bpf_events() {
    const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";
    let Ok(before) = fs::read_to_string(SWITCH) else { return };
    if fs::write(SWITCH, "1").is_err() {
        return;
    }
    thread::sleep(Duration::from_secs(4));
    let shown = Command::new("bpftool").args(["prog", "show"]).output();
    let _ = fs::write(SWITCH, before);
    let Ok(shown) = shown else {
        println!("  no bpftool: no cost of BPF events");
        return;
    };
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    for line in shown.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).copied()
        };
        let number = |name: &str| after(name)?.parse::<f64>().ok();
        if let (Some(name), Some(ns), Some(count)) =
            (after("name"), number("run_time_ns"), number("run_cnt"))
        {
            println!("  {name:<20}{:>8.0} ns an event, {count:.0} events", ns / count);
        }
    }
}
