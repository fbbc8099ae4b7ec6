//! What it costs, and what waits, where very many threads retire, none of them often.

use super::Experiment;
use crate::Bench;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Lines;
use crate::report::{Better, Table};
use crate::schemes::{AGAIN, MEMBARRIER, OURS, PEER, Setting, barrierd};
use crate::stats::Spread;
use crate::turns::Samples;
use barrierd_reclaim::{Guard, Handle};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "in_turn",
    title: "Many threads that retire in turn",
    about: "\
So many handles, each of which counts as a thread, retire a bag of 64 objects each, one after another, as threads do that \
all retire; one thread drives them all. An object's price and what is in flight after each round: with the system's \
allocator (allocate, swap, retire, free) and without one (retirements of nothing, whose destructor only counts). Of the \
peers crossbeam-epoch has such handles. A process for each, in turn.",
    run,
    job: Some(job),
};

const NAMES: [&str; 5] = [OURS, AGAIN, MEMBARRIER, DROP_IN, PEER];
const DROP_IN: &str = "barrierd, epoch drop-in";
/// The job's word, and what the report says.
const KINDS: [(&str, &str); 2] = [("boxes", "the system's allocator"), ("nothing", "no allocator")];
const THREADS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// What a thread retires before it is the next one's turn.
const BAG: u64 = 64;

fn run(bench: &mut Bench) {
    let threads = &THREADS[..bench.effort.pick(2, 4, 5)];
    let names: Vec<&str> =
        NAMES.into_iter().filter(|name| bench.live.is_some() || *name != MEMBARRIER).collect();
    let scenarios: Vec<String> = threads
        .iter()
        .flat_map(|threads| KINDS.map(|(kind, _)| format!("{threads}+{kind}")))
        .collect();
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let rounds = bench.effort.pick(1, 2, 5);
    let all = job::in_turn(bench, Allocator::System, "in_turn", &scenarios, &names, rounds);
    let figure = |name: &str, what: &str, threads: usize, kind: &str| -> Option<Spread> {
        let (_, own) = all.iter().find(|(own, _)| *own == name)?;
        own.of(&format!("{threads}+{kind} {what}"))
    };
    let mut series = Vec::new();
    for (kind, called) in KINDS {
        for (what, unit) in [("ns", "ns an object"), ("in flight", "objects in flight")] {
            let head = threads.iter().map(ToString::to_string);
            let mut table = Table::new(std::iter::once("handles".to_owned()).chain(head));
            for name in &names {
                let cells = threads.iter().map(|threads| {
                    figure(name, what, *threads, kind).map_or(String::new(), |one| one.shown())
                });
                table.row(std::iter::once((*name).to_owned()).chain(cells));
                if what == "in flight" && kind == "boxes" {
                    let points = threads.iter().filter_map(|threads| {
                        Some((*threads as f64, figure(name, what, *threads, kind)?.median.max(1.0)))
                    });
                    series.push(((*name).to_owned(), points.collect()));
                }
            }
            bench.report.table(&format!("In turn, {called}: {unit}"), &table);
            for threads in threads.iter().filter(|threads| **threads >= 1_000) {
                let entries = names.iter().filter_map(|name| {
                    Some(((*name).to_owned(), figure(name, what, *threads, kind)?.median))
                });
                let row = format!("{threads} handles in turn, {called}, {unit}");
                bench.report.principal(&row, Better::Lower, entries.collect::<Vec<_>>());
            }
        }
    }
    let most = threads[threads.len() - 1];
    bench.facts.insert("threads in turn", most as f64);
    for (fact, what) in [("in turn ns", "ns"), ("in turn in flight", "in flight")] {
        if let Some(own) = figure(OURS, what, most, "boxes") {
            bench.facts.insert(fact, own.median);
        }
    }
    let lines = Lines {
        title: "Objects in flight where threads retire in turn".into(),
        x_is: "threads".into(),
        y_is: "objects".into(),
        x_log: true,
        y_log: true,
        series,
        better: Some(Better::Lower),
    };
    let says = "objects in flight by number of threads that retire in turn";
    bench.report.picture("in_turn", lines, says);
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.to_owned(), own)).collect();
    bench.report.raw("in_turn", "ns, or objects", &raw);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    const USAGE: &str = "in_turn THREADS+KIND NAME";
    let (scenario, name) = what.split_once(' ').ok_or(USAGE)?;
    let (threads, kind) = scenario.split_once('+').ok_or(USAGE)?;
    let threads: usize = threads.parse().map_err(|_| USAGE)?;
    let setting = Setting::on(options.file.clone());
    let mut retire_bag = crowd(name, kind, threads, &setting).ok_or(USAGE)?;
    // So that in all rounds together each thread has many scans behind it.
    let bags = (16 * threads).max(200);
    let (mut samples, mut at, mut retired) = (Samples::default(), 0, 0);
    for round in 0..=options.effort.pick(1, 7, 25) {
        let begin = Instant::now();
        for _ in 0..bags {
            at = (at + 1) % threads;
            retire_bag(at);
        }
        let objects = bags as u64 * BAG;
        let ns = begin.elapsed().as_secs_f64() * 1e9 / objects as f64;
        retired += objects;
        // The first round warms up.
        if round > 0 {
            let waiting = retired.saturating_sub(FREED.load(Relaxed));
            samples.push(&format!("{scenario} ns"), ns);
            samples.push(&format!("{scenario} in flight"), waiting as f64);
        }
    }
    // What still waits ends with the process.
    std::mem::forget(retire_bag);
    Ok(samples)
}

