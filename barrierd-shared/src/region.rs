//! A region: its two files, made, opened, checked and mapped.
//!
//! This file owns what a header must say before anything else is believed. It knows nothing of what is done with the memory.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use barrierd_client::boot::BootId;
use rustix::fs::{
    FallocateFlags, Gid, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fchown,
    fcntl_add_seals, memfd_create,
};

use crate::error::{JoinError, RegionError};
use crate::layout::{
    BLOCKS, BOOT, BYTES, DATA_MAGIC, ID, MAGIC, MAX_READERS, MAX_WRITERS, READERS, SLOTS_MAGIC,
    TOP, VERSION, VERSION_AT, WRITERS, slot_at, slots_bytes,
};
use crate::map::Map;
use crate::reader::Reader;
use crate::slots;
use crate::stats::Stats;
use crate::writer::{Writer, WriterOptions};

/// How a region is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    bytes: usize,
    readers: usize,
    writers: usize,
    group: Option<u32>,
}

impl Options {
    /// A region of `bytes` bytes, headers included, for 64 readers and 8 writers at once, of this user alone.
    #[must_use]
    pub const fn new(bytes: usize) -> Options {
        Options { bytes, readers: 64, writers: 8, group: None }
    }

    /// So many readers at once: guards, not processes. Each scan looks at all of them.
    #[must_use]
    pub const fn readers(mut self, readers: usize) -> Options {
        self.readers = readers;
        self
    }

    /// So many writers at once.
    #[must_use]
    pub const fn writers(mut self, writers: usize) -> Options {
        self.writers = writers;
        self
    }

    /// Members of this group may read: the data file gets the mode 0640 instead of 0600, the slots file 0660. What such
    /// a member can do is said in [`Region`]'s documentation.
    #[must_use]
    pub const fn group(mut self, group: u32) -> Options {
        self.group = Some(group);
        self
    }

    fn check(&self) -> Result<(), RegionError> {
        let least = BLOCKS + 64;
        let bytes = self.bytes as u64;
        if bytes < least || bytes % 8 != 0 || bytes > 1 << 46 {
            return Err(RegionError::Options {
                what: "bytes (a multiple of 8, 8256 at least)",
                found: bytes,
                most: 1 << 46,
            });
        }
        for (what, found, most) in
            [("readers", self.readers, MAX_READERS), ("writers", self.writers, MAX_WRITERS)]
        {
            if found == 0 || found > most {
                return Err(RegionError::Options { what, found: found as u64, most: most as u64 });
            }
        }
        Ok(())
    }
}

/// Memory that several processes have mapped, each where it likes. Clones are one mapping.
///
/// # Two files
///
/// The data file is what the path names; the slots file lies beside it, at `PATH.` and sixteen hexadecimal digits. All
/// participants write to the slots file; only writers write to the data file, and only they need the permission.
///
/// # What others can do
///
/// - Whoever may write to the data can change any content, and make writers report [`Corrupt`](crate::Corrupt). It can't make
///   another process access anything outside the region, loop for ever, or do anything undefined: offsets are checked when
///   they are followed, and content is read as plain words.
/// - Whoever may read the data and write to the slots (a member of [`Options::group`]) can't change any content. It can keep
///   garbage from being freed, deny slots to others, and, by overwriting *other readers'* slots, let these read blocks
///   that have been used again: any bytes are a value of what they read, so they get a wrong value, nothing worse.
/// - Whoever may write to a file may cut it, and an access to what is gone raises SIGBUS in every participant, as with any
///   mapped file. A region in memory ([`create_in_memory`](Self::create_in_memory)) is sealed against that.
///
/// # After a fork
///
/// The child has the mapping, and may read what it had found before as long as it lives on in the parent's section. Its
/// copies of the parent's readers and writers refuse to work: it makes its own, by the region that it inherits.
#[derive(Clone)]
pub struct Region(Arc<Inner>);

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

