//! Which calls ask for a barrier, and when one is worth its price: the rules, without clock or atomics.
//!
//! Collected and passive barriers are free, so they are taken first; a barrier is bought when what
//! waits for it is worth more. Memory that waits is memory that is cold when it comes back: on a
//! machine of 2 CPUs an item that is used again while it is in the cache saves some nanoseconds
//! (docs/journal.md).

/// The kind of call that asks for a barrier, which decides what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `retire`: takes what is there, or buys what the policy allows.
    OnRetire,
    /// `flush`: takes what is there. Buys for items that nothing except idle readers holds back, as long as the
    /// price is small against the time since the last purchase; or asks the daemon.
    OnFlush,
    /// The same, after some flushes in vain: buys whatever the price.
    OnFlushAgain,
    /// A thread's exit: as for `OnRetire`, counted apart.
    OnExit,
    /// `synchronize`: where barriers are bought, buy now, unless the readers have seen enough.
    Now,
    /// Another scan of the readers and nothing else.
    Nothing,
    /// `retire` above a limit: buy, or ask the daemon.
    AtLimit,
    /// The background thread: buy, where none comes by itself.
    InBackground,
    /// The same, once more for what destructors there have just retired: as `InBackground`, but not so often
    /// that others would feel it.
    Again,
}

/// The worth of having one waiting item sooner, nanoseconds.
const WORTH_NS: u64 = 4;

/// No barrier is bought for fewer items than this.
pub(crate) const LEAST_ITEMS: usize = 512;

/// Items that wait for a barrier, on one thread, above which one is bought whatever it costs.
pub(crate) const BUDGET_ITEMS: usize = 4096;

/// What waits for a barrier and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uncovered {
    /// The number of items, of one thread.
    pub(crate) items: usize,
    /// The least stamp among them, nanoseconds.
    pub(crate) oldest_ns: u64,
}

impl Uncovered {
    /// Returns one item that has waited for an unknown time if `any`, or none.
    pub(crate) fn some(any: bool) -> Uncovered {
        Uncovered { items: usize::from(any), oldest_ns: 0 }
    }

    pub(crate) fn any(self) -> bool {
        self.items > 0
    }
}

/// Returns whether to buy a barrier that costs `price_ns`, for `uncovered` items of one thread that wait for
/// one and nothing else. `budget`: items.
pub(crate) fn worth_buying(uncovered: usize, price_ns: u64, budget: usize) -> bool {
    let fair = usize::try_from(price_ns / WORTH_NS).unwrap_or(usize::MAX);
    uncovered >= fair.max(LEAST_ITEMS).min(budget.max(1))
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// More items, a lower price or a smaller budget never speak against a purchase; the budget
        /// always speaks for one, and nothing is bought for less than the least.
        #[test]
        fn purchases_are_monotonic(
            items in 0..10_000usize, price in 0..1_000_000u64, budget in 1..8192usize,
            more in 0..100usize, cheaper in 0..1000u64,
        ) {
            if worth_buying(items, price, budget) {
                prop_assert!(worth_buying(items + more, price.saturating_sub(cheaper), budget));
                prop_assert!(items >= LEAST_ITEMS.min(budget));
            }
            prop_assert!(worth_buying(items.max(budget), price, budget));
        }
    }

    #[test]
    fn a_barrier_must_be_worth_its_price() {
        let least = |price_ns| (0..10_000).find(|&n| worth_buying(n, price_ns, BUDGET_ITEMS));
        assert_eq!(least(400), Some(LEAST_ITEMS));
        assert_eq!(least(8_000), Some(2_000));
        assert_eq!(least(1_000_000), Some(BUDGET_ITEMS));
        assert!(worth_buying(10, 0, 10), "a small budget is kept");
    }
}
