//! Readers that sleep: scans ask a thread that is known to be idle for no evidence until it wakes.
//!
//! Owns the two words in which that is agreed: the reader's own ([`Sleep`]), which its owner checks, and that of
//! 32 readers ([`Asleep`]), which scans load in place of them. Pure atomics, so that loom runs these very
//! functions (`models/dormant.rs`). It knows nothing of slots, stamps or where barriers come from; `engine/dormant.rs`
//! decides which readers are put to sleep, and when. The proof is in docs/proofs/dormant.md, "Dormant readers".
//!
//! # The steps
//! - *The owner* opens whatever may find a pointer (a section, a hazard, a robust guard), and *then* checks its
//!   word ([`Sleep::is_awake`]). If that is marked, the owner wakes ([`Sleep::wake`]): it clears its bits, then fences.
//! - *A marker* sets the reader's bit "marked", and marks its word ([`mark`]); then it fences and takes a stamp. A
//!   barrier passes every CPU after that. The marker finds nothing open, the word still marked, and then, by one
//!   exchange, the bit still set: the reader sleeps ([`fall_asleep`]). There is one marker at a time.
//! - *A scan* fences and takes a stamp, and passes over the readers that sleep ([`Asleep::bits`]).

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutant, Ordering, broken, fence};
use crate::sync::{light_barrier, step};

/// Readers of one [`Asleep`].
pub(crate) const BEDS: usize = 32;

/// The owner need not do anything.
const AWAKE: u32 = 0;
/// Another thread has marked it, and it may sleep.
const MARKED: u32 = 1;
/// Its owner is about to clear its bits, and to fence.
const WAKES: u32 = 2;
/// Where no source of barriers makes readers pass one, each of them fences at each check: for good.
const FENCED: u32 = 3;

/// The word that the owner of a reader checks.
#[derive(Debug)]
pub(crate) struct Sleep(AtomicU32);

impl Sleep {
    pub(crate) fn new() -> Sleep {
        Sleep(AtomicU32::new(AWAKE))
    }

    /// The word of a reader without an owner.
    #[cfg(not(barrierd_loom))]
    pub(crate) const fn of_nobody() -> Sleep {
        Sleep(AtomicU32::new(AWAKE))
    }

    /// Makes each check ask for a fence from here on. The owner calls it before its first check.
    pub(crate) fn fence_always(&self) {
        self.0.store(FENCED, Ordering::Relaxed);
    }

    /// The owner's check, after the store by which it opens something, and before it loads any pointer under that:
    /// one load and a test. If it returns true, the owner may go on; if false, it must [`wake`](Sleep::wake) first.
    ///
    /// Before that store the check would prove nothing: the barrier point of the owner's CPU that counts for a mark
    /// might lie between the check, which did not see the mark, and the store, which no other thread sees.
    #[inline]
    pub(crate) fn is_awake(&self) -> bool {
        // The store stays before this load in program order; the CPU may swap them, and the barrier point is what
        // catches that. Relaxed: a load after that point sees the mark.
        light_barrier();
        step();
        let awake = self.0.load(Ordering::Relaxed) == AWAKE;
        light_barrier();
        step();
        awake
    }

    /// Wakes the owner, which calls it. `clear` calls [`Asleep::clear`] for its bits.
    pub(crate) fn wake(&self, clear: impl FnOnce()) {
        if self.0.load(Ordering::Relaxed) == FENCED {
            // Pairs with the fence between the scan's stamp and its loads of the slots: whichever comes
            // first, either the scan sees what was opened or the reader sees the unlink.
            if !broken(Mutant::UnfencedReader) {
                fence(Ordering::SeqCst);
            }
            return;
        }
        // Not "awake" before the fence has passed: a signal handler in between would trust it. So no thread marks
        // it meanwhile, and a thread that marked it before finds that it is not marked any more.
        self.0.store(WAKES, Ordering::Relaxed);
        step();
        if broken(Mutant::WakesAfterFence) {
            fence(Ordering::SeqCst);
            clear();
        } else {
            // The bits before the fence, which pairs with the one before each stamp. Take any item: its unlink came
            // before the fence of its stamp. If that fence came before this one, all that is loaded from here on sees
            // the unlink. If it came after, a scan that happens after that stamp's exchange finds the reader awake.
            clear();
            fence(Ordering::SeqCst);
        }
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Returns whether a thread has marked it, and it has not woken.
    pub(crate) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MARKED
    }
}

/// Which of 32 readers are marked, and which sleep: a bit each, with the marks in the lower half.
#[derive(Debug)]
pub(crate) struct Asleep(AtomicU64);

impl Asleep {
    pub(crate) fn new() -> Asleep {
        Asleep(AtomicU64::new(0))
    }

