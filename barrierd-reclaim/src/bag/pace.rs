//! The pace of reclamation: how large bags are, how often a thread scans, and how much a call frees. The rules,
//! without clock or atomics.

use super::BAG_ITEMS;

/// Calls of one thread in a row that are asked to free, with nothing new to free, and kept from buying: a thread that
/// goes on after that is waiting.
pub(crate) const PATIENT_FLUSHES: u32 = 8;

/// Items that each `retire` frees while there is a backlog: more than one, so that it shrinks; few, so that no single
/// call pays for a burst (Kim, Brown, Singh, "Are your epochs too epic? Batch free can be harmful", PPoPP 2024).
pub(crate) const FREED_PER_RETIRE: usize = 2;

/// Bags that a round may find left over from the one before without their being a backlog.
pub(crate) const BACKLOG_BAGS: usize = 1;

/// Most items that one `retire` frees, when destructors that retire have left it their share.
pub(crate) const MOST_PER_RETIRE: usize = 16;

/// Bags of exited threads that a `retire` frees when it looks after the domain: more than one, so
/// that what threads leave behind shrinks.
pub(crate) const ORPHANS_PER_RETIRE: usize = 2;

/// Bags that a flush of `epoch` frees of those that all threads' flushes leave: as many as one of crossbeam-epoch's,
/// so that no call runs what all the others have deferred.
#[cfg(not(barrierd_loom))]
pub(crate) const ORPHANS_PER_FLUSH: usize = 8;

/// Bags of exited threads that it checks for each that it may free: hazards and robust guards may
/// hold what is in them.
pub(crate) const ORPHANS_CHECKED: usize = 4;

/// A scan reads every thread's record, so there is one in as many bags as there are threads now, divided by this,
/// whichever threads seal them: a constant price an item, however many threads there are (or were: `Records::cost`).
/// One scan serves all, so each thread's bags wait no longer where there are more threads.
const READERS_A_BAG: usize = 16;

/// The price of a seal and a scan beside a reader that never rests, whose cache lines both have to fetch, and the price
/// that each record of a resting thread adds, nanoseconds.
const SEAL_NS: u64 = 600;
const SCAN_NS: u64 = 3;
/// A seal and a scan may take one part in this many of the time between two of them.
const SEAL_SHARE: u64 = 50;
/// With this many sealed bags waiting, bags are filled up again: then they wait for a barrier, and small ones are
/// memory lost.
pub(crate) const MOST_SMALL_BAGS: usize = 16;
/// A bag takes at least this many items, so that one call seals and another scans.
const LEAST_A_BAG: usize = 2;

/// A queue's first bag takes this many items: by then the pace of its thread is known. Were it filled up, what comes
/// slowly would wait for long in it.
pub(crate) const FIRST_BAG: usize = 4;

/// Returns the number of items that a bag takes whose thread retires one in `gap_ns`, where a scan reads `places`
/// records. Few where they come slowly: items that are sealed sooner are freed sooner.
pub(crate) fn items_a_bag(gap_ns: u64, places: usize) -> usize {
    let places = u64::try_from(places).unwrap_or(u64::MAX);
    let cost = SCAN_NS.saturating_mul(places).saturating_add(SEAL_NS);
    let items = cost.saturating_mul(SEAL_SHARE).div_ceil(gap_ns.max(1));
    usize::try_from(items).unwrap_or(BAG_ITEMS).clamp(LEAST_A_BAG, BAG_ITEMS)
}

/// A scan for bags that are sealed before they are full may take one part in this many of the time between two of
/// them, however many threads make them.
const SCANS_SHARE: u64 = 4 * SEAL_SHARE;

/// Returns how far apart those scans are, nanoseconds, where one reads `places` records: in between, a thread that seals
/// such a bag takes the least bound of the records' groups, which is cheap. Where records are few each of these threads
/// scans for itself.
pub(crate) fn scans_apart_ns(places: usize) -> u64 {
    if worth_scanning(1, places) {
        return 0;
    }
    let places = u64::try_from(places).unwrap_or(u64::MAX);
    SCAN_NS.saturating_mul(places).saturating_mul(SCANS_SHARE)
}

/// Returns whether a thread should scan, after this many bags were `sealed` in the domain since the last scan; or
/// whether an exiting thread should, this many exits after the last one that did.
pub(crate) fn worth_scanning(sealed: usize, readers: usize) -> bool {
    sealed > readers / READERS_A_BAG
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;

    #[test]
    fn bags_follow_the_pace_of_their_thread() {
        // One in 10 us, one in 1 us, a busy loop.
        assert_eq!([10_000, 1_000, 20, 0].map(|gap| items_a_bag(gap, 2)), [4, 31, 64, 64]);
        // A scan that reads many records is worth a larger bag.
        assert_eq!([100, 1_000].map(|places| items_a_bag(10_000, places)), [5, 18]);
        assert_eq!(items_a_bag(u64::MAX, usize::MAX), LEAST_A_BAG);
    }

    #[test]
    fn many_slow_threads_share_their_scans() {
        assert_eq!([1, 15].map(scans_apart_ns), [0, 0]);
        let apart = [16, 100, 1_000].map(scans_apart_ns);
        assert_eq!(apart, [9_600, 60_000, 600_000]);
        assert!(scans_apart_ns(usize::MAX) >= 1 << 40, "it does not wrap around");
    }

    #[test]
    fn scans_cost_the_same_an_item_however_many_threads() {
        assert!((1..100).all(|sealed| worth_scanning(sealed, 2)) && !worth_scanning(1, 16));
        // Be it that a seal closes one bag or two.
        for step in [1, 2] {
            let (mut scans, mut since) = (0, 0);
            for _ in 0..1024 / step {
                since += step;
                if worth_scanning(since, 1023) {
                    (scans, since) = (scans + 1, 0);
                }
            }
            assert_eq!(scans, 16);
        }
    }
}
