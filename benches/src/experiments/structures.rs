//! Data structures, each written once, on each scheme.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::distance::{self, Distance, PING_PONG};
use crate::effort::Effort;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::schemes::{self, NOTHING_FREED, OURS, OVERVIEW, PEER, Scheme, Setting, Visitor};
use crate::stats::number;
use crate::structures::cell::Cell;
use crate::structures::map::Map;
use crate::structures::queue::Queue;
use crate::structures::stack::Stack;
use crate::turns::{self, Contestant, Samples};
use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "structures",
    title: "Data structures",
    about: "\
The same code for each scheme, by one trait (`benches/src/schemes`, `benches/src/structures`): Treiber's stack and \
Michael and Scott's queue (a push and a pop are one operation), a hash map of Harris and Michael's lists with as many \
buckets as keys (half of the keys are in it; of 100 operations so many are reads, the rest half insertions, half \
removals), and a read-copy-update cell that one more thread replaces every 10 us or every ms (only reads are \
counted). Million operations a second of all threads together, the median of the rounds, and in parentheses the \
ratio to crossbeam-epoch in the same round. Every configuration has a process of its own, in which the schemes take \
turns. *Apart* is how long a cache line takes from one CPU to the other and back, measured in each round; rounds at two \
distances are two columns. More threads than CPUs: guards are preempted in the midst of a section.

Hazard pointers (ours and haphazard's) walk the map by Michael's own rules: they look again at each link, and their \
reads help unlinking. Robust guards and kovan's go by these rules where they meet a removed node. sdd's nodes are \
its own, 16 bytes larger; liburcu's have its head in front, 16 bytes too, and kovan's theirs, 40 bytes; liburcu's \
sections are calls into C here. Where nothing is freed, memory is always fresh, which costs more than reuse.",
    run,
    job: Some(job),
};

#[derive(Clone, Copy)]
enum Kind {
    Stack,
    Queue,
    /// So many keys, so many reads in a hundred.
    Map {
        keys: u64,
        reads: u64,
    },
    /// Replaced so often.
    Cell {
        every: Duration,
    },
}

const ROWS: [(&str, Kind); 8] = [
    ("stack", Kind::Stack),
    ("queue", Kind::Queue),
    ("map 1Ki 90/10", Kind::Map { keys: 1 << 10, reads: 90 }),
    ("map 1Ki 50/50", Kind::Map { keys: 1 << 10, reads: 50 }),
    ("map 64Ki 90/10", Kind::Map { keys: 1 << 16, reads: 90 }),
    ("map 64Ki 50/50", Kind::Map { keys: 1 << 16, reads: 50 }),
    ("cell, written every 10 us", Kind::Cell { every: Duration::from_micros(10) }),
    ("cell, written every ms", Kind::Cell { every: Duration::from_millis(1) }),
];

/// Rows that are run on mimalloc too.
const ON_MIMALLOC: [&str; 3] = ["stack", "queue", "map 64Ki 50/50"];

/// Rows in which robust guards stand beside kovan.
const BY_BIRTHS_TOO: [&str; 4] = ["stack", "queue", "map 64Ki 90/10", "map 64Ki 50/50"];

/// Rows of the overview's picture, and what they are called there.
const COVER: [(&str, &str); 4] = [
    ("stack", "a stack, push and pop"),
    ("queue", "a queue, push and pop"),
    ("map 1Ki 90/10", "a hash map of 1,024 keys, nine operations of ten are lookups"),
    ("map 64Ki 90/10", "a hash map of 65,536 keys, nine operations of ten are lookups"),
];

/// Operations between two looks at the clock.
const BATCH: u64 = 256;

