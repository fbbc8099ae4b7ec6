//! What it costs to read what another process writes.

mod stores;

use super::Experiment;
use crate::Bench;
use crate::cpus;
use crate::distance::PING_PONG;
use crate::job::{self, Allocator};
use crate::options::Options;
use crate::picture::Bars;
use crate::report::{Better, Table};
use crate::schemes::AGAIN;
use crate::stats::{number, per_mille};
use crate::turns::Samples;
use barrierd_shared::{Options as Size, Region, SharedCell, SharedMap};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use stores::{InProcess, Lmdb, Renewed, RwLock, SeqLock, Shared, Store};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "processes",
    title: "A map that processes share",
    about: "\
A map of 64 Ki keys and values of 64 bits is read at random keys by one process, while another one, on another CPU, replaces a \
random key's value never, 1,000 or 100,000 times a second. LMDB lies in /dev/shm and never syncs; each get opens and \
ends a read transaction, whose slot the thread keeps (by heed), or renews and resets one that it keeps (by LMDB's own calls), its \
fastest way to see what was written meanwhile. The lock is a process-shared pthread rwlock, the seqlock a number and a \
fence or two, both around an open table of fixed length. The row *in one process* is this project's map with a thread that \
writes. *Two readers*: another process reads as fast on the other CPU. *Write* is one replacement at 100,000 a second. *Restart* is the time from a writer's death, in its turn, to the end of \
the next writer's first insertion, beside 1 Mi entries.",
    run,
    job: Some(job),
};

pub(crate) const KEYS: u64 = 1 << 16;
const READS: u64 = 50_000;
const WRITES: usize = 20_000;
const PACES: [(&str, u64); 3] = [
    ("get, nobody writes", 0),
    ("get, 1 k writes a second", 1_000_000),
    ("get, 100 k writes a second", 10_000),
];
const TWO: &str = "get, two readers, nobody writes";
const P50: &str = "write, p50";
const P99: &str = "write, p99";
const SECTION: &str = "a section";
const CELL: &str = "a cell's get, 56 bytes";
const RESTART: &str = "restart, ms";
/// Between row and contestant, in the job's output.
const BAR: &str = "|";
const OWN: &str = "barrierd-shared";
/// The title of its table in the overview.
const SHORT: &str =
    "A map that another process writes (`barrierd-shared`; *in one process*: this project's map)";
/// What ratios are of.
const PEER: &str = "in one process";

fn run(bench: &mut Bench) {
    let samples =
        match job::done(bench, Allocator::System, "processes all", Duration::from_secs(180)) {
            Ok(samples) => samples,
            Err(error) => return bench.report.miss(error),
        };
    if let Some(spread) = samples.of(PING_PONG) {
        bench.report.say(&format!("A line's way there and back took {} ns.", spread.shown()));
    }
    let mut bars = Bars {
        title: "A get from a map that another process writes, ns".into(),
        log: true,
        better: Some(Better::Lower),
        ..Bars::default()
    };
    let rows = PACES.iter().map(|(row, _)| *row).chain([TWO, P50, P99, SECTION, CELL, RESTART]);
    for row in rows {
        let full = if row == RESTART { row.to_owned() } else { format!("{row}, ns") };
        let mut table = Table::new(["", "", "x of the map in one process"]);
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
        if entries.len() > 1 {
            bench.report.principal(&format!("processes: {full}"), Better::Lower, entries);
        }
        bench.report.table(&full, &table);
        if row.starts_with("get") {
            bars.groups.push((row.into(), group));
        }
    }
    bench.report.picture("processes", bars, "nanoseconds of a get, by library");
    bench.report.raw("processes", "ns, or ms", &[("one reader, one writer".into(), samples)]);
}

/// What the two sides say to each other, in memory that they share.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Talk {
    every_ns: AtomicU64,
    ready: AtomicU64,
    /// Whether the second reader reads.
    second: AtomicU64,
    p50: AtomicU64,
    p99: AtomicU64,
}

pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// The writer's side, until it is killed.
fn write<S: Store>(store: &S, talk: &Talk) {
    let cpus = cpus::allowed();
    cpus::stay_on(cpus[cpus.len() - 1]);
    let mut writer = store.writer();
    (0..KEYS).for_each(|key| S::write(&mut writer, key, key));
    talk.ready.store(1, Ordering::Release);
    let (mut state, mut took) = (1, Vec::with_capacity(WRITES));
    // Until it is killed, or where it is a thread, is told.
    while talk.ready.load(Ordering::Relaxed) == 1 {
        match talk.every_ns.load(Ordering::Relaxed) {
            0 => thread::sleep(Duration::from_micros(100)),
            every => {
                let begin = Instant::now();
                let key = next(&mut state) % KEYS;
                S::write(&mut writer, key, state);
                if every == PACES[2].1 {
                    took.push(begin.elapsed().as_secs_f64() * 1e9);
                }
                if took.len() == WRITES {
                    took.sort_unstable_by(f64::total_cmp);
                    talk.p50.store(per_mille(&took, 500).to_bits(), Ordering::Relaxed);
                    talk.p99.store(per_mille(&took, 990).to_bits(), Ordering::Relaxed);
                    took.clear();
                }
                cpus::spin_until(begin + Duration::from_nanos(every));
            }
        }
    }
}

/// The second reader's side, as long as the writer's.
fn read_beside<S: Store>(store: &S, talk: &Talk) {
    let cpus = cpus::allowed();
    cpus::stay_on(cpus[cpus.len() - 1]);
    while talk.ready.load(Ordering::Acquire) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let (mut reader, mut state) = (store.reader(), 3);
    while talk.ready.load(Ordering::Relaxed) == 1 {
        if talk.second.load(Ordering::Relaxed) == 0 {
            thread::sleep(Duration::from_micros(100));
        }
        for _ in 0..100 * talk.second.load(Ordering::Relaxed) {
            black_box(S::read(&mut reader, next(&mut state) % KEYS));
        }
    }
}

fn read<S: Store>(store: &S, talk: &Talk, rounds: usize, who: &str, samples: &mut Samples) {
    while talk.ready.load(Ordering::Acquire) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    let mut reader = store.reader();
    let mut state = 7;
    for round in 0..=rounds {
        for (row, every) in PACES.into_iter().chain([(TWO, 0)]) {
            talk.second.store(u64::from(row == TWO), Ordering::Relaxed);
            talk.every_ns.store(every, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(300));
            let begin = Instant::now();
            let times = if every == 0 { 1 } else { 4 };
            let mut sum = 0u64;
            for _ in 0..times * READS {
                sum = sum.wrapping_add(S::read(&mut reader, next(&mut state) % KEYS));
            }
            black_box(sum);
            let ns = begin.elapsed().as_secs_f64() * 1e9 / (times * READS) as f64;
            if round > 0 {
                samples.push(&format!("{row}{BAR}{who}"), ns);
            }
        }
    }
    talk.second.store(0, Ordering::Relaxed);
    talk.every_ns.store(PACES[2].1, Ordering::Relaxed);
    // Writes at the last pace, beside a reader that goes on.
    talk.p99.store(0, Ordering::Relaxed);
    let until = Instant::now() + Duration::from_secs(3);
    while talk.p99.load(Ordering::Relaxed) == 0 && Instant::now() < until {
        black_box(S::read(&mut reader, next(&mut state) % KEYS));
    }
    for (row, word) in [(P50, &talk.p50), (P99, &talk.p99)] {
        let ns = f64::from_bits(word.load(Ordering::Relaxed));
        if ns > 0.0 {
            samples.push(&format!("{row}{BAR}{who}"), ns);
        }
    }
}

