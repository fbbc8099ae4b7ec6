//! What a domain says of itself, on every source: how old the oldest garbage is, who holds how much of it
//! back, and the call-back for sections that are open for too long.

use super::quietly::quietly;
use super::soon;
use barrierd_reclaim::{Blocker, Builder, Reclaimer};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// All cases, one after the other. `builder`: a source.
pub(crate) fn all(builder: impl Fn() -> Builder) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let make = || builder().background(false).build().unwrap();
    the_oldest_has_an_age(make());
    the_oldest_may_be_anybodys(make());
    what_a_hazard_holds_has_an_age(make());
    what_a_robust_guard_holds_has_an_age(make());
    what_was_taken_over_has_an_age(builder().build().unwrap());
    each_section_holds_what_came_after_it(make());
    a_long_stall_is_counted_roughly(make());
    a_stalled_section_is_told_once(builder());
    a_hook_may_do_as_it_likes(builder());
    without_a_background_thread_callers_tell(builder());
}

const AGE: Duration = Duration::from_millis(30);

#[track_caller]
fn assert_oldest(reclaimer: &Reclaimer, least: Duration, since: Instant) {
    let oldest = reclaimer.stats().oldest.expect("something waits");
    assert!((least..=since.elapsed()).contains(&oldest), "{oldest:?} of {:?}", since.elapsed());
}

fn the_oldest_has_an_age(reclaimer: Reclaimer) {
    assert_eq!(reclaimer.stats().oldest, None);
    let guard = reclaimer.pin();
    let since = Instant::now();
    reclaimer.retire_value(0u64);
    thread::sleep(AGE);
    // In an open bag, then in a sealed one, then in one of many.
    assert_oldest(&reclaimer, AGE, since);
    reclaimer.flush();
    assert_oldest(&reclaimer, AGE, since);
    (0..1000u64).for_each(|n| reclaimer.retire_value(n));
    assert_oldest(&reclaimer, AGE, since);
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().oldest, None);
    thread::sleep(AGE);
    let since = Instant::now();
    let born = reclaimer.alloc(1u64);
    // SAFETY: fresh from this reclaimer's `alloc`, known to nobody else, retired once.
    unsafe { reclaimer.retire_born(Box::into_raw(born)) };
    assert_oldest(&reclaimer, Duration::ZERO, since);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().oldest, None);
}

fn the_oldest_may_be_anybodys(reclaimer: Reclaimer) {
    let guard = reclaimer.pin();
    let since = Instant::now();
    thread::scope(|scope| scope.spawn(|| reclaimer.retire_value(0u64)).join().unwrap());
    thread::sleep(AGE);
    (0..200u64).for_each(|n| reclaimer.retire_value(n));
    assert_oldest(&reclaimer, AGE, since);
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().oldest, None);
}

fn what_a_hazard_holds_has_an_age(reclaimer: Reclaimer) {
    let place = std::sync::atomic::AtomicPtr::new(Box::into_raw(Box::new(7u64)));
    let mut hazard = reclaimer.hazard();
    let held = hazard.protect(&place);
    let since = Instant::now();
    let old = place.swap(std::ptr::null_mut(), std::sync::atomic::Ordering::AcqRel);
    // SAFETY: from a Box, unlinked just now, retired once.
    unsafe { reclaimer.retire(old) };
    reclaimer.synchronize(soon()).unwrap();
    thread::sleep(AGE);
    (0..200u64).for_each(|n| reclaimer.retire_value(n));
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 1);
    assert_oldest(&reclaimer, AGE, since);
    let _ = held;
    drop(hazard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().oldest, None);
}

/// What is born later goes all the while.
fn what_a_robust_guard_holds_has_an_age(reclaimer: Reclaimer) {
    let other = reclaimer.handle();
    let guard = other.pin_robust();
    let since = Instant::now();
    reclaimer.retire_value(0u64);
    reclaimer.flush();
    thread::sleep(AGE);
    let stop = soon();
    while reclaimer.stats().freed < 1000 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        let born = reclaimer.alloc(1u64);
        // SAFETY: fresh from this reclaimer's `alloc`, known to nobody else, retired once.
        unsafe { reclaimer.retire_born(Box::into_raw(born)) };
        assert_oldest(&reclaimer, AGE, since);
    }
    drop(guard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(reclaimer.stats().oldest, None);
}

