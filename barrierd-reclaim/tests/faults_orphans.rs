//! Faults of what threads leave behind, of waiting for it, of limits, and of all that in a forked child. Each with
//! the input that showed it and the right value. The names begin with the row of the table in which they
//! were collected.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

#[path = "common/child.rs"]
mod child;
#[path = "common/quietly.rs"]
mod quietly;

use barrierd_reclaim::{Builder, OnLimit, Reclaimer, Source, SynchronizeError};
use child::status_in_child;
use quietly::quietly;
use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn builder() -> Builder {
    Reclaimer::builder().source(Source::Membarrier)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Counts what is allocated and not given back, bytes.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's own allocator, and a count beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs the test `name` alone, in a process of its own: it finds [`CHILD`] there.
fn in_a_process_of_its_own(name: &str) {
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).args(["--exact", name]).env(CHILD, "1").status().unwrap();
    assert!(status.success(), "{status}");
}

const CHILD: &str = "BARRIERD_TEST_CHILD";

/// Where a destructor waits until somebody opens it.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    /// Destructors that came to it.
    came: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.came.fetch_add(1, SeqCst);
        let open = self.open.lock().unwrap();
        let (open, _) =
            self.opened.wait_timeout_while(open, Duration::from_secs(20), |open| !*open).unwrap();
        drop(open);
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn wait_for_somebody(&self) {
        let late = soon();
        while self.came.load(SeqCst) == 0 {
            assert!(Instant::now() < late, "nobody came");
            thread::yield_now();
        }
    }
}

/// A thread leaves 60 objects whose first destructor waits at the gate, and exits. If `panics`, the second one's panics,
/// which is in the same hands, and some later ones'. The count of those whose destructor is done.
fn leave_behind(reclaimer: &Reclaimer, gate: &Arc<Gate>, panics: bool) -> Arc<AtomicUsize> {
    let done = Arc::new(AtomicUsize::new(0));
    let thread = {
        let (reclaimer, gate, done) = (reclaimer.clone(), gate.clone(), done.clone());
        thread::spawn(move || {
            // So that the exit itself finds nothing safe.
            let guard = reclaimer.pin();
            for n in 0..60 {
                let (gate, done) = (gate.clone(), done.clone());
                reclaimer.defer(move || {
                    if n == 0 {
                        gate.pass();
                    }
                    done.fetch_add(1, SeqCst);
                    assert!(!panics || n % 20 != 1, "a destructor's panic, on purpose");
                });
            }
            drop(guard);
        })
    };
    thread.join().unwrap();
    done
}

fn synchronize_says_ok_when_all_is_freed(panics: bool) {
    let reclaimer = builder().background(false).build().unwrap();
    let gate = Arc::new(Gate::default());
    let done = leave_behind(&reclaimer, &gate, panics);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            let late = soon();
            // The barrier may have to be bought first.
            while gate.came.load(SeqCst) == 0 && Instant::now() < late {
                let _ = catch_unwind(AssertUnwindSafe(|| reclaimer.flush()));
            }
        });
        gate.wait_for_somebody();
        // Its own share of the panics comes out here.
        let synchronize = |deadline: fn() -> Instant| loop {
            match catch_unwind(AssertUnwindSafe(|| reclaimer.synchronize(deadline()))) {
                Ok(answer) => break answer,
                Err(_) => assert!(panics),
            }
        };
        let early = synchronize(|| Instant::now() + Duration::from_millis(100));
        let done_early = done.load(SeqCst);
        assert!(
            matches!(early, Err(SynchronizeError::Destructors { threads: 1 })),
            "{early:?} with {done_early} of 60 done"
        );
        gate.open();
        assert_eq!(synchronize(soon), Ok(()));
        assert_eq!(done.load(SeqCst), 60);
        other.join().unwrap();
    });
}

/// Nobody else may ever come: no background thread, and a thread that is registered and does nothing.
#[test]
fn a5_whoever_flushes_has_a_barrier_for_what_others_left() {
    let reclaimer = builder().background(false).build().unwrap();
    let _idle = reclaimer.handle();
    thread::scope(|scope| {
        scope.spawn(|| (0..10u64).for_each(|n| reclaimer.retire_value(n))).join().unwrap();
    });
    let late = soon();
    // (A scope does not wait for its threads' thread-local destructors.)
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < late, "{:?}", reclaimer.stats());
        reclaimer.flush();
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a7_synchronize_waits_for_destructors_in_others_hands() {
    synchronize_says_ok_when_all_is_freed(false);
}

