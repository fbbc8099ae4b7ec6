//! What every source of barriers must do, as functions of a [`Reclaimer`] on that source.
//!
//! Run on membarrier and fences by this crate's `tests/reclaim.rs`, and on the live daemon by the
//! workspace's `tests/reclaim_daemon.rs`.

pub(crate) mod background;
mod hazard;
pub(crate) mod limits;
pub(crate) mod observe;
mod owned;
mod robust;
pub(crate) mod variants;

use barrierd_reclaim::{Reclaimer, SynchronizeError};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Barrier, Mutex, mpsc};
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
    a_thread_exit_loses_nothing(make());
    a_panic_loses_one_object(make());
    a_panic_while_dropping_loses_nothing(make());
    a_stalled_reader_keeps_what_it_must(make());
    nested_guards_count_as_the_first(make());
    who_blocks_is_told(make());
    synchronize_refuses_what_cannot_end(make());
    destructors_may_retire(make());
    destructors_with_handles_do_not_nest(make());
    late_in_a_thread_exit(make());
    domains_come_and_go(&make);
    a_forgotten_guard_keeps_its_section(make());
    a_guard_may_outlive_its_registration(make());
    the_last_drop_waits_for_threads_that_exit(&make);
    short_lived_threads_leave_little(make());
    sleepers_hold_nothing_of_others(make());
    destructors_that_retire_many(make());
    no_reader_sees_a_freed_node(make());
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

fn a_thread_exit_loses_nothing(reclaimer: Reclaimer) {
    let log = Log::default();
    // More than a bag, then less than one.
    for count in [70, 3] {
        let before = log.names().len();
        thread::scope(|scope| {
            let thread = scope.spawn(|| (0..count).for_each(|name| log.retire(&reclaimer, name)));
            // Joined by hand: a scope alone does not wait for thread-local destructors.
            thread.join().unwrap();
        });
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(log.names().len() - before, count);
    }
}

struct Bomb(Arc<AtomicUsize>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
        panic!("a destructor's panic, on purpose");
    }
}

/// Runs `work` with the panic hook silent.
fn quietly<R>(work: impl FnOnce() -> R) -> R {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = work();
    std::panic::set_hook(hook);
    result
}

fn a_panic_loses_one_object(reclaimer: Reclaimer) {
    let (log, bombs) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    log.retire(&reclaimer, 0);
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(Bomb(bombs.clone())))) };
    log.retire(&reclaimer, 1);
    let panicked = quietly(|| catch_unwind(AssertUnwindSafe(|| reclaimer.synchronize(soon()))));
    assert!(panicked.is_err(), "the panic comes out");
    assert_eq!(log.names(), [0]);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0, 1]);
    assert_eq!(bombs.load(Relaxed), 1, "freed once");
    assert_eq!(reclaimer.stats().waiting(), 0);
}

fn a_panic_while_dropping_loses_nothing(reclaimer: Reclaimer) {
    let (log, bombs) = (Log::default(), Arc::new(AtomicUsize::new(0)));
    for name in 0..3 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(Bomb(bombs.clone())))) };
        log.retire(&reclaimer, name);
    }
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(Fuse))) };
    log.retire(&reclaimer, 3);
    quietly(|| drop(reclaimer));
    assert_eq!((log.names().len(), bombs.load(Relaxed)), (4, 3));
}

/// A panic whose payload panics in its turn when it is dropped.
struct Fuse;

impl Drop for Fuse {
    fn drop(&mut self) {
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                panic!("a payload's panic, on purpose");
            }
        }
        std::panic::panic_any(Payload);
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
        assert_eq!(plain[0].thread.as_deref(), Some("a-slow-reader"));
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

fn destructors_may_retire(reclaimer: Reclaimer) {
    struct Chain(usize, Reclaimer, Log);
    impl Drop for Chain {
        fn drop(&mut self) {
            self.2.0.lock().unwrap().push(self.0);
            let _guard = self.1.pin();
            if self.0 > 0 {
                let next = Chain(self.0 - 1, self.1.clone(), self.2.clone());
                // SAFETY: fresh from a Box, retired once.
                unsafe { self.1.retire(Box::into_raw(Box::new(next))) };
            }
        }
    }
    let log = Log::default();
    let first = Chain(5, reclaimer.clone(), log.clone());
    // SAFETY: fresh from a Box, retired once.
    unsafe { reclaimer.retire(Box::into_raw(Box::new(first))) };
    let stop = soon();
    while log.names().len() < 6 {
        assert!(Instant::now() < stop);
        reclaimer.synchronize(soon()).unwrap();
    }
    assert_eq!(log.names(), [5, 4, 3, 2, 1, 0]);
}

