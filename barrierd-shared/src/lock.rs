//! Who lives: locks that an address space keeps.
//!
//! A participant holds a write lock on a byte that stands for its slot. The lock belongs to an open file description
//! (`F_OFD_SETLK`, Linux 3.15), and the kernel drops it with the last reference to that. Here the last reference is a
//! mapping of its own (the *keeper*), since the descriptor is closed as soon as the keeper is there. Three things follow:
//!
//! - The lock goes when the address space has gone: at `kill -9`, `exit` and `exec` alike, and no earlier. A program that
//!   closes all descriptors, as daemons do, keeps it.
//! - A forked child does not have it: the keeper is `MADV_DONTFORK`, so the child has no reference to the description. A
//!   dead parent does not look alive because of its children. Other threads are kept from forking between the `open` and the
//!   `close` in `SlotLock::try_take` (`NoFork`), and if a child was made there all the same, the lock is given up (`Unforked`): a
//!   child that has inherited the descriptor or the mapping makes the slot look alive until it ends or calls `exec`.
//! - A `vfork` child has the address space itself, so it counts, as it must.
//!
//! All of it stands on a rule that not every file system keeps: that the mapping refers to the description that was locked. On
//! overlayfs it refers to the file below, and the lock goes with the descriptor, as it does where a server
//! drops locks when a descriptor is closed. So each lock has a *witness*, a byte locked by the same description at a place
//! that nobody else has. Whoever has closed the descriptor, and finds the witness free, has no lock.
//!
//! "The lock is free" says: all threads that could store through this address space have ended, and what they stored is
//! visible to the caller. The threads' ends are fully ordered atomic operations on the count of the address space, before
//! the description's end; that takes the lock out under a spinlock, and `F_OFD_GETLK` finds it gone by an Acquire load
//! or under the same spinlock (`locks_remove_file`, `posix_test_lock` in fs/locks.c).
//!
//! This file owns the system calls. It knows nothing of slots.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::fork::{NoFork, Process, Unforked};

/// Where the locks' bytes are: far behind any memory.
const LOCKS: i64 = 1 << 60;
/// Where the witnesses' bytes are, each at a place that nobody else has.
const WITNESSES: i64 = 1 << 61;

/// A file in which slots have their locks: the region's, whatever its descriptor's number leads to later.
pub(crate) struct LockFile {
    file: File,
    is: Identity,
}

/// Device and inode.
type Identity = (u64, u64);

impl LockFile {
    pub(crate) fn new(file: File) -> io::Result<LockFile> {
        let is = identity(&file)?;
        Ok(LockFile { file, is })
    }

    /// Returns whether the descriptor is still the region's. A program that closes all of its descriptors, and opens others,
    /// would otherwise ask another file who lives. Ask after the answers that it is to vouch for: a descriptor that is
    /// the region's now was it then.
    pub(crate) fn is_itself(&self) -> bool {
        identity(&self.file).is_ok_and(|is| is == self.is)
    }

    /// Returns another description of the same file, whatever its path leads to by now.
    ///
    /// The kernel has one way to that, the links in `/proc`. They are those of this thread: its table of descriptors may be
    /// another than the first thread's (`/proc/self`), which may also have ended. What lies at `/proc` is not believed but
    /// compared.
    fn open_again(&self, link: &CStr, mode: OFlags) -> Result<OwnedFd, LockError> {
        let flags = mode | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        match rustix::fs::open(link, flags, Mode::empty()) {
            Ok(own) if identity(&own)? == self.is => Ok(own),
            _ if !self.is_itself() => Err(LockError::Closed),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
                Err(LockError::NoProc)
            }
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => Err(LockError::Denied(errno.into())),
            Err(errno) => Err(LockError::Io(errno.into())),
        }
    }

    /// Returns a descriptor that may only be read from.
    pub(crate) fn for_reading(&self) -> Result<OwnedFd, LockError> {
        self.open_again(&self.link(), OFlags::RDONLY)
    }

    fn link(&self) -> CString {
        let link = format!("/proc/thread-self/fd/{}", self.file.as_raw_fd());
        CString::new(link).expect("no zero")
    }

    /// Returns whether somebody has a write lock on the byte at `at`.
    fn is_locked(&self, at: i64) -> Result<bool, LockError> {
        // A read lock conflicts with write locks alone: whoever may only read the file can take read locks, and they must
        // not make the dead look alive.
        let mut lock = lock(at, libc::F_RDLCK);
        // SAFETY: an open file, and a lock that outlives the call, which is all that it touches.
        let got = unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
        let got = if got < 0 { Err(io::Error::last_os_error().into()) } else { Ok(lock.l_type) };
        // After the answer, which this vouches for.
        if !self.is_itself() {
            return Err(LockError::Closed);
        }
        got.map(|kind| kind != short(libc::F_UNLCK))
    }

    /// Returns what to call its file system.
    fn file_system(&self) -> String {
        let Ok(about) = rustix::fs::fstatfs(&self.file) else { return "unknown".into() };
        let kind = u64::try_from(about.f_type).unwrap_or(0);
        let known = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == kind);
        known.map_or_else(|| format!("{kind:#x}"), |(_, name)| (*name).into())
    }
}

