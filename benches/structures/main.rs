//! Data structures on each reclamation scheme, beside each other in one run.
//!
//! `make bench`, or `cargo bench --bench structures [-- WORD...]`: only rows whose names have one of the
//! words. With `BARRIERD_BENCH_FILE` set: on that live daemon, without buying.
//!
//! The contestants take turns (A B C A B C), so that a noisy neighbour hits all; medians, and each round's
//! ratio to crossbeam-epoch. On two threads a virtual machine's CPUs may be near or far from each other
//! and drift: a ping-pong before and after each turn tells its class, and a turn whose two differ is
//! run again.

mod scheme;
#[allow(clippy::module_inception, reason = "what the benchmark is about")]
mod structures;

use scheme::{Barrierd, Crossbeam, Leak, Scheme, Seize};
use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use structures::{Map, Queue, Stack};

/// The variable that names a live daemon's file.
pub(crate) const FILE: &str = "BARRIERD_BENCH_FILE";

const ROUNDS: usize = 15;
/// How long one contestant works in one turn.
const TURN: Duration = Duration::from_millis(40);
/// Operations between two looks at the clock.
const BATCH: u64 = 256;

/// A row of the table.
#[derive(Clone, Copy)]
enum Row {
    /// A push and a pop are one operation.
    Stack,
    /// As above.
    Queue,
    /// So many keys, so many reads in a hundred; the rest is half insertions, half removals.
    Map { keys: u64, reads: u64 },
}

const ROWS: [(&str, Row); 6] = [
    ("stack", Row::Stack),
    ("queue", Row::Queue),
    ("map 1Ki 90/10", Row::Map { keys: 1 << 10, reads: 90 }),
    ("map 1Ki 50/50", Row::Map { keys: 1 << 10, reads: 50 }),
    ("map 64Ki 90/10", Row::Map { keys: 1 << 16, reads: 90 }),
    ("map 64Ki 50/50", Row::Map { keys: 1 << 16, reads: 50 }),
];

const NAMES: [&str; 4] = [Barrierd::NAME, Crossbeam::NAME, Seize::NAME, Leak::NAME];
const PEER: usize = 1;

pub(crate) fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let most = cpus.next_power_of_two().ilog2();
    println!("Million operations a second, medians of {ROUNDS}; (x of {})", NAMES[PEER]);
    print!("  {:<16}{:>3}", "", "thr");
    NAMES.iter().for_each(|name| print!("{name:>24}"));
    println!("{:>12}", "ping-pong");
    for (name, row) in ROWS {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        for threads in (0..=most).map(|n| (1usize << n).min(cpus)) {
            let turns = [turn::<Barrierd>, turn::<Crossbeam>, turn::<Seize>, turn::<Leak>];
            let (mut speeds, mut latencies) = (vec![Vec::new(); turns.len()], Vec::new());
            for _ in 0..ROUNDS {
                let before = ping_pong(threads);
                for (turn, speeds) in turns.iter().zip(&mut speeds) {
                    speeds.push(turn(row, threads));
                }
                latencies.push(before.max(ping_pong(threads)));
            }
            print!("  {name:<16}{threads:>3}");
            for (index, own) in speeds.iter().enumerate() {
                let ratios = own.iter().zip(&speeds[PEER]).map(|(own, peer)| own / peer);
                let ratio =
                    if index == PEER { String::new() } else { format!("({:.2})", median(ratios)) };
                print!("{:>15.2} {ratio:>8}", median(own.iter().copied()));
            }
            println!("{:>9.0} ns", median(latencies.into_iter()));
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds for a line to go to another CPU and back; 0 on one thread.
fn ping_pong(threads: usize) -> f64 {
    const TIMES: u32 = 2_000;
    if threads < 2 {
        return 0.0;
    }
    let ball = AtomicU64::new(0);
    let hit = |own: u64| {
        for n in 0..u64::from(TIMES) {
            while ball.load(Relaxed) != 2 * n + own {
                spin_loop();
            }
            ball.store(2 * n + own + 1, Relaxed);
        }
    };
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| hit(1));
        hit(0);
    });
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}

/// Million operations a second of all threads.
fn turn<S: Scheme>(row: Row, threads: usize) -> f64 {
    let scheme = S::new();
    match row {
        Row::Stack => {
            let stack = Stack::default();
            run(&scheme, threads, |local, n| {
                stack.push(n);
                stack.pop::<S>(&S::pin(local));
            })
        }
        Row::Queue => {
            let queue = Queue::default();
            run(&scheme, threads, |local, n| {
                let guard = S::pin(local);
                queue.push::<S>(&guard, n);
                queue.pop::<S>(&guard);
            })
        }
        Row::Map { keys, reads } => {
            let map = Map::new(usize::try_from(keys).expect("small"));
            {
                let mut local = scheme.local();
                let guard = S::pin(&mut local);
                for n in 0..keys / 2 {
                    map.insert::<S>(&guard, n * 2);
                }
            }
            run(&scheme, threads, |local, dice| {
                let (key, what) = (dice >> 32 & (keys - 1), dice % 200);
                let guard = S::pin(local);
                if what < 2 * reads {
                    map.get::<S>(&guard, key);
                } else if what % 2 == 0 {
                    map.insert::<S>(&guard, key);
                } else {
                    map.remove::<S>(&guard, key);
                }
            })
        }
    }
}

/// Runs `operation` on all threads for a turn. It gets a random number.
fn run<S: Scheme>(
    scheme: &S,
    threads: usize,
    operation: impl Fn(&mut S::Local<'_>, u64) + Sync,
) -> f64 {
    let start = Barrier::new(threads);
    let speed = |thread: usize| {
        let mut local = scheme.local();
        let mut dice = 0x9E37_79B9_7F4A_7C15 ^ (u64::try_from(thread).expect("small") + 1);
        let mut done = 0u64;
        start.wait();
        let begin = Instant::now();
        while begin.elapsed() < TURN {
            for _ in 0..BATCH {
                // xorshift
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                operation(&mut local, dice);
            }
            done += BATCH;
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let done = done as f64;
        done / begin.elapsed().as_secs_f64() / 1e6
    };
    thread::scope(|scope| {
        let speed = &speed;
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(move || speed(n))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panics")).sum()
    })
}
