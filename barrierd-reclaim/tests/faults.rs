//! Faults that were found by running the library, each with the input that showed it and the right
//! value. The names begin with the row of the table in which they were collected.

#![cfg(all(target_os = "linux", not(barrierd_plain)))]

use barrierd_reclaim::{Builder, OnLimit, Reclaimer, Source};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

fn builder() -> Builder {
    Reclaimer::builder().source(Source::Membarrier)
}

/// A seal closes one bag or two, so a count of bags may step over any number.
#[test]
fn a2_two_kinds_of_bags_do_not_keep_a_thread_from_scanning() {
    let reclaimer = builder().background(false).build().unwrap();
    let handles: Vec<_> = (0..19).map(|_| reclaimer.handle()).collect();
    let retire = |n: u64| reclaimer.retire_value(n);
    (0..65).for_each(retire);
    for n in 0..20_000 {
        retire(n);
        // SAFETY: from `alloc`, shared with nobody, retired once.
        unsafe { reclaimer.retire_born(Box::into_raw(reclaimer.alloc(n))) };
    }
    let stats = reclaimer.stats();
    assert!(stats.waiting() < 10_000, "{stats:?}");
    drop(handles);
}

#[test]
fn a15_no_time_is_too_long() {
    let reclaimer = builder()
        .idle_after(Duration::MAX)
        .limit_items(1)
        .on_limit(OnLimit::Block(Duration::MAX))
        .stall_hook(Duration::MAX, |_| {})
        .build()
        .unwrap();
    (0..1000).for_each(|n: u64| reclaimer.retire_value(n));
    reclaimer.synchronize(Instant::now() + Duration::from_secs(20)).unwrap();
    // The background thread has looked, and panicked over nothing.
    thread::sleep(Duration::from_millis(30));
    assert_eq!(reclaimer.stats().waiting(), 0);
}

/// Runs the test `name` alone, in a process of its own: it finds [`CHILD`] there.
fn in_a_process_of_its_own(name: &str) {
    let program = std::env::current_exe().unwrap();
    let status = Command::new(program).args(["--exact", name]).env(CHILD, "1").status().unwrap();
    assert!(status.success(), "{status}");
}

const CHILD: &str = "BARRIERD_TEST_CHILD";

fn until_all_is_freed(reclaimer: &Reclaimer) {
    let late = Instant::now() + Duration::from_secs(20);
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < late, "{:?}", reclaimer.stats());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a16_a_background_thread_that_could_not_be_started_is_tried_again() {
    if std::env::var_os(CHILD).is_none() {
        return in_a_process_of_its_own(
            "a16_a_background_thread_that_could_not_be_started_is_tried_again",
        );
    }
    let (first, second) = (builder().build().unwrap(), builder().build().unwrap());
    let retire = |reclaimer: &Reclaimer, n: u64| reclaimer.retire_value(n);
    // No room for a stack.
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    let before = getrlimit(Resource::As);
    let most = pages * 4096 + (1 << 20);
    setrlimit(Resource::As, Rlimit { current: Some(most), ..before }).unwrap();
    // So that the calls themselves free nothing.
    let sections = (first.pin(), second.pin());
    (0..10).for_each(|n| retire(&first, n));
    (0..10).for_each(|n| retire(&second, n));
    setrlimit(Resource::As, before).unwrap();
    thread::sleep(Duration::from_millis(150));
    assert_eq!((first.stats().waiting(), second.stats().waiting()), (10, 10));
    drop(sections);
    // A slow call of either starts it, for both.
    (0..128).for_each(|n| retire(&first, n));
    until_all_is_freed(&first);
    until_all_is_freed(&second);
}
