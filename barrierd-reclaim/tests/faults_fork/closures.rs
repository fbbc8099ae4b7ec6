//! Closures that fork, and that pin, where they run.

use super::*;
use crate::alone::is_alone;
use barrierd_reclaim::{Reclaimer, Source};
use std::sync::atomic::AtomicBool;
use std::thread;

/// The domain in whose destructor the fork came is the parent's. A guard under which that runs is open.
#[test]
fn a9_a_fork_in_a_deferred_closure() {
    static FORKED: AtomicU32 = AtomicU32::new(0);
    if !is_alone("closures::a9_a_fork_in_a_deferred_closure") {
        return;
    }
    let settings = Reclaimer::builder().source(Source::Membarrier).background(false);
    epoch::configure(settings).unwrap();
    let deferred = || {
        fork(|| {
            if !epoch::is_pinned() {
                return all_is_called(10_000);
            }
            defer_and_count(&epoch::pin(), 1000);
            let soon = Instant::now() + Duration::from_millis(50);
            let held = matches!(epoch::drain(soon), Err(error) if error.waiting == 1000);
            i32::from(!held || CALLED.load(Relaxed) != 0)
        });
        FORKED.fetch_add(1, Relaxed);
    };
    // In `defer`, in `flush`, in `drain`.
    epoch::pin().defer(deferred);
    let late = late();
    while FORKED.load(Relaxed) == 0 {
        epoch::pin().defer(|| ());
        assert!(Instant::now() < late);
    }
    epoch::pin().defer(deferred);
    while FORKED.load(Relaxed) == 1 {
        epoch::pin().flush();
        assert!(Instant::now() < late);
    }
    epoch::pin().defer(deferred);
    epoch::drain(late).unwrap();
    assert_eq!(FORKED.load(Relaxed), 3);
}

/// A place that a closure took on the background thread, which then does nothing in it, would hold back
/// the barriers that are collected from the threads that retire.
#[test]
fn a18_a_closure_that_pins_leaves_no_place_on_the_background_thread() {
    if !is_alone("closures::a18_a_closure_that_pins_leaves_no_place_on_the_background_thread") {
        return;
    }
    epoch::configure(Reclaimer::builder().source(Source::Membarrier)).unwrap();
    let other = Reclaimer::builder().source(Source::Membarrier).build().unwrap();
    static DONE: AtomicBool = AtomicBool::new(false);
    let here = thread::current().id();
    let deferred = {
        let other = other.clone();
        move || {
            if thread::current().id() != here {
                drop((epoch::pin(), other.pin()));
                DONE.store(true, SeqCst);
            }
        }
    };
    let late = late();
    while !DONE.load(SeqCst) {
        epoch::pin().defer(deferred.clone());
        thread::sleep(Duration::from_millis(50));
        assert!(Instant::now() < late);
    }
    epoch::drain(late).unwrap();
    let bought = || {
        let (here, there) = (epoch::default_collector().stats(), other.stats());
        here.retire_syscalls + here.other_syscalls + there.retire_syscalls + there.other_syscalls
    };
    let before = bought();
    for n in 0..2_000_000 {
        epoch::pin().defer(|| ());
        other.retire_value(n);
    }
    let bought = bought() - before;
    assert!(bought < 1000, "{bought} barriers");
}
