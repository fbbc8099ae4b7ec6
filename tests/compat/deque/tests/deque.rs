//! crossbeam-deque: every method, and thieves against an owner.

#[path = "../../patched.rs"]
mod patched;

use crossbeam_deque::{Injector, Steal, Stealer, Worker};
use crossbeam_epoch::{default_collector, drain};
use patched::{Counted, settle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

/// What a steal gives in the end.
fn stolen<T>(steal: impl Fn() -> Steal<T>) -> Option<T> {
    loop {
        match steal() {
            Steal::Success(task) => return Some(task),
            Steal::Empty => return None,
            Steal::Retry => thread::yield_now(),
        }
    }
}

#[test]
fn an_owner_and_a_stealer() {
    for (worker, is_lifo) in [(Worker::new_fifo(), false), (Worker::new_lifo(), true)] {
        let stealer = worker.stealer();
        let other = Worker::new_fifo();
        assert!(worker.is_empty() && stealer.is_empty() && stolen(|| stealer.steal()).is_none());
        // The buffer grows and shrinks: the old ones are deferred.
        for round in 0..3 {
            (0..10_000).for_each(|n| worker.push(n));
            assert_eq!((worker.len(), stealer.len()), (10_000, 10_000));
            assert_eq!(stolen(|| stealer.steal()), Some(0));
            assert_eq!(worker.pop(), Some(if is_lifo { 9_999 } else { 1 }));
            assert!(stolen(|| stealer.steal_batch(&other)).is_some());
            assert!(stolen(|| stealer.steal_batch_with_limit(&other, 3)).is_some());
            assert!(stolen(|| stealer.steal_batch_and_pop(&other)).is_some());
            assert!(stolen(|| stealer.steal_batch_with_limit_and_pop(&other, 5)).is_some());
            let mut left = 10_000 - 4;
            while worker.pop().is_some() || other.pop().is_some() {
                left -= 1;
            }
            assert_eq!(left, 0, "round {round}");
        }
        assert!(!format!("{worker:?} {stealer:?} {:?}", stealer.clone()).is_empty());
    }
}

#[test]
fn an_injector() {
    let (injector, worker) = (Injector::new(), Worker::new_lifo());
    assert!(injector.is_empty() && Injector::<u8>::default().steal().is_empty());
    (0..1000).for_each(|n| injector.push(n));
    assert_eq!((injector.len(), stolen(|| injector.steal())), (1000, Some(0)));
    assert!(stolen(|| injector.steal_batch(&worker)).is_some());
    assert!(stolen(|| injector.steal_batch_with_limit(&worker, 2)).is_some());
    assert!(stolen(|| injector.steal_batch_and_pop(&worker)).is_some());
    assert!(stolen(|| injector.steal_batch_with_limit_and_pop(&worker, 9)).is_some());
    let rest = std::iter::from_fn(|| worker.pop().or_else(|| stolen(|| injector.steal())));
    assert_eq!(rest.count(), 1000 - 3);
    assert!(format!("{injector:?}").contains("Injector"));
}

#[test]
fn what_a_steal_says() {
    let (success, empty, retry) = (Steal::Success(1), Steal::<i32>::Empty, Steal::<i32>::Retry);
    assert!(success.is_success() && empty.is_empty() && retry.is_retry());
    assert_eq!((success.clone().success(), retry.clone().success()), (Some(1), None));
    assert_eq!(empty.clone().or_else(|| success.clone()), success);
    assert_eq!([empty.clone(), retry.clone(), empty].into_iter().collect::<Steal<i32>>(), retry);
    assert_eq!(format!("{success:?}"), "Success(..)");
}

/// The fence that `steal` leaves to `pin` unless the thread is pinned: no task is lost or taken twice.
#[test]
fn the_last_task_goes_to_one_of_two() {
    for is_pinned in [false, true] {
        let worker = Worker::new_lifo();
        let stealers: Vec<Stealer<usize>> = (0..2).map(|_| worker.stealer()).collect();
        let (taken, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let end = Instant::now() + Duration::from_millis(400);
        let mut pushed = 0;
        thread::scope(|scope| {
            for stealer in &stealers {
                let (taken, stop) = (&taken, &stop);
                scope.spawn(move || {
                    let mut guard = is_pinned.then(crossbeam_epoch::pin);
                    while !stop.load(SeqCst) {
                        if stealer.steal().is_success() {
                            taken.fetch_add(1, SeqCst);
                        }
                        guard.iter_mut().for_each(crossbeam_epoch::Guard::repin);
                    }
                });
            }
            let mut popped = 0;
            while Instant::now() < end {
                for _ in 0..100 {
                    worker.push(pushed);
                    pushed += 1;
                    popped += usize::from(worker.pop().is_some());
                }
            }
            while worker.pop().is_some() {
                popped += 1;
            }
            taken.fetch_add(popped, SeqCst);
            stop.store(true, SeqCst);
        });
        assert_eq!(taken.load(SeqCst), pushed);
    }
    settle();
}

/// Owned tasks through buffers that are replaced under the thieves.
#[test]
fn thieves_under_growth() {
    let live = Arc::new(AtomicUsize::new(0));
    let (before, sum) = (default_collector().stats().retired, AtomicU64::new(0));
    let worker = Worker::new_fifo();
    let (injector, stop) = (Injector::new(), AtomicBool::new(false));
    let stealers: Vec<Stealer<Counted>> = (0..3).map(|_| worker.stealer()).collect();
    let mut pushed = 0u64;
    thread::scope(|scope| {
        for (thread, stealer) in stealers.iter().enumerate() {
            let (injector, sum, stop) = (&injector, &sum, &stop);
            scope.spawn(move || {
                let own = Worker::new_lifo();
                while !stop.load(SeqCst) {
                    let task = match thread {
                        0 => stealer.steal(),
                        1 => stealer.steal_batch_and_pop(&own),
                        _ => injector.steal_batch_and_pop(&own),
                    };
                    for task in task.success().into_iter().chain(std::iter::from_fn(|| own.pop())) {
                        sum.fetch_add(task.number(), SeqCst);
                    }
                }
            });
        }
        let end = Instant::now() + Duration::from_millis(800);
        while Instant::now() < end {
            for size in [1, 100, 3000, 20] {
                for _ in 0..size {
                    pushed += 1;
                    let task = Counted::new(pushed, &live);
                    if pushed % 3 == 0 { injector.push(task) } else { worker.push(task) }
                }
                while let Some(task) = worker.pop() {
                    sum.fetch_add(task.number(), SeqCst);
                }
            }
        }
        while !worker.is_empty() || !injector.is_empty() {
            thread::yield_now();
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(sum.load(SeqCst), pushed * (pushed + 1) / 2);
    assert_eq!(live.load(SeqCst), 0);
    assert!(default_collector().stats().retired > before, "the patch is not in force");
    drop(worker);
    drain(Instant::now() + Duration::from_secs(30)).unwrap();
}
