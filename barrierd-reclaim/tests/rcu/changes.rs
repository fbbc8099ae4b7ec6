//! Updates and exchanges; what panics in a change and in a drop leave; what a drop may do.

use super::*;
use barrierd_reclaim::SynchronizeError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

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

/// Boxes of no size have one address.
#[test]
fn values_without_size_are_told_apart() {
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
    let seen = cell.read();
    drop(cell.compare_exchange(&seen, Token).expect("not replaced yet"));
    drop(cell.compare_exchange(&seen, Token).expect_err("another one"));
    drop(seen);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(dropped(), 3);
    let mut reader = cell.reader();
    reader.get();
    cell.store(Token);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(dropped(), 3, "it is read");
    drop(reader);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(dropped(), 4);
    let old = cell.swap(Token);
    old.wait(soon()).unwrap();
    drop(old.try_unwrap().expect("nobody reads it"));
    drop((cell, other));
    assert_eq!(dropped(), 7);
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
