//! What a child defers is called there, by the settings of the process, and nothing of its parent's.

use super::*;
use crate::alone::is_alone;
use crate::child::status_of;
use barrierd_reclaim::epoch::ConfigureError;
use barrierd_reclaim::{Reclaimer, Source};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;

/// Another thread of the process that holds a guard for good.
fn hold_a_guard_elsewhere() {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let _guard = epoch::pin();
        sender.send(()).unwrap();
        loop {
            thread::park();
        }
    });
    receiver.recv().unwrap();
}

/// Memory that is in use, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a9_what_a_child_defers_is_called() {
    if !is_alone("children::a9_what_a_child_defers_is_called") {
        return;
    }
    hold_a_guard_elsewhere();
    defer_for_this_process(1000);
    let waiting = epoch::default_collector().stats().waiting();
    fork(|| {
        let before = resident();
        let status = all_is_called(1_000_000);
        if status != 0 {
            return status;
        }
        let stats = epoch::default_collector().stats();
        if stats.retired != 1_000_000 || stats.waiting() != 0 {
            return 1;
        }
        if resident().saturating_sub(before) > 16 << 20 { 2 } else { 0 }
    });
    assert_eq!(epoch::default_collector().stats().waiting(), waiting);
}

#[test]
fn a9_a_child_of_a_child() {
    if !is_alone("children::a9_a_child_of_a_child") {
        return;
    }
    hold_a_guard_elsewhere();
    defer_for_this_process(100);
    fork(|| {
        if all_is_called(100) != 0 {
            return 1;
        }
        let _guard = epoch::pin();
        defer_for_this_process(100);
        on_a_thread(|| {
            fork(|| {
                if all_is_called(1000) != 0 {
                    return 2;
                }
                fork(|| all_is_called(1000));
                all_is_called(1000)
            });
        });
        0
    });
}

#[test]
fn a9_a_fork_before_the_first_pin_or_by_a_thread_without() {
    if !is_alone("children::a9_a_fork_before_the_first_pin_or_by_a_thread_without") {
        return;
    }
    fork(|| all_is_called(1000));
    hold_a_guard_elsewhere();
    fork(|| all_is_called(1000));
    fork(|| {
        on_a_thread(|| assert_eq!(all_is_called(1000), 0));
        0
    });
}

#[test]
fn a9_the_settings_hold_in_a_child() {
    static PRESSED: AtomicU32 = AtomicU32::new(0);
    if !is_alone("children::a9_the_settings_hold_in_a_child") {
        return;
    }
    let settings = || Reclaimer::builder().source(Source::Membarrier).limit_items(1000);
    let counting = settings().limit_hook(|_| _ = PRESSED.fetch_add(1, Relaxed));
    epoch::configure(counting).unwrap();
    assert!(matches!(epoch::configure(settings()), Err(ConfigureError::InUse)));
    drop(epoch::pin());
    fork(|| {
        // Also in a child of the child.
        fork(|| {
            let guard = epoch::pin();
            defer_and_count(&guard, 5000);
            drop(guard);
            epoch::drain(late()).unwrap();
            if PRESSED.load(Relaxed) == 0 {
                return 1;
            }
            if epoch::configure(settings()).is_ok() { 2 } else { all_is_called(1000) }
        });
        // As before the first pin of any process.
        if epoch::configure(settings()).is_err() {
            return 3;
        }
        let guard = epoch::pin();
        defer_and_count(&guard, 5000);
        drop(guard);
        epoch::drain(late()).unwrap();
        if PRESSED.load(Relaxed) == 0 { all_is_called(1000) } else { 4 }
    });
}

/// In a child of its own `exit`: what the child deferred is called there, and nothing of its parent's.
#[test]
fn a9_a_child_s_exit_calls_what_the_child_deferred() {
    if !is_alone("children::a9_a_child_s_exit_calls_what_the_child_deferred") {
        return;
    }
    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    defer_for_this_process(100);
    // SAFETY: see `fork`; `exit` is what is tested.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let out = there.as_raw_fd();
        let guard = epoch::pin();
        for _ in 0..100 {
            // SAFETY: writes a byte that is there.
            guard.defer(move || unsafe { libc::write(out, c"x".as_ptr().cast(), 1) });
        }
        drop(guard);
        // SAFETY: this thread is the only one that the program knows.
        unsafe { libc::exit(0) };
    }
    drop(there);
    assert_eq!(status_of(pid), 0);
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut &here, &mut all).unwrap();
    assert_eq!(all.len(), 100);
}
