//! Robust guards: what a stalled one keeps, what it does not, and that no reader sees a freed node.

use super::hazard::retire_for;
use super::poison::POISON;
use super::quietly::quietly;
use super::{Log, Named, soon};
use barrierd_reclaim::{Born, Reclaimer, SynchronizeError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(super) fn all(make: impl Fn() -> Reclaimer) {
    older_objects_are_kept(make());
    younger_objects_go(make());
    objects_without_a_birth_are_kept(make());
    guards_share_a_section(make());
    what_exited_threads_left_is_kept_too(make());
    everything_goes_with_the_domain(make());
    plain_and_born_objects_mix(make());
    births_of_another_reclaimer_are_noticed(&make);
    a_stalled_robust_guard_keeps_what_is_older(make());
    no_robust_guard_sees_a_freed_node(make());
}

impl Log {
    fn born(&self, reclaimer: &Reclaimer, name: usize) -> *mut Born<Named> {
        Box::into_raw(reclaimer.alloc(Named { name, log: self.0.clone() }))
    }

    fn retire_born(&self, reclaimer: &Reclaimer, name: usize) {
        // SAFETY: fresh from `alloc`, shared with nobody, retired once.
        unsafe { reclaimer.retire_born(self.born(reclaimer, name)) };
    }
}

/// Until the era has moved on: what is born then is younger than any open guard.
pub(super) fn let_time_pass(reclaimer: &Reclaimer) {
    let stop = soon();
    let log = Log::default();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // Another thread, so that `synchronize` may run under this one's guards; two rounds, since
            // the first may have begun before.
            for _ in 0..2 {
                let advances = reclaimer.stats().advances;
                while reclaimer.stats().advances == advances {
                    assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
                    log.retire(reclaimer, 0);
                    reclaimer.flush();
                    let soon = Instant::now() + Duration::from_millis(2);
                    let _ = reclaimer.synchronize(soon);
                }
            }
        });
        thread.join().unwrap();
    });
}

fn older_objects_are_kept(reclaimer: Reclaimer) {
    let log = Log::default();
    let cell = AtomicPtr::new(log.born(&reclaimer, 0));
    let unseen = log.born(&reclaimer, 1);
    let guard = reclaimer.pin_robust();
    let seen = guard.protect(&cell);
    // SAFETY: from `alloc`, unlinked (nobody uses the cell again), retired once; the other was never
    // linked, which makes no difference.
    unsafe {
        reclaimer.retire_born(seen);
        reclaimer.retire_born(unseen);
    }
    assert_eq!(reclaimer.synchronize(soon()), Err(SynchronizeError::Pinned));
    let_time_pass(&reclaimer);
    (0..10).for_each(|_| reclaimer.flush());
    assert!(log.names().is_empty());
    // SAFETY: held.
    assert_eq!(unsafe { &*seen }.name, 0);
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0, 1]);
}

fn younger_objects_go(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin_robust();
    let_time_pass(&reclaimer);
    (0..300).for_each(|name| log.retire_born(&reclaimer, name));
    let stop = soon();
    while log.names().len() < 300 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        let_time_pass(&reclaimer);
        reclaimer.flush();
    }
    // It goes on: what it loads now is younger, and is kept from here on.
    let cell = AtomicPtr::new(log.born(&reclaimer, 300));
    let seen = guard.protect(&cell);
    // SAFETY: from `alloc`, unlinked (nobody uses the cell again), retired once.
    unsafe { reclaimer.retire_born(seen) };
    let_time_pass(&reclaimer);
    (0..10).for_each(|_| reclaimer.flush());
    assert_eq!(log.names().len(), 300);
    // SAFETY: held.
    assert_eq!(unsafe { &*seen }.name, 300);
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names().len(), 301);
}

fn objects_without_a_birth_are_kept(reclaimer: Reclaimer) {
    let log = Log::default();
    let mut guard = reclaimer.pin_robust();
    let_time_pass(&reclaimer);
    (0..200).for_each(|name| log.retire(&reclaimer, name));
    let_time_pass(&reclaimer);
    (0..10).for_each(|_| reclaimer.flush());
    assert!(log.names().is_empty());
    // The barrier has passed: a guard that begins anew lets them go.
    thread::sleep(Duration::from_millis(1));
    let stop = soon();
    while log.names().len() < 200 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        let_time_pass(&reclaimer);
        assert!(guard.repin());
        reclaimer.flush();
    }
    drop(guard);
}

