//! A process that moves itself into another time namespace, where the clock is not the daemon's: a child
//! by fork, since only a process of one thread can move. As root.

mod common;

use barrierd_client::clock::now_ns;
use barrierd_reclaim::{Reclaimer, Source};
use common::forged::Forged;
use std::fs;
use std::fs::File;
use std::os::fd::AsRawFd;

/// The child's exit status.
const POISONED: i32 = 10;
const NOT_POISONED: i32 = 11;

/// Retires a bag, so that there is a full stop. Whether the clock is still trusted.
fn retires(reclaimer: &Reclaimer) -> bool {
    for _ in 0..200 {
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(0u64))) };
    }
    !reclaimer.stats().poisoned
}

/// Into a namespace whose clock is a second behind.
fn moves() {
    // SAFETY: changes where this process's children are born.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWTIME) }, 0, "no time namespaces here");
    fs::write("/proc/self/timens_offsets", "monotonic -1 0").expect("a second after boot, as root");
    let namespace = File::open("/proc/self/ns/time_for_children").expect("/proc");
    // SAFETY: moves this process, which has one thread.
    let moved = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWTIME) };
    assert_eq!(moved, 0, "setns: {}", std::io::Error::last_os_error());
}

fn in_child(run: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the test has one thread beside the harness's, which waits; the child ends by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = if run() { POISONED } else { NOT_POISONED };
        // SAFETY: ends the child without running this process's exit handlers in it.
        unsafe { libc::_exit(status) };
    }
    assert!(pid > 0, "fork failed");
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child died: {status:#x}");
    libc::WEXITSTATUS(status)
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
            moves();
            !retires(&reclaimer)
        })
    };
    assert_eq!(poisoned(Source::Daemon), POISONED);
    // It compares its clock with nobody's.
    assert_eq!(poisoned(Source::Membarrier), NOT_POISONED);
}
