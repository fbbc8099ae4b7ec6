//! Children of forks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any child takes that does not hang, on a busy machine, too.
const PATIENCE: Duration = Duration::from_secs(40);

/// Forks, runs `child` there, and returns its status as [`status_of`] does; 99 if it panicked.
///
/// # Safety
/// `child` may run in a process whose other threads have gone, whatever they were doing.
pub(crate) unsafe fn status_in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: as the caller says.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(99);
        // SAFETY: ends the child.
        unsafe { libc::_exit(status) };
    }
    status_of(pid)
}

/// Waits for a child of this process. Returns what it returned; 128 and its signal if it died of one; -1 if it hung, and
/// was killed.
pub(crate) fn status_of(pid: libc::pid_t) -> i32 {
    let late = Instant::now() + PATIENCE;
    let mut status = 0;
    // SAFETY: a child of this process, waited for once.
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } != pid {
        if Instant::now() > late {
            // SAFETY: the child, which is still there; and it is waited for.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
                libc::waitpid(pid, &mut status, 0);
            }
            return -1;
        }
        thread::sleep(Duration::from_micros(100));
    }
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) }
}