fn guards_share_a_section(reclaimer: Reclaimer) {
    let log = Log::default();
    let mut first = reclaimer.pin_robust();
    let second = reclaimer.pin_robust();
    assert!(!first.repin(), "the other one needs the section");
    log.retire_born(&reclaimer, 0);
    let_time_pass(&reclaimer);
    drop(first);
    (0..10).for_each(|_| reclaimer.flush());
    assert!(log.names().is_empty(), "the second guard goes on with the section");
    drop(second);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0]);
    // Others wait for it.
    let guard = reclaimer.pin_robust();
    thread::scope(|scope| {
        scope.spawn(|| {
            let late = Instant::now() + Duration::from_millis(50);
            log.retire(&reclaimer, 1);
            let answer = reclaimer.synchronize(late);
            assert_eq!(answer, Err(SynchronizeError::Readers { readers: 1 }));
        });
    });
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
}

fn what_exited_threads_left_is_kept_too(reclaimer: Reclaimer) {
    let log = Log::default();
    let old: Vec<_> = (0..10).map(|name| AtomicPtr::new(log.born(&reclaimer, name))).collect();
    let guard = reclaimer.pin_robust();
    let_time_pass(&reclaimer);
    for flush in [false, true] {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // Old and new in one bag: 5 of the old ones are kept, each by itself.
                for (name, cell) in
                    old.iter().enumerate().filter(|(name, _)| (name % 2 == 0) == flush)
                {
                    // SAFETY: from `alloc`, unlinked (nobody uses the cell again), retired once.
                    unsafe { reclaimer.retire_born(cell.load(Relaxed)) };
                    log.retire_born(&reclaimer, 10 + name);
                }
                if flush {
                    let _ = reclaimer.synchronize(Instant::now() + Duration::from_millis(20));
                }
            });
            thread.join().unwrap();
        });
    }
    let stop = soon();
    while log.names().len() < 10 {
        assert!(Instant::now() < stop, "{:?} {:?}", log.names(), reclaimer.stats());
        let_time_pass(&reclaimer);
        reclaimer.flush();
    }
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (10..20).collect::<Vec<_>>());
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names().len(), 20);
}

fn everything_goes_with_the_domain(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin_robust();
    (0..200).for_each(|name| log.retire_born(&reclaimer, name));
    let_time_pass(&reclaimer);
    (0..3).for_each(|_| reclaimer.flush());
    (200..210).for_each(|name| log.retire_born(&reclaimer, name));
    std::mem::forget(guard);
    drop(reclaimer);
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (0..210).collect::<Vec<_>>());
}

fn plain_and_born_objects_mix(reclaimer: Reclaimer) {
    let log = Log::default();
    for name in 0..500 {
        log.retire(&reclaimer, 2 * name);
        log.retire_born(&reclaimer, 2 * name + 1);
    }
    reclaimer.synchronize(soon()).unwrap();
    let stats = reclaimer.stats();
    assert_eq!((stats.retired, stats.waiting()), (1000, 0));
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (0..1000).collect::<Vec<_>>());
}

/// Garbage under a stalled robust guard: 7,000 is the bound.
/// Where it is looked at, in debug builds.
fn births_of_another_reclaimer_are_noticed(make: impl Fn() -> Reclaimer) {
    let (one, other) = (make(), make());
    let_time_pass(&other);
    let (mut here, mut there) = (one.alloc(1u64), other.alloc(2u64));
    // Safe code, and allowed as long as neither is retired.
    std::mem::swap(&mut *here, &mut *there);
    let here = Box::into_raw(here);
    let retire = || {
        // SAFETY: not as it must be: the birth is another's. No guard of this reclaimer is ever open.
        unsafe { one.retire_born(here) };
    };
    let panicked = quietly(|| catch_unwind(AssertUnwindSafe(retire)).is_err());
    assert_eq!(panicked, cfg!(debug_assertions));
    if panicked {
        // SAFETY: it was refused.
        drop(unsafe { Box::from_raw(here) });
    }
}