#[test]
fn a7_what_a_panic_puts_back_is_not_forgotten() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_process_of_its_own("a7_what_a_panic_puts_back_is_not_forgotten");
    }
    quietly(|| synchronize_says_ok_when_all_is_freed(true));
}

/// The background thread is in a destructor that does not end: `synchronize` frees the rest itself, and says so.
#[test]
fn a7_synchronize_waits_for_the_background_thread() {
    let reclaimer = builder().build().unwrap();
    let gate = Arc::new(Gate::default());
    let done = leave_behind(&reclaimer, &gate, false);
    gate.wait_for_somebody();
    let early = reclaimer.synchronize(Instant::now() + Duration::from_millis(100));
    assert!(matches!(early, Err(SynchronizeError::Destructors { threads: 1 })), "{early:?}");
    assert_eq!(done.load(SeqCst), 59, "all but the one that is under way");
    gate.open();
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(done.load(SeqCst), 60);
}

/// What `epoch` calls it: all closures have returned, also those that others call.
#[test]
fn a7_drain_waits_for_closures_in_others_hands() {
    use barrierd_reclaim::epoch::Collector;
    let collector = Collector::build(builder()).unwrap();
    let gate = Arc::new(Gate::default());
    let done = Arc::new(AtomicUsize::new(0));
    let leaves = {
        let (collector, gate, done) = (collector.clone(), gate.clone(), done.clone());
        move || {
            let handle = collector.register();
            handle.pin().defer(move || {
                gate.pass();
                done.fetch_add(1, SeqCst);
            });
        }
    };
    thread::spawn(leaves).join().unwrap();
    gate.wait_for_somebody();
    let early = collector.drain(Instant::now() + Duration::from_millis(100));
    let reason = early.expect_err("it has not returned").reason;
    assert!(matches!(reason, Some(SynchronizeError::Destructors { threads: 1 })), "{reason:?}");
    gate.open();
    collector.drain(soon()).unwrap();
    assert_eq!(done.load(SeqCst), 1);
}

const MANY: usize = 20_000;

/// A domain with a limit of 1,000 in which a reader stalls. How often the hook was called for `MANY` objects.
fn under_a_stalled_reader(then: OnLimit, objects: usize, batch: usize) -> usize {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let reclaimer = builder()
        .background(false)
        .limit_items(1000)
        .on_limit(then)
        .limit_hook(move |_| {
            counter.fetch_add(1, Relaxed);
        })
        .build()
        .unwrap();
    let mut stalled = reclaimer.handle();
    let guard = stalled.pin();
    for n in 0..objects / batch {
        if batch == 1 {
            reclaimer.retire_value(n as u64);
        } else {
            let nodes: Vec<*mut u64> =
                (0..batch).map(|n| Box::into_raw(Box::new(n as u64))).collect();
            // SAFETY: each from a Box, nobody can reach them, retired once.
            unsafe { reclaimer.retire_batch(nodes) };
        }
    }
    assert_eq!(reclaimer.stats().waiting(), objects as u64);
    drop(guard);
    calls.load(Relaxed)
}

#[test]
fn a8_a_limit_is_asked_once_a_bag() {
    let calls = under_a_stalled_reader(OnLimit::Expedite, MANY, 1);
    assert!((200..=MANY / 64 + 1).contains(&calls), "{calls}");
    // A batch is no reason to ask sooner.
    let calls = under_a_stalled_reader(OnLimit::Expedite, MANY, 2);
    assert!((200..=MANY / 64 + 1).contains(&calls), "{calls}");
}

/// The hook is called after each wait, so it counts them.
#[test]
fn a8_block_waits_once_a_bag() {
    let calls = under_a_stalled_reader(OnLimit::Block(Duration::from_millis(1)), 3000, 1);
    assert!((20..=3000 / 64 + 1).contains(&calls), "{calls}");
}

