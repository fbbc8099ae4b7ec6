//! Faults that were found by running the library, each with the input that showed it and the right
//! value. The names begin with the row of the table in which they were collected.

use barrierd_reclaim::{Builder, OnLimit, Reclaimer, Source};
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
    // SAFETY: values that nobody else has.
    let retire = |n: u64| unsafe { reclaimer.retire_value(n) };
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
    // SAFETY: values that nobody else has.
    (0..1000).for_each(|n: u64| unsafe { reclaimer.retire_value(n) });
    reclaimer.synchronize(Instant::now() + Duration::from_secs(20)).unwrap();
    // The background thread has looked, and panicked over nothing.
    thread::sleep(Duration::from_millis(30));
    assert_eq!(reclaimer.stats().waiting(), 0);
}
