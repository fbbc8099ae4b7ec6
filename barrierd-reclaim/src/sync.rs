//! The atomics of the protocol and a futex, so that loom can stand in for them, and the two hooks that
//! its models need. The only place where a loom build differs from a real one, and a target without 64-bit atomics from
//! one that has them.
//!
//! [`light_barrier`] stays what it is under loom: nothing. A real fence in its place would prove
//! another program.

use core::time::Duration;

#[cfg(not(barrierd_loom))]
use crate::platform::WaitQueue;

pub(crate) use core::sync::atomic::Ordering;

/// The real ones, in any build: words on which no proof rests, and those of the process.
///
/// Where the target has none of 64 bits they are portable-atomic's, which lock one of a few words for a moment.
pub(crate) mod real {
    #[cfg(target_has_atomic = "64")]
    pub(crate) use core::sync::atomic::AtomicU64;
    #[cfg(not(target_has_atomic = "64"))]
    pub(crate) use portable_atomic::AtomicU64;
}

#[cfg(not(barrierd_loom))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, fence};
#[cfg(barrierd_loom)]
pub(crate) use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, fence,
};
#[cfg(not(barrierd_loom))]
pub(crate) use real::AtomicU64;

/// The watermark of the barrier that was last bought, or is being bought, by any domain of the process:
/// `protocol::raise`. Nanoseconds.
#[cfg(not(barrierd_loom))]
pub(crate) static FLOOR: AtomicU64 = AtomicU64::new(0);
#[cfg(barrierd_loom)]
loom::lazy_static! {
    pub(crate) static ref FLOOR: AtomicU64 = AtomicU64::new(0);
}

/// Raises `word` to `value`, unless it is as high already. Release, for the words that hand on what its caller knows.
///
/// Not `fetch_max`: LLVM's ThreadSanitizer passes over that, as if nothing had been stored, and then takes what it hands
/// on for a race (`who_frees_runs_after_who_read`). Nor is anything written here where nothing rises.
#[inline]
pub(crate) fn raise_to(word: &AtomicU64, value: u64) {
    // Relaxed: a thread that finds the word as high hands nothing on. Whoever raised it that far did.
    let higher = |now| (now < value).then_some(value);
    word.fetch_update(Ordering::Release, Ordering::Relaxed, higher).ok();
}

