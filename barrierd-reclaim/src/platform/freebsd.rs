//! FreeBSD's `membarrier(2)`, on x86-64: FreeBSD 14.1, with Linux's commands (sys/membarrier.h).
//!
//! It is taken from the C library by its name (`FBSD_1.7`), as neither rustix nor the crate libc declares it, and never
//! called by its number: a kernel that does not know a system call ends the program by SIGSYS. A C library is no newer
//! than its kernel.
//!
//! # Why it is a barrier for threads that do not run
//! `kern_membarrier` fences on each CPU on which the process's address space is active, and returns after that. A CPU
//! joins these before it runs a thread of the process, and leaves them after it did, both by a locked instruction
//! (`pmap_activate_sw`), which on x86-64 is a full barrier. So a thread that runs on none of them passed one when it was
//! switched out, and passes one before it goes on. On arm64 the kernel asks each CPU by a plain load which thread it
//! runs, and nothing here says how that is ordered with the thread's own accesses; the others were not looked at.
//! Readers fence on all of them.

use crate::platform::Refusal;
use core::ffi::{c_char, c_int, c_uint, c_void};
use core::mem::transmute;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// Whether there may be one on this system.
pub(crate) const MAY_EXIST: bool = true;

// Of sys/membarrier.h: bits, which the query returns together.
const QUERY: c_int = 0;
const PRIVATE_EXPEDITED: c_int = 0x08;
const REGISTER_PRIVATE_EXPEDITED: c_int = 0x10;

// Of errno.h.
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 78;

/// Returns whether the kernel says that it would register this process and sell to it. Does neither.
pub(crate) fn is_offered() -> bool {
    let both = PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED;
    call(QUERY).is_ok_and(|offered| offered & both == both)
}

/// Registers the process: a flag of it.
pub(crate) fn register() -> Result<(), Refusal> {
    call(REGISTER_PRIVATE_EXPEDITED).map(drop)
}

/// Has every running thread of the process pass a full barrier before this returns.
pub(crate) fn barrier() -> Result<(), Refusal> {
    call(PRIVATE_EXPEDITED).map(drop)
}

/// `int membarrier(int cmd, unsigned flags, int cpu_id)`.
type Membarrier = unsafe extern "C" fn(c_int, c_uint, c_int) -> c_int;

fn call(command: c_int) -> Result<c_int, Refusal> {
    let Some(membarrier) = find() else {
        return Err(Refusal::Unsupported);
    };
    // SAFETY: numbers alone.
    let answer = unsafe { membarrier(command, 0, 0) };
    if answer >= 0 {
        return Ok(answer);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(EINVAL);
    Err(match errno {
        // No such system call; no such command of it.
        ENOSYS | EINVAL => Refusal::Unsupported,
        // The kernel says so only to a process that has not registered.
        EPERM | EACCES => Refusal::Forbidden(errno),
        _ => Refusal::Failed(errno),
    })
}

/// Returns the C library's function, if it has one.
fn find() -> Option<Membarrier> {
    unsafe extern "C" {
        fn dlopen(name: *const c_char, mode: c_int) -> *mut c_void;
        fn dlsym(object: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    // Of `dlfcn.h`.
    const RTLD_LAZY: c_int = 1;
    const RTLD_NOLOAD: c_int = 0x2000;

    /// Null where it has not been looked for.
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    /// What [`FOUND`] is where there is none.
    const NONE: *mut c_void = ptr::dangling_mut();

    // Relaxed: every thread finds the same, and the code that it leads to was there before the program began.
    let mut found = FOUND.load(Relaxed);
    if found.is_null() {
        // Not among all symbols of the process: a program may have a function of that name.
        // SAFETY: with NOLOAD nothing is loaded, so no constructor runs. The library stays, and so may its handle. A static
        // program has no libraries, and the answer is null.
        found = unsafe {
            let library = dlopen(c"libc.so.7".as_ptr(), RTLD_LAZY | RTLD_NOLOAD);
            if library.is_null() { ptr::null_mut() } else { dlsym(library, c"membarrier".as_ptr()) }
        };
        if found.is_null() {
            found = NONE;
        }
        FOUND.store(found, Relaxed);
    }
    // SAFETY: the C library's function of that name, which sys/membarrier.h declares so.
    (found != NONE).then(|| unsafe { transmute::<*mut c_void, Membarrier>(found) })
}
