//! Whether this process lives in the initial time namespace, where `CLOCK_MONOTONIC` is the
//! daemon's.
//!
//! This module owns that one question, asked of `/proc` without allocation so that the child of a
//! fork may ask it. It knows nothing of what follows from the answer.

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat, readlinkat_raw};
use rustix::io::Errno;

/// The initial time namespace's inode, fixed by the kernel: `PROC_TIME_INIT_INO` in
/// include/linux/proc_ns.h, `TIME_NS_INIT_INO` in include/uapi/linux/nsfs.h of newer kernels.
pub(crate) const INITIAL: u64 = 4_026_531_834;

/// The time namespace of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeNs {
    /// The initial namespace, or a kernel that knows no others.
    Initial,
    /// The namespace with this inode: its clock may be shifted.
    Other(u64),
    /// `/proc` doesn't tell it.
    Unknown(Errno),
}

/// Returns whether this process is in the initial time namespace, whose `CLOCK_MONOTONIC` is the daemon's. True
/// on a kernel without time namespaces.
///
/// [`Barrier::open`](crate::Barrier::open) checks this by itself. It costs four system calls and no allocation.
///
/// ```
/// let comparable = barrierd_client::time_ns::is_initial()?;
/// # let _ = comparable;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// Returns an error if `/proc/self/ns/time` can't be read, or if `/proc` is no proc file system.
pub fn is_initial() -> std::io::Result<bool> {
    match current() {
        TimeNs::Initial => Ok(true),
        TimeNs::Other(_) => Ok(false),
        TimeNs::Unknown(errno) => Err(errno.into()),
    }
}

/// Asks the kernel. It costs four system calls and no allocation.
pub(crate) fn current() -> TimeNs {
    match read() {
        Ok(None | Some(INITIAL)) => TimeNs::Initial,
        Ok(Some(inode)) => TimeNs::Other(inode),
        Err(errno) => TimeNs::Unknown(errno),
    }
}

/// Returns this process's time namespace, `None` if the kernel has none.
fn read() -> Result<Option<u64>, Errno> {
    // All threads of a process share it (setns refuses a process with more than one), so
    // /proc/self speaks for all.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, c"/proc/self/ns", flags, Mode::empty())?;
    if fstatfs(&dir)?.f_type != PROC_SUPER_MAGIC {
        return Err(Errno::INVAL);
    }
    let mut text = [0; 32];
    match readlinkat_raw(&dir, c"time", &mut text) {
        Ok(n) => parse(&text[..n]).map(Some).ok_or(Errno::INVAL),
        // A real /proc without this file: built without CONFIG_TIME_NS, or before 5.6.
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Returns the inode in `time:[4026531834]`.
fn parse(text: &[u8]) -> Option<u64> {
    let digits = text.strip_prefix(b"time:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_read_whole_or_not_at_all() {
        assert_eq!(parse(b"time:[4026531834]"), Some(INITIAL));
        for text in [&b"time:[]"[..], b"time:[12", b"mnt:[4026531834]", b"", b"time:[\xff]"] {
            assert_eq!(parse(text), None);
        }
    }

    #[test]
    fn tests_run_in_the_initial_namespace() {
        assert_eq!(current(), TimeNs::Initial);
    }
}
