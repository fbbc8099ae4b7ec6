//! How much is in flight where many threads retire in turn: at most three bags each, however many they are. One
//! thread stands for all, so that the figures are exact but for what depends on the pace.

use barrierd_reclaim::{Handle, Reclaimer, Source};

const BAG: usize = 64;

unsafe fn nothing(_: *mut u64) {}

/// `bags` times each of `threads` handles retires a bag, one after another. The most that waited after a turn of all.
fn in_turn(source: Source, threads: usize, bags: usize, held: bool) -> u64 {
    let reclaimer = Reclaimer::builder().source(source).background(false).build().unwrap();
    // From then on each look at what may go is one at hazards and intervals, too.
    let hazard = held.then(|| reclaimer.hazard());
    let all: Vec<Handle> = (0..threads).map(|_| reclaimer.handle()).collect();
    let mut most = 0;
    for _ in 0..bags {
        for handle in &all {
            for n in 1..=BAG {
                // SAFETY: nobody follows it, and nothing is done to it.
                unsafe { handle.retire_with(std::ptr::without_provenance_mut(8 * n), nothing) };
            }
        }
        most = most.max(reclaimer.stats().waiting());
    }
    drop(hazard);
    most
}

#[test]
fn a_thousand_threads_keep_three_bags_each() {
    for source in [Source::Membarrier, Source::Fence] {
        for held in [false, true] {
            let most = in_turn(source, 1_000, 100, held);
            println!("{source:?}, held {held}: {most}");
            // Some are a bag behind: who scans has let go more in its turn.
            assert!(most <= 208_000, "{source:?}, held {held}: {most}");
        }
    }
}

#[test]
fn ten_thousand_threads_keep_three_bags_each() {
    let most = in_turn(Source::Membarrier, 10_000, 12, false);
    assert!(most <= 2_000_000, "{most}");
}