/// Objects freed, in this process.
static FREED: AtomicU64 = AtomicU64::new(0);

/// Counts a free. Whoever frees is this process's one thread or, seldom, the library's own.
fn count() {
    FREED.fetch_add(1, Relaxed);
}

/// 16 bytes whose destructor counts them.
struct Counted(#[expect(dead_code, reason = "bytes")] [u64; 2]);

impl Drop for Counted {
    fn drop(&mut self) {
        count();
    }
}

/// Swaps a new object in, and gives the old one out.
fn swapped(cell: &AtomicPtr<Counted>, n: u64) -> *mut Counted {
    cell.swap(Box::into_raw(Box::new(Counted([n; 2]))), AcqRel)
}

fn cell() -> AtomicPtr<Counted> {
    AtomicPtr::new(Box::into_raw(Box::new(Counted([0; 2]))))
}

/// # Safety
/// None is needed: it touches nothing.
unsafe fn nothing(_: *mut u64) {
    count();
}

fn retire_nothing(guard: &Guard<'_>) {
    // SAFETY: `nothing` does not touch it.
    unsafe { guard.retire_with(std::ptr::without_provenance_mut(8), nothing) };
}

/// Retires a bag by the handle of that number.
type Retire = Box<dyn FnMut(usize)>;

fn crowd(name: &str, kind: &str, threads: usize, setting: &Setting) -> Option<Retire> {
    /// crossbeam-epoch's interface, whosever it is.
    macro_rules! epochs {
        ($($library:ident)::+) => {{
            let collector = $($library)::+::Collector::new();
            let handles: Vec<_> = (0..threads).map(|_| collector.register()).collect();
            let cell = cell();
            match kind {
                "boxes" => Box::new(move |who: usize| {
                    (0..BAG).for_each(|n| {
                        let guard = handles[who].pin();
                        let old = swapped(&cell, n);
                        // SAFETY: from a Box, unlinked by the swap, retired once.
                        unsafe { guard.defer_unchecked(move || drop(Box::from_raw(old))) };
                    });
                }) as Retire,
                _ => Box::new(move |who: usize| {
                    // SAFETY: it touches nothing.
                    (0..BAG).for_each(|_| unsafe { handles[who].pin().defer_unchecked(count) });
                }),
            }
        }};
    }
    let on_membarrier = Setting::default();
    Some(match name {
        OURS | AGAIN | MEMBARRIER => {
            let setting = if name == MEMBARRIER { &on_membarrier } else { setting };
            // Handles that wait for this program's one thread don't rest: nobody takes their queues over.
            let reclaimer = barrierd::builder(setting)
                .background(false)
                .build()
                .unwrap_or_else(|error| panic!("{error}"));
            let mut handles: Vec<Handle> = (0..threads).map(|_| reclaimer.handle()).collect();
            let cell = cell();
            match kind {
                "boxes" => Box::new(move |who: usize| {
                    (0..BAG).for_each(|n| {
                        let guard = handles[who].pin();
                        // SAFETY: from a Box, unlinked by the swap, retired once.
                        unsafe { guard.retire(swapped(&cell, n)) };
                    });
                }),
                _ => Box::new(move |who: usize| {
                    (0..BAG).for_each(|_| retire_nothing(&handles[who].pin()));
                }),
            }
        }
        DROP_IN => epochs!(barrierd_reclaim::epoch),
        PEER => epochs!(crossbeam_epoch),
        _ => return None,
    })
}
