//! Garbage under a reader that stalls while a writer retires 200,000 objects: a flat line, with a hazard pointer and
//! with a robust guard; a plain guard's grows, so the test can tell. By counts, whatever the clock says: the reader
//! shows nothing, so it is bought barriers that let garbage go, and one is bought as soon as the budget waits for it.
//!
//! `examples/stalled.rs` prints the same beside crossbeam-epoch, by the clock.

#![cfg(not(barrierd_plain))]

use barrierd_reclaim::{Reclaimer, Source};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, Ordering::*};
use std::sync::mpsc;
use std::thread;

/// So many wait for a barrier at most, but for a bag.
const BUDGET: usize = 1_024;
const BAG: u64 = 64;
/// With a hazard pointer: as many again are freed one by one until as many have come, beside a bag that is open and
/// one that is left over.
const MOST_HAZARD: u64 = 2 * (BUDGET as u64 + BAG) + 2 * BAG;
/// With a robust guard: what was born in its era, too, which lasts until the next scan.
const MOST_ROBUST: u64 = MOST_HAZARD + 2 * BAG;
const REPLACED: u64 = 200_000;

/// One at a time, since nobody buys while another does.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Nobody buys but the writer.
fn reclaimer() -> Reclaimer {
    let builder = Reclaimer::builder().source(Source::Membarrier).background(false);
    builder.budget(BUDGET).build().unwrap()
}

/// The most that waited, and what waited last; the reader stalls in `section`.
fn waiting(
    reclaimer: &Reclaimer,
    section: impl FnOnce(&dyn Fn()) + Send,
    replace: impl Fn(),
) -> (u64, u64) {
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
        let waits = (0..REPLACED).map(|_| {
            replace();
            reclaimer.stats().waiting()
        });
        let most = waits.max().unwrap_or(0);
        drop(go);
        println!("{most} waited at most");
        (most, reclaimer.stats().waiting())
    })
}

#[test]
fn a_hazard_pointer() {
    let (reclaimer, cell) = (&reclaimer(), &AtomicPtr::new(Box::into_raw(Box::new(1u64))));
    let (most, last) = waiting(
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
    assert!(most <= MOST_HAZARD, "{most} waited, {last} at last");
}

#[test]
fn a_robust_guard() {
    let reclaimer = &reclaimer();
    let cell = &AtomicPtr::new(Box::into_raw(reclaimer.alloc(1u64)));
    let (most, last) = waiting(
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
    assert!(most <= MOST_ROBUST, "{most} waited, {last} at last");
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
    let (most, last) = waiting(
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
            let old = cells.get(turn.get() / 16).filter(|_| turn.get() % 16 == 0);
            let cell = old.unwrap_or(&young);
            // SAFETY: from `alloc`, unlinked by the swap, retired once.
            unsafe { reclaimer.retire_born(cell.swap(born(9), AcqRel)) };
        },
    );
    assert!(most <= MOST_ROBUST + OLD as u64, "{most} waited, {last} at last");
    assert!(last >= OLD as u64, "the old ones stay");
}

/// The mutant that the test must tell: a plain guard in the same place.
#[test]
fn a_plain_guard_is_no_flat_line() {
    let (reclaimer, cell) = (&reclaimer(), &AtomicPtr::new(Box::into_raw(Box::new(1u64))));
    let (most, last) = waiting(
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
    assert!(most > 10 * MOST_ROBUST, "{most} waited, {last} at last");
}
