//! What a stack and a queue in safe code cost, beside those of others: throughput and memory.

use super::Experiment;
use crate::Bench;
use crate::cpus;
use crate::distance::{self, PING_PONG};
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::schemes::leak::Leak;
use crate::schemes::{AGAIN, NOTHING_FREED};
use crate::stats::{Spread, number};
use crate::structures;
use crate::turns::{self, Contestant, Samples};
use barrierd_reclaim::Reclaimer;
use barrierd_structures::{
    Hazards, Plain, Protection, Queue, QueueHandle, Robust, Stack, StackHandle,
};
use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "containers",
    title: "Stacks and queues in safe code",
    about: "\
`barrierd-structures`' stack and queue beside those of other crates, with values of 8 bytes. *Pairs*: each thread pushes and \
pops in turn, so the structure is all but empty and everything meets at its ends. *One pushes, one pops*: a queue between \
two threads, which counts what arrives. Million pairs, or values, a second of all threads together; two threads stay on a \
CPU each. *Apart* is how long a cache line takes from one CPU to the other and back, in each round; rounds at two distances are \
two rows, whose ratios are of the medians. *Memory* is what 100,000 values take of the \
allocator. `(nothing freed)` is Treiber's stack, whose nodes stay for ever; no such queue has segments as these do. A `Mutex` \
lets one thread go on for long while others wait, which is throughput without fairness.",
    run,
    job: Some(job),
};

/// Rows, and the unit of each.
const ROWS: [(&str, &str); 7] = [
    ("queue, pairs, 1 thread", "M/s"),
    ("queue, pairs, 2 threads", "M/s"),
    ("queue, one pushes, one pops", "M/s"),
    ("queue, memory", "bytes a value"),
    ("stack, pairs, 1 thread", "M/s"),
    ("stack, pairs, 2 threads", "M/s"),
    ("stack, memory", "bytes a value"),
];
/// Rows on two CPUs, which may be near or far.
const TWO_THREADS: [&str; 3] =
    ["queue, pairs, 2 threads", "queue, one pushes, one pops", "stack, pairs, 2 threads"];
const KINDS: [&str; 2] = ["queue", "stack"];
/// The overview's table, and those that are in it.
const SHORT_TITLE: &str = "Stacks and queues in safe code (`barrierd-structures`)";
const SHORT: [&str; 6] = [
    "barrierd, handle",
    "barrierd",
    "crossbeam-queue",
    "concurrent-queue",
    "Mutex, std",
    "Mutex, parking_lot",
];
/// Between row and contestant, in the job's output.
const BAR: &str = "|";
const OURS: &str = "barrierd, handle";
const BATCH: u64 = 256;

fn run(bench: &mut Bench) {
    let mut samples = Samples::default();
    let mut distances = Vec::new();
    let rounds = bench.effort.rounds();
    for kind in KINDS {
        let names: Vec<&str> = contestants(kind).iter().map(|(name, _)| *name).collect();
        let all = job::in_turn(bench, Allocator::System, "containers", &[kind], &names, rounds);
        all.iter().for_each(|(_, own)| samples.append(own));
        distances.extend(distance::of_all(&all));
    }
    let mut bars = Bars {
        title: "Stacks and queues, million a second".into(),
        better: Some(Better::Higher),
        ..Bars::default()
    };
    for (row, unit) in ROWS {
        let begin = format!("{row}{BAR}");
        let apart = distances.iter().filter(|one| {
            TWO_THREADS.contains(&row)
                && one.samples.names.iter().any(|name| name.starts_with(&begin))
        });
        let mut parts: Vec<(String, &Samples)> =
            apart.map(|one| (format!("{row}, {}", one.called), &one.samples)).collect();
        if parts.is_empty() {
            parts.push((row.to_owned(), &samples));
        }
        for (called, samples) in parts {
            let group = told(bench, row, &format!("{called}, {unit}"), samples);
            if unit == "M/s" {
                bars.groups.push((called, group));
            }
        }
    }
    bench.report.picture("containers", bars, "throughput of stacks and queues, by crate");
    bench.report.raw("containers", "M/s, or bytes", &[("stacks and queues".into(), samples)]);
}