fn what_was_taken_over_has_an_age(reclaimer: Reclaimer) {
    let guard = reclaimer.pin();
    let since = Instant::now();
    (0..70u64).for_each(|n| reclaimer.retire_value(n));
    let stop = soon();
    while reclaimer.stats().takeovers == 0 {
        assert!(Instant::now() < stop, "{} {:?}", reclaimer.status(), reclaimer.stats());
        assert_oldest(&reclaimer, Duration::ZERO, since);
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(AGE);
    assert_oldest(&reclaimer, AGE, since);
    drop(guard);
    // This thread's place shows nothing of the queue that was taken.
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        thread::sleep(Duration::from_millis(1));
    }
    let since = Instant::now();
    thread::scope(|scope| scope.spawn(|| reclaimer.retire_value(0u64)).join().unwrap());
    // It may be gone already.
    let oldest = reclaimer.stats().oldest.unwrap_or_default();
    assert!(oldest <= since.elapsed(), "{oldest:?} of {:?}", since.elapsed());
}

fn of(blockers: &[Blocker], name: &str) -> Blocker {
    let found = blockers.iter().find(|one| one.thread.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("{name} is not among {blockers:?}")).clone()
}

/// Reads in a section of its own until the sender is dropped.
fn reader<'s>(
    scope: &'s thread::Scope<'s, '_>,
    name: &str,
    reclaimer: &'s Reclaimer,
) -> mpsc::Sender<()> {
    let (go, wait_go) = mpsc::channel::<()>();
    let (here, wait_here) = mpsc::channel();
    let read = move || {
        let _guard = reclaimer.pin();
        here.send(()).unwrap();
        let _ = wait_go.recv();
    };
    thread::Builder::new().name(name.into()).spawn_scoped(scope, read).unwrap();
    wait_here.recv().unwrap();
    go
}

/// A reader that began after all that was retired so far, as the domain sees it.
fn young_reader<'s>(
    scope: &'s thread::Scope<'s, '_>,
    reclaimer: &'s Reclaimer,
) -> mpsc::Sender<()> {
    let stop = soon();
    loop {
        let go = reader(scope, "young", reclaimer);
        if of(&reclaimer.blockers(), "young").holds_items <= COARSE {
            return go;
        }
        drop(go);
        let named = |one: &Blocker| one.thread.as_deref() == Some("young");
        while reclaimer.blockers().iter().any(named) {
            thread::yield_now();
        }
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        reclaimer.flush();
    }
}

/// What one thread may add: two bags.
const COARSE: u64 = 128;

fn each_section_holds_what_came_after_it(reclaimer: Reclaimer) {
    let shared = &reclaimer;
    thread::scope(|scope| {
        let old = reader(scope, "old", shared);
        assert_eq!(of(&shared.blockers(), "old").holds_items, 0);
        (0..640u64).for_each(|n| shared.retire_value(n));
        // Another thread's, which is gone.
        scope.spawn(|| (0..100u64).for_each(|n| shared.retire_value(n))).join().unwrap();
        let young = young_reader(scope, shared);
        (0..200u64).for_each(|n| shared.retire_value(n));
        let blockers = shared.blockers();
        let (first, second) = (of(&blockers, "old"), of(&blockers, "young"));
        assert_eq!((first.holds_items, first.holds_bytes), (940, 940 * 8), "{blockers:?}");
        assert!((200..=200 + COARSE).contains(&second.holds_items), "{blockers:?}");
        assert_eq!(second.holds_bytes, second.holds_items * 8);
        drop(old);
        let stop = soon();
        while shared.stats().waiting() > 200 + COARSE {
            assert!(Instant::now() < stop, "{:?}", shared.stats());
            shared.flush();
            thread::yield_now();
        }
        let second = of(&shared.blockers(), "young");
        assert!((200..=200 + COARSE).contains(&second.holds_items), "{second:?}");
        drop(young);
    });
    reclaimer.synchronize(soon()).unwrap();
}

fn a_long_stall_is_counted_roughly(reclaimer: Reclaimer) {
    let shared = &reclaimer;
    thread::scope(|scope| {
        let old = reader(scope, "old", shared);
        (0..20_000u64).for_each(|n| shared.retire_value(n));
        // Bags that were left out of the marks count as younger than they are.
        let stop = soon();
        let young = loop {
            assert!(Instant::now() < stop, "{:?}", shared.blockers());
            shared.flush();
            let young = reader(scope, "young", shared);
            if of(&shared.blockers(), "young").holds_items <= 20_000 / 7 + 2 * COARSE {
                break young;
            }
            drop(young);
            thread::sleep(Duration::from_millis(1));
        };
        (0..10_000u64).for_each(|n| shared.retire_value(n));
        let blockers = shared.blockers();
        let second = blockers.iter().rfind(|one| one.thread.as_deref() == Some("young"));
        assert_eq!(of(&blockers, "old").holds_items, 30_000, "{blockers:?}");
        let second = second.unwrap().holds_items;
        assert!((10_000..=10_000 + 30_000 / 7 + 2 * COARSE).contains(&second), "{blockers:?}");
        drop((old, young));
    });
    reclaimer.synchronize(soon()).unwrap();
}

type Told = Arc<Mutex<Vec<(Blocker, ThreadId)>>>;

