//! What every source of barriers must do, as functions of a [`Reclaimer`] on that source.
//!
//! Run on membarrier and fences by this crate's `tests/reclaim.rs`, and on the live daemon by the
//! workspace's `tests/reclaim_daemon.rs`.

pub(crate) mod background;
mod destructors;
pub(crate) mod epoch;
mod handle;
mod hazard;
pub(crate) mod limits;
pub(crate) mod observe;
mod owned;
mod poison;
#[path = "../common/quietly.rs"]
mod quietly;
mod robust;
mod threads;
pub(crate) mod variants;

#[allow(unused_imports, reason = "not every test program breaks things under load")]
pub(crate) use poison::under_load;

use barrierd_reclaim::{Reclaimer, SynchronizeError};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Far enough for any barrier; a test that waits this long has failed.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Writes its name down when it is freed.
struct Named {
    name: usize,
    log: Arc<Mutex<Vec<usize>>>,
}

impl Drop for Named {
    fn drop(&mut self) {
        self.log.lock().unwrap().push(self.name);
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<usize>>>);

impl Log {
    fn retire(&self, reclaimer: &Reclaimer, name: usize) {
        let object = Box::into_raw(Box::new(Named { name, log: self.0.clone() }));
        // SAFETY: fresh from a Box, shared with nobody, retired once.
        unsafe { reclaimer.retire(object) };
    }

    fn names(&self) -> Vec<usize> {
        self.0.lock().unwrap().clone()
    }
}

/// All cases, one after the other, each on a domain of its own, without the background thread: they
/// say what each call does.
pub(crate) fn all(make: impl Fn() -> Reclaimer) {
    // One source at a time: some cases count in statics or silence the panic hook.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    freed_in_order_and_once(make());
    everything_is_freed_on_drop(make());
    two_at_most_a_call(make());
    threads::a_thread_exit_loses_nothing(make());
    destructors::a_panic_loses_one_object(make());
    destructors::a_panic_while_dropping_loses_nothing(make());
    a_stalled_reader_keeps_what_it_must(make());
    nested_guards_count_as_the_first(make());
    who_blocks_is_told(make());
    synchronize_refuses_what_cannot_end(make());
    destructors::destructors_may_retire(make());
    destructors::destructors_with_handles_do_not_nest(make());
    threads::late_in_a_thread_exit(make());
    threads::domains_come_and_go(&make);
    a_forgotten_guard_keeps_its_section(make());
    threads::a_guard_may_outlive_its_registration(make());
    threads::the_last_drop_waits_for_threads_that_exit(&make);
    threads::short_lived_threads_leave_little(make());
    threads::sleepers_hold_nothing_of_others(make());
    destructors::destructors_that_retire_many(make());
    poison::no_reader_sees_a_freed_node(make());
    handle::all(&make);
    hazard::all(&make);
    robust::all(&make);
    owned::all(&make);
}

fn freed_in_order_and_once(reclaimer: Reclaimer) {
    let log = Log::default();
    for name in 0..1000 {
        log.retire(&reclaimer, name);
    }
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), (0..1000).collect::<Vec<_>>());
    let stats = reclaimer.stats();
    assert_eq!((stats.retired, stats.freed, stats.waiting()), (1000, 1000, 0));
}

fn everything_is_freed_on_drop(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (log, clone) = (log.clone(), reclaimer.clone());
            scope.spawn(move || (0..100).for_each(|i| log.retire(&clone, thread * 100 + i)));
        }
    });
    log.retire(&reclaimer, 400);
    drop(guard);
    let clone = reclaimer.clone();
    drop(reclaimer);
    drop(clone);
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, (0..=400).collect::<Vec<_>>());
}

fn two_at_most_a_call(reclaimer: Reclaimer) {
    let log = Log::default();
    let guard = reclaimer.pin();
    (0..500).for_each(|name| log.retire(&reclaimer, name));
    drop(guard);
    let stop = soon();
    let mut freed = log.names().len();
    let mut name = 500;
    while freed < 500 {
        assert!(Instant::now() < stop, "{freed} freed; {:?}", reclaimer.stats());
        log.retire(&reclaimer, name);
        name += 1;
        let now = log.names().len();
        assert!(now - freed <= 2, "one retire freed {}", now - freed);
        freed = now;
        thread::sleep(Duration::from_micros(50));
    }
}

