//! How soon things are freed where threads outnumber CPUs.

use super::Experiment;
use crate::Bench;
use crate::cpus::StopOnDrop;
use crate::effort::Effort;
use crate::objects::{self, Scenarios, Slot, freed, latencies_us};
use crate::report::{Better, Table};
use crate::schemes::Scheme;
use crate::stats::{number, per_mille, sorted};
use crate::structures::Line;
use crate::turns::Samples;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "crowds",
    title: "Prompt frees among many threads",
    about: "\
2, 8 and 32 threads, on the CPUs that the first line names. Each reads its neighbour's object, replaces its own (64 bytes), and \
then sleeps for 100 us, as threads of a server do between requests, or does so at full speed. From a retirement to its \
destructor: of all that are retired in the second of three thirds of a run, 80 ms each (at full speed: of one in 64), so that each of them has \
80 ms at least in which it may be freed; what is not freed at the end counts with that time. And what waits, by a look each millisecond of the whole run. \
At full speed more threads than CPUs means that somebody is always preempted, mostly in a section, and for milliseconds.",
    run,
    job: Some(objects::job::<Crowds>),
};

/// The scenario: so many threads, and how; and what the report says.
const SCENARIOS: [(&str, &str); 6] = [
    ("2+rest", "2 threads that rest"),
    ("8+rest", "8 threads that rest"),
    ("32+rest", "32 threads that rest"),
    ("2+full", "2 threads at full speed"),
    ("8+full", "8 threads at full speed"),
    ("32+full", "32 threads at full speed"),
];
const REST: Duration = Duration::from_micros(100);
const LOOK: Duration = Duration::from_millis(1);
/// At full speed so many retirements go to one whose time is taken.
const NOTED: u64 = 64;

fn run(bench: &mut Bench) {
    let rounds = bench.effort.pick(1, 3, 9);
    let all = objects::of_each_scheme(bench, "crowds", &SCENARIOS.map(|(name, _)| name), rounds);
    for (scenario, called) in SCENARIOS {
        let heads = ["", "freed after, p50, us", "p99", "waiting, p50", "most", "of retired"];
        let mut table = Table::new(heads);
        for (name, own) in &all {
            let spread = |what: &str| own.of(&format!("{scenario} {what}"));
            let shown = |what| spread(what).map_or(String::new(), |one| one.shown());
            let median = |what| spread(what).map_or(String::new(), |one| number(one.median));
            table.row([
                (*name).to_owned(),
                shown("p50"),
                shown("p99"),
                median("waiting"),
                shown("most"),
                median("retired"),
            ]);
        }
        for (what, said) in [("p50", "freed after, p50, us"), ("p99", "freed after, p99, us")] {
            let row = format!("{called}: {said}");
            bench.report.contest(
                &row,
                Better::Lower,
                objects::medians(&all, &format!("{scenario} {what}")),
            );
        }
        let entries = objects::medians(&all, &format!("{scenario} most"));
        bench.report.contest(&format!("{called}: most waiting"), Better::Lower, entries);
        bench.report.table(called, &table);
    }
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("crowds", "us, or objects", &raw);
}

struct Crowds;

impl Scenarios for Crowds {
    fn run<S: Scheme>(scenario: &str, scheme: &S, effort: Effort, samples: &mut Samples) -> bool {
        let Some((Ok(threads), pace)) =
            scenario.split_once('+').map(|(count, pace)| (count.parse::<usize>(), pace))
        else {
            return false;
        };
        let time = Duration::from_millis(effort.pick(10, 80, 300));
        let Crowd { waiting, retired, noted } = crowd(scheme, threads, pace == "rest", time);
        let unfreed = noted.saturating_sub(objects::noted());
        let never = std::iter::repeat_n(time.as_secs_f64() * 1e6, unfreed);
        let times = sorted(latencies_us(0).chain(never));
        let mut push = |figure: &str, value| samples.push(&format!("{scenario} {figure}"), value);
        push("p50", per_mille(&times, 500));
        push("p99", per_mille(&times, 990));
        let waiting = sorted(waiting);
        push("waiting", per_mille(&waiting, 500));
        push("most", per_mille(&waiting, 1000));
        push("retired", retired as f64);
        true
    }
}

/// What came of a run.
struct Crowd {
    /// What waited at each look.
    waiting: Vec<f64>,
    retired: u64,
    /// The number of objects whose time is taken, freed or not.
    noted: usize,
}

/// Runs them for three times `time`, and takes the times of what is retired in the second third: the first is for what a
/// scheme does once, and in the third they may be freed.
fn crowd<S: Scheme>(scheme: &S, threads: usize, rests: bool, time: Duration) -> Crowd {
    let (stop, mut waiting) = (AtomicBool::new(false), Vec::new());
    let notes = AtomicBool::new(false);
    let cells: Vec<(Slot<S>, Line<AtomicU64>)> =
        (0..threads).map(|_| (Slot::new(scheme), Line::default())).collect();
    let sum = || cells.iter().map(|(_, retired)| retired.0.load(Relaxed)).sum::<u64>();
    let noted = thread::scope(|scope| {
        let end = StopOnDrop(&stop);
        let thread = |index: usize| {
            let (stop, notes, cells) = (&stop, &notes, &cells);
            scope.spawn(move || {
                let (mut local, mut noted) = (scheme.local(), 0);
                let ((own, retired), (next, _)) = (&cells[index], &cells[(index + 1) % threads]);
                for n in 1.. {
                    next.read(&mut local);
                    let is_noted = (rests || n % NOTED == 0) && notes.load(Relaxed);
                    own.replace(&mut local, n, is_noted);
                    noted += usize::from(is_noted);
                    retired.0.store(n, Relaxed);
                    if rests {
                        thread::sleep(REST);
                    }
                    if (rests || n % NOTED == 0) && stop.load(Relaxed) {
                        break;
                    }
                }
                noted
            })
        };
        let all: Vec<_> = (0..threads).map(thread).collect();
        for now in [false, true, false] {
            notes.store(now, Relaxed);
            let begin = Instant::now();
            while begin.elapsed() < time {
                thread::sleep(LOOK);
                // Frees first: so what is retired meanwhile can only add.
                let freed = freed();
                waiting.push(sum().saturating_sub(freed) as f64);
            }
        }
        drop(end);
        all.into_iter().map(|one| one.join().expect("it runs to its end")).sum()
    });
    Crowd { waiting, retired: sum(), noted }
}
