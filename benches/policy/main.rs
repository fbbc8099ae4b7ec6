//! What a barrier should cost before it is bought: the policy's curve.
//!
//! `cargo bench --bench policy` on the system's allocator, `--bench policy-mimalloc` on mimalloc.
//!
//! Alloc, swap, retire, free on one thread and on two, each with a cell of its own. *Collected*: the
//! threads that retire keep each other's garbage short, and nothing is bought. *Bought*: an idle thread is
//! registered beside them, so a barrier is bought whenever so many items wait. *Passive*, if
//! `BARRIERD_BENCH_FILE` names a live daemon's file: nothing is bought, however many wait.

use barrierd_reclaim::{Reclaimer, Source};
use std::sync::Barrier;
use std::sync::atomic::{AtomicPtr, Ordering::AcqRel};
use std::thread;
use std::time::Instant;

/// Items that may wait before a barrier is bought.
const BUDGETS: [usize; 8] = [16, 64, 256, 512, 1024, 4096, 16_384, 65_536];
const SWAPS: u64 = 400_000;
const ROUNDS: usize = 9;

pub(crate) fn main() {
    println!("  {:<26}{:>22}{:>22}", "", "one thread", "two threads");
    println!("  {:<26}{:>10}{:>12}{:>10}{:>12}", "", "ns", "in flight", "ns", "in flight");
    let collected = || Reclaimer::builder().source(Source::Membarrier).build().expect("Linux");
    row("collected", false, &collected);
    for budget in BUDGETS {
        let bought = || {
            Reclaimer::builder().source(Source::Membarrier).budget(budget).build().expect("Linux")
        };
        row(&format!("bought, {budget} wait"), true, &bought);
    }
    if let Some(file) = std::env::var_os("BARRIERD_BENCH_FILE") {
        let passive = || {
            let builder = Reclaimer::builder().source(Source::Daemon).daemon_file(&file);
            builder.build().unwrap_or_else(|error| panic!("{error}"))
        };
        row("passive", true, &passive);
    }
}

fn row(name: &str, idle_beside: bool, make: &dyn Fn() -> Reclaimer) {
    print!("  {name:<26}");
    for threads in [1, 2] {
        let mut rounds: Vec<(f64, u64)> =
            (0..ROUNDS).map(|_| round(&make(), threads, idle_beside)).collect();
        rounds.sort_by(|one, two| one.0.total_cmp(&two.0));
        let (ns, waiting) = rounds[ROUNDS / 2];
        print!("{ns:>10.1}{waiting:>12}");
    }
    println!();
}

/// Nanoseconds a swap, and items that waited in the midst of it.
fn round(reclaimer: &Reclaimer, threads: usize, idle_beside: bool) -> (f64, u64) {
    let idle = idle_beside.then(|| reclaimer.handle());
    let start = Barrier::new(threads);
    let work = |first: bool| {
        let mut handle = reclaimer.handle();
        let cell = AtomicPtr::new(Box::into_raw(Box::new(0u64)));
        let mut swaps = |n: u64| {
            for i in 0..n {
                let guard = handle.pin();
                let old = cell.swap(Box::into_raw(Box::new(i)), AcqRel);
                // SAFETY: from a Box, unlinked by the swap, retired once.
                unsafe { guard.retire(old) };
            }
        };
        start.wait();
        let begin = Instant::now();
        swaps(SWAPS / 2);
        let waiting = if first { reclaimer.stats().waiting() } else { 0 };
        swaps(SWAPS / 2);
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let ns = begin.elapsed().as_secs_f64() * 1e9 / SWAPS as f64;
        // SAFETY: the last pointer.
        drop(unsafe { Box::from_raw(cell.into_inner()) });
        (ns, waiting)
    };
    let rounds: Vec<(f64, u64)> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n == 0))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panics")).collect()
    });
    drop(idle);
    let slowest = rounds.iter().map(|round| round.0).fold(0.0, f64::max);
    (slowest, rounds.iter().map(|round| round.1).sum())
}
