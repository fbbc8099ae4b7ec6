//! Tells by one load which process this is: a fork wipes the word in the child ([`mark`]). And holds what a process
//! has once, which the child of a fork makes anew.
//!
//! Owns the numbers of processes. It knows nothing of what a child must not do.

use crate::platform::{mark, process_id};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::*};

/// Numbers given so far, here and in the processes that this one was forked from.
static NUMBERS: AtomicUsize = AtomicUsize::new(0);

/// A process, identified at the time when this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Process {
    /// By a word that a fork wipes ([`mark`]) and the number that it had among those that came by forks.
    Number(&'static AtomicUsize, usize),
    /// Where nothing is wiped (before Linux 4.14, and in some emulators): by a system call.
    Id(u32),
}

impl Process {
    /// Returns the calling process.
    pub(crate) fn current() -> Process {
        let Some(word) = mark() else { return Process::Id(process_id()) };
        // Relaxed, all: the kernel puts a fork before all that the child does.
        let number = match word.load(Relaxed) {
            0 => {
                let new = NUMBERS.fetch_add(1, Relaxed) + 1;
                word.compare_exchange(0, new, Relaxed, Relaxed).map_or_else(|old| old, |_| new)
            }
            number => number,
        };
        Process::Number(word, number)
    }

    /// Returns a number that differs from those of the processes that this one was forked from, or forked; never 0.
    pub(crate) fn number(self) -> u64 {
        match self {
            Process::Number(_, number) => number as u64,
            Process::Id(id) => u64::from(id),
        }
    }

    /// Returns whether it still is the calling process; if not, the caller is a child of it by fork.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        match self {
            Process::Number(word, number) => word.load(Relaxed) == number,
            Process::Id(id) => process_id() == id,
        }
    }
}

/// A value that a process has once. The child of a fork makes its own at its first use: its parent's value is left
/// as the fork found it, half done and locked as it may be, and is never touched again.
#[derive(Debug)]
pub(crate) struct PerProcess<T: 'static> {
    /// Null, or leaked: the value of the last process that made one.
    current: AtomicPtr<Marked<T>>,
}

#[derive(Debug)]
struct Marked<T> {
    process: Process,
    value: T,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess { current: AtomicPtr::new(ptr::null_mut()) }
    }
}

impl<T: Sync> PerProcess<T> {
    /// Returns this process's value. `make` makes it, without a lock: threads that come first together each make one,
    /// and all get the same. Two loads where it is there.
    #[inline]
    pub(crate) fn get(&'static self, make: impl FnOnce() -> T) -> &'static T {
        // Acquire: pairs with the exchange in `make_anew`.
        let current = self.current.load(Acquire);
        // SAFETY: null, or leaked below.
        match unsafe { current.as_ref() } {
            Some(there) if there.process.is_current() => &there.value,
            _ => self.make_anew(current, make()),
        }
    }

    #[cold]
    fn make_anew(&'static self, old: *mut Marked<T>, value: T) -> &'static T {
        let new = Box::into_raw(Box::new(Marked { process: Process::current(), value }));
        // Release, Acquire: a thread that finds it finds it whole. `old` was another process's, which leaked it, so
        // nothing else has its address.
        match self.current.compare_exchange(old, new, Release, Acquire) {
            // SAFETY: leaked above.
            Ok(_) => unsafe { &(*new).value },
            Err(other) => {
                // SAFETY: made above, and no other thread has seen it. The other value was leaked here by the thread of
                // this process that came first.
                unsafe {
                    drop(Box::from_raw(new));
                    &(*other).value
                }
            }
        }
    }
}

#[cfg(all(test, not(barrierd_loom), unix, not(barrierd_plain)))]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_another_process() {
        let parent = Process::current();
        let by_id = Process::Id(process_id());
        assert!(parent.is_current() && by_id.is_current());
        assert!(Process::current().is_current());
        // SAFETY: the child only runs what is tested here, which takes no lock, and exits at once.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            let forgotten = !parent.is_current() && !by_id.is_current();
            let own = Process::current();
            let known = own.is_current() && Process::current().is_current();
            let still = !parent.is_current();
            // SAFETY: ends the child, nothing else.
            unsafe { libc::_exit(if forgotten && known && still { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: a child of this process, waited for once.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0);
        assert!(parent.is_current());
    }

    #[test]
    fn a_process_has_it_once_and_a_child_another() {
        static NUMBER: PerProcess<u64> = PerProcess::new();
        let threads: Vec<_> =
            (1..5).map(|n| std::thread::spawn(move || *NUMBER.get(|| n))).collect();
        let number = *NUMBER.get(|| 5);
        assert!((1..=5).contains(&number));
        assert!(threads.into_iter().all(|thread| thread.join().expect("no panics") == number));
        // SAFETY: the child only runs what is tested here, and exits at once.
        let child = unsafe { libc::fork() };
        assert!(child >= 0, "fork");
        if child == 0 {
            let anew = *NUMBER.get(|| 6) == 6 && *NUMBER.get(|| 7) == 6;
            // SAFETY: ends the child, nothing else.
            unsafe { libc::_exit(i32::from(!anew)) };
        }
        let mut status = 0;
        // SAFETY: a child of this process, waited for once.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!((status, *NUMBER.get(|| 8)), (0, number));
    }
}
