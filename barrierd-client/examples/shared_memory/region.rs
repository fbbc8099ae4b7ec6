//! The shared memory: its layout, its atomics, and the locks that say who is alive.
//!
//! This file owns every raw access. It knows nothing of barriers or of when a node may be reused.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, compiler_fence, fence};

use memmap2::MmapRaw;
use rustix::fs::{FallocateFlags, fallocate};

/// Nodes in the memory.
pub(crate) const NODES: usize = 8;
/// Readers at once.
pub(crate) const READERS: usize = 16;
/// Words in a node.
const NODE_WORDS: usize = 64;
/// What a freed node is full of.
pub(crate) const POISON: u64 = 0xdead_dead_dead_dead;

/// A cache line or two: words that different processes store to lie so far apart.
const LINE: usize = 128;
const MAGIC: usize = 0;
const CURRENT: usize = LINE;
const SLOTS: usize = 2 * LINE;
const CONTENTS: usize = SLOTS + READERS * LINE;
const BYTES: usize = CONTENTS + NODES * NODE_WORDS * 8;
const MAGIC_VALUE: u64 = u64::from_le_bytes(*b"shmdemo\x01");

/// Where the locks' bytes are: far behind the memory. The writer's, then one a slot.
const LOCKS: i64 = 1 << 40;

/// One process's view of the memory, and its own file description.
pub(crate) struct Region {
    file: File,
    map: MmapRaw,
}