/// The reader's half of the asymmetric barrier: it holds back the compiler, not the CPU.
#[inline(always)]
pub(crate) fn light_barrier() {
    #[cfg(not(barrierd_loom))]
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// A place between two steps of a reader, where a model may let its CPU take an interrupt.
#[inline(always)]
pub(crate) fn step() {
    #[cfg(all(barrierd_loom, test))]
    crate::models::interrupt_here();
}

/// A place between two steps of a call or of the background thread, where a test may have it preempted
/// (`preempt_at`). Not within a queue's own steps: those are loom's, and the race of `engine/takeover.rs`'s tests
/// lives from their pace.
#[inline(always)]
pub(crate) fn stage() {
    #[cfg(all(not(barrierd_loom), test))]
    preempted::here();
}

#[cfg(all(not(barrierd_loom), test))]
pub(crate) use preempted::preempt_at;

/// Preemption on purpose: at a chosen step others do what they like, on this thread.
#[cfg(all(not(barrierd_loom), test))]
mod preempted {
    use core::cell::RefCell;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    type Others<'o> = Box<dyn FnOnce() + 'o>;

    /// How many threads are to be preempted: a step costs others no more than this load.
    static ARMED: AtomicUsize = AtomicUsize::new(0);

    thread_local! {
        /// After how many more steps, and what happens then.
        static DUE: RefCell<Option<(usize, Others<'static>)>> = const { RefCell::new(None) };
    }

    /// Runs `work`; after `steps` steps of it, once, `others`. Whether it came to that.
    pub(crate) fn preempt_at(steps: usize, others: impl FnOnce(), work: impl FnOnce()) -> bool {
        let others: Others<'_> = Box::new(others);
        // SAFETY: only the lifetime is changed. It is dropped below at the latest, before what it borrows:
        // `Unset` does so also if `work` panics.
        let others: Others<'static> = unsafe { core::mem::transmute(others) };
        struct Unset;
        impl Drop for Unset {
            fn drop(&mut self) {
                DUE.take();
                ARMED.fetch_sub(1, Relaxed);
            }
        }
        ARMED.fetch_add(1, Relaxed);
        let unset = Unset;
        DUE.replace(Some((steps, others)));
        work();
        let came = DUE.with_borrow(Option::is_none);
        drop(unset);
        came
    }

    #[inline]
    pub(super) fn here() {
        // Relaxed: the thread's own addition is what counts.
        if ARMED.load(Relaxed) > 0 {
            come_to_it();
        }
    }

    #[cold]
    fn come_to_it() {
        let due = DUE.try_with(|due| {
            let mut due = due.borrow_mut();
            let (steps, others) = due.take()?;
            if steps == 0 {
                return Some(others);
            }
            *due = Some((steps - 1, others));
            None
        });
        if let Ok(Some(others)) = due {
            others();
        }
    }
}

/// A word that one thread sleeps on.
///
/// Under loom a lock stands for the kernel's, under which it compares the word before it puts the
/// thread to sleep; a sleep that would time out ends at once.
#[derive(Debug)]
pub(crate) struct FutexWord {
    word: AtomicU32,
    #[cfg(not(barrierd_loom))]
    queue: WaitQueue,
    #[cfg(barrierd_loom)]
    bucket: loom::sync::Mutex<()>,
    #[cfg(barrierd_loom)]
    woken: loom::sync::Condvar,
}

impl FutexWord {
    pub(crate) fn new(value: u32) -> FutexWord {
        FutexWord {
            word: AtomicU32::new(value),
            #[cfg(not(barrierd_loom))]
            queue: WaitQueue::default(),
            #[cfg(barrierd_loom)]
            bucket: loom::sync::Mutex::new(()),
            #[cfg(barrierd_loom)]
            woken: loom::sync::Condvar::new(),
        }
    }

    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Sleeps while the word is `value`, `longest` at most. May return for no reason.
    #[cfg(not(barrierd_loom))]
    pub(crate) fn wait(&self, value: u32, longest: Option<Duration>) {
        self.queue.wait(&self.word, value, longest);
    }

    /// Wakes the thread that sleeps.
    #[cfg(not(barrierd_loom))]
    pub(crate) fn wake(&self) {
        self.queue.wake(&self.word);
    }

    #[cfg(barrierd_loom)]
    pub(crate) fn wait(&self, value: u32, longest: Option<Duration>) {
        let bucket = self.bucket.lock().expect("no panics");
        if self.word.load(Ordering::Relaxed) == value && longest.is_none() {
            drop(self.woken.wait(bucket));
        }
    }

    #[cfg(barrierd_loom)]
    pub(crate) fn wake(&self) {
        let _bucket = self.bucket.lock().expect("no panics");
        self.woken.notify_one();
    }
}

/// One way to break the protocol. Loom runs the crate's own code with one of them switched on and
/// must find the use after free; elsewhere each is `false` at compile time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(all(barrierd_loom, test)),
    allow(dead_code, reason = "some break the models' own steps")
)]
pub(crate) enum Mutant {
    /// `pin` loads the latest stamp Relaxed.
    RelaxedLatest,
    /// The stamp is loaded after the section's pointer.
    LatestAfterPointer,
    /// The slot is stored after the section's loads.
    SlotAfterLoads,
    /// The slot is marked idle before the section's last access.
    IdleBeforeLastAccess,
    /// Two stamps may be equal.
    TiedStamps,
    /// A source whose watermark covers what is less is taken to cover what is equal, too.
    StrictAsNotLess,
    /// What readers have seen is evidence for more than the scanner's own stamp covers.
    UncappedEvidence,
    /// A reader that holds no guard counts as passed, whatever its slot shows.
    IdleNeedsNothing,
    /// `pin` publishes its stamp with a Relaxed store.
    RelaxedPin,
    /// `unpin` marks the slot idle with a Relaxed store.
    RelaxedUnpin,
    /// The owner of a reader checks whether it is marked before it opens a section.
    CheckBeforePin,
    /// A reader is put to sleep before a barrier has passed since its mark.
    AsleepBeforeBarrier,
    /// Two rounds of marks at once.
    TwoRounds,
    /// A reader falls asleep even if it woke after the marker's check.
    AsleepAnyway,
    /// A reader that wakes clears its bits after its fence.
    WakesAfterFence,
    /// A reader that has a hazard, or had a robust guard, is put to sleep.
    HolderAsleep,
    /// A thread that makes a hazard checks whether it is marked before it notes that it has one.
    CheckBeforeHold,
    /// The scan frees without loading the slots.
    NoScan,
    /// The scan loads the slots before it learns the watermark.
    ScanBeforeWatermark,
    /// The scan loads the slots Relaxed.
    RelaxedScan,
    /// Where there is no source of barriers, `pin` runs no fence either.
    UnfencedReader,
    /// The stamp is taken without the fence that makes the unlink visible.
    UnfencedStamp,
    /// Taking a stamp orders nothing between the domain's own threads.
    RelaxedStamp,
    /// A stamp ignores the watermark that other domains are buying a barrier for.
    FloorUnseen,
    /// The watermark of a bought barrier is shown after the barrier.
    FloorAfterBarrier,
    /// A thread's own evidence is published and read Relaxed.
    RelaxedEvidence,
    /// The bound of a group of readers is read Relaxed.
    RelaxedBound,
    /// The bound of a group of readers is raised Relaxed.
    RelaxedRaise,
    /// For a bound and in a walk, a reader's slot is loaded before the last stamp that it took.
    SlotBeforeStamped,
    /// A queue is taken over without a barrier of its owner's CPU.
    TakeoverWithoutBarrier,
    /// The stamp of a queue that is taken over is taken before the check whether its owner is inside.
    StampBeforeCheck,
    /// The owner of a queue loads its limit before it notes that it is busy.
    LimitBeforeBusy,
    /// The owner of a queue sets how far it fills bags by a store, even if the queue was taken meanwhile.
    LimitByStore,
    /// A hazard is trusted without a second load of the pointer.
    HazardNoReload,
    /// A hazard is set and cleared by Relaxed stores.
    RelaxedHazard,
    /// Hazards and intervals are scanned before `safe` is loaded: the set of an older scan with a
    /// newer `safe`.
    HolderSetOld,
    /// What one scan of the holders held back is released by an older one.
    OlderScan,
    /// Another thread's scan of the holders is used with a later `safe` than it came after.
    PartedScan,
    /// Hazards are scanned before intervals: a reader may move from one to the other.
    HazardsBeforeIntervals,
    /// The scan of hazards and intervals is Relaxed.
    RelaxedHolderScan,
    /// An interval is closed by a Relaxed store.
    RelaxedInterval,
    /// An interval's end is raised, but the pointer not loaded again.
    RobustNoReload,
    /// A birth is the clock, not the domain's era.
    BirthFromNow,
    /// The owner of a queue notes that it is not busy any more by a Relaxed store.
    RelaxedQuiet,
    /// Records in use count as if no thread had them.
    NobodyInUse,
    /// A record is given back Relaxed.
    RelaxedGiveBack,
    /// A record is given back by a load and a store: another record of the same word that is taken or given back
    /// meanwhile is lost.
    GiveBackByStore,
    /// The word that tells which records are in use is loaded Relaxed.
    RelaxedTaken,
    /// A thread that takes a record takes no stamp.
    NewcomerWithoutStamp,
    /// The list of records is loaded before the scanner's own stamp.
    ListBeforeStamp,
    /// The stamp that goes with a virtual time is loaded before that time is learned.
    LatestBeforeVtime,
    /// The stamp that goes with a virtual time is the era instead, which trails the stamps that readers pin.
    EraForVtime,
    /// The background thread checks whether anything waits before it notes that it stops checking.
    CheckBeforeAsleep,
    /// The same without the fence between the two.
    UnfencedAsleep,
    /// The background thread goes to sleep by a plain store, even if a thread has called.
    SleepByStore,
    /// A thread that calls the background thread does so by a Relaxed operation.
    RelaxedCall,
    /// What is put into an inbox is put there by a Relaxed exchange.
    RelaxedPush,
    /// A barrier is paid for and not run: the time alone is the watermark. For the stress test.
    NoBarrier,
}