/// Each destructor makes a handle and retires through it, while thousands of bags of exited threads wait:
/// none runs inside many others.
fn destructors_with_handles_do_not_nest(reclaimer: Reclaimer) {
    thread_local! {
        static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }
    static DEEPEST: AtomicUsize = AtomicUsize::new(0);
    struct Nests(*const Reclaimer);
    // SAFETY: the reclaimer outlives what it frees here (`synchronize` below).
    unsafe impl Send for Nests {}
    impl Drop for Nests {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() + 1);
            DEEPEST.fetch_max(DEPTH.get(), Relaxed);
            // SAFETY: as above; fresh from a Box, retired once.
            unsafe { (*self.0).handle().retire(Box::into_raw(Box::new(0u8))) };
            DEPTH.set(DEPTH.get() - 1);
        }
    }
    let guard = reclaimer.pin();
    for _ in 0..300 {
        thread::scope(|scope| {
            let retire = || {
                // SAFETY: fresh from a Box, retired once.
                unsafe { reclaimer.retire(Box::into_raw(Box::new(Nests(&reclaimer)))) };
            };
            scope.spawn(retire).join().unwrap();
        });
    }
    drop(guard);
    while reclaimer.stats().waiting() > 0 {
        reclaimer.synchronize(soon()).unwrap();
    }
    assert!(DEEPEST.load(Relaxed) <= 2, "{} deep", DEEPEST.load(Relaxed));
}

/// A thread-local destructor uses the reclaimer, both before and after the crate's own registry is
/// gone: destructors run in the reverse order of first use on some systems, in that order on others.
fn late_in_a_thread_exit(reclaimer: Reclaimer) {
    struct Late(Reclaimer, Log, usize);
    impl Drop for Late {
        fn drop(&mut self) {
            let outer = self.0.pin();
            let inner = self.0.pin();
            self.1.retire(&self.0, self.2);
            drop(outer);
            self.0.flush();
            drop(inner);
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let log = Log::default();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            EARLY.set(Some(Late(reclaimer.clone(), log.clone(), 1)));
            drop(reclaimer.pin());
            LATE.set(Some(Late(reclaimer.clone(), log.clone(), 2)));
        });
        thread.join().unwrap();
    });
    reclaimer.synchronize(soon()).unwrap();
    let mut names = log.names();
    names.sort_unstable();
    assert_eq!(names, [1, 2]);
}

fn domains_come_and_go(make: impl Fn() -> Reclaimer) {
    let log = Log::default();
    for name in 0..40 {
        let (one, two) = (make(), make());
        let guard = one.pin();
        log.retire(&two, 2 * name);
        two.synchronize(soon()).unwrap(); // another domain's guard holds nothing back here
        drop(guard);
        log.retire(&one, 2 * name + 1);
    }
    assert_eq!(log.names().len(), 80);
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

/// A guard in a thread-local that is dropped after the crate's own: its record goes back, and the
/// next thread takes it.
fn a_guard_may_outlive_its_registration(reclaimer: Reclaimer) {
    thread_local! {
        static HELD: RefCell<Option<barrierd_reclaim::Guard<'static>>> =
            const { RefCell::new(None) };
    }
    let reclaimer: &'static Reclaimer = Box::leak(Box::new(reclaimer));
    let log = Log::default();
    for name in 0..3 {
        let log = log.clone();
        let thread = thread::spawn(move || {
            HELD.with_borrow(|_| ()); // first, so that it is destroyed last
            HELD.set(Some(reclaimer.pin()));
            log.retire(reclaimer, name);
        });
        thread.join().unwrap();
        // Its section has ended with it.
        reclaimer.synchronize(soon()).unwrap();
    }
    assert_eq!(log.names(), [0, 1, 2]);
}

/// When the last clone's drop returns, everything is freed, also what a thread that exits at that
/// moment has retired.
fn the_last_drop_waits_for_threads_that_exit(make: impl Fn() -> Reclaimer) {
    unsafe fn set(flag: *mut AtomicBool) {
        // SAFETY: the flag outlives the reclaimer.
        unsafe { &*flag }.store(true, SeqCst);
    }
    for round in 0..60 {
        let reclaimer = make();
        let (flag, dropped) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let (clone, address, dropped) = (reclaimer.clone(), &flag, &dropped);
            scope.spawn(move || {
                let log = Log::default();
                (0..20_000).for_each(|name| log.retire(&clone, name));
                // SAFETY: `set` frees nothing.
                unsafe { clone.retire_with(core::ptr::from_ref(address).cast_mut(), set) };
                drop(clone);
                dropped.store(true, SeqCst);
            });
            while !dropped.load(SeqCst) {
                std::hint::spin_loop();
            }
            let until = Instant::now() + Duration::from_micros(round);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            drop(reclaimer);
            assert!(flag.load(SeqCst), "freed after the last clone's drop had returned");
        });
    }
}

