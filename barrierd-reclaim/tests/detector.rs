//! The use-after-free detector, sharpened: `scripts/twins.sh` runs it against broken builds, which it
//! must find out within seconds.
//!
//! Two windows must be hit: a section that is open while its node goes (a build that ignores pins),
//! and a slot that still sits in the store buffer while the scan looks (a build that buys no
//! barrier), some nanoseconds wide. The second is widened as in the flag game (the workspace's
//! `tests/common/game.rs`): before each section the reader stores to lines that no cache holds, so
//! that its slot waits behind them.
//!
//! Under sanitizers and valgrind (`scripts/sanitizers.sh`) nodes go for real: [`FREES`].

use barrierd_reclaim::{Reclaimer, Source};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

const POISON: u64 = u64::MAX;

#[repr(align(128))]
struct Line(AtomicU64);

/// Far more than a cache: 64 MiB. A power of two.
const CLUTTER_BITS: u32 = 19;
/// Stores to it before each section.
const CLUTTER_STORES: u64 = 10;

fn clutter(lines: &[Line], section: u64) {
    for n in section * CLUTTER_STORES..(section + 1) * CLUTTER_STORES {
        // Fibonacci hashing: any order but the one that a prefetcher knows.
        let at = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - CLUTTER_BITS);
        lines[usize::try_from(at).unwrap()].0.store(section, Relaxed);
    }
}

/// In the environment: a node is given back to the allocator, so that a sanitizer sees whoever still
/// holds it.
const FREES: &str = "BARRIERD_TEST_DETECTOR_FREES";

/// Stays readable after it is "freed", so that whoever still holds it sees the poison.
struct Node {
    name: AtomicU64,
}

unsafe fn poison(node: *mut Node) {
    // SAFETY: with `poison` nodes are never deallocated.
    unsafe { &*node }.name.store(POISON, Relaxed);
}

unsafe fn free(node: *mut Node) {
    // SAFETY: from a Box, retired once.
    drop(unsafe { Box::from_raw(node) });
}

fn fresh(name: u64) -> *mut Node {
    Box::into_raw(Box::new(Node { name: AtomicU64::new(name) }))
}

/// Moves this thread to the `n`th of the CPUs that it may run on: on one CPU the two would never meet
/// in a window of nanoseconds.
fn pin_to(n: usize, cpus: &[usize]) {
    let mut only = CpuSet::new();
    only.set(cpus[n % cpus.len()]);
    let _ = sched_setaffinity(None, &only);
}

/// So many must have been freed, for anything to have been found.
const ENOUGH: u64 = 100;

/// A reader whose sections come one after the other, and a writer that replaces the node and frees
/// what it may at once, for so long.
fn play(reclaimer: &Reclaimer, time: Duration) {
    let frees = std::env::var_os(FREES).is_some();
    let cell = AtomicPtr::new(fresh(1));
    let done = AtomicBool::new(false);
    let lines: Vec<Line> = (0..1 << CLUTTER_BITS).map(|_| Line(AtomicU64::new(0))).collect();
    let allowed = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
    thread::scope(|scope| {
        let cpus = &cpus;
        let (cell, done, lines) = (&cell, &done, &lines);
        let reader = scope.spawn(move || {
            pin_to(0, cpus);
            let mut handle = reclaimer.handle();
            let mut section = 0;
            while !done.load(Relaxed) {
                section += 1;
                clutter(lines, section);
                let guard = handle.pin();
                // SAFETY: protected while the guard lives.
                let node = unsafe { &*guard.protect(cell) };
                let name = node.name.load(Relaxed);
                assert_ne!(name, POISON, "reached after it was freed");
                for _ in 0..section % 8 * 250 {
                    assert_eq!(node.name.load(Relaxed), name, "freed while pinned");
                }
            }
        });
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let _done = Done(done);
        pin_to(1, cpus);
        let mut name = 2;
        let stop = Instant::now() + time;
        // On a busy machine, under a tool that makes all slow, it may come to nothing in that time.
        let late = stop + Duration::from_secs(60);
        let goes_on = || {
            let now = Instant::now();
            now < stop || reclaimer.stats().freed <= ENOUGH && now < late
        };
        while goes_on() && !reader.is_finished() {
            let old = cell.swap(fresh(name), AcqRel);
            name += 1;
            // SAFETY: unlinked by the swap, retired once.
            unsafe { reclaimer.retire_with(old, if frees { free } else { poison }) };
            // A barrier that is asked for comes at once.
            let _ = reclaimer.synchronize(Instant::now() + Duration::from_micros(60));
        }
    });
    if frees {
        // SAFETY: the reader is gone.
        unsafe { free(cell.into_inner()) };
    }
}

#[test]
fn no_reader_sees_a_freed_node() {
    let reclaimer = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
    // A broken build gets more time, and needs a second or so.
    let broken = cfg!(any(
        barrierd_broken = "no_pins",
        barrierd_broken = "no_barrier",
        barrierd_broken = "relaxed_unpin"
    ));
    play(&reclaimer, Duration::from_secs(if broken { 30 } else { 4 }));
    let stats = reclaimer.stats();
    println!("{stats:?}");
    assert!(stats.freed > ENOUGH, "{stats:?}");
}