fn run(bench: &mut Bench) {
    let cpus = cpus::allowed().len();
    let mut raw = Vec::new();
    let mut bars = Bars {
        title: format!("Throughput on {cpus} threads, x of crossbeam-epoch"),
        mark: Some((1.0, PEER.into())),
        better: Some(Better::Higher),
        ..Bars::default()
    };
    for (allocator, suffix) in [(Allocator::System, ""), (Allocator::Mimalloc, ", on mimalloc")] {
        for (row, _) in ROWS {
            if allocator == Allocator::Mimalloc && !ON_MIMALLOC.contains(&row) {
                continue;
            }
            let counts = match allocator {
                // Whether it runs at all is seen on one count.
                _ if bench.effort == Effort::Smoke => vec![cpus],
                Allocator::System | Allocator::Counted => cpus::thread_counts(),
                Allocator::Mimalloc => vec![1, cpus],
            };
            let mut columns: Vec<Column> = Vec::new();
            for threads in counts {
                let task = format!("structures {threads} {row}");
                match job::done(bench, allocator, &task, Duration::from_secs(180)) {
                    Ok(samples) => columns.extend(columns_of(threads, &samples)),
                    Err(error) => bench.report.miss(error),
                }
            }
            table(bench, &format!("{row}{suffix}"), &columns);
            // Of two distances the one that most rounds were at stands for the project.
            let most = columns.iter().filter(|column| column.threads == cpus);
            let most = most.max_by_key(|column| column.rounds);
            if let Some(column) = most.filter(|_| allocator == Allocator::System) {
                picture(bench, &mut bars, row, column);
            }
            for Column { called, samples, .. } in columns {
                raw.push((format!("{row}{suffix}, {called}"), samples));
            }
        }
    }
    let says = "throughput of data structures beside crossbeam-epoch, by scheme";
    bench.report.picture("structures", bars.clone(), says);
    // The README's: without the cells, whose ratios would make the others short.
    bars.groups.retain_mut(|(row, _)| {
        let cover = COVER.iter().find(|(own, _)| own == row);
        cover.map(|(_, called)| *row = (*called).into()).is_some()
    });
    bench.report.picture("overview", bars, says);
    bench.report.cover("overview");
    bench.report.raw("structures", "million operations a second", &raw);
}

/// So many threads' samples, with their CPUs at one distance.
struct Column {
    threads: usize,
    called: String,
    rounds: usize,
    samples: Samples,
}

/// A column for each distance of the CPUs that occurred.
fn columns_of(threads: usize, samples: &Samples) -> Vec<Column> {
    let called = if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
    let column = |one: Distance| {
        let apart = if one.called.is_empty() { "" } else { ", " };
        Column {
            threads,
            called: format!("{called}{apart}{}", one.called),
            rounds: one.rounds,
            samples: one.samples,
        }
    };
    distance::apart(samples).into_iter().map(column).collect()
}

fn table(bench: &mut Bench, title: &str, columns: &[Column]) {
    let Some(Column { samples: first, .. }) = columns.first() else { return };
    let head = columns.iter().map(|column| column.called.clone());
    let mut table = Table::new(std::iter::once(String::new()).chain(head));
    for name in &first.names {
        let cells = columns.iter().map(|Column { samples, .. }| {
            let (Some(own), Some(ratio)) = (samples.of(name), samples.ratio(name, PEER)) else {
                return String::new();
            };
            if name == PEER {
                number(own.median)
            } else {
                format!("{} ({})", number(own.median), number(ratio.median))
            }
        });
        table.row(std::iter::once(name.clone()).chain(cells));
    }
    for Column { threads, called, samples, .. } in columns {
        let entries: Vec<(String, f64)> = samples
            .names
            .iter()
            .filter_map(|name| Some((name.clone(), samples.of(name)?.median)))
            .collect();
        let what = format!("{title}, {called}, M/s");
        bench.report.contest(&what, Better::Higher, entries.clone());
        if BY_BIRTHS_TOO.contains(&title) && *threads <= cpus::allowed().len() {
            bench.report.principal_robust(&what, Better::Higher, entries);
        }
    }
    bench.report.table(title, &table);
}

/// The schemes' bars for one structure, and the overview's cells.
fn picture(bench: &mut Bench, bars: &mut Bars, row: &str, column: &Column) {
    let Column { called, samples, .. } = column;
    let group = samples
        .names
        .iter()
        .filter(|name| *name != PEER && !name.starts_with('('))
        .filter(|name| *name == OURS || !name.starts_with(OURS))
        .filter_map(|name| Some((name.clone(), samples.ratio(name, PEER)?)))
        .collect();
    bars.groups.push((row.into(), group));
    for (fact, on, peer) in [
        ("x epoch: map 64Ki 90/10", "map 64Ki 90/10", PEER),
        ("x epoch: map 64Ki 50/50", "map 64Ki 50/50", PEER),
        ("x epoch: stack", "stack", PEER),
        ("x nothing freed: map 64Ki 50/50", "map 64Ki 50/50", NOTHING_FREED),
    ] {
        if let Some(ratio) = samples.ratio(OURS, peer).filter(|_| on == row) {
            bench.facts.insert(fact, ratio.median);
        }
    }
    for name in OVERVIEW {
        if let Some(own) =
            samples.of(name).filter(|_| ["stack", "queue", "map 64Ki 90/10"].contains(&row))
        {
            let what = format!("{row}, {called}, million operations a second");
            bench.report.headline(&what, name, number(own.median));
        }
    }
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let (threads, row) = what.split_once(' ').ok_or("structures THREADS ROW")?;
    let threads: usize = threads.parse().map_err(|_| "so many threads")?;
    let (_, kind) = ROWS.iter().find(|(name, _)| *name == row).ok_or("no such row")?;
    let setting = Setting::on(options.file.clone());
    let mut turns = Turns(Vec::new());
    schemes::each(&setting, &mut turns);
    let turn_of = options.effort.turn();
    let setting = &setting;
    let mut contestants: Vec<Contestant<'_>> = turns
        .0
        .into_iter()
        .map(|(name, turn)| Contestant::new(name, move || turn(setting, *kind, threads, turn_of)))
        .collect();
    if threads > 1 && threads <= cpus::allowed().len() {
        contestants.push(Contestant::new(PING_PONG, cpus::ping_pong));
    }
    Ok(turns::take(options.effort.rounds(), &mut contestants))
}

