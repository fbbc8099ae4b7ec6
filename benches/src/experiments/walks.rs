//! What a walk along a list costs by its length: a section for the whole of it, or a hazard for each node.

use super::{Experiment, reader};
use crate::Bench;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Lines;
use crate::report::{Better, Table};
use crate::schemes::HANDLE;
use crate::stats::number;
use crate::turns::Samples;
use std::time::Duration;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "walks",
    title: "Walks by length",
    about: "\
The walk of the section above by the length of the list, in ns a node (the section is in it) and as a multiple of the \
walk in a section of this project's plain guard, by a handle. All nodes are in the first cache; up to some 24 of them \
the CPU follows the loop's end and overlaps one walk with the next.",
    run,
    job: Some(job),
};

const NODES: [u32; 4] = [16, 24, 64, 256];
/// The two that protect pointer by pointer.
const HAZARDS: [&str; 2] = ["barrierd, hazard pointer", "haphazard"];

fn run(bench: &mut Bench) {
    let mut columns: Vec<(u32, Samples)> = Vec::new();
    for nodes in NODES {
        match job::done(
            bench,
            Allocator::System,
            &format!("walks {nodes}"),
            Duration::from_secs(60),
        ) {
            Ok(samples) => columns.push((nodes, samples)),
            Err(error) => bench.report.miss(error),
        }
    }
    let Some((_, first)) = columns.first() else { return };
    let head = columns.iter().map(|(nodes, _)| format!("{nodes} nodes"));
    let mut table = Table::new(std::iter::once(String::new()).chain(head));
    let mut series = Vec::new();
    for name in &first.names {
        let cells = columns.iter().map(|(_, samples)| {
            let own = samples.of(name).map_or(f64::NAN, |spread| spread.median);
            let ratio = samples.ratio(name, HANDLE);
            let ratio = ratio.map_or(String::new(), |ratio| number(ratio.median));
            format!("{} ({ratio})", number(own))
        });
        table.row(std::iter::once(name.clone()).chain(cells));
        let points = columns
            .iter()
            .filter_map(|(nodes, samples)| Some((f64::from(*nodes), samples.of(name)?.median)));
        series.push((name.clone(), points.collect()));
    }
    for (nodes, samples) in &columns {
        let entries = samples
            .names
            .iter()
            .filter(|name| HAZARDS.contains(&name.as_str()))
            .filter_map(|name| Some((name.clone(), samples.ratio(name, HANDLE)?.median)));
        let what = format!("walk of {nodes} nodes by hazard pointers, x of a plain guard's");
        bench.report.principal(&what, Better::Lower, entries.collect::<Vec<_>>());
    }
    bench.report.table("Ns a node (x of a plain guard's walk)", &table);
    let lines = Lines {
        title: "A walk along a list, ns a node".into(),
        x_is: "nodes".into(),
        y_is: "ns a node".into(),
        x_log: true,
        y_log: true,
        series,
        better: Some(Better::Lower),
    };
    bench.report.picture("walks", lines, "nanoseconds a node by a list's length, by scheme");
    let raw: Vec<(String, Samples)> =
        columns.into_iter().map(|(nodes, own)| (format!("{nodes} nodes"), own)).collect();
    bench.report.raw("walks", "ns a node", &raw);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let nodes: u32 = what.parse().map_err(|_| "walks NODES")?;
    Ok(reader::walks(options, nodes))
}
