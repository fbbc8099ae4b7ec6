//! Guards, handles and collectors: who keeps whom, and what holds garbage back.

use super::{Counted, counter, drain, late, wait_for};
use barrierd_reclaim::epoch::{self, Collector, Guard, LocalHandle, Owned, Shared, unprotected};
use barrierd_reclaim::{Reclaimer, Source};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

/// Without a source too: there every guard goes the slow way.
fn each(work: impl Fn(&Collector)) {
    work(&Collector::new());
    let fences = Reclaimer::builder().source(Source::Fence);
    work(&Collector::build(fences).expect("fences can always be had"));
}

/// Defers on another thread, and tells whether it was called soon.
fn goes(collector: &Collector) -> bool {
    let called = counter();
    thread::scope(|scope| {
        scope.spawn(|| collector.register().pin().defer(|| called.fetch_add(1, SeqCst)));
    });
    let soon = Instant::now() + Duration::from_millis(150);
    while called.load(SeqCst) == 0 && Instant::now() < soon {
        collector.register().pin().flush();
        thread::sleep(Duration::from_millis(2));
    }
    called.load(SeqCst) == 1
}

#[test]
fn guards_nest_and_the_last_one_lets_go() {
    each(|collector| {
        let handle = collector.register();
        assert!(!handle.is_pinned());
        let guards: Vec<Guard> = (0..600).map(|_| handle.pin()).collect();
        for guard in guards {
            assert!(handle.is_pinned() && guard.collector() == Some(collector));
            drop(guard);
        }
        assert!(!handle.is_pinned() && goes(collector));
        let (first, second) = (handle.pin(), handle.pin());
        drop(first);
        assert!(handle.is_pinned() && !goes(collector));
        drop(second);
        drain(collector);
    });
}

#[test]
fn handles_of_one_thread_are_apart() {
    each(|collector| {
        let (one, other) = (collector.register(), collector.register());
        let guard = one.pin();
        assert!(one.is_pinned() && !other.is_pinned());
        drop(other.pin());
        assert!(one.is_pinned());
        drop(guard);
        assert!(!one.is_pinned());
    });
}

#[test]
fn a_guard_outlives_handle_and_collector() {
    each(|collector| {
        let dropped = counter();
        let own = collector.clone();
        let handle = own.register();
        let (guard, second) = (handle.pin(), handle.pin());
        drop((handle, own));
        assert_eq!(guard.collector(), Some(collector));
        assert_eq!(collector.blockers().len(), 1);
        drop(second);
        assert_eq!(collector.blockers().len(), 1);
        let object = Owned::new(Counted(dropped)).into_shared(&guard);
        // SAFETY: nobody knows it.
        unsafe { guard.defer_destroy(object) };
        assert!(!goes(collector));
        drop(guard);
        assert!(collector.blockers().is_empty());
        drain(collector);
        assert_eq!(dropped.load(SeqCst), 1);
    });
}

#[test]
fn the_last_owner_calls_all() {
    for owner in 0..3 {
        let called = counter();
        let collector = Collector::new();
        let handle = collector.register();
        let guard = handle.pin();
        (0..1000).for_each(|_| guard.defer(|| called.fetch_add(1, SeqCst)));
        // The last one is each of them in turn.
        match owner {
            0 => drop((guard, handle, collector)),
            1 => drop((collector, guard, handle)),
            _ => drop((handle, collector, guard)),
        }
        assert_eq!(called.load(SeqCst), 1000, "owner {owner}");
    }
}

