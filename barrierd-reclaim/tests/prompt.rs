//! How much waits while one thread retires and another goes on opening sections: by counts, on every target.

mod common;

use barrierd_reclaim::{Reclaimer, Source};
use common::sources::SOURCES;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::thread;

/// An object that knows whether it lives, and is counted as long as it does.
struct Counted {
    mark: usize,
    live: Arc<AtomicUsize>,
}

const MARK: usize = 0x5eed_cafe;

impl Counted {
    fn new(live: &Arc<AtomicUsize>) -> *mut Counted {
        live.fetch_add(1, Relaxed);
        Box::into_raw(Box::new(Counted { mark: MARK, live: live.clone() }))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.mark = 0;
        self.live.fetch_sub(1, Relaxed);
    }
}

const ROUNDS: usize = 400;
/// Some bags.
const A_ROUND: usize = 256;

/// At the reader's end, or if it panics: nobody waits for it.
struct Far<'s>(&'s AtomicUsize);

impl Drop for Far<'_> {
    fn drop(&mut self) {
        self.0.store(usize::MAX / 2, Relaxed);
    }
}

/// A source, its name, and how many objects live: at most in the course of it, and after so many flushes.
#[derive(Debug)]
#[expect(dead_code, reason = "for the messages")]
struct Seen {
    source: String,
    most: usize,
    left: usize,
    flushes: usize,
}

/// Replaces an object over and over, each round while the reader opens two more sections, or goes on with its only one.
fn retires(source: Source, reader_rests: bool) -> Seen {
    // Whoever retires frees.
    let reclaimer = Reclaimer::builder().source(source).background(false).build().unwrap();
    let live = Arc::new(AtomicUsize::new(0));
    let current = AtomicPtr::new(Counted::new(&live));
    let (sections, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (mut most, mut flushes) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let _fails = Far(&sections);
            let reader = reclaimer.handle();
            while !stop.load(Relaxed) {
                let guard = reader.pin_nested();
                loop {
                    // SAFETY: loaded in the section, and retired after it was unlinked.
                    let mark =
                        unsafe { (&raw const (*guard.protect(&current)).mark).read_volatile() };
                    assert_eq!(mark, MARK, "read after it was freed");
                    sections.fetch_add(1, Relaxed);
                    if !reader_rests || stop.load(Relaxed) {
                        break;
                    }
                    thread::yield_now();
                }
            }
        });
        let two_more = || {
            let before = sections.load(Relaxed);
            while sections.load(Relaxed) < before.saturating_add(2).min(usize::MAX / 2) {
                thread::yield_now();
            }
        };
        two_more();
        for _ in 0..ROUNDS {
            for _ in 0..A_ROUND {
                let old = current.swap(Counted::new(&live), AcqRel);
                // SAFETY: from a Box, unlinked by this thread, retired once.
                unsafe { reclaimer.retire(old) };
            }
            two_more();
            most = most.max(live.load(Relaxed));
        }
        // The last few fill no bag.
        while live.load(Relaxed) > 1 && flushes < 16 {
            reclaimer.flush();
            two_more();
            flushes += 1;
        }
        stop.store(true, Relaxed);
    });
    let left = live.load(Relaxed) - 1;
    let source = format!("{:?}", reclaimer.stats().source);
    // SAFETY: nobody reads any more.
    drop(unsafe { Box::from_raw(current.into_inner()) });
    drop(reclaimer);
    assert_eq!(live.load(Relaxed), 0, "the last clone frees all");
    Seen { source, most, left, flushes }
}

/// What waits is what was retired of late, not all of it, though a reader goes on opening sections; and it is freed to
/// the last one under that reader's eyes.
#[test]
fn little_waits_while_a_reader_goes_on() {
    for source in sources() {
        let seen = retires(source, false);
        println!("{seen:?}");
        assert!(seen.most < ROUNDS * A_ROUND / 16, "{seen:?}");
        assert_eq!(seen.left, 0, "{seen:?}");
    }
}

/// The same program finds out what is not freed: behind a reader that stays in its section.
#[test]
fn all_waits_behind_a_reader_that_rests() {
    for source in sources() {
        let seen = retires(source, true);
        assert!(seen.most > ROUNDS * A_ROUND && seen.left == ROUNDS * A_ROUND, "{seen:?}");
    }
}

/// On Windows the one that users get by themselves as well: fences on Wine.
fn sources() -> impl Iterator<Item = Source> {
    let auto = cfg!(windows).then_some(Source::Auto);
    SOURCES.iter().copied().chain(auto)
}
