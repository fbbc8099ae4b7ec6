//! A seccomp filter that comes after the start forbids membarrier: nothing is freed too early, nothing
//! is lost, and the status says why. In a process of its own, since a filter is for good.

#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(barrierd_plain)
))]

#[allow(dead_code, reason = "only the load is used here")]
mod cases;
mod common;

use barrierd_reclaim::{Reclaimer, Source, Status, Why};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn membarrier_is_forbidden_later() {
    let nowhere = tempfile::tempdir().unwrap();
    let file = nowhere.path().join("barrier");
    let make = || Reclaimer::builder().daemon_file(&file).build().unwrap();
    let (reclaimer, other) = (make(), make());
    assert_eq!(reclaimer.status(), Status::Membarrier(Why::NoDaemon));
    cases::under_load(&other, || {
        thread::sleep(Duration::from_millis(100));
        common::seccomp::forbid(&[libc::SYS_membarrier]);
        thread::sleep(Duration::from_millis(500));
        assert_eq!(other.status(), Status::Nothing(Why::MembarrierRefused));
        // Afterwards all threads are gone, and what they left is freed without any source.
    });
    // A thread that reads now and then and never retires can't be waited for ...
    let (here, wait_here) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let reader = &reclaimer;
        scope.spawn(move || {
            drop(reader.pin());
            here.send(()).unwrap();
            let _ = wait_go.recv();
        });
        wait_here.recv().unwrap();
        (0..1000u64).for_each(|i| reclaimer.retire_value(i));
        thread::sleep(Duration::from_millis(200));
        let stats = reclaimer.stats();
        assert_eq!((stats.freed, stats.retired), (0, 1000), "nothing proves a barrier: {stats:?}");
        assert!(stats.refused > 0, "{stats:?}");
        drop(go);
    });
    // ... until it is gone. Nor can a queue be taken over without a barrier of its owner's CPU: its
    // owner has to call.
    let stop = Instant::now() + Duration::from_secs(5);
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < stop, "{} {:?}", reclaimer.status(), reclaimer.stats());
        reclaimer.flush();
        thread::sleep(Duration::from_millis(1));
    }
    // A new domain: fences, if it may not have anything else.
    assert_eq!(make().status(), Status::Fence(Why::NoMembarrier));
    b20_what_is_forbidden_is_called_forbidden();
}

/// Under the filter of the test that calls this.
fn b20_what_is_forbidden_is_called_forbidden() {
    let refused = Reclaimer::builder().source(Source::Membarrier).build();
    let said = refused.expect_err("forbidden").to_string();
    assert!(said.contains("is forbidden") && said.contains("seccomp"), "{said}");
    assert!(!said.contains("kernel has no"), "{said}");
}
