//! How the background thread falls asleep, and how it is woken: the two games of words, without the
//! thread.
//!
//! Pure atomics and a futex, so that loom runs these very functions (`models/parker.rs`). This file knows
//! nothing of domains; what it is for is in `background/mod.rs`, the proof in docs/proofs/background.md, "When the
//! background thread sleeps".

use crate::sync::{AtomicBool, FutexWord, Mutant, Ordering, broken, fence};
use core::time::Duration;

/// Whether the thread looks after a domain.
#[derive(Debug)]
pub(crate) struct Sentry {
    /// Nothing waits in the domain, and the thread does not look at it.
    asleep: AtomicBool,
}

impl Sentry {
    /// Of a domain in which nothing waits yet.
    pub(crate) fn new() -> Sentry {
        Sentry { asleep: AtomicBool::new(true) }
    }

    /// After an item was counted, and a SeqCst fence since: takes note that the thread must look. True
    /// if it must be called: the one that gets it does so.
    #[inline]
    pub(crate) fn wake_up(&self) -> bool {
        // Relaxed: the fence before is what counts. Partner: the fence in `fall_asleep`.
        self.is_asleep() && self.wake_now()
    }

    #[cold]
    fn wake_now(&self) -> bool {
        // Relaxed: it decides who calls; the call itself is AcqRel.
        self.asleep.swap(false, Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_asleep(&self) -> bool {
        // Relaxed: the thread's own look comes behind the Acquire of its wake-up.
        self.asleep.load(Ordering::Relaxed)
    }

    /// There is no thread to look: whoever counts the next item takes note again.
    pub(crate) fn nobody_came(&self) {
        // Relaxed: the fence between the next item's count and its look orders nothing for this store, and
        // need not: this very thread has just looked, and others may call once too often.
        self.asleep.store(true, Ordering::Relaxed);
    }

    /// The thread stops looking, unless `waits` says, looking after that, that something waits.
    pub(crate) fn fall_asleep(&self, waits: impl FnOnce() -> bool) -> bool {
        if broken(Mutant::LookBeforeAsleep) {
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
            // Or a retirer has just done the same, and calls: one look too many, no harm.
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
/// Somebody wants it to look again.
const CALLED: u32 = 2;

/// The thread's own word.
#[derive(Debug)]
pub(crate) struct Parker(FutexWord);

impl Parker {
    pub(crate) fn new() -> Parker {
        Parker(FutexWord::new(AWAKE))
    }

    /// Makes the thread look again, soon. Whether that took a system call.
    pub(crate) fn call(&self) -> bool {
        // Release: what the caller counted comes before the look that this leads to.
        let order = if broken(Mutant::RelaxedCall) { Ordering::Relaxed } else { Ordering::AcqRel };
        if self.0.word().swap(CALLED, order) != ASLEEP {
            return false;
        }
        self.0.wake();
        true
    }

    /// The thread sleeps for `longest`, or until called: not at all, if it was called since it last
    /// woke up.
    pub(crate) fn sleep(&self, longest: Option<Duration>) {
        let word = self.0.word();
        let asleep = if broken(Mutant::SleepByStore) {
            word.store(ASLEEP, Ordering::Release);
            true
        } else {
            // An exchange, so that no call in between is lost.
            word.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
        };
        if asleep {
            // Any outcome means: look again.
            self.0.wait(ASLEEP, longest);
        }
        // Acquire: pairs with `call`.
        word.swap(AWAKE, Ordering::AcqRel);
    }
}