impl Region {
    /// Opens memory that a writer has made.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let region = Self::map(OpenOptions::new().read(true).write(true).open(path)?)?;
        // Partner: the Release store in `create`.
        if region.word(MAGIC).load(Acquire) == MAGIC_VALUE {
            Ok(region)
        } else {
            Err(Error::new(ErrorKind::InvalidData, "not made by a writer, or not yet"))
        }
    }

    /// Makes the memory, or opens it, as its only writer; fails if there is one.
    pub(crate) fn open_as_writer(path: &str) -> Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        if !try_lock(&file, LOCKS)? {
            return Err(Error::new(ErrorKind::ResourceBusy, "there is a writer, and it lives"));
        }
        // Of a file that is something else not one byte is touched.
        let mut magic = [0; 8];
        let read = file.read_at(&mut magic, 0)?;
        if read > 0 && ![0, MAGIC_VALUE].contains(&u64::from_le_bytes(magic)) {
            return Err(Error::new(ErrorKind::InvalidData, "there is another program's file"));
        }
        // Not ftruncate: where the file system is full, that is SIGBUS later.
        fallocate(&file, FallocateFlags::empty(), 0, BYTES as u64)?;
        let region = Self::map(file)?;
        if region.word(MAGIC).load(Acquire) != MAGIC_VALUE {
            region.fill(0, 1);
            region.publish(0);
            region.word(MAGIC).store(MAGIC_VALUE, Release);
        }
        Ok(region)
    }

    fn map(file: File) -> Result<Self> {
        if file.metadata()?.len() < BYTES as u64 {
            return Err(Error::new(ErrorKind::InvalidData, "too short: no writer has made it"));
        }
        let map = MmapRaw::map_raw(&file)?;
        Ok(Self { file, map })
    }

    /// A reader's slot that nobody living has, as this process's own until its end.
    pub(crate) fn take_slot(&self) -> Result<usize> {
        for slot in 0..READERS {
            if try_lock(&self.file, lock_of(slot))? {
                // The dead one's last word. It named a node; it holds none.
                self.slot(slot).store(0, Release);
                return Ok(slot);
            }
        }
        Err(Error::new(ErrorKind::ResourceBusy, "no slot is left: all readers live"))
    }

    /// Enters a section: the current node is this reader's until [`clear`](Self::clear).
    pub(crate) fn protect(&self, slot: usize) -> usize {
        loop {
            let node = self.current();
            // Release: whoever sees this store, and not the clearing before it, must see that the section
            // before it has ended all the same.
            self.slot(slot).store(node as u64 + 1, Release);
            // No fence but for the compiler: the CPU's is the barrier that the writer waits for.
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
            if self.current() == node {
                return node;
            }
        }
    }

    /// Ends the section.
    pub(crate) fn clear(&self, slot: usize) {
        // Partner: the Acquire load in `holder`.
        self.slot(slot).store(0, Release);
    }

    /// A slot that names `node` and whose reader lives.
    pub(crate) fn holder(&self, node: usize) -> Result<Option<usize>> {
        for slot in 0..READERS {
            // Acquire, partner: the Release stores of `clear` and `protect`.
            if self.slot(slot).load(Acquire) == node as u64 + 1 && self.lives(slot)? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Whether the reader of `slot` lives. Asked of the kernel, and through another description than its.
    pub(crate) fn lives(&self, slot: usize) -> Result<bool> {
        let mut lock = lock_at(lock_of(slot));
        // SAFETY: an open file and a lock that outlives the call, which is all that F_OFD_GETLK touches.
        let got = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
        if got < 0 { Err(Error::last_os_error()) } else { Ok(lock.l_type != unlocked()) }
    }

    /// The current node.
    pub(crate) fn current(&self) -> usize {
        // Acquire, partner: the Release store in `publish`.
        let node = self.word(CURRENT).load(Acquire);
        usize::try_from(node)
            .ok()
            .filter(|&node| node < NODES)
            .expect("a writer stores nodes alone")
    }

    /// Makes `node` the current one.
    pub(crate) fn publish(&self, node: usize) {
        // Partner: the Acquire load in `current`.
        self.word(CURRENT).store(node as u64, Release);
    }

    /// Writes `version` all over `node`.
    pub(crate) fn fill(&self, node: usize, version: u64) {
        // Of the poison or of an older version nothing may be seen by who sees this one: `publish`.
        (0..NODE_WORDS)
            .for_each(|word| self.content(node, word).store(mixed(version, word), Relaxed));
    }

    /// Destroys `node`, so that whoever still has it finds out.
    pub(crate) fn poison(&self, node: usize) {
        (0..NODE_WORDS).for_each(|word| self.content(node, word).store(POISON, Relaxed));
    }

    /// The version of `node`, or `None` if its words don't belong together.
    pub(crate) fn read(&self, node: usize) -> Option<u64> {
        let version = self.content(node, 0).load(Relaxed);
        let whole = (1..NODE_WORDS)
            .all(|word| self.content(node, word).load(Relaxed) == mixed(version, word));
        fence(Acquire);
        whole.then_some(version)
    }

    fn content(&self, node: usize, word: usize) -> &AtomicU64 {
        self.word(CONTENTS + (node * NODE_WORDS + word) * 8)
    }

    fn slot(&self, slot: usize) -> &AtomicU64 {
        self.word(SLOTS + slot * LINE)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= BYTES, "no word at {offset}");
        // SAFETY: aligned and inside the mapping, which is `BYTES` long at least and lives as long as `self`;
        // every process accesses it by 64-bit atomics alone.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(offset).cast()) }
    }
}

/// What stands in a node's word: the version itself in the first, something else in each other one.
fn mixed(version: u64, word: usize) -> u64 {
    version.wrapping_add((word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn lock_of(slot: usize) -> i64 {
    LOCKS + 1 + i64::try_from(slot).expect("a small number")
}

/// A write lock on the byte at `at`. Of an open file description (Linux 3.15), not of the process: those
/// would be lost when the process closes any descriptor of the file.
fn lock_at(at: i64) -> libc::flock {
    // SAFETY: plain numbers, for which zero is a value; l_pid must be 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(libc::F_WRLCK).expect("a small number");
    lock.l_whence = i16::try_from(libc::SEEK_SET).expect("a small number");
    (lock.l_start, lock.l_len) = (at, 1);
    lock
}

fn unlocked() -> i16 {
    i16::try_from(libc::F_UNLCK).expect("a small number")
}

/// Takes the lock, which this process then has until it ends; `false` if another has it.
fn try_lock(file: &File, at: i64) -> Result<bool> {
    let lock = lock_at(at);
    // SAFETY: an open file and a lock that outlives the call, which reads it.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
    match Error::last_os_error() {
        _ if taken == 0 => Ok(true),
        error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        error => Err(error),
    }
}
