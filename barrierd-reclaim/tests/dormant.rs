//! Threads that sleep: they cost the others no barrier, and find nothing that was freed when they wake.

#![cfg(not(barrierd_plain))]

mod common;

use barrierd_reclaim::{Rcu, Reclaimer, Source, Stats};
use common::alone::is_alone;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

fn domain() -> Reclaimer {
    Reclaimer::builder().source(Source::Membarrier).background(false).build().expect("membarrier")
}

fn bought(stats: Stats) -> u64 {
    stats.retire_syscalls + stats.other_syscalls
}

fn spin(turns: u32) {
    (0..turns).for_each(|_| std::hint::spin_loop());
}

/// One barrier puts all of them to sleep that have idled for a while, however many they are: not one for each so many.
#[test]
fn many_idle_threads_cost_a_few_barriers_in_all() {
    for idle in [1_000, 10_000] {
        let reclaimer = domain();
        let sleepers: Vec<_> = (0..idle).map(|_| reclaimer.handle()).collect();
        thread::sleep(Duration::from_millis(5));
        let before = bought(reclaimer.stats());
        let (mut flushes, mut bought_by) = (0, 0);
        // Some may come before all have idled for long enough, since it takes time to make them.
        while reclaimer.stats().waiting() > 0 || flushes == 0 {
            (0..64).for_each(|_| reclaimer.retire_value(7));
            reclaimer.flush();
            flushes += 1;
            bought_by = bought(reclaimer.stats()) - before;
            assert!(bought_by <= 8, "{idle}: {bought_by} barriers in {flushes} flushes");
        }
        for _ in 0..100 {
            (0..64).for_each(|_| reclaimer.retire_value(7));
            reclaimer.flush();
        }
        let after = bought(reclaimer.stats()) - before;
        // A mark that nobody saw to the end, say in a preemption, costs one more.
        assert!(after <= bought_by + 8, "{idle}: {after} barriers, {bought_by} of them at first");
        drop(sleepers);
    }
}

/// 50 threads have pinned once, and sleep; one reads, one retires. By their count: once all of them are known to
/// sleep, no barrier is bought any more, and all that is retired is freed.
#[test]
fn idle_threads_cost_nobody_a_barrier() {
    const IDLE: usize = 50;
    /// Barriers come each 2 to 4 ms, some hundred retirements, where idle threads stand in the way.
    const QUIET: u64 = 5_000;
    const MOST: u64 = 200_000;
    // A barrier of another test's would put them to sleep as well.
    if !is_alone("idle_threads_cost_nobody_a_barrier") {
        return;
    }
    let reclaimer = domain();
    thread::scope(|scope| {
        let (sleeps, asleep) = channel();
        let sleepers: Vec<_> = (0..IDLE)
            .map(|_| {
                let (sleeps, reclaimer) = (sleeps.clone(), &reclaimer);
                let (wakes, woken) = channel::<()>();
                scope.spawn(move || {
                    drop(reclaimer.pin());
                    sleeps.send(()).unwrap();
                    let _ = woken.recv();
                    drop(reclaimer.pin());
                });
                wakes
            })
            .collect();
        (0..IDLE).for_each(|_| asleep.recv().unwrap());
        // Both on this thread: whoever is preempted here costs no barrier either.
        let mut reader = reclaimer.handle();
        let mut retire = |times: u64| {
            for _ in 0..times {
                reclaimer.retire_value(7);
                drop(reader.pin());
                spin(200);
            }
        };
        let mut quiet_since = (0, 0);
        let mut retired = 0;
        // Somebody has to put them to sleep.
        while quiet_since.1 == 0 || retired - quiet_since.0 < QUIET {
            assert!(retired < MOST, "none is bought, or on and on: {:?}", reclaimer.stats());
            retire(100);
            retired += 100;
            let now = bought(reclaimer.stats());
            if now != quiet_since.1 {
                quiet_since = (retired, now);
            }
        }
        let before = reclaimer.stats();
        retire(QUIET);
        let after = reclaimer.stats();
        assert_eq!(bought(after), bought(before), "{after:?}");
        assert!(after.freed > before.retired, "{after:?}");
        assert!(after.waiting() < 1000, "{after:?}");
        drop(sleepers);
    });
}

