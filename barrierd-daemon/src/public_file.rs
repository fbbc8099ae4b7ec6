//! The public file as a file: found or made, locked, mapped.
//!
//! Owns paths, owners, modes and inodes. Whether it is a barrier file at all is `recognition`'s question,
//! whose words they are is judged by `inheritance`, and `publisher` writes them; this file knows the
//! header of a new one only.
//!
//! What is no barrier file is refused, never touched. A barrier file that can't be gone on with is
//! never written to: someone may have it mapped. A new one is filled under another name, its magic
//! number last, and renamed over it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use barrierd_client::abi;
use barrierd_client::boot::BootId;
use barrierd_client::counters;
use rustix::fs::{FallocateFlags, fallocate};

use crate::clock::now_ns;
use crate::inheritance::{Verdict, Why, judge};
use crate::lock::advice;
use crate::machine::Inherited;
use crate::recognition::{LONGEST, is_barrier_file};
use crate::words::Words;
use crate::write_lock;

/// How the file came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made just now, header and magic in place.
    New,
    /// Made by an earlier daemon of ours in this boot, with this generation.
    Ours {
        /// Its generation, to be raised.
        generation: u64,
    },
    /// Made by the C daemon: no header yet.
    Legacy,
}

/// The public file, mapped and locked against other daemons.
#[derive(Debug)]
pub struct PublicFile {
    /// Its words.
    pub words: Words,
    /// How it came to us.
    pub origin: Origin,
    /// What it says that must stay true.
    pub inherited: Inherited,
    /// Why an older file was replaced, if one was.
    pub replaced: Option<String>,
    /// Holds the write lock, unless readers kept it from us.
    _file: File,
}

/// Makes the directory of the default path, if that is what `path` is: on most systems it is gone
/// after each boot.
///
/// # Errors
///
/// It can't be made.
pub fn prepare_directory(path: &Path) -> Result<()> {
    let Some(directory) = path.parent().filter(|_| path == Path::new(abi::DEFAULT_PATH)) else {
        return Ok(());
    };
    match fs::DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => {
            // Whatever the umask was: clients must get in, and nobody else write.
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("setting the mode of {}", directory.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!(
                "making {}: run as root, or name a file in a directory of yours",
                directory.display()
            )
        }),
    }
}

/// Makes sure that neither `path` nor the name that a new file is made under leads to anything but a
/// barrier file or nothing, before a file is made beside it.
///
/// # Errors
///
/// One does.
pub fn refuse_others(path: &Path) -> Result<()> {
    find(path)?;
    find(&new_path(path))?;
    Ok(())
}

/// What lies at `path`, a barrier file or nothing. Links are not followed, and nothing is written.
fn find(path: &Path) -> Result<Option<Metadata>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let context = format!("stat of {}: {}", path.display(), advice(&error));
            return Err(error).context(context);
        }
    };
    let refusal = || {
        format!(
            "{} is not a barrier file, and barrierd replaces nothing else: name another path, or \
             remove it if nobody needs it",
            path.display()
        )
    };
    ensure!(found.is_file(), refusal());
    // Not even read, where the length says enough.
    ensure!(found.len() <= u64::try_from(LONGEST)?, refusal());
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let mut file = file.with_context(|| format!("opening {}", path.display()))?;
    ensure_same(&found, &file, path)?;
    let mut bytes = Vec::new();
    let most = u64::try_from(LONGEST)? + 1;
    Read::take(&mut file, most)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {}", path.display()))?;
    ensure!(is_barrier_file(&bytes, rustix::param::page_size()), refusal());
    Ok(Some(found))
}

fn ensure_same(found: &Metadata, file: &File, path: &Path) -> Result<()> {
    let metadata = file.metadata().with_context(|| format!("stat of {}", path.display()))?;
    ensure!(
        (metadata.dev(), metadata.ino()) == (found.dev(), found.ino()),
        "{} was replaced while it was being opened: who does that?",
        path.display()
    );
    Ok(())
}

/// The name that a new file for `path` is made under.
fn new_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

impl PublicFile {
    /// Goes on with the file at `path`, or puts a new one there, for `cpus` CPUs in boot `boot`.
    /// Whoever calls holds the lock beside it.
    ///
    /// # Errors
    ///
    /// Another daemon writes the file (by another name), what lies there is no barrier file, or the
    /// file system refuses.
    pub fn open(path: &Path, cpus: usize, boot: BootId) -> Result<Self> {
        let replaced = match Self::adopt(path, cpus, boot)? {
            Ok(file) => return Ok(file),
            Err(why) => why,
        };
        let mut file = Self::create(path, cpus, boot)?;
        file.replaced = replaced;
        Ok(file)
    }

