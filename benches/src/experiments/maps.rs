//! Concurrent hash maps beside each other, as their users call them.

mod contestants;

use super::Experiment;
use crate::Bench;
use crate::cpus;
use crate::distance::{self, PING_PONG};
use crate::job::{self, Allocator};
use crate::objects;
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::stats::number;
use crate::turns::{self, Contestant, Samples};
use contestants::{Contender, each};
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "maps",
    title: "Hash maps",
    about: "\
Maps of 64-bit keys and values, each called as its documentation says: `pin` opens a section for each call through the \
thread's place, `handle` by a handle. All hash by ahash with the same seeds, except crossbeam-skiplist, which orders keys and \
does not hash. 1 Ki entries fit into the first caches, 1 Mi do not. *Found* and *absent* are reads alone; of *90/10* and *50/50* \
so many of 100 operations are reads of random keys, half of which are there, and the rest are insertions and removals in equal \
parts. All figures are nanoseconds of an operation on one thread, while so many run. *Apart*, where a row says it, is how long a cache line takes from one CPU \
to the other and back, in each round; rounds at two distances are two rows. *Grow* is the time of an insertion, from an \
empty map of no capacity to 1 Mi entries, and *the longest 64 insertions* are the slowest of each 64 meanwhile. \
*Bytes* is what the process grew by, for each of 1 Mi entries that were inserted one by one, 16 bytes of which are the entry.",
    run,
    job: Some(job),
};

const SIZES: [(&str, u64); 2] = [("1 Ki", 1 << 10), ("1 Mi", 1 << 20)];
const MANY: u64 = 1 << 20;
/// What is done, and how many of 100 operations are reads. Reads alone come first, while it is known what is there.
const MIXES: [(&str, Mix); 4] = [
    ("found", Mix::Found),
    ("absent", Mix::Absent),
    ("90/10", Mix::Reads(90)),
    ("50/50", Mix::Reads(50)),
];
const GROW: &str = "grow to 1 Mi";
const LONGEST: &str = "the longest 64 insertions";
/// Insertions between two looks at the clock.
const LOOK: u64 = 64;
const BYTES: &str = "bytes";
/// Between row and contestant, in the job's output.
const BAR: &str = "|";
const BATCH: u64 = 256;
/// What ratios are of.
const PEER: &str = "papaya";
/// The overview's table, and what is in it.
const SHORT_TITLE: &str = "Hash maps in safe code (`barrierd-structures`)";
const SHORT: [&str; 6] =
    ["barrierd, handle", "barrierd, pin", "papaya", "scc", "dashmap", "flurry"];
const SHORT_ROWS: [&str; 6] = [
    "found, 1 Ki, 1 thread",
    "found, 1 Ki, 2 threads",
    "90/10, 1 Ki, 2 threads",
    "found, 1 Mi, 1 thread",
    "90/10, 1 Mi, 2 threads",
    BYTES,
];

#[derive(Clone, Copy)]
enum Mix {
    Found,
    Absent,
    Reads(u64),
}

fn counted(threads: usize) -> String {
    if threads == 1 { "1 thread".into() } else { format!("{threads} threads") }
}

