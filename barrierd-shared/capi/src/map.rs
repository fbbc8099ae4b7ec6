//! Maps from C: what a program takes one for, lookups and walks in sections that C has opened.
//!
//! This file owns that part of the border. **Safety**: as in `lib.rs`; a `struct barrierd_shared_map` is null or may be read,
//! keys and values are null or have as many bytes as it says, which lie in the data of the region that the call is for, or stay as
//! they are during the call, and a walk is null, or from [`barrierd_shared_map_begin`] and not given
//! back, while its reader is there.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use barrierd_shared::Region;
use barrierd_shared::any::{self, AnyMap, Entry, Walk};
use barrierd_shared::raw::{self, NoSection, RawSection};

use crate::{SharedReader, code, failed, fenced, hand_out, take_back};

/// What a program takes a map for. C may have put anything there.
#[repr(C)]
pub struct SharedMapType {
    pub(crate) root: u64,
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
    pub(crate) schema: u64,
}

/// A walk, and the section that it is for.
pub struct SharedWalk {
    reader: *const SharedReader,
    stamp: u64,
    walk: Walk,
}

/// Returns the map that C names.
///
/// # Safety
///
/// As the module says.
pub(crate) unsafe fn map_of(map: *const SharedMapType) -> Result<AnyMap, c_int> {
    // SAFETY: null or readable, as the caller promises.
    let map = unsafe { map.as_ref() }
        .ok_or_else(|| failed(code::INVALID, &"a null pointer instead of a map"))?;
    AnyMap::new(map.root, map.key_bytes, map.value_bytes, map.schema)
        .ok_or_else(|| failed(code::INVALID, &"no map: make it by barrierd_shared_map_at"))
}

/// Bytes that C has handed over, copied: they may lie in the region, where others change them.
pub(crate) struct Bytes {
    few: [u8; 64],
    many: Vec<u8>,
    len: usize,
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.len <= self.few.len() { &self.few[..self.len] } else { &self.many }
    }
}

/// Returns the bytes that C hands over, in a call for `region`.
///
/// # Safety
///
/// `at` is null or has `bytes` bytes. They lie in the region's data, or nobody changes them meanwhile.
pub(crate) unsafe fn bytes_of(
    region: &Region,
    at: *const c_void,
    bytes: u64,
) -> Result<Bytes, c_int> {
    let len = usize::try_from(bytes).map_err(|_| code::INVALID)?;
    if at.is_null() && len > 0 {
        return Err(failed(code::INVALID, &"a null pointer instead of a key or a value"));
    }
    let mut copy = Bytes { few: [0; 64], many: Vec::new(), len };
    let to = match copy.few.get_mut(..len) {
        Some(few) => few,
        None => {
            copy.many.resize(len, 0);
            &mut copy.many
        }
    };
    if !raw::copy(region, at.cast(), to) && len > 0 {
        // SAFETY: not null, and as many as `to` has; the rest is the caller's promise.
        unsafe { ptr::copy_nonoverlapping(at.cast(), to.as_mut_ptr(), len) };
    }
    Ok(copy)
}

/// Returns the section that C has open.
///
/// # Safety
///
/// `reader` as the module says; it stays, and so does its section, as long as what is returned.
unsafe fn section_of<'a>(reader: *const SharedReader) -> Result<RawSection<'a>, c_int> {
    // SAFETY: as the caller promises. It is never lent mutably.
    let reader = unsafe { reader.as_ref() }
        .ok_or_else(|| failed(code::INVALID, &"a null pointer instead of a reader"))?;
    // SAFETY: the caller's promise, handed on.
    unsafe { RawSection::of(&reader.reader) }.map_err(|why| match why {
        NoSection::Forked => failed(code::FORKED, &code::text(code::FORKED).to_string_lossy()),
        _ => failed(code::INVALID, &"no section is open: barrierd_shared_pin opens one"),
    })
}

fn done(work: impl FnOnce() -> Result<c_int, c_int>) -> c_int {
    fenced(|| work().unwrap_or_else(|code| code))
}

/// Says what a program takes the map at a root for.
///
/// # Safety
///
/// `map` is null or may be written to; `schema` is null or a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_at(
    map: *mut SharedMapType,
    root: u64,
    key_bytes: usize,
    value_bytes: usize,
    schema: *const c_char,
) -> c_int {
    done(|| {
        if map.is_null() {
            return Err(failed(code::INVALID, &"a null pointer instead of a map"));
        }
        let schema = if schema.is_null() {
            0
        } else {
            // SAFETY: a string that ends with a zero and stays as it is during this call.
            any::schema(unsafe { CStr::from_ptr(schema) }.to_bytes())
        };
        let (key_bytes, value_bytes) = (key_bytes as u64, value_bytes as u64);
        let made = SharedMapType { root, key_bytes, value_bytes, schema };
        if AnyMap::new(root, key_bytes, value_bytes, schema).is_none() {
            let what = "no such root, or keys or values of 1 MiB or more";
            // What is used all the same is refused.
            // SAFETY: as below.
            unsafe { map.write(SharedMapType { root: u64::MAX, ..made }) };
            return Err(failed(code::INVALID, &what));
        }
        // SAFETY: not null, and the caller's to write to.
        unsafe { map.write(made) };
        Ok(code::OK)
    })
}

