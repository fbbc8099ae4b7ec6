//! The border between a C library and its programs: no panic goes across, failures are kept as numbers and words, objects
//! are lent by pointers.
//!
//! libbarrierd-shared has this file as a module, too. It owns no function for C; `code.rs` of each library has the
//! numbers that it takes from there, and the library's name.

use std::ffi::{CStr, c_char, c_int};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::{code, message};

/// Keeps `what` as the thread's last message and hands `code` back.
pub(crate) fn failed(code: c_int, what: &dyn Display) -> c_int {
    message::set(what);
    code
}

unsafe extern "C" {
    // Concerns the calling thread alone. The numbers are the same in glibc and musl.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// For its lifetime the calling thread is not cancelled. `pthread_cancel` ends a thread where it next opens a file or
/// sleeps, which can be in here: by an unwinding of its own, that Rust's `catch_unwind` ends the process at.
struct Uncancelled(c_int);

impl Uncancelled {
    fn new() -> Self {
        let mut before = 0;
        // SAFETY: a state that it knows, and a number that may be written to.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Self(before)
    }
}

impl Drop for Uncancelled {
    fn drop(&mut self) {
        let mut unused = 0;
        // SAFETY: the state that it had itself, and a number that may be written to.
        unsafe { pthread_setcancelstate(self.0, &mut unused) };
    }
}

/// Runs `work`, of which no panic may come out, and in which no thread may end: unwinding through here would end the
/// process.
pub(crate) fn fenced(work: impl FnOnce() -> c_int) -> c_int {
    let _until_the_end = Uncancelled::new();
    // A panic leaves nothing half-done that is used again: a barrier's and a region's words are single atomics.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        // In one expression: Rust 1.85 keeps no such value longer.
        failed(code::INTERNAL, &format_args!("a panic in {}: please report it", code::LIBRARY))
    })
}

/// Stores what was made for C, or a null pointer.
///
/// # Safety
///
/// `out` is null or may be written to.
pub(crate) unsafe fn hand_out<T>(
    out: *mut *mut T,
    make: impl FnOnce() -> Result<T, c_int>,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out_if_any(out, || make().map(Some)) }.min(code::OK)
}

/// Stores what was made for C, or a null pointer. Returns 1 if something was made, and 0 if there was nothing to make.
///
/// # Safety
///
/// `out` is null or may be written to.
pub(crate) unsafe fn hand_out_if_any<T>(
    out: *mut *mut T,
    make: impl FnOnce() -> Result<Option<T>, c_int>,
) -> c_int {
    fenced(|| {
        if out.is_null() {
            return failed(code::INVALID, &"a null pointer where the result should be stored");
        }
        // SAFETY: not null, and the caller's to write to.
        unsafe { out.write(ptr::null_mut()) };
        match make() {
            Ok(None) => code::OK,
            Ok(Some(made)) => {
                // SAFETY: as above.
                unsafe { out.write(Box::into_raw(Box::new(made))) };
                1
            }
            Err(code) => code,
        }
    })
}

/// Frees what was handed out.
///
/// # Safety
///
/// `made` is null, or from [`hand_out`] or [`hand_out_if_any`] and used for the last time.
pub(crate) unsafe fn take_back<T>(made: *mut T) {
    if !made.is_null() {
        // SAFETY: made by `Box::into_raw` in `hand_out_if_any`, and this is its last use.
        let made = unsafe { Box::from_raw(made) };
        fenced(|| {
            drop(made);
            code::OK
        });
    }
}

/// The version of the package, as C has it.
pub(crate) fn version() -> *const c_char {
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

    fn last_message() -> &'static CStr {
        // SAFETY: a string that ends with a zero, and nothing sets another before it is looked at.
        unsafe { CStr::from_ptr(message::get()) }
    }

    #[test]
    fn a_panic_ends_at_the_border() {
        assert_eq!(fenced(|| panic!("as a mistake would")), code::INTERNAL);
        let said = format!("a panic in {}: please report it", code::LIBRARY);
        assert_eq!(last_message().to_str(), Ok(said.as_str()));
    }

    #[test]
    fn what_is_made_is_stored_and_what_is_not_leaves_a_null_pointer() {
        let mut out: *mut u64 = ptr::dangling_mut();
        // SAFETY: it may be written to.
        assert_eq!(unsafe { hand_out(&mut out, || panic!("as a mistake would")) }, code::INTERNAL);
        assert!(out.is_null());
        out = ptr::dangling_mut();
        // SAFETY: as above.
        assert_eq!(unsafe { hand_out_if_any(&mut out, || Ok(None)) }, 0);
        assert!(out.is_null());
        // SAFETY: as above.
        assert_eq!(unsafe { hand_out(&mut out, || Err(-77)) }, -77);
        assert!(out.is_null());
        for make_one in [true, false] {
            // SAFETY: as above.
            let code = unsafe {
                if make_one {
                    hand_out(&mut out, || Ok(7))
                } else {
                    hand_out_if_any(&mut out, || Ok(Some(7)))
                }
            };
            assert_eq!(code, if make_one { code::OK } else { 1 });
            // SAFETY: handed out just now, and used for the last time.
            unsafe {
                assert_eq!(*out, 7);
                take_back(out);
            }
        }
        // SAFETY: null pointers.
        unsafe {
            take_back(ptr::null_mut::<u64>());
            assert_eq!(hand_out(ptr::null_mut(), || Ok(7)), code::INVALID);
        }
        assert!(last_message().to_bytes().starts_with(b"a null pointer"));
    }
}
