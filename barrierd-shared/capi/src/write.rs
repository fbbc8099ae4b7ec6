//! Writing from C: regions that are made, writers, changes of cells and maps.
//!
//! This file owns that part of the border. **Safety**: as in `lib.rs` and `map.rs`; a writer is null or from
//! [`barrierd_shared_join_writer`], not given back since, and used by one thread at a time.

use std::ffi::{c_char, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::time::{Duration, Instant};

use barrierd_shared::any::{self, AnyMap};
use barrierd_shared::{Options, Region, WriteError, Writer};

use crate::map::{SharedMapType, bytes_of, map_of};
use crate::{code, failed, fenced, hand_out, not_opened, open_at, path_of, take_back};

fn not_written(error: &WriteError) -> c_int {
    failed(code::of_write(error), error)
}

/// Makes a region at `path`, or in memory if that is null.
///
/// # Safety
///
/// `path` is null or a string that ends with a zero; `region` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_create(
    path: *const c_char,
    bytes: u64,
    readers: u64,
    writers: u64,
    region: *mut *mut Region,
) -> c_int {
    let create = || {
        let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let mut options = Options::new(number(bytes));
        if readers != 0 {
            options = options.readers(number(readers));
        }
        if writers != 0 {
            options = options.writers(number(writers));
        }
        let made = if path.is_null() {
            Region::create_in_memory(options)
        } else {
            // SAFETY: the caller's promise, handed on.
            Region::create(unsafe { path_of(path) }?, options)
        };
        made.map_err(|error| not_opened(&error))
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(region, create) }
}

/// Opens the region at `path`, for readers and writers.
///
/// # Safety
///
/// As for `barrierd_shared_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_open_writable(
    path: *const c_char,
    region: *mut *mut Region,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { open_at(path, region, |path| Region::open(path)) }
}

/// The same, where the files may belong to user `owner`, too.
///
/// # Safety
///
/// As for `barrierd_shared_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_open_writable_of(
    path: *const c_char,
    owner: u32,
    region: *mut *mut Region,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    unsafe { open_at(path, region, |path| Region::open_of(path, owner)) }
}

/// Opens the region of these descriptors, which stay the caller's.
///
/// # Safety
///
/// `region` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_open_descriptors(
    data: c_int,
    slots: c_int,
    writers: c_int,
    region: *mut *mut Region,
) -> c_int {
    let own = |number: c_int| -> Result<OwnedFd, c_int> {
        if number < 0 {
            return Err(failed(code::INVALID, &"a negative number instead of a descriptor"));
        }
        // SAFETY: not -1. It is used for this call alone, which fails where there is no such descriptor.
        let lent = unsafe { BorrowedFd::borrow_raw(number) };
        lent.try_clone_to_owned()
            .map_err(|error| failed(code::IO, &format_args!("descriptor {number}: {error}")))
    };
    let open = || {
        let writers = if writers == -1 { None } else { Some(own(writers)?) };
        let opened = Region::from_descriptors(own(data)?, own(slots)?, writers);
        opened.map_err(|error| not_opened(&error))
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(region, open) }
}

/// Stores the descriptors of the data, the slots and the writers' file, which stay the region's.
///
/// # Safety
///
/// `region` as `lib.rs` says; `descriptors` is null or three numbers that may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_descriptors(
    region: *const Region,
    descriptors: *mut c_int,
) -> c_int {
    fenced(|| {
        // SAFETY: null, or made by `hand_out` and not given back.
        let Some(region) = (unsafe { region.as_ref() }).filter(|_| !descriptors.is_null()) else {
            return failed(code::INVALID, &"a null pointer instead of a region or its descriptors");
        };
        let (data, slots) = region.descriptors();
        let writers = region.writers_descriptor().map_or(-1, |writers| writers.as_raw_fd());
        let all = [data.as_raw_fd(), slots.as_raw_fd(), writers];
        // SAFETY: not null, and the caller's to write to.
        unsafe { descriptors.cast::<[c_int; 3]>().write(all) };
        code::OK
    })
}

/// Opens the data once more, for reading alone. Returns the descriptor, which is the caller's.
///
/// # Safety
///
/// `region` as `lib.rs` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_data_for_reading(region: *const Region) -> c_int {
    fenced(|| {
        // SAFETY: null, or made by `hand_out` and not given back.
        let Some(region) = (unsafe { region.as_ref() }) else {
            return failed(code::INVALID, &"a null pointer instead of a region");
        };
        match region.data_for_reading() {
            Ok(descriptor) => descriptor.into_raw_fd(),
            Err(error) => not_opened(&error),
        }
    })
}

