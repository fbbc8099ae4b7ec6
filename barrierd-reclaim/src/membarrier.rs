//! The barrier that a process buys for itself: `membarrier(2)`, `PRIVATE_EXPEDITED`.
//!
//! Owns the registration, the watermark that all domains of the process share, the price and the
//! spacing of purchases. A barrier bought here covers the threads of this address space alone.
//!
//! # Semantics
//! `membarrier(PRIVATE_EXPEDITED)` returns after every running thread of the process has executed
//! a full barrier between the call and the return; threads that do not run passed one when they
//! were switched out (`kernel/sched/membarrier.c`). So a full stop that came before the call is a
//! watermark after it, for the buyer's own domain, whose stops are in order. For other domains it is one
//! because no stop of theirs that comes after gets a lower stamp: the buyer shows its stop in a word
//! that all stops look at ([`FLOOR`]) before it calls. No clock is compared with another.

use crate::error::MembarrierError;
use crate::fork::Process;
use crate::protocol::raise;
use crate::sync::{FLOOR, Twin, broken};
use barrierd_client::clock::now_ns;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use rustix::io::Errno;
use rustix::thread::{MembarrierCommand, membarrier};
use std::io;

/// Purchases that are made only because time goes by are at least this far apart, in nanoseconds ...
const LEAST_SPACING_NS: u64 = 2_000_000;
/// ... and cost at most one part in this many of the time between them ...
const SHARE: u64 = 50;
/// ... but are no further apart than this: a price may include the buyer's own preemption.
const MOST_SPACING_NS: u64 = 4_000_000;

/// The process whose purchases are remembered, by its number; with [`BEGINS`] while it forgets what its
/// parent bought.
static OWNER: AtomicU64 = AtomicU64::new(0);
/// See [`OWNER`].
const BEGINS: u64 = 1 << 63;

/// In a child of a fork: forgets what its parent bought. That covered the parent's threads; and the child
/// may have been born into another time namespace, where the parent's stamps lie in a future for which
/// everything would have to wait. Only domains that the child makes free anything in it, and each comes by
/// here before it buys or uses a barrier.
fn begin_anew_in_a_child() {
    let this = Process::current().number();
    loop {
        // Acquire: pairs with the Release below, so that nobody raises what is about to be reset.
        let owner = OWNER.load(Acquire);
        if owner == this {
            return;
        }
        if owner == this | BEGINS {
            // Another thread of this process is between two of its steps below.
            core::hint::spin_loop();
            continue;
        }
        if OWNER.compare_exchange(owner, this | BEGINS, Acquire, Relaxed).is_ok() {
            BOUGHT.watermark_ns.store(0, Relaxed);
            BOUGHT.last_ns.store(0, Relaxed);
            BOUGHT.started_ns.store(0, Relaxed);
            BOUGHT.refused.store(false, Relaxed);
            FLOOR.store(0, Relaxed);
            OWNER.store(this, Release);
            return;
        }
    }
}

/// What was bought, for every domain of the process.
static BOUGHT: Bought = Bought {
    watermark_ns: AtomicU64::new(0),
    last_ns: AtomicU64::new(0),
    price_ns: AtomicU64::new(0),
    started_ns: AtomicU64::new(0),
    refused: AtomicBool::new(false),
};

struct Bought {
    watermark_ns: AtomicU64,
    /// When the last purchase, or refusal, ended.
    last_ns: AtomicU64,
    /// What it took, as far as it is believed.
    price_ns: AtomicU64,
    /// Since when somebody is buying, or 0: what comes of it will do for others, too.
    started_ns: AtomicU64,
    /// The kernel refused the last one.
    refused: AtomicBool,
}

/// Proof that this process is registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membarrier(());

impl Membarrier {
    /// Registers the process; later calls are free.
    pub(crate) fn register() -> Result<Membarrier, MembarrierError> {
        // Not asked first what there is: a filter's refusal of the question looks like "nothing".
        membarrier(MembarrierCommand::RegisterPrivateExpedited)
            .map_err(|errno| refusal(errno, MembarrierError::Register))?;
        // A seccomp filter may allow the one and refuse the other: try before relying on it.
        membarrier(MembarrierCommand::PrivateExpedited)
            .map_err(|errno| refusal(errno, MembarrierError::Call))?;
        begin_anew_in_a_child();
        Ok(Membarrier(()))
    }

    /// Every thread of the process has passed its barrier for what was stamped before this, in any
    /// domain, nanoseconds.
    pub(crate) fn watermark_ns(self) -> u64 {
        // Acquire: pairs with `buy`.
        BOUGHT.watermark_ns.load(Acquire)
    }

