//! What the standard library has on every system.

#![allow(dead_code, reason = "systems that have better use a part of it")]

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::*};
use core::time::Duration;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

/// Readings begin here, nanoseconds: 0 means "never" in many words.
const BEGIN_NS: u64 = 1_000_000_000;

/// Returns the nanoseconds since some thread first asked, and a little. Orders nothing.
pub(crate) fn now_ns() -> u64 {
    static FIRST: AtomicPtr<Instant> = AtomicPtr::new(ptr::null_mut());
    // Acquire: pairs with the exchange below. No lock: a fork in the middle would leave it locked in the child.
    let mut first = FIRST.load(Acquire);
    if first.is_null() {
        let new = Box::into_raw(Box::new(Instant::now()));
        match FIRST.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire) {
            Ok(_) => first = new,
            Err(other) => {
                // SAFETY: made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
                first = other;
            }
        }
    }
    // SAFETY: leaked above.
    let passed = unsafe { &*first }.elapsed();
    u64::try_from(passed.as_nanos()).map_or(u64::MAX, |ns| ns.saturating_add(BEGIN_NS))
}

/// The threads that sleep on a word.
#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    lock: Mutex<()>,
    woken: Condvar,
}

impl WaitQueue {
    /// Sleeps while `word` is `value`, `longest` at most. May return for no reason.
    pub(crate) fn wait(&self, word: &AtomicU32, value: u32, longest: Option<Duration>) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Relaxed: a waker that has changed the word takes the lock after that; so either its change is seen here, or it
        // finds this thread asleep.
        if word.load(Relaxed) != value {
            return;
        }
        match longest {
            None => drop(self.woken.wait(lock)),
            Some(longest) => drop(self.woken.wait_timeout(lock, longest)),
        }
    }

    /// Wakes a thread that sleeps. The caller has changed the word.
    pub(crate) fn wake(&self, _: &AtomicU32) {
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_one();
    }
}

/// Returns a number of the calling thread: they count from 1 in the order in which they ask.
pub(crate) fn own_tid() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    std::thread_local! {
        static OWN: u32 = LAST.fetch_add(1, Relaxed).wrapping_add(1);
    }
    OWN.try_with(|own| *own).unwrap_or(0)
}

/// Returns a word that is 0 at first, of a process that has no children by fork.
pub(crate) fn mark() -> Option<&'static AtomicUsize> {
    static WORD: AtomicUsize = AtomicUsize::new(0);
    Some(&WORD)
}

/// The barrier of a system that has none.
pub(crate) mod no_membarrier {
    use crate::platform::Refusal;

    pub(crate) const MAY_EXIST: bool = false;

    pub(crate) fn is_offered() -> bool {
        false
    }

    pub(crate) fn register() -> Result<(), Refusal> {
        Err(Refusal::Unsupported)
    }

    pub(crate) fn barrier() -> Result<(), Refusal> {
        Err(Refusal::Unsupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn the_clock_goes_on_and_is_the_same_for_all_threads() {
        let before = now_ns();
        assert!(before >= BEGIN_NS);
        let there = thread::spawn(now_ns).join().expect("no panics");
        assert!(there >= before && now_ns() >= there);
    }

    #[test]
    fn nobody_sleeps_on_another_value_and_a_sleeper_is_woken() {
        let shared = Arc::new((AtomicU32::new(0), WaitQueue::default()));
        shared.1.wait(&shared.0, 1, None);
        let sleeper = thread::spawn({
            let shared = shared.clone();
            move || {
                while shared.0.load(Acquire) == 0 {
                    shared.1.wait(&shared.0, 0, None);
                }
            }
        });
        shared.0.store(1, Release);
        shared.1.wake(&shared.0);
        sleeper.join().expect("no panics");
        shared.1.wait(&shared.0, 1, Some(Duration::from_millis(1)));
    }

    #[test]
    fn threads_have_numbers_of_their_own() {
        let own = own_tid();
        assert!(own != 0 && own == own_tid());
        assert_ne!(thread::spawn(own_tid).join().expect("no panics"), own);
    }
}