/// Writes a row's table, and returns its figures. `called`: with its unit.
fn told(bench: &mut Bench, row: &str, called: &str, samples: &Samples) -> Vec<(String, Spread)> {
    let mut group: Vec<(String, Spread)> = Vec::new();
    for name in &samples.names {
        let Some((own, who)) = name.split_once(BAR) else { continue };
        let (true, Some(spread)) = (own == row, samples.of(name)) else { continue };
        group.push((who.to_owned(), spread));
    }
    let ours = samples.of(&format!("{row}{BAR}{OURS}"));
    let unit = if row.ends_with("memory") { "bytes a value" } else { "M/s" };
    let mut table = Table::new(["", unit, "x of it"]);
    for (who, spread) in &group {
        let ratio = if TWO_THREADS.contains(&row) {
            ours.map(|ours| ours.median / spread.median)
        } else {
            let by_round = samples.ratio(&format!("{row}{BAR}{OURS}"), &format!("{row}{BAR}{who}"));
            by_round.map(|ratio| ratio.median)
        };
        table.row([who.clone(), spread.shown(), ratio.map_or(String::new(), number)]);
    }
    let entries: Vec<(String, f64)> =
        group.iter().map(|(who, spread)| (who.clone(), spread.median)).collect();
    for (who, median) in entries.iter().filter(|(who, _)| SHORT.contains(&who.as_str())) {
        bench.report.headline_of(SHORT_TITLE, called, who, number(*median));
    }
    let better = if unit == "M/s" { Better::Higher } else { Better::Lower };
    bench.report.principal(called, better, entries);
    bench.report.table(&format!("{called} (and {OURS} as a multiple of each)"), &table);
    group
}

/// A stack or a queue of some crate.
trait Container: Sync + Sized {
    /// What a thread works with.
    type Local<'c>
    where
        Self: 'c;

    fn new() -> Self;
    fn local(&self) -> Self::Local<'_>;
    fn push(local: &mut Self::Local<'_>, value: u64);
    fn pop(local: &mut Self::Local<'_>) -> Option<u64>;
}

/// This project's, by a handle.
struct ByHandle<C, P>(C, PhantomData<P>);

/// One that is used through a shared reference.
struct Shared<C>(C);

macro_rules! ours {
    ($structure:ident, $handle:ident) => {
        impl<P: Protection + Sync> Container for ByHandle<$structure<u64, P>, P> {
            type Local<'c> = $handle<'c, u64, P>;

            fn new() -> Self {
                ByHandle($structure::with_reclaimer(&Reclaimer::new()), PhantomData)
            }
            fn local(&self) -> Self::Local<'_> {
                self.0.handle()
            }
            #[inline]
            fn push(local: &mut Self::Local<'_>, value: u64) {
                local.push(value);
            }
            #[inline]
            fn pop(local: &mut Self::Local<'_>) -> Option<u64> {
                local.pop()
            }
        }
    };
}

ours!(Queue, QueueHandle);
ours!(Stack, StackHandle);

macro_rules! shared {
    ($($of:ty: $new:expr, $push:expr, $pop:expr;)*) => { $(
        impl Container for Shared<$of> {
            type Local<'c> = &'c $of;

            fn new() -> Self {
                Shared($new)
            }
            fn local(&self) -> &$of {
                &self.0
            }
            #[inline]
            fn push(local: &mut &$of, value: u64) {
                let push: fn(&$of, u64) = $push;
                push(local, value);
            }
            #[inline]
            fn pop(local: &mut &$of) -> Option<u64> {
                let pop: fn(&$of) -> Option<u64> = $pop;
                pop(local)
            }
        }
    )* };
}

shared! {
    Queue<u64>: Queue::with_reclaimer(&Reclaimer::new()), |all, n| all.push(n), |all| all.pop();
    Stack<u64>: Stack::with_reclaimer(&Reclaimer::new()), |all, n| all.push(n), |all| all.pop();
    crossbeam_queue::SegQueue<u64>: Default::default(), |all, n| all.push(n), |all| all.pop();
    concurrent_queue::ConcurrentQueue<u64>: concurrent_queue::ConcurrentQueue::unbounded(),
        |all, n| _ = all.push(n), |all| all.pop().ok();
    sdd::Queue<u64>: Default::default(), |all, n| drop(all.push(n)), |all| all.pop().map(|n| **n);
    sdd::Stack<u64>: Default::default(), |all, n| drop(all.push(n)), |all| all.pop().map(|n| **n);
    Mutex<VecDeque<u64>>: Default::default(),
        |all, n| all.lock().expect("nobody panics").push_back(n),
        |all| all.lock().expect("nobody panics").pop_front();
    Mutex<Vec<u64>>: Default::default(),
        |all, n| all.lock().expect("nobody panics").push(n),
        |all| all.lock().expect("nobody panics").pop();
    parking_lot::Mutex<VecDeque<u64>>: Default::default(),
        |all, n| all.lock().push_back(n), |all| all.lock().pop_front();
    parking_lot::Mutex<Vec<u64>>: Default::default(),
        |all, n| all.lock().push(n), |all| all.lock().pop();
}

/// The benchmarks' own structure, of which nothing is ever freed.
struct Leaky<C>(C);

impl Container for Leaky<structures::stack::Stack<Leak>> {
    type Local<'c> = &'c structures::stack::Stack<Leak>;