impl AsFd for LockFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Those that are known to map another file than the one that was opened, or to keep locks elsewhere (linux/magic.h).
const FILE_SYSTEMS: [(u64, &str); 6] = [
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "FUSE"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x0102_1997, "9p"),
];

/// The reason why no lock was taken, or no answer given.
#[derive(Debug)]
pub(crate) enum LockError {
    /// The descriptor is another file's by now, or nobody's.
    Closed,
    /// `/proc` does not lead to this thread's descriptors.
    NoProc,
    /// This process may not open the file, though it has it open.
    Denied(io::Error),
    /// A lock went as its descriptor was closed, though a mapping was there. The file system's name.
    Dropped(String),
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> LockError {
        LockError::Io(error)
    }
}

/// A lock that lives as long as this value and this address space.
pub(crate) struct SlotLock {
    keeper: ManuallyDrop<MmapRaw>,
    process: Process,
}

impl SlotLock {
    /// Takes the lock of slot `index` of `file`; `None` if somebody has it, also a child that was made in the middle of this
    /// and has it too. It costs some twenty system calls.
    pub(crate) fn try_take(file: &LockFile, index: usize) -> Result<Option<SlotLock>, LockError> {
        let process = Process::current()?;
        let mut witness = [0; 8];
        getrandom(&mut witness, GetRandomFlags::empty()).map_err(io::Error::from)?;
        let witness = WITNESSES + (i64::from_le_bytes(witness) & (WITNESSES - 1));
        let link = file.link();
        let unforked = Unforked::new()?;
        // No child may get the descriptor, nor the mapping before the advice. Nothing is allocated until then.
        let alone = NoFork::new()?;
        let own = file.open_again(&link, OFlags::RDWR)?;
        #[cfg(test)]
        tests::in_window();
        for at in [slot(index), witness] {
            if !set(&own, at, libc::F_WRLCK)? {
                return Ok(None);
            }
        }
        let keeper = MmapOptions::new().len(1).map_raw_read_only(own.as_raw_fd())?;
        #[cfg(test)]
        tests::in_window();
        // SAFETY: the range is the mapping just made, which nobody refers to or ever will.
        unsafe { madvise(keeper.as_mut_ptr().cast(), keeper.len(), Advice::LinuxDontFork) }
            .map_err(io::Error::from)?;
        drop(own);
        // What forks from here on is no matter.
        unforked.ends()?;
        drop(alone);
        // Dropped where it does not hold: it is no sign of life then. Nor is it where a child has it, as well as this process; that
        // one keeps the slot until it ends or calls `exec`, and another slot will do.
        let taken = SlotLock { keeper: ManuallyDrop::new(keeper), process };
        if unforked.holds() == Some(false) {
            return Ok(None);
        }
        // Not the slot's byte: where the lock did not hold, another may have that by now.
        if file.is_locked(witness)? {
            Ok(Some(taken))
        } else {
            Err(LockError::Dropped(file.file_system()))
        }
    }

    /// Does `what` while nobody else has the lock of slot `index` of `file`; `None` if somebody has it. It is given back by its name, so
    /// that a child which was made meanwhile has none.
    pub(crate) fn while_free<R>(
        file: &LockFile,
        index: usize,
        what: impl FnOnce() -> R,
    ) -> Result<Option<R>, LockError> {
        let own = file.open_again(&file.link(), OFlags::RDWR)?;
        if !set(&own, slot(index), libc::F_WRLCK)? {
            return Ok(None);
        }
        let done = what();
        set(&own, slot(index), libc::F_UNLCK)?;
        Ok(Some(done))
    }