/// Takes a writer's slot.
///
/// # Safety
///
/// `region` as `lib.rs` says; `writer` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_join_writer(
    region: *const Region,
    writer: *mut *mut Writer,
) -> c_int {
    let join = || {
        // SAFETY: null, or made by `hand_out` and not given back.
        let region = unsafe { region.as_ref() }
            .ok_or_else(|| failed(code::INVALID, &"a null pointer instead of a region"))?;
        region.writer().map_err(|error| failed(code::of_join(&error), &error))
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(writer, join) }
}

/// Leaves the slot.
///
/// # Safety
///
/// `writer` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_leave_writer(writer: *mut Writer) {
    // SAFETY: the caller's promise, handed on.
    unsafe { take_back(writer) }
}

/// Runs a writer's call.
///
/// # Safety
///
/// `writer` as the module says.
unsafe fn by(
    writer: *mut Writer,
    work: impl FnOnce(&mut Writer) -> Result<Result<c_int, WriteError>, c_int>,
) -> c_int {
    fenced(|| {
        // SAFETY: null, or made by `hand_out`, not given back, and this thread's for the call.
        let Some(writer) = (unsafe { writer.as_mut() }) else {
            return failed(code::INVALID, &"a null pointer instead of a writer");
        };
        match work(writer) {
            Ok(done) => done.unwrap_or_else(|error| not_written(&error)),
            Err(code) => code,
        }
    })
}

/// Inserts an entry, or replaces it.
///
/// # Safety
///
/// `writer` as the module says, the rest as `map.rs` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_insert(
    writer: *mut Writer,
    map: *const SharedMapType,
    key: *const c_void,
    value: *const c_void,
) -> c_int {
    let insert = |writer: &mut Writer| {
        // SAFETY: the caller's promise, handed on; `map_of` refuses null.
        let (any, key, value) = unsafe {
            let any = map_of(map)?;
            let key = bytes_of(writer.region(), key, (*map).key_bytes)?;
            (any, key, bytes_of(writer.region(), value, (*map).value_bytes)?)
        };
        Ok(any.insert(writer, &key, &value).map(c_int::from))
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { by(writer, insert) }
}

/// Removes an entry.
///
/// # Safety
///
/// As for [`barrierd_shared_map_insert`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_remove(
    writer: *mut Writer,
    map: *const SharedMapType,
    key: *const c_void,
) -> c_int {
    let remove = |writer: &mut Writer| {
        // SAFETY: as above.
        let (any, key) =
            unsafe { (map_of(map)?, bytes_of(writer.region(), key, (*map).key_bytes)?) };
        Ok(any.remove(writer, &key).map(c_int::from))
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { by(writer, remove) }
}

/// Removes all entries.
///
/// # Safety
///
/// As for [`barrierd_shared_map_insert`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_clear(
    writer: *mut Writer,
    map: *const SharedMapType,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    let map = || unsafe { map_of(map) };
    let clear = |writer: &mut Writer| Ok(AnyMap::clear(&map()?, writer).map(|()| code::OK));
    // SAFETY: the caller's promise, handed on.
    unsafe { by(writer, clear) }
}

/// Replaces a cell's value.
///
/// # Safety
///
/// `writer` as the module says; `value` has `bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_cell_set(
    writer: *mut Writer,
    root: u64,
    value: *const c_void,
    bytes: usize,
) -> c_int {
    let set = |writer: &mut Writer| {
        // SAFETY: the caller's promise, handed on.
        let value = unsafe { bytes_of(writer.region(), value, bytes as u64) }?;
        match any::set_cell(writer, root, &value) {
            None => Err(failed(code::INVALID, &"no such root")),
            Some(done) => Ok(done.map(|()| code::OK)),
        }
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { by(writer, set) }
}

/// Frees what can be freed now.
///
/// # Safety
///
/// `writer` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_flush(writer: *mut Writer) -> c_int {
    let count = |freed| c_int::try_from(freed).unwrap_or(c_int::MAX);
    // SAFETY: the caller's promise, handed on.
    unsafe { by(writer, |writer| Ok(writer.flush().map(count))) }
}

/// Waits until all that was retired is free.
///
/// # Safety
///
/// `writer` as the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_synchronize(
    writer: *mut Writer,
    timeout_ns: u64,
) -> c_int {
    // 50 years of nanoseconds, at most: a deadline that can be had.
    let timeout = Duration::from_nanos(timeout_ns.min(1 << 60));
    let wait =
        |writer: &mut Writer| Ok(writer.synchronize(Instant::now() + timeout).map(|()| code::OK));
    // SAFETY: the caller's promise, handed on.
    unsafe { by(writer, wait) }
}
