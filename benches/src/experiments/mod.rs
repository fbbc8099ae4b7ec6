//! The experiments, in the order of the report. Each file holds its own prose.

mod barriers;
mod cells;
mod containers;
mod crowds;
mod drops;
mod flushes;
mod forks;
mod growth;
mod in_flight;
mod in_turn;
mod latency;
mod limits;
mod maps;
mod memory;
mod papers;
mod policy;
mod processes;
mod reader;
mod scale;
mod starts;
mod strangers;
mod structures;
mod system;
mod walks;
mod writer;

use crate::Bench;
use crate::options::Options;
use crate::turns::Samples;

/// What is after the first word of a job -> its samples.
pub(crate) type Job = fn(&str, &Options) -> Result<Samples, String>;

/// One section of the report.
pub(crate) struct Experiment {
    /// For `--only`, and the first word of its jobs.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What it asks and how, in Markdown.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Bench),
    /// What it does in processes of its own, if it does.
    pub(crate) job: Option<Job>,
}

pub(crate) const ALL: &[Experiment] = &[
    reader::EXPERIMENT,
    walks::EXPERIMENT,
    writer::EXPERIMENT,
    latency::EXPERIMENT,
    flushes::EXPERIMENT,
    in_flight::EXPERIMENT,
    crowds::EXPERIMENT,
    in_turn::EXPERIMENT,
    structures::EXPERIMENT,
    papers::EXPERIMENT,
    cells::EXPERIMENT,
    containers::EXPERIMENT,
    maps::EXPERIMENT,
    processes::EXPERIMENT,
    memory::EXPERIMENT,
    limits::EXPERIMENT,
    drops::EXPERIMENT,
    forks::EXPERIMENT,
    starts::EXPERIMENT,
    policy::EXPERIMENT,
    barriers::EXPERIMENT,
    system::EXPERIMENT,
    strangers::EXPERIMENT,
    scale::EXPERIMENT,
    growth::EXPERIMENT,
];
