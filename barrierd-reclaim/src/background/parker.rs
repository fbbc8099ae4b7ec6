//! How the background thread falls asleep, and how it is woken: the two protocols, without the thread.
//!
//! Pure atomics and a futex, so that loom runs these very functions (`models/parker.rs`). This file knows nothing of
//! domains. Its purpose is described in `background/mod.rs`, and the proof is in docs/proofs/background.md, "When the
//! background thread sleeps".

use crate::sync::{AtomicBool, FutexWord, Mutant, Ordering, broken, fence};
use core::time::Duration;

/// Whether the thread visits a domain.
#[derive(Debug)]
pub(crate) struct Sentry {
    /// True if nothing waits in the domain, and the thread does not visit it.
    asleep: AtomicBool,
}

impl Sentry {
    /// Makes the word of a domain in which nothing waits yet.
    pub(crate) fn new() -> Sentry {
        Sentry { asleep: AtomicBool::new(true) }
    }

    /// Notes that the thread must visit the domain. It is called after an item was counted and a SeqCst fence was run
    /// since. Returns true to exactly one caller, which must call the thread.
    #[inline]
    pub(crate) fn wake_up(&self) -> bool {
        // Relaxed: the fence before is what counts. Partner: the fence in `fall_asleep`.
        self.is_asleep() && self.wake_now()
    }

    #[cold]
    fn wake_now(&self) -> bool {
        // Relaxed: it decides which thread calls; the call itself is AcqRel.
        self.asleep.swap(false, Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        // Relaxed: the thread's own check comes after the Acquire of its wake-up.
        self.asleep.load(Ordering::Relaxed)
    }

    /// Undoes the note, since there is no thread: the thread that counts the next item makes it again.
    pub(crate) fn nobody_came(&self) {
        // Relaxed: the fence between the next item's count and its check orders nothing for this store. It need not:
        // this very thread has just checked, and others may call once too often.
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// Stops the thread's visits, unless `waits`, which is called after that, returns that something waits.
    pub(crate) fn fall_asleep(&self, waits: impl FnOnce() -> bool) -> bool {
        if broken(Mutant::CheckBeforeAsleep) {
            let waits = waits();
            self.asleep.store(!waits, Ordering::Relaxed);
            return !waits;
        }
        self.asleep.store(true, Ordering::Relaxed);
        // Partner: the fence before `wake_up`.
        if !broken(Mutant::UnfencedAsleep) {
            fence(Ordering::SeqCst);
        }
        if waits() {
            // Or a retirer has just done the same, and calls the thread. One check too many does no harm.
            self.asleep.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }
}

/// The thread is at work.
const AWAKE: u32 = 0;
/// The thread sleeps, or is about to.
const ASLEEP: u32 = 1;
/// A caller wants it to check again.
const CALLED: u32 = 2;

/// The thread's own word.
#[derive(Debug)]
pub(crate) struct Parker(FutexWord);

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker(FutexWord::new(AWAKE))
    }

    /// Makes the thread check again soon. Returns whether that took a system call.
    pub(crate) fn call(&self) -> bool {
        // Release: what the caller counted comes before the check that this causes.
        let order = if broken(Mutant::RelaxedCall) { Ordering::Relaxed } else { Ordering::AcqRel };
        if self.0.word().swap(CALLED, order) != ASLEEP {
            return false;
        }
        self.0.wake();
        true
    }

    /// Sleeps for `longest`, or until called. Does not sleep at all if the thread was called since it last woke up.
    pub(crate) fn sleep(&self, longest: Option<Duration>) {
        let word = self.0.word();
        let asleep = if broken(Mutant::SleepByStore) {
            word.store(ASLEEP, Ordering::Release);
            true
        } else {
            // This is an exchange, so that no call in between is lost.
            word.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if asleep {
            // Any outcome means to check again.
            self.0.wait(ASLEEP, longest);
        }
        // Acquire: pairs with `call`.
        word.swap(AWAKE, Ordering::AcqRel);
    }
}
