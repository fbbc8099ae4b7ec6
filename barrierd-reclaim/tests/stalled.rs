//! Garbage under a reader that stalls for 2 s while a writer retires at full speed: a flat line, with a
//! hazard pointer and with a robust guard; a plain guard's grows, so the test can tell.
//!
//! `examples/stalled.rs` prints the same beside crossbeam-epoch.

use barrierd_reclaim::{Reclaimer, Source};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering::*};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// With a hazard pointer.
const MOST_HAZARD: u64 = 2_000;
/// With a robust guard.
const MOST_ROBUST: u64 = 7_000;

/// They are measured one at a time: the price of a barrier is the process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// With a budget of its own: the usual one lets 4,096 wait where a barrier is dear at the moment.
fn reclaimer() -> Reclaimer {
    Reclaimer::builder().source(Source::Membarrier).budget(1_024).build().unwrap()
}

/// What waits, looked at each 5 ms for 2 s, in order of size; the reader stalls in `section`.
fn waiting(
    reclaimer: &Reclaimer,
    section: impl FnOnce(&dyn Fn()) + Send,
    replace: impl Fn(),
) -> Vec<u64> {
    let _one = ONE_AT_A_TIME.lock();
    let (stalled, wait_stalled) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    thread::scope(move |scope| {
        scope.spawn(move || {
            section(&|| {
                stalled.send(()).unwrap();
                let _ = wait_go.recv();
            });
        });
        wait_stalled.recv().unwrap();
        let mut samples = Vec::new();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            let next = Instant::now() + Duration::from_millis(5);
            while Instant::now() < next {
                (0..100).for_each(|_| replace());
            }
            samples.push(reclaimer.stats().waiting());
        }
        drop(go);
        samples.sort_unstable();
        samples
    })
}

/// Nearly all looks find less than `most`; and none finds more than the budget allows on top, which
/// is what a machine that takes the writer off its CPU in mid-purchase may cost.
fn is_flat(samples: &[u64], most: u64) {
    let (nearly_all, worst) = (samples[samples.len() * 98 / 100], samples[samples.len() - 1]);
    assert!(
        nearly_all <= most && worst <= most + 4_096,
        "{nearly_all} and at worst {worst} waiting"
    );
}

#[test]
fn a_hazard_pointer() {
    let (reclaimer, cell) = (&reclaimer(), &AtomicPtr::new(Box::into_raw(Box::new(1u64))));
    let samples = waiting(
        reclaimer,
        |stall| {
            let mut hazard = reclaimer.hazard();
            let held = hazard.protect(cell);
            stall();
            // SAFETY: held.
            assert_eq!(unsafe { held.as_ref() }, Some(&1));
        },
        || {
            // SAFETY: from a Box, unlinked by the swap, retired once.
            unsafe { reclaimer.retire(cell.swap(Box::into_raw(Box::new(2)), AcqRel)) };
        },
    );
    is_flat(&samples, MOST_HAZARD);
}

#[test]
fn a_robust_guard() {
    let reclaimer = &reclaimer();
    let cell = &AtomicPtr::new(Box::into_raw(reclaimer.alloc(1u64)));
    let samples = waiting(
        reclaimer,
        |stall| {
            let guard = reclaimer.pin_robust();
            let seen = guard.protect(cell);
            stall();
            // SAFETY: held.
            assert_eq!(unsafe { **seen }, 1);
        },
        || {
            // SAFETY: from `alloc`, unlinked by the swap, retired once.
            unsafe { reclaimer.retire_born(cell.swap(Box::into_raw(reclaimer.alloc(2)), AcqRel)) };
        },
    );
    is_flat(&samples, MOST_ROBUST);
}

/// A structure's worth of old objects: they stay while the guard stalls, each by itself, and nothing
/// that is younger stays with them.
#[test]
fn a_robust_guard_beside_many_old_objects() {
    const OLD: usize = 2_000;
    let reclaimer = &reclaimer();
    let born = |name: usize| Box::into_raw(reclaimer.alloc(name));
    let cells: &Vec<_> = &(0..OLD).map(|name| AtomicPtr::new(born(name))).collect();
    let young = AtomicPtr::new(born(0));
    let turn = std::cell::Cell::new(0);
    let samples = waiting(
        reclaimer,
        |stall| {
            let guard = reclaimer.pin_robust();
            let seen = guard.protect(&cells[7]);
            stall();
            // SAFETY: held.
            assert_eq!(unsafe { **seen }, 7);
        },
        || {
            // One in 16 is old, so that each bag has some.
            turn.set(turn.get() + 1);
            let old = cells.get(turn.get() / 16).filter(|_| turn.get().is_multiple_of(16));
            let cell = old.unwrap_or(&young);
            // SAFETY: from `alloc`, unlinked by the swap, retired once.
            unsafe { reclaimer.retire_born(cell.swap(born(9), AcqRel)) };
        },
    );
    is_flat(&samples, MOST_ROBUST + OLD as u64);
    assert!(samples[samples.len() / 2] >= OLD as u64, "the old ones stay");
}

/// The twin that the test must tell: a plain guard in the same place.
#[test]
fn a_plain_guard_is_no_flat_line() {
    let (reclaimer, cell) = (&reclaimer(), &AtomicPtr::new(Box::into_raw(Box::new(1u64))));
    let samples = waiting(
        reclaimer,
        |stall| {
            let _guard = reclaimer.pin();
            stall();
        },
        || {
            // SAFETY: from a Box, unlinked by the swap, retired once.
            unsafe { reclaimer.retire(cell.swap(Box::into_raw(Box::new(2)), AcqRel)) };
        },
    );
    assert!(samples[samples.len() / 2] > 10 * MOST_ROBUST);
}