/// Stands for what one owner at a time touches: loom checks that it is so.
#[derive(Debug, Default)]
pub(crate) struct Owned(#[cfg(barrierd_loom)] loom::cell::UnsafeCell<()>);

impl Owned {
    #[inline(always)]
    pub(crate) fn touch(&self) {
        #[cfg(barrierd_loom)]
        self.0.with_mut(|_| ());
    }
}

/// Returns whether this build is broken in the way of `mutant`: the stress tests must detect such builds
/// (scripts/mutants.sh, scripts/sanitizers.sh).
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn broken(mutant: Mutant) -> bool {
    match mutant {
        Mutant::NoScan => cfg!(barrierd_broken = "no_pins"),
        Mutant::NoBarrier => cfg!(barrierd_broken = "no_barrier"),
        Mutant::IdleNeedsNothing => cfg!(barrierd_broken = "no_idle_evidence"),
        Mutant::RelaxedUnpin => cfg!(barrierd_broken = "relaxed_unpin"),
        _ => false,
    }
}

/// For tests that break the real code, in a process of their own: the mutant's number, plus one.
#[cfg(all(test, not(barrierd_loom)))]
pub(crate) static BROKEN: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

#[cfg(all(test, not(barrierd_loom)))]
#[inline(always)]
pub(crate) fn broken(mutant: Mutant) -> bool {
    BROKEN.load(Ordering::Relaxed) == mutant as u8 + 1
}

#[cfg(all(barrierd_loom, test))]
pub(crate) use crate::models::broken;
