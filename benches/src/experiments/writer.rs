//! What a writer pays: to replace and retire, in the mean and at worst.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::instructions::{self, barrierd_bench_counted};
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::report::{Better, Table};
use crate::schemes::{self, OVERVIEW, PEER, Scheme, Setting, Visitor};
use crate::stats::{number, per_mille, sorted};
use crate::structures::cell::Cell;
use crate::turns::{self, Contestant, Samples};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "writer",
    title: "What a writer pays",
    about: "\
One thread replaces what a cell leads to, again and again: open a section, allocate, swap, retire, close; what it \
retired is freed on the way, by itself (liburcu: by a thread of its own, whose time is not in these rows). \
Then one that does so every 10 us beside a reader that never rests, and one that does so every ms, and each time is \
taken: what a writer waits for at worst. Those times contain one clock reading, which the row in which nothing is \
freed shows.",
    run,
    job: Some(job),
};

const ALLOCATOR_ALONE: &str = "(alloc and free alone)";
const OPERATIONS: u64 = 20_000;
/// The paced writers: the job, its name in the report, the time between swaps, and swaps in a turn.
const PACES: [(&str, &str, Duration, u64); 2] = [
    ("paced", "every 10 us", Duration::from_micros(10), 2_000),
    ("slow", "every ms", Duration::from_millis(1), 200),
];

fn run(bench: &mut Bench) {
    let patience = Duration::from_secs(180);
    let mut raw = Vec::new();
    let counts = instructions::count(bench, "writer count");
    if let Err(error) = &counts {
        bench.report.miss(format!("instructions: {error}"));
    }
    let counts = counts.unwrap_or_default();
    for (allocator, title) in
        [(Allocator::System, "the system's allocator"), (Allocator::Mimalloc, "mimalloc")]
    {
        match job::done(bench, allocator, "writer times", patience) {
            Ok(times) => {
                let mut table = Table::new(["", "ns", "x of crossbeam-epoch", "instructions"]);
                for (index, name) in times.names.iter().enumerate() {
                    let Some(spread) = times.of(name) else { continue };
                    let ratio =
                        times.ratio(name, PEER).map_or(String::new(), |ratio| number(ratio.median));
                    let count = counts.get(index).filter(|_| allocator == Allocator::System);
                    let count =
                        count.map_or(String::new(), |count| number(count / OPERATIONS as f64));
                    table.row([name.clone(), spread.shown(), ratio, count]);
                    if allocator == Allocator::System && OVERVIEW.contains(&name.as_str()) {
                        bench.report.headline(
                            "replace, retire and free, ns",
                            name,
                            number(spread.median),
                        );
                    }
                }
                bench.report.table(&format!("Replace and retire, {title}"), &table);
                let entries: Vec<(String, f64)> = times
                    .names
                    .iter()
                    .filter_map(|name| Some((name.clone(), times.of(name)?.median)))
                    .collect();
                let what = format!("replace and retire, {title}, ns");
                bench.report.contest(&what, Better::Lower, entries.clone());
                bench.report.principal_robust(&what, Better::Lower, entries);
                raw.push((title.to_owned(), times));
            }
            Err(error) => bench.report.miss(error),
        }
    }
    for (what, called, ..) in PACES {
        match job::done(bench, Allocator::System, &format!("writer {what}"), patience) {
            Ok(times) => {
                report_paced(bench, called, &times);
                raw.push((called.to_owned(), percentiles(&times)));
            }
            Err(error) => bench.report.miss(error),
        }
    }
    bench.report.raw("writer", "ns", &raw);
}

/// Parts of a thousand, and what they are called.
const PARTS: [(usize, &str); 5] =
    [(500, "p50"), (900, "p90"), (990, "p99"), (999, "p99.9"), (1000, "worst")];
const MEAN: &str = "mean";

/// Each contestant's mean and percentiles, of all its times.
fn percentiles(times: &Samples) -> Samples {
    let mut all = Samples::default();
    for (name, own) in times.names.iter().zip(&times.rounds) {
        all.push(name, own.iter().sum::<f64>() / own.len() as f64);
        let own = sorted(own.iter().copied());
        PARTS.iter().for_each(|(part, _)| all.push(name, per_mille(&own, *part)));
    }
    all
}

