//! Measures this project against its peers, all in one run and in turn, and writes the report.
//!
//! The program that `make bench` starts, twice: on the system's allocator and on mimalloc.
//!
//! - How: `turns` (A B C A B C), `stats`, `distance` (of two CPUs), `job` (a process of its own for each configuration, so
//!   that none inherits another's heap), `instructions` (callgrind), `cpus` (pinning, load),
//!   `daemon` (starts and stops barrierd), `effort` (how long), `quiet` (whether the machine was ours alone).
//! - What: `schemes` (the contestants), `structures` (written once for all), `objects` (that count their frees),
//!   `experiments`, a file each, with the prose of its section.
//! - Where to: `report` (what was measured, as data), `table`, `contest` (who is first in a row), `machine` (what it ran
//!   on); from these, also without a new run, `page` (Markdown), `picture` (SVG), `standing` (who is first in how many
//!   rows), `reasons` (why another is), `choices` (the few rows in plain words), `readme`.

mod choices;
mod contest;
mod cpus;
mod daemon;
mod distance;
mod effort;
mod experiments;
mod instructions;
mod job;
mod machine;
mod objects;
mod options;
mod page;
mod picture;
mod quiet;
mod readme;
mod reasons;
mod report;
mod schemes;
mod standing;
mod stats;
mod structures;
mod table;
mod turns;

use daemon::Live;
use effort::Effort;
use experiments::{ALL, Experiment};
use options::Options;
use quiet::{Others, Quiet, Work};
use report::Report;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What an experiment gets to work with.
struct Bench {
    options: Options,
    effort: Effort,
    /// A daemon that runs for the whole of it, if there is root.
    live: Option<Live>,
    report: Report,
    /// Figures that a later experiment argues from.
    facts: BTreeMap<&'static str, f64>,
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("barrierd-bench: {error}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    if let Some(task) = &options.job {
        return job::run(task, &options);
    }
    let done = if options.render { render(&options) } else { bench(options) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("barrierd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: Options) -> Result<(), String> {
    let wanted: Vec<&Experiment> = ALL.iter().filter(|one| options.wants(one.name)).collect();
    if wanted.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|one| one.name).collect();
        return Err(format!("no such experiment; there are: {}", names.join(", ")));
    }
    let begin = Instant::now();
    let live = daemon::start_if_possible(&options)?;
    let report = Report::new(&options.out).map_err(|error| format!("{error}"))?;
    let mut bench = Bench { effort: options.effort, live, report, options, facts: BTreeMap::new() };
    machine::describe(&mut bench);
    let mut quiet = Quiet::new(bench.effort != Effort::Smoke, bench.live.as_ref());
    for experiment in &wanted {
        let clean = bench.report.clone();
        let mut others = section(&mut bench, &mut quiet, experiment, begin);
        if others.is_some_and(Others::are_busy) && quiet.is_patient() {
            eprintln!("         the machine was busy: once more");
            bench.report = clean;
            others = section(&mut bench, &mut quiet, experiment, begin);
        }
        if let Some(busy) = quiet.note(experiment.name, others) {
            eprintln!("         {busy}");
            bench.report.say(&busy);
        }
    }
    let took = begin.elapsed().as_secs_f64();
    let run = format!("The run took {took:.0} s.{}", quiet.told(bench.live.as_ref()));
    bench.report.ran(run, quiet.is_fit());
    bench.report.save().map_err(|error| format!("the report: {error}"))?;
    pages(&bench.report, &bench.options)
}

/// Writes the pages of a run that is over once more.
fn render(options: &Options) -> Result<(), String> {
    let report = Report::load(&options.out);
    let report = report.map_err(|error| format!("{}: {error}", options.out.display()))?;
    pages(&report, options)
}

fn pages(report: &Report, options: &Options) -> Result<(), String> {
    let page = page::write(report).map_err(|error| format!("the report: {error}"))?;
    eprintln!("         {} is written", page.display());
    let Some(readme) = &options.readme else { return Ok(()) };
    if !readme::rewrite(readme, report).map_err(|error| format!("the README: {error}"))? {
        eprintln!("         {} stays as it is: the run is unfit", readme.display());
    }
    Ok(())
}

/// Runs an experiment and writes its section, once others leave the machine alone. Returns what they did meanwhile.
fn section(
    bench: &mut Bench,
    quiet: &mut Quiet,
    experiment: &Experiment,
    begin: Instant,
) -> Option<Others> {
    quiet.wait(bench.live.as_ref());
    let before = Work::so_far(bench.live.as_ref());
    eprintln!("[{:>4.0} s] {}", begin.elapsed().as_secs_f64(), experiment.name);
    bench.report.section(experiment.name);
    // One that panics costs its section, not the report.
    let run = AssertUnwindSafe(|| (experiment.run)(bench));
    if catch_unwind(run).is_err() {
        bench.report.miss(format!("the rest of {}: it panicked", experiment.name));
    }
    before.and_then(|before| before.others_since(bench.live.as_ref()))
}
