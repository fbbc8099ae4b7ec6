//! A fork, and the end of a section, while another thread makes the collector.

use super::*;
use crate::alone::is_alone;
use barrierd_reclaim::Reclaimer;
use std::sync::atomic::AtomicBool;

/// Runs `work` while another thread runs `make`, which takes some microseconds, so that each step of the one meets each
/// of the other.
fn while_another_thread_makes(make: fn(), turn: u64, work: impl FnOnce()) {
    struct Call(AtomicBool, fn());
    extern "C" fn run(call: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: of the caller, which waits for this thread.
        let Call(started, make) = unsafe { &*call.cast::<Call>() };
        started.store(true, SeqCst);
        make();
        std::ptr::null_mut()
    }
    let call = Call(AtomicBool::new(false), make);
    let started = &call.0;
    // SAFETY: the thread is waited for.
    unsafe {
        let mut thread = std::mem::zeroed();
        let argument = std::ptr::from_ref(&call).cast_mut().cast();
        assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), run, argument), 0);
        while !started.load(SeqCst) {
            std::hint::spin_loop();
        }
        let before = Instant::now();
        while before.elapsed() < Duration::from_micros(turn) {}
        work();
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}

/// Making a collector.
fn while_the_collector_is_made(turn: u64, work: impl FnOnce()) {
    while_another_thread_makes(|| drop(epoch::pin()), turn, work);
}

#[test]
fn a9_the_collector_is_made_while_the_last_old_guard_ends() {
    if !is_alone("made::a9_the_collector_is_made_while_the_last_old_guard_ends") {
        return;
    }
    for turn in 0..200 {
        let guard = epoch::pin();
        fork(|| {
            while_the_collector_is_made(turn, || drop(guard));
            all_is_called(100)
        });
    }
}

#[test]
fn a9_a_fork_while_the_collector_is_made() {
    if !is_alone("made::a9_a_fork_while_the_collector_is_made") {
        return;
    }
    for turn in 0..200 {
        // A child has no collector, so one can be made each time.
        fork(|| {
            while_the_collector_is_made(turn, || fork(|| all_is_called(100)));
            all_is_called(100)
        });
    }
}

/// A lock would be held for good in the child.
#[test]
fn a9_a_fork_while_the_own_reclaimer_is_made() {
    if !is_alone("made::a9_a_fork_while_the_own_reclaimer_is_made") {
        return;
    }
    let own_is_there = || {
        drop(Reclaimer::global().pin());
        0
    };
    for turn in 0..200 {
        // A child has none, so one can be made each time.
        fork(|| {
            let make = || drop(Reclaimer::global().pin());
            while_another_thread_makes(make, turn, || fork(own_is_there));
            own_is_there()
        });
    }
}
