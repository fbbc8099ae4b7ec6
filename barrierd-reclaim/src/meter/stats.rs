//! Counters: what a domain has done, for reports and tests. They order nothing and prove nothing.

use crate::evidence::purchase::Asked;
use crate::evidence::source::ActiveSource;
use crate::sync::real::AtomicU64;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

/// A domain's work so far, as [`Reclaimer::stats`](crate::Reclaimer::stats) found it: a sum over
/// threads that go on meanwhile, so the numbers may be a moment apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Objects handed to `retire` since the domain was made.
    pub retired: u64,
    /// Objects whose destructor has been started.
    pub freed: u64,
    /// The size of the objects that wait, bytes: the size of the type that was retired, not of what it
    /// owns. Bags of up to 64 objects that are being freed are no longer counted.
    pub waiting_bytes: u64,
    /// The time that the oldest object in `waiting_bytes` has waited; `None` if there is none. An
    /// object whose queue another thread took over counts from when its bag was opened, at most 63
    /// objects before it; one that came while the queue was being taken over may count only once its
    /// thread has filled another bag.
    pub oldest: Option<Duration>,
    /// Scans of the readers' slots.
    pub scans: u64,
    /// Scans that brought a new watermark, by any evidence: most are collected from the domain's own
    /// threads.
    pub advances: u64,
    /// Barriers taken over from the source: the daemon's rounds, purchases.
    pub rounds: u64,
    /// `membarrier(2)` calls made inside `retire`, and requests to the daemon.
    pub retire_syscalls: u64,
    /// `membarrier(2)` calls made elsewhere (`flush`, `synchronize`, a thread's exit, the background
    /// thread), and waits for the daemon. The one that registers the process is counted nowhere.
    pub other_syscalls: u64,
    /// Times that a `retire` woke the background thread, a futex call each: at most one for each
    /// time that the domain had nothing waiting.
    pub wakes: u64,
    /// Queues that were taken over from threads that did not retire.
    pub takeovers: u64,
    /// `membarrier(2)` calls that the kernel refused, and registrations for them.
    pub refused: u64,
    /// The source that the last barrier came from.
    pub source: ActiveSource,
    /// The clock ran backwards past a barrier: nothing is freed until the domain is dropped.
    pub poisoned: bool,
}

impl Stats {
    /// Returns the number of objects retired and not yet freed.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.retired.saturating_sub(self.freed)
    }
}

/// The counters that scans keep for the whole domain.
#[derive(Debug)]
pub(crate) struct Counters {
    scans: AtomicU64,
    advances: AtomicU64,
    rounds: AtomicU64,
    retire_syscalls: AtomicU64,
    other_syscalls: AtomicU64,
    wakes: AtomicU64,
    takeovers: AtomicU64,
    refused: AtomicU64,
    source: AtomicU8,
}

impl Counters {
    pub(crate) fn new(source: ActiveSource) -> Counters {
        let zero = || AtomicU64::new(0);
        Counters {
            scans: zero(),
            advances: zero(),
            rounds: zero(),
            retire_syscalls: zero(),
            other_syscalls: zero(),
            wakes: zero(),
            takeovers: zero(),
            refused: zero(),
            source: AtomicU8::new(code(source)),
        }
    }

    /// Counts a scan of the readers' slots; `advanced`: its watermark was later than those before.
    pub(crate) fn scanned(&self, advanced: bool) {
        self.scans.fetch_add(1, Relaxed);
        if advanced {
            self.advances.fetch_add(1, Relaxed);
        }
    }

    /// Counts a barrier that `source` gave.
    pub(crate) fn round(&self, source: ActiveSource) {
        self.rounds.fetch_add(1, Relaxed);
        self.source.store(code(source), Relaxed);
    }

    pub(crate) fn report(&self, retired: u64, freed: u64, poisoned: bool) -> Stats {
        Stats {
            retired,
            freed,
            waiting_bytes: 0,
            oldest: None,
            scans: self.scans.load(Relaxed),
            advances: self.advances.load(Relaxed),
            rounds: self.rounds.load(Relaxed),
            retire_syscalls: self.retire_syscalls.load(Relaxed),
            other_syscalls: self.other_syscalls.load(Relaxed),
            wakes: self.wakes.load(Relaxed),
            takeovers: self.takeovers.load(Relaxed),
            refused: self.refused.load(Relaxed),
            source: match self.source.load(Relaxed) {
                0 => ActiveSource::Daemon,
                1 => ActiveSource::Membarrier,
                _ => ActiveSource::Fence,
            },
            poisoned,
        }
    }

    pub(crate) fn bought(&self, asked: Asked) {
        match asked {
            Asked::OnRetire | Asked::AtLimit => self.retire_syscalls.fetch_add(1, Relaxed),
            Asked::OnFlush
            | Asked::OnFlushAgain
            | Asked::OnExit
            | Asked::Now
            | Asked::Nothing
            | Asked::InBackground
            | Asked::Again => self.other_syscalls.fetch_add(1, Relaxed),
        };
    }

    pub(crate) fn woke(&self) {
        self.wakes.fetch_add(1, Relaxed);
    }

    pub(crate) fn took_over(&self, queues: usize) {
        self.takeovers.fetch_add(queues as u64, Relaxed);
    }

    pub(crate) fn waited(&self) {
        self.other_syscalls.fetch_add(1, Relaxed);
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}

fn code(source: ActiveSource) -> u8 {
    match source {
        ActiveSource::Daemon => 0,
        ActiveSource::Membarrier => 1,
        ActiveSource::Fence => 2,
    }
}
