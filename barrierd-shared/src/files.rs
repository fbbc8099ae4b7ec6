//! A region's two files: their headers, made and checked.
//!
//! This file owns what a header must say before anything else is believed. It knows nothing of what is done with the memory.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use barrierd_client::boot::BootId;
use rustix::fs::{FallocateFlags, Gid, Mode, fallocate, fchmod, fchown};

use crate::error::RegionError;
use crate::layout::{
    BLOCKS, BOOT, BYTES, DATA_MAGIC, ID, MAGIC, MAX_READERS, MAX_WRITERS, READERS, SLOTS_MAGIC,
    TOP, VERSION, VERSION_AT, WRITERS, slot_at, slots_bytes,
};
use crate::map::Map;
use crate::region::Options;
use crate::slots;

/// Both files, checked and mapped.
pub(crate) struct Inner {
    pub(crate) data: Map,
    pub(crate) slots: Map,
    pub(crate) data_file: File,
    pub(crate) slots_file: File,
    /// Device and inode, of either.
    data_is: (u64, u64),
    slots_is: (u64, u64),
    pub(crate) readers: usize,
    pub(crate) writers: usize,
}

impl Inner {
    /// Returns whether the descriptors are still the region's. A program that closes all of its descriptors, and opens others,
    /// would otherwise ask another file who lives. Ask after the answers that it is to vouch for: a descriptor that is
    /// the region's now was it then.
    pub(crate) fn has_its_files(&self) -> bool {
        let is =
            |file: &File, is| file.metadata().is_ok_and(|found| (found.dev(), found.ino()) == is);
        is(&self.data_file, self.data_is) && is(&self.slots_file, self.slots_is)
    }
}

pub(crate) fn slots_path(path: &Path, id: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{id:016x}"));
    name.into()
}

pub(crate) fn new_path(path: &Path, id: u64) -> PathBuf {
    let mut name = slots_path(path, id).into_os_string();
    name.push(".new");
    name.into()
}

/// A number that no other region has: a hash of nothing, under a key that the system gave.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

pub(crate) fn new_file(path: &Path) -> Result<File, RegionError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(RegionError::io(format!("create {path:?}")))
}

/// Gives both files their length and their headers.
pub(crate) fn fill(
    data: &File,
    slots: &File,
    id: u64,
    options: Options,
) -> Result<(), RegionError> {
    let boot = BootId::current().map_err(RegionError::io("ask for the boot id"))?.words();
    let lengths = [(data, options.bytes as u64), (slots, slots_bytes(options.readers))];
    for (file, bytes) in lengths {
        // Not ftruncate: where the file system is full, that is SIGBUS later.
        fallocate(file, FallocateFlags::empty(), 0, bytes)
            .map_err(|errno| RegionError::io(format!("allocate {bytes} bytes"))(errno.into()))?;
    }
    let put = |file: &File, at: u64, word: u64| {
        file.write_all_at(&word.to_le_bytes(), at).map_err(RegionError::io("write a header"))
    };
    for (file, magic) in [(data, DATA_MAGIC), (slots, SLOTS_MAGIC)] {
        put(file, MAGIC, magic)?;
        put(file, VERSION_AT, VERSION)?;
        put(file, READERS, options.readers as u64)?;
        put(file, ID, id)?;
    }
    put(data, BYTES, options.bytes as u64)?;
    put(data, WRITERS, options.writers as u64)?;
    put(data, BOOT[0], boot[0])?;
    put(data, BOOT[1], boot[1])?;
    put(data, TOP, BLOCKS)?;
    for reader in 0..options.readers {
        put(slots, slot_at(reader), slots::NOBODY)?;
    }
    if let Some(group) = options.group {
        for (file, mode) in [(data, 0o640), (slots, 0o660)] {
            let done = fchown(file, None, Some(Gid::from_raw(group)))
                .and_then(|()| fchmod(file, Mode::from_raw_mode(mode)));
            done.map_err(|errno| {
                RegionError::io(format!("give a file to group {group}"))(errno.into())
            })?;
        }
    }
    Ok(())
}