fn a_stalled_reader_keeps_what_it_must(reclaimer: Reclaimer) {
    let log = Log::default();
    (0..10).for_each(|name| log.retire(&reclaimer, name));
    // Older than the reader: its barrier passes before the reader pins.
    let other = Log::default();
    other.retire(&reclaimer, 0);
    let stop = soon();
    while log.names().len() < 10 {
        assert!(Instant::now() < stop);
        reclaimer.flush();
        thread::sleep(Duration::from_micros(200));
    }

    let (pinned, wait_pinned) = mpsc::channel();
    let (go, wait_go) = mpsc::channel();
    let (shared, reader) = (&log, &reclaimer);
    // `go` moves in: should an assertion fail, it is dropped and the reader ends.
    thread::scope(move |scope| {
        let (log, reclaimer) = (shared, reader);
        scope.spawn(move || {
            let _guard = reclaimer.pin();
            pinned.send(()).unwrap();
            wait_go.recv().unwrap();
        });
        wait_pinned.recv().unwrap();
        (10..200).for_each(|name| log.retire(reclaimer, name));
        let late = Instant::now() + Duration::from_millis(200);
        assert_eq!(
            reclaimer.synchronize(late),
            Err(SynchronizeError::Readers { readers: 1 }),
            "{:?}",
            reclaimer.stats()
        );
        reclaimer.flush();
        assert_eq!(log.names().len(), 10, "nothing retired under the reader is freed");
        go.send(()).unwrap();
    });
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), (0..200).collect::<Vec<_>>());
}

fn who_blocks_is_told(reclaimer: Reclaimer) {
    assert_eq!(reclaimer.blockers(), []);
    let (pinned, wait_pinned) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    let shared = &reclaimer;
    thread::scope(move |scope| {
        let reader = move || {
            let guard = shared.pin();
            pinned.send(()).unwrap();
            let _ = wait_go.recv();
            drop(guard);
        };
        let thread = thread::Builder::new().name("a-slow-reader".into());
        let reader = thread.spawn_scoped(scope, reader).unwrap();
        wait_pinned.recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        let young = shared.pin_robust();
        let blockers = shared.blockers();
        assert_eq!(blockers.len(), 2, "{blockers:?}");
        let (robust, plain): (Vec<_>, Vec<_>) = blockers.iter().partition(|one| one.robust);
        // Linux alone has names of other threads to read.
        let name = cfg!(all(target_os = "linux", not(barrierd_plain))).then_some("a-slow-reader");
        assert_eq!(plain[0].thread.as_deref(), name);
        assert!(plain[0].open_for >= Duration::from_millis(20), "{blockers:?}");
        assert!(robust[0].tid != plain[0].tid, "{blockers:?}");
        drop((young, go));
        reader.join().unwrap();
        assert_eq!(shared.blockers(), []);
    });
}

fn nested_guards_count_as_the_first(reclaimer: Reclaimer) {
    let log = Log::default();
    let first = reclaimer.pin();
    let second = reclaimer.pin();
    log.retire(&reclaimer, 0);
    drop(first);
    for _ in 0..20 {
        reclaimer.flush();
        thread::sleep(Duration::from_millis(1));
    }
    assert!(log.names().is_empty(), "the second guard goes on with the first one's section");
    drop(second);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0]);
}

fn synchronize_refuses_what_cannot_end(reclaimer: Reclaimer) {
    let guard = reclaimer.pin();
    assert_eq!(reclaimer.synchronize(soon()), Err(SynchronizeError::Pinned));
    drop(guard);
    let answer: Arc<Mutex<Option<Result<(), SynchronizeError>>>> = Arc::default();
    struct Inside(Reclaimer, Arc<Mutex<Option<Result<(), SynchronizeError>>>>);
    impl Drop for Inside {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = Some(self.0.synchronize(soon()));
        }
    }
    let inside = Inside(reclaimer.clone(), answer.clone());
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(inside))) };
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(*answer.lock().unwrap(), Some(Err(SynchronizeError::InDestructor)));
}

fn a_forgotten_guard_keeps_its_section(reclaimer: Reclaimer) {
    let log = Log::default();
    thread::scope(|scope| {
        scope.spawn(|| std::mem::forget(reclaimer.pin())).join().unwrap();
    });
    log.retire(&reclaimer, 0);
    let late = Instant::now() + Duration::from_millis(100);
    assert_eq!(reclaimer.synchronize(late), Err(SynchronizeError::Readers { readers: 1 }));
    assert!(log.names().is_empty());
    drop(reclaimer);
    assert_eq!(log.names(), [0]);
}
