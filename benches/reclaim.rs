//! What a reader and a writer pay, beside crossbeam-epoch in the same run.
//!
//! `make bench`, or `cargo bench --bench reclaim [-- --file /path/of/a/live/barrierd]`.
//!
//! Times are the best and the median of many short batches, the contestants taking turns (A B A B),
//! so that a noisy neighbour hits both. Instructions are exact: callgrind counts a program that does
//! the operation n times and one that does it 2n times, and the difference is n operations.

use barrierd_reclaim::{Reclaimer, Source, recycle};
use crossbeam_epoch as epoch;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicPtr, Ordering::AcqRel};
use std::time::Instant;

/// One contestant in one discipline: does its operation so many times.
struct Contestant {
    discipline: &'static str,
    name: String,
    work: Box<dyn FnMut(u64)>,
}

fn contestants(daemon_file: Option<&PathBuf>) -> Vec<Contestant> {
    let mut all = Vec::new();
    let mut sources = vec![("membarrier", Source::Membarrier)];
    if daemon_file.is_some() {
        sources.insert(0, ("daemon", Source::Daemon));
    }
    for (name, source) in sources {
        // A domain for each contestant, since a thread that takes part and rests costs the others.
        let make = || {
            let mut builder = Reclaimer::builder().source(source);
            if let Some(path) = daemon_file {
                builder = builder.daemon_file(path);
            }
            builder.build().unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let named = |what: &str| format!("{name}{what}");
        let mut handle = make().handle();
        all.push(Contestant {
            discipline: PIN,
            name: named(", by a handle"),
            work: Box::new(move |n| (0..n).for_each(|_| drop(black_box(handle.pin())))),
        });
        let own = make();
        all.push(Contestant {
            discipline: PIN,
            name: named(""),
            work: Box::new(move |n| (0..n).for_each(|_| drop(black_box(own.pin())))),
        });
        all.push(Contestant {
            discipline: RETIRE,
            name: named(", recycled"),
            work: recycled(make()),
        });
        all.push(Contestant { discipline: RETIRE, name: named(""), work: swaps(make()) });
        let beside = make();
        // Registered, and never heard of again.
        std::mem::forget(beside.handle());
        all.push(Contestant {
            discipline: RETIRE,
            name: named(", an idle thread beside"),
            work: swaps(beside),
        });
    }
    all.push(Contestant {
        discipline: PIN,
        name: PEER.into(),
        work: Box::new(|n| (0..n).for_each(|_| drop(black_box(epoch::pin())))),
    });
    all.push(Contestant {
        discipline: RETIRE,
        name: "(alloc + free alone)".into(),
        work: Box::new(alloc_and_free),
    });
    let cell = epoch::Atomic::new(0u64);
    all.push(Contestant {
        discipline: RETIRE,
        name: PEER.into(),
        work: Box::new(move |n| {
            for i in 0..n {
                let guard = epoch::pin();
                let old = cell.swap(epoch::Owned::new(i), AcqRel, &guard);
                // SAFETY: unlinked by the swap, destroyed once.
                unsafe { guard.defer_destroy(old) };
            }
        }),
    });
    all
}

fn swaps(reclaimer: Reclaimer) -> Box<dyn FnMut(u64)> {
    let cell = AtomicPtr::new(Box::into_raw(Box::new(0u64)));
    Box::new(move |n| {
        for i in 0..n {
            let _guard = reclaimer.pin();
            let old = cell.swap(Box::into_raw(Box::new(i)), AcqRel);
            // SAFETY: from a Box, unlinked by the swap, retired once.
            unsafe { reclaimer.retire(old) };
        }
    })
}

fn recycled(reclaimer: Reclaimer) -> Box<dyn FnMut(u64)> {
    let cell = AtomicPtr::new(recycle::alloc(0u64));
    let mut handle = reclaimer.handle();
    Box::new(move |n| {
        for i in 0..n {
            let guard = handle.pin();
            let old = cell.swap(recycle::alloc(i), AcqRel);
            // SAFETY: from `recycle`, unlinked by the swap, retired once.
            unsafe { guard.retire_with(old, recycle::free) };
        }
    })
}

/// The bound: what the allocator alone takes, here and now.
fn alloc_and_free(n: u64) {
    (0..n).for_each(|i| drop(black_box(Box::new(i))));
}

const PIN: &str = "pin + unpin";
const RETIRE: &str = "pin + alloc + swap + retire + free";
const PEER: &str = "crossbeam-epoch";

const BATCH: u64 = 100_000;
const ROUNDS: usize = 60;
/// Operations that callgrind counts; enough for bags and scans to even out.
const COUNTED: u64 = 64_000;
/// Says to the program that it runs under callgrind: which contestant, how often.
const COUNT_ENV: &str = "BARRIERD_BENCH_COUNT";

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--file").skip(1);
    let daemon_file = arguments.next().map(PathBuf::from);
    let mut all = contestants(daemon_file.as_ref());

    if let Ok(task) = std::env::var(COUNT_ENV) {
        let (index, n) = task.split_once(':').expect("index:n");
        let index: usize = index.parse().expect("an index");
        (all[index].work)(n.parse().expect("a number"));
        // Without the drop of what is still waiting: both programs leave it alike.
        std::process::exit(0);
    }

    let mut samples = vec![Vec::with_capacity(ROUNDS); all.len()];
    for _ in 0..ROUNDS {
        for (contestant, samples) in all.iter_mut().zip(&mut samples) {
            let begin = Instant::now();
            (contestant.work)(BATCH);
            samples.push(begin.elapsed().as_secs_f64() * 1e9 / 100_000.0);
        }
    }
    samples.iter_mut().for_each(|samples| samples.sort_by(f64::total_cmp));
    let median = |index: usize| samples[index][ROUNDS / 2];

    for discipline in [PIN, RETIRE] {
        println!("{discipline}");
        println!(
            "  {:<36}{:>10}{:>12}{:>14}{:>14}",
            "", "best ns", "median ns", "x of peer", "instructions"
        );
        let peer = all.iter().position(|c| c.discipline == discipline && c.name == PEER);
        let peer = peer.expect("every discipline has the peer");
        for (index, contestant) in all.iter().enumerate() {
            if contestant.discipline == discipline {
                println!(
                    "  {:<36}{:>10.2}{:>12.2}{:>14.2}{:>14}",
                    contestant.name,
                    samples[index][0],
                    median(index),
                    median(index) / median(peer),
                    instructions(index, daemon_file.as_ref()),
                );
            }
        }
    }
}

/// Instructions an operation, or why there are none.
fn instructions(index: usize, daemon_file: Option<&PathBuf>) -> String {
    let count = |n: u64| -> Option<f64> {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        valgrind.arg(std::env::current_exe().ok()?);
        if let Some(path) = daemon_file {
            valgrind.arg("--file").arg(path);
        }
        let output = valgrind.env(COUNT_ENV, format!("{index}:{n}")).output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find_map(|line| line.split_once("Collected : ")?.1.parse().ok())
    };
    match (count(COUNTED), count(2 * COUNTED)) {
        (Some(once), Some(twice)) => format!("{:.1}", (twice - once) / 64_000.0),
        _ => "no valgrind".into(),
    }
}