    /// Returns whether somebody has the lock of slot `index` of `file`. It costs two system calls.
    pub(crate) fn is_held(file: &LockFile, index: usize) -> Result<bool, LockError> {
        file.is_locked(slot(index))
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

/// Takes a lock, or gives one back. Returns false if somebody else has it.
fn set(own: &OwnedFd, at: i64, kind: i32) -> io::Result<bool> {
    let lock = lock(at, kind);
    // SAFETY: an open file, and a lock that outlives the call, which reads it.
    if unsafe { libc::fcntl(own.as_raw_fd(), libc::F_OFD_SETLK, &lock) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    let has = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES));
    if has { Ok(false) } else { Err(error) }
}

fn slot(index: usize) -> i64 {
    LOCKS + i64::try_from(index).expect("a small number")
}

fn lock(at: i64, kind: i32) -> libc::flock {
    // SAFETY: plain numbers, for which zero is a value; l_pid must be 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (short(kind), short(libc::SEEK_SET));
    (lock.l_start, lock.l_len) = (at, 1);
    lock
}

fn identity(file: &impl AsFd) -> io::Result<Identity> {
    let about = rustix::fs::fstat(file)?;
    Ok((about.st_dev, about.st_ino))
}

fn short(number: i32) -> i16 {
    i16::try_from(number).expect("a small number")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    thread_local! {
        static IN_WINDOW: RefCell<Option<Box<dyn FnMut()>>> = const { RefCell::new(None) };
    }

    /// Calls what a test has put there.
    pub(super) fn in_window() {
        IN_WINDOW.with_borrow_mut(|call| call.iter_mut().for_each(|call| call()));
    }

    /// Takes a lock while another thread makes a child at a moment of it, by a `fork` or by the system call. Returns whether it was
    /// taken, and whether somebody had it when it was given back.
    fn with_a_child(moment: usize, raw: bool) -> (bool, bool) {
        let file = tempfile::tempfile().expect("a file");
        let file = LockFile::new(file).expect("there");
        let (now, told) = mpsc::channel::<()>();
        let (done, forked) = mpsc::channel::<()>();
        let forker = thread::spawn(move || {
            told.recv().expect("told");
            let (mut lives, end) = UnixStream::pair().expect("a pair");
            // SAFETY: the child only waits for the end of its parent's side, or of its parent.
            let pid = unsafe {
                if raw {
                    libc::pid_t::try_from(libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0))
                        .expect("a pid")
                } else {
                    libc::fork()
                }
            };
            if pid == 0 {
                drop(end);
                let _ = lives.read(&mut [0]);
                // SAFETY: as above.
                unsafe { libc::_exit(0) };
            }
            drop(lives);
            let _ = done.send(());
            (pid, end)
        });
        let mut left = moment;
        IN_WINDOW.set(Some(Box::new(move || {
            if left == 0 {
                now.send(()).expect("there");
                // A fork must wait for us, so this runs into its limit. Not waiting here would let a late fork pass for one that waits.
                let limit = if raw { 20_000 } else { 300 };
                let _ = forked.recv_timeout(Duration::from_millis(limit));
            }
            left = left.wrapping_sub(1);
        })));
        let taken = SlotLock::try_take(&file, 0).expect("answered");
        IN_WINDOW.set(None);
        let (pid, end) = forker.join().expect("no panic");
        assert!(pid > 0);
        let was_taken = taken.is_some();
        assert!(!was_taken || SlotLock::is_held(&file, 0).expect("answered"));
        drop(taken);
        let outlives = SlotLock::is_held(&file, 0).expect("answered");
        drop(end);
        // SAFETY: our own child, not waited for yet.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        assert!(!SlotLock::is_held(&file, 0).expect("answered"), "the child has ended");
        (was_taken, outlives)
    }

    #[test]
    fn no_child_that_another_thread_forks_in_a_join_has_its_lock() {
        let _alone = crate::fork::tests::alone();
        for moment in 0..2 {
            assert_eq!(with_a_child(moment, false), (true, false), "moment {moment}");
        }
    }

    #[test]
    fn a_lock_that_a_child_has_too_is_not_taken() {
        let _alone = crate::fork::tests::alone();
        if Unforked::new().expect("a page").holds().is_none() {
            eprintln!("not tried: no /proc/thread-self/pagemap");
            return;
        }
        for moment in 0..2 {
            let (was_taken, outlives) = with_a_child(moment, true);
            assert!(!was_taken, "moment {moment}: a child has it, too: {outlives}");
        }
    }

    #[test]
    fn a_fork_that_waits_for_its_caller_keeps_nobody() {
        let _alone = crate::fork::tests::alone();
        let file = tempfile::tempfile().expect("a file");
        let file = LockFile::new(file).expect("there");
        let (send, receive) = mpsc::channel();
        // Its next handler waits for a lock that this thread has.
        let forks = thread::spawn(move || {
            crate::fork::tests::between_handlers(|| receive.recv().expect("told"));
        });
        while !crate::fork::tests::is_forking() {
            thread::yield_now();
        }
        let (done, joined) = mpsc::channel();
        let joins = thread::spawn(move || {
            let taken = SlotLock::try_take(&file, 0).expect("answered");
            let _ = done.send(taken.is_some());
        });
        // Only then does this thread give the lock back.
        let taken = joined.recv_timeout(Duration::from_secs(60));
        send.send(()).expect("there");
        assert_eq!(taken, Ok(true), "no fork is under way, and it waits for none");
        joins.join().expect("no panic");
        forks.join().expect("no panic");
    }
}