fn run(bench: &mut Bench) {
    let mut rows: Vec<(String, &str, Samples)> = Vec::new();
    let counts = if cpus::allowed().len() > 1 { vec![1, 2] } else { vec![1] };
    for threads in counts {
        let mut tasks = vec![(format!("maps grow {threads}"), "grow")];
        tasks.extend(SIZES.map(|(size, _)| (format!("maps mix {threads} {size}"), size)));
        for (task, _) in tasks {
            let patience = Duration::from_secs(180);
            match job::done(bench, Allocator::System, &task, patience) {
                Ok(samples) => split(&mut rows, &samples),
                Err(error) => bench.report.miss(error),
            }
        }
    }
    let mut bytes = Samples::default();
    for (name, _) in each() {
        let task = format!("maps {BYTES} {name}");
        match job::done(bench, Allocator::System, &task, Duration::from_secs(60)) {
            Ok(samples) => bytes.append(&samples),
            Err(error) => bench.report.miss(error),
        }
    }
    split(&mut rows, &bytes);
    let mut bars = Bars {
        title: "A map's operation, ns".into(),
        log: true,
        better: Some(Better::Lower),
        ..Bars::default()
    };
    let apart = rows.iter().flat_map(|(row, unit, samples)| {
        let all = distance::apart(samples).into_iter();
        all.map(move |one| {
            let apart = if one.called.is_empty() { "" } else { ", " };
            (row, format!("{row}{apart}{}", one.called), unit, one.samples)
        })
    });
    for (base, row, unit, samples) in apart {
        let mut table = Table::new(["", *unit, "x of papaya's"]);
        let mut group = Vec::new();
        for who in &samples.names {
            let Some(spread) = samples.of(who) else { continue };
            let ratio = samples.ratio(who, PEER);
            let ratio = ratio.map_or(String::new(), |ratio| number(ratio.median));
            table.row([who.clone(), spread.shown(), ratio]);
            group.push((who.clone(), spread));
        }
        let entries: Vec<(String, f64)> =
            group.iter().map(|(who, spread)| (who.clone(), spread.median)).collect();
        if SHORT_ROWS.contains(&base.as_str()) {
            for (who, median) in entries.iter().filter(|(who, _)| SHORT.contains(&who.as_str())) {
                bench.report.headline_of(
                    SHORT_TITLE,
                    &format!("{row}, {unit}"),
                    who,
                    number(*median),
                );
            }
        }
        bench.report.principal(&format!("map: {row}, {unit}"), Better::Lower, entries);
        bench.report.table(&format!("{row}, {unit}"), &table);
        if row.ends_with("1 thread") && *unit == "ns" {
            bars.groups.push((row.clone(), group));
        }
    }
    bench.report.picture("maps", bars, "nanoseconds of a map's operation, by library");
    let raw: Vec<(String, Samples)> =
        rows.into_iter().map(|(row, _, samples)| (row, samples)).collect();
    bench.report.raw("maps", "ns, us or bytes", &raw);
}

/// Takes the rows of one job apart.
fn split(rows: &mut Vec<(String, &str, Samples)>, samples: &Samples) {
    for (name, values) in samples.names.iter().zip(&samples.rounds) {
        let Some((row, who)) = name.split_once(BAR) else { continue };
        let unit = match row {
            BYTES => "bytes of an entry",
            row if row.starts_with(LONGEST) => "us",
            _ => "ns",
        };
        let index = rows.iter().position(|(own, ..)| own == row).unwrap_or_else(|| {
            rows.push((row.into(), unit, Samples::default()));
            rows.len() - 1
        });
        values.iter().for_each(|value| rows[index].2.push(who, *value));
    }
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let mut words = what.splitn(3, ' ');
    let (kind, second, third) = (words.next(), words.next(), words.next());
    match (kind, second) {
        (Some("mix"), Some(threads)) => {
            let threads = threads.parse().map_err(|_| "so many threads")?;
            let size = SIZES.iter().find(|(name, _)| Some(*name) == third);
            Ok(mixes(threads, *size.ok_or("no such size")?, options))
        }
        (Some("grow"), Some(threads)) => {
            Ok(grow(threads.parse().map_err(|_| "so many threads")?, options))
        }
        (Some(BYTES), Some(_)) => {
            let name = what.split_once(' ').map_or("", |(_, name)| name);
            let all = each();
            let (_, turns) = all.iter().find(|(own, _)| *own == name).ok_or("no such map")?;
            let mut samples = Samples::default();
            samples.push(&format!("{BYTES}{BAR}{name}"), (turns.bytes)());
            Ok(samples)
        }
        _ => Err("maps mix THREADS SIZE, maps grow THREADS, or maps bytes NAME".into()),
    }
}

/// A turn on a map that is filled: threads, mix, time; ns of an operation.
type Turn = Box<dyn Fn(usize, Mix, Duration) -> f64>;

/// What can be done with one of the maps.
struct Turns {
    /// Fills a map, and returns what takes a turn on it.
    filled: fn(u64) -> Turn,
    /// Grows a map from nothing on so many threads: ns of an insertion, and us of the longest 64.
    grown: fn(usize) -> (f64, f64),
    /// Bytes of an entry.
    bytes: fn() -> f64,
}

