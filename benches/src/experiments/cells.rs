//! What it costs to read a value that is replaced now and then, and to replace it, by cells in safe code.

mod contestants;

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::distance::PING_PONG;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::schemes::{AGAIN, NOTHING_FREED};
use crate::stats::number;
use crate::turns::{self, Contestant, Samples};
use contestants::{ByCache, ByLatest, ByRead, ByReader, Cell, Leaky, LeftRight, Seize};
use std::hint::black_box;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "cells",
    title: "A cell that is read all the time",
    about: "\
A value of 64 bytes is read over and over on one CPU, while another thread, on another CPU, replaces it never, once a \
millisecond, or once in 10 us; and what a replacement costs on one thread. All of them are used from safe code, except seize's \
row, where a cell was built by hand. `reader` is this project's `Rcu::reader`, `read` is `Rcu::read`; `latest` is \
`ReadGuard::latest`, in one section for the 50,000 reads of a turn, which keeps whatever is replaced meanwhile. arc-swap's \
`Cache` and the reader keep the value that they returned last. left-right keeps two copies, and its writer waits for \
readers. `(nothing freed)` is a pointer whose old values stay for ever. *Values alive at most* is how many were there at any \
time, beside a reader and a writer in 10 us, the current one included.",
    run,
    job: Some(job),
};

const ALONE: &str = "read, nobody writes";
const SELDOM: &str = "read, a writer each ms";
const OFTEN: &str = "read, a writer in 10 us";
const STORE: &str = "replace";
const ALIVE: &str = "values alive at most";
/// Each with its unit.
const ROWS: [(&str, &str); 5] =
    [(ALONE, "ns"), (SELDOM, "ns"), (OFTEN, "ns"), (STORE, "ns"), (ALIVE, "values")];
/// The title of its table in the overview.
const SHORT: &str = "A value that is read all the time, by cells in safe code (seize: by hand)";
/// Between row and contestant, in the job's output.
const BAR: &str = "|";
/// What ratios are of.
const PEER: &str = "arc-swap, load";

fn run(bench: &mut Bench) {
    let samples = match job::done(bench, Allocator::System, "cells all", Duration::from_secs(180)) {
        Ok(samples) => samples,
        Err(error) => return bench.report.miss(error),
    };
    if let Some(spread) = samples.of(PING_PONG) {
        bench.report.say(&format!("A line's way there and back took {} ns.", spread.shown()));
    }
    let mut bars = Bars {
        title: "A cell's read, ns".into(),
        log: true,
        better: Some(Better::Lower),
        ..Bars::default()
    };
    for (row, unit) in ROWS {
        let full = if row == ALIVE { row.to_owned() } else { format!("{row}, {unit}") };
        let mut table = Table::new(["", unit, "x of arc-swap's load"]);
        let mut group = Vec::new();
        for name in &samples.names {
            let Some((own, who)) = name.split_once(BAR) else { continue };
            let (true, Some(spread)) = (own == row, samples.of(name)) else { continue };
            let peer = samples.ratio(name, &format!("{row}{BAR}{PEER}"));
            let ratio = peer.map_or(String::new(), |ratio| number(ratio.median));
            table.row([who.to_owned(), spread.shown(), ratio]);
            if !who.starts_with('(') {
                bench.report.headline_of(SHORT, &full, who, number(spread.median));
            }
            group.push((who.to_owned(), spread));
        }
        let entries: Vec<(String, f64)> =
            group.iter().map(|(who, spread)| (who.clone(), spread.median)).collect();
        bench.report.principal(&format!("cell: {full}"), Better::Lower, entries);
        bench.report.table(&full, &table);
        if row.starts_with("read") {
            bars.groups.push((row.into(), group));
        }
    }
    bench.report.picture("cells", bars, "nanoseconds of a cell's read, by library");
    bench.report.raw("cells", "ns, or values", &[("one reader, one writer".into(), samples)]);
}

static LIVING: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

/// What the cells hold: it counts how many there are.
struct Value([u64; 7]);

