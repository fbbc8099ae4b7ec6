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
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, OpenError, Stamp, WaitError, abi};

#[macro_use]
mod codes;

mod code;
#[cfg(test)]
mod header_tests;
mod message;

/// Keeps `what` for `barrierd_last_message` and hands `code` back.
fn failed(code: c_int, what: &dyn Display) -> c_int {
    message::set(what);
    code
}

/// Runs `work`, of which no panic may come out: unwinding into C would end the process.
fn fenced(work: impl FnOnce() -> c_int) -> c_int {
    // A panic leaves nothing half-done that is used again: a barrier's words are single atomics.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| failed(code::INTERNAL, &"a panic in libbarrierd: please report it"))
}

/// Runs `work` on a barrier from C.
///
/// # Safety
///
/// As the module says.
unsafe fn with(barrier: *const Barrier, work: impl FnOnce(&Barrier) -> c_int) -> c_int {
    fenced(|| {
        // SAFETY: null, or made by `Box::into_raw` in `hand_out` and not freed yet, as the caller
        // promises; never lent mutably.
        match unsafe { barrier.as_ref() } {
            Some(barrier) => work(barrier),
            None => failed(code::INVALID, &"a null pointer instead of a barrier"),
        }
    })
}

/// Stores what was opened for C, or a null pointer.
///
/// # Safety
///
/// `out` is null or may be written to.
unsafe fn hand_out(
    out: *mut *mut Barrier,
    open: impl FnOnce() -> Result<Option<Barrier>, OpenError>,
) -> c_int {
    if out.is_null() {
        return failed(code::INVALID, &"a null pointer where the barrier should be stored");
    }
    // SAFETY: not null, and the caller's to write to.
    unsafe { out.write(ptr::null_mut()) };
    match open() {
        Ok(None) => 0,
        Ok(Some(barrier)) => {
            // SAFETY: as above.
            unsafe { out.write(Box::into_raw(Box::new(barrier))) };
            1
        }
        Err(error) => failed(code::of_open(&error), &error),
    }
}

/// Opens the file at `path`; null: the default one.
///
/// # Safety
///
/// `path` is null or a string that ends with a zero; `barrier` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_open(path: *const c_char, barrier: *mut *mut Barrier) -> c_int {
    fenced(|| {
        let path = if path.is_null() {
            Path::new(abi::DEFAULT_PATH)
        } else {
            // SAFETY: a string that ends with a zero and stays as it is during this call.
            Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
        };
        // SAFETY: the caller's promise, handed on.
        let opened = unsafe { hand_out(barrier, || Barrier::open(path).map(Some)) };
        opened.min(code::OK)
    })
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
    unsafe { with(barrier, |barrier| hand_out(reopened, || barrier.reopen())) }
}

/// Unmaps and frees.
///
/// # Safety
///
/// `barrier` as the module says, and neither it nor its `barrierd_data` is used by anyone any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_close(barrier: *mut Barrier) {
    if !barrier.is_null() {
        // SAFETY: made by `Box::into_raw` in `hand_out`, and this is its last use.
        let barrier = unsafe { Box::from_raw(barrier) };
        fenced(|| {
            drop(barrier);
            code::OK
        });
    }
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
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no zero in it"),
        };
    VERSION.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_at_the_border() {
        assert_eq!(fenced(|| panic!("as a mistake would")), code::INTERNAL);
        // SAFETY: a string that ends with a zero, and nothing sets another before it is looked at.
        let said = unsafe { CStr::from_ptr(barrierd_last_message()) };
        assert!(said.to_bytes().starts_with(b"a panic in libbarrierd"));
    }
}