    fn new() -> Self {
        Leaky(structures::stack::Stack::new())
    }
    fn local(&self) -> Self::Local<'_> {
        &self.0
    }
    #[inline]
    fn push(local: &mut Self::Local<'_>, value: u64) {
        local.push(&(), value);
    }
    #[inline]
    fn pop(local: &mut Self::Local<'_>) -> Option<u64> {
        local.pop(&mut ())
    }
}

/// Million pairs a second of all threads.
fn pairs<C: Container>(threads: usize, time: Duration) -> f64 {
    let container = C::new();
    let (start, cpus) = (Barrier::new(threads), cpus::allowed());
    let speed = |thread: usize| {
        cpus::stay_on(cpus[thread % cpus.len()]);
        let mut local = container.local();
        let mut done = 0;
        start.wait();
        let begin = Instant::now();
        while begin.elapsed() < time {
            for n in 0..BATCH {
                C::push(&mut local, n);
                black_box(C::pop(&mut local));
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

/// Million values a second that go from one thread to another.
fn handed_on<C: Container>(time: Duration) -> f64 {
    /// More than that are not sent before they have arrived, or memory is what is measured.
    const AHEAD: u64 = 1 << 14;
    let container = C::new();
    let (start, cpus, stop) = (Barrier::new(2), cpus::allowed(), AtomicBool::new(false));
    let arrived = std::sync::atomic::AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            cpus::stay_on(cpus[cpus.len() - 1]);
            let mut local = container.local();
            start.wait();
            let mut sent = 0;
            while !stop.load(Relaxed) {
                if sent - arrived.load(Relaxed) > AHEAD {
                    spin_loop();
                    continue;
                }
                for n in 0..BATCH {
                    C::push(&mut local, n);
                }
                sent += BATCH;
            }
        });
        cpus::stay_on(cpus[0]);
        let mut local = container.local();
        let mut got = 0;
        start.wait();
        let begin = Instant::now();
        while begin.elapsed() < time {
            for _ in 0..BATCH {
                got += u64::from(black_box(C::pop(&mut local)).is_some());
            }
            arrived.store(got, Relaxed);
        }
        let speed = got as f64 / begin.elapsed().as_secs_f64() / 1e6;
        stop.store(true, Relaxed);
        speed
    })
}