impl Turns {
    fn of<C: Contender + 'static>() -> Turns {
        Turns {
            filled: |size| {
                let map = C::new();
                let mut local = map.local();
                (0..size).for_each(|n| C::insert(&mut local, key(n), n));
                drop(local);
                Box::new(move |threads, mix, time| turn(&map, threads, size, mix, time))
            },
            grown: |threads| {
                let map = C::new();
                let share = MANY / threads as u64;
                let fill = |thread: u64| {
                    let mut local = map.local();
                    let mut longest = Duration::ZERO;
                    let mut last = Instant::now();
                    for n in thread * share..(thread + 1) * share {
                        C::insert(&mut local, key(n), n);
                        if n % LOOK == 0 {
                            let now = Instant::now();
                            longest = longest.max(now - last);
                            last = now;
                        }
                    }
                    longest.as_secs_f64() * 1e6
                };
                let begin = Instant::now();
                let longest = thread::scope(|scope| {
                    let fill = &fill;
                    let threads: Vec<_> =
                        (0..threads as u64).map(|n| scope.spawn(move || fill(n))).collect();
                    let each = threads.into_iter().map(|it| it.join().expect("no panics"));
                    each.fold(0.0, f64::max)
                });
                (begin.elapsed().as_secs_f64() * 1e9 / share as f64, longest)
            },
            bytes: || {
                let before = objects::mib("VmRSS:");
                let map = C::new();
                let mut local = map.local();
                (0..MANY).for_each(|n| C::insert(&mut local, key(n), n));
                let after = objects::mib("VmRSS:");
                (after - before) * f64::from(1 << 20) / MANY as f64
            },
        }
    }
}

/// The key of a number: an even one. Odd ones are absent. Their order is no map's.
fn key(n: u64) -> u64 {
    n * 2
}

fn mixes(threads: usize, (name, size): (&str, u64), options: &Options) -> Samples {
    let all = each();
    let maps: Vec<_> = all.iter().map(|(who, turns)| (who, (turns.filled)(size))).collect();
    let mut samples = Samples::default();
    for (what, mix) in MIXES {
        let row = format!("{what}, {name}, {}", counted(threads));
        let mut contestants: Vec<Contestant<'_>> = maps
            .iter()
            .map(|(who, turn)| {
                Contestant::new(format!("{row}{BAR}{who}"), move || {
                    turn(threads, mix, options.effort.turn())
                })
            })
            .collect();
        if threads > 1 {
            contestants.push(Contestant::new(format!("{row}{BAR}{PING_PONG}"), cpus::ping_pong));
        }
        samples.append(&turns::take(options.effort.rounds(), &mut contestants));
    }
    samples
}

fn grow(threads: usize, options: &Options) -> Samples {
    let all = each();
    let mut samples = Samples::default();
    for _ in 0..options.effort.pick(1, 3, 10) {
        if threads > 1 {
            let (threads, distance) = (counted(threads), cpus::ping_pong());
            for row in [GROW, LONGEST] {
                samples.push(&format!("{row}, {threads}{BAR}{PING_PONG}"), distance);
            }
        }
        for (who, turns) in &all {
            let (each, longest) = (turns.grown)(threads);
            let threads = counted(threads);
            samples.push(&format!("{GROW}, {threads}{BAR}{who}"), each);
            samples.push(&format!("{LONGEST}, {threads}{BAR}{who}"), longest);
        }
    }
    samples
}

/// Nanoseconds of an operation, on each of so many threads.
fn turn<C: Contender>(map: &C, threads: usize, size: u64, mix: Mix, time: Duration) -> f64 {
    let start = Barrier::new(threads);
    let pace = |thread: usize| {
        let cpus = cpus::allowed();
        cpus::stay_on(cpus[thread % cpus.len()]);
        let mut local = map.local();
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
                let (number, what) = ((dice >> 32) & (size - 1), dice % 200);
                match mix {
                    Mix::Found => drop(black_box(C::get(&mut local, number * 2))),
                    Mix::Absent => drop(black_box(C::get(&mut local, number * 2 + 1))),
                    Mix::Reads(reads) => {
                        // Twice as many keys as entries.
                        let key = (dice >> 32) & (size * 2 - 1);
                        if what < 2 * reads {
                            black_box(C::get(&mut local, key));
                        } else if what % 2 == 0 {
                            C::insert(&mut local, key, key);
                        } else {
                            C::remove(&mut local, key);
                        }
                    }
                }
            }
            done += BATCH;
        }
        begin.elapsed().as_secs_f64() * 1e9 / done as f64
    };
    thread::scope(|scope| {
        let pace = &pace;
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(move || pace(n))).collect();
        let count = threads.len() as f64;
        threads.into_iter().map(|thread| thread.join().expect("no panics")).sum::<f64>() / count
    })
}
