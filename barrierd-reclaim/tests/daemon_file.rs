//! What the reclaimer makes of a daemon that is dead, or alive and of no use: files as a daemon would
//! have left or kept them. (The live daemon's tests are in the workspace's `tests/`.)

#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(barrierd_plain)
))]

mod common;

use barrierd_client::{abi, clock::now_ns};
use barrierd_reclaim::{ActiveSource, BuildError, Reclaimer, Source};
use common::forged::Forged;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_dead_daemon_is_not_chosen() {
    let long_ago = now_ns().saturating_sub(10_000_000_000).max(1);
    let forged = Forged::new(long_ago, long_ago);
    let error =
        Reclaimer::builder().source(Source::Daemon).daemon_file(&forged.path).build().unwrap_err();
    assert!(matches!(error, BuildError::DaemonGone { .. }), "{error}");
    let auto = Reclaimer::builder().daemon_file(&forged.path).build().unwrap();
    assert_eq!(auto.stats().source, ActiveSource::Membarrier);
}

/// The daemon beats, but a CPU takes no interrupts and the watermark stands.
#[test]
fn auto_does_not_wait_for_a_watermark_that_stands() {
    let now = now_ns();
    let forged = Forged::new(now, now - 1_000_000);
    let reclaimer = Reclaimer::builder().daemon_file(&forged.path).build().unwrap();
    assert_eq!(reclaimer.stats().source, ActiveSource::Daemon);
    let stop = Instant::now() + Duration::from_secs(20);
    // A thread that takes part and then sleeps: barriers can't be collected from it.
    let (done, wait_done) = std::sync::mpsc::channel::<()>();
    let (here, wait_here) = std::sync::mpsc::channel();
    let other = reclaimer.clone();
    let sleeper = thread::spawn(move || {
        drop(other.pin());
        here.send(()).unwrap();
        let _ = wait_done.recv();
    });
    wait_here.recv().unwrap();
    while reclaimer.stats().freed == 0 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        forged.store(abi::HEARTBEAT_NS, now_ns());
        for _ in 0..100 {
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(Box::into_raw(Box::new(0u64))) };
        }
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(reclaimer.stats().source, ActiveSource::Membarrier);
    drop(done);
    sleeper.join().unwrap();
}
