//! One thread's side of the protocol: it opens sections, closes them, and comes to full stops.

use super::dormant::Sleep;
use super::words::{Stop, Words};
use super::{IDLE, stamp_of};
use crate::sync::{AtomicU64, Mutant, Ordering, broken, light_barrier, step};

/// What a domain's scans see of one thread. In one cache line: `engine/record.rs`
/// keeps what only its owner touches beside it.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The stamp of the latest stop that the thread had seen when it last pinned; with [`IDLE`], if it holds no
    /// guard. How many it holds is the owner's business alone (`engine/record.rs`).
    pub(super) slot: AtomicU64,
    /// The thread's last full stop, nanoseconds.
    pub(super) stopped: AtomicU64,
    /// Whether it sleeps: looked at by its owner in each `pin`.
    sleep: Sleep,
}

impl Reader {
    pub(crate) fn new() -> Reader {
        Reader { slot: AtomicU64::new(IDLE), stopped: AtomicU64::new(0), sleep: Sleep::new() }
    }

    /// One that looks pinned for ever: what a thread without a reader finds in its place.
    #[cfg(not(loom))]
    pub(crate) const fn nobody() -> Reader {
        Reader { slot: AtomicU64::new(0), stopped: AtomicU64::new(0), sleep: Sleep::of_nobody() }
    }

    /// Opens a read-side section: a load, a store, and a look whether somebody took the reader for asleep. The
    /// owner holds no other guard. False: it wakes ([`Sleep::wake`]) before it loads anything.
    ///
    /// The stamp is loaded Acquire: it pairs with the exchange in `stop`, so that from here on the owner
    /// sees all that was unlinked before that stop and before those that it followed. The store is
    /// Release: whoever finds the stamp in the slot finds that all earlier sections have ended. It would
    /// have to be anyway: since C++20 a Relaxed store would not continue the release sequence of the
    /// last `unpin`.
    #[inline]
    pub(crate) fn open(&self, words: &Words) -> bool {
        let order =
            if broken(Mutant::RelaxedLatest) { Ordering::Relaxed } else { Ordering::Acquire };
        let stamp = words.0.latest.load(order);
        step();
        let early = broken(Mutant::LookBeforePin).then(|| self.sleep.is_awake());
        self.show(stamp);
        early.unwrap_or_else(|| self.sleep.is_awake())
    }

    /// The store of [`open`](Reader::open).
    ///
    /// A signal handler that pins and unpins between the load and this leaves a later stamp there, which
    /// this takes back. What the owner finds in its section it finds after the handler's load, so no less
    /// than it showed is true; and what the section holds back is what its own stamp says.
    #[inline]
    pub(crate) fn show(&self, stamp: u64) {
        let order = if broken(Mutant::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
        self.slot.store(stamp, order);
        // The section's loads stay behind the store in program order; the CPU may still swap them,
        // and the barrier point of step 1 is what catches that.
        light_barrier();
    }

    /// The same where nobody is put to sleep; where there is no source of barriers, with the fence which stands for
    /// the barrier point of step 1.
    #[cfg(test)]
    pub(crate) fn pin(&self, words: &Words) {
        if !self.open(words) {
            self.sleep.wake(|| unreachable!("nobody marks it"));
        }
    }

    /// What the owner looks at behind whatever it opens.
    #[inline]
    pub(crate) fn sleep(&self) -> &Sleep {
        &self.sleep
    }

    /// Whether the owner holds a guard. Owner only: Relaxed reads its own last store.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.slot.load(Ordering::Relaxed) & IDLE == 0
    }

    /// [`is_pinned`](Reader::is_pinned) by a plain load, which compilers fold into the test of it.
    ///
    /// # Safety
    /// Nobody but the caller stores to the slot, not even a signal handler on its thread.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn own_is_pinned(&self) -> bool {
        // SAFETY: others load only, as the caller says, so this load races with nothing.
        unsafe { self.slot.as_ptr().read() & IDLE == 0 }
    }

    /// Closes the section, whose guards are gone: the stamp stays. One instruction, where a word in
    /// memory can be changed by one. Owner only; without a section it changes nothing.
    #[inline]
    pub(crate) fn unpin(&self) {
        step();
        // Release: pairs with the Acquire load in `scan` (step 3).
        let order =
            if broken(Mutant::RelaxedUnpin) { Ordering::Relaxed } else { Ordering::Release };
        self.slot.store(self.slot.load(Ordering::Relaxed) | IDLE, order);
        step();
    }

    /// The stamp of the latest stop that the owner is known to have seen, by its own or by a pin, if it holds no
    /// guard. Acquire, both: for whoever finds that, all its sections have ended.
    pub(crate) fn idle_since(&self) -> Option<u64> {
        let word = self.slot.load(Ordering::Acquire);
        let seen = stamp_of(word).max(self.stopped.load(Ordering::Acquire));
        (word & IDLE != 0).then_some(seen)
    }

    /// Shows a stamp that the owner has just loaded ([`Words::seen`]), as a section that is over would have: what
    /// reads by intervals alone is evidence, too. Nothing, while the owner holds a guard.
    #[inline]
    pub(crate) fn show_idle(&self, stamp: u64) {
        if !self.is_pinned() {
            // Release, as in `pin`, and for the same reason. A signal handler that pins in between has shown a
            // later one, which this takes back: an earlier stamp is true as well.
            let order =
                if broken(Mutant::RelaxedPin) { Ordering::Relaxed } else { Ordering::Release };
            self.slot.store(stamp | IDLE, order);
        }
    }

    /// The pinned stamp, if any. `Relaxed`: for reports, proves nothing.
    pub(crate) fn pinned(&self) -> Option<u64> {
        Some(self.slot.load(Ordering::Relaxed)).filter(|word| word & IDLE == 0).map(stamp_of)
    }

    /// The owner's last full stop, nanoseconds. Owner only.
    pub(crate) fn last_stamp(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A full stop of the owning thread, published: evidence that this thread has passed its barrier
    /// for all earlier stamps.
    #[inline]
    pub(crate) fn fence_and_stamp(
        &self,
        words: &Words,
        floor: &AtomicU64,
        clock: impl Fn() -> u64,
    ) -> Stop {
        let stop = words.stop(floor, clock);
        // Release: brings the slot's earlier values along (step 1). Partner: `collect`.
        let order =
            if broken(Mutant::RelaxedEvidence) { Ordering::Relaxed } else { Ordering::Release };
        self.stopped.store(stop.ns, order);
        stop
    }
}
