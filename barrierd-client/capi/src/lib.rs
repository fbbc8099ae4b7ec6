//! libbarrierd: the functions that `include/barrierd.h` declares.
//!
//! This file owns the border to C: pointers in, numbers out, no panic across. What the functions do is
//! `barrierd-client`'s; their documentation for users is the header's, and the sections here say what the
//! caller has to keep.
//!
//! **Safety, for all of them.** Pointers come from C, so nothing is checked but null. A
//! `*const Barrier` is null or one that [`barrierd_open`] or [`barrierd_reopen`] stored and
//! [`barrierd_close`] hasn't been called with; any number of threads may use it at once, since a
//! `Barrier` is `Sync` and is only ever lent shared.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, OpenError, Stamp, WaitError, abi};

#[macro_use]
mod codes;

mod border;
#[cfg(test)]
#[path = "../../../tests/common/c/mod.rs"]
mod c;
mod code;
#[cfg(test)]
mod header_tests;
mod message;

use border::{failed, fenced, hand_out, hand_out_if_any, take_back};

/// Runs `work` on a barrier from C.
///
/// # Safety
///
/// As the module says.
unsafe fn with(barrier: *const Barrier, work: impl FnOnce(&Barrier) -> c_int) -> c_int {
    fenced(|| {
        // SAFETY: null, or from `hand_out` and not freed yet, as the caller promises; never lent mutably.
        match unsafe { barrier.as_ref() } {
            Some(barrier) => work(barrier),
            None => failed(code::INVALID, &"a null pointer instead of a barrier"),
        }
    })
}

fn not_opened(error: OpenError) -> c_int {
    failed(code::of_open(&error), &error)
}

/// Opens the file at `path`; null: the default one.
///
/// # Safety
///
/// `path` is null or a string that ends with a zero; `barrier` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_open(path: *const c_char, barrier: *mut *mut Barrier) -> c_int {
    let open = || {
        let path = if path.is_null() {
            Path::new(abi::DEFAULT_PATH)
        } else {
            // SAFETY: a string that ends with a zero and stays as it is during this call.
            Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
        };
        Barrier::open(path).map_err(not_opened)
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(barrier, open) }
}

/// Opens a barrier's path again if it leads elsewhere: 1; 0 if not.
///
/// # Safety
///
/// `barrier` as the module says; `reopened` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_reopen(
    barrier: *const Barrier,
    reopened: *mut *mut Barrier,
) -> c_int {
    // SAFETY: the caller's promises, handed on.
    unsafe {
        with(barrier, |barrier| hand_out_if_any(reopened, || barrier.reopen().map_err(not_opened)))
    }
}

/// Unmaps and frees.
///
/// # Safety
///
/// `barrier` as the module says, and neither it nor its `barrierd_data` is used by anyone any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_close(barrier: *mut Barrier) {
    // SAFETY: the caller's promise, handed on.
    unsafe { take_back(barrier) }
}

/// The mapping; null for null.
///
/// # Safety
///
/// `barrier` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_data(barrier: *const Barrier) -> *const u8 {
    // SAFETY: null or alive, as the caller promises.
    unsafe { barrier.as_ref() }.map_or(ptr::null(), Barrier::as_ptr)
}

/// Makes this thread's stores visible, then reads the clock.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_stamp() -> u64 {
    Stamp::now().ns()
}

/// Whether the barrier for `stamp` has passed.
///
/// # Safety
///
/// `barrier` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_passed(barrier: *const Barrier, stamp: u64) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        with(barrier, |barrier| match barrier.passed(Stamp::from_ns(stamp)) {
            Ok(passed) => passed.into(),
            Err(why) => failed(code::DISTRUST, &why),
        })
    }
}

/// Waits, and asks the daemon to expedite.
///
/// # Safety
///
/// `barrier` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_wait(
    barrier: *const Barrier,
    stamp: u64,
    timeout_ns: u64,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { wait(barrier, timeout_ns, |b, deadline| b.wait(Stamp::from_ns(stamp), deadline)) }
}

/// Waits, and interrupts nobody.
///
/// # Safety
///
/// `barrier` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_wait_passive(
    barrier: *const Barrier,
    stamp: u64,
    timeout_ns: u64,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        wait(barrier, timeout_ns, |b, deadline| b.wait_passive(Stamp::from_ns(stamp), deadline))
    }
}

/// # Safety
///
/// `barrier` as the module says.
unsafe fn wait(
    barrier: *const Barrier,
    timeout_ns: u64,
    wait: impl FnOnce(&Barrier, Instant) -> Result<(), WaitError>,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        with(barrier, |barrier| {
            let now = Instant::now();
            // 584 years at most, which an Instant can hold.
            let deadline = now.checked_add(Duration::from_nanos(timeout_ns)).unwrap_or(now);
            match wait(barrier, deadline) {
                Ok(()) => code::OK,
                Err(error) => failed(code::of_wait(error), &error),
            }
        })
    }
}

/// Asks for the barrier for `stamp`.
///
/// # Safety
///
/// `barrier` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_expedite(barrier: *const Barrier, stamp: u64) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        with(barrier, |barrier| match barrier.expedite(Stamp::from_ns(stamp)) {
            Ok(()) => code::OK,
            Err(error) => failed(code::of_expedite(&error), &error),
        })
    }
}

/// Whether the daemon is at work.
///
/// # Safety
///
/// `barrier` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_liveness(barrier: *const Barrier) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { with(barrier, |barrier| code::of_liveness(barrier.liveness())) }
}

/// What a code means: a constant string for any number.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_strerror(error: c_int) -> *const c_char {
    code::text(error).as_ptr()
}

/// What this thread's last failing call found.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_last_message() -> *const c_char {
    message::get()
}

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_version() -> *const c_char {
    border::version()
}