    /// What a barrier cost when one was last bought, nanoseconds.
    pub(crate) fn price_ns(self) -> u64 {
        BOUGHT.price_ns.load(Relaxed)
    }

    /// Whether time alone is reason enough for a purchase.
    pub(crate) fn is_due(self, now_ns: u64) -> bool {
        now_ns.saturating_sub(BOUGHT.last_ns.load(Relaxed)) >= spacing_ns(self.price_ns())
    }

    /// Whether purchases at this moment would leave the machine time for other things.
    pub(crate) fn is_affordable(self, now_ns: u64) -> bool {
        self.affordable_in_ns(now_ns) == 0
    }

    /// How long until then, nanoseconds.
    pub(crate) fn affordable_in_ns(self, now_ns: u64) -> u64 {
        let apart = 4 * self.price_ns().min(MOST_SPACING_NS);
        apart.saturating_sub(now_ns.saturating_sub(BOUGHT.last_ns.load(Relaxed)))
    }

    /// Whether somebody is buying at this moment; not somebody who has been kept from it for long.
    pub(crate) fn is_under_way(self, now_ns: u64) -> bool {
        let started_ns = BOUGHT.started_ns.load(Relaxed);
        started_ns != 0 && now_ns.saturating_sub(started_ns) < MOST_SPACING_NS
    }

    /// Whether the kernel refused the last purchase.
    pub(crate) fn is_refused(self) -> bool {
        BOUGHT.refused.load(Relaxed)
    }

    /// Buys a barrier for what was stamped before `own`, the caller's last full stop: about 0.4 us when
    /// no other thread of the process runs, tens of microseconds when some do. The watermark that it
    /// gives.
    pub(crate) fn buy(self, own: u64) -> Result<u64, MembarrierError> {
        debug_assert!(own < u64::MAX, "the stamp of a poisoned domain is no stop");
        let before = now_ns();
        BOUGHT.started_ns.store(before, Relaxed);
        if !broken(Twin::FloorAfterBarrier) {
            raise(&FLOOR, own);
        }
        let bought = if broken(Twin::NoBarrier) {
            Ok(())
        } else {
            membarrier(MembarrierCommand::PrivateExpedited)
        };
        let after = now_ns();
        BOUGHT.started_ns.store(0, Relaxed);
        // A refusal is spaced like a purchase; and where the clock lies behind the stops, by these.
        BOUGHT.last_ns.store(after.max(own), Relaxed);
        BOUGHT.price_ns.store(believed(self.price_ns(), after.saturating_sub(before)), Relaxed);
        BOUGHT.refused.store(bought.is_err(), Relaxed);
        bought.map_err(|errno| refusal(errno, MembarrierError::Call))?;
        // Release: who loads it runs after the barrier.
        Ok(BOUGHT.watermark_ns.fetch_max(own, AcqRel).max(own))
    }
}

/// What it means that the kernel, or a filter before it, answered `errno`.
fn refusal(errno: Errno, other: fn(io::Error) -> MembarrierError) -> MembarrierError {
    match errno {
        // No such system call; no such command of it.
        Errno::NOSYS | Errno::INVAL => MembarrierError::Unsupported,
        // The kernel says so only to who has not registered.
        Errno::PERM | Errno::ACCESS => MembarrierError::Forbidden(errno.into()),
        _ => other(errno.into()),
    }
}

/// What to believe of a price: it may include the buyer's own preemption, so it doubles at most.
fn believed(last_ns: u64, new_ns: u64) -> u64 {
    if last_ns == 0 { new_ns } else { new_ns.min(last_ns.saturating_mul(2)) }
}

fn spacing_ns(price_ns: u64) -> u64 {
    price_ns.saturating_mul(SHARE).clamp(LEAST_SPACING_NS, MOST_SPACING_NS)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::protocol::Words;

    #[test]
    fn a_purchase_covers_all_before_it() {
        let words = Words::new();
        let source = Membarrier::register().expect("this kernel has membarrier");
        let own = words.stop(&FLOOR, now_ns).ns;
        let bought = source.buy(own).expect("registered");
        assert!(bought >= own && source.watermark_ns() >= bought);
        // What comes after needs another, in any domain, wherever its clock is.
        assert!(Words::new().stop(&FLOOR, || 0).ns >= bought);
    }

    #[test]
    fn one_preemption_is_no_price() {
        assert_eq!((believed(0, 900), believed(900, 400)), (900, 400));
        assert_eq!(believed(400, 8_000_000), 800);
    }

    #[test]
    fn purchases_are_spaced_by_their_price() {
        assert_eq!(spacing_ns(500), LEAST_SPACING_NS);
        assert_eq!(spacing_ns(40_000), 40_000 * SHARE);
        assert_eq!(spacing_ns(10_000_000), MOST_SPACING_NS);
    }
}
