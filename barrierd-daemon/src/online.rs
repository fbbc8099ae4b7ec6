//! Which CPUs there are, and which are online, by the kernel's own word.
//!
//! Owns the two files in sysfs. Knows nothing of what an offline CPU is worth.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use rustix::fs::fstatfs;
use rustix::io::pread;

use crate::cpulist::{self, CpuSet};

const POSSIBLE: &str = "/sys/devices/system/cpu/possible";
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// `SYSFS_MAGIC` in include/uapi/linux/magic.h.
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Room for the kernel's list: sysfs hands out a page at most.
pub(crate) const MOST_BYTES: usize = 4096;

/// One more than the highest CPU number that this machine can ever have.
///
/// # Errors
///
/// sysfs isn't there, isn't the kernel's, or holds no list.
pub fn possible_cpus() -> Result<usize> {
    let file = open(POSSIBLE)?;
    let mut list = [0; MOST_BYTES];
    let n = pread(&file, &mut list, 0).with_context(|| format!("reading {POSSIBLE}"))?;
    let highest = cpulist::highest(&list[..n])
        .with_context(|| format!("{POSSIBLE} holds {:?}", list[..n].escape_ascii().to_string()))?;
    Ok(highest + 1)
}

/// The mask of online CPUs, read through a file that was opened once.
#[derive(Debug)]
pub struct Online {
    file: File,
    cpus: CpuSet,
}

impl Online {
    /// Opens the list of online CPUs, for a machine of `cpus` CPUs.
    ///
    /// # Errors
    ///
    /// sysfs isn't there, or isn't the kernel's: lxcfs shows containers a list of its own, where a
    /// CPU that runs user code may be missing.
    pub fn open(cpus: usize) -> Result<Self> {
        Ok(Self { file: open(ONLINE)?, cpus: CpuSet::all(cpus) })
    }

    /// Reads the mask anew. One system call, no allocation. What is no list means all online: a CPU
    /// too many only delays, one too few would be passed over.
    pub fn read(&mut self) -> &CpuSet {
        let mut list = [0; MOST_BYTES];
        let n = pread(&self.file, &mut list, 0).unwrap_or(0);
        // An error has filled the set, which is what it shall mean.
        let _ = self.cpus.parse(&list[..n]);
        &self.cpus
    }

    /// The descriptor that it is read through, for the sandbox.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The mask for a scan, once its clock was read: read anew if `lagging`, where some CPU
    /// lags far, or if the last mask had CPUs offline; else every CPU, without a system call.
    ///
    /// A CPU is taken for offline only by a mask that was read after this scan's clock. To take one
    /// for online is always safe: it is then waited for, whether or not it runs anything. So a CPU
    /// that goes offline holds a barrier up once, until it lags far.
    pub fn refresh(&mut self, lagging: bool) -> &CpuSet {
        if lagging || !self.cpus.is_full() {
            self.read();
        }
        &self.cpus
    }

    /// The mask as last read.
    #[must_use]
    pub fn cpus(&self) -> &CpuSet {
        &self.cpus
    }
}

/// Opens a file that must be sysfs's own.
pub(crate) fn open(path: &str) -> Result<File> {
    let file =
        File::open(path).with_context(|| format!("opening {path}; is sysfs mounted on /sys?"))?;
    let found = fstatfs(&file).with_context(|| format!("statfs of {path}"))?.f_type;
    ensure!(
        found == SYSFS_MAGIC,
        "{path} is on a file system of type {found:#x}, not the kernel's sysfs ({SYSFS_MAGIC:#x}): \
         a container shows a list of its own, which can't be relied on; run barrierd outside of it"
    );
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cpus_and_runs_on_one_of_them() {
        let cpus = possible_cpus().expect("sysfs");
        let mut online = Online::open(cpus).expect("sysfs");
        assert!(online.read().iter().count() >= 1);
        assert!(online.cpus().contains(rustix::thread::sched_getcpu()));
    }

    #[test]
    fn no_mask_is_read_unless_it_may_credit_someone() {
        let mut online = Online::open(possible_cpus().expect("sysfs") + 1).expect("sysfs");
        assert!(online.refresh(false).is_full(), "not read: all are taken for online");
        // The last CPU doesn't exist.
        assert!(!online.refresh(true).is_full());
        online.cpus.parse(b"0\n").expect("a list");
        let read = online.read().clone();
        online.cpus.parse(b"0\n").expect("a list");
        assert_eq!(online.refresh(false), &read, "with CPUs offline, always read");
    }

    #[test]
    fn what_is_not_sysfs_is_refused() {
        let error = open("/proc/version").expect_err("procfs").to_string();
        assert!(error.contains("not the kernel's sysfs"), "{error}");
    }
}
