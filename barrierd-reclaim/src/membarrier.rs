//! The barrier that a process buys for itself: `membarrier(2)`, `PRIVATE_EXPEDITED`.
//!
//! Owns the registration, the price and the spacing of purchases. A barrier bought here covers the
//! threads of this address space alone.
//!
//! # Semantics
//! `membarrier(PRIVATE_EXPEDITED)` returns after every running thread of the process has executed
//! a full barrier between the call and the return; threads that do not run passed one when they
//! were switched out (`kernel/sched/membarrier.c`). So a time read before the call is a watermark
//! after it.

use crate::error::MembarrierError;
use crate::protocol::Evidence;
use barrierd_client::abi::CLOCK_MARGIN_NS;
use barrierd_client::clock::now_ns;
use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

/// Purchases on the retire path are at least this far apart, in nanoseconds ...
const LEAST_SPACING_NS: u64 = 1_000_000;
/// ... and cost at most one part in this many of the time between them ...
const SHARE: u64 = 50;
/// ... but are no further apart than this: a price may include the buyer's own preemption.
const MOST_SPACING_NS: u64 = 4_000_000;

/// Proof that this process is registered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membarrier(());

/// When the last barrier was bought and what it cost. Guarded by the domain's scan lock.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    last_ns: u64,
    price_ns: u64,
}

impl Membarrier {
    /// Registers the process; later calls are free.
    pub(crate) fn register() -> Result<Membarrier, MembarrierError> {
        let needed =
            MembarrierQuery::PRIVATE_EXPEDITED | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED;
        if !membarrier_query().contains(needed) {
            return Err(MembarrierError::Unsupported);
        }
        membarrier(MembarrierCommand::RegisterPrivateExpedited)
            .map_err(|errno| MembarrierError::Register(errno.into()))?;
        // A seccomp filter may allow the one and refuse the other: try before relying on it.
        membarrier(MembarrierCommand::PrivateExpedited)
            .map_err(|errno| MembarrierError::Call(errno.into()))?;
        Ok(Membarrier(()))
    }

    /// Buys a barrier: about 0.4 us when no other thread of the process runs, tens of microseconds
    /// when some do.
    pub(crate) fn buy(self, purse: &mut Purse) -> Result<Evidence, MembarrierError> {
        let before = now_ns();
        let bought = membarrier(MembarrierCommand::PrivateExpedited);
        // A refusal is spaced like a purchase.
        purse.last_ns = now_ns();
        purse.price_ns = purse.last_ns.saturating_sub(before);
        bought.map_err(|errno| MembarrierError::Call(errno.into()))?;
        Ok(Evidence { ns: before.saturating_sub(CLOCK_MARGIN_NS), vtime: 0 })
    }
}

impl Purse {
    /// Whether it is time for the next purchase.
    pub(crate) fn may_buy(&self, now: u64) -> bool {
        let fair = self.price_ns.saturating_mul(SHARE);
        let spacing = fair.clamp(LEAST_SPACING_NS, MOST_SPACING_NS);
        now.saturating_sub(self.last_ns) >= spacing
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_purchase_covers_all_before_it() {
        let before = now_ns();
        let source = Membarrier::register().expect("this kernel has membarrier");
        let mut purse = Purse::default();
        let evidence = source.buy(&mut purse).expect("registered");
        assert!(evidence.ns + CLOCK_MARGIN_NS >= before);
        assert!(evidence.ns + CLOCK_MARGIN_NS <= now_ns());
    }

    #[test]
    fn purchases_are_spaced_by_their_price() {
        let due = |price_ns, spacing| {
            let purse = Purse { last_ns: 1000, price_ns };
            assert!(!purse.may_buy(1000 + spacing - 1), "{price_ns} {spacing}");
            assert!(purse.may_buy(1000 + spacing), "{price_ns} {spacing}");
        };
        due(500, LEAST_SPACING_NS);
        due(40_000, 40_000 * SHARE);
        due(10_000_000, MOST_SPACING_NS);
    }
}