const LIMIT: Duration = Duration::from_millis(50);

fn is_stalled(blocker: &Blocker) -> bool {
    blocker.thread.as_deref() == Some("stalled")
}

/// How often it was called for the thread of that name.
fn times(told: &Told) -> usize {
    told.lock().unwrap().iter().filter(|(one, _)| is_stalled(one)).count()
}

fn telling(builder: Builder) -> (Reclaimer, Told) {
    let told = Told::default();
    let log = told.clone();
    let hook = move |blocker: &Blocker| {
        log.lock().unwrap().push((blocker.clone(), thread::current().id()));
    };
    (builder.stall_hook(LIMIT, hook).build().unwrap(), told)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let stop = soon();
    while !done() {
        assert!(Instant::now() < stop, "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn a_stalled_section_is_told_once(builder: Builder) {
    let (reclaimer, told) = telling(builder.background(true));
    let shared = &reclaimer;
    let here = thread::current().id();
    thread::scope(|scope| {
        let long = Instant::now();
        let stalled = reader(scope, "stalled", shared);
        shared.retire_value(0u64);
        until("the first call", || times(&told) == 1);
        assert!(long.elapsed() >= LIMIT);
        // Many more looks, sections that are short, and more to hold.
        while long.elapsed() < 6 * LIMIT {
            drop(shared.pin());
            shared.retire_value(0u64);
            thread::yield_now();
        }
        {
            // This thread's own, if it was kept from ending one, are none of the matter.
            assert_eq!(times(&told), 1, "{told:?}");
            let told = told.lock().unwrap();
            let (blocker, thread) = told.iter().find(|(one, _)| is_stalled(one)).unwrap();
            assert!(blocker.open_for >= LIMIT && blocker.holds_items >= 1, "{blocker:?}");
            assert_ne!(*thread, here, "the background thread calls");
        }
        // The next section of the same name is another.
        drop(stalled);
        let again = reader(scope, "stalled", shared);
        shared.retire_value(0u64);
        until("the second call", || {
            shared.retire_value(0u64);
            times(&told) == 2
        });
        drop(again);
    });
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(times(&told), 2);
}

/// It retires, flushes, asks, and panics; the background thread goes on.
fn a_hook_may_do_as_it_likes(builder: Builder) {
    let own: Arc<OnceLock<Reclaimer>> = Arc::default();
    let calls = Arc::new(Mutex::new(0));
    let (inside, count) = (own.clone(), calls.clone());
    // The reclaimer through a place that the test empties, so that the domain doesn't keep itself.
    let hook = move |_: &Blocker| {
        let reclaimer = inside.get().expect("set before the first section").clone();
        (0..200u64).for_each(|n| reclaimer.retire_value(n));
        reclaimer.flush();
        assert!(!reclaimer.blockers().is_empty() && reclaimer.stats().waiting() > 0);
        *count.lock().unwrap() += 1;
        panic!("a hook's panic, on purpose");
    };
    let reclaimer = builder.background(true).stall_hook(LIMIT, hook).build().unwrap();
    assert!(own.set(reclaimer.clone()).is_ok());
    let shared = &reclaimer;
    quietly(|| {
        for round in 1..=2 {
            thread::scope(|scope| {
                let stalled = reader(scope, "stalled", shared);
                shared.retire_value(0u64);
                until("the call", || {
                    shared.retire_value(0u64);
                    *calls.lock().unwrap() == round
                });
                drop(stalled);
            });
        }
    });
    until("what the hook retired", || reclaimer.stats().waiting() == 0);
    assert!(reclaimer.stats().freed >= 400);
    // The hook keeps `own`, which keeps the domain: what the documentation warns of.
}

fn without_a_background_thread_callers_tell(builder: Builder) {
    let (reclaimer, told) = telling(builder.background(false));
    let shared = &reclaimer;
    thread::scope(|scope| {
        let begin = Instant::now();
        let stalled = reader(scope, "stalled", shared);
        until("the call", || {
            (0..64u64).for_each(|n| shared.retire_value(n));
            !told.lock().unwrap().is_empty()
        });
        assert!(begin.elapsed() >= LIMIT);
        // Whoever waits looks as well.
        let error = shared.synchronize(Instant::now() + 4 * LIMIT).unwrap_err();
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "{told:?} {error}");
        assert_eq!(told[0].1, thread::current().id());
        drop(stalled);
    });
    told.lock().unwrap().clear();
    thread::scope(|scope| {
        let stalled = reader(scope, "stalled", shared);
        shared.retire_value(0u64);
        shared.synchronize(Instant::now() + 6 * LIMIT).unwrap_err();
        assert_eq!(told.lock().unwrap().len(), 1);
        drop(stalled);
    });
    reclaimer.synchronize(soon()).unwrap();
}
