//! A region, as its users see it.
//!
//! This file owns the ways to get one. What its files must hold is `files.rs`'s.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};

use crate::error::{JoinError, RegionError};
use crate::files::{
    self, Files, Inner, Unfinished, Use, check, fill, new_path, random, slots_path, writers_path,
};
use crate::layout::{BLOCKS, MAX_READERS, MAX_WRITERS};
use crate::lock::LockError;
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

    /// Members of this group may read: the data file gets the mode 0640 instead of 0600, the slots file 0660; the writers' file stays
    /// at 0600. They open it by [`Region::open_read_only_of`], with the owner's number (root's needs none). What such
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
/// # Three files
///
/// The data file is what the path names; beside it lie the slots file, at `PATH.` and sixteen hexadecimal digits, and the writers'
/// file, at the same with `.writers`. All participants write to the slots file. Only writers write to the data file and open the
/// writers' file, which holds nothing except the locks by which their lives are known. So no other's lock can stand in a
/// writer's way.
///
/// # Who may join, and when
///
/// A participant opens the slots file, or the writers' file, anew for writing whenever it takes a slot: by
/// `/proc/thread-self/fd`, and with the rights that it has then. (The descriptions can't be reserved before: a child would share
/// them, and be taken for its parent.)
///
/// - A program that *opens the region as root and then changes its user* gets [`JoinError::Denied`] from then on, unless the
///   new user or group may write to that file. What it took before stays good. So does a server with children: each child takes
///   its slots after the fork and before it drops its privileges, or the files belong to the user that the
///   children become, or to a [group](Options::group) of theirs.
/// - A *sandbox* (chroot, a namespace, seccomp) needs `/proc` of its own pid namespace while it joins, else it gets
///   [`JoinError::NoProc`], and must be allowed the system calls of a join: `openat`, `fcntl`, `fstat`, `mmap`, `madvise`, `close`,
///   `getrandom`. Sections and turns need none of that, except that a turn which finds a dead participant asks for locks.
/// - *Another user* who was handed the descriptors of a region in memory joins with nothing else: its slots and writers' files may be
///   opened again by everyone who has them. Hand out [`data_for_reading`](Self::data_for_reading) to those who are to read.
/// - On *overlayfs*, and wherever a mapping does not keep a lock, nobody joins: [`JoinError::FileSystem`].
///
/// # What others can do
///
/// - Whoever may write to the data can change any content, and make writers report [`Corrupt`](crate::Corrupt). It can't make
///   another process access anything outside the region, loop for ever, panic, or do anything undefined: offsets are checked when
///   they are followed, content is read as plain words, and a turn frees 4096 blocks at most, however many somebody puts back. It can keep all writers out: by the turn's word, in which it names
///   a writer that lives and rests ([`WriteError::Busy`](crate::WriteError::Busy) as long as that one neither writes nor leaves), or by
///   a note of a change that can't be completed (`Corrupt` in each turn from then on, for good). Readers go on.
/// - Whoever may read the data and write to the slots (a member of [`Options::group`]) can't change any content, nor keep
///   a writer out. It can
///   keep garbage from being freed, deny slots to other readers, and, by overwriting *other readers'* slots, let these read blocks
///   that have been used again: any bytes are a value of what they read, so they get a wrong value, nothing worse.
///   What a long section of it has held back is freed in many turns, between which others have theirs. Only an allocation that
///   joins free blocks (`Turn::alloc`) looks at each block there is in one turn, so the more blocks, the longer others wait then.
/// - Whoever may make files in a region's directory before its owner does, as anybody in `/dev/shm`, can keep the region from
///   being made there: `create` says that something is there, and `open` refuses it as [`RegionError::BadOwner`]. Nothing of it is
///   read or mapped, unless its maker is the owner that [`open_of`](Self::open_of) names. A directory of your own is spared that.
/// - Whoever may write to a file may cut it, and an access to what is gone raises SIGBUS in every participant, as with any
///   mapped file. *The slots file is one that a member of the group may write to, so it can end every participant so.* A region in memory
///   ([`create_in_memory`](Self::create_in_memory)) is sealed against that: take it where readers are not trusted.
///
/// # After a fork
///
/// The child has the mapping, and may read what it had found before as long as it lives on in the parent's section. Its
/// copies of the parent's readers and writers refuse to work: it makes its own, by the region that it inherits.
///
/// A fork by the C library waits for joins of other threads, and they for it, for a while, so that no child keeps a dead parent's
/// slot alive. A join that a fork came into all the same (by a system call of one's own, or by `_Fork`) notices that and takes another
/// slot; the child keeps that one until it ends or calls `exec`. It can't notice it without `/proc/thread-self/pagemap`, nor after a
/// change of user: then, if the parent dies in a turn, all writers wait (`WriteError::Busy`) for the child; garbage waits for a
/// dead reader's slot in the same way.
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
        let id = random()?;
        let (mut beside, mut new) = (Unfinished::default(), Unfinished::default());
        let slots = beside.file(slots_path(path, id))?;
        let unfinished = new_path(path, id);
        let writers = Some(beside.file(writers_path(path, id))?);
        let files = Files { data: new.file(unfinished.clone())?, slots, writers };
        fill(&files, id, options)?;
        // All that may fail comes before the link.
        let made = check(files, Use::Write)?;
        // Not rename: that would replace what somebody else has made meanwhile.
        std::fs::hard_link(&unfinished, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => RegionError::Exists { path: path.into() },
            _ => RegionError::io(format!("link {path:?}"))(error),
        })?;
        beside.keep();
        Ok(Region::of(made))
    }

    /// Makes a region that no path leads to, in files in memory whose length is sealed. Give
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
        let files = Files { data, slots, writers: Some(new("barrierd-writers")?) };
        fill(&files, random()?, options)?;
        // A file in memory is born with all rights for all, so a descriptor for reading could be opened again for writing.
        // The other two are opened again by each participant, whichever user it is: who has their descriptors may.
        fchmod(&files.data, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| RegionError::io("set a file's mode")(errno.into()))?;
        for file in [&files.data, &files.slots].into_iter().chain(&files.writers) {
            fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
                .map_err(|errno| RegionError::io("seal a file in memory")(errno.into()))?;
        }
        check(files, Use::Write).map(Region::of)
    }

    /// Opens the region at `path`, for readers and writers. Its files must belong to root or to the effective user, and not to 65534,
    /// who stands for anybody.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it; [`RegionError::BadOwner`] where [`open_of`](Self::open_of) is
    /// needed.
    pub fn open(path: impl AsRef<Path>) -> Result<Region, RegionError> {
        files::open(path.as_ref(), Use::Write, None).map(Region::of)
    }

    /// The same, where the files may belong to user `owner`, too: whom the caller trusts with its life, since whoever owns a
    /// file may cut it, which ends all who have it mapped.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_of(path: impl AsRef<Path>, owner: u32) -> Result<Region, RegionError> {
        files::open(path.as_ref(), Use::Write, Some(owner)).map(Region::of)
    }

    /// Opens the region at `path`, for readers and writers, or makes it if there is nothing. One that is there keeps its own options,
    /// and is opened as by [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn open_or_create(path: impl AsRef<Path>, options: Options) -> Result<Region, RegionError> {
        let path = path.as_ref();
        match Region::open(path) {
            // Another one may make it at this moment.
            Err(RegionError::NotFound { .. }) => match Region::create(path, options) {
                Err(RegionError::Exists { .. }) => Region::open(path),
                made => made,
            },
            opened => opened,
        }
    }

    /// Opens the region at `path`, for readers alone: its data is mapped read-only, and no right to write it is needed. Its files
    /// must belong to root or to the effective user, as for [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it; [`RegionError::BadOwner`] where
    /// [`open_read_only_of`](Self::open_read_only_of) is needed.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Region, RegionError> {
        files::open(path.as_ref(), Use::Read, None).map(Region::of)
    }

    /// The same, where the files may belong to user `owner`, too, whom the caller trusts as [`open_of`](Self::open_of) says. So a
    /// member of a [group](Options::group) reads another user's region.
    ///
    /// # Errors
    ///
    /// As for [`open_read_only`](Self::open_read_only).
    pub fn open_read_only_of(path: impl AsRef<Path>, owner: u32) -> Result<Region, RegionError> {
        files::open(path.as_ref(), Use::Read, Some(owner)).map(Region::of)
    }

    /// Opens the region of these descriptors: with the writers' file for readers and writers, without it for readers, for whom
    /// `data` need not be writable.
    ///
    /// Any owner is believed, since somebody has handed them to this process: take them from whom you trust. Whoever may write
    /// to a file that is not sealed may cut it.
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn from_descriptors(
        data: OwnedFd,
        slots: OwnedFd,
        writers: Option<OwnedFd>,
    ) -> Result<Region, RegionError> {
        let purpose = if writers.is_some() { Use::Write } else { Use::Read };
        let writers = writers.map(File::from);
        check(Files { data: data.into(), slots: slots.into(), writers }, purpose).map(Region::of)
    }

    /// Returns the descriptors of the data and of the slots. That of the data may be written to if the region was opened so: give
    /// [`data_for_reading`](Self::data_for_reading) to those who are to read.
    #[must_use]
    pub fn descriptors(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.0.data_file.as_fd(), self.0.slots_file.as_fd())
    }

    /// Returns the descriptor of the writers' file, for other writers; `None` if the region was opened without it.
    #[must_use]
    pub fn writers_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.writers_file.as_ref().map(AsFd::as_fd)
    }

    /// Returns a descriptor of the data by which nobody can write. What [`create_in_memory`](Self::create_in_memory) has made
    /// can't be opened again for writing by it either, except by the same user and by root.
    ///
    /// # Errors
    ///
    /// [`RegionError::Io`]: this process may not read the file any more, has closed its descriptor, or has no `/proc`.
    pub fn data_for_reading(&self) -> Result<OwnedFd, RegionError> {
        let opened = self.0.data_file.for_reading();
        opened.map_err(|error| {
            RegionError::io("open the data again")(match error {
                LockError::Denied(error) | LockError::Io(error) => error,
                other => std::io::Error::other(JoinError::lock("reader")(other)),
            })
        })
    }

    /// Returns the user who owns the data file, and may do anything to it.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn owner(&self) -> std::io::Result<u32> {
        Ok(rustix::fs::fstat(&self.0.data_file)?.st_uid)
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

    /// Takes a reader's slot: for one thread at a time. It costs some fifteen system calls.
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
