//! The CPUs that the kernel was told to leave alone: at boot, and since then by cgroups.
//!
//! Owns the files that say so, and how often the one that changes is read. Knows nothing of what an
//! isolated CPU is spared.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use rustix::io::pread;

use crate::cpulist::CpuSet;
use crate::online::{MOST_BYTES, open};

/// CPUs kept free of other tasks at boot (isolcpus), and of ticks (nohz_full). The second is there
/// only where the kernel can do that.
const AT_BOOT: [&str; 2] =
    ["/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full"];

/// CPUs of isolated partitions (`cpuset.cpus.partition`), which come and go. It is in the root of
/// cgroup v2 alone, since Linux 6.8, and only where cgroup v1 has not taken the cpuset controller.
const BY_CGROUPS: &str = "/sys/fs/cgroup/cpuset.cpus.isolated";

/// Between two reads of it, in nanoseconds: a partition is heeded a second late at most.
const REREAD_NS: u64 = 1_000_000_000;

/// Isolated CPUs, as last read.
#[derive(Debug)]
pub struct Isolated {
    at_boot: CpuSet,
    by_cgroups: Option<File>,
    read_ns: u64,
    cpus: CpuSet,
    /// Where a list is parsed: what is no list changes nothing.
    parsed: CpuSet,
}

impl Isolated {
    /// Reads what was isolated at boot, of `cpus` CPUs, and opens what tells of later ones, where
    /// the kernel has that.
    ///
    /// # Errors
    ///
    /// sysfs isn't there, isn't the kernel's, or holds something else than lists.
    pub fn open(cpus: usize) -> Result<Self> {
        let mut at_boot = CpuSet::none(cpus);
        for path in AT_BOOT {
            if !fs::exists(path).with_context(|| format!("looking for {path}"))? {
                continue;
            }
            let mut list = [0; MOST_BYTES];
            let n = pread(open(path)?, &mut list, 0).with_context(|| format!("reading {path}"))?;
            let list = &list[..n];
            if names_none(list) {
                continue;
            }
            let mut part = CpuSet::none(cpus);
            part.parse(list)
                .with_context(|| format!("{path} holds {:?}", list.escape_ascii().to_string()))?;
            at_boot.extend(&part);
        }
        Ok(Self::new(at_boot, File::open(BY_CGROUPS).ok()))
    }

    fn new(at_boot: CpuSet, by_cgroups: Option<File>) -> Self {
        let (cpus, parsed) = (at_boot.clone(), CpuSet::none(at_boot.capacity()));
        let mut isolated = Self { at_boot, by_cgroups, read_ns: 0, cpus, parsed };
        isolated.read();
        isolated
    }

    /// As last read.
    #[must_use]
    pub fn cpus(&self) -> &CpuSet {
        &self.cpus
    }

    /// Reads anew what may have changed, if the last time was a second ago: then returns the set. One
    /// system call, no allocation.
    pub fn refresh(&mut self, now_ns: u64) -> Option<&CpuSet> {
        if self.by_cgroups.is_none() || now_ns.saturating_sub(self.read_ns) < REREAD_NS {
            return None;
        }
        self.read_ns = now_ns;
        self.read();
        Some(&self.cpus)
    }

    /// What can't be read, or is no list, leaves the set as it was: it decides only who is interrupted,
    /// never what is published.
    fn read(&mut self) {
        let Some(file) = &self.by_cgroups else { return };
        let mut list = [0; MOST_BYTES];
        let Ok(n) = pread(file, &mut list, 0) else { return };
        let list = &list[..n];
        if names_none(list) {
            self.parsed.clear();
        } else if self.parsed.parse(list).is_err() {
            return;
        }
        self.cpus.clear();
        self.cpus.extend(&self.at_boot);
        self.cpus.extend(&self.parsed);
    }

    /// The descriptor that it is read through, for the sandbox; none where nothing can change.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.by_cgroups.as_ref().map(AsFd::as_fd)
    }
}

/// Whether it is what the kernel prints of an empty mask, or of one that was never set.
fn names_none(list: &[u8]) -> bool {
    matches!(list.trim_ascii(), b"" | b"(null)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn isolated_cpus_are_some_of_all() {
        let cpus = crate::online::possible_cpus().expect("sysfs");
        assert!(Isolated::open(cpus).expect("sysfs").cpus().iter().count() < cpus);
    }

    /// As the daemon sees it: opened once, then changed, and read a second later.
    #[test]
    fn b15_partitions_that_come_and_go_are_seen_a_second_later() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let holds = |list: &[u8]| {
            let mut file = file.reopen().expect("opened");
            file.set_len(0).and_then(|()| file.write_all(list)).expect("written");
        };
        let mut at_boot = CpuSet::none(8);
        at_boot.insert(7);
        holds(b"1-2\n");
        let mut isolated = Isolated::new(at_boot, Some(file.reopen().expect("opened")));
        let cpus = |isolated: &Isolated| isolated.cpus().iter().collect::<Vec<_>>();
        assert_eq!(cpus(&isolated), [1, 2, 7]);
        let mut now = 5 * REREAD_NS;
        assert!(isolated.refresh(now).is_some());
        // What is there, and what it comes to: what is no list, and one that was cut off, come to
        // nothing new.
        for (list, expected) in [
            (&b"3\n"[..], &[3, 7][..]),
            (b"garbage\n", &[3, 7]),
            (b"1-2", &[3, 7]),
            (b"8\n", &[3, 7]),
            (b"\n", &[7]),
            (b"0-7\n", &[0, 1, 2, 3, 4, 5, 6, 7]),
            (b"", &[7]),
        ] {
            let before = cpus(&isolated);
            holds(list);
            assert!(isolated.refresh(now + REREAD_NS - 1).is_none(), "once a second");
            assert_eq!(cpus(&isolated), before);
            now += REREAD_NS;
            assert!(isolated.refresh(now).is_some());
            assert_eq!(cpus(&isolated), expected, "{:?}", list.escape_ascii().to_string());
        }
    }

    #[test]
    fn where_nothing_can_change_nothing_is_read() {
        let mut isolated = Isolated::new(CpuSet::none(2), None);
        assert!(isolated.refresh(u64::MAX).is_none() && isolated.fd().is_none());
    }
}
