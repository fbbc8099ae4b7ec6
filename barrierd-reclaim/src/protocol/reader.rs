//! One thread's side of the protocol: it opens sections, closes them, and fences and takes stamps.

use super::dormant::Sleep;
use super::words::{Stamp, Words};
use super::{IDLE, stamp_of};
use crate::sync::{AtomicU64, Mutant, Ordering, broken, light_barrier, step};

/// What a domain's scans see of one thread. In one cache line: `engine/record.rs`
/// keeps beside it what only its owner touches.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The latest stamp that the thread had seen when it last pinned; with [`IDLE`], if it holds no
    /// guard. The owner alone counts its guards (`engine/record.rs`).
    pub(super) slot: AtomicU64,
    /// The last stamp that the thread took, nanoseconds.
    pub(super) stamped: AtomicU64,
    /// Whether it sleeps: checked by its owner in each `pin`.
    sleep: Sleep,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { slot: AtomicU64::new(IDLE), stamped: AtomicU64::new(0), sleep: Sleep::new() }
    }

    /// Returns a reader that looks pinned for ever: a thread without a reader finds it in place of one.
    #[cfg(not(barrierd_loom))]
    pub(crate) const fn nobody() -> Reader {
        Reader { slot: AtomicU64::new(0), stamped: AtomicU64::new(0), sleep: Sleep::of_nobody() }
    }

    /// Opens a read-side section: a load, a store, and a check whether another thread took the reader for asleep. The
    /// owner holds no other guard. If it returns false, the owner must wake ([`Sleep::wake`]) before it loads anything.
    ///
    /// The stamp is loaded Acquire: it pairs with the exchange in [`Words::fence_and_stamp`], so that from here on the owner
    /// sees all that was unlinked before that stamp and before those that it followed. The store is
    /// Release: for a thread that finds the stamp in the slot, all earlier sections have ended. It would
    /// have to be Release anyway: since C++20 a Relaxed store would not continue the release sequence of the
    /// last `unpin`.
    #[inline]
    pub(crate) fn open(&self, words: &Words) -> bool {
        let order =
            if broken(Mutant::RelaxedLatest) { Ordering::Relaxed } else { Ordering::Acquire };
        let stamp = words.stamps.latest.load(order);
        step();
        let early = broken(Mutant::CheckBeforePin).then(|| self.sleep.is_awake());
        self.show(stamp);
        early.unwrap_or_else(|| self.sleep.is_awake())
    }

    /// The store of [`open`](Reader::open).
    ///
    /// A signal handler that pins and unpins between the load and this store leaves a later stamp in the slot, which
    /// this store replaces by the older one. What the owner finds in its section it finds after the handler's load,
    /// so what the handler's stamp showed stays true; and what the section holds back is determined by its own stamp.
    #[inline]
    pub(crate) fn show(&self, stamp: u64) {
        let order = if broken(Mutant::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
        self.slot.store(stamp, order);
        // The section's loads stay after the store in program order; the CPU may still swap them,
        // and the barrier point of step 1 is what catches that.
        light_barrier();
    }

    /// Opens a section where no reader is put to sleep; where there is no source of barriers, with the fence which
    /// stands for the barrier point of step 1.
    #[cfg(test)]
    pub(crate) fn pin(&self, words: &Words) {
        if !self.open(words) {
            self.sleep.wake(|| unreachable!("nobody marks it"));
        }
    }

    /// Returns the word that the owner checks after it has opened anything.
    #[inline]
    pub(crate) fn sleep(&self) -> &Sleep {
        &self.sleep
    }

    /// Returns whether the owner holds a guard. Owner only: Relaxed reads its own last store.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.slot.load(Ordering::Relaxed) & IDLE == 0
    }

    /// Returns the same as [`is_pinned`](Reader::is_pinned), by a plain load, which compilers fold into the test of it.
    ///
    /// # Safety
    /// Only the caller stores to the slot; no other thread does, nor a signal handler on its thread.
    #[cfg(not(barrierd_loom))]
    #[inline]
    pub(crate) unsafe fn own_is_pinned(&self) -> bool {
        // SAFETY: the caller alone stores to the slot and others only load it, so this load races with nothing.
        unsafe { self.slot.as_ptr().read() & IDLE == 0 }
    }

    /// Closes the section, whose guards are gone: the stamp stays. This is one instruction where one can change a
    /// word in memory. Owner only; without a section it changes nothing.
    #[inline]
    pub(crate) fn unpin(&self) {
        step();
        // Release: pairs with the Acquire load in `scan` (step 3).
        let order =
            if broken(Mutant::RelaxedUnpin) { Ordering::Relaxed } else { Ordering::Release };
        self.slot.store(self.slot.load(Ordering::Relaxed) | IDLE, order);
        step();
    }

    /// Returns the latest stamp that the owner is known to have seen, because it took or pinned it, if it holds no
    /// guard. Acquire, both: for a thread that finds that, all the owner's sections have ended.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let word = self.slot.load(Ordering::Acquire);
        let seen = stamp_of(word).max(self.stamped.load(Ordering::Acquire));
        (word & IDLE != 0).then_some(seen)
    }

    /// Shows a stamp that the owner has just loaded ([`Words::seen`]), as a section that is over would have: so a
    /// thread that reads by intervals alone is evidence, too. Does nothing while the owner holds a guard.
    #[inline]
    pub(crate) fn show_idle(&self, stamp: u64) {
        if !self.is_pinned() {
            // Release, as in `show`, and for the same reason. A signal handler that pins in between has shown a
            // later stamp, which this replaces: an earlier stamp is true as well.
            let order =
                if broken(Mutant::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
            self.slot.store(stamp | IDLE, order);
        }
    }

    /// Returns the last stamp that the owner took, and the slot, for evidence. In this order: while a section is open that
    /// was so when that stamp was taken, the slot shows it.
    pub(super) fn shown(&self) -> (u64, u64) {
        let relaxed = broken(Mutant::RelaxedEvidence);
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Acquire };
        let late = broken(Mutant::SlotBeforeStamped).then(|| self.slot.load(order));
        // Acquire, both: pair with `fence_and_stamp`, and with `open` and `unpin`.
        let stamped = self.stamped.load(order);
        let order = if broken(Mutant::RelaxedScan) { Ordering::Relaxed } else { order };
        (stamped, late.unwrap_or_else(|| self.slot.load(order)))
    }

    /// Returns the pinned stamp, if any. `Relaxed`: for reports, proves nothing.
    pub(crate) fn pinned(&self) -> Option<u64> {
        Some(self.slot.load(Ordering::Relaxed)).filter(|word| word & IDLE == 0).map(stamp_of)
    }

    /// Returns the last stamp that the owner took, nanoseconds. Owner only.
    pub(crate) fn last_stamp(&self) -> u64 {
        self.stamped.load(Ordering::Relaxed)
    }

    /// Fences and takes a stamp for the owning thread, and publishes it: evidence that this thread has passed its
    /// barrier for all earlier stamps.
    #[inline]
    pub(crate) fn fence_and_stamp(
        &self,
        words: &Words,
        floor: &AtomicU64,
        clock: impl Fn() -> u64,
    ) -> Stamp {
        let stamp = words.fence_and_stamp(floor, clock);
        // Release: brings the slot's earlier values along (step 1). Partner: `shown`.
        let order =
            if broken(Mutant::RelaxedEvidence) { Ordering::Relaxed } else { Ordering::Release };
        self.stamped.store(stamp.ns, order);
        stamp
    }
}
