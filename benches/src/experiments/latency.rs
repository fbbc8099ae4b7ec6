//! How long an object that was retired waits for its destructor, while its thread retires at leisure.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::effort::Effort;
use crate::objects::{self, Scenarios, Slot, freed, latencies_us};
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::schemes::{OVERVIEW, Scheme};
use crate::stats::{number, per_mille, sorted};
use crate::turns::Samples;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "latency",
    title: "From retirement to destructor",
    about: "\
One thread replaces an object of 64 bytes every 10 us, or 20, beside a reader that never rests; the time from each \
retirement to its destructor. Then the same while 100 more threads have taken part once and sleep, having done before what \
the scheme's documentation asks of a thread that rests (kovan: `flush`; qsbr: to go offline). Each scheme in a process of \
its own, in turn. *p50* and its like are each round's, of which the table has the median, and for p50 the quartiles; \
*not freed* is what still waited when the writer ended. Nothing is left out: the beginning, in which sleepers are not yet \
known as such, counts, and where a thread is preempted in a section, p99 is the time that it was away. *p99 later* is of the \
run's second half alone, when the beginning is over.",
    run,
    job: Some(objects::job::<Latency>),
};

/// The scenario's name: microseconds between two retirements and threads that idle beside; and what the report says.
const PACES: [(&str, &str); 4] = [
    ("10+0", "every 10 us"),
    ("20+0", "every 20 us"),
    ("10+100", "every 10 us, 100 idle threads beside"),
    ("20+100", "every 20 us, 100 idle threads beside"),
];
/// Parts of a thousand, and what they are called.
const PARTS: [(usize, &str); 4] = [(500, "p50"), (900, "p90"), (990, "p99"), (1000, "worst")];
/// The p99 of what was freed in the run's second half.
const LATER: &str = "p99 later";

fn run(bench: &mut Bench) {
    let rounds = bench.effort.pick(1, 3, 9);
    let all = objects::of_each_scheme(bench, "latency", &PACES.map(|(pace, _)| pace), rounds);
    let mut bars = Bars {
        title: "From retirement to destructor, p50 in us (median of the rounds, quartiles)".into(),
        log: true,
        better: Some(Better::Lower),
        ..Bars::default()
    };
    for (pace, called) in PACES {
        let busy = pace.replace("+100", "+0");
        let mut table = Table::new([
            "",
            "p50, us",
            "p90",
            "p99",
            LATER,
            "worst",
            "not freed",
            "p50, x of none idle",
        ]);
        let mut group = Vec::new();
        for (name, own) in &all {
            let figure = |pace: &str, part: &str| own.of(&format!("{pace} {part}"));
            let median =
                |part: &str| figure(pace, part).map_or(String::new(), |one| number(one.median));
            let Some(p50) = figure(pace, "p50") else { continue };
            let ratio = figure(&busy, "p50").filter(|_| pace != busy);
            table.row([
                (*name).to_owned(),
                p50.shown(),
                median("p90"),
                median("p99"),
                median(LATER),
                median("worst"),
                median("left"),
                ratio.map_or(String::new(), |alone| number(p50.median / alone.median)),
            ]);
            group.push(((*name).to_owned(), p50));
            if pace == PACES[0].0 && OVERVIEW.contains(name) {
                bench.report.headline(
                    "retired to freed, one in 10 us, p99, us",
                    name,
                    median("p99"),
                );
            }
        }
        for part in ["p50", "p90", "p99", LATER] {
            let what = format!("retired to freed, {called}, {part}, us");
            let entries = objects::medians(&all, &format!("{pace} {part}"));
            bench.report.principal(&what, Better::Lower, entries);
        }
        bench.report.table(&format!("Retired to freed, {called}"), &table);
        bars.groups.push((called.into(), group));
    }
    bench.report.picture("latency", bars, "microseconds from retirement to destructor, by scheme");
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("latency", "us, or objects", &raw);
}

struct Latency;

impl Scenarios for Latency {
    fn run<S: Scheme>(scenario: &str, scheme: &S, effort: Effort, samples: &mut Samples) -> bool {
        let Some((Ok(every), Ok(idle))) =
            scenario.split_once('+').map(|(every, idle)| (every.parse(), idle.parse()))
        else {
            return false;
        };
        let time = Duration::from_millis(effort.pick(20, 200, 1000));
        let (left, first_half) = paced(scheme, Duration::from_micros(every), idle, time);
        let times = sorted(latencies_us(0));
        // Of a scheme that has freed nothing there is nothing to say.
        for (part, called) in PARTS.iter().filter(|_| !times.is_empty()) {
            samples.push(&format!("{scenario} {called}"), per_mille(&times, *part));
        }
        let later = sorted(latencies_us(first_half));
        if !later.is_empty() {
            samples.push(&format!("{scenario} {LATER}"), per_mille(&later, 990));
        }
        samples.push(&format!("{scenario} left"), left as f64);
        true
    }
}

/// Replaces at that pace beside a reader and so many threads that sleep; returns how many objects are not freed at the
/// end, and how many were after half of the time.
fn paced<S: Scheme>(scheme: &S, every: Duration, idle: usize, time: Duration) -> (u64, usize) {
    let (slot, stop) = (Slot::new(scheme), AtomicBool::new(false));
    let (asleep, end) = (Barrier::new(idle + 1), Barrier::new(idle + 1));
    thread::scope(|scope| {
        for _ in 0..idle {
            scope.spawn(|| {
                let mut local = scheme.local();
                slot.read(&mut local);
                S::rest(&mut local);
                asleep.wait();
                end.wait();
            });
        }
        asleep.wait();
        let _end = StopOnDrop(&stop);
        scope.spawn(|| slot.read_until(scheme, &stop));
        let mut local = scheme.local();
        let (begin, mut retired) = (Instant::now(), 0);
        let (mut next, mut first_half) = (begin, None);
        while begin.elapsed() < time {
            if first_half.is_none() && begin.elapsed() >= time / 2 {
                first_half = Some(objects::noted());
            }
            cpus::spin_until(next);
            next = Instant::now() + every;
            retired += 1;
            slot.replace(&mut local, retired, true);
        }
        let left = retired.saturating_sub(freed());
        end.wait();
        (left, first_half.unwrap_or(0))
    })
}
