//! A whole program that lets go at once: a cache of moka that is dropped.

use super::Experiment;
use crate::Bench;
use crate::job;
use crate::report::{Better, Table};
use crate::schemes::PEER;
use crate::stats::number;
use crate::turns::Samples;
use std::process::Command;
use std::time::Duration;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "drops",
    title: "A cache of moka is dropped",
    about: "\
The published cache, unchanged, on crossbeam-epoch and on this project's drop-in for it: two programs of one text \
(`tests/compat/moka/src/main.rs`). 150 values are put into a cache of 100, read, replaced and invalidated, alone or beside a thread \
that has used another cache and sleeps and one that uses another all the time. Then the cache is dropped, which flushes 128 times \
by itself, and two more flushes are called. How many of the cache's values are still alive after the drop, and after both flushes; what \
the drop and the flushes take. The mean of the caches for the values, the median for the times.",
    run,
    job: None,
};

/// What the two are called, and their programs beside this one.
const CONTESTANTS: [(&str, &str); 2] =
    [("barrierd, epoch drop-in", "drop-moka-drop-in"), (PEER, "drop-moka-original")];
const SCENARIOS: [(&str, &str); 2] =
    [("alone", "alone"), ("beside", "beside an idle and a busy thread")];

fn run(bench: &mut Bench) {
    let mut all: Vec<(String, Samples)> =
        CONTESTANTS.map(|(name, _)| (name.to_owned(), Samples::default())).into();
    let caches = bench.effort.pick(3, 100, 400).to_string();
    for (scenario, _) in SCENARIOS {
        for ((_, program), (_, own)) in CONTESTANTS.iter().zip(&mut all) {
            let command = std::env::current_exe().map_err(|error| error.to_string());
            let task = format!("{program} {scenario}");
            let done = command.and_then(|own| {
                let mut command = Command::new(own.with_file_name(program));
                command.args([scenario, &caches]);
                job::finished(command, &task, Duration::from_secs(30))
            });
            match done {
                Ok(samples) => own.append(&samples),
                Err(error) => bench.report.miss(error),
            }
        }
    }
    let heads = ["alive after the drop", "and two flushes", "drop, us", "two flushes, us"];
    let figures = ["dropped", "flushed", "drop us", "flush us"];
    for (scenario, called) in SCENARIOS {
        let mut table = Table::new(std::iter::once("").chain(heads));
        let mean = |own: &Samples, figure: &str| {
            let all = &own.rounds[own.index(&format!("{scenario} {figure}"))?];
            Some(all.iter().sum::<f64>() / all.len() as f64)
        };
        for (name, own) in &all {
            let values = ["dropped", "flushed"]
                .map(|figure| mean(own, figure).map_or(String::new(), number));
            let times = ["drop us", "flush us"].map(|figure| {
                own.of(&format!("{scenario} {figure}")).map_or(String::new(), |it| it.shown())
            });
            table.row(std::iter::once(name.clone()).chain(values).chain(times));
        }
        for (head, figure) in heads.into_iter().zip(figures) {
            let what = format!("a cache of moka, {called}: {head}");
            let entries = all.iter().filter_map(|(name, own)| {
                let times = figure.ends_with("us");
                let median = || own.of(&format!("{scenario} {figure}")).map(|it| it.median);
                Some((name.clone(), if times { median() } else { mean(own, figure) }?))
            });
            bench.report.contest(&what, Better::Lower, entries.collect::<Vec<_>>());
        }
        bench.report.table(&format!("Dropped, {called}"), &table);
    }
    bench.report.raw("drops", "values, or us", &all);
}
