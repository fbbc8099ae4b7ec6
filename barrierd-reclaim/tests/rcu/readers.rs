//! What guards and readers keep: their own value, and no other.

use super::*;
use barrierd_reclaim::{MappedReadGuard, ReadGuard};
use std::thread;

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

/// Boxes of no size have one address; so a reader by address alone would keep them all, and every closure that captures
/// nothing.
#[test]
fn a_reader_of_values_without_size_keeps_one_and_nothing_else() {
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    static RUN: AtomicUsize = AtomicUsize::new(0);
    struct Token;
    impl Drop for Token {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, SeqCst);
        }
    }
    #[repr(align(64))]
    struct Aligned;
    for reclaimer in sources() {
        DROPPED.store(0, SeqCst);
        RUN.store(0, SeqCst);
        let cell = Rcu::with_reclaimer(Token, &reclaimer);
        let aligned = Rcu::with_reclaimer(Aligned, &reclaimer);
        let (mut reader, mut other) = (cell.reader(), aligned.reader());
        reader.get();
        assert_eq!(core::ptr::from_ref(other.get()).addr() % 64, 0);
        for _ in 0..1_000 {
            cell.store(Token);
            reclaimer.defer(|| {
                RUN.fetch_add(1, SeqCst);
            });
            reclaimer.retire_value(Token);
        }
        assert!(reader.is_stale());
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!((DROPPED.load(SeqCst), RUN.load(SeqCst)), (1_999, 1_000), "all but the first");
        let units = Rcu::with_reclaimer((), &reclaimer);
        let old = units.swap(());
        old.wait(soon()).unwrap();
        assert!(old.try_unwrap().is_ok());
        reader.get();
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(DROPPED.load(SeqCst), 2_000);
        drop((reader, other));
        drop(cell);
        assert_eq!(DROPPED.load(SeqCst), 2_001);
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
                let latest = ReadGuard::latest(&seen);
                assert_eq!(latest.check(), n);
                cell.store(Value::new(n + 1, &dropped));
                (0..4).for_each(|_| reclaimer.flush());
                latest
            })
            .collect();
        assert!((0..10).eq(all.iter().map(|value| value.check())));
        assert_eq!(
            (seen.check(), ReadGuard::latest(&seen).check(), dropped.load(SeqCst)),
            (0, 10, 0)
        );
        seen.refresh();
        reclaimer.flush();
        assert_eq!((seen.check(), ReadGuard::latest(&seen).check()), (10, 10));
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