fn figures<S: Store>(rounds: usize, who: &str, samples: &mut Samples) {
    let talk = stores::shared_memory::<Talk>();
    let store = S::new();
    if S::BY_THREAD {
        thread::scope(|scope| {
            scope.spawn(|| write(&store, talk));
            scope.spawn(|| read_beside(&store, talk));
            read(&store, talk, rounds, who, samples);
            talk.ready.store(2, Ordering::Relaxed);
        });
    } else {
        let child = stores::Child::start(|| write(&store, talk));
        let beside = stores::Child::start(|| read_beside(&store, talk));
        read(&store, talk, rounds, who, samples);
        drop((child, beside));
    }
}

/// What a cell's get and a section cost, with nobody who writes.
fn cell(samples: &mut Samples) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let region = Region::create_in_memory(Size::new(1 << 20)).map_err(|error| said(&error))?;
    let mut writer = region.writer().map_err(|error| said(&error))?;
    let mut reader = region.reader().map_err(|error| said(&error))?;
    let cell = SharedCell::<[u64; 7]>::at(0);
    cell.set(&mut writer, [1; 7]).map_err(|error| said(&error))?;
    for _ in 0..20 {
        let begin = Instant::now();
        (0..READS).for_each(|_| drop(black_box(&mut reader).pin()));
        let pinned = begin.elapsed().as_secs_f64() * 1e9 / READS as f64;
        let begin = Instant::now();
        for _ in 0..READS {
            let _ = black_box(cell.get(black_box(&mut reader)));
        }
        let got = begin.elapsed().as_secs_f64() * 1e9 / READS as f64;
        samples.push(&format!("{SECTION}{BAR}{OWN}"), pinned);
        samples.push(&format!("{CELL}{BAR}{OWN}"), got);
    }
    Ok(())
}

/// Kills a writer in its turn, beside so many entries.
fn restart(entries: u64, samples: &mut Samples) -> Result<(), String> {
    let said = |error: &dyn std::error::Error| error.to_string();
    let bytes = 96 * usize::try_from(entries).map_err(|error| said(&error))? + (1 << 20);
    let region = Region::create_in_memory(Size::new(bytes)).map_err(|error| said(&error))?;
    let map = SharedMap::<u64, u64>::at(0);
    let talk = stores::shared_memory::<Talk>();
    let mut filled = false;
    for _ in 0..3 {
        talk.ready.store(0, Ordering::Relaxed);
        let child = stores::Child::start(|| {
            let mut writer = region.writer().expect("a slot");
            if !filled {
                (0..entries).for_each(|key| _ = map.insert(&mut writer, &key, key).expect("room"));
            }
            let _turn = writer.turn().expect("a turn");
            talk.ready.store(1, Ordering::Release);
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        });
        while talk.ready.load(Ordering::Acquire) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        filled = true;
        drop(child);
        let begin = Instant::now();
        let mut writer = region.writer().map_err(|error| said(&error))?;
        map.insert(&mut writer, &1, 2).map_err(|error| said(&error))?;
        samples.push(&format!("{RESTART}{BAR}{OWN}"), begin.elapsed().as_secs_f64() * 1e3);
    }
    Ok(())
}

fn job(_: &str, options: &Options) -> Result<Samples, String> {
    cpus::stay_on(cpus::allowed()[0]);
    let mut samples = Samples::default();
    restart(options.effort.pick(1 << 12, 1 << 20, 1 << 20), &mut samples)?;
    cell(&mut samples)?;
    for _ in 0..options.effort.pick(1, 3, 10) {
        let rounds = options.effort.pick(1, 5, 10);
        samples.push(PING_PONG, cpus::ping_pong());
        figures::<Shared>(rounds, OWN, &mut samples);
        figures::<Shared>(rounds, AGAIN, &mut samples);
        figures::<InProcess>(rounds, PEER, &mut samples);
        figures::<Lmdb>(rounds, "LMDB", &mut samples);
        figures::<Renewed>(rounds, "LMDB, renewed", &mut samples);
        figures::<RwLock>(rounds, "rwlock, pthread", &mut samples);
        figures::<SeqLock>(rounds, "seqlock", &mut samples);
    }
    Ok(samples)
}
