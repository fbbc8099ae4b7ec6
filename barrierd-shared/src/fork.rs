//! Tells a forked child from its parent by one load, and keeps forks out of moments that no child may inherit.
//!
//! This file owns a private page that the kernel hands to children as zeros (`MADV_WIPEONFORK`, Linux 4.14). In it are a number, of
//! which each process in a line of forks has another, and the lock that [`NoFork`] takes. What a participant may do, it may do
//! in the process that it was made in. It knows nothing of participants.

use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::Duration;
use std::{ptr, thread};

use memmap2::{MmapOptions, MmapRaw};
use rustix::mm::{Advice, madvise};

/// The last number given. A child inherits it, so that it takes another than any of its ancestors.
static LAST: AtomicU64 = AtomicU64::new(0);
/// The page, once there is one; it is never unmapped.
static PAGE: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

/// What a child gets as zeros: no number yet, and nobody keeps forks out.
#[repr(C)]
struct Page {
    number: AtomicU64,
    /// How often the thread has it that keeps forks out, or is in one; above, that thread's id.
    forks: AtomicU64,
}

const DEPTH: u64 = (1 << 32) - 1;
/// Between two looks at a lock that is held for some ten system calls, or for a fork.
const SLEEP: Duration = Duration::from_micros(50);

impl Page {
    /// Waits until no other thread has it, for so many rounds at most. Returns whether it has it. The one that has it may have it
    /// again: a fork's handlers may join a region.
    fn enter(&self, rounds: u32) -> bool {
        let me = me();
        let mut left = rounds;
        loop {
            let word = self.forks.load(Ordering::Relaxed);
            if word & !DEPTH == me {
                // Relaxed: nobody else changes it meanwhile.
                self.forks.store(word + 1, Ordering::Relaxed);
                return true;
            }
            // Acquire: pairs with the Release in `leave`.
            let taken =
                self.forks.compare_exchange(0, me | 1, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                return true;
            }
            let Some(fewer) = left.checked_sub(1) else { return false };
            left = fewer;
            thread::sleep(SLEEP);
        }
    }

    /// In a child it finds a zero, and does nothing.
    fn leave(&self) {
        let word = self.forks.load(Ordering::Relaxed);
        if word & !DEPTH == me() {
            let left = if word & DEPTH > 1 { word - 1 } else { 0 };
            // Release: pairs with the Acquire in `enter`.
            self.forks.store(left, Ordering::Release);
        }
    }
}

fn me() -> u64 {
    u64::from(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs()) << 32
}

/// While it lives, no `fork` of the C library begins in this process: others wait for it, and it waits for them, for a while. So
/// what it embraces must be short and must not allocate, since an allocator may have locks in a fork.
///
/// It does not wait for ever: the fork's other handlers may wait for a lock that the thread has which calls this. And there are
/// ways around it: a fork by a system call of one's own or by `_Fork`, which run no handlers; a fork in a signal handler
/// that has interrupted this very thread here; one that another thread had begun before this process used the crate
/// for the first time; and a library that was loaded and closed again while its fork was under way. So it makes a fork
/// unlikely, and [`Unforked`] says whether there was one.
pub(crate) struct NoFork(Option<&'static Page>, PhantomData<*const ()>);

/// Rounds of [`SLEEP`] that a join waits for a fork: 20 ms at least.
const PATIENCE: u32 = 400;
/// Those that a fork waits for a join: a second at least.
const FORKS_PATIENCE: u32 = 20_000;

impl NoFork {
    pub(crate) fn new() -> io::Result<NoFork> {
        let page = page()?;
        Ok(NoFork(page.enter(PATIENCE).then_some(page), PhantomData))
    }
}

impl Drop for NoFork {
    fn drop(&mut self) {
        if let Some(page) = self.0 {
            page.leave();
        }
    }
}

/// Tells whether a child was made since that has a copy of this address space, and still is there: a page that such a child
/// shares until one of the two writes to it, which nobody does.
pub(crate) struct Unforked(MmapRaw);

impl Unforked {
    pub(crate) fn new() -> io::Result<Unforked> {
        let page = MmapRaw::from(MmapOptions::new().len(1).map_anon()?);
        // SAFETY: a new mapping, one byte long at least, that nobody else knows. What was never written is no page of its own.
        unsafe { page.as_mut_ptr().write_volatile(1) };
        Ok(Unforked(page))
    }

    /// Ends the time that it speaks for: a later child does not get the page.
    pub(crate) fn ends(&self) -> io::Result<()> {
        // SAFETY: the range is this value's mapping. The advice changes what a child gets.
        unsafe { madvise(self.0.as_mut_ptr().cast(), self.0.len(), Advice::LinuxDontFork)? };
        Ok(())
    }

    /// Returns the answer; `None` where the kernel gives none (without `/proc/thread-self/pagemap`, or without the right to read
    /// it, as in a process that has changed its user). A wrong "no" is possible, as where the page was swapped out.
    pub(crate) fn holds(&self) -> Option<bool> {
        // Bit 56: the page is mapped here alone (Linux 4.2). It is the one of a page that is there.
        const ALONE: u64 = 1 << 56;
        let pages = std::fs::File::open("/proc/thread-self/pagemap").ok()?;
        let size = rustix::param::page_size();
        let mut entry = [0; 8];
        let at = (self.0.as_ptr().addr() / size * entry.len()) as u64;
        pages.read_exact_at(&mut entry, at).ok()?;
        Some(u64::from_ne_bytes(entry) & ALONE != 0)
    }
}

extern "C" fn before_fork() {
    // SAFETY: it is null or a page, which is never unmapped.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        // Without it, `Unforked` says that there was a fork: a thread that was ended in a join must not keep all others from forking.
        page.enter(FORKS_PATIENCE);
    }
}

