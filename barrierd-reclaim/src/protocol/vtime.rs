//! Virtual time, which the daemon counts beside nanoseconds: where items take it from, and how much of it had passed
//! before an open section began.

use crate::sync::real::AtomicU64;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

/// The evidence of a source: the barrier has passed for every moment before `ns`, and for every virtual
/// time before `vtime` (0 where there is none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) ns: u64,
    pub(crate) vtime: u64,
}

/// The virtual clock where the source has none: no virtual time is above it, so
/// only the bag's nanoseconds count.
pub(crate) static NO_VTIME: AtomicU64 = AtomicU64::new(u64::MAX);

/// The word that items take their virtual time from: the source's own, never a copy, since a copy would give
/// stamps that are too early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VtimeWord(NonNull<AtomicU64>);

impl VtimeWord {
    pub(crate) fn none() -> VtimeWord {
        VtimeWord(NonNull::from(&NO_VTIME))
    }

    /// # Safety
    /// `word` stays mapped as long as any copy of the result is used.
    pub(crate) unsafe fn new(word: NonNull<AtomicU64>) -> VtimeWord {
        VtimeWord(word)
    }

    #[inline]
    pub(crate) fn load(self) -> u64 {
        // SAFETY: mapped for the life of the domain (`Source` keeps its `Barrier`), which outlives
        // every bag in it; read by a plain atomic load, all that a read-only mapping allows.
        // Relaxed: the stamp is meant to be early at worst, and the two full rounds behind
        // `last_interrupt_vtime` cover an unlink still in the store buffer (docs/proofs/daemon.md, "Why a
        // published barrier is one").
        unsafe { self.0.as_ref() }.load(Ordering::Relaxed)
    }
}

/// Translates a pinned stamp into virtual time. Guarded by a lock of the domain's.
#[derive(Debug, Default)]
pub(crate) struct VtimeMemory {
    /// Newest last: the latest stamp as it stood when a virtual time had passed.
    recent: [Evidence; 8],
}

impl VtimeMemory {
    /// Remembers that `vtime` has passed; the caller loaded `latest` after it had learned that.
    pub(crate) fn remember(&mut self, latest: u64, vtime: u64) {
        // Each source's virtual time only rises, but a source without one says 0.
        let vtime = vtime.max(self.recent[self.recent.len() - 1].vtime);
        self.recent.rotate_left(1);
        self.recent[self.recent.len() - 1] = Evidence { ns: latest, vtime };
    }

    /// Returns the virtual time that had passed before every section that a scan saw began, if the oldest of these
    /// pinned `oldest`, and the scan loaded the slots after the last call of `remember`.
    ///
    /// A reader that pinned a stamp above the one that stood when a virtual time was learned loaded
    /// its stamp later than that. A stamp older than the memory gives 0, which frees nothing.
    pub(crate) fn passed(&self, oldest: Option<u64>) -> u64 {
        let before = |pair: &&Evidence| oldest.is_none_or(|oldest| pair.ns < oldest);
        self.recent.iter().rev().find(before).map_or(0, |pair| pair.vtime)
    }
}