/// Finds a key's value, in the section that is open.
///
/// # Safety
///
/// As the module says; `value` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_find(
    reader: *const SharedReader,
    map: *const SharedMapType,
    key: *const c_void,
    value: *mut *const c_void,
) -> c_int {
    done(|| {
        if value.is_null() {
            return Err(failed(code::INVALID, &"a null pointer where the value should be stored"));
        }
        // SAFETY: not null, and the caller's to write to; the rest is its promise, handed on.
        let (section, map, key) = unsafe {
            value.write(ptr::null());
            let section = section_of(reader)?;
            let region = (*reader).reader.region();
            (section, map_of(map)?, bytes_of(region, key, (*map).key_bytes)?)
        };
        let found = map.find(&section, &key);
        let found = found.map_err(|other| failed(code::OTHER_TYPE, &other))?;
        Ok(found.map_or(0, |(_, at)| {
            // SAFETY: as above.
            unsafe { value.write(at.cast()) };
            1
        }))
    })
}

/// Stores the number of entries, in the section that is open.
///
/// # Safety
///
/// As the module says; `len` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_len(
    reader: *const SharedReader,
    map: *const SharedMapType,
    len: *mut u64,
) -> c_int {
    done(|| {
        if len.is_null() {
            return Err(failed(code::INVALID, &"a null pointer where the number should be stored"));
        }
        // SAFETY: not null, and the caller's to write to; the rest is its promise, handed on.
        let (section, map) = unsafe {
            len.write(0);
            (section_of(reader)?, map_of(map)?)
        };
        let found = map.len(&section).map_err(|other| failed(code::OTHER_TYPE, &other))?;
        // SAFETY: as above.
        unsafe { len.write(found) };
        Ok(code::OK)
    })
}

/// Begins a walk over all entries, in the section that is open.
///
/// # Safety
///
/// As the module says; `walk` is null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_begin(
    reader: *const SharedReader,
    map: *const SharedMapType,
    walk: *mut *mut SharedWalk,
) -> c_int {
    let begin = || {
        // SAFETY: the caller's promise, handed on.
        let (section, map) = unsafe { (section_of(reader)?, map_of(map)?) };
        let walk = map.walk(&section).map_err(|other| failed(code::OTHER_TYPE, &other))?;
        Ok(SharedWalk { reader, stamp: section.stamp(), walk })
    };
    // SAFETY: the caller's promise, handed on.
    unsafe { hand_out(walk, begin) }
}

/// Stores the next entry.
///
/// # Safety
///
/// As the module says; `key` and `value` are null or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_next(
    walk: *mut SharedWalk,
    key: *mut *const c_void,
    value: *mut *const c_void,
) -> c_int {
    let store = |(at_key, at_value): Entry| {
        // SAFETY: null, or the caller's to write to.
        unsafe {
            if let Some(key) = key.as_mut() {
                *key = at_key.cast();
            }
            if let Some(value) = value.as_mut() {
                *value = at_value.cast();
            }
        }
    };
    done(|| {
        store((ptr::null(), ptr::null()));
        // SAFETY: null, or made by `barrierd_shared_map_begin` and not given back, and this thread's.
        let walk = unsafe { walk.as_mut() }
            .ok_or_else(|| failed(code::INVALID, &"a null pointer instead of a walk"))?;
        // SAFETY: the reader is there as long as the walk, as the caller promises.
        let section = unsafe { section_of(walk.reader) }?;
        if section.stamp() != walk.stamp {
            let what = "the section that the walk began in has ended: begin another walk";
            return Err(failed(code::INVALID, &what));
        }
        let next = walk.walk.next(&section);
        let next = next.map_err(|_| {
            let what = "the map's buckets or lists are broken: only a participant that may write to the region can do that";
            failed(code::CORRUPT, &what)
        })?;
        Ok(next.map_or(0, |entry| {
            store(entry);
            1
        }))
    })
}

/// Ends a walk.
///
/// # Safety
///
/// As the module says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn barrierd_shared_map_end(walk: *mut SharedWalk) {
    // SAFETY: the caller's promise, handed on.
    unsafe { take_back(walk) }
}
