//! A region, as its users see it.
//!
//! This file owns the ways to get one. What its files must hold is `files.rs`'s.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::error::{JoinError, RegionError};
use crate::files::{self, Inner, check, fill, new_file, new_path, random, slots_path};
use crate::layout::{BLOCKS, MAX_READERS, MAX_WRITERS};
use crate::reader::Reader;
use crate::stats::Stats;
use crate::writer::{Writer, WriterOptions};

/// How a region is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub(crate) bytes: usize,
    pub(crate) readers: usize,
    pub(crate) writers: usize,
    pub(crate) group: Option<u32>,
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

impl Region {
    fn of(files: Inner) -> Region {
        Region(Arc::new(files))
    }

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
            check(data, slots, true).map(Region::of)
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
        check(data, slots, true).map(Region::of)
    }

    /// Opens the region at `path`, for readers and writers.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Region, RegionError> {
        files::open(path.as_ref(), true).map(Region::of)
    }

    /// Opens the region at `path`, for readers alone: its data is mapped read-only, and no right to write it is needed.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Region, RegionError> {
        files::open(path.as_ref(), false).map(Region::of)
    }

    /// Opens the region of these two descriptors, for readers and writers if the first may be written, else for readers.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn from_descriptors(data: OwnedFd, slots: OwnedFd) -> Result<Region, RegionError> {
        let flags = rustix::fs::fcntl_getfl(&data)
            .map_err(|errno| RegionError::io("ask for a descriptor's mode")(errno.into()))?;
        check(data.into(), slots.into(), flags & OFlags::ACCMODE == OFlags::RDWR).map(Region::of)
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
