//! A process that moves itself into another time namespace, where the clock is not the daemon's: a child
//! by fork, since only a process of one thread can move. As root.

#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(barrierd_plain)
))]

mod common;

use barrierd_client::clock::now_ns;
use barrierd_reclaim::{Reclaimer, Source};
use common::child::status_in_child;
use common::forged::Forged;
use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The child's exit status.
const POISONED: i32 = 10;
const NOT_POISONED: i32 = 11;

/// Retires a bag, so that a stamp is taken. Returns whether the clock is still trusted.
fn retires(reclaimer: &Reclaimer) -> bool {
    for _ in 0..200 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(0u64))) };
    }
    !reclaimer.stats().poisoned
}

/// Into a namespace whose clock is `seconds` behind.
fn moves(seconds: i64) {
    // SAFETY: changes where this process's children are born.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWTIME) }, 0, "no time namespaces here");
    let offsets = format!("monotonic -{seconds} 0");
    fs::write("/proc/self/timens_offsets", offsets).expect("later after boot than that, as root");
    let namespace = File::open("/proc/self/ns/time_for_children").expect("/proc");
    // SAFETY: moves this process, which has one thread.
    let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWTIME) };
    assert_eq!(moved, 0, "setns: {}", std::io::Error::last_os_error());
}

fn in_child(run: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the test has one thread beside the harness's, which waits; the child ends by `_exit`.
    unsafe { status_in_child(|| if run() { POISONED } else { NOT_POISONED }) }
}

#[test]
fn another_time_namespace_poisons_who_goes_by_a_daemon() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a time namespace: run it as root"
    );
    let poisoned = |source: Source| {
        let now = now_ns();
        let forged = Forged::new(now, now - 1_000_000);
        in_child(|| {
            let builder = Reclaimer::builder().source(source).daemon_file(&forged.path);
            let reclaimer = builder.background(false).build().expect("built");
            assert!(retires(&reclaimer));
            moves(1);
            !retires(&reclaimer)
        })
    };
    assert_eq!(poisoned(Source::Daemon), POISONED);
    // It compares its clock with nobody's, and goes on.
    assert_eq!(poisoned(Source::Membarrier), NOT_POISONED);
    let frees = || {
        let reclaimer = membarrier();
        assert!(retires(&reclaimer));
        moves(half_of_the_uptime());
        retires(&reclaimer) && frees_all(&reclaimer)
    };
    assert_eq!(in_child(|| !frees()), NOT_POISONED);
}

fn membarrier() -> Reclaimer {
    let builder = Reclaimer::builder().source(Source::Membarrier);
    builder.background(false).build().expect("built")
}

/// Seconds. More than any wait here, on a machine that has run for a minute.
fn half_of_the_uptime() -> i64 {
    i64::try_from(now_ns() / 2_000_000_000).expect("seconds").max(1)
}

/// Whether all that waits can be freed now, by purchases alone.
fn frees_all(reclaimer: &Reclaimer) -> bool {
    reclaimer.synchronize(Instant::now() + Duration::from_secs(1)).is_ok()
        && reclaimer.stats().waiting() == 0
}

/// What the parent bought lies in the child's future: it must neither be believed there, nor waited for.
#[test]
fn a1_a_child_in_another_time_namespace_forgets_what_its_parent_bought() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a time namespace: run it as root"
    );
    static FREED: AtomicBool = AtomicBool::new(false);
    struct Told;
    impl Drop for Told {
        fn drop(&mut self) {
            FREED.store(true, Relaxed);
        }
    }
    let parent = membarrier();
    assert!(retires(&parent) && frees_all(&parent));
    let child = || {
        moves(half_of_the_uptime());
        in_child(|| {
            let reclaimer = membarrier();
            let mut reader = reclaimer.handle();
            let guard = reader.pin();
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(Box::into_raw(Box::new(Told))) };
            retires(&reclaimer);
            reclaimer.flush();
            if FREED.load(Relaxed) {
                return true;
            }
            drop(guard);
            !frees_all(&reclaimer)
        }) == POISONED
    };
    assert_eq!(in_child(child), NOT_POISONED);
}

/// Nor may its stamps come after it, where nothing is bought at all.
#[test]
fn a1_so_does_a_child_that_fences() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes a time namespace: run it as root"
    );
    let parent = membarrier();
    assert!(retires(&parent) && frees_all(&parent));
    let child = || {
        moves(half_of_the_uptime());
        in_child(|| {
            let fences = Reclaimer::builder().source(Source::Fence).background(false);
            let reclaimer = fences.build().expect("always");
            let _resting = reclaimer.handle();
            retires(&reclaimer) && !frees_all(&reclaimer)
        }) == POISONED
    };
    assert_eq!(in_child(child), NOT_POISONED);
}
