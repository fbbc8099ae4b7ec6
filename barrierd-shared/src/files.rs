//! A region's three files: their headers, made and checked.
//!
//! This file owns what a header must say before anything else is believed. It knows nothing of what is done with the memory.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use barrierd_client::boot::BootId;
use rustix::fs::{FallocateFlags, Gid, Mode, fallocate, fchmod, fchown};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::RegionError;
use crate::layout::{
    BLOCKS, BOOT, BYTES, DATA_MAGIC, HEADER, ID, MAGIC, MAX_READERS, MAX_WRITERS, READERS,
    SLOTS_IS, SLOTS_MAGIC, TOP, VERSION, VERSION_AT, WRITERS, WRITERS_IS, WRITERS_MAGIC, slot_at,
    slots_bytes,
};
use crate::lock::LockFile;
use crate::map::Map;
use crate::region::Options;
use crate::slots;

/// A region's files, as descriptors.
pub(crate) struct Files {
    pub(crate) data: File,
    pub(crate) slots: File,
    pub(crate) writers: Option<File>,
}

/// What a process does with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Writes, and reads.
    Write,
    /// Reads: stores to the slots alone.
    Read,
    /// Looks, and stores nothing.
    Look,
}

/// The files, checked and mapped.
pub(crate) struct Inner {
    pub(crate) data: Map,
    pub(crate) slots: Map,
    pub(crate) data_file: LockFile,
    pub(crate) slots_file: LockFile,
    /// There for writers; for others only if they may read it.
    pub(crate) writers_file: Option<LockFile>,
    pub(crate) readers: usize,
    pub(crate) writers: usize,
}

impl Inner {
    /// Returns whether the descriptors are still the region's ([`LockFile::is_itself`]).
    pub(crate) fn has_its_files(&self) -> bool {
        self.slots_file.is_itself() && self.writers_file.as_ref().is_none_or(LockFile::is_itself)
    }
}

pub(crate) fn slots_path(path: &Path, id: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{id:016x}"));
    name.into()
}

pub(crate) fn writers_path(path: &Path, id: u64) -> PathBuf {
    let mut name = slots_path(path, id).into_os_string();
    name.push(".writers");
    name.into()
}

pub(crate) fn new_path(path: &Path, id: u64) -> PathBuf {
    let mut name = slots_path(path, id).into_os_string();
    name.push(".new");
    name.into()
}

/// A number that no other region has.
pub(crate) fn random() -> Result<u64, RegionError> {
    let mut number = [0; 8];
    getrandom(&mut number, GetRandomFlags::empty())
        .map_err(|errno| RegionError::io("ask for a random number")(errno.into()))?;
    Ok(u64::from_le_bytes(number))
}

/// Files that this call has made, and that are removed with this value.
#[derive(Default)]
pub(crate) struct Unfinished(Vec<PathBuf>);

