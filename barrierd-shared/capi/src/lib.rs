//! libbarrierd-shared: the functions that `include/barrierd_shared.h` declares.
//!
//! This file owns the border to C: pointers in, numbers out, no panic across. What the functions do is `barrierd-shared`'s;
//! their documentation for users is the header's, and the sections here say what the caller has to keep.
//!
//! **Safety, for all of them.** Pointers come from C, so nothing is checked but null. A region or a reader is null or one
//! that [`barrierd_shared_open`] or [`barrierd_shared_join`] stored, and that was not given back since. A reader is used
//! by one thread at a time.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;

use barrierd_shared::raw::RawReader;
use barrierd_shared::{Reader, Region};

// Both are as in libbarrierd.
#[macro_use]
#[path = "../../../barrierd-client/capi/src/codes.rs"]
mod codes;
#[path = "../../../barrierd-client/capi/src/message.rs"]
mod message;

#[cfg(test)]
#[path = "../tests/cc/mod.rs"]
mod cc;
mod code;
#[cfg(test)]
mod header_tests;
pub mod map;
pub mod write;

/// A reader as C has it: first what the header's inline functions use.
#[repr(C)]
pub struct SharedReader {
    raw: RawReader,
    reader: Reader,
}

/// Keeps `what` for `barrierd_shared_last_message` and hands `code` back.
fn failed(code: c_int, what: &dyn Display) -> c_int {
    message::set(what);
    code
}

/// Runs `work`, of which no panic may come out: unwinding into C would end the process.
fn fenced(work: impl FnOnce() -> c_int) -> c_int {
    // A panic leaves nothing half-done that is used again: what is there is words that are single atomics.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        failed(code::INTERNAL, &"a panic in libbarrierd-shared: please report it")
    })
}

/// Stores what was made for C, or a null pointer.
///
/// # Safety
///
/// `out` is null or may be written to.
unsafe fn hand_out<T>(out: *mut *mut T, make: impl FnOnce() -> Result<T, c_int>) -> c_int {
    if out.is_null() {
        return failed(code::INVALID, &"a null pointer where the result should be stored");
    }
    // SAFETY: not null, and the caller's to write to.
    unsafe { out.write(ptr::null_mut()) };
    match fenced_result(make) {
        Ok(made) => {
            // SAFETY: as above.
            unsafe { out.write(Box::into_raw(Box::new(made))) };
            code::OK
        }
        Err(code) => code,
    }
}

fn fenced_result<T>(make: impl FnOnce() -> Result<T, c_int>) -> Result<T, c_int> {
    let mut made = None;
    let code = fenced(|| match make() {
        Ok(new) => {
            made = Some(new);
            code::OK
        }
        Err(code) => code,
    });
    made.ok_or(code)
}

/// Frees what was handed out.
///
/// # Safety
///
/// `made` is null, or from [`hand_out`] and used for the last time.
unsafe fn take_back<T>(made: *mut T) {
    if !made.is_null() {
        // SAFETY: made by `Box::into_raw` in `hand_out`, and this is its last use.
        let made = unsafe { Box::from_raw(made) };
        fenced(|| {
            drop(made);
            code::OK
        });
    }
}

/// Returns the path that C names.
///
/// # Safety
///
/// `path` is null or a string that ends with a zero and stays as it is meanwhile.
unsafe fn path_of<'a>(path: *const c_char) -> Result<&'a Path, c_int> {
    if path.is_null() {
        return Err(failed(code::INVALID, &"a null pointer instead of a path"));
    }
    // SAFETY: as the caller promises.
    Ok(Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes())))
}

/// Opens the region at `path`, for readers.
///
/// # Safety
///
/// `path` is null or a string that ends with a zero; `region` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_open(
    path: *const c_char,
    region: *mut *mut Region,
) -> c_int {
    let open = || {
        // SAFETY: the caller's promise, handed on.
        let path = unsafe { path_of(path) }?;
        Region::open_read_only(path).map_err(|error| failed(code::of_open(&error), &error))
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(region, open) }
}

/// Frees a region.
///
/// # Safety
///
/// `region` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_close(region: *mut Region) {
    // SAFETY: the caller's promise, handed on.
    unsafe { take_back(region) }
}

/// Takes a reader's slot.
///
/// # Safety
///
/// `region` as the module says; `reader` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_join(
    region: *const Region,
    reader: *mut *mut SharedReader,
) -> c_int {
    let join = || {
        // SAFETY: null, or made by `hand_out` and not given back, as the caller promises; never lent mutably.
        let region = unsafe { region.as_ref() }
            .ok_or_else(|| failed(code::INVALID, &"a null pointer instead of a region"))?;
        let mut reader = region.reader().map_err(|error| failed(code::of_join(&error), &error))?;
        // The pointers lead into the region's mappings, wherever the reader is moved.
        Ok(SharedReader { raw: reader.raw(), reader })
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(reader, join) }
}

/// Leaves the slot.
///
/// # Safety
///
/// `reader` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_leave(reader: *mut SharedReader) {
    // SAFETY: the caller's promise, handed on.
    unsafe { take_back(reader) }
}

/// What a code means: a constant string for any number.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_shared_strerror(error: c_int) -> *const c_char {
    code::text(error).as_ptr()
}

/// What this thread's last failing call found.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_shared_last_message() -> *const c_char {
    message::get()
}

/// The library's version.
#[unsafe(no_mangle)]
pub extern "C" fn barrierd_shared_version() -> *const c_char {
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
        let mut out: *mut Region = ptr::dangling_mut();
        // SAFETY: it may be written to.
        let code = unsafe { hand_out(&mut out, || panic!("as a mistake would")) };
        assert_eq!((code, out.is_null()), (code::INTERNAL, true));
        // SAFETY: a string that ends with a zero, and nothing sets another before it is looked at.
        let said = unsafe { CStr::from_ptr(barrierd_shared_last_message()) };
        assert!(said.to_bytes().starts_with(b"a panic in libbarrierd-shared"));
    }
}