/// Bytes of the allocator that a value takes.
fn memory<C: Container>() -> f64 {
    const VALUES: u64 = 100_000;
    // SAFETY: it only reads the allocator's own figures.
    let used = || unsafe { libc::mallinfo2() };
    let bytes = |now: libc::mallinfo2| now.uordblks + now.hblkhd;
    let container = C::new();
    let mut local = container.local();
    C::push(&mut local, 0);
    let before = bytes(used());
    (1..=VALUES).for_each(|n| C::push(&mut local, n));
    bytes(used()).saturating_sub(before) as f64 / VALUES as f64
}

/// What a contestant does in a round.
type Turns = fn(&str, &str, Duration) -> Vec<Contestant<'static>>;

fn turns_of<C: Container + 'static>(
    kind: &str,
    who: &str,
    time: Duration,
) -> Vec<Contestant<'static>> {
    let mut all = vec![Contestant::new(PING_PONG, cpus::ping_pong)];
    for threads in [1, 2] {
        let plural = if threads == 1 { "" } else { "s" };
        let name = format!("{kind}, pairs, {threads} thread{plural}{BAR}{who}");
        all.push(Contestant::new(name, move || pairs::<C>(threads, time)));
    }
    if kind == "queue" {
        let name = format!("{kind}, one pushes, one pops{BAR}{who}");
        all.push(Contestant::new(name, move || handed_on::<C>(time)));
    }
    all.push(Contestant::new(format!("{kind}, memory{BAR}{who}"), memory::<C>));
    all
}

/// Returns the contestants of a kind; each has a process of its own, as some share garbage with all of their kind in it.
fn contestants(kind: &str) -> Vec<(&'static str, Turns)> {
    macro_rules! all {
        ($($who:expr => $of:ty;)*) => { vec![$(($who, turns_of::<$of> as Turns)),*] };
    }
    match kind {
        "queue" => all! {
            "barrierd, handle" => ByHandle<Queue<u64>, Plain>;
            "barrierd" => Shared<Queue<u64>>;
            AGAIN => Shared<Queue<u64>>;
            "barrierd, robust" => ByHandle<Queue<u64, Robust>, Robust>;
            "barrierd, hazards" => ByHandle<Queue<u64, Hazards>, Hazards>;
            "crossbeam-queue" => Shared<crossbeam_queue::SegQueue<u64>>;
            "concurrent-queue" => Shared<concurrent_queue::ConcurrentQueue<u64>>;
            "sdd" => Shared<sdd::Queue<u64>>;
            "Mutex, std" => Shared<Mutex<VecDeque<u64>>>;
            "Mutex, parking_lot" => Shared<parking_lot::Mutex<VecDeque<u64>>>;
        },
        "stack" => all! {
            "barrierd, handle" => ByHandle<Stack<u64>, Plain>;
            "barrierd" => Shared<Stack<u64>>;
            AGAIN => Shared<Stack<u64>>;
            "barrierd, robust" => ByHandle<Stack<u64, Robust>, Robust>;
            "barrierd, hazards" => ByHandle<Stack<u64, Hazards>, Hazards>;
            "sdd" => Shared<sdd::Stack<u64>>;
            "Mutex, std" => Shared<Mutex<Vec<u64>>>;
            "Mutex, parking_lot" => Shared<parking_lot::Mutex<Vec<u64>>>;
            NOTHING_FREED => Leaky<structures::stack::Stack<Leak>>;
        },
        _ => Vec::new(),
    }
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let (kind, who) = what.split_once(' ').ok_or("containers queue|stack NAME")?;
    let all = contestants(kind);
    let (_, turns) = all.iter().find(|(name, _)| *name == who).ok_or("no such container")?;
    // A round, after one that warms up: the next one's turn comes in another process.
    Ok(turns::take(1, &mut turns(kind, who, options.effort.turn())))
}
