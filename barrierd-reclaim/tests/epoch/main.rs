//! The interface of crossbeam-epoch on this library: what each part does, and what its users complain
//! about there.

mod complaints;
mod deferred;
mod guards;
mod pointers;
#[path = "../cases/epoch.rs"]
mod storm;
mod stress;

use barrierd_reclaim::epoch::Collector;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Long after everything should have happened.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Waits for the background thread, without a call to the collector.
fn wait_for(what: &str, done: impl Fn() -> bool) {
    let late = late();
    while !done() {
        assert!(Instant::now() < late, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A counter that nobody frees.
fn counter() -> &'static AtomicUsize {
    Box::leak(Box::default())
}

/// Counts its drops.
struct Counted(&'static AtomicUsize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn drain(collector: &Collector) {
    collector.drain(late()).expect("nothing stands in the way");
}
