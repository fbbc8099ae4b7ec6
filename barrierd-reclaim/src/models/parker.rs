//! The background thread's sleep: `background/parker.rs`'s own code under threads that retire and the thread that
//! checks. An item that is never checked leaves the thread asleep for ever, which loom reports.

use super::*;
use crate::background::parker::{Parker, Sentry};
use core::time::Duration;
use loom::sync::atomic::Ordering::Release;

struct Domain {
    words: Words,
    floor: AtomicU64,
    clock: AtomicU64,
    attention: Sentry,
    parker: Parker,
    /// What each thread has retired.
    retired: Vec<AtomicU64>,
    freed: AtomicU64,
}

impl Domain {
    /// The slow path of `Domain::retire`: the item is counted, then the thread fences and takes a stamp.
    fn retire(&self, thread: usize) {
        let retired = &self.retired[thread];
        retired.store(retired.load(Relaxed) + 1, Relaxed);
        self.words.fence_and_stamp(&self.floor, || self.clock.fetch_add(1, Relaxed) * GRAIN);
        if self.attention.wake_up() {
            self.parker.call();
        }
    }

    /// `Engine::waiting`.
    fn waiting(&self) -> u64 {
        let freed = self.freed.load(Acquire);
        let retired: u64 = self.retired.iter().map(|retired| retired.load(Relaxed)).sum();
        retired.saturating_sub(freed)
    }

    /// `Keeper::visit`: how long to sleep; what waits is freed at once.
    fn visit(&self) -> Option<Duration> {
        if self.attention.is_asleep() {
            return None;
        }
        let waiting = self.waiting();
        if waiting == 0 && self.attention.fall_asleep(|| self.waiting() != 0) {
            return None;
        }
        self.freed.store(self.freed.load(Relaxed) + waiting, Release);
        Some(Duration::from_millis(10))
    }

    /// `Service::run`, until this many items have been freed.
    fn run(&self, items: u64) {
        loop {
            let wait = self.visit();
            if self.freed.load(Relaxed) == items {
                return;
            }
            self.parker.sleep(wait);
        }
    }
}

/// This many threads retire this many items each.
fn execute(threads: usize, items: u64) {
    let domain = Arc::new(Domain {
        words: Words::new(),
        floor: AtomicU64::new(0),
        clock: AtomicU64::new(START),
        attention: Sentry::new(),
        parker: Parker::new(),
        retired: (0..threads).map(|_| AtomicU64::new(0)).collect(),
        freed: AtomicU64::new(0),
    });
    let keeper = domain.clone();
    let keeper = thread::spawn(move || keeper.run(threads as u64 * items));
    let others: Vec<_> = (1..threads)
        .map(|thread| {
            let domain = domain.clone();
            thread::spawn(move || (0..items).for_each(|_| domain.retire(thread)))
        })
        .collect();
    (0..items).for_each(|_| domain.retire(0));
    for thread in others {
        thread.join().unwrap();
    }
    keeper.join().unwrap();
}

fn one_thread(preemptions: usize) {
    explore(preemptions, || execute(1, 2));
}

fn two_threads(preemptions: usize) {
    explore(preemptions, || execute(2, 1));
}

#[test]
fn no_item_sleeps() {
    one_thread(4);
    two_threads(3);
}

/// Loom must report the sleep that outlasts them all.
fn finds(mutant: Mutant) {
    assert!(is_rejected(Some(mutant), || one_thread(4)), "loom found no lost item with {mutant:?}");
}

#[test]
fn mutants() {
    finds(Mutant::CheckBeforeAsleep);
    finds(Mutant::UnfencedAsleep);
    // The retiring thread's half of the two fences.
    finds(Mutant::UnfencedStamp);
    finds(Mutant::SleepByStore);
    finds(Mutant::RelaxedCall);
}
