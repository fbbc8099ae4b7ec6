//! The cell: against a plain model, under load, with panics, and what each call promises.

#[path = "common/sources.rs"]
mod sources;

use barrierd_reclaim::{Builder, MappedReadGuard, Rcu, ReadGuard, Reclaimer, Retired, Source};
use barrierd_reclaim::{OwnedReadGuard, Reader, SynchronizeError};
use proptest::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Without the background thread, so that each call says what it does.
fn sources() -> impl Iterator<Item = Reclaimer> {
    let make = |source| Builder::default().source(source).background(false).build().unwrap();
    let bought = sources::BOUGHT.then_some(Source::Membarrier);
    [Source::Auto, Source::Fence].into_iter().chain(bought).map(make)
}

/// Counts what is dropped, and shows whether it was.
struct Value {
    n: u64,
    alive: AtomicU64,
    dropped: Arc<AtomicUsize>,
}

const ALIVE: u64 = 0xa11e;

impl Value {
    fn new(n: u64, dropped: &Arc<AtomicUsize>) -> Value {
        Value { n, alive: AtomicU64::new(ALIVE), dropped: dropped.clone() }
    }

    fn check(&self) -> u64 {
        assert_eq!(self.alive.load(Relaxed), ALIVE, "read after its drop");
        self.n
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.alive.swap(0, SeqCst), ALIVE, "dropped twice");
        self.dropped.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_value_is_dropped_once_nobody_reads_it() {
    for reclaimer in sources() {
        let dropped = Arc::default();
        let cell = Rcu::with_reclaimer(Value::new(1, &dropped), &reclaimer);
        let seen = cell.read();
        cell.store(Value::new(2, &dropped));
        reclaimer.flush();
        assert_eq!((seen.check(), cell.peek(Value::check)), (1, 2));
        assert_eq!(dropped.load(SeqCst), 0);
        drop(seen);
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(dropped.load(SeqCst), 1);
        drop(cell);
        assert_eq!(dropped.load(SeqCst), 2, "the current one goes with the cell");
    }
}

#[test]
fn a_reader_keeps_the_last_value_that_it_got_and_no_other() {
    for reclaimer in sources() {
        let dropped = Arc::default();
        let cell = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
        let mut reader = cell.reader();
        assert!(reader.is_stale());
        assert_eq!(reader.get().check(), 0);
        assert!(!reader.is_stale());
        for n in 1..10 {
            cell.store(Value::new(n, &dropped));
            reclaimer.synchronize(soon()).unwrap();
            assert!(reader.is_stale());
        }
        assert_eq!(dropped.load(SeqCst), 8, "all but the first and the last");
        assert_eq!(reader.get().check(), 9);
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(dropped.load(SeqCst), 9);
        cell.store(Value::new(10, &dropped));
        reader.release();
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(dropped.load(SeqCst), 10);
        assert_eq!(reader.get().check(), 10);
    }
}

/// What `latest` returned stays until the guard is refreshed, and goes then.
#[test]
fn a_guard_that_reads_on_keeps_what_it_read() {
    for reclaimer in sources() {
        let dropped = Arc::default();
        let cell = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
        let mut seen = cell.read();
        let all: Vec<&Value> = (0..10)
            .map(|n| {
                let latest = seen.latest();
                assert_eq!(latest.check(), n);
                cell.store(Value::new(n + 1, &dropped));
                (0..4).for_each(|_| reclaimer.flush());
                latest
            })
            .collect();
        assert!((0..10).eq(all.iter().map(|value| value.check())));
        assert_eq!((seen.check(), seen.latest().check(), dropped.load(SeqCst)), (0, 10, 0));
        seen.refresh();
        reclaimer.flush();
        assert_eq!((seen.check(), seen.latest().check()), (10, 10));
        drop(seen);
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(dropped.load(SeqCst), 10);
    }
}

/// The same value as before, which it must hold anew.
#[test]
fn a_reader_that_let_a_value_go_takes_hold_of_it_again() {
    for reclaimer in sources() {
        let dropped = Arc::default();
        let cell = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
        let mut reader = cell.reader();
        assert_eq!(reader.get().check(), 0);
        reader.release();
        assert!(reader.is_stale());
        let seen = reader.get();
        cell.store(Value::new(1, &dropped));
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!((seen.check(), dropped.load(SeqCst)), (0, 0));
    }
}

/// A reference from a guard that is never dropped may go to another thread, and be used after the guard's thread has
/// exited.
#[test]
fn what_a_forgotten_guard_keeps_outlives_its_thread() {
    for reclaimer in sources() {
        let dropped = Arc::default();
        let cell = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
        thread::scope(|scope| {
            let cell = &cell;
            let by_reader = || Box::leak(Box::new(cell.reader())).get();
            let first = scope.spawn(by_reader).join().unwrap();
            cell.store(Value::new(1, &dropped));
            reclaimer.synchronize(soon()).unwrap();
            let by_guard = || &**Box::leak(Box::new(cell.read()));
            let second = scope.spawn(by_guard).join().unwrap();
            cell.store(Value::new(2, &dropped));
            // Threads that would take the records over.
            for _ in 0..4 {
                let other = || (cell.peek(Value::check), cell.reader().get().check());
                assert_eq!(scope.spawn(other).join().unwrap(), (2, 2));
            }
            let late = Instant::now() + Duration::from_millis(20);
            assert!(reclaimer.synchronize(late).is_err(), "a guard is open");
            assert_eq!((first.check(), second.check(), dropped.load(SeqCst)), (0, 1, 0));
        });
        drop(cell);
        drop(reclaimer);
        assert_eq!(dropped.load(SeqCst), 3);
    }
}

#[test]
fn what_was_replaced_can_be_had_back() {
    for reclaimer in sources() {
        let dropped = Arc::default();
        let cell = Rcu::with_reclaimer(Value::new(1, &dropped), &reclaimer);
        let seen = cell.read();
        let old = cell.swap(Value::new(2, &dropped));
        assert_eq!(old.check(), 1);
        assert_eq!(old.wait(soon()), Err(SynchronizeError::Pinned), "it could never end");
        let old = old.try_unwrap().err().expect("it is read");
        drop(seen);
        old.wait(soon()).unwrap();
        let old = old.try_unwrap().expect("nobody reads it");
        assert_eq!((old.check(), dropped.load(SeqCst)), (1, 0));
        drop(old);
        // Waited for, and not taken.
        let old = cell.swap(Value::new(3, &dropped));
        old.wait(soon()).unwrap();
        drop(old);
        assert_eq!(dropped.load(SeqCst), 2);
        drop(cell);
        assert_eq!((dropped.load(SeqCst), reclaimer.stats().retired), (3, 0));
    }
}

/// Without a wait: asked often enough, it comes.
#[test]
fn what_was_replaced_can_be_asked_for() {
    for reclaimer in sources() {
        let cell = Rcu::with_reclaimer(String::from("a"), &reclaimer);
        let mut reader = cell.reader();
        assert_eq!(reader.get(), "a");
        let mut old = cell.swap(String::from("b"));
        let (mut tries, late) = (0, soon());
        loop {
            match old.try_unwrap() {
                Ok(value) => break assert_eq!(value, "a"),
                Err(again) => old = again,
            }
            tries += 1;
            if tries == 3 {
                assert_eq!(reader.get(), "b");
            }
            assert!(Instant::now() < late, "it is never had");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(tries >= 3, "taken from under a reader");
    }
}

#[test]
fn a_wait_ends_with_the_reader_on_another_thread() {
    for reclaimer in sources() {
        let cell = Rcu::with_reclaimer(1, &reclaimer);
        let late = || Instant::now() + Duration::from_millis(20);
        thread::scope(|scope| {
            // Within, so that the thread ends if an assertion fails here.
            let (ready, is_ready) = mpsc::channel();
            let (go, gone) = mpsc::channel::<()>();
            let cell = &cell;
            scope.spawn(move || {
                let mut reader = cell.reader();
                let seen = (*reader.get(), cell.read());
                ready.send(()).unwrap();
                gone.recv().unwrap();
                assert_eq!((seen.0, *seen.1), (1, 1));
                drop(seen);
                // The reader keeps it.
                ready.send(()).unwrap();
                gone.recv().unwrap();
                assert_eq!(*reader.get(), 2);
            });
            is_ready.recv().unwrap();
            let old = cell.swap(2);
            let readers = SynchronizeError::Readers { readers: 1 };
            assert_eq!(old.wait(late()), Err(readers.clone()));
            go.send(()).unwrap();
            is_ready.recv().unwrap();
            assert_eq!(old.wait(late()), Err(readers), "a reader's value");
            go.send(()).unwrap();
            old.wait(soon()).unwrap();
            assert!(old.try_unwrap().is_ok());
        });
    }
}

/// What a thread has retired is not kept because it waits for something else.
#[test]
fn a_wait_for_one_value_keeps_no_other() {
    let reclaimer = Builder::default().background(true).build().unwrap();
    let dropped = Arc::default();
    let cell = Rcu::with_reclaimer(0, &reclaimer);
    let other = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
    let (ready, is_ready) = mpsc::channel();
    thread::scope(|scope| {
        let (cell, dropped) = (&cell, &dropped);
        scope.spawn(move || {
            let mut reader = cell.reader();
            assert_eq!(*reader.get(), 0);
            ready.send(()).unwrap();
            let late = soon();
            while dropped.load(SeqCst) == 0 {
                assert!(Instant::now() < late, "kept by a thread that waits for another value");
                thread::sleep(Duration::from_millis(1));
            }
        });
        is_ready.recv().unwrap();
        other.store(Value::new(1, dropped));
        let old = cell.swap(1);
        old.wait(soon() + Duration::from_secs(60)).unwrap();
        assert_eq!(old.try_unwrap().ok(), Some(0));
    });
}

#[test]
fn an_update_sees_what_it_replaces() {
    let cell = Rcu::new(0u64);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2_000).for_each(|_| drop(cell.update(|n| n + 1))));
        }
    });
    assert_eq!(*cell.read(), 8_000);
    assert!(cell.try_update(|_| None).is_none());
    assert_eq!(cell.try_update(|n| Some(n + 1)).map(|old| *old), Some(8_000));
    assert_eq!(cell.into_inner(), 8_001);
}

