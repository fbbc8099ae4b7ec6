//! What a writer waits for: swap and retire, every 10 us, beside a reader that never rests.
//!
//! `cargo bench --bench latency`. The contestants take turns; each time contains one clock reading, which
//! the row `(nothing freed)` shows.

#[path = "structures/scheme.rs"]
mod scheme;

use scheme::{Barrierd, Crossbeam, Leak, Scheme, Seize};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::AcqRel, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// The variable that names a live daemon's file.
pub(crate) const FILE: &str = "BARRIERD_BENCH_FILE";

const EVERY: Duration = Duration::from_micros(10);
const SWAPS: usize = 4_000;
const ROUNDS: usize = 10;

fn main() {
    let names = [Barrierd::NAME, Crossbeam::NAME, Seize::NAME, Leak::NAME];
    let turns = [turn::<Barrierd>, turn::<Crossbeam>, turn::<Seize>, turn::<Leak>];
    let mut all = vec![Vec::with_capacity(ROUNDS * SWAPS); turns.len()];
    for _ in 0..ROUNDS {
        for (turn, all) in turns.iter().zip(&mut all) {
            turn(all);
        }
    }
    println!("swap + retire every {EVERY:?} beside a reader, nanoseconds");
    println!("  {:<20}{:>8}{:>8}{:>8}{:>10}", "", "p50", "p90", "p99", "p99.9");
    for (name, times) in names.iter().zip(&mut all) {
        times.sort_unstable();
        let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
        println!("  {name:<20}{:>8}{:>8}{:>8}{:>10}", at(500), at(900), at(990), at(999));
    }
}

fn turn<S: Scheme>(times: &mut Vec<u64>) {
    let (scheme, stop) = (S::new(), AtomicBool::new(false));
    let cell = AtomicPtr::new(Box::into_raw(Box::new(0u64)));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut local = scheme.local();
            while !stop.load(Relaxed) {
                let guard = S::pin(&mut local);
                // SAFETY: never null, protected by the guard.
                black_box(unsafe { *S::protect(&guard, &cell) });
            }
        });
        let mut local = scheme.local();
        let mut next = Instant::now();
        for n in 0..SWAPS {
            while Instant::now() < next {
                spin_loop();
            }
            let begin = Instant::now();
            let guard = S::pin(&mut local);
            let old = cell.swap(Box::into_raw(Box::new(n as u64)), AcqRel);
            // SAFETY: from a box, unlinked by the swap, retired once.
            unsafe { S::retire(&guard, old) };
            drop(guard);
            times.push(u64::try_from(begin.elapsed().as_nanos()).expect("short"));
            // From now, not from when it was due: else a preemption is followed by a burst.
            next = begin + EVERY;
        }
        stop.store(true, Relaxed);
    });
}
