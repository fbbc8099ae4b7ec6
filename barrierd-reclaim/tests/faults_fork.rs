//! Faults of the process's own collector: in the child of a fork, and of closures that use it where they
//! run. The names begin with the row of the table in which they were collected.
//!
//! Each test has a process of its own, since the collector is the process's.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

#[path = "common/alone.rs"]
mod alone;

use alone::is_alone;
use barrierd_reclaim::epoch::{self, Atomic, ConfigureError, Guard, Owned};
use barrierd_reclaim::{Reclaimer, Source};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A moment that only comes if something hangs.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(40)
}

/// Forks, runs `child` there, and checks that it returned 0. It prints nothing and starts threads by
/// [`on_a_thread`] alone: std's locks may have been held.
fn fork(child: impl FnOnce() -> i32) {
    // SAFETY: the child runs what is tested here; the C library sees to its allocator.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        std::panic::set_hook(Box::new(|_| {}));
        let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(99);
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    assert_eq!(status_of(pid), 0, "in the child");
}

/// What a child returned.
fn status_of(pid: libc::pid_t) -> i32 {
    let late = late();
    let mut status = 0;
    // SAFETY: a child of this process, waited for once.
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } != pid {
        if Instant::now() > late {
            // SAFETY: the child, which is still there.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            return -1;
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert!(libc::WIFEXITED(status), "the child died of a signal: {status}");
    libc::WEXITSTATUS(status)
}

/// Runs `work` on another thread, to its end. Not one of std's: these take a lock as they start, which
/// another thread of the parent may have held.
fn on_a_thread(work: impl FnOnce() + Send) {
    type Work<'w> = Option<Box<dyn FnOnce() + Send + 'w>>;
    extern "C" fn run(work: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `on_a_thread`'s, which waits for this thread.
        let work = unsafe { &mut *work.cast::<Work<'_>>() };
        work.take().expect("once")();
        std::ptr::null_mut()
    }
    let mut work: Work<'_> = Some(Box::new(work));
    // SAFETY: the thread is waited for, so what it borrows is there.
    unsafe {
        let mut thread = std::mem::zeroed();
        let argument = std::ptr::from_mut(&mut work).cast();
        assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), run, argument), 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}

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

/// Calls of [`count`], in this process.
static CALLED: AtomicU64 = AtomicU64::new(0);

fn defer_and_count(guard: &Guard, times: u64) {
    for _ in 0..times {
        guard.defer(|| CALLED.fetch_add(1, Relaxed));
    }
}

/// Defers `times` times, each under a guard of its own, and waits until all was called. 0, or where it
/// went wrong.
fn all_is_called(times: u64) -> i32 {
    let before = CALLED.load(Relaxed);
    for _ in 0..times {
        defer_and_count(&epoch::pin(), 1);
    }
    if epoch::drain(late()).is_err() {
        return 11;
    }
    if CALLED.load(Relaxed) - before == times { 0 } else { 12 }
}

/// Defers some closures in this process which must not be called in another.
fn defer_for_this_process(times: u32) {
    static ELSEWHERE: AtomicU32 = AtomicU32::new(0);
    let here = std::process::id();
    let guard = epoch::pin();
    for _ in 0..times {
        guard.defer(move || {
            if std::process::id() != here {
                ELSEWHERE.fetch_add(1, Relaxed);
                // SAFETY: ends the process.
                unsafe { libc::_exit(77) };
            }
        });
    }
}

#[test]
fn a9_what_a_child_defers_is_called() {
    if !is_alone("a9_what_a_child_defers_is_called") {
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
    if !is_alone("a9_a_child_of_a_child") {
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
    if !is_alone("a9_a_fork_before_the_first_pin_or_by_a_thread_without") {
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

/// An object that says when it is gone.
struct Told<'a>(&'a AtomicBool);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Replaces what is there, and does what it can to have the old one destroyed: not by waiting.
fn replace_and_urge(cell: &Atomic<Told<'static>>, gone: &'static AtomicBool) {
    let guard = epoch::pin();
    let old = cell.swap(Owned::new(Told(gone)), AcqRel, &guard);
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
    static FIRST: AtomicBool = AtomicBool::new(false);
    static SECOND: AtomicBool = AtomicBool::new(false);
    if !is_alone("a9_a_guard_from_before_the_fork_holds_what_the_child_retires") {
        return;
    }
    let cell = Atomic::new(Told(&FIRST));
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
            on_a_thread(|| replace_and_urge(&cell, &SECOND));
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
    static FIRST: AtomicBool = AtomicBool::new(false);
    static SECOND: AtomicBool = AtomicBool::new(false);
    if !is_alone("a9_guards_from_before_two_forks_hold_what_the_child_retires") {
        return;
    }
    let cell = Atomic::new(Told(&FIRST));
    for elder_first in [true, false] {
        let elder = epoch::pin();
        fork(|| {
            let younger = epoch::pin();
            fork(|| {
                on_a_thread(|| replace_and_urge(&cell, &SECOND));
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
    if !is_alone("a9_a_guard_from_before_the_fork_may_end_early") {
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
    static FIRST: AtomicBool = AtomicBool::new(false);
    static SECOND: AtomicBool = AtomicBool::new(false);
    if !is_alone("a9_a_fork_in_repin_after") {
        return;
    }
    let cell = Atomic::new(Told(&FIRST));
    let mut guard = epoch::pin();
    // SAFETY: the child does what is tested here.
    let pid = guard.repin_after(|| unsafe { libc::fork() });
    if pid != 0 {
        assert_eq!(status_of(pid), 0);
        return;
    }
    let status = || {
        on_a_thread(|| replace_and_urge(&cell, &SECOND));
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
    static FIRST: AtomicBool = AtomicBool::new(false);
    static SECOND: AtomicBool = AtomicBool::new(false);
    if !is_alone("a9_a_handle_from_before_the_fork_holds_what_the_child_retires") {
        return;
    }
    let cell = Atomic::new(Told(&FIRST));
    let handle = epoch::default_collector().register();
    fork(|| {
        let guard = handle.pin();
        let seen = cell.load(Acquire, &guard);
        on_a_thread(|| replace_and_urge(&cell, &SECOND));
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
    static FIRST: AtomicBool = AtomicBool::new(false);
    static SECOND: AtomicBool = AtomicBool::new(false);
    if !is_alone("a9_a_clone_of_the_collector_is_the_child_s_collector_there") {
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
        let cell = Atomic::new(Told(&FIRST));
        let handle = clone.register();
        let guard = handle.pin();
        on_a_thread(|| replace_and_urge(&cell, &SECOND));
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

#[test]
fn a9_the_settings_hold_in_a_child() {
    static PRESSED: AtomicU32 = AtomicU32::new(0);
    if !is_alone("a9_the_settings_hold_in_a_child") {
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
    if !is_alone("a9_a_child_s_exit_calls_what_the_child_deferred") {
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

/// The domain in whose destructor the fork came is the parent's. A guard under which that runs is open.
#[test]
fn a9_a_fork_in_a_deferred_closure() {
    static FORKED: AtomicU32 = AtomicU32::new(0);
    if !is_alone("a9_a_fork_in_a_deferred_closure") {
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
    if !is_alone("a9_the_collector_is_made_while_the_last_old_guard_ends") {
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
    if !is_alone("a9_a_fork_while_the_collector_is_made") {
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
    if !is_alone("a9_a_fork_while_the_own_reclaimer_is_made") {
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

/// A place that a closure took on the background thread, which then does nothing in it, would hold back
/// the barriers that are collected from the threads that retire.
#[test]
fn a18_a_closure_that_pins_leaves_no_place_on_the_background_thread() {
    if !is_alone("a18_a_closure_that_pins_leaves_no_place_on_the_background_thread") {
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
