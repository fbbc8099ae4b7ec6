//! Windows.

#[cfg(not(barrierd_loom))]
pub(crate) use super::by_std::WaitQueue;
pub(crate) use super::by_std::{mark, now_ns};
use core::ffi::{c_char, c_int, c_void};
use core::ptr;

#[link(name = "kernel32")]
unsafe extern "system" {
    safe fn FlushProcessWriteBuffers();
    safe fn GetCurrentThreadId() -> u32;
    /// With no name: the program's module.
    fn GetModuleHandleW(name: *const u16) -> *mut c_void;
    fn GetProcAddress(module: *mut c_void, name: *const c_char) -> *const c_void;
    fn GetModuleHandleExW(flags: u32, name: *const u16, module: *mut *mut c_void) -> c_int;
}

unsafe extern "C" {
    /// ISO C: see `posix.rs`.
    safe fn atexit(call: extern "C" fn()) -> c_int;
}

const PIN: u32 = 1;
const UNCHANGED_REFCOUNT: u32 = 2;
const FROM_ADDRESS: u32 = 4;

/// `FlushProcessWriteBuffers` (Windows Vista): interrupts each CPU that runs a thread of the process, and returns when
/// all of them have taken the interrupt. Threads that do not run passed a barrier when they were switched out.
pub(crate) mod membarrier {
    use crate::platform::Refusal;

    pub(crate) const MAY_EXIST: bool = true;

    pub(crate) fn is_offered() -> bool {
        !super::is_wine()
    }

    /// There is nothing to register.
    pub(crate) fn register() -> Result<(), Refusal> {
        if super::is_wine() { Err(Refusal::Unsupported) } else { Ok(()) }
    }

    /// After `register`.
    #[expect(clippy::unnecessary_wraps, reason = "other systems refuse")]
    pub(crate) fn barrier() -> Result<(), Refusal> {
        super::FlushProcessWriteBuffers();
        Ok(())
    }
}

/// Returns whether the program runs on Wine, whose `FlushProcessWriteBuffers` did nothing for many releases (8.0 does
/// nothing): the test `detector` finds nodes there that are freed under readers.
fn is_wine() -> bool {
    let library: [u16; 10] = core::array::from_fn(|n| u16::from(b"ntdll.dll\0"[n]));
    // SAFETY: strings that end with a zero; the library is in every process.
    unsafe {
        let library = GetModuleHandleW(library.as_ptr());
        !library.is_null() && !GetProcAddress(library, c"wine_get_version".as_ptr()).is_null()
    }
}

/// Returns the kernel's number of the calling thread.
pub(crate) fn own_tid() -> u32 {
    GetCurrentThreadId()
}

/// Returns the number of the process.
pub(crate) fn process_id() -> u32 {
    std::process::id()
}

/// Returns the module that this code is in, or null.
fn this_module(flags: u32) -> *mut c_void {
    let mut module = ptr::null_mut();
    let here = this_module as fn(u32) -> *mut c_void as *const u16;
    // SAFETY: with that flag the name is an address, here of this function; and room for the answer.
    unsafe { GetModuleHandleExW(flags | FROM_ADDRESS, here, &raw mut module) };
    module
}

/// Keeps the module that contains this code loaded until the process ends.
pub(crate) fn stay_loaded() {
    this_module(PIN);
}

/// A new thread has the default priority.
pub(crate) fn become_ordinary() {}

/// Has `call` called when the program ends, if this code is the program's. In a library it would be called when other
/// threads have been ended, with the locks that they held.
pub(crate) fn at_exit(call: extern "C" fn()) {
    // SAFETY: no name.
    let program = unsafe { GetModuleHandleW(ptr::null()) };
    if this_module(UNCHANGED_REFCOUNT) == program {
        let _ = atexit(call);
    }
}

/// There are no forks.
pub(crate) fn in_children(_: extern "C" fn()) -> bool {
    true
}
