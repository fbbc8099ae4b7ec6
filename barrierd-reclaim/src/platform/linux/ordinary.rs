//! The background thread is an ordinary one, whoever started it.
//!
//! Owns the scheduling of the calling thread. A new thread has its starter's policy, priority, niceness and CPUs. The
//! background thread is started by the thread that retires first, on behalf of all. So a real-time thread that is
//! bound to one CPU must not pass on to it what was meant for itself alone, nor must a thread of the idle policy keep
//! it from running.

use core::ffi::c_int;
use core::mem::zeroed;
use rustix::process::{getpid, getpriority_process, setpriority_process};
use rustix::thread::{sched_getaffinity, sched_setaffinity};

/// The default policy.
const SCHED_OTHER: c_int = 0;

/// `struct sched_param`, and more than any C library has after its first word.
#[repr(C, align(16))]
struct Parameters {
    priority: c_int,
    rest: [c_int; 31],
}

unsafe extern "C" {
    /// POSIX. A `pthread_t` is a word in every C library of Linux.
    safe fn pthread_self() -> usize;
    /// POSIX. By the thread, as `sched_getscheduler` is of the whole process by the letter, and musl has
    /// none.
    fn pthread_getschedparam(
        thread: usize,
        policy: *mut c_int,
        parameters: *mut Parameters,
    ) -> c_int;
    /// POSIX. Not 0: not allowed.
    fn pthread_setschedparam(thread: usize, policy: c_int, parameters: *const Parameters) -> c_int;
}

/// Gives the calling thread the default policy, and the niceness and the CPUs of the process's first
/// thread. What is not allowed stays as it is.
pub(crate) fn become_ordinary() {
    take_default_policy();
    let first = Some(getpid());
    if let (Ok(nice), Ok(own)) = (getpriority_process(first), getpriority_process(None)) {
        if nice != own {
            // The kernel's niceness is the thread's: 0 is the calling one.
            let _ = setpriority_process(None, nice);
        }
    }
    if let (Ok(cpus), Ok(own)) = (sched_getaffinity(first), sched_getaffinity(None)) {
        if cpus != own {
            let _ = sched_setaffinity(None, &cpus);
        }
    }
}

fn take_default_policy() {
    // SAFETY: numbers alone.
    let mut parameters: Parameters = unsafe { zeroed() };
    let mut policy = SCHED_OTHER;
    // SAFETY: the calling thread, and room for the answers.
    let known =
        unsafe { pthread_getschedparam(pthread_self(), &raw mut policy, &raw mut parameters) } == 0;
    if known && policy == SCHED_OTHER {
        return;
    }
    (parameters.priority, parameters.rest) = (0, [0; 31]);
    // SAFETY: as above.
    unsafe { pthread_setschedparam(pthread_self(), SCHED_OTHER, &raw const parameters) };
}
