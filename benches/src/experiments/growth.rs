//! What there may be many of: what one more costs when there are n, and what is left of them when they
//! are gone.

use super::Experiment;
use crate::Bench;
use crate::report::Table;
use crate::stats::{number, per_mille, sorted};
use crate::turns::Samples;
use barrierd_reclaim::{Builder, Handle, Hazard, OwnedGuard, Reclaimer, Source};
use std::hint::black_box;
use std::time::Instant;

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "growth",
    title: "Growth",
    about: "\
What may become many, n of each, on membarrier: reclaimers, handles, owned guards, queues that exited threads left (by \
handles that retired an object each under a guard, as threads do), hazards, and objects above a limit of 1,000 under a \
guard. *Make* and *drop* are a piece's price; the rest is measured once all are there: *retire* an object's, *scan* a \
`flush` of one object, `blockers()` and `stats()` whole. *Retire, after* is an object's price once all are dropped, the \
scan and `stats()` too: they should be those of the first row. Retire, scan and `stats()` are medians of 7, the others \
measured once. Under a guard, *drop* frees what was retired for the figures as well. A row is left out where the one \
before took so long that its square would take minutes.",
    run,
    job: None,
};

/// Objects of one round whose price is taken.
const OBJECTS: usize = 64 * 128;
const ROUNDS: usize = 7;

/// With ten times as many it may take a hundred times as long, and then it is left out, seconds.
const LONG: f64 = 0.6;

const HEAD: [&str; 11] = [
    "n",
    "make",
    "retire",
    "scan",
    "blockers",
    "stats",
    "drop",
    "retire, after",
    "scan, after",
    "stats, after",
    "whole, s",
];

fn run(bench: &mut Bench) {
    let sizes: &[usize] =
        bench.effort.pick(&[0, 10][..], &[0, 1_000, 10_000, 100_000], &[0, 1_000, 10_000, 100_000]);
    type Measure = fn(usize) -> Vec<f64>;
    let kinds: [(&str, Measure); 6] = [
        ("reclaimers", |n| {
            let own = make();
            row(&own, n, make, drop)
        }),
        ("handles", |n| {
            let own = make();
            row(&own, n, || own.handle(), |all: Vec<Handle>| drop(all))
        }),
        ("owned guards", |n| {
            let own = make();
            row(&own, n, || own.pin_owned(), |all: Vec<OwnedGuard>| drop(all))
        }),
        ("queues of exited threads", |n| {
            let own = make();
            let guard = own.pin_owned();
            let exit = || own.handle().retire_value(0u64);
            row(&own, n, exit, |_| {
                drop(guard);
                own.flush();
            })
        }),
        ("hazards", |n| {
            let own = make();
            row(&own, n, || own.hazard(), |all: Vec<Hazard<'_>>| drop(all))
        }),
        ("objects above a limit", |n| {
            let own = builder().limit_items(1_000).build().expect("membarrier");
            let guard = own.pin_owned();
            row(
                &own,
                n,
                || own.retire_value(0u64),
                |_| {
                    drop(guard);
                    own.flush();
                },
            )
        }),
    ];
    let mut raw = Vec::new();
    for (kind, measure) in kinds {
        let mut table = Table::new(HEAD);
        let mut samples = Samples::default();
        let mut took = 0.0;
        for &n in sizes {
            if took > LONG {
                bench.report.miss(format!("{n} {kind}: a tenth took {took:.1} s"));
                continue;
            }
            eprintln!("         growth, {n} {kind}");
            let begin = Instant::now();
            let cells = measure(n);
            took = begin.elapsed().as_secs_f64();
            for (name, value) in HEAD[1..].iter().zip(&cells) {
                samples.push(&format!("{name}, {n}"), *value);
            }
            let shown = cells.iter().map(|&value| number(value)).chain([format!("{took:.1}")]);
            table.row([n.to_string()].into_iter().chain(shown));
        }
        bench.report.table(&format!("By number of {kind}, ns"), &table);
        raw.push((format!("{kind}, ns"), samples));
    }
    bench.report.raw("growth", "ns", &raw);
}

fn builder() -> Builder {
    Reclaimer::builder().source(Source::Membarrier).background(false)
}

fn make() -> Reclaimer {
    builder().build().expect("membarrier")
}

/// Nanoseconds that `work` takes, a piece of so many.
fn ns(pieces: usize, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e9 / pieces.max(1) as f64
}

/// The row's cells but for `n` and the time of all.
fn row<T>(
    own: &Reclaimer,
    n: usize,
    mut make: impl FnMut() -> T,
    end: impl FnOnce(Vec<T>),
) -> Vec<f64> {
    // On a machine where others are at work: the median of a few.
    let some = |work: &dyn Fn() -> f64| {
        let all = sorted((0..ROUNDS).map(|_| work()));
        per_mille(&all, 500)
    };
    let retire = || some(&|| ns(OBJECTS, || (0..OBJECTS).for_each(|n| own.retire_value(n))));
    let scan = || {
        some(&|| {
            own.retire_value(0u64);
            ns(1, || own.flush())
        })
    };
    let stats = || {
        some(&|| {
            ns(1, || {
                black_box(own.stats());
            })
        })
    };
    let mut all = Vec::with_capacity(n);
    let making = ns(n, || all.extend((0..n).map(|_| make())));
    let used = [retire(), scan(), ns(1, || drop(black_box(own.blockers()))), stats()];
    let dropping = ns(n, || end(all));
    // What was retired meanwhile is freed first.
    own.flush();
    own.flush();
    let mut cells = vec![making];
    cells.extend(used);
    cells.extend([dropping, retire(), scan(), stats()]);
    cells
}