fn short_lived_threads_leave_little(reclaimer: Reclaimer) {
    let log = Log::default();
    for i in 0..2000 {
        let (log, reclaimer) = (&log, &reclaimer);
        thread::scope(|scope| {
            let thread = scope.spawn(move || (0..20).for_each(|name| log.retire(reclaimer, name)));
            thread.join().unwrap();
        });
        if i % 100 == 99 {
            thread::sleep(Duration::from_millis(10)); // let a barrier pass
        }
    }
    let stats = reclaimer.stats();
    assert!(stats.waiting() < 20_000, "{stats:?}");
}

/// A thread that retires and then sleeps has not taken what an exited thread left.
fn sleepers_hold_nothing_of_others(reclaimer: Reclaimer) {
    let log = Log::default();
    thread::scope(|scope| scope.spawn(|| log.retire(&reclaimer, 7)).join().unwrap());
    let (asleep, wait_asleep) = mpsc::channel();
    let (wake, wait_wake) = mpsc::channel::<()>();
    let (shared, other) = (&log, &reclaimer);
    thread::scope(move |scope| {
        let sleeper = Log::default();
        scope.spawn(move || {
            (0..200).for_each(|name| sleeper.retire(other, name));
            asleep.send(()).unwrap();
            let _ = wait_wake.recv();
        });
        wait_asleep.recv().unwrap();
        other.synchronize(soon()).unwrap();
        assert_eq!(shared.names(), [7]);
        drop(wake);
    });
}

/// Each destructor retires three more: the frees keep up all the same.
fn destructors_that_retire_many(reclaimer: Reclaimer) {
    struct Parent(*const Reclaimer);
    // SAFETY: the reclaimer outlives what it frees here (`synchronize` below).
    unsafe impl Send for Parent {}
    impl Drop for Parent {
        fn drop(&mut self) {
            for name in 0..3u64 {
                // SAFETY: as above; fresh from a Box, retired once.
                unsafe { (*self.0).retire(Box::into_raw(Box::new(name))) };
            }
        }
    }
    let mut most = 0;
    for i in 0..40_000 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(Parent(&reclaimer)))) };
        if i % 2000 == 1999 {
            thread::sleep(Duration::from_millis(10)); // let a barrier pass
            most = most.max(reclaimer.stats().waiting());
        }
    }
    // 160,000 objects in all; without the frees that destructors leave over, half would wait.
    assert!(most < 40_000, "{most} waiting; {:?}", reclaimer.stats());
    while reclaimer.stats().waiting() > 0 {
        reclaimer.synchronize(soon()).unwrap();
    }
}

