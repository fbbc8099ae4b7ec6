//! Guards, handles and clones of the collector from before the fork: they hold what the child retires.

use super::*;
use crate::alone::is_alone;
use crate::child::status_of;
use barrierd_reclaim::epoch::{Atomic, Owned};
use std::sync::atomic::AtomicBool;
use std::thread;

/// Whether the first object is gone, and the one in its place. Each test has a process of its own, and so these.
static FIRST: AtomicBool = AtomicBool::new(false);
static SECOND: AtomicBool = AtomicBool::new(false);

/// An object that says when it is gone.
struct Told(&'static AtomicBool);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// A cell with the first object in it.
fn cell() -> Atomic<Told> {
    Atomic::new(Told(&FIRST))
}

/// Puts the second object in the first one's place, and does what it can to have that destroyed: not by waiting.
fn replace_and_urge(cell: &Atomic<Told>) {
    let guard = epoch::pin();
    let old = cell.swap(Owned::new(Told(&SECOND)), AcqRel, &guard);
    // SAFETY: unlinked above, by this thread alone.
    unsafe { guard.defer_destroy(old) };
    drop(guard);
    urge();
}

fn urge() {
    for _ in 0..20 {
        defer_and_count(&epoch::pin(), 1000);
        epoch::pin().flush();
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a9_a_guard_from_before_the_fork_holds_what_the_child_retires() {
    if !is_alone("opened_before::a9_a_guard_from_before_the_fork_holds_what_the_child_retires") {
        return;
    }
    let cell = cell();
    // One guard, two of them, one that goes on elsewhere, one whose handle is gone or stays.
    type End = fn(Guard, Guard);
    let ends: [(End, bool); 3] = [
        (|one, two| drop((one, two)), false),
        (|one, two| drop((two, one)), true),
        (
            |mut one, two| {
                drop(two);
                one.repin();
                one.repin_after(|| ());
                drop(one);
            },
            false,
        ),
    ];
    for (end, pins_between) in ends {
        let (one, two) = (epoch::pin(), epoch::pin());
        let seen = cell.load(Acquire, &one).as_raw();
        fork(|| {
            if !epoch::is_pinned() {
                return 1;
            }
            on_a_thread(|| replace_and_urge(&cell));
            // SAFETY: not null, and `one` holds it.
            if unsafe { &*seen }.0.load(SeqCst) {
                return 2;
            }
            if epoch::drain(Instant::now() + Duration::from_millis(50)).is_ok() {
                return 3;
            }
            let blockers = epoch::default_collector().blockers();
            if blockers.len() != 1 || blockers[0].tid != std::process::id() {
                return 4;
            }
            let between = pins_between.then(epoch::pin);
            end(one, two);
            drop(between);
            if epoch::is_pinned() || epoch::drain(late()).is_err() || !FIRST.load(SeqCst) {
                return 5;
            }
            all_is_called(1000)
        });
    }
}

#[test]
fn a9_guards_from_before_two_forks_hold_what_the_child_retires() {
    if !is_alone("opened_before::a9_guards_from_before_two_forks_hold_what_the_child_retires") {
        return;
    }
    let cell = cell();
    for elder_first in [true, false] {
        let elder = epoch::pin();
        fork(|| {
            let younger = epoch::pin();
            fork(|| {
                on_a_thread(|| replace_and_urge(&cell));
                let (first, second) = if elder_first { (elder, younger) } else { (younger, elder) };
                drop(first);
                urge();
                if FIRST.load(SeqCst) {
                    return 1;
                }
                drop(second);
                if epoch::drain(late()).is_err() || !FIRST.load(SeqCst) {
                    return 2;
                }
                all_is_called(1000)
            });
            0
        });
    }
}

/// The section ends before the child has a collector of its own.
#[test]
fn a9_a_guard_from_before_the_fork_may_end_early() {
    if !is_alone("opened_before::a9_a_guard_from_before_the_fork_may_end_early") {
        return;
    }
    let guard = epoch::pin();
    fork(|| {
        drop(guard);
        all_is_called(1000)
    });
}

/// The place looks unpinned at the fork, and is pinned again afterwards.
#[test]
fn a9_a_fork_in_repin_after() {
    if !is_alone("opened_before::a9_a_fork_in_repin_after") {
        return;
    }
    let cell = cell();
    let mut guard = epoch::pin();
    // SAFETY: the child does what is tested here.
    let pid = guard.repin_after(|| unsafe { libc::fork() });
    if pid != 0 {
        assert_eq!(status_of(pid), 0);
        return;
    }
    let status = || {
        on_a_thread(|| replace_and_urge(&cell));
        if FIRST.load(SeqCst) {
            return 1;
        }
        drop(guard);
        if epoch::drain(late()).is_err() || !FIRST.load(SeqCst) { 2 } else { all_is_called(1000) }
    };
    // SAFETY: ends the child.
    unsafe { libc::_exit(status()) };
}

/// A handle that a user took may pin at any time, so it counts like a guard until it is dropped.
#[test]
fn a9_a_handle_from_before_the_fork_holds_what_the_child_retires() {
    if !is_alone("opened_before::a9_a_handle_from_before_the_fork_holds_what_the_child_retires") {
        return;
    }
    let cell = cell();
    let handle = epoch::default_collector().register();
    fork(|| {
        let guard = handle.pin();
        let seen = cell.load(Acquire, &guard);
        on_a_thread(|| replace_and_urge(&cell));
        // SAFETY: not null, and `guard` holds it.
        if unsafe { seen.deref() }.0.load(SeqCst) {
            return 1;
        }
        drop(handle);
        urge();
        if FIRST.load(SeqCst) {
            return 2;
        }
        drop(guard);
        if epoch::drain(late()).is_err() || !FIRST.load(SeqCst) { 3 } else { all_is_called(1000) }
    });
}

/// A structure keeps a clone of the collector that it was made with, and refuses guards of another.
#[test]
fn a9_a_clone_of_the_collector_is_the_child_s_collector_there() {
    if !is_alone("opened_before::a9_a_clone_of_the_collector_is_the_child_s_collector_there") {
        return;
    }
    let clone = epoch::default_collector().clone();
    let other = epoch::Collector::new();
    defer_for_this_process(10);
    let old = epoch::pin();
    assert_eq!(old.collector(), Some(&clone));
    fork(|| {
        let guard = epoch::pin();
        let same = [guard.collector(), old.collector(), Some(epoch::default_collector())];
        if same.iter().any(|&one| one != Some(&clone)) || other == clone {
            return 1;
        }
        drop((old, guard));
        // A section that is opened through it counts.
        let cell = cell();
        let handle = clone.register();
        let guard = handle.pin();
        on_a_thread(|| replace_and_urge(&cell));
        if FIRST.load(SeqCst) {
            return 2;
        }
        drop(guard);
        if clone.drain(late()).is_err() || !FIRST.load(SeqCst) {
            return 3;
        }
        if clone.stats() != epoch::default_collector().stats() { 4 } else { all_is_called(1000) }
    });
}
