//! How often a thread has to flush until what it has just retired is freed.

use super::Experiment;
use crate::Bench;
use crate::cpus::StopOnDrop;
use crate::effort::Effort;
use crate::objects::{self, Scenarios, Slot, freed};
use crate::report::{Better, Table};
use crate::schemes::Scheme;
use crate::stats::{number, per_mille, sorted};
use crate::turns::Samples;
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "flushes",
    title: "Flushes until it is freed",
    about: "\
One thread retires an object and calls the scheme's flush again and again until the object's destructor has run: alone, \
beside a thread that has read once and sleeps, and beside a reader that never rests. The median of the rounds, which are \
a ms apart, and the most; after 500 it is given up, and left to the next round. (seize: the guard's `flush`; haphazard: \
`eager_reclaim`; sdd: `accelerate`; liburcu has none.) A reader that is preempted in its section costs any number of \
flushes.",
    run,
    job: Some(objects::job::<Flushes>),
};

const SCENARIOS: [(&str, &str); 3] =
    [("alone", "alone"), ("idle", "beside an idle thread"), ("busy", "beside a reader")];
/// After so many it is given up.
const PATIENCE: u32 = 500;
/// Between two rounds, so that a purchase of the last is no reason to buy nothing in the next.
const PAUSE: Duration = Duration::from_millis(1);

fn run(bench: &mut Bench) {
    let all = objects::of_each_scheme(bench, "flushes", &SCENARIOS.map(|(name, _)| name), 1);
    let head = SCENARIOS.iter().map(|(_, called)| format!("{called}: median, most"));
    let mut table = Table::new(std::iter::once(String::new()).chain(head));
    // liburcu's have no such call, and no figures.
    for (name, own) in all.iter().filter(|(_, own)| !own.names.is_empty()) {
        let cells = SCENARIOS.iter().map(|(scenario, _)| {
            let counts = own.index(scenario).map(|index| sorted(own.rounds[index].iter().copied()));
            let counts = counts.unwrap_or_default();
            let [median, most] = [500, 1000].map(|part| number(per_mille(&counts, part)));
            format!("{median}, {most}")
        });
        table.row(std::iter::once((*name).to_owned()).chain(cells));
    }
    for (scenario, called) in SCENARIOS {
        let what = format!("flushes until it is freed, {called}");
        bench.report.principal(&what, Better::Lower, objects::medians(&all, scenario));
    }
    bench.report.table("", &table);
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("flushes", "flushes", &raw);
}

struct Flushes;

impl Scenarios for Flushes {
    fn run<S: Scheme>(scenario: &str, scheme: &S, effort: Effort, samples: &mut Samples) -> bool {
        if SCENARIOS.iter().all(|(name, _)| *name != scenario) {
            return false;
        }
        let (slot, stop) = (Slot::new(scheme), AtomicBool::new(false));
        let mut local = scheme.local();
        if !S::flush(&mut local) {
            return true;
        }
        let both = Barrier::new(2);
        let mut count = || {
            for round in 1..=effort.pick(5, 100, 400) {
                thread::sleep(PAUSE);
                samples.push(scenario, f64::from(flushes(&slot, &mut local, round)));
            }
        };
        thread::scope(|scope| match scenario {
            "idle" => {
                scope.spawn(|| {
                    let mut local = scheme.local();
                    slot.read(&mut local);
                    S::rest(&mut local);
                    both.wait();
                    both.wait();
                });
                both.wait();
                count();
                both.wait();
            }
            "busy" => {
                let _end = StopOnDrop(&stop);
                scope.spawn(|| slot.read_until(scheme, &stop));
                count();
            }
            _ => count(),
        });
        true
    }
}

/// Replaces the object for the so-manieth time, and flushes until all of them are freed: this one, and what an earlier
/// round has given up on.
fn flushes<S: Scheme>(slot: &Slot<S>, local: &mut S::Local<'_>, round: u64) -> u32 {
    slot.replace(local, round, false);
    (1..=PATIENCE)
        .find(|_| {
            S::flush(local);
            freed() >= round
        })
        .unwrap_or(PATIENCE)
}