#[test]
fn only_the_value_that_was_read_is_exchanged() {
    let (cell, other) = (Rcu::new(1), Rcu::new(1));
    let seen = cell.read();
    let elsewhere = other.read();
    assert_eq!(cell.compare_exchange(&elsewhere, 2).err(), Some(2), "another cell's");
    cell.store(1);
    assert_eq!(cell.compare_exchange(&seen, 3).err(), Some(3), "equal, but another one");
    let seen = cell.read();
    assert_eq!(*cell.compare_exchange(&seen, 4).unwrap(), 1);
    assert_eq!((*seen, *cell.read()), (1, 4));
}

/// Values without size have one address, in all cells.
#[test]
fn values_without_size_belong_to_their_cells() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug, PartialEq)]
    struct Token;
    impl Drop for Token {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    let dropped = || DROPPED.load(SeqCst);
    let reclaimer = Reclaimer::builder().background(false).build().unwrap();
    let make = || Rcu::with_reclaimer(Token, &reclaimer);
    let (cell, other) = (make(), make());
    let elsewhere = other.read();
    drop(cell.compare_exchange(&elsewhere, Token).expect_err("another cell's"));
    assert_eq!(dropped(), 1);
    drop(elsewhere);
    let mut reader = cell.reader();
    reader.get();
    cell.store(Token);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(dropped(), 1, "it is read");
    drop(reader);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(dropped(), 2);
    let old = cell.swap(Token);
    old.wait(soon()).unwrap();
    drop(old.try_unwrap().expect("nobody reads it"));
    drop((cell, other));
    assert_eq!(dropped(), 5);
}

