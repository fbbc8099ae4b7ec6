//! Keeps this code mapped: the background thread runs it for as long as the process lives.
//!
//! Owns one call of the dynamic loader. The code may be part of a shared object that was opened by
//! `dlopen` (a plugin in Rust), and may be closed once its users are done. The C library keeps an object
//! mapped whose thread-local destructors are still to come, but only from the moment that a thread has
//! registered one; a new thread would find its code gone before that. And what its destructors would run
//! later on (`epoch/exit.rs`) is gone just the same. So the object stays, like every one that starts a
//! thread for good: `RTLD_NODELETE`. Its code and statics cost what they did before.
//!
//! Code of *other* objects, which retired objects point to, is its users' to keep.

/// Keeps the object that contains this function mapped until the process ends. Where that can't be had
/// there is nothing to do: the program itself is never closed.
///
/// Takes the loader's lock, as the registration of any thread-local destructor does.
#[cfg(not(any(target_env = "musl", target_feature = "crt-static")))]
pub(crate) fn stay_loaded() {
    use core::ffi::{CStr, c_char, c_int, c_void};
    use core::ptr;

    /// `Dl_info` of `dlfcn.h`.
    #[repr(C)]
    struct Info {
        name: *const c_char,
        base: *const c_void,
        symbol: *const c_char,
        address: *const c_void,
    }

    unsafe extern "C" {
        /// Which object an address is in. 0: none.
        fn dladdr(address: *const c_void, info: *mut Info) -> c_int;
        /// Opens an object once more, here one that is open.
        fn dlopen(name: *const c_char, mode: c_int) -> *mut c_void;
    }

    // Of `dlfcn.h`. Where a system has no such flag it is 0: the handle, which stays open, does as well.
    const APPLE: bool = cfg!(target_vendor = "apple");
    const BSD: bool =
        cfg!(any(target_os = "freebsd", target_os = "dragonfly", target_os = "netbsd"));
    const MIPS: bool = cfg!(any(target_arch = "mips", target_arch = "mips64"));
    const BIONIC_32: bool = cfg!(all(target_os = "android", target_pointer_width = "32"));
    const RTLD_NOW: c_int = if BIONIC_32 { 0 } else { 2 };
    const RTLD_NODELETE: c_int = if APPLE {
        0x80
    } else if cfg!(target_os = "openbsd") {
        0
    } else {
        0x1000
    };
    const RTLD_NOLOAD: c_int = if APPLE {
        0x10
    } else if BSD {
        0x2000
    } else if cfg!(target_os = "openbsd") {
        0
    } else if cfg!(target_os = "linux") && MIPS {
        8
    } else {
        4
    };

    let here = stay_loaded as fn() as *const c_void;
    let mut info =
        Info { name: ptr::null(), base: ptr::null(), symbol: ptr::null(), address: ptr::null() };
    // SAFETY: any address may be asked for; `info` is written, if at all, by this call.
    if unsafe { dladdr(here, &raw mut info) } == 0 || info.name.is_null() {
        return;
    }
    // SAFETY: a string of the loader's, which lives as long as the object, in which this code runs.
    let name = unsafe { CStr::from_ptr(info.name) };
    // SAFETY: with NOLOAD nothing is loaded, so no constructor runs; the object is open, or the name is
    // that of the program, and the answer null. The handle stays open, and is not needed.
    unsafe { dlopen(name.as_ptr(), RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) };
}

/// Nothing is unmapped: musl's `dlclose` does nothing, and a static program has no objects.
#[cfg(any(target_env = "musl", target_feature = "crt-static"))]
pub(crate) fn stay_loaded() {}