    /// The file at `path` if it can be gone on with; else why it can't, or `None` if there is none.
    fn adopt(path: &Path, cpus: usize, boot: BootId) -> Result<Result<Self, Option<String>>> {
        let Some(found) = find(path)? else { return Ok(Err(None)) };
        if found.len() == 0 {
            return Ok(Err(None));
        }
        if let Some(why) = unfit(&found) {
            return Ok(Err(Some(why)));
        }
        let opened =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(path);
        let file = opened.with_context(|| format!("opening {}", path.display()))?;
        ensure_same(&found, &file, path)?;
        let metadata = file.metadata().with_context(|| format!("stat of {}", path.display()))?;
        write_lock::take(&file, path)?;
        let need = abi::size_for(cpus);
        if metadata.len() < u64::try_from(need)? {
            return Ok(Err(Some(Why::TooShort { cpus }.to_string())));
        }
        // A file made by ftruncate may have holes, which on a full tmpfs are a SIGBUS later.
        fallocate(&file, FallocateFlags::empty(), 0, metadata.len())
            .with_context(|| format!("allocating {} in full", path.display()))?;
        let map = |len| {
            Words::map(file.as_fd(), len).with_context(|| format!("mapping {}", path.display()))
        };
        let words = map(need)?;
        // The C daemon's sign of life is its watermark.
        let ours = words.load(abi::MAGIC) == abi::MAGIC_VALUE;
        let beat = if ours { abi::HEARTBEAT_NS } else { abi::LAST_INTERRUPT_NS };
        if !ours || words.load(abi::FLAGS) & abi::FLAG_STOPPED == 0 {
            write_lock::watch(path, || words.load(beat))?;
        }
        let (origin, inherited) = match judge(cpus, boot, |offset| words.load(offset), now_ns) {
            Verdict::Ours { inherited, generation } => (Origin::Ours { generation }, inherited),
            Verdict::Legacy(inherited) => (Origin::Legacy, inherited),
            Verdict::Replace(why) => return Ok(Err(Some(why.to_string()))),
        };
        // The C daemon's has no counters, nor has that of an older version of ours. Only now: what
        // isn't ours to go on with is left as it is.
        let whole = whole_len(cpus);
        if metadata.len() < u64::try_from(whole)? {
            fallocate(&file, FallocateFlags::empty(), 0, u64::try_from(whole)?).with_context(
                || format!("{}: making room for counters, {whole} bytes in all", path.display()),
            )?;
        }
        let words = map(whole)?;
        Ok(Ok(Self { words, origin, inherited, replaced: None, _file: file }))
    }

    /// A new file, put at `path` in one step.
    fn create(path: &Path, cpus: usize, boot: BootId) -> Result<Self> {
        let new = new_path(path);
        if find(&new)?.is_some() {
            // An earlier daemon left it when it died here. We hold the lock, so it is nobody's.
            fs::remove_file(&new).with_context(|| format!("removing {}", new.display()))?;
        }
        let made = Self::fill(&new, cpus, boot).and_then(|file| {
            fs::rename(&new, path)
                .with_context(|| format!("renaming {} to {}", new.display(), path.display()))?;
            Ok(file)
        });
        if made.is_err() {
            // The error that led here matters more.
            let _ = fs::remove_file(&new);
        }
        made
    }

    fn fill(new: &Path, cpus: usize, boot: BootId) -> Result<Self> {
        let file = begin(new)?;
        let failed = |what| move || format!("{what} {}", new.display());
        let len = whole_len(cpus);
        // Not ftruncate: on a full tmpfs a hole is a SIGBUS later.
        fallocate(&file, FallocateFlags::empty(), 0, u64::try_from(len)?).with_context(|| {
            format!(
                "allocating {len} bytes for {}; make room, or put the file on tmpfs (/run) or ext4",
                new.display()
            )
        })?;
        let words = Words::map(file.as_fd(), len).with_context(failed("mapping"))?;
        store_identity(&words, boot);
        words.store(abi::NCPU, u64::try_from(cpus)?);
        words.store(abi::GENERATION, 1);
        words.store(abi::HEARTBEAT_NS, now_ns());
        // Until its daemon is set up: that may fail yet.
        words.store(abi::FLAGS, abi::FLAG_STOPPED);
        // Release, last. Partner: the client's Acquire load of it, before it believes the rest.
        words.store(abi::MAGIC, abi::MAGIC_VALUE);
        let inherited = Inherited::default();
        Ok(Self { words, origin: Origin::New, inherited, replaced: None, _file: file })
    }
}

/// Makes a file that holds our version and nothing else yet. It has that before it has any room, and on the disk, so a
/// file that is never finished is recognised: one of ours is never nothing but zeros, as a stranger's may be.
fn begin(new: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)
        .with_context(|| {
            format!(
                "making {}: is the directory there, may this user write to it, has it room?",
                new.display()
            )
        })?;
    let failed = |what| move || format!("{what} {}", new.display());
    // Before anyone else may open it.
    write_lock::take(&file, new)?;
    file.set_permissions(fs::Permissions::from_mode(0o644)).with_context(failed("chmod of"))?;
    let mut header = [0; abi::PER_CPU];
    header[abi::VERSION..abi::VERSION + 8].copy_from_slice(&abi::VERSION_VALUE.to_le_bytes());
    file.write_all_at(&header, 0)
        .with_context(|| format!("writing the first bytes of {}; make room", new.display()))?;
    file.sync_data().with_context(failed("syncing"))?;
    Ok(file)
}

/// Bytes of a file with all that is in it, in whole pages.
fn whole_len(cpus: usize) -> usize {
    counters::file_size_for(cpus).next_multiple_of(rustix::param::page_size())
}

/// Stores version and boot id.
pub fn store_identity(words: &Words, boot: BootId) {
    let [low, high] = boot.words();
    words.store(abi::VERSION, abi::VERSION_VALUE);
    words.store(abi::BOOT_ID, low);
    words.store(abi::BOOT_ID + 8, high);
}

/// Why what lies at the path is nothing to go on with, from its inode alone.
fn unfit(found: &Metadata) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Some(format!("it belongs to user {}, not {own}", found.uid()));
    }
    if found.mode() & 0o022 != 0 {
        return Some(format!("others may write it (mode {:o})", found.mode() & 0o7777));
    }
    None
}

#[cfg(test)]
#[path = "public_file_tests.rs"]
mod tests;
