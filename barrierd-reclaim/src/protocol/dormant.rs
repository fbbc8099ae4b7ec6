//! Readers that sleep: an idle thread that is known to do so owes nobody evidence until it wakes.
//!
//! Owns the two words in which that is agreed: the reader's own ([`Sleep`]), which its owner looks at, and that of
//! 32 readers ([`Asleep`]), which scanners look at in place of them. Pure atomics, so that loom runs these very
//! functions (`models/dormant.rs`). It knows nothing of slots, stamps or where barriers come from; who is put to
//! sleep, and when, is `engine/dormant.rs`. The proof is in docs/proofs/dormant.md, "Dormant readers".
//!
//! # The steps
//! - *The owner* opens whatever may find a pointer (a section, a hazard, a robust guard), and *then* looks at its
//!   word ([`Sleep::is_awake`]). If that is marked, it wakes ([`Sleep::wake`]): it clears its bits, then fences.
//! - *A marker* sets the reader's bit "marked", and marks its word ([`mark`]); then it comes to a full stop. A barrier
//!   passes every CPU after that. It finds nothing open, the word still marked, and then, by one exchange, the bit
//!   still set: the reader sleeps ([`fall_asleep`]). One marker at a time.
//! - *A scanner* comes to a full stop, and passes over those that sleep ([`Asleep::bits`]).

use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Mutant, Ordering, broken, fence};
use crate::sync::{light_barrier, step};

/// Readers of one [`Asleep`].
pub(crate) const BEDS: usize = 32;

/// The owner need not do anything.
const AWAKE: u32 = 0;
/// Somebody has marked it, and it may sleep.
const MARKED: u32 = 1;
/// Its owner is about to clear its bits, and to fence.
const WAKES: u32 = 2;
/// Where no source of barriers makes readers pass one, each of them fences at each look: for good.
const FENCED: u32 = 3;

/// What the owner of a reader looks at.
#[derive(Debug)]
pub(crate) struct Sleep(AtomicU32);

impl Sleep {
    pub(crate) fn new() -> Sleep {
        Sleep(AtomicU32::new(AWAKE))
    }

    /// Nobody's.
    #[cfg(not(loom))]
    pub(crate) const fn of_nobody() -> Sleep {
        Sleep(AtomicU32::new(AWAKE))
    }

    /// From here on each look asks for a fence. The owner's, before its first.
    pub(crate) fn fence_always(&self) {
        self.0.store(FENCED, Ordering::Relaxed);
    }

    /// The owner's look, behind the store by which it opens something, and before it loads any pointer by that:
    /// one load and a test. True: it may go on; false: [`wake`](Sleep::wake) first.
    ///
    /// Before that store it would be worth nothing: the barrier point of its CPU that counts for a mark might
    /// lie between the look, which did not see it, and the store, which nobody sees.
    #[inline]
    pub(crate) fn is_awake(&self) -> bool {
        // The store stays before the look in program order; the CPU may swap them, and the barrier point is what
        // catches that. Relaxed: a look behind that point sees the mark.
        light_barrier();
        step();
        let awake = self.0.load(Ordering::Relaxed) == AWAKE;
        light_barrier();
        step();
        awake
    }

    /// The owner wakes. `clear`: [`Asleep::clear`] of its bits.
    pub(crate) fn wake(&self, clear: impl FnOnce()) {
        if self.0.load(Ordering::Relaxed) == FENCED {
            // Pairs with the fence between the scanner's stop and its look at the slots: whichever comes
            // first, either the scan sees what was opened or the reader sees the unlink.
            if !broken(Mutant::UnfencedReader) {
                fence(Ordering::SeqCst);
            }
            return;
        }
        // Not "awake" before the fence has passed: a signal handler in between would believe it. So nobody marks
        // it meanwhile, and whoever marked it before finds that it is not marked any more.
        self.0.store(WAKES, Ordering::Relaxed);
        step();
        if broken(Mutant::WakesAfterFence) {
            fence(Ordering::SeqCst);
            clear();
        } else {
            // The bits before the fence: it pairs with that of each stop. Take any item, whose unlink came before
            // the fence of its stop. If that came before this one, all that is loaded from here on sees the
            // unlink; if after, whoever has that stop behind him finds the reader awake.
            clear();
            fence(Ordering::SeqCst);
        }
        self.0.store(AWAKE, Ordering::Relaxed);
    }