fn a_stalled_robust_guard_keeps_what_is_older(reclaimer: Reclaimer) {
    let log = Log::default();
    let cell = AtomicPtr::new(log.born(&reclaimer, 7));
    let (stalled, wait_stalled) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    let (other, shared, names) = (&reclaimer, &cell, &log);
    thread::scope(move |scope| {
        scope.spawn(move || {
            let guard = other.pin_robust();
            let seen = guard.protect(shared);
            stalled.send(()).unwrap();
            let _ = wait_go.recv();
            // SAFETY: held.
            assert_eq!(unsafe { &*seen }.name, 7, "freed while held");
        });
        wait_stalled.recv().unwrap();
        // SAFETY: unlinked by the swap, retired once.
        unsafe { other.retire_born(shared.swap(ptr::null_mut(), AcqRel)) };
        let most = retire_for(other, Duration::from_millis(500), || {
            // SAFETY: fresh from `alloc`, retired once.
            unsafe { other.retire_born(Box::into_raw(other.alloc(1u64))) };
        });
        let daemon = other.stats().source == barrierd_reclaim::ActiveSource::Daemon;
        assert!(cfg!(debug_assertions) || daemon || most <= 7_000, "{most}, {:?}", other.stats());
        assert!(names.names().is_empty());
        drop(go);
    });
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!((log.names(), reclaimer.stats().waiting()), (vec![7], 0));
}

/// As for plain guards, with sections that go on over many eras, against nodes that are poisoned when
/// they are freed.
fn no_robust_guard_sees_a_freed_node(reclaimer: Reclaimer) {
    struct Node {
        name: AtomicU64,
    }
    static FREED: AtomicUsize = AtomicUsize::new(0);
    FREED.store(0, Relaxed);
    /// Poisons a name that its test leaks.
    struct Poisons(&'static Node);
    impl Drop for Poisons {
        fn drop(&mut self) {
            self.0.name.store(POISON, Relaxed);
            FREED.fetch_add(1, Relaxed);
        }
    }
    let fresh = |reclaimer: &Reclaimer, name| {
        let node: &'static Node = Box::leak(Box::new(Node { name: AtomicU64::new(name) }));
        Box::into_raw(reclaimer.alloc(Poisons(node)))
    };
    let writes = 40_000;
    let cells: [_; 4] = std::array::from_fn(|at| AtomicPtr::new(fresh(&reclaimer, at as u64)));
    let done = AtomicBool::new(false);
    let (cells, done, reclaimer) = (&cells, &done, &reclaimer);
    thread::scope(|scope| {
        for reader in 0..2 {
            scope.spawn(move || {
                let mut reads = 0;
                while !done.load(Relaxed) {
                    let guard = reclaimer.pin_robust();
                    let mut seen: Vec<(&Node, u64)> = Vec::new();
                    for _ in 0..reads % 40 {
                        // SAFETY: held while the guard lives. The inner node is leaked, so that a
                        // broken reclaimer shows as poison.
                        let node: &Node =
                            unsafe { &*guard.protect(&cells[(reads + reader) % 4]) }.0;
                        let name = node.name.load(Relaxed);
                        assert_ne!(name, POISON, "reached after it was freed");
                        seen.push((node, name));
                        reads += 1;
                    }
                    for (node, name) in &seen {
                        assert_eq!(node.name.load(Relaxed), *name, "freed while held");
                    }
                    reads += 1;
                }
            });
        }
        let writers = [0, 1].map(|writer| {
            scope.spawn(move || {
                for i in 0..writes {
                    let old = cells[(i + writer) % 4].swap(fresh(reclaimer, i as u64), AcqRel);
                    // SAFETY: from `alloc`, unlinked by the swap, retired once.
                    unsafe { reclaimer.retire_born(old) };
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Relaxed);
    });
    let stop = soon();
    while FREED.load(Relaxed) < 2 * writes {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        reclaimer.synchronize(soon()).unwrap();
    }
}