extern "C" fn after_fork() {
    // SAFETY: as in `before_fork`.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        page.leave();
    }
}

/// The process that something was made in.
#[derive(Clone, Copy)]
pub(crate) struct Process {
    page: &'static Page,
    number: u64,
}

impl Process {
    /// Returns the process that this runs in.
    pub(crate) fn current() -> io::Result<Process> {
        let page = page()?;
        let word = &page.number;
        // Relaxed, all: the kernel orders a fork before everything that the child does, and two threads that number the
        // same process settle it by the exchange.
        let mut number = word.load(Ordering::Relaxed);
        if number == 0 {
            let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            number = match word.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => new,
                Err(other) => other,
            };
        }
        Ok(Process { page, number })
    }

    /// Returns whether this runs in that process, not in a child of it. It costs a load.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.page.number.load(Ordering::Relaxed) == self.number
    }

    /// Returns the word that is loaded, and what it holds in that process.
    pub(crate) fn parts(self) -> (*const u64, u64) {
        (self.page.number.as_ptr(), self.number)
    }
}

/// Returns the page, which is made by the first call. No call waits for another: a fork could leave it waiting for good.
fn page() -> io::Result<&'static Page> {
    // Acquire: pairs with the exchange below, by which another thread's handlers are there too.
    // SAFETY: it is null or a page, which is never unmapped.
    if let Some(page) = unsafe { PAGE.load(Ordering::Acquire).as_ref() } {
        return Ok(page);
    }
    let page = MmapRaw::from(MmapOptions::new().len(size_of::<Page>()).map_anon()?);
    // SAFETY: the range is the mapping just made, which nobody refers to. The advice changes what a child gets, and
    // zeros are a valid `Page`.
    unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork)? };
    // Two threads may both do it: each pair of handlers then counts for itself (`Page::enter`).
    // SAFETY: functions of this program; where a library that contains them is closed, the C library forgets them.
    let refused = unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), None) };
    if refused != 0 {
        return Err(io::Error::from_raw_os_error(refused));
    }
    let new = page.as_mut_ptr().cast::<Page>();
    // Release: pairs with the Acquire of whoever finds it.
    let first = PAGE.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire);
    let page = match first {
        Ok(_) => {
            std::mem::forget(page);
            new
        }
        Err(other) => other,
    };
    // SAFETY: page-aligned, zeroed by the kernel, large enough, never unmapped, and accessed by atomics alone.
    Ok(unsafe { &*page })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// For tests that make children, or ask for them.
    pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
        static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does what a fork does, with something between its first handler and its last one.
    pub(crate) fn between_handlers(what: impl FnOnce()) {
        let _ = page().expect("a page");
        before_fork();
        what();
        after_fork();
    }

    pub(crate) fn is_forking() -> bool {
        page().expect("a page").forks.load(Ordering::Relaxed) & !DEPTH != 0
    }

    #[test]
    fn a_join_that_never_ends_keeps_nobody_from_forking() {
        let _alone = alone();
        let kept = NoFork::new().expect("a page");
        let (done, forked) = std::sync::mpsc::channel();
        let forks = thread::spawn(move || {
            between_handlers(|| ());
            let _ = done.send(());
        });
        let went_on = forked.recv_timeout(Duration::from_secs(120));
        drop(kept);
        forks.join().expect("no panic");
        assert_eq!(went_on, Ok(()));
    }

    #[test]
    fn a_child_is_noticed_as_long_as_it_is_there() {
        let _alone = alone();
        let before = Unforked::new().expect("a page");
        let Some(alone) = before.holds() else {
            eprintln!("not tried: no /proc/thread-self/pagemap");
            return;
        };
        assert!(alone);
        let mut pipe = [0; 2];
        // SAFETY: two descriptors; the child waits for the end of the pipe, and ends.
        let pid = unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let pid = libc::fork();
            if pid == 0 {
                libc::close(pipe[1]);
                libc::read(pipe[0], (&raw mut pipe).cast(), 1);
                libc::_exit(0);
            }
            pid
        };
        assert!(pid > 0);
        assert_eq!(before.holds(), Some(false));
        assert_eq!(Unforked::new().expect("a page").holds(), Some(true));
        // SAFETY: our own descriptors and child.
        unsafe {
            libc::close(pipe[1]);
            libc::close(pipe[0]);
            libc::waitpid(pid, ptr::null_mut(), 0);
        }
        assert_eq!(before.holds(), Some(true), "it has ended");
    }

    #[test]
    fn a_thread_that_keeps_forks_out_may_do_so_again_and_fork_itself() {
        let _alone = alone();
        let outer = NoFork::new().expect("a page");
        let inner = NoFork::new().expect("a page");
        assert_eq!(outer.0.expect("free").forks.load(Ordering::Relaxed), me() | 2);
        before_fork();
        drop(inner);
        after_fork();
        after_fork();
        // Not zero if another test has it since.
        assert_ne!(
            outer.0.expect("free").forks.load(Ordering::Relaxed) & !DEPTH,
            me(),
            "left too often is left"
        );
    }
}
