//! How often one thread flushes until what it deferred has run: twice, as in crossbeam-epoch, whoever idles beside it.

mod common;

use barrierd_reclaim::epoch::{Collector, Guard};
use barrierd_reclaim::{Builder, Reclaimer, Source};
use common::alone::is_alone;
use common::sources::SOURCES;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Flushes, each under a guard of its own, until a closure ran that was deferred before. `between` them others do
/// what they do.
fn flushes(pin: impl Fn() -> Guard, between: impl Fn()) -> usize {
    let ran = Arc::new(AtomicBool::new(false));
    let runs = ran.clone();
    pin().defer(move || runs.store(true, SeqCst));
    until(&ran, pin, between)
}

fn until(ran: &AtomicBool, pin: impl Fn() -> Guard, between: impl Fn()) -> usize {
    (1..=128)
        .find(|_| {
            between();
            pin().flush();
            ran.load(SeqCst)
        })
        .unwrap_or(usize::MAX)
}

/// Longer than any two purchases of flushes are apart.
fn rest() {
    thread::sleep(Duration::from_micros(1_500));
}

/// The background thread buys when it likes, and then nobody else does for a moment.
fn builder(source: Source) -> Builder {
    Reclaimer::builder().source(source).background(false)
}

#[test]
fn a12_two_flushes_run_what_one_thread_deferred() {
    if !is_alone("a12_two_flushes_run_what_one_thread_deferred") {
        return;
    }
    for &source in SOURCES {
        let collector = Collector::build(builder(source)).unwrap();
        let own = collector.register();
        for round in 0..20 {
            assert!(flushes(|| own.pin(), || ()) <= 2, "alone, {source:?}, {round}");
        }
        // Of the same thread, and never used.
        let other = collector.register();
        for round in 0..20 {
            rest();
            assert!(flushes(|| own.pin(), || ()) <= 2, "a second handle, {source:?}, {round}");
        }
        drop(other);
        thread::scope(|scope| {
            let collector = &collector;
            let (ready, is_ready) = channel();
            let (end, ends) = channel::<()>();
            scope.spawn(move || {
                let idle = collector.register();
                drop(idle.pin());
                ready.send(()).unwrap();
                let _ = ends.recv();
            });
            is_ready.recv().unwrap();
            for round in 0..20 {
                rest();
                assert!(
                    flushes(|| own.pin(), || ()) <= 2,
                    "beside an idle thread, {source:?}, {round}"
                );
            }
            // One that reads as fast as it can, but for this: nobody waits for who is in a section.
            let (turn, turns) = channel::<()>();
            let (done, is_done) = channel();
            scope.spawn(move || {
                let busy = collector.register();
                while turns.recv().is_ok() {
                    (0..3).for_each(|_| drop(busy.pin()));
                    done.send(()).unwrap();
                }
            });
            let section = || {
                turn.send(()).unwrap();
                is_done.recv().unwrap();
            };
            for round in 0..20 {
                rest();
                assert!(flushes(|| own.pin(), section) <= 2, "busy and idle, {source:?}, {round}");
            }
            drop((turn, end));
        });
    }
}

/// The first barrier of a process: it is registered then, however many threads it has.
#[cfg_attr(barrierd_plain, ignore = "there is no membarrier")]
#[test]
fn a12_the_first_flushes_of_a_process_wait_for_nobody_else() {
    if !is_alone("a12_the_first_flushes_of_a_process_wait_for_nobody_else") {
        return;
    }
    let collector = Collector::build(Reclaimer::builder().source(Source::Membarrier)).unwrap();
    let _idle = collector.register();
    let own = collector.register();
    assert!(flushes(|| own.pin(), || ()) <= 2);
}

/// What was flushed and could not go goes with anybody's flush.
#[test]
fn a12_what_another_thread_flushed_goes_with_two_flushes() {
    if !is_alone("a12_what_another_thread_flushed_goes_with_two_flushes") {
        return;
    }
    for &source in SOURCES {
        let collector = Collector::build(builder(source)).unwrap();
        let own = collector.register();
        for round in 0..20 {
            rest();
            let ran = Arc::new(AtomicBool::new(false));
            thread::scope(|scope| {
                let (ready, is_ready) = channel();
                let (end, ends) = channel::<()>();
                let (collector, runs) = (&collector, ran.clone());
                scope.spawn(move || {
                    let handle = collector.register();
                    let guard = handle.pin();
                    guard.defer(move || runs.store(true, SeqCst));
                    guard.flush();
                    drop(guard);
                    ready.send(()).unwrap();
                    let _ = ends.recv();
                });
                is_ready.recv().unwrap();
                assert!(!ran.load(SeqCst), "its own section was open");
                rest();
                let count = until(&ran, || own.pin(), || ());
                assert!(count <= 2, "{count}, {source:?}, {round}");
                drop(end);
            });
        }
    }
}

/// A purchase frees nothing as long as another's section is open, so none is made.
#[cfg_attr(barrierd_plain, ignore = "there is no membarrier")]
#[test]
fn nobody_buys_for_what_a_section_holds_back() {
    if !is_alone("nobody_buys_for_what_a_section_holds_back") {
        return;
    }
    let reclaimer = builder(Source::Membarrier).build().unwrap();
    let (own, mut reader, _idle) = (reclaimer.handle(), reclaimer.handle(), reclaimer.handle());
    let bought = || reclaimer.stats().other_syscalls;
    let guard = reader.pin();
    for n in 0..20u64 {
        rest();
        own.retire_value(n);
        own.flush();
    }
    assert_eq!((bought(), reclaimer.stats().freed), (0, 0));
    drop(guard);
    own.flush();
    assert_eq!((bought(), reclaimer.stats().freed), (1, 20));
}

/// What all who take part have seen is observed: a barrier is bought for those alone who have not.
#[cfg_attr(barrierd_plain, ignore = "there is no membarrier")]
#[test]
fn synchronize_buys_for_idle_threads_alone() {
    if !is_alone("synchronize_buys_for_idle_threads_alone") {
        return;
    }
    let reclaimer = builder(Source::Membarrier).build().unwrap();
    let own = reclaimer.handle();
    let bought = || reclaimer.stats().other_syscalls;
    let synchronize = |n: u64| {
        own.retire_value(n);
        own.synchronize(Instant::now() + Duration::from_secs(20)).unwrap();
        assert_eq!(reclaimer.stats().freed, n);
    };
    (1..=20).for_each(synchronize);
    assert_eq!(bought(), 0, "nobody else is there");
    let _idle = reclaimer.handle();
    synchronize(21);
    assert_eq!(bought(), 1);
}
