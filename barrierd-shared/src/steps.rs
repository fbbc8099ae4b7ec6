//! Every store that a turn makes, one by one.
//!
//! This file owns the rule that makes a killed writer's traces readable: each store of a turn is a Release, so none moves
//! before an earlier one, and what a death leaves is a prefix of the program. With the feature `testing` it also kills at
//! any of these steps, and leaves out rules that the tests must miss.

use std::sync::atomic::{AtomicU64, Ordering};

/// Stores `value` as the next step.
#[inline]
pub(crate) fn put(word: &AtomicU64, value: u64) {
    step();
    // Release. Partners: whoever learns of the turn's end by its word, or of this process's death by its lock.
    word.store(value, Ordering::Release);
}

#[cfg(not(feature = "testing"))]
#[inline]
pub(crate) fn step() {}

#[cfg(feature = "testing")]
pub(crate) use testing::step;

/// Whether this thread has been killed by a test.
#[cfg(not(feature = "testing"))]
#[inline]
pub(crate) fn is_dead() -> bool {
    false
}

#[cfg(feature = "testing")]
pub(crate) use testing::is_dead;

/// Whether a rule is left out, to see that the tests find it.
#[cfg(not(feature = "testing"))]
#[inline]
pub(crate) fn broken(_: Mutant) -> bool {
    false
}

#[cfg(feature = "testing")]
pub(crate) use testing::broken;

/// Where a test may come between two loads.
#[cfg(not(feature = "testing"))]
#[inline]
pub(crate) fn pause() {}

#[cfg(feature = "testing")]
pub(crate) use testing::pause;

/// A rule to leave out.
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only tests leave one out"))]
#[allow(unreachable_pub, reason = "lib.rs shows it to the tests")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A slot that was found dead counts as dead in later scans: the death is learned before their barriers.
    EarlyDeath = 1,
    /// A change is noted after it was made.
    LateIntention = 2,
    /// The slots are not looked at.
    NoSlots = 3,
    /// Recovery believes that a noted change was not made.
    Unasked = 4,
    /// Recovery stamps all that is retired anew.
    Restamped = 5,
    /// Recovery puts what is retired into the queue as it lies in the memory.
    Unsorted = 6,
    /// The blocks that a change publishes are chained after it was made.
    LateChain = 7,
    /// A bucket's list is cut before readers know where its second half is.
    EarlyCut = 8,
    /// A reader that has not found a key believes it, though its bucket may have been split meanwhile.
    TrustedMiss = 9,
    /// A look at the slots is believed for what was unlinked while it was under way.
    LateBound = 10,
    /// A stretch of free memory is divided from its beginning to its end.
    ForwardJoin = 11,
}

/// How tests kill and break.
#[cfg(feature = "testing")]
#[allow(unreachable_pub, reason = "lib.rs shows it to the tests")]
pub mod testing {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;

    static BROKEN: AtomicU8 = AtomicU8::new(0);

    type Action = Box<dyn FnOnce()>;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static DEAD: Cell<bool> = const { Cell::new(false) };
        static PAUSE: Cell<Option<Action>> = const { Cell::new(None) };
        static AT: Cell<Option<(u64, Action)>> = const { Cell::new(None) };
    }

    /// Does `what`, once, before this thread's `steps`-th store from now (from 0).
    pub fn at_step(steps: u64, what: impl FnOnce() + 'static) {
        AT.set(Some((steps, Box::new(what))));
    }

    /// Forgets what [`at_step`] was told. Returns whether it was not done.
    pub fn never_came() -> bool {
        AT.take().is_some()
    }

    /// Does `what`, once, when this thread has looked up next which buckets a map has, and has not looked at any; or when it is
    /// about to look up where the blocks end, to walk along them.
    pub fn at_pause(what: impl FnOnce() + 'static) {
        PAUSE.set(Some(Box::new(what)));
    }

    pub(crate) fn pause() {
        if let Some(what) = PAUSE.take() {
            what();
        }
    }

    struct Killed;

    /// Leaves a rule out from now on, in this process.
    pub fn leave_out(mutant: Option<Mutant>) {
        BROKEN.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::Relaxed);
    }

    pub(crate) fn broken(mutant: Mutant) -> bool {
        BROKEN.load(Ordering::Relaxed) == mutant as u8
    }

    /// Runs `work`, and kills it before its `steps`-th store (from 0). A killed thread stores nothing more, as its values are
    /// dropped; their locks go. Returns `None` if it was killed.
    pub fn kill_at<R>(steps: u64, work: impl FnOnce() -> R) -> Option<R> {
        LEFT.set(Some(steps));
        let done = catch_unwind(AssertUnwindSafe(work));
        LEFT.set(None);
        DEAD.set(false);
        match done {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }

    pub(crate) fn step() {
        match AT.take() {
            Some((0, what)) => what(),
            Some((left, what)) => AT.set(Some((left - 1, what))),
            None => {}
        }
        match LEFT.get() {
            None => {}
            Some(0) if !DEAD.get() => {
                DEAD.set(true);
                resume_unwind(Box::new(Killed));
            }
            Some(left) => LEFT.set(Some(left.saturating_sub(1))),
        }
    }

    pub(crate) fn is_dead() -> bool {
        DEAD.get()
    }
}
