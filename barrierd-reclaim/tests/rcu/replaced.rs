//! What was replaced can be had back, asked for and waited for.

use super::*;
use barrierd_reclaim::SynchronizeError;
use std::sync::mpsc;
use std::thread;

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
