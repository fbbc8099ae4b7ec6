//! Faults of domains that once were large, or whose threads exit in odd ways: each with the input that
//! showed it and the right value. The names begin with the row of the table in which they were collected.

#![cfg(not(barrierd_plain))]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "common/counted.rs"]
mod counted;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "common/release.rs"]
mod release;

use barrierd_reclaim::{Builder, Reclaimer, Source};
use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

fn builder() -> Builder {
    Reclaimer::builder().source(Source::Membarrier).background(false)
}

/// A moment that only comes if something hangs.
fn late() -> Instant {
    Instant::now() + Duration::from_secs(40)
}

/// What the last of many takes, beside the first: in instructions, which are the same on a busy machine.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod growth {
    use super::counted::count;
    use super::release::build;

    /// Asserts that each of 16 times as many takes little more; `without`: what is done beside, and not looked at. Blocks of
    /// places double what there is, and all are full at both numbers: powers of two.
    fn assert_even(name: &str, without: &str, few: u64) {
        let program = build("many", None);
        let each = |number| {
            let [all, beside] = [name, without].map(|name| count(&program, name, number));
            (all - beside) / number
        };
        let (of_few, of_many) = (each(few), each(16 * few));
        println!("{name}: {of_few} instructions for each of {few}, {of_many} of 16 times as many");
        assert!(2 * of_many <= 3 * of_few, "{of_few} for each of {few}, {of_many} of many");
    }

    /// Each one looked for a free place among all that there were.
    #[test]
    fn a22_an_owned_guard_is_as_quickly_opened_among_many() {
        assert_even("guards", "nothing", 4 << 10);
    }

    /// Each hazard looked for a free one among all that there were.
    #[test]
    fn a22_a_hazard_is_as_quickly_made_among_many() {
        assert_even("hazards", "nothing", 4 << 10);
    }

    /// For each section all threads were asked what they had retired before it, and `/proc` for its name.
    #[test]
    fn a22_a_blocker_is_as_quickly_named_among_many() {
        assert_even("blockers", "open", 512);
    }
}

#[test]
fn a22_blockers_of_many_sections() {
    let reclaimer = builder().build().unwrap();
    let guards: Vec<_> = (0..30_000).map(|_| reclaimer.pin_owned()).collect();
    (0..1000).for_each(|n: u64| reclaimer.retire_value(n));
    let blockers = reclaimer.blockers();
    assert_eq!(blockers.len(), guards.len());
    let named = |name: &Option<String>| name.as_deref() == blockers[0].thread.as_deref();
    assert!(blockers[0].thread.is_some() && blockers.iter().all(|one| named(&one.thread)));
    assert!(blockers.iter().all(|one| one.holds_items == 1000 && one.holds_bytes == 8000));
}

/// Whoever retires scanned as if all were still there: once in hundreds of bags.
#[test]
fn a22_places_that_nobody_has_hold_nothing_up() {
    let reclaimer = builder().build().unwrap();
    drop((0..10_000).map(|_| reclaimer.pin_owned()).collect::<Vec<_>>());
    let mut most = 0;
    for n in 0..20_000u64 {
        reclaimer.retire_value(n);
        if n % 64 == 0 {
            most = most.max(reclaimer.stats().waiting());
        }
    }
    assert!(most < 1000, "{most} waited");
}

/// What was counted in places that were given back is neither lost nor counted twice, and what they had
/// retired is held by whoever was there.
#[test]
fn a22_counts_outlive_their_places() {
    let reclaimer = builder().build().unwrap();
    let guard = reclaimer.pin_owned();
    for round in 1..=20u64 {
        let handles: Vec<_> = (0..50).map(|_| reclaimer.handle()).collect();
        handles.iter().for_each(|handle| (0..10).for_each(|n: u64| handle.retire_value(n)));
        drop(handles);
        let stats = reclaimer.stats();
        assert_eq!((stats.retired, stats.freed), (500 * round, 0));
        assert_eq!(stats.waiting_bytes, 8 * 500 * round);
        assert_eq!(reclaimer.blockers()[0].holds_items, 500 * round);
    }
    drop(guard);
    reclaimer.synchronize(late()).unwrap();
    let stats = reclaimer.stats();
    assert_eq!((stats.retired, stats.freed, stats.waiting_bytes), (10_000, 10_000, 0));
}

/// Threads come and go, and free: a sum never says that less waits than does.
#[test]
fn a22_sums_are_right_while_places_change_hands() {
    let reclaimer = builder().build().unwrap();
    let guard = reclaimer.pin_owned();
    (0..1000).for_each(|n: u64| reclaimer.retire_value(n));
    let until = Instant::now() + Duration::from_millis(300);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while Instant::now() < until {
                    let handle = reclaimer.handle();
                    (0..100).for_each(|n: u64| handle.retire_value(n));
                    handle.flush();
                }
            });
        }
        while Instant::now() < until {
            let waiting = reclaimer.stats().waiting();
            assert!(waiting >= 1000, "{waiting}");
        }
    });
    drop(guard);
    reclaimer.synchronize(late()).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 0);
}

/// A place was taken for no hazard, and so was given back by none: it then had no barrier to show.
#[test]
fn a26_no_hazards_late_in_a_thread_s_exit_leave_no_place_behind() {
    struct Late(Reclaimer);
    impl Drop for Late {
        fn drop(&mut self) {
            let [] = self.0.hazards::<0>();
        }
    }
    thread_local! {
        static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let reclaimer = builder().build().unwrap();
    thread::scope(|scope| {
        // Joined by hand: a scope alone does not wait for thread-local destructors.
        let thread = scope.spawn(|| {
            EARLY.set(Some(Late(reclaimer.clone())));
            drop(reclaimer.pin());
            LATE.set(Some(Late(reclaimer.clone())));
        });
        thread.join().unwrap();
    });
    // A thread that is alone has its own stamps for barriers: each scan brings news.
    (0..10_000).for_each(|n: u64| reclaimer.retire_value(n));
    let stats = reclaimer.stats();
    assert!(stats.scans > 100 && stats.advances > stats.scans / 2, "{stats:?}");
}
