//! `membarrier(2)`, `PRIVATE_EXPEDITED`: Linux 4.14.

use crate::platform::Refusal;
use rustix::io::Errno;
use rustix::thread::{
    Cpuid, MembarrierCommand, MembarrierQuery, membarrier, membarrier_cpu, membarrier_query,
};

/// Whether there may be one on this system.
pub(crate) const MAY_EXIST: bool = true;

/// Returns whether the kernel says that it would register this process and sell to it. Does neither. Three system calls.
pub(crate) fn is_offered() -> bool {
    let both = MembarrierQuery::REGISTER_PRIVATE_EXPEDITED | MembarrierQuery::PRIVATE_EXPEDITED;
    is_safe_to_call()
        && membarrier_query().contains(both)
        && gets_through(MembarrierCommand::RegisterPrivateExpedited)
        && gets_through(MembarrierCommand::PrivateExpedited)
}

/// Registers the process. May take long.
pub(crate) fn register() -> Result<(), Refusal> {
    command(MembarrierCommand::RegisterPrivateExpedited)
}

/// Has every running thread of the process pass a full barrier before this returns.
pub(crate) fn barrier() -> Result<(), Refusal> {
    command(MembarrierCommand::PrivateExpedited)
}

fn command(command: MembarrierCommand) -> Result<(), Refusal> {
    if !is_safe_to_call() {
        return Err(Refusal::Unsupported);
    }
    membarrier(command).map_err(|errno| match errno {
        // No such system call; no such command of it.
        Errno::NOSYS | Errno::INVAL => Refusal::Unsupported,
        // The kernel says so only to a process that has not registered.
        Errno::PERM | Errno::ACCESS => Refusal::Forbidden(errno.raw_os_error()),
        _ => Refusal::Failed(errno.raw_os_error()),
    })
}

/// Returns whether `command` gets as far as the kernel. Its flag is another command's, so the kernel answers that it is
/// invalid and does nothing, while a filter that refuses the command refuses this too, with another error number.
fn gets_through(command: MembarrierCommand) -> bool {
    // SAFETY: a number for the kernel, which refuses the call before it uses it.
    let cpu = unsafe { Cpuid::from_raw(0) };
    membarrier_cpu(command, cpu) == Err(Errno::INVAL)
}

/// A filter answers with an error.
#[cfg(not(target_os = "android"))]
#[inline]
fn is_safe_to_call() -> bool {
    true
}

/// The filter that Android puts around an app ends it if it calls what the release does not expect. Android 10 (29)
/// expects membarrier: its own runtime uses it.
#[cfg(target_os = "android")]
fn is_safe_to_call() -> bool {
    use core::ffi::{c_char, c_int};
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

    /// The most that a value has: `PROP_VALUE_MAX` of the C library.
    const MOST: usize = 92;
    const UNKNOWN: u8 = 0;
    const YES: u8 = 1;
    const NO: u8 = 2;

    unsafe extern "C" {
        /// Returns the length of the value, which ends with a zero.
        fn __system_property_get(name: *const c_char, value: *mut c_char) -> c_int;
    }

    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);
    // Relaxed: every thread comes to the same answer.
    if ANSWER.load(Relaxed) == UNKNOWN {
        let mut value = [0u8; MOST];
        // SAFETY: a C string, and room for the longest value.
        let length = unsafe {
            __system_property_get(c"ro.build.version.sdk".as_ptr(), value.as_mut_ptr().cast())
        };
        let digits = value.get(..usize::try_from(length).unwrap_or(0)).unwrap_or(&[]);
        let release = str::from_utf8(digits).ok().and_then(|text| text.parse::<u32>().ok());
        let safe = release.is_some_and(|release| release >= 29);
        ANSWER.store(if safe { YES } else { NO }, Relaxed);
    }
    ANSWER.load(Relaxed) == YES
}