/// Readers that check for poison and two writers, one of them pausing, while `during` runs. Everything
/// that was retired is freed within `soon` afterwards.
#[allow(dead_code, reason = "not every test program breaks things under load")]
pub(crate) fn under_load(reclaimer: &Reclaimer, during: impl FnOnce()) {
    unsafe fn poison(node: *mut Node) {
        // SAFETY: nodes are leaked by this test, never deallocated.
        unsafe { &*node }.name.store(POISON, Relaxed);
    }
    let fresh = |name| Box::into_raw(Box::new(Node { name: AtomicU64::new(name) }));
    let cells: Vec<AtomicPtr<Node>> = (0..4).map(|i| AtomicPtr::new(fresh(i))).collect();
    let done = AtomicBool::new(false);
    struct Done<'d>(&'d AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    thread::scope(|scope| {
        for reader in 0..2 {
            let (cells, done) = (&cells, &done);
            scope.spawn(move || {
                let mut reads = 0usize;
                while !done.load(Relaxed) {
                    let guard = reclaimer.pin();
                    // SAFETY: protected while the guard lives.
                    let node = unsafe { &*guard.protect(&cells[(reads + reader) % 4]) };
                    let name = node.name.load(Relaxed);
                    assert_ne!(name, POISON, "reached after it was freed");
                    for _ in 0..(reads % 8) * 64 {
                        assert_eq!(node.name.load(Relaxed), name, "freed while pinned");
                    }
                    reads += 1;
                    if reads.is_multiple_of(4096) {
                        thread::sleep(Duration::from_micros(200));
                    }
                }
            });
        }
        for writer in 0..2usize {
            let (cells, done) = (&cells, &done);
            scope.spawn(move || {
                let mut name = 4usize;
                while !done.load(Relaxed) {
                    let old = cells[(name + writer) % 4].swap(fresh(name as u64), AcqRel);
                    // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
                    unsafe { reclaimer.retire_with(old, poison) };
                    name += 1;
                    if name.is_multiple_of(32) {
                        let pause = if writer == 0 { 100 } else { 12_000 };
                        thread::sleep(Duration::from_micros(pause));
                    }
                }
            });
        }
        let _done = Done(&done);
        during();
    });
    let stop = soon();
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < stop, "{:?} {:?}", reclaimer.status(), reclaimer.stats());
        thread::sleep(Duration::from_millis(5));
    }
}

const POISON: u64 = u64::MAX;

/// A node whose memory stays readable after it is "freed", so that a reader that still holds it
/// sees the poison.
struct Node {
    name: AtomicU64,
}

/// Readers re-read a node's name while pinned, against nodes that are poisoned and used again when
/// they are freed. Counting alone is nearly blind: a reclaimer that ignores pins would count right.
fn no_reader_sees_a_freed_node(reclaimer: Reclaimer) {
    static FREED: AtomicUsize = AtomicUsize::new(0);
    unsafe fn poison(node: *mut Node) {
        // SAFETY: nodes are leaked by this test, never deallocated.
        unsafe { &*node }.name.store(POISON, Relaxed);
        FREED.fetch_add(1, Relaxed);
    }
    FREED.store(0, Relaxed);
    let fresh = |name| Box::into_raw(Box::new(Node { name: AtomicU64::new(name) }));
    let cells: Vec<AtomicPtr<Node>> = (0..4).map(|i| AtomicPtr::new(fresh(i))).collect();
    let names = AtomicU64::new(100);
    let done = AtomicBool::new(false);
    let start = Barrier::new(4);
    let writes = 60_000;
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let (cells, done, start, reclaimer) = (&cells, &done, &start, &reclaimer);
                scope.spawn(move || {
                    start.wait();
                    let mut reads = 0usize;
                    while !done.load(Relaxed) {
                        let guard = reclaimer.pin();
                        // SAFETY: protected while the guard lives.
                        let node = unsafe { &*guard.protect(&cells[(reads + reader) % 4]) };
                        let name = node.name.load(Relaxed);
                        for _ in 0..(reads % 8) * 16 {
                            let again = node.name.load(Relaxed);
                            assert!(again != POISON && again == name, "freed while pinned");
                        }
                        assert_ne!(name, POISON, "reached after it was freed");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (cells, names, start, reclaimer) = (&cells, &names, &start, &reclaimer);
                scope.spawn(move || {
                    start.wait();
                    for i in 0..writes {
                        let new = fresh(names.fetch_add(1, Relaxed));
                        let old = cells[(i + writer) % 4].swap(new, AcqRel);
                        // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
                        unsafe { reclaimer.retire_with(old, poison) };
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Relaxed);
        let reads: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(reads > 0);
    });
    let stop = soon();
    while FREED.load(Relaxed) < 2 * writes {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        reclaimer.synchronize(soon()).unwrap();
    }
}