    /// Whether somebody has marked it, and it has not woken.
    pub(crate) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MARKED
    }
}

/// Which of 32 readers are marked, and which sleep: a bit each, the marks below.
#[derive(Debug)]
pub(crate) struct Asleep(AtomicU64);

impl Asleep {
    pub(crate) fn new() -> Asleep {
        Asleep(AtomicU64::new(0))
    }

    /// Those that sleep, for a scanner that has come to a full stop and learned its watermark: whatever they open
    /// next sees all that was unlinked before any stop up to that one.
    #[inline]
    pub(crate) fn bits(&self) -> u32 {
        // Acquire: pairs with `fall_asleep`.
        (self.0.load(Ordering::Acquire) >> BEDS) as u32
    }

    /// Clears the bits of the reader `bed`, whose owner calls. Whether it slept.
    pub(crate) fn clear(&self, bed: usize) -> bool {
        // Relaxed: a fence follows. A read-modify-write, so that nothing is lost of the others', and so that
        // `fall_asleep` comes before it and is undone, or after it and finds no mark.
        let bits = (1 << bed) | (1 << (bed + BEDS));
        self.0.fetch_and(!bits, Ordering::Relaxed) >> (bed + BEDS) & 1 == 1
    }
}

/// Marks a reader that seems idle. A full stop comes next, by this thread or by one that has this behind it, then a
/// barrier. Nobody marks for another round, nor has marked one without being done with it.
pub(crate) fn mark(sleep: &Sleep, asleep: &Asleep, bed: usize) {
    // Relaxed, all: the fence of the stop that comes next puts them before the barrier. The bit first: with the
    // word marked and no bit, the reader would only not fall asleep; a bit without the word says nothing.
    asleep.0.fetch_or(1 << bed, Ordering::Relaxed);
    let relaxed = Ordering::Relaxed;
    // In vain where it is marked already, or its owner wakes.
    let _ = sleep.0.compare_exchange(AWAKE, MARKED, relaxed, relaxed);
}

/// The barrier has passed since the stop that came after the marks. If `nothing_open` finds nothing open that the
/// owner opened (Acquire), and the owner has not woken since, the reader sleeps from now on.
///
/// What was opened before the barrier point of the owner's CPU was seen open, or has ended. Whoever opened something
/// behind that point has looked behind it, and found the mark: it clears the bits, before the exchange here, which
/// then finds no mark, or after it.
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
        // Release: brings the ends of what was open along, for `look`.
        match asleep.0.compare_exchange_weak(bits, new, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => bits = now,
        }
    }
}

/// What a reader's owner may find pointers by, beside sections, without a look each time: while there is any, it is
/// not put to sleep.
#[derive(Debug)]
pub(crate) struct Holds {
    /// There is a hazard.
    hazard: AtomicBool,
    /// There was a robust guard: those that follow don't look any more.
    robust: AtomicBool,
}

impl Holds {
    pub(crate) fn new() -> Holds {
        Holds { hazard: AtomicBool::new(false), robust: AtomicBool::new(false) }
    }

    /// A hazard is about to be made. Owner only; as for [`Sleep::is_awake`].
    pub(crate) fn hazard(&self, sleep: &Sleep) -> bool {
        Holds::begin(&self.hazard, sleep)
    }

    /// The last hazard is gone, and was cleared. Owner only.
    pub(crate) fn no_hazard(&self) {
        self.hazard.store(false, Ordering::Release);
    }

    /// A robust guard is about to be opened, maybe the first. Owner only; as for [`Sleep::is_awake`].
    pub(crate) fn robust(&self, sleep: &Sleep) -> bool {
        Holds::begin(&self.robust, sleep)
    }

    /// As a section is opened: the store, then the look.
    fn begin(flag: &AtomicBool, sleep: &Sleep) -> bool {
        let early = broken(Mutant::LookBeforeHold).then(|| sleep.is_awake());
        // Release: pairs with `any`.
        flag.store(true, Ordering::Release);
        early.unwrap_or_else(|| sleep.is_awake())
    }

    /// Whether there is any, for whoever puts the reader to sleep.
    pub(crate) fn any(&self) -> bool {
        // Acquire: what was held by hazards that are gone is not used any more.
        let any = self.hazard.load(Ordering::Acquire) || self.robust.load(Ordering::Acquire);
        any && !broken(Mutant::HolderAsleep)
    }
}
