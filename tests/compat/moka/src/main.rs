//! `alone|beside CACHES`: drops so many caches, and prints how many of their values are alive then and two flushes later, and
//! what it took, a `name,value` line each. The benchmarks run it on this repository's crossbeam-epoch and on the original
//! (`tests/compat/original`).

use crossbeam_epoch::pin;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

/// A value that is counted while it lives.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn new(live: &Arc<AtomicU64>) -> Arc<Counted> {
        live.fetch_add(1, SeqCst);
        Arc::new(Counted(live.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

type Values = Cache<u64, Arc<Counted>>;

/// Inserts, replaces, evicts and invalidates.
fn work(cache: &Values, live: &Arc<AtomicU64>) {
    for n in 0..300 {
        cache.insert(n % 150, Counted::new(live));
        cache.get(&(n / 2));
    }
    cache.invalidate(&7);
    cache.run_pending_tasks();
}

fn us(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6
}

fn drops(scenario: &str, caches: u64) {
    for _ in 0..caches {
        let live = Arc::default();
        let cache = Values::new(100);
        work(&cache, &live);
        let begin = Instant::now();
        drop(cache);
        let (drop_us, dropped) = (us(begin), live.load(SeqCst));
        let begin = Instant::now();
        (0..2).for_each(|_| pin().flush());
        let flush_us = us(begin);
        println!("{scenario} dropped,{dropped}\n{scenario} flushed,{}", live.load(SeqCst));
        println!("{scenario} drop us,{drop_us}\n{scenario} flush us,{flush_us}");
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().unwrap_or_else(|| "alone".into());
    let caches = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(100);
    if scenario != "beside" {
        return drops(&scenario, caches);
    }
    let (stop, idle) = (AtomicBool::new(false), std::sync::Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            let (live, cache) = (Arc::default(), Values::new(100));
            work(&cache, &live);
            idle.wait();
            // Asleep, with its cache.
            idle.wait();
        });
        idle.wait();
        scope.spawn(|| {
            let (live, cache) = (Arc::default(), Values::new(100));
            while !stop.load(SeqCst) {
                work(&cache, &live);
            }
        });
        drops(&scenario, caches);
        stop.store(true, SeqCst);
        idle.wait();
    });
}
