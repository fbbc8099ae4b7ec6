//! How a queue follows the pace of its thread, by counts: of scans, of purchases, of what waits. A reader and a
//! writer take turns on one thread, so nothing here depends on how busy the machine is, but that no two retirements
//! are nearer to each other than a pause.

#![cfg(not(barrierd_plain))]

use barrierd_reclaim::{Handle, OnLimit, Reclaimer, Source};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Items that come this far apart are sealed in bags of two.
const PAUSE: Duration = Duration::from_micros(100);
/// A queue knows nothing of its thread's pace before it has filled its first bag, which is a small one.
const FIRST_BAG: u64 = 4;

/// For tests that buy: while one thread registers the process for membarrier, no other buys.
static PURCHASES: Mutex<()> = Mutex::new(());

fn reclaimer() -> Reclaimer {
    Reclaimer::builder().source(Source::Membarrier).background(false).build().unwrap()
}

fn retire(writer: &Handle) {
    thread::sleep(PAUSE);
    // SAFETY: fresh from a Box, retired once.
    unsafe { writer.retire(Box::into_raw(Box::new(0u64))) };
}

/// Retires `items`, with a section of the reader's after each. The most that ever waited.
fn beside_a_reader(reclaimer: &Reclaimer, writer: &Handle, reader: &mut Handle, items: u64) -> u64 {
    let waiting = (0..items).map(|_| {
        retire(writer);
        drop(reader.pin());
        reclaimer.stats().waiting()
    });
    waiting.max().unwrap_or(0)
}

/// A bag is open, one waits for the scan of the next call, one is being freed. No call has both a seal and a scan to
/// pay for, and none a barrier: the reader shows what it has seen.
#[test]
fn a_slow_writer_beside_a_reader_waits_for_nothing() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    beside_a_reader(&reclaimer, &writer, &mut reader, 2 * FIRST_BAG);
    let before = reclaimer.stats();
    let most = beside_a_reader(&reclaimer, &writer, &mut reader, 100);
    let after = reclaimer.stats();
    assert!(most <= 6, "{most} waited");
    assert!((40..=51).contains(&(after.scans - before.scans)), "{before:?} {after:?}");
    assert_eq!(after.retire_syscalls, 0, "{after:?}");
}

/// What comes first waits no longer: the first bag is sealed soon, too, and scanned for in the call after.
#[test]
fn a_slow_writer_s_first_objects_wait_no_longer() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    let most = beside_a_reader(&reclaimer, &writer, &mut reader, 100);
    assert!(most <= FIRST_BAG + 4, "{most} waited");
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}

/// However many places there are whose threads rest: a bag that is sealed before it is full is scanned for.
#[test]
fn a_slow_writer_beside_many_idle_threads_waits_for_no_further_bags() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    let mut idle: Vec<Handle> = (0..100).map(|_| reclaimer.handle()).collect();
    let mut most = 0;
    for round in 0..3 * FIRST_BAG {
        // They have seen what was unlinked so far, and go back to rest.
        idle.iter_mut().for_each(|one| drop(one.pin()));
        let waiting = beside_a_reader(&reclaimer, &writer, &mut reader, 1);
        most = most.max(if round < 2 * FIRST_BAG { 0 } else { waiting });
    }
    assert!(most <= 6, "{most} waited");
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}

/// While a section is open bags are filled up, but looks go on at the pace of before: so what it held goes soon after
/// its end, wherever in a bag that falls.
#[test]
fn what_a_section_held_goes_soon_after_it() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    beside_a_reader(&reclaimer, &writer, &mut reader, 2 * FIRST_BAG);
    for held in [200, 216, 232, 248] {
        let guard = reader.pin();
        (0..held).for_each(|_| retire(&writer));
        assert!(reclaimer.stats().waiting() >= held);
        drop(guard);
        drop(reader.pin());
        let before = reclaimer.stats().freed;
        beside_a_reader(&reclaimer, &writer, &mut reader, 24);
        // Two a call, once a scan has found the section's end.
        let freed = reclaimer.stats().freed - before;
        assert!(freed >= 32, "{freed} of {held} freed");
        writer.flush();
        beside_a_reader(&reclaimer, &writer, &mut reader, 2 * FIRST_BAG);
    }
    // What an open section holds back no barrier lets go.
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}