#[test]
fn repin_lets_go_what_came_before() {
    each(|collector| {
        let handle = collector.register();
        let mut guard = handle.pin();
        assert!(!goes(collector));
        let called = counter();
        guard.defer(|| called.fetch_add(1, SeqCst));
        // Of a handle that is gone as of one that is there.
        drop(handle);
        let late = late();
        while called.load(SeqCst) == 0 {
            assert!(Instant::now() < late, "repin lets nothing go");
            guard.repin();
            guard.flush();
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(collector.blockers().len(), 1);
        drop(guard);
        assert!(collector.blockers().is_empty());
    });
}

#[test]
fn repin_of_one_guard_of_two_does_nothing() {
    each(|collector| {
        let handle = collector.register();
        let (first, mut second) = (handle.pin(), handle.pin());
        let called = counter();
        thread::scope(|scope| {
            scope.spawn(|| collector.register().pin().defer(|| called.fetch_add(1, SeqCst)));
        });
        for _ in 0..30 {
            second.repin();
            second.repin_after(|| assert!(handle.is_pinned()));
            second.flush();
            thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(called.load(SeqCst), 0);
        drop((first, second));
        drain(collector);
    });
}

#[test]
fn repin_after_unpins_meanwhile() {
    each(|collector| {
        let handle = collector.register();
        let mut guard = handle.pin();
        let answer = guard.repin_after(|| {
            assert!(!handle.is_pinned());
            drop(handle.pin());
            assert!(goes(collector));
            42
        });
        assert_eq!((answer, handle.is_pinned()), (42, true));
        let panics = AssertUnwindSafe(|| guard.repin_after(|| panic!("on purpose")));
        assert!(catch_unwind(panics).is_err());
        assert!(handle.is_pinned());
        // The other guard ends meanwhile, and the handle goes.
        let other = handle.pin();
        guard.repin_after(move || {
            assert!(handle.is_pinned());
            drop((other, handle));
            assert!(collector.blockers().is_empty());
        });
        assert_eq!(collector.blockers().len(), 1);
        // Its place was not given to anybody meanwhile.
        assert!(!collector.register().is_pinned());
        assert_eq!(guard.collector(), Some(collector));
        // Without a handle.
        guard.repin_after(|| {
            assert!(collector.blockers().is_empty());
        });
        assert_eq!(collector.blockers().len(), 1);
        drop(guard);
        assert!(collector.blockers().is_empty());
        // And its place is free for the next.
        let places = collector.register();
        assert!(!places.is_pinned());
    });
}

#[test]
fn an_unprotected_guard_calls_at_once() {
    let (called, dropped) = (counter(), counter());
    // SAFETY: no other thread knows what is made here.
    let guard = unsafe { unprotected() };
    guard.defer(|| called.fetch_add(1, SeqCst));
    // SAFETY: the closure borrows nothing, and nobody knows the object.
    unsafe {
        guard.defer_unchecked(|| called.fetch_add(1, SeqCst));
        guard.defer_destroy(Owned::new(Counted(dropped)).into_shared(guard));
    }
    guard.flush();
    assert_eq!((called.load(SeqCst), dropped.load(SeqCst)), (2, 1));
    assert!(guard.collector().is_none());
    assert_eq!(Shared::<u64>::null(), Shared::null());
}

#[test]
fn the_thread_s_own_handle() {
    thread::spawn(|| {
        assert!(!epoch::is_pinned());
        let guard = epoch::pin();
        assert!(epoch::is_pinned());
        assert_eq!(guard.collector(), Some(epoch::default_collector()));
        assert_ne!(guard.collector(), Some(&Collector::new()));
        drop((epoch::pin(), guard));
        assert!(!epoch::is_pinned());
    })
    .join()
    .unwrap();
}

/// Thread-locals go in an order of their own: a guard may be among them, and a pin come after the handle.
#[cfg_attr(barrierd_plain, ignore = "nobody asked for a background thread")]
#[test]
fn pins_late_in_a_thread_s_exit() {
    struct Late;
    impl Drop for Late {
        fn drop(&mut self) {
            let guards = [epoch::pin(), epoch::pin()];
            guards[0].defer(|| LATE.fetch_add(1, SeqCst));
            assert!(!epoch::is_pinned(), "each pin has a handle of its own by now");
        }
    }
    static LATE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    thread_local! {
        static FIRST: RefCell<Option<Late>> = const { RefCell::new(None) };
        static GUARD: RefCell<Option<Guard>> = const { RefCell::new(None) };
        static HANDLE: RefCell<Option<LocalHandle>> = const { RefCell::new(None) };
    }
    for _ in 0..3 {
        thread::spawn(|| {
            // Made first, dropped last or first: both orders come up.
            FIRST.set(Some(Late));
            GUARD.set(Some(epoch::pin()));
            HANDLE.set(Some(epoch::default_collector().register()));
            HANDLE.with_borrow(|handle| assert!(!handle.as_ref().unwrap().is_pinned()));
        })
        .join()
        .unwrap();
    }
    wait_for("late closures", || LATE.load(SeqCst) == 3);
}