impl Region {
    /// Makes a region at `path`, where there must be nothing. It is there at once and whole, or not at all; a crash
    /// in the middle leaves nothing but files of other names beside it.
    ///
    /// # Errors
    ///
    /// [`RegionError::Exists`], [`RegionError::Options`], or what the system says.
    pub fn create(path: impl AsRef<Path>, options: Options) -> Result<Region, RegionError> {
        options.check()?;
        let path = path.as_ref();
        if path.symlink_metadata().is_ok() {
            return Err(RegionError::Exists { path: path.into() });
        }
        let id = random();
        let (beside, unfinished) = (slots_path(path, id), new_path(path, id));
        let made = (|| {
            let slots = new_file(&beside)?;
            let data = new_file(&unfinished)?;
            fill(&data, &slots, id, options)?;
            // Not rename: that would replace what somebody else has made meanwhile.
            match std::fs::hard_link(&unfinished, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    Err(RegionError::Exists { path: path.into() })
                }
                done => done.map_err(RegionError::io(format!("link {path:?}"))),
            }?;
            check(data, slots, true)
        })();
        // Whether it is there or not does not matter.
        let _ = std::fs::remove_file(&unfinished);
        if made.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        made
    }

    /// Makes a region that no path leads to, in two files in memory whose length is sealed. Give both
    /// [descriptors](Self::descriptors) to others, who [open](Self::from_descriptors) them.
    ///
    /// # Errors
    ///
    /// [`RegionError::Options`], or what the system says.
    pub fn create_in_memory(options: Options) -> Result<Region, RegionError> {
        options.check()?;
        let new = |name| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            memfd_create(name, flags)
                .map(File::from)
                .map_err(|errno| RegionError::io("memfd_create")(errno.into()))
        };
        let (data, slots) = (new("barrierd-data")?, new("barrierd-slots")?);
        fill(&data, &slots, random(), options)?;
        for file in [&data, &slots] {
            fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
                .map_err(|errno| RegionError::io("seal a file in memory")(errno.into()))?;
        }
        check(data, slots, true)
    }

    /// Opens the region at `path`, for readers and writers.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Region, RegionError> {
        open(path.as_ref(), true)
    }

    /// Opens the region at `path`, for readers alone: its data is mapped read-only, and no right to write it is needed.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Region, RegionError> {
        open(path.as_ref(), false)
    }

    /// Opens the region of these two descriptors, for readers and writers if the first may be written, else for readers.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn from_descriptors(data: OwnedFd, slots: OwnedFd) -> Result<Region, RegionError> {
        let flags = rustix::fs::fcntl_getfl(&data)
            .map_err(|errno| RegionError::io("ask for a descriptor's mode")(errno.into()))?;
        check(data.into(), slots.into(), flags & OFlags::ACCMODE == OFlags::RDWR)
    }

    /// Returns the descriptors of the data and of the slots.
    #[must_use]
    pub fn descriptors(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.0.data_file.as_fd(), self.0.slots_file.as_fd())
    }

    /// Returns the user who owns the data file, and may do anything to it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn owner(&self) -> std::io::Result<u32> {
        Ok(self.0.data_file.metadata()?.uid())
    }

    /// Returns the most readers at once.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.0.readers
    }

    /// Returns the most writers at once.
    #[must_use]
    pub fn writers(&self) -> usize {
        self.0.writers
    }

    /// Takes a reader's slot: for one thread at a time. It costs some ten system calls.
    ///
    /// # Errors
    ///
    /// [`JoinError::Full`], or what the system says.
    pub fn reader(&self) -> Result<Reader, JoinError> {
        Reader::join(self.clone())
    }

    /// Takes a writer's slot, with barriers from the daemon's usual place, or else from a global membarrier.
    ///
    /// # Errors
    ///
    /// A [`JoinError`].
    pub fn writer(&self) -> Result<Writer, JoinError> {
        self.writer_with(&WriterOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    ///
    /// A [`JoinError`].
    pub fn writer_with(&self, options: &WriterOptions) -> Result<Writer, JoinError> {
        Writer::join(self.clone(), options)
    }

    /// Returns what the region shows of itself. It takes no turn, so the figures may be of different moments.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::of(&self.0)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region")
            .field("bytes", &self.0.data.len())
            .field("readers", &self.0.readers)
            .field("writers", &self.0.writers)
            .finish_non_exhaustive()
    }
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

fn slots_path(path: &Path, id: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{id:016x}"));
    name.into()
}

fn new_path(path: &Path, id: u64) -> PathBuf {
    let mut name = slots_path(path, id).into_os_string();
    name.push(".new");
    name.into()
}

/// A number that no other region has: a hash of nothing, under a key that the system gave.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn new_file(path: &Path) -> Result<File, RegionError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).map_err(RegionError::io(format!("create {path:?}")))
}

/// Gives both files their length and their headers.
fn fill(data: &File, slots: &File, id: u64, options: Options) -> Result<(), RegionError> {
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

fn open(path: &Path, writable: bool) -> Result<Region, RegionError> {
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
fn check(data: File, slots: File, writable: bool) -> Result<Region, RegionError> {
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
    Ok(Region(Arc::new(Inner {
        data: map(&data, bytes, writable)?,
        slots: map(&slots, slots_bytes(header.readers), true)?,
        data_file: data,
        slots_file: slots,
        data_is: header.is,
        slots_is: beside.is,
        readers: header.readers,
        writers,
    })))
}
