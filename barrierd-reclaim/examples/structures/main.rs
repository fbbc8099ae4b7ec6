//! Five concurrent data structures on the reclaimer, each in a file to start from: a stack, a queue,
//! an ordered list, a hash map, a read-copy-update cell. They are made to be read. For use there is the crate
//! `barrierd-structures`.
//!
//! `cargo run --release -p barrierd-reclaim --example structures`

#![allow(unreachable_pub, reason = "files to start a library's module from")]

mod cell;
mod list;
mod map;
mod queue;
mod stack;

use barrierd_reclaim::Reclaimer;
use cell::RcuCell;
use map::Map;
use queue::Queue;
use stack::Stack;
use std::thread;
use std::time::{Duration, Instant};

const THREADS: u64 = 2;
const ROUNDS: u64 = 200_000;

fn main() {
    let reclaimer = Reclaimer::new();
    let stack = Stack::new(reclaimer.clone());
    let queue = Queue::new(reclaimer.clone());
    let map: Map<u64, u64> = Map::new(reclaimer.clone(), 256);
    let cell = RcuCell::new(reclaimer.clone(), 0u64);

    let both = |name: &str, work: &(dyn Fn(u64) + Sync)| {
        let begin = Instant::now();
        thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || (0..ROUNDS).for_each(|n| work(n * THREADS + thread)));
            }
        });
        let each = begin.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(ROUNDS).unwrap());
        println!("{name:<28}{each:>8.0} ns a round, {THREADS} threads at it");
    };
    both("stack: push, pop", &|n| {
        stack.push(n);
        assert!(stack.pop(&reclaimer.pin()).is_some());
    });
    both("queue: push, pop", &|n| {
        let guard = reclaimer.pin();
        queue.push(&guard, n);
        assert!(queue.pop(&guard).is_some());
    });
    both("map: insert, get, remove", &|n| {
        let guard = reclaimer.pin();
        assert!(map.insert(&guard, n, n));
        assert_eq!(map.get(&guard, &n), Some(&n));
        assert!(map.remove(&guard, &n, |_| ()));
    });
    both("cell: update, read", &|_| {
        let guard = reclaimer.pin();
        cell.update(&guard, |sum| sum + 1);
        assert!(*cell.read(&guard) > 0);
    });
    assert_eq!(*cell.read(&reclaimer.pin()), THREADS * ROUNDS);
    cell.set(0);

    let deadline = Instant::now() + Duration::from_secs(10);
    reclaimer.synchronize(deadline).expect("no guard is open");
    let stats = reclaimer.stats();
    println!("retired {}, freed {}, source: {}", stats.retired, stats.freed, stats.source);
}
