//! libbarrierd-shared: the functions that `include/barrierd_shared.h` declares.
//!
//! This file owns the border to C: pointers in, numbers out, no panic across. What the functions do is `barrierd-shared`'s;
//! their documentation for users is the header's, and the sections here say what the caller has to keep.
//!
//! **Safety, for all of them.** Pointers come from C, so nothing is checked but null. A region or a reader is null or one
//! that [`barrierd_shared_open`] or [`barrierd_shared_join`] stored, and that was not given back since. A reader is used
//! by one thread at a time.

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use barrierd_shared::raw::RawReader;
use barrierd_shared::{Reader, Region, RegionError};

// These are as in libbarrierd.
#[macro_use]
#[path = "../../../barrierd-client/capi/src/codes.rs"]
mod codes;
#[path = "../../../barrierd-client/capi/src/border.rs"]
mod border;
#[path = "../../../barrierd-client/capi/src/message.rs"]
mod message;

#[cfg(test)]
#[path = "../../../tests/common/c/mod.rs"]
mod c;
mod code;
#[cfg(test)]
mod header_tests;
pub mod map;
pub mod write;

use border::{failed, fenced, hand_out, take_back};

/// A reader as C has it: first what the header's inline functions use.
#[repr(C)]
pub struct SharedReader {
    raw: RawReader,
    reader: Reader,
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

/// Says why there is no region, and returns the code of that.
fn not_opened(error: &RegionError) -> c_int {
    failed(code::of_open(error), error)
}

/// Stores the region that `open` finds at the path that C names.
///
/// # Safety
///
/// As for [`barrierd_shared_open`].
unsafe fn open_at(
    path: *const c_char,
    region: *mut *mut Region,
    open: impl FnOnce(&Path) -> Result<Region, RegionError>,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    let open = || open(unsafe { path_of(path) }?).map_err(|error| not_opened(&error));
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(region, open) }
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
    // SAFETY: the caller's promise, handed on.
    unsafe { open_at(path, region, |path| Region::open_read_only(path)) }
}

/// The same, where the files may belong to user `owner`, too.
///
/// # Safety
///
/// As for `barrierd_shared_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_open_of(
    path: *const c_char,
    owner: u32,
    region: *mut *mut Region,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { open_at(path, region, |path| Region::open_read_only_of(path, owner)) }
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
    border::version()
}