/// A cell's reader that keeps nothing costs nobody a barrier while its thread does something else: before it has read,
/// and after it let go. One that keeps a value costs one each time.
#[test]
fn a_cells_reader_that_keeps_nothing_costs_nobody_a_barrier() {
    const ROUNDS: u64 = 100;
    // A barrier of another test's would put them to sleep as well.
    if !is_alone("a_cells_reader_that_keeps_nothing_costs_nobody_a_barrier") {
        return;
    }
    for (reads, releases) in [(false, false), (true, true), (true, false)] {
        let reclaimer = domain();
        let cell = Rcu::with_reclaimer(1, &reclaimer);
        let bought_in_rounds = thread::scope(|scope| {
            let ((rests, is_resting), (wakes, woken)) = (channel(), channel::<()>());
            let cell = &cell;
            scope.spawn(move || {
                let mut reader = cell.reader();
                if reads {
                    assert_eq!(*reader.get(), 1);
                }
                if releases {
                    reader.release();
                }
                rests.send(()).unwrap();
                let _ = woken.recv();
                assert_eq!(*reader.get(), 2);
            });
            is_resting.recv().unwrap();
            cell.store(2);
            // What the reader keeps is one value.
            let kept = u64::from(reads && !releases);
            let round = || {
                (0..64).for_each(|_| reclaimer.retire_value(7));
                let flushed = (0..1_000_000).find(|_| {
                    reclaimer.flush();
                    reclaimer.stats().waiting() <= kept
                });
                assert!(flushed.is_some(), "{:?}", reclaimer.stats());
            };
            // Somebody has to put it to sleep, once it has idled for a while.
            for _ in 0..4 {
                thread::sleep(Duration::from_millis(5));
                round();
            }
            let before = bought(reclaimer.stats());
            (0..ROUNDS).for_each(|_| round());
            drop(wakes);
            bought(reclaimer.stats()) - before
        });
        if reads && !releases {
            assert!(bought_in_rounds >= ROUNDS, "{bought_in_rounds}");
        } else {
            // A mark that nobody saw to the end, say in a preemption, costs one more.
            assert!(bought_in_rounds <= 8, "{bought_in_rounds}: {reads}, {releases}");
        }
    }
}

/// What was retired is marked and kept, so whoever finds it later sees it.
static FREED: AtomicU64 = AtomicU64::new(0);

unsafe fn mark_freed(node: *mut AtomicBool) {
    // SAFETY: nodes are leaked.
    unsafe { (*node).store(false, Relaxed) };
    FREED.fetch_add(1, Relaxed);
}

/// Threads sleep and wake at all times, some of them with a hazard or a robust guard.
#[test]
fn who_wakes_finds_nothing_that_was_freed() {
    let node = || Box::into_raw(Box::new(AtomicBool::new(true)));
    let reclaimer = domain();
    let cell = AtomicPtr::new(node());
    let stop = AtomicBool::new(false);
    // SAFETY: nodes are leaked.
    let is_alive = |node: *mut AtomicBool| unsafe { (*node).load(Relaxed) };
    thread::scope(|scope| {
        for me in 0..6u64 {
            let (reclaimer, cell, stop, is_alive) = (&reclaimer, &cell, &stop, &is_alive);
            scope.spawn(move || {
                let mut handle = reclaimer.handle();
                for round in 0u64.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let guard = if round % 2 == 0 { reclaimer.pin() } else { handle.pin() };
                    for _ in 0..50 {
                        assert!(is_alive(guard.protect(cell)), "a section's");
                        spin(20);
                    }
                    drop(guard);
                    if me == 1 {
                        let mut hazard = reclaimer.hazard();
                        for _ in 0..50 {
                            let held = hazard.protect(cell).as_ptr();
                            assert!(is_alive(held), "a hazard's");
                        }
                    }
                    if me == 2 {
                        let guard = reclaimer.pin_robust();
                        assert!(is_alive(guard.protect(cell)), "a robust guard's");
                    }
                    thread::sleep(Duration::from_micros(500 * (me + round % 7)));
                }
            });
        }
        while FREED.load(Relaxed) < 30_000 {
            let old = cell.swap(node(), AcqRel);
            // SAFETY: unlinked, retired once; nodes are leaked.
            unsafe { reclaimer.retire_with(old, mark_freed) };
            spin(200);
        }
        stop.store(true, Relaxed);
    });
}
