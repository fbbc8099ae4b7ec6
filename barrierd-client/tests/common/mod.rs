//! Files as the daemon writes them, and a hand that stores to them while clients have them mapped.
//!
//! Nothing here reads through the client: the layout is the only thing shared.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::{File, OpenOptions, Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use barrierd_client::boot::BootId;
use barrierd_client::counters::{self, TABLE, Word};
use barrierd_client::{abi, clock};
use memmap2::MmapRaw;
use rustix::thread::futex;
use tempfile::TempDir;

/// One second in nanoseconds.
pub(crate) const S: u64 = 1_000_000_000;

/// The words of a public file.
pub(crate) struct Image(pub(crate) Vec<u64>);

impl Image {
    /// A file of this boot whose daemon beat just now: generation 1, vtime 7, complete below 5, and
    /// a watermark a second old.
    pub(crate) fn ours(ncpu: usize) -> Self {
        let now = clock::now_ns();
        let boot = BootId::current().expect("this boot's id").words();
        let image = Self::legacy(ncpu)
            .with(abi::MAGIC, abi::MAGIC_VALUE)
            .with(abi::VERSION, abi::VERSION_VALUE)
            .with(abi::BOOT_ID, boot[0])
            .with(abi::BOOT_ID + 8, boot[1])
            .with(abi::GENERATION, 1)
            .with(abi::HEARTBEAT_NS, now);
        [(abi::VTIME, 7), (abi::TRUSTED_VTIME, 7)]
            .into_iter()
            .chain([(abi::LAST_INTERRUPT_VTIME, 5), (abi::TRUSTED_LAST_VTIME, 5)])
            .fold(image, |image, (offset, value)| image.with(offset, value))
    }

    /// A file as the C daemon writes it, with a watermark a second old and a hostile vtime.
    pub(crate) fn legacy(ncpu: usize) -> Self {
        let past = clock::now_ns() - S;
        let mut image = Self(vec![0; 512])
            .with(abi::NCPU, u64::try_from(ncpu).expect("few CPUs"))
            .with(abi::LAST_INTERRUPT_NS, past)
            .with(abi::VTIME, 1_000)
            .with(abi::LAST_INTERRUPT_VTIME, 999);
        for cpu in 0..ncpu {
            image = image.with(abi::per_cpu_ns(cpu), past).with(abi::per_cpu_vtime(cpu), 999);
        }
        image
    }

    /// A file of ours with counters of a daemon that started 100 s ago: word i holds 100 + i.
    pub(crate) fn counting(ncpu: usize) -> Self {
        let base = counters::base(ncpu);
        let image = Self::ours(ncpu)
            .with(base + counters::MAGIC, counters::MAGIC_VALUE)
            .with(base + counters::VERSION, counters::VERSION_VALUE)
            .with(base + counters::COUNT, TABLE.len() as u64)
            .with(base + counters::START_NS, clock::now_ns() - 100 * S);
        TABLE
            .iter()
            .fold(image, |image, entry| image.with_word(ncpu, entry.word, 100 + entry.word as u64))
    }

    pub(crate) fn with_word(self, ncpu: usize, word: Word, value: u64) -> Self {
        self.with(counters::base(ncpu) + word.offset(), value)
    }

    pub(crate) fn with(mut self, offset: usize, value: u64) -> Self {
        self.0[offset / 8] = value;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Writes it to `dir/barrier`, mode 0644, and returns that path.
    pub(crate) fn write(&self, dir: &TempDir) -> PathBuf {
        let path = dir.path().join("barrier");
        write(&path, self.bytes()).expect("written");
        chmod(&path, 0o644);
        path
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).expect("mode set");
}

pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Stands in for the daemon: stores to a file and wakes its waiters.
pub(crate) struct Writer(MmapRaw);

impl Writer {
    pub(crate) fn new(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path).expect("opened to write");
        Self(MmapRaw::map_raw(&file).expect("mapped to write"))
    }

    pub(crate) fn store(&self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Release);
    }

    /// Wakes everyone who sleeps on the word at `offset`; returns how many.
    pub(crate) fn wake(&self, offset: usize) -> usize {
        let most = u32::try_from(i32::MAX).expect("positive");
        futex::wake(self.half(offset), futex::Flags::empty(), most).expect("futex wake")
    }

    /// The low half of the word at `offset`, for the futex calls alone.
    pub(crate) fn half(&self, offset: usize) -> &AtomicU32 {
        let word = std::ptr::from_ref(self.word(offset));
        // SAFETY: the first four bytes of an aligned word that lives as long as `self`.
        unsafe { &*word.cast::<AtomicU32>() }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0 && offset + 8 <= self.0.len());
        // SAFETY: aligned and in bounds; the mapping is writable and lives as long as `self`; all
        // who share the file access this word atomically.
        unsafe { AtomicU64::from_ptr(self.0.as_mut_ptr().add(offset).cast()) }
    }
}

/// The same words seen by someone who may only read the file.
pub(crate) struct Reader(MmapRaw);

impl Reader {
    pub(crate) fn new(path: &Path) -> Self {
        let file = File::open(path).expect("opened to read");
        Self(memmap2::MmapOptions::new().map_raw_read_only(&file).expect("mapped to read"))
    }

    /// The low half of the word at `offset`, for the futex calls alone.
    pub(crate) fn half(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % 8 == 0 && offset + 8 <= self.0.len());
        // SAFETY: aligned and in bounds, alive as long as `self`; never loaded or stored to.
        unsafe { &*self.0.as_ptr().add(offset).cast::<AtomicU32>() }
    }
}

/// Whether this process is root; says loudly what is skipped if not.
pub(crate) fn root(needed_for: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {needed_for}");
    }
    root
}