#[test]
fn a_panic_in_a_change_leaves_the_value() {
    let dropped = Arc::default();
    let reclaimer = Reclaimer::builder().background(false).build().unwrap();
    let cell = Rcu::with_reclaimer(Value::new(1, &dropped), &reclaimer);
    let change = || drop(cell.update(|_| panic!("a change's panic, on purpose")));
    assert!(catch_unwind(AssertUnwindSafe(change)).is_err());
    assert_eq!(cell.read().check(), 1);
    assert!(reclaimer.blockers().is_empty(), "the section has ended");
    let peek = || cell.peek(|_| panic!("a reader's panic, on purpose"));
    assert!(catch_unwind(AssertUnwindSafe(peek)).is_err());
    assert!(reclaimer.blockers().is_empty(), "the section has ended");
    assert_eq!(dropped.load(SeqCst), 0);
}

#[test]
fn a_panic_in_a_drop_loses_one_value() {
    struct Bomb(Arc<AtomicUsize>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            panic!("a value's panic, on purpose");
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let reclaimer = Reclaimer::builder().background(false).build().unwrap();
    let cell = Rcu::with_reclaimer(Some(Bomb(dropped.clone())), &reclaimer);
    let guard = cell.read();
    cell.store(Some(Bomb(dropped.clone())));
    cell.store(None);
    drop(guard);
    for _ in 0..2 {
        let panics = || reclaimer.synchronize(soon());
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    }
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(dropped.load(SeqCst), 2);
    assert!(cell.read().is_none());
}

/// A value whose drop replaces the value of a cell, and waits and asks for it in vain.
#[test]
fn a_drop_may_use_cells() {
    struct Last(Arc<Rcu<usize>>, Arc<Mutex<Vec<SynchronizeError>>>);
    impl Drop for Last {
        fn drop(&mut self) {
            let old = self.0.update(|n| n + 1);
            self.1.lock().unwrap().extend(old.wait(soon()).err());
            assert!(old.try_unwrap().is_err());
        }
    }
    for reclaimer in sources() {
        let count = Arc::new(Rcu::with_reclaimer(0, &reclaimer));
        let errors = Arc::default();
        let last = || Some(Last(count.clone(), Arc::clone(&errors)));
        let cell = Rcu::with_reclaimer(last(), &reclaimer);
        let guard = cell.read();
        cell.store(last());
        cell.store(None);
        drop(guard);
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(*count.read(), 2);
        assert_eq!(*errors.lock().unwrap(), [(); 2].map(|()| SynchronizeError::InDestructor));
    }
}

#[test]
fn a_store_under_a_guard_is_no_deadlock() {
    let reclaimer = Reclaimer::new();
    let cell = Rcu::with_reclaimer(vec![0u8; 100], &reclaimer);
    let seen = cell.read();
    let owned = cell.read_owned();
    for n in 0..200 {
        cell.store(vec![n; 100]);
        assert_eq!((seen[99], owned[99]), (0, 0));
    }
}

#[test]
fn guards_go_on_with_parts_and_refresh() {
    let cell = Rcu::new((1, vec![String::from("a")]));
    let names = ReadGuard::map(cell.read(), |value| &value.1);
    let name = MappedReadGuard::map(names, |names| names[0].as_str());
    let mut owned = cell.read_owned();
    cell.store((2, vec![]));
    assert_eq!((&*name, owned.0), ("a", 1));
    drop(name);
    owned.refresh();
    assert_eq!(owned.0, 2);
    assert_eq!(format!("{owned:?} {:?} {cell:?}", cell.read()), "(2, []) (2, []) Rcu((2, []))");
    assert_eq!(cell.read().0.to_string(), ReadGuard::map(cell.read(), |v| &v.0).to_string());
}

#[test]
fn small_things() {
    let mut cell = Rcu::from(1);
    *cell.get_mut() += 1;
    assert_eq!((*cell.read(), *Rcu::<u8>::default().read()), (2, 0));
    let shared = Rcu::new(Arc::new(7));
    let own = shared.load_full();
    shared.store(Arc::new(8));
    assert_eq!((*own, **shared.read()), (7, 8));
    // Values without size, and values that borrow.
    let nothing = Rcu::new(());
    nothing.store(());
    assert_eq!((*nothing.read(), *nothing.reader().get()), ((), ()));
    let text = String::from("short-lived");
    assert_eq!(Rcu::new(text.as_str()).into_inner(), "short-lived");
    assert_eq!(Rcu::new(Some(1)).take().map(|n| n + 1), Some(2));
}

#[test]
fn cells_may_be_used_late_in_a_thread_exit() {
    struct Late(Arc<Rcu<u64>>);
    impl Drop for Late {
        fn drop(&mut self) {
            let before = *self.0.read();
            self.0.store(before + 1);
            assert_eq!(*self.0.reader().get(), before + 1);
        }
    }
    thread_local! {
        static LATE: Cell<Option<Late>> = const { Cell::new(None) };
    }
    let reclaimer = Reclaimer::builder().background(false).build().unwrap();
    let cell = Arc::new(Rcu::with_reclaimer(0, &reclaimer));
    for _ in 0..20 {
        let cell = cell.clone();
        // Before the cell's own thread-local, so dropped after it.
        let late = move || {
            LATE.set(Some(Late(cell.clone())));
            cell.update(|n| n + 1);
        };
        thread::spawn(late).join().unwrap();
    }
    assert_eq!(*cell.read(), 40);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 0);
}

