//! What a barrier should cost before it is bought: the policy's curve.

use super::Experiment;
use crate::Bench;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Lines;
use crate::report::{Better, Table};
use crate::stats::number;
use crate::turns::{self, Contestant, Samples};
use barrierd_reclaim::{Reclaimer, Source};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, Ordering::AcqRel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "policy",
    title: "When a barrier is worth its price",
    about: "\
Allocate, swap, retire, free on one thread and on two, each with a cell of its own. *Collected*: the threads that \
retire keep each other's garbage short, and nothing is bought. *Bought*: an idle thread is registered beside them, \
so a barrier is bought from membarrier whenever so many items wait (`Builder::budget`; the library's own choice is a \
quarter of the last price in ns, at least 512, at most the budget). *Passive*: the same on the daemon, and nothing \
is bought, however many wait. Where no other thread of the process runs, a barrier costs 0.4 us, so on one thread \
it hardly matters; on two, each interrupts the other. A barrier that meets a preempted guard frees nothing, so \
objects in flight vary more than times.",
    run,
    job: Some(job),
};

const BUDGETS: [usize; 8] = [16, 64, 256, 512, 1024, 4096, 16_384, 65_536];
const IN_FLIGHT: &str = " in flight";

fn run(bench: &mut Bench) {
    let (mut raw, mut series) = (Vec::new(), Vec::new());
    for (allocator, on) in
        [(Allocator::System, "the system's allocator"), (Allocator::Mimalloc, "mimalloc")]
    {
        let mut columns = Vec::new();
        for threads in [1, 2] {
            let task = format!("policy {threads}");
            match job::done(bench, allocator, &task, Duration::from_secs(180)) {
                Ok(samples) => columns.push((threads, samples)),
                Err(error) => bench.report.miss(error),
            }
        }
        let Some((_, first)) = columns.first() else { continue };
        let head = columns.iter().flat_map(|(threads, _)| {
            [format!("ns, {threads} threads"), "in flight".into()]
                .map(|text: String| text.replace("1 threads", "1 thread"))
        });
        let mut table = Table::new(std::iter::once(String::new()).chain(head));
        for name in first.names.iter().filter(|name| !name.ends_with(IN_FLIGHT)) {
            let cells = columns.iter().flat_map(|(_, samples)| {
                let waiting = samples.of(&format!("{name}{IN_FLIGHT}"));
                [
                    samples.of(name).map(|spread| spread.shown()),
                    waiting.map(|spread| number(spread.median)),
                ]
                .map(Option::unwrap_or_default)
            });
            table.row(std::iter::once(name.clone()).chain(cells));
        }
        bench.report.table(&format!("On {on}"), &table);
        for (threads, samples) in columns {
            let points = BUDGETS
                .iter()
                .filter_map(|budget| Some((*budget as f64, samples.of(&bought(*budget))?.median)));
            series.push((
                format!(
                    "{threads} thread{}, {}",
                    if threads == 1 { "" } else { "s" },
                    if allocator == Allocator::System { "system" } else { "mimalloc" }
                ),
                points.collect(),
            ));
            raw.push((format!("{threads} threads, {on}"), samples));
        }
    }
    let lines = Lines {
        title: "A retired object's cost over the budget".into(),
        x_is: "objects that may wait".into(),
        y_is: "ns".into(),
        x_log: true,
        y_log: false,
        series,
        better: Some(Better::Lower),
    };
    bench.report.picture("policy", lines, "nanoseconds a retirement by how many may wait");
    bench.report.raw("policy", "ns or objects", &raw);
}

fn bought(budget: usize) -> String {
    format!("bought, {budget} wait")
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let threads: usize = what.parse().map_err(|_| "policy THREADS")?;
    let swaps = options.effort.pick(2_000, 60_000, 400_000);
    let on_membarrier = || Reclaimer::builder().source(Source::Membarrier);
    let mut rows = vec![("collected".to_owned(), false, on_membarrier())];
    rows.extend(BUDGETS.map(|budget| (bought(budget), true, on_membarrier().budget(budget))));
    if let Some(file) = &options.file {
        rows.push((
            "passive".into(),
            true,
            Reclaimer::builder().source(Source::Daemon).daemon_file(file),
        ));
    }
    // What was in flight comes beside the time of the same turn.
    let waiting = Rc::new(RefCell::new(Samples::default()));
    let mut contestants = Vec::new();
    let builders: Vec<_> = rows.into_iter().collect();
    for (name, idle_beside, builder) in builders {
        let reclaimer = builder.build().map_err(|error| error.to_string())?;
        let (beside, noted) = (waiting.clone(), format!("{name}{IN_FLIGHT}"));
        contestants.push(Contestant::new(name, move || {
            let (ns, waiting) = turn(&reclaimer, threads, idle_beside, swaps);
            beside.borrow_mut().push(&noted, waiting as f64);
            ns
        }));
    }
    let mut samples = turns::take(options.effort.rounds(), &mut contestants);
    drop(contestants);
    let waiting = waiting.borrow();
    for (name, rounds) in waiting.names.iter().zip(&waiting.rounds) {
        // Without the round that warms up, as with times.
        rounds.iter().skip(1).for_each(|value| samples.push(name, *value));
    }
    Ok(samples)
}

/// Nanoseconds a swap, and items that waited in the midst of it.
fn turn(reclaimer: &Reclaimer, threads: usize, idle_beside: bool, swaps: u64) -> (f64, u64) {
    let idle = idle_beside.then(|| reclaimer.handle());
    let start = Barrier::new(threads);
    let work = |first: bool| {
        let mut handle = reclaimer.handle();
        let cell = AtomicPtr::new(Box::into_raw(Box::new(0u64)));
        let mut replace = |n: u64| {
            for i in 0..n {
                let guard = handle.pin();
                let old = cell.swap(Box::into_raw(Box::new(i)), AcqRel);
                // SAFETY: from a Box, unlinked by the swap, retired once.
                unsafe { guard.retire(old) };
            }
        };
        start.wait();
        let begin = Instant::now();
        replace(swaps / 2);
        let waiting = if first { reclaimer.stats().waiting() } else { 0 };
        replace(swaps / 2);
        let ns = begin.elapsed().as_secs_f64() * 1e9 / swaps as f64;
        // SAFETY: the last pointer.
        drop(unsafe { Box::from_raw(cell.into_inner()) });
        (ns, waiting)
    };
    let rounds: Vec<(f64, u64)> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n == 0))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panics")).collect()
    });
    drop(idle);
    let slowest = rounds.iter().map(|round| round.0).fold(0.0, f64::max);
    (slowest, rounds.iter().map(|round| round.1).sum())
}