/// However much a section holds back, nobody buys a barrier that lets nothing go: for what came before the section one
/// does, and for all of it once the section has ended and its thread shows nothing new.
#[test]
fn what_a_section_holds_back_is_no_reason_to_buy() {
    const MANY: u64 = 20_000;
    let _alone = PURCHASES.lock();
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    let bought_for = |items: u64| {
        let before = reclaimer.stats().retire_syscalls;
        for _ in 0..items {
            // SAFETY: fresh from a Box, retired once.
            unsafe { writer.retire(Box::into_raw(Box::new(0u64))) };
        }
        reclaimer.stats().retire_syscalls - before
    };
    let idle = reclaimer.handle();
    let guard = reader.pin();
    assert_eq!(bought_for(MANY), 0, "another's section");
    drop(guard);
    assert!(bought_for(MANY) > 0, "nobody's");
    writer.flush();
    let own = reclaimer.pin();
    assert_eq!(bought_for(MANY), 0, "the thread's own section");
    drop(own);
    // That of a section which began after most of it was retired.
    assert!(bought_for(100) > 0, "nobody's any more");
    drop(idle);
}

/// A limit that a section holds the domain above is no reason either.
#[test]
fn a_limit_below_what_a_section_holds_back_is_no_reason_to_buy() {
    let _alone = PURCHASES.lock();
    let builder = Reclaimer::builder().source(Source::Membarrier).background(false);
    let reclaimer = builder.limit_items(1_000).build().expect("membarrier");
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    let retire = |items| {
        for _ in 0..items {
            // SAFETY: fresh from a Box, retired once.
            unsafe { writer.retire(Box::into_raw(Box::new(0u64))) };
        }
    };
    let guard = reader.pin();
    retire(20_000);
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
    drop(guard);
    // It idles with what it had seen then: now a barrier helps, as soon as one is affordable.
    let mut retired = 0;
    while reclaimer.stats().waiting() > 1_500 {
        retire(64);
        retired += 64;
        assert!(retired < 10_000_000, "{:?}", reclaimer.stats());
    }
}

/// A writer that is made to wait above a limit is no slow writer: it is looked at once in 64 objects, though its bags be
/// small, so it waits once in 64.
#[test]
fn a_limit_is_looked_at_once_in_64_objects_however_slowly_they_come() {
    let _alone = PURCHASES.lock();
    let hooks = Arc::new(AtomicU64::new(0));
    let told = hooks.clone();
    let builder = Reclaimer::builder().source(Source::Membarrier).background(false);
    let builder = builder.limit_items(10).on_limit(OnLimit::Block(Duration::from_millis(2)));
    let reclaimer = builder.limit_hook(move |_| _ = told.fetch_add(1, Relaxed)).build().unwrap();
    let writer = reclaimer.handle();
    // Hazards hold more than the limit allows, whatever passes.
    let cells: Vec<AtomicPtr<u64>> =
        (0..20u64).map(|n| Box::into_raw(Box::new(n)).into()).collect();
    let mut hazards: Vec<_> = cells.iter().map(|_| reclaimer.hazard()).collect();
    for (cell, hazard) in cells.iter().zip(&mut hazards) {
        _ = hazard.protect(cell);
        // SAFETY: from a Box, retired once; no other thread looks at the cell.
        unsafe { writer.retire(cell.load(Relaxed)) };
    }
    for _ in 0..20 * 64 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { writer.retire(Box::into_raw(Box::new(0u64))) };
    }
    let hooks = hooks.load(Relaxed);
    assert!((10..=22).contains(&hooks), "called {hooks} times");
}
