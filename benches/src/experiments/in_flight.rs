//! How many objects that were retired wait to be freed while threads replace at full speed.

use super::Experiment;
use crate::Bench;
use crate::cpus::StopOnDrop;
use crate::effort::Effort;
use crate::objects::{self, Scenarios, Slot, freed, mib};
use crate::report::{Better, Table};
use crate::schemes::Scheme;
use crate::stats::{number, per_mille, sorted};
use crate::structures::Line;
use crate::turns::Samples;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "in_flight",
    title: "Objects in flight",
    about: "\
Threads replace objects of 64 bytes at full speed, each in a cell of its own, beside a reader: two of them, and one. \
Another thread looks each ms how many were retired and are not yet freed. Of each round's looks the median and the most; \
the table has the rounds' medians and quartiles. With more threads than CPUs somebody is always preempted, mostly in a \
section, which holds back what comes after it; with one writer and two CPUs that is rare. \
Throughput differs, so a fast scheme retires more in the same time: the objects retired stand beside, and by how much the \
process grew at its peak.",
    run,
    job: Some(objects::job::<InFlight>),
};

/// What waits is looked at so often.
const LOOK: Duration = Duration::from_millis(1);
/// A look that took longer was interrupted between its two sums, and does not count.
const INTERRUPTED: Duration = Duration::from_micros(20);

const SCENARIOS: [(&str, &str, usize); 2] =
    [("two", "two writers and a reader", 2), ("one", "one writer and a reader", 1)];

fn run(bench: &mut Bench) {
    let rounds = bench.effort.pick(1, 5, 15);
    let all =
        objects::of_each_scheme(bench, "in_flight", &SCENARIOS.map(|(name, ..)| name), rounds);
    for (scenario, called, _) in SCENARIOS {
        let mut table = Table::new(["", "p50", "most", "of retired", "grew by, MiB"]);
        for (name, own) in &all {
            let spread = |what: &str| own.of(&format!("{scenario} {what}"));
            let shown = |what| spread(what).map_or(String::new(), |one| one.shown());
            let median = |what| spread(what).map_or(String::new(), |one| number(one.median));
            table.row([
                (*name).to_owned(),
                shown("p50"),
                shown("most"),
                median("retired"),
                median("grew"),
            ]);
        }
        for part in ["p50", "most"] {
            let entries = objects::medians(&all, &format!("{scenario} {part}"));
            let what = format!("in flight, {called}, {part}");
            bench.report.principal(&what, Better::Lower, entries.clone());
            bench.report.principal_robust(&what, Better::Lower, entries);
        }
        bench.report.table(&format!("Waiting, {called}"), &table);
    }
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("in_flight", "objects, or MiB", &raw);
}

struct InFlight;

impl Scenarios for InFlight {
    fn run<S: Scheme>(scenario: &str, scheme: &S, effort: Effort, samples: &mut Samples) -> bool {
        let Some(&(.., writers)) = SCENARIOS.iter().find(|(name, ..)| *name == scenario) else {
            return false;
        };
        let before = mib("VmRSS:");
        let time = Duration::from_millis(effort.pick(20, 150, 500));
        let (waiting, retired) = replaced_by(scheme, writers, time);
        let waiting = sorted(waiting);
        for (part, called) in [(500, "p50"), (1000, "most")] {
            samples.push(&format!("{scenario} {called}"), per_mille(&waiting, part));
        }
        samples.push(&format!("{scenario} retired"), retired as f64);
        samples.push(&format!("{scenario} grew"), (mib("VmHWM:") - before).max(0.0));
        true
    }
}

/// Returns what waited at each look, and how many were retired.
fn replaced_by<S: Scheme>(scheme: &S, writers: usize, time: Duration) -> (Vec<f64>, u64) {
    let (stop, mut waiting) = (AtomicBool::new(false), Vec::new());
    let cells: Vec<(Slot<S>, Line<AtomicU64>)> =
        (0..writers).map(|_| (Slot::new(scheme), Line::default())).collect();
    let sum = || cells.iter().map(|(_, retired)| retired.0.load(Relaxed)).sum::<u64>();
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        for (slot, retired) in &cells {
            let stop = &stop;
            scope.spawn(move || {
                let mut local = scheme.local();
                for n in 1.. {
                    slot.replace(&mut local, n, false);
                    retired.0.store(n, Relaxed);
                    if n % 64 == 0 && stop.load(Relaxed) {
                        break;
                    }
                }
            });
        }
        scope.spawn(|| cells[0].0.read_until(scheme, &stop));
        let begin = Instant::now();
        while begin.elapsed() < time {
            thread::sleep(LOOK);
            let look = Instant::now();
            // Frees first: so what is retired meanwhile can only add.
            let freed = freed();
            let retired = sum();
            if look.elapsed() < INTERRUPTED {
                waiting.push(retired.saturating_sub(freed) as f64);
            }
        }
    });
    (waiting, sum())
}