type Turn = fn(&Setting, Kind, usize, Duration) -> f64;

struct Turns(Vec<(&'static str, Turn)>);

impl Visitor for Turns {
    fn visit<S: Scheme>(&mut self) {
        self.0.push((S::NAME, turn::<S>));
    }
}

/// Million operations a second of all threads.
fn turn<S: Scheme>(setting: &Setting, kind: Kind, threads: usize, time: Duration) -> f64 {
    let scheme = S::new(setting);
    match kind {
        Kind::Stack => {
            let stack = Stack::<S>::new();
            throughput(&scheme, threads, time, |local, n| {
                let mut guard = S::pin(local);
                stack.push(&guard, n);
                black_box(stack.pop(&mut guard));
            })
        }
        Kind::Queue => {
            let queue = made(&scheme, |guard| Queue::<S>::new(guard));
            throughput(&scheme, threads, time, |local, n| {
                let mut guard = S::pin(local);
                queue.push(&mut guard, n);
                black_box(queue.pop(&mut guard));
            })
        }
        Kind::Map { keys, reads } => {
            let map = Map::<S>::new(usize::try_from(keys).expect("small"));
            made(&scheme, |guard| {
                for n in 0..keys / 2 {
                    map.insert(guard, n * 2);
                }
            });
            throughput(&scheme, threads, time, |local, dice| {
                let (key, what) = ((dice >> 32) & (keys - 1), dice % 200);
                let mut guard = S::pin(local);
                black_box(if what < 2 * reads {
                    map.get(&mut guard, key)
                } else if what % 2 == 0 {
                    map.insert(&mut guard, key)
                } else {
                    map.remove(&mut guard, key)
                });
            })
        }
        Kind::Cell { every } => {
            let cell = made(&scheme, |guard| Cell::<S>::new(guard));
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                let _end = StopOnDrop(&stop);
                scope.spawn(|| write_every(&scheme, &cell, every, &stop));
                throughput(&scheme, threads, time, |local, _| {
                    black_box(cell.read(&mut S::pin(local)));
                })
            })
        }
    }
}

/// Makes something in a section of its own.
fn made<S: Scheme, T>(scheme: &S, make: impl FnOnce(&mut S::Guard<'_>) -> T) -> T {
    let mut local = scheme.local();
    make(&mut S::pin(&mut local))
}

fn write_every<S: Scheme>(scheme: &S, cell: &Cell<S>, every: Duration, stop: &AtomicBool) {
    let mut local = scheme.local();
    let mut n = 0;
    while !stop.load(Relaxed) {
        let next = Instant::now() + every;
        cell.replace(&S::pin(&mut local), n);
        n += 1;
        if every >= Duration::from_millis(1) {
            thread::sleep(every);
        }
        while Instant::now() < next {
            spin_loop();
        }
    }
}

/// Runs `operation` on all threads for a turn. It gets a random number.
fn throughput<S: Scheme>(
    scheme: &S,
    threads: usize,
    time: Duration,
    operation: impl Fn(&mut S::Local<'_>, u64) + Sync,
) -> f64 {
    let start = Barrier::new(threads);
    let speed = |thread: usize| {
        let mut local = scheme.local();
        let mut dice = 0x9E37_79B9_7F4A_7C15 ^ (thread as u64 + 1);
        let mut done = 0u64;
        start.wait();
        let begin = Instant::now();
        while begin.elapsed() < time {
            for _ in 0..BATCH {
                // xorshift
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                operation(&mut local, dice);
            }
            done += BATCH;
        }
        done as f64 / begin.elapsed().as_secs_f64() / 1e6
    };
    thread::scope(|scope| {
        let speed = &speed;
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(move || speed(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panics")).sum()
    })
}