impl Unfinished {
    pub(crate) fn file(&mut self, path: PathBuf) -> Result<File, RegionError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let made = options.open(&path).map_err(RegionError::io(format!("create {path:?}")))?;
        // Only now: what was there before is somebody else's.
        self.0.push(path);
        Ok(made)
    }

    pub(crate) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for path in &self.0 {
            // Whether it is there or not does not matter.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Gives the files their length and their headers.
pub(crate) fn fill(files: &Files, id: u64, options: Options) -> Result<(), RegionError> {
    let boot = BootId::current().map_err(RegionError::io("ask for the boot id"))?.words();
    let (data, slots) = (&files.data, &files.slots);
    let lengths = [(data, options.bytes as u64), (slots, slots_bytes(options.readers))];
    for (file, bytes) in lengths {
        // Not ftruncate: where the file system is full, that is SIGBUS later.
        fallocate(file, FallocateFlags::empty(), 0, bytes)
            .map_err(|errno| RegionError::io(format!("allocate {bytes} bytes"))(errno.into()))?;
    }
    let put = |file: &File, at: u64, word: u64| {
        file.write_all_at(&word.to_le_bytes(), at).map_err(RegionError::io("write a header"))
    };
    let writers = files.writers.iter().map(|file| (file, WRITERS_MAGIC));
    for (file, magic) in [(data, DATA_MAGIC), (slots, SLOTS_MAGIC)].into_iter().chain(writers) {
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
    let others = [(slots, SLOTS_IS)].into_iter();
    for (file, [inode, device]) in others.chain(files.writers.iter().map(|file| (file, WRITERS_IS)))
    {
        let is = file.metadata().map_err(RegionError::io("look at a new file"))?;
        put(data, inode, is.ino())?;
        put(data, device, is.dev())?;
    }
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

pub(crate) fn open(path: &Path, purpose: Use) -> Result<Inner, RegionError> {
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
    let data = open(path, purpose == Use::Write)?;
    let header = Header::of(&data, "data", DATA_MAGIC)?;
    let slots = open(&slots_path(path, header.id), purpose != Use::Look)?;
    let writers = open(&writers_path(path, header.id), purpose == Use::Write);
    // Whoever does not write does without: it is for what `Stats` says of writers.
    let writers = if purpose == Use::Write { Some(writers?) } else { writers.ok() };
    check(Files { data, slots, writers }, purpose)
}

/// The words that all files have, as they stand in the file.
struct Header {
    len: u64,
    readers: usize,
    id: u64,
}

impl Header {
    fn of(file: &File, name: &'static str, magic: u64) -> Result<Header, RegionError> {
        let about = file.metadata().map_err(RegionError::io(format!("look at the {name} file")))?;
        let len = about.len();
        if !about.is_file() || len < 8 {
            return Err(RegionError::Short { file: name, found: len, wanted: BLOCKS });
        }
        let found = read(file, MAGIC)?;
        if found != magic {
            return Err(RegionError::Foreign { file: name, found });
        }
        let least = if magic == WRITERS_MAGIC { HEADER } else { BLOCKS.min(slots_bytes(1)) };
        if len < least {
            return Err(RegionError::Short { file: name, found: len, wanted: least });
        }
        let found = read(file, VERSION_AT)?;
        if found != VERSION {
            return Err(RegionError::Version { found, known: VERSION });
        }
        let found = read(file, READERS)?;
        let nonsense = RegionError::Nonsense { file: name, what: "readers", found };
        let readers =
            usize::try_from(found).ok().filter(|readers| (1..=MAX_READERS).contains(readers));
        Ok(Header { len, readers: readers.ok_or(nonsense)?, id: read(file, ID)? })
    }
}

/// Reads a word without mapping the file.
fn read(file: &File, at: u64) -> Result<u64, RegionError> {
    let mut word = [0; 8];
    file.read_exact_at(&mut word, at).map_err(RegionError::io("read a header"))?;
    Ok(u64::from_le_bytes(word))
}

/// Checks the files, and maps them.
pub(crate) fn check(files: Files, purpose: Use) -> Result<Inner, RegionError> {
    let Files { data, slots, writers: writers_file } = files;
    let header = Header::of(&data, "data", DATA_MAGIC)?;
    let beside = Header::of(&slots, "slots", SLOTS_MAGIC)?;
    if (header.id, header.readers) != (beside.id, beside.readers) {
        return Err(RegionError::OtherSlots);
    }
    // By their inodes, too: a copy has other locks, by which the living would look dead.
    let is_the_one = |file: &File, [inode, device]: [u64; 2]| {
        let found = file.metadata().map_err(RegionError::io("look at a region's file"))?;
        Ok((found.ino(), found.dev()) == (read(&data, inode)?, read(&data, device)?))
    };
    if !is_the_one(&slots, SLOTS_IS)? {
        return Err(RegionError::OtherSlots);
    }
    let is_right = |file: &File| {
        let id = Header::of(file, "writers", WRITERS_MAGIC)?.id;
        if id != header.id || !is_the_one(file, WRITERS_IS)? {
            return Err(RegionError::OtherWriters);
        }
        Ok(())
    };
    let writers_file = match writers_file {
        // Whoever does not write does without.
        Some(file) if purpose != Use::Write => is_right(&file).is_ok().then_some(file),
        Some(file) => is_right(&file).map(|()| Some(file))?,
        None => None,
    };
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
    let locks = |file| LockFile::new(file).map_err(RegionError::io("look at a region's file"));
    Ok(Inner {
        data: map(&data, bytes, purpose == Use::Write)?,
        slots: map(&slots, slots_bytes(header.readers), purpose != Use::Look)?,
        data_file: locks(data)?,
        slots_file: locks(slots)?,
        writers_file: writers_file.map(locks).transpose()?,
        readers: header.readers,
        writers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let [others, own, kept] = ["others", "own", "kept"].map(|name| dir.path().join(name));
        std::fs::write(&others, "somebody's").expect("written");
        let mut unfinished = Unfinished::default();
        unfinished.file(own.clone()).expect("made");
        unfinished.file(others.clone()).map(drop).expect_err("it is there already");
        drop(unfinished);
        assert!(others.exists() && !own.exists());
        let mut finished = Unfinished::default();
        finished.file(kept.clone()).expect("made");
        finished.keep();
        assert!(kept.exists());
    }
}
