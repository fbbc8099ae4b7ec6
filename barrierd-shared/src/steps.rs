//! Every store that a turn makes, one by one.
//!
//! This file owns the rule that makes a killed writer's traces readable: each store of a turn is a Release, so none moves
//! before an earlier one, and what a death leaves is a prefix of the program. With the feature `testing` it also kills at
//! any of these steps, and leaves out rules that the tests must miss.

use crate::sync::{AtomicU64, Ordering};

/// Stores `value` as the next step.
#[inline]
pub(crate) fn put(word: &AtomicU64, value: u64) {
    step();
    // Release. Partners: whoever learns of the turn's end by its word, or of this process's death by its lock.
    word.store(value, unless(Mutant::RelaxedStep, Ordering::Release));
}

/// Returns `right`, or Relaxed where a rule is left out.
#[inline]
pub(crate) fn unless(mutant: Mutant, right: Ordering) -> Ordering {
    if broken(mutant) { Ordering::Relaxed } else { right }
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
    /// The stores of a turn are Relaxed.
    RelaxedStep = 12,
    /// A turn ends by a Relaxed store.
    RelaxedEnd = 13,
    /// A turn is taken by a Relaxed exchange.
    RelaxedTake = 14,
    /// The turn of a writer that was found dead is taken, whoever has it by now.
    LateTakeover = 15,
    /// A section begins by a load of the latest stamp that acquires nothing.
    RelaxedLatest = 16,
    /// A section begins by a Relaxed store.
    RelaxedPin = 17,
    /// A section ends by a Relaxed store.
    RelaxedUnpin = 18,
    /// A new reader does not fence.
    UnfencedTake = 19,
    /// A new reader leaves its slot as it is.
    NotTaken = 20,
    /// A reader leaves its slot by a Relaxed store.
    RelaxedLeave = 21,
    /// A stamp is taken without a fence.
    UnfencedStamp = 22,
    /// The slots are loaded by Relaxed loads.
    RelaxedScan = 23,
    /// An idle reader needs no evidence.
    IdleNeedsNothing = 24,
    /// The barrier for a stamp has passed where the one before it has.
    LaxWatermark = 25,
    /// The slots are loaded before the watermark is learned.
    ScanBeforeWatermark = 26,
    /// The slot of a reader that is dead is cleared without its lock.
    ClearUnlocked = 27,
    /// A reader's slot is cleared without a question whether it lives.
    ClearAny = 28,
    /// A link is followed without an Acquire.
    RelaxedLink = 29,
    /// Whoever finds a lock free does not see what its last holder stored.
    UnorderedDeath = 30,
}

/// How tests kill and break.
#[cfg(feature = "testing")]
#[allow(unreachable_pub, reason = "lib.rs shows it to the tests")]
#[allow(clippy::missing_const_for_thread_local, reason = "loom's macro knows none")]
pub mod testing {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Mutant;
    #[cfg(barrierd_loom)]
    use loom::thread_local;

    #[cfg(not(barrierd_loom))]
    static BROKEN: AtomicU8 = AtomicU8::new(0);
    // loom runs a model's threads on one thread of the system, so this reaches them all, and no other model.
    #[cfg(barrierd_loom)]
    std::thread_local! {
        static BROKEN: AtomicU8 = const { AtomicU8::new(0) };
    }

    type Action = Box<dyn FnOnce()>;

    thread_local! {
        static LEFT: Cell<Option<u64>> = Cell::new(None);
        static DEAD: Cell<bool> = Cell::new(false);
        static PAUSE: Cell<Option<Action>> = Cell::new(None);
        static AT: Cell<Option<(u64, Action)>> = Cell::new(None);
    }

    /// Does `what`, once, before this thread's `steps`-th store from now (from 0).
    pub fn at_step(steps: u64, what: impl FnOnce() + 'static) {
        AT.with(|at| at.set(Some((steps, Box::new(what)))));
    }

    /// Forgets what [`at_step`] was told. Returns whether it was not done.
    pub fn never_came() -> bool {
        AT.with(Cell::take).is_some()
    }

    /// Does `what`, once, when this thread has looked up next which buckets a map has, and has not looked at any; or when it is
    /// about to look up where the blocks end, to walk along them.
    pub fn at_pause(what: impl FnOnce() + 'static) {
        PAUSE.with(|pause| pause.set(Some(Box::new(what))));
    }

    pub(crate) fn pause() {
        if let Some(what) = PAUSE.with(Cell::take) {
            what();
        }
    }

    struct Killed;

    /// Leaves a rule out from now on, in this process.
    pub fn leave_out(mutant: Option<Mutant>) {
        let mutant = mutant.map_or(0, |mutant| mutant as u8);
        with_broken(|broken| broken.store(mutant, Ordering::Relaxed));
    }

    pub(crate) fn broken(mutant: Mutant) -> bool {
        with_broken(|broken| broken.load(Ordering::Relaxed)) == mutant as u8
    }

    fn with_broken<R>(with: impl FnOnce(&AtomicU8) -> R) -> R {
        #[cfg(barrierd_loom)]
        return BROKEN.with(with);
        #[cfg(not(barrierd_loom))]
        with(&BROKEN)
    }

    /// Runs `work`, and kills it before its `steps`-th store (from 0). A killed thread stores nothing more, as its values are
    /// dropped; their locks go. Returns `None` if it was killed.
    pub fn kill_at<R>(steps: u64, work: impl FnOnce() -> R) -> Option<R> {
        let left = |steps| LEFT.with(|left| left.set(steps));
        left(Some(steps));
        let done = catch_unwind(AssertUnwindSafe(work));
        left(None);
        DEAD.with(|dead| dead.set(false));
        match done {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Drops what a killed thread had: it stores nothing, and its locks go.
    #[cfg(all(test, barrierd_loom))]
    pub(crate) fn bury<T>(had: T) {
        DEAD.with(|dead| dead.set(true));
        drop(had);
        DEAD.with(|dead| dead.set(false));
    }

    pub(crate) fn step() {
        match AT.with(Cell::take) {
            Some((0, what)) => what(),
            Some((left, what)) => AT.with(|at| at.set(Some((left - 1, what)))),
            None => {}
        }
        match LEFT.with(Cell::get) {
            None => {}
            Some(0) if !is_dead() => {
                DEAD.with(|dead| dead.set(true));
                resume_unwind(Box::new(Killed));
            }
            Some(left) => LEFT.with(|all| all.set(Some(left.saturating_sub(1)))),
        }
    }

    pub(crate) fn is_dead() -> bool {
        // A model that has failed must not go on as its values are dropped.
        cfg!(barrierd_loom) && std::thread::panicking() || DEAD.with(Cell::get)
    }
}