#[test]
fn a8_a_limit_costs_no_memory() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_process_of_its_own("a8_a_limit_costs_no_memory");
    }
    let taken = |builder: Builder| {
        let reclaimer = builder.background(false).build().unwrap();
        let mut stalled = reclaimer.handle();
        let guard = stalled.pin();
        let before = LIVE.load(Relaxed);
        (0..MANY as u64).for_each(|n| reclaimer.retire_value(n));
        let taken = LIVE.load(Relaxed) - before;
        drop(guard);
        taken
    };
    let (without, with) = (taken(builder()), taken(builder().limit_items(1000)));
    assert!(with <= without + without / 10, "{with} bytes, {without} without a limit");
}

/// What a limit bounds where no reader stands in the way.
#[test]
fn a8_a_limit_is_exceeded_by_a_bag_at_most() {
    for limit in [0, 1, 100, 1000] {
        let of = || {
            builder().background(false).limit_items(limit).on_limit(OnLimit::Block(Duration::MAX))
        };
        let reclaimer = of().build().unwrap();
        let mut most = 0;
        for n in 0..5000u64 {
            reclaimer.retire_value(n);
            most = most.max(reclaimer.stats().waiting());
        }
        assert!(most <= limit + 64, "{most} with a limit of {limit}");
        let (reclaimer, mut most) = (of().build().unwrap(), 0);
        for n in 0..5000u64 {
            if n % 3 == 0 {
                reclaimer.retire_value(n);
            } else {
                // SAFETY: from `alloc`, shared with nobody, retired once.
                unsafe { reclaimer.retire_born(Box::into_raw(reclaimer.alloc(n))) };
            }
            most = most.max(reclaimer.stats().waiting());
        }
        assert!(most <= limit + 128, "{most} with a limit of {limit}, two kinds");
    }
}

/// Threads of the parent are inside whatever takes a lock, while the child calls all there is.
fn a_child_takes_no_lock(builder: Builder) {
    let reclaimer = builder.limit_items(10).limit_hook(|_| {}).build().unwrap();
    let mut stalled = reclaimer.handle();
    let guard = stalled.pin();
    let left = reclaimer.clone();
    thread::spawn(move || (0..MANY as u64).for_each(|n| left.retire_value(n))).join().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let _ = (reclaimer.stats(), reclaimer.blockers(), reclaimer.status());
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                reclaimer.flush();
            }
        });
        for _ in 0..50 {
            let child = || {
                for _ in 0..3 {
                    let nodes: Vec<*mut u64> =
                        (0..100).map(|n| Box::into_raw(Box::new(n))).collect();
                    // SAFETY: each from a Box, nobody can reach them, retired once.
                    unsafe { reclaimer.retire_batch(nodes) };
                }
                (0..300).for_each(|n: u64| reclaimer.retire_value(n));
                // SAFETY: from `alloc`, shared with nobody, retired once.
                unsafe { reclaimer.retire_born(Box::into_raw(reclaimer.alloc(1))) };
                let _ = (reclaimer.stats(), reclaimer.blockers(), reclaimer.status());
                reclaimer.flush();
                assert_eq!(reclaimer.synchronize(soon()), Err(SynchronizeError::Forked));
                let mut owned = reclaimer.pin_owned();
                owned.repin();
                let hazards: [_; 2] = reclaimer.hazards();
                drop((owned, hazards, reclaimer.pin_robust(), reclaimer.pin()));
                let handle = reclaimer.handle();
                // SAFETY: no objects.
                unsafe { handle.retire_batch(Vec::<*mut u64>::new()) };
                (0..300).for_each(|n: u64| handle.retire_value(n));
                handle.flush();
                drop((handle, reclaimer.clone()));
                0
            };
            // SAFETY: all that the child calls is what this test is about, and the C library sees to the
            // allocator.
            let status = unsafe { status_in_child(child) };
            if status != 0 {
                stop.store(true, Relaxed);
                panic!("the child hangs, or died: {status}");
            }
        }
        stop.store(true, Relaxed);
    });
    drop(guard);
}

#[test]
fn a13_a_forked_child_takes_no_lock() {
    a_child_takes_no_lock(builder());
}

#[test]
fn a13_a_forked_child_takes_no_lock_where_retire_runs_nothing() {
    a_child_takes_no_lock(builder().free_in_background());
}

#[test]
fn a13_a_forked_child_takes_no_lock_on_fences() {
    a_child_takes_no_lock(Reclaimer::builder().source(Source::Fence));
}