/// Readers of each kind against writers of each kind; each value shows its drop.
#[test]
fn nobody_reads_what_was_dropped() {
    let served = Builder::default().build().unwrap();
    for reclaimer in sources().chain([served]) {
        let dropped = Arc::default();
        let made = AtomicUsize::new(1);
        let cell = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
        let stop = AtomicBool::new(false);
        let new = |n| {
            made.fetch_add(1, Relaxed);
            Value::new(n, &dropped)
        };
        thread::scope(|scope| {
            let readers: [fn(&Rcu<Value>) -> u64; 4] = [
                |cell| cell.read().check(),
                |cell| cell.peek(Value::check),
                |cell| ReadGuard::map(cell.read(), |value| value).check(),
                |cell| cell.read_owned().check(),
            ];
            let mut threads = Vec::new();
            for read in readers {
                let (cell, stop) = (&cell, &stop);
                threads.push(scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        read(cell);
                    }
                }));
            }
            threads.push(scope.spawn(|| {
                let (mut reader, mut last) = (cell.reader(), 0);
                while !stop.load(Relaxed) {
                    let seen = reader.get().check();
                    assert!(seen >= last, "an older value");
                    last = seen;
                }
            }));
            threads.push(scope.spawn(|| {
                while !stop.load(Relaxed) {
                    cell.update(|old| new(old.check() + 1));
                    let old = cell.update(|old| new(old.check() + 1));
                    old.check();
                    if old.wait(soon()).is_ok() {
                        old.try_unwrap().expect("nobody reads it").check();
                    }
                }
            }));
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Relaxed);
            // By name: the scope's end does not wait until what they hold is handed over.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        drop(cell);
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(dropped.load(SeqCst), made.load(Relaxed));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read,
    DropGuard(usize),
    Refresh(usize),
    Get,
    Release,
    Store,
    Update,
    Exchange(usize),
    Swap,
    DropRetired(usize),
    Unwrap(usize),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Read),
        3 => (0..4usize).prop_map(Step::DropGuard),
        1 => (0..4usize).prop_map(Step::Refresh),
        2 => Just(Step::Get),
        1 => Just(Step::Release),
        3 => Just(Step::Store),
        1 => Just(Step::Update),
        1 => (0..4usize).prop_map(Step::Exchange),
        2 => Just(Step::Swap),
        1 => (0..4usize).prop_map(Step::DropRetired),
        2 => (0..4usize).prop_map(Step::Unwrap),
        2 => Just(Step::Flush),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against a number behind a `Mutex`. Whatever is held is alive and unchanged; in the end each value was dropped once.
    #[test]
    fn a_cell_is_a_variable(steps in steps(), fenced in any::<bool>()) {
        let source = if fenced { Source::Fence } else { Source::Auto };
        let reclaimer = Builder::default().source(source).background(false).build().unwrap();
        let dropped = Arc::default();
        let model = Mutex::new(0u64);
        let made = Cell::new(0);
        let new = || {
            made.set(made.get() + 1);
            *model.lock().unwrap() = made.get();
            Value::new(made.get(), &dropped)
        };
        let first = new();
        let cell = Rcu::with_reclaimer(first, &reclaimer);
        let mut guards: Vec<(ReadGuard<'_, Value>, u64)> = Vec::new();
        let mut retired: Vec<(Retired<'_, Value>, u64)> = Vec::new();
        let mut reader = cell.reader();
        let mut kept = None;
        for step in steps {
            let now = *model.lock().unwrap();
            match step {
                Step::Read => guards.push((cell.read(), now)),
                Step::DropGuard(i) if i < guards.len() => drop(guards.remove(i)),
                Step::Refresh(i) if i < guards.len() => {
                    // Where it is the only one, the others' values could go.
                    guards[i].0.refresh();
                    guards[i].1 = now;
                }
                Step::Get => {
                    prop_assert_eq!(reader.get().check(), now);
                    kept = Some(now);
                }
                Step::Release => {
                    reader.release();
                    kept = None;
                }
                Step::Store => cell.store(new()),
                Step::Update => retired.push((cell.update(|_| new()), now)),
                Step::Exchange(i) if i < guards.len() => {
                    let is_current = guards[i].1 == now;
                    let value = Value::new(now + 1_000, &dropped);
                    made.set(made.get() + 1);
                    match cell.compare_exchange(&guards[i].0, value) {
                        Ok(old) => {
                            prop_assert!(is_current);
                            *model.lock().unwrap() = now + 1_000;
                            retired.push((old, now));
                        }
                        Err(value) => prop_assert!(!is_current && value.check() == now + 1_000),
                    }
                }
                Step::Swap => retired.push((cell.swap(new()), now)),
                Step::DropRetired(i) if i < retired.len() => drop(retired.remove(i)),
                Step::Unwrap(i) if i < retired.len() => {
                    let (old, n) = retired.remove(i);
                    match old.try_unwrap() {
                        Ok(value) => {
                            prop_assert_eq!(value.check(), n);
                            prop_assert!(guards.iter().all(|guard| guard.1 != n), "it is read");
                            prop_assert!(kept != Some(n), "a reader keeps it");
                        }
                        Err(old) => retired.push((old, n)),
                    }
                }
                Step::Flush => reclaimer.flush(),
                _ => {}
            }
            prop_assert_eq!(cell.peek(Value::check), *model.lock().unwrap());
            prop_assert!(guards.iter().all(|(guard, n)| guard.check() == *n));
            prop_assert!(retired.iter().all(|(old, n)| old.check() == *n));
        }
        drop((guards, retired, reader));
        drop(cell);
        reclaimer.synchronize(soon()).unwrap();
        prop_assert_eq!(dropped.load(SeqCst), usize::try_from(made.get()).unwrap());
    }
}

const fn sent<T: Send>() {}
const fn shared<T: Sync>() {}

/// What may cross threads: the compile-fail twins stand in the documentation.
const _: () = {
    sent::<Rcu<Cell<u8>>>();
    sent::<Rcu<u8>>();
    shared::<Rcu<u8>>();
    sent::<Retired<'_, u8>>();
    sent::<OwnedReadGuard<'_, u8>>();
    shared::<OwnedReadGuard<'_, u8>>();
    let _: Option<fn(Reader<'_, u8>)> = None;
};

#[cfg(feature = "serde")]
#[test]
fn it_is_written_and_read_as_its_value() {
    let cell: Rcu<Vec<u8>> = serde_json::from_str("[1,2]").unwrap();
    cell.update(|old| old.iter().copied().chain([3]).collect());
    assert_eq!(serde_json::to_string(&cell).unwrap(), "[1,2,3]");
}
