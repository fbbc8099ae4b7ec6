//! What waits to be freed while a reader stalls and a writer retires at full speed, each 100 ms for 2 s:
//! under crossbeam-epoch, a plain guard, a hazard pointer and a robust guard.
//!
//! `cargo run --release -p barrierd-reclaim --example stalled`
//!
//! The plain guards' garbage grows for as long as the reader stalls; the others' is a flat line.

use barrierd_reclaim::{Reclaimer, Source};
use crossbeam_epoch as epoch;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const STALL: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(100);

static FREED: AtomicU64 = AtomicU64::new(0);

/// Counts the frees, whoever does them.
struct Node(u64);

impl Drop for Node {
    fn drop(&mut self) {
        FREED.fetch_add(1, Relaxed);
    }
}

/// What the reader does: says that it is in its section, and stays there until it is told otherwise.
type Reader<'a> = Box<dyn FnOnce(Sender<()>, Receiver<()>) + Send + 'a>;

/// Items that wait, at each step; and how many were retired, in millions.
fn watch(reader: Reader<'_>, mut replace: impl FnMut(u64)) -> (Vec<u64>, u64) {
    let (in_section, wait_in_section) = channel();
    let (go, wait_go) = channel();
    thread::scope(move |scope| {
        scope.spawn(move || reader(in_section, wait_go));
        wait_in_section.recv().expect("the reader is there");
        let freed_before = FREED.load(Relaxed);
        let mut retired = 0;
        let mut waiting = Vec::new();
        let begin = Instant::now();
        for step in 1..=u32::try_from(STALL.as_millis() / STEP.as_millis()).expect("few") {
            while begin.elapsed() < STEP * step {
                for _ in 0..100 {
                    replace(retired);
                    retired += 1;
                }
            }
            waiting.push(retired - (FREED.load(Relaxed) - freed_before));
        }
        drop(go);
        (waiting, retired / 1_000_000)
    })
}

fn main() {
    let peer = epoch::Atomic::new(Node(0));
    let crossbeam = watch(
        Box::new(|in_section, go| {
            let guard = epoch::pin();
            let seen = peer.load(Acquire, &guard);
            in_section.send(()).expect("the writer is there");
            let _ = go.recv();
            // SAFETY: not null, and kept by the guard.
            assert_eq!(unsafe { seen.deref() }.0, 0);
        }),
        |name| {
            let guard = epoch::pin();
            let old = peer.swap(epoch::Owned::new(Node(name)), AcqRel, &guard);
            // SAFETY: unlinked by the swap, destroyed once.
            unsafe { guard.defer_destroy(old) };
        },
    );

    let make = || Reclaimer::builder().source(Source::Auto).build().expect("auto never fails");
    let fresh = |name| Box::into_raw(Box::new(Node(name)));
    let (reclaimer, cell) = (make(), AtomicPtr::new(fresh(0)));
    println!("source of barriers: {}", reclaimer.stats().source);
    let plain = watch(
        Box::new(|in_section, go| {
            let guard = reclaimer.pin();
            let seen = guard.protect(&cell);
            in_section.send(()).expect("the writer is there");
            let _ = go.recv();
            // SAFETY: not null, and kept by the guard.
            assert_eq!(unsafe { &*seen }.0, 0);
        }),
        |name| {
            // SAFETY: from a Box, unlinked by the swap, retired once.
            unsafe { reclaimer.retire(cell.swap(fresh(name), AcqRel)) };
        },
    );

    let (reclaimer, cell) = (make(), AtomicPtr::new(fresh(0)));
    let hazard = watch(
        Box::new(|in_section, go| {
            let mut hazard = reclaimer.hazard();
            let seen = hazard.protect(&cell);
            in_section.send(()).expect("the writer is there");
            let _ = go.recv();
            // SAFETY: kept by the hazard.
            assert_eq!(unsafe { seen.as_ref() }.expect("not null").0, 0);
        }),
        |name| {
            // SAFETY: from a Box, unlinked by the swap, retired once.
            unsafe { reclaimer.retire(cell.swap(fresh(name), AcqRel)) };
        },
    );

    let reclaimer = make();
    let born = |name| Box::into_raw(reclaimer.alloc(Node(name)));
    let cell = AtomicPtr::new(born(0));
    let robust = watch(
        Box::new(|in_section, go| {
            let guard = reclaimer.pin_robust();
            let seen = guard.protect(&cell);
            in_section.send(()).expect("the writer is there");
            let _ = go.recv();
            // SAFETY: not null, and kept by the guard.
            assert_eq!(unsafe { &*seen }.0, 0);
        }),
        |name| {
            // SAFETY: from `alloc`, unlinked by the swap, retired once.
            unsafe { reclaimer.retire_born(cell.swap(born(name), AcqRel)) };
        },
    );

    let all = [
        ("crossbeam-epoch", &crossbeam),
        ("plain guard", &plain),
        ("hazard pointer", &hazard),
        ("robust guard", &robust),
    ];
    println!("items that wait while one reader stalls");
    print!("{:>8}", "ms");
    all.iter().for_each(|(name, _)| print!("{name:>18}"));
    println!();
    for step in 0..crossbeam.0.len() {
        print!("{:>8}", (step + 1) * 100);
        all.iter().for_each(|(_, (waiting, _))| print!("{:>18}", waiting[step]));
        println!();
    }
    print!("{:>8}", "retired");
    all.iter().for_each(|(_, (_, millions))| print!("{:>17}M", millions));
    println!();
}
