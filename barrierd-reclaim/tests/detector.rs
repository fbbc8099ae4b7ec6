//! The use-after-free detector, sharpened: `scripts/mutants.sh` runs it against broken builds, which it
//! must find out within seconds.
//!
//! Two windows must be hit: a section that is open while its node goes (a build that ignores pins),
//! and a slot that still sits in the store buffer while the scan looks (a build that buys no barrier,
//! or believes that an idle reader needs none), some nanoseconds wide. The second is widened as in the
//! flag game (the workspace's `tests/common/game.rs`): before each section the reader stores to lines
//! that no cache holds, so that its slot waits behind them. And it is aimed at: the reader says when
//! its slot is about to wait ([`Story::Shown`]).
//!
//! Under sanitizers and valgrind (`scripts/sanitizers.sh`) nodes go for real: [`FREES`].

#[path = "common/sources.rs"]
mod sources;

use barrierd_reclaim::{Reclaimer, Source};
use std::hint;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

const POISON: u64 = u64::MAX;

#[repr(align(128))]
struct Line(AtomicU64);

/// Far more than a cache: 64 MiB. A power of two.
const CLUTTER_BITS: u32 = 19;
/// The upper `bits` bits of a hash of `n` (Fibonacci's): any order but the one that a prefetcher knows.
fn hash(n: u64, bits: u32) -> u64 {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - bits)
}

fn clutter(lines: &[Line], section: u64, stores: u64) {
    for n in section * stores..(section + 1) * stores {
        lines[usize::try_from(hash(n, CLUTTER_BITS)).unwrap()].0.store(section, Relaxed);
    }
}

/// Waits for some time of 0 to 2^`bits` pauses.
fn linger(n: u64, bits: u32) {
    (0..hash(n, bits)).for_each(|_| hint::spin_loop());
}

/// How the writer frees what it has replaced, and when.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// By `synchronize`, which has a barrier bought each time; at any moment.
    Bought,
    /// By `flush`, which goes by what the readers' slots show and buys when they show nothing; and, for
    /// each second node, by `synchronize`. The reader stays idle for a while, says that it goes in by a
    /// store that leaves its buffer first, and goes in: its slot then waits for about as long as the
    /// writer takes.
    Shown,
}

impl Story {
    /// Stores before each section. More, and the reader waits for room in its buffer before it pins.
    fn stores(self) -> u64 {
        if self == Story::Bought { 10 } else { 40 }
    }

    /// Times that a section looks at its node: at least for as long as its slot waits.
    fn looks(self, section: u64) -> u64 {
        if self == Story::Bought { section % 8 * 250 } else { 3000 }
    }
}

/// In the environment: a node is given back to the allocator, and a sanitizer sees whoever still holds
/// it. It is the only judge then: an allocator that writes to what is freed before the sanitizer knows
/// of it (AddressSanitizer's does) would have the reader's own checks end the run first.
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
#[cfg(target_os = "linux")]
fn pin_to(n: usize, cpus: &[usize]) {
    use rustix::thread::{CpuSet, sched_setaffinity};
    let mut only = CpuSet::new();
    only.set(cpus[n % cpus.len()]);
    let _ = sched_setaffinity(None, &only);
}

/// The CPUs that this thread may run on.
#[cfg(target_os = "linux")]
fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect()
}

/// Elsewhere the system places them.
#[cfg(not(target_os = "linux"))]
fn pin_to(_: usize, _: &[usize]) {}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Vec<usize> {
    Vec::new()
}

/// So many must have been freed, for anything to have been found.
const ENOUGH: u64 = 100;

/// A reader whose sections come one after the other, and a writer that replaces the node and frees
/// what it may at once, for so long.
fn play(reclaimer: &Reclaimer, story: Story, time: Duration) {
    let enough = reclaimer.stats().freed + ENOUGH;
    let frees = std::env::var_os(FREES).is_some();
    let cell = AtomicPtr::new(fresh(1));
    let done = AtomicBool::new(false);
    let going_in = Line(AtomicU64::new(0));
    let lines: Vec<Line> = (0..1 << CLUTTER_BITS).map(|_| Line(AtomicU64::new(0))).collect();
    let cpus = allowed();
    thread::scope(|scope| {
        let cpus = &cpus;
        let (cell, done, lines, going_in) = (&cell, &done, &lines, &going_in.0);
        let reader = scope.spawn(move || {
            pin_to(0, cpus);
            let mut handle = reclaimer.handle();
            let mut section = 0;
            while !done.load(Relaxed) {
                section += 1;
                if story == Story::Shown {
                    linger(section, 6);
                    going_in.store(section, Relaxed);
                }
                clutter(lines, section, story.stores());
                let guard = handle.pin();
                // SAFETY: protected while the guard lives.
                let node = unsafe { &*guard.protect(cell) };
                let name = node.name.load(Relaxed);
                assert!(frees || name != POISON, "reached after it was freed");
                for _ in 0..story.looks(section) {
                    // Looked at even if nothing is compared.
                    let now = hint::black_box(node.name.load(Relaxed));
                    assert!(frees || now == name, "freed while pinned");
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
            now < stop || reclaimer.stats().freed <= enough && now < late
        };
        let mut seen = 0;
        while goes_on() && !reader.is_finished() {
            if story == Story::Shown {
                // Some time, but not for ever: the reader may have lost its CPU.
                let goes_in = || going_in.load(Relaxed) != seen;
                (0..1000).take_while(|_| !goes_in()).for_each(|_| hint::spin_loop());
                seen = going_in.load(Relaxed);
                linger(name, 4);
            }
            let old = cell.swap(fresh(name), AcqRel);
            name += 1;
            // SAFETY: unlinked by the swap, retired once.
            unsafe { reclaimer.retire_with(old, if frees { free } else { poison }) };
            if story == Story::Shown && name % 2 == 0 {
                reclaimer.flush();
                continue;
            }
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
    let source = if sources::BOUGHT { Source::Membarrier } else { Source::Fence };
    let reclaimer = Reclaimer::builder().source(source).background(true).build().unwrap();
    // A broken build gets more time, and needs some milliseconds.
    let broken = cfg!(any(
        barrierd_broken = "no_pins",
        barrierd_broken = "no_barrier",
        barrierd_broken = "no_idle_evidence",
        barrierd_broken = "relaxed_unpin"
    ));
    for (story, secs) in [(Story::Shown, 2), (Story::Bought, 3)] {
        let before = reclaimer.stats().freed;
        play(&reclaimer, story, Duration::from_secs(if broken { 30 } else { secs }));
        let stats = reclaimer.stats();
        println!("{stats:?}");
        assert!(stats.freed > before + ENOUGH, "{stats:?}");
    }
}
