//! What it costs to read a value that is replaced now and then, and to replace it, by cells in safe code.

use super::Experiment;
use crate::Bench;
use crate::cpus::{self, StopOnDrop};
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::stats::number;
use crate::turns::{self, Contestant, Samples};
use barrierd_reclaim::{Rcu, ReadGuard, Reader, Reclaimer};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
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
readers. *Values alive at most* is how many were there at any time, beside a reader and a writer in 10 us, the current one included.",
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
            bench.report.headline_of(SHORT, &full, who, number(spread.median));
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
    bench.report.picture("cells", &bars.svg(), "nanoseconds of a cell's read, by library");
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

/// A cell of some library.
trait Cell: Sync + Sized {
    /// What a thread reads with.
    type Local<'c>
    where
        Self: 'c;

    fn new() -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn read(local: &mut Self::Local<'_>) -> u64;
    /// Called before the reads of a turn.
    fn refresh(_: &mut Self::Local<'_>) {}
    fn store(&self, value: Value);
}

struct ByRead(Rcu<Value>);

impl Cell for ByRead {
    type Local<'c> = &'c Rcu<Value>;

    fn new() -> Self {
        ByRead(Rcu::with_reclaimer(Value::new(0), &Reclaimer::new()))
    }
    fn local(&self) -> &Rcu<Value> {
        &self.0
    }
    #[inline]
    fn read(local: &mut &Rcu<Value>) -> u64 {
        local.read().0[3]
    }
    fn store(&self, value: Value) {
        self.0.store(value);
    }
}

struct ByReader(Rcu<Value>);

impl Cell for ByReader {
    type Local<'c> = Reader<'c, Value>;

    fn new() -> Self {
        ByReader(Rcu::with_reclaimer(Value::new(0), &Reclaimer::new()))
    }
    fn local(&self) -> Reader<'_, Value> {
        self.0.reader()
    }
    #[inline]
    fn read(local: &mut Reader<'_, Value>) -> u64 {
        local.get().0[3]
    }
    fn store(&self, value: Value) {
        self.0.store(value);
    }
}

/// One section, which the turns refresh.
struct ByLatest(Rcu<Value>);

impl Cell for ByLatest {
    type Local<'c> = ReadGuard<'c, Value>;

    fn new() -> Self {
        ByLatest(Rcu::with_reclaimer(Value::new(0), &Reclaimer::new()))
    }
    fn local(&self) -> ReadGuard<'_, Value> {
        self.0.read()
    }
    #[inline]
    fn read(local: &mut ReadGuard<'_, Value>) -> u64 {
        local.latest().0[3]
    }
    fn refresh(local: &mut ReadGuard<'_, Value>) {
        local.refresh();
    }
    fn store(&self, value: Value) {
        self.0.store(value);
    }
}

impl Cell for arc_swap::ArcSwap<Value> {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        arc_swap::ArcSwap::from_pointee(Value::new(0))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        local.load().0[3]
    }
    fn store(&self, value: Value) {
        arc_swap::ArcSwapAny::store(self, Arc::new(value));
    }
}

struct ByCache(arc_swap::ArcSwap<Value>);

impl Cell for ByCache {
    type Local<'c> = arc_swap::Cache<&'c arc_swap::ArcSwap<Value>, Arc<Value>>;

    fn new() -> Self {
        ByCache(Cell::new())
    }
    fn local(&self) -> Self::Local<'_> {
        arc_swap::Cache::new(&self.0)
    }
    #[inline]
    fn read(local: &mut Self::Local<'_>) -> u64 {
        local.load().0[3]
    }
    fn store(&self, value: Value) {
        self.0.store(Arc::new(value));
    }
}

impl Cell for RwLock<Value> {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        RwLock::new(Value::new(0))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        RwLock::read(local).map_or(0, |value| value.0[3])
    }
    fn store(&self, value: Value) {
        *self.write().expect("nobody panics") = value;
    }
}

impl Cell for parking_lot::RwLock<Value> {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        parking_lot::RwLock::new(Value::new(0))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        parking_lot::RwLock::read(local).0[3]
    }
    fn store(&self, value: Value) {
        *self.write() = value;
    }
}

struct Set(Value);

impl left_right::Absorb<Set> for Value {
    fn absorb_first(&mut self, set: &mut Set, _: &Self) {
        *self = set.0.clone();
    }
    fn absorb_second(&mut self, set: Set, _: &Self) {
        *self = set.0;
    }
    fn sync_with(&mut self, first: &Self) {
        *self = first.clone();
    }
}

struct LeftRight(Mutex<left_right::WriteHandle<Value, Set>>, left_right::ReadHandleFactory<Value>);

impl Cell for LeftRight {
    type Local<'c> = left_right::ReadHandle<Value>;

    fn new() -> Self {
        let (write, read) = left_right::new_from_empty(Value::new(0));
        LeftRight(Mutex::new(write), read.factory())
    }
    fn local(&self) -> Self::Local<'_> {
        self.1.handle()
    }
    #[inline]
    fn read(local: &mut Self::Local<'_>) -> u64 {
        local.enter().map_or(0, |value| value.0[3])
    }
    fn store(&self, value: Value) {
        self.0.lock().expect("nobody panics").append(Set(value)).publish();
    }
}

/// A cell by hand, as a program without one would build it.
struct Seize(seize::Collector, AtomicPtr<Value>);

impl Cell for Seize {
    type Local<'c> = &'c Self;

    fn new() -> Self {
        let first = Box::into_raw(Box::new(Value::new(0)));
        Seize(seize::Collector::new(), AtomicPtr::new(first))
    }
    fn local(&self) -> &Self {
        self
    }
    #[inline]
    fn read(local: &mut &Self) -> u64 {
        use seize::Guard as _;
        let guard = local.0.enter();
        // SAFETY: never null, from a box, retired after it was unlinked.
        unsafe { &*guard.protect(&local.1, Ordering::Acquire) }.0[3]
    }
    fn store(&self, value: Value) {
        use seize::Guard as _;
        let guard = self.0.enter();
        let old = self.1.swap(Box::into_raw(Box::new(value)), Ordering::AcqRel);
        // SAFETY: from a box, unlinked by this thread alone, retired once.
        unsafe { guard.defer_retire(old, seize::reclaim::boxed) };
    }
}

impl Drop for Seize {
    fn drop(&mut self) {
        // SAFETY: from a box, and the cell's alone.
        drop(unsafe { Box::from_raw(*self.1.get_mut()) });
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
                    if row == OFTEN {
                        let most = MOST.load(Ordering::Relaxed);
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
        figures::<ByReader>(rounds, "barrierd, reader", &mut samples);
        figures::<ByLatest>(rounds, "barrierd, latest", &mut samples);
        figures::<ByRead>(rounds, "barrierd, read", &mut samples);
        figures::<ByCache>(rounds, "arc-swap, Cache", &mut samples);
        figures::<arc_swap::ArcSwap<Value>>(rounds, PEER, &mut samples);
        figures::<Seize>(rounds, "seize, by hand", &mut samples);
        figures::<LeftRight>(rounds, "left-right", &mut samples);
        figures::<parking_lot::RwLock<Value>>(rounds, "RwLock, parking_lot", &mut samples);
        figures::<RwLock<Value>>(rounds, "RwLock, std", &mut samples);
    }
    Ok(samples)
}
