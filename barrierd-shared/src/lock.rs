//! Who lives: locks that an address space keeps.
//!
//! A participant holds a write lock on a byte that stands for its slot. The lock belongs to an open file description
//! (`F_OFD_SETLK`, Linux 3.15), and the kernel drops it with the last reference to that. Here the last reference is a
//! mapping of its own (the *keeper*), since the descriptor is closed as soon as the keeper is there. Three things follow:
//!
//! - The lock goes when the address space has gone: at `kill -9`, `exit` and `exec` alike, and no earlier. A program that
//!   closes all descriptors, as daemons do, keeps it.
//! - A forked child does not have it: the keeper is `MADV_DONTFORK`, so the child has no reference to the description. A
//!   dead parent does not look alive because of its children. (One that is forked by another thread between the `open` and
//!   the `close` in `SlotLock::try_take` inherits the descriptor. Then the slot looks alive until that child ends or
//!   calls `exec`, which keeps garbage and is harmless otherwise.)
//! - A `vfork` child has the address space itself, so it counts, as it must.
//!
//! "The lock is free" says: all threads that could store through this address space have ended, and what they stored is
//! visible to the caller. The threads' ends are fully ordered atomic operations on the count of the address space, before
//! the description's end; that takes the lock out under a spinlock, and `F_OFD_GETLK` finds it gone by an Acquire load
//! or under the same spinlock (`locks_remove_file`, `posix_test_lock` in fs/locks.c).
//!
//! This file owns the system calls. It knows nothing of slots.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

use crate::fork::Process;

/// Where the locks' bytes are: far behind any memory.
const LOCKS: i64 = 1 << 60;

/// A lock that lives as long as this value and this address space.
pub(crate) struct SlotLock {
    keeper: ManuallyDrop<MmapRaw>,
    process: Process,
}

impl SlotLock {
    /// Takes the lock of slot `index` of `file`; `None` if somebody has it. It costs some ten system calls.
    ///
    /// It opens the file anew by its descriptor, so it needs `/proc`.
    pub(crate) fn try_take(file: &File, index: usize) -> Result<Option<SlotLock>> {
        let process = Process::current()?;
        // Another description, of the same file whatever its path leads to by now. O_CLOEXEC is std's rule.
        let own = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let lock = lock(index, libc::F_WRLCK);
        // SAFETY: an open file, and a lock that outlives the call, which reads it.
        let taken = unsafe { libc::fcntl(own.as_raw_fd(), libc::F_OFD_SETLK, &lock) };
        if taken != 0 {
            let error = Error::last_os_error();
            let has = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES));
            return if has { Ok(None) } else { Err(error) };
        }
        let keeper = MmapOptions::new().len(1).map_raw_read_only(&own)?;
        // SAFETY: the range is the mapping just made, which nobody refers to or ever will.
        unsafe { madvise(keeper.as_mut_ptr().cast(), keeper.len(), Advice::LinuxDontFork)? };
        Ok(Some(SlotLock { keeper: ManuallyDrop::new(keeper), process }))
    }

    /// Returns whether somebody has the lock of slot `index` of `file`. It costs a system call.
    pub(crate) fn is_held(file: &File, index: usize) -> Result<bool> {
        // A read lock conflicts with write locks alone: whoever may only read the file can take read locks, and they must
        // not make the dead look alive.
        let mut lock = lock(index, libc::F_RDLCK);
        // SAFETY: an open file, and a lock that outlives the call, which is all that it touches.
        let got = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
        if got < 0 { Err(Error::last_os_error()) } else { Ok(lock.l_type != short(libc::F_UNLCK)) }
    }
}

impl Drop for SlotLock {
    fn drop(&mut self) {
        // In a child the keeper is not there, and its address may be something else by now.
        if self.process.is_current() {
            // SAFETY: dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.keeper) };
        }
    }
}

fn lock(index: usize, kind: i32) -> libc::flock {
    // SAFETY: plain numbers, for which zero is a value; l_pid must be 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (short(kind), short(libc::SEEK_SET));
    (lock.l_start, lock.l_len) = (LOCKS + i64::try_from(index).expect("a small number"), 1);
    lock
}

fn short(number: i32) -> i16 {
    i16::try_from(number).expect("a small number")
}
