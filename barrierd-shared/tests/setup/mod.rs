//! What tests begin with: a process to themselves, and writers that no daemon serves.

#![allow(dead_code, unreachable_pub, reason = "none of its users uses all of it")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use barrierd_shared::{Region, Writer, WriterOptions};

/// Until it is dropped no other test of this program runs that asks for it: the mutants are the process's, and what a
/// child inherits is all of it.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A writer's options where no daemon runs.
pub fn no_daemon() -> WriterOptions {
    WriterOptions::default().barrier("/nowhere/barrier")
}

/// The same, and no barriers of the kernel's: what idle readers hold back stays.
pub fn no_barriers() -> WriterOptions {
    no_daemon().membarrier(false)
}

pub fn writer_with(region: &Region, options: &WriterOptions) -> Writer {
    region.writer_with(options).expect("a slot is free")
}

/// Runs `work` in a child. Returns its exit status.
pub fn child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `work` alone, which takes no lock that another thread of the tests may hold; glibc makes malloc
    // usable there.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "fork");
        if pid == 0 {
            let work = std::panic::AssertUnwindSafe(work);
            libc::_exit(std::panic::catch_unwind(work).unwrap_or(99));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert!(libc::WIFEXITED(status), "{status:#x}");
        libc::WEXITSTATUS(status)
    }
}