pub(crate) fn open(path: &Path, writable: bool) -> Result<Inner, RegionError> {
    let open = |path: &Path, writable: bool| {
        let mut options = OpenOptions::new();
        // A fifo in the region's place must not make this wait, nor a link lead elsewhere.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let opened = options.read(true).write(writable).custom_flags(flags).open(path);
        opened.map_err(|error| match error.kind() {
            ErrorKind::NotFound => RegionError::NotFound { path: path.into() },
            _ => RegionError::io(format!("open {path:?}"))(error),
        })
    };
    let data = open(path, writable)?;
    let header = Header::of(&data, "data", DATA_MAGIC)?;
    let slots = open(&slots_path(path, header.id), true)?;
    check(data, slots, writable)
}

/// The words that both files have, as they stand in the file.
struct Header {
    len: u64,
    is: (u64, u64),
    readers: usize,
    id: u64,
}

impl Header {
    fn of(file: &File, name: &'static str, magic: u64) -> Result<Header, RegionError> {
        let about = file.metadata().map_err(RegionError::io(format!("look at the {name} file")))?;
        let (len, is) = (about.len(), (about.dev(), about.ino()));
        if !about.is_file() || len < 8 {
            return Err(RegionError::Short { file: name, found: len, wanted: BLOCKS });
        }
        let found = read(file, MAGIC)?;
        if found != magic {
            return Err(RegionError::Foreign { file: name, found });
        }
        if len < BLOCKS.min(slots_bytes(1)) {
            return Err(RegionError::Short { file: name, found: len, wanted: BLOCKS });
        }
        let found = read(file, VERSION_AT)?;
        if found != VERSION {
            return Err(RegionError::Version { found, known: VERSION });
        }
        let found = read(file, READERS)?;
        let nonsense = RegionError::Nonsense { file: name, what: "readers", found };
        let readers =
            usize::try_from(found).ok().filter(|readers| (1..=MAX_READERS).contains(readers));
        Ok(Header { len, is, readers: readers.ok_or(nonsense)?, id: read(file, ID)? })
    }
}

/// Reads a word without mapping the file.
fn read(file: &File, at: u64) -> Result<u64, RegionError> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).map_err(RegionError::io("read a header"))?;
    Ok(u64::from_le_bytes(word))
}

/// Checks both files, and maps them.
pub(crate) fn check(data: File, slots: File, writable: bool) -> Result<Inner, RegionError> {
    let header = Header::of(&data, "data", DATA_MAGIC)?;
    let beside = Header::of(&slots, "slots", SLOTS_MAGIC)?;
    if (header.id, header.readers) != (beside.id, beside.readers) {
        return Err(RegionError::OtherSlots);
    }
    let bytes = read(&data, BYTES)?;
    let nonsense = |what, found| RegionError::Nonsense { file: "data", what, found };
    if bytes < BLOCKS || bytes % 8 != 0 {
        return Err(nonsense("bytes", bytes));
    }
    let found = read(&data, WRITERS)?;
    let writers = usize::try_from(found).ok().filter(|writers| (1..=MAX_WRITERS).contains(writers));
    let writers = writers.ok_or_else(|| nonsense("writers", found))?;
    for (file, found, wanted) in
        [("data", header.len, bytes), ("slots", beside.len, slots_bytes(header.readers))]
    {
        if found < wanted {
            return Err(RegionError::Short { file, found, wanted });
        }
    }
    let found = BootId::from_words([read(&data, BOOT[0])?, read(&data, BOOT[1])?]);
    let now = BootId::current().map_err(RegionError::io("ask for the boot id"))?;
    if found != now {
        return Err(RegionError::OtherBoot { found, now });
    }
    let map = |file: &File, len, writable| {
        Map::new(file, len, writable).map_err(RegionError::io("map a region's file"))
    };
    Ok(Inner {
        data: map(&data, bytes, writable)?,
        slots: map(&slots, slots_bytes(header.readers), true)?,
        data_file: data,
        slots_file: slots,
        data_is: header.is,
        slots_is: beside.is,
        readers: header.readers,
        writers,
    })
}