impl Value {
    fn new(n: u64) -> Value {
        let living = LIVING.fetch_add(1, Ordering::Relaxed) + 1;
        if living > MOST.load(Ordering::Relaxed) {
            MOST.store(living, Ordering::Relaxed);
        }
        Value([n; 7])
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        Value::new(self.0[0])
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        LIVING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads in a turn, and writes.
const READS: u64 = 50_000;
const WRITES: u64 = 5_000;

/// A writer that replaces at that pace, until it is told to end; between turns it rests.
fn write<C: Cell>(cell: &C, every_ns: &AtomicU64, stop: &AtomicBool) {
    let cpus = cpus::allowed();
    cpus::stay_on(cpus[cpus.len() - 1]);
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        match every_ns.load(Ordering::Relaxed) {
            0 => thread::sleep(Duration::from_micros(100)),
            every => {
                let next = Instant::now() + Duration::from_nanos(every);
                n += 1;
                cell.store(Value::new(n));
                cpus::spin_until(next);
            }
        }
    }
}

fn figures<C: Cell>(rounds: usize, who: &str, samples: &mut Samples) {
    // What those that free nothing have left is nobody else's.
    let before = LIVING.load(Ordering::Relaxed);
    let cell = C::new();
    let (every_ns, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _end = StopOnDrop(&stop);
        scope.spawn(|| write(&cell, &every_ns, &stop));
        let mut local = cell.local();
        let read = |local: &mut C::Local<'_>| {
            let begin = Instant::now();
            C::refresh(local);
            let mut sum = 0u64;
            for _ in 0..READS {
                sum = sum.wrapping_add(C::read(black_box(local)));
            }
            black_box(sum);
            begin.elapsed().as_secs_f64() * 1e9 / READS as f64
        };
        for round in 0..=rounds {
            for (row, every) in [(ALONE, 0), (SELDOM, 1_000_000), (OFTEN, 10_000)] {
                every_ns.store(every, Ordering::Relaxed);
                // Long enough for the writer to come, and for some of its values.
                thread::sleep(Duration::from_micros(300));
                MOST.store(LIVING.load(Ordering::Relaxed), Ordering::Relaxed);
                let times = if every == 0 { 1 } else { 20 };
                let ns = (0..times).map(|_| read(&mut local)).sum::<f64>() / f64::from(times);
                if round > 0 {
                    samples.push(&format!("{row}{BAR}{who}"), ns);
                    // What is never freed has no bound.
                    if row == OFTEN && who != NOTHING_FREED {
                        let most = MOST.load(Ordering::Relaxed) - before;
                        samples.push(&format!("{ALIVE}{BAR}{who}"), most as f64);
                    }
                }
            }
            every_ns.store(0, Ordering::Relaxed);
        }
    });
    // Nobody reads.
    let mut replace = [Contestant::new(format!("{STORE}{BAR}{who}"), || {
        let begin = Instant::now();
        (0..WRITES).for_each(|n| cell.store(Value::new(n)));
        begin.elapsed().as_secs_f64() * 1e9 / WRITES as f64
    })];
    samples.append(&turns::take(rounds, &mut replace));
}

fn job(_: &str, options: &Options) -> Result<Samples, String> {
    cpus::stay_on(cpus::allowed()[0]);
    let mut samples = Samples::default();
    // Each library a few rounds at a time, in turn.
    for _ in 0..options.effort.pick(1, 3, 10) {
        let rounds = options.effort.pick(1, 4, 10);
        samples.push(PING_PONG, cpus::ping_pong());
        figures::<ByReader>(rounds, "barrierd, reader", &mut samples);
        figures::<ByReader>(rounds, AGAIN, &mut samples);
        figures::<ByLatest>(rounds, "barrierd, latest", &mut samples);
        figures::<ByRead>(rounds, "barrierd, read", &mut samples);
        figures::<ByCache>(rounds, "arc-swap, Cache", &mut samples);
        figures::<arc_swap::ArcSwap<Value>>(rounds, PEER, &mut samples);
        figures::<Seize>(rounds, "seize, by hand", &mut samples);
        figures::<LeftRight>(rounds, "left-right", &mut samples);
        figures::<parking_lot::RwLock<Value>>(rounds, "RwLock, parking_lot", &mut samples);
        figures::<RwLock<Value>>(rounds, "RwLock, std", &mut samples);
        figures::<Leaky>(rounds, NOTHING_FREED, &mut samples);
    }
    Ok(samples)
}