    /// Returns those that sleep, for a scan that has its stamp and has learned its watermark: whatever they open
    /// next sees all that was unlinked before any stamp up to that one.
    #[inline]
    pub(crate) fn bits(&self) -> u32 {
        // Acquire: pairs with `fall_asleep`.
        (self.0.load(Ordering::Acquire) >> BEDS) as u32
    }

    /// Clears the bits of the reader `bed`, whose owner calls. Returns whether it slept.
    pub(crate) fn clear(&self, bed: usize) -> bool {
        // Relaxed: a fence follows. A read-modify-write, so that none of the other readers' bits is lost, and so that
        // `fall_asleep` either comes before it and is undone, or after it and finds no mark.
        let bits = (1 << bed) | (1 << (bed + BEDS));
        self.0.fetch_and(!bits, Ordering::Relaxed) >> (bed + BEDS) & 1 == 1
    }
}

/// Marks a reader that seems idle. A fence and stamp come next, by this thread or by one for which this mark happened
/// before, then a barrier. No thread marks for another round meanwhile, and every earlier round is over.
pub(crate) fn mark(sleep: &Sleep, asleep: &Asleep, bed: usize) {
    // Relaxed, all: the fence before the next stamp puts them before the barrier. The bit first: with the
    // word marked and no bit, the reader would only not fall asleep; a bit without the word says nothing.
    asleep.0.fetch_or(1 << bed, Ordering::Relaxed);
    let relaxed = Ordering::Relaxed;
    // Fails where the reader is marked already, or its owner wakes.
    let _ = sleep.0.compare_exchange(AWAKE, MARKED, relaxed, relaxed);
}

/// Puts a reader to sleep, and returns whether it did. The barrier has passed since the stamp that was taken after the
/// marks. If `nothing_open` finds nothing open that the owner opened (Acquire), and the owner has not woken since, the
/// reader sleeps from now on.
///
/// What was opened before the barrier point of the owner's CPU was seen open, or has ended. An owner that opened
/// something after that point has checked its word after it, and found the mark: it clears the bits, before the
/// exchange here, which then finds no mark, or after it.
pub(crate) fn fall_asleep(
    sleep: &Sleep,
    asleep: &Asleep,
    bed: usize,
    nothing_open: impl FnOnce() -> bool,
) -> bool {
    if !sleep.is_marked() || !nothing_open() {
        return false;
    }
    let marked = 1 << bed;
    let mut bits = asleep.0.load(Ordering::Relaxed);
    loop {
        if bits & marked == 0 && !broken(Mutant::AsleepAnyway) {
            return false;
        }
        let new = bits & !marked | marked << BEDS;
        // Release: brings the ends of what was open along, for `bits`.
        match asleep.0.compare_exchange_weak(bits, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => bits = now,
        }
    }
}

/// The holders by which a reader's owner may find pointers, beside sections, without a check each time: while there is
/// any, the reader is not put to sleep.
#[derive(Debug)]
pub(crate) struct Holds {
    /// There is a hazard.
    hazard: AtomicBool,
    /// There was a robust guard: those that follow don't check any more.
    robust: AtomicBool,
}

impl Holds {
    pub(crate) fn new() -> Holds {
        Holds { hazard: AtomicBool::new(false), robust: AtomicBool::new(false) }
    }

    /// Notes that a hazard is about to be made. Owner only; returns the same as [`Sleep::is_awake`].
    pub(crate) fn hazard(&self, sleep: &Sleep) -> bool {
        Holds::begin(&self.hazard, sleep)
    }

    /// Notes that the last hazard is gone, and was cleared. Owner only.
    pub(crate) fn no_hazard(&self) {
        self.hazard.store(false, Ordering::Release);
    }

    /// Notes that a robust guard is about to be opened, maybe the first. Owner only; returns the same as
    /// [`Sleep::is_awake`].
    pub(crate) fn robust(&self, sleep: &Sleep) -> bool {
        Holds::begin(&self.robust, sleep)
    }

    /// Does what opening a section does: the store, then the check.
    fn begin(flag: &AtomicBool, sleep: &Sleep) -> bool {
        let early = broken(Mutant::CheckBeforeHold).then(|| sleep.is_awake());
        // Release: pairs with `any`.
        flag.store(true, Ordering::Release);
        early.unwrap_or_else(|| sleep.is_awake())
    }

    /// Returns whether there is any, for the thread that puts the reader to sleep.
    pub(crate) fn any(&self) -> bool {
        // Acquire: pairs with `begin` and `no_hazard`: what was held by hazards that are gone is not used any more.
        let any = self.hazard.load(Ordering::Acquire) || self.robust.load(Ordering::Acquire);
        any && !broken(Mutant::HolderAsleep)
    }
}