fn report_paced(bench: &mut Bench, called: &str, times: &Samples) {
    let heads = || std::iter::once(MEAN).chain(PARTS.map(|(_, part)| part));
    let mut table = Table::new(std::iter::once("").chain(heads()));
    let all = percentiles(times);
    for (name, own) in all.names.iter().zip(&all.rounds) {
        table.row(std::iter::once(name.clone()).chain(own.iter().map(|value| number(*value))));
    }
    for (index, part) in heads().enumerate().filter(|(_, part)| !["p90", "worst"].contains(part)) {
        let entries = all.names.iter().zip(&all.rounds);
        let entries = entries.map(|(name, own)| (name.clone(), own[index]));
        let what = format!("replace and retire {called}, {part}, ns");
        bench.report.principal(&what, Better::Lower, entries.collect::<Vec<_>>());
    }
    bench.report.table(&format!("Replace and retire {called} beside a reader, ns"), &table);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let setting = Setting::on(options.file.clone());
    if let Some(&(_, _, every, swaps)) = PACES.iter().find(|(name, ..)| *name == what) {
        return Ok(paced_turns(&setting, options, every, swaps));
    }
    match what {
        "times" | "count" => {
            let mut turns = Turns(Vec::new());
            schemes::each(&setting, &mut turns);
            let counted = what == "count";
            let mut contestants = vec![Contestant::new(ALLOCATOR_ALONE, move || {
                timed(counted, &mut || {
                    (0..OPERATIONS).for_each(|n| drop(black_box(Box::new([n; 2]))))
                })
            })];
            let setting = &setting;
            contestants.extend(
                turns
                    .0
                    .iter()
                    .map(|&(name, turn, _)| Contestant::new(name, move || turn(setting, counted))),
            );
            if counted {
                contestants.iter_mut().for_each(|one| {
                    (one.turn)();
                });
                return Ok(Samples::default());
            }
            Ok(turns::take(options.effort.pick(2, 41, 151), &mut contestants))
        }
        _ => Err("no such job".into()),
    }
}

fn paced_turns(setting: &Setting, options: &Options, every: Duration, swaps: u64) -> Samples {
    let mut turns = Turns(Vec::new());
    schemes::each(setting, &mut turns);
    let mut samples = Samples::default();
    for _ in 0..options.effort.pick(1, 8, 30) {
        for (name, _, paced) in &turns.0 {
            paced(setting, every, swaps).into_iter().for_each(|ns| samples.push(name, ns));
        }
    }
    samples
}

type Turn = fn(&Setting, bool) -> f64;
type Paced = fn(&Setting, Duration, u64) -> Vec<f64>;

struct Turns(Vec<(&'static str, Turn, Paced)>);

impl Visitor for Turns {
    fn visit<S: Scheme>(&mut self) {
        self.0.push((S::NAME, turn::<S>, paced::<S>));
    }
}

/// Nanoseconds an operation.
fn timed(counted: bool, work: &mut dyn FnMut()) -> f64 {
    let begin = Instant::now();
    if counted {
        barrierd_bench_counted(work);
    } else {
        work();
    }
    begin.elapsed().as_secs_f64() * 1e9 / OPERATIONS as f64
}

fn turn<S: Scheme>(setting: &Setting, counted: bool) -> f64 {
    let scheme = S::new(setting);
    let mut local = scheme.local();
    let cell = Cell::<S>::new(&S::pin(&mut local));
    let mut replace = || {
        for n in 0..OPERATIONS {
            cell.replace(&S::pin(&mut local), n);
        }
    };
    replace();
    timed(counted, &mut replace)
}

fn paced<S: Scheme>(setting: &Setting, every: Duration, swaps: u64) -> Vec<f64> {
    let (scheme, stop) = (S::new(setting), AtomicBool::new(false));
    let mut local = scheme.local();
    let cell = Cell::<S>::new(&S::pin(&mut local));
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        scope.spawn(|| {
            let mut local = scheme.local();
            while !stop.load(Relaxed) {
                black_box(cell.read(&mut S::pin(&mut local)));
            }
        });
        let mut next = Instant::now();
        (0..swaps)
            .map(|n| {
                cpus::spin_until(next);
                let begin = Instant::now();
                cell.replace(&S::pin(&mut local), n);
                let took = begin.elapsed();
                // From now, not from when it was due: else a preemption is followed by a burst.
                next = begin + every;
                took.as_secs_f64() * 1e9
            })
            .collect()
    })
}
