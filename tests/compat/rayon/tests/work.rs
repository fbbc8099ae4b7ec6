//! rayon, whose workers steal by crossbeam-deque, does its work.

#[path = "../../patched.rs"]
#[allow(dead_code, reason = "rayon's tasks are its own")]
mod patched;
#[allow(dead_code, reason = "the race has more")]
#[path = "../../race.rs"]
mod race;

use crossbeam_epoch::default_collector;
use patched::settle;
use race::Random;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn words(count: usize) -> Vec<u64> {
    let mut random = Random(3);
    (0..count).map(|_| random.next()).collect()
}

#[test]
fn it_sorts_sums_and_groups() {
    let words = words(200_000);
    let mut sorted = words.clone();
    sorted.sort_unstable();
    for threads in [1, 2, 8] {
        pool(threads).install(|| {
            let mut here = words.clone();
            here.par_sort_unstable();
            assert_eq!(here, sorted);
            here.par_sort_by_key(|word| word.reverse_bits());
            assert!(here.is_sorted_by_key(|word| word.reverse_bits()));
            let sum = words.par_iter().copied().reduce(|| 0, u64::wrapping_add);
            assert_eq!(sum, words.iter().copied().fold(0, u64::wrapping_add));
            let count = |mut map: HashMap<u64, usize>, word: &u64| {
                *map.entry(word % 97).or_default() += 1;
                map
            };
            let grouped =
                words.par_iter().fold(HashMap::new, count).reduce(HashMap::new, |mut a, b| {
                    b.into_iter().for_each(|(key, n)| *a.entry(key).or_default() += n);
                    a
                });
            assert_eq!(grouped, words.iter().fold(HashMap::new(), count));
        });
    }
}

#[test]
fn it_joins_and_scopes() {
    fn leaves(depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let (left, right) = rayon::join(|| leaves(depth - 1), || leaves(depth - 1));
        left + right
    }
    let ran = AtomicUsize::new(0);
    pool(8).install(|| {
        assert_eq!(leaves(14), 1 << 14);
        // More tasks at once than a deque's first buffer holds: it grows under the thieves.
        let before = default_collector().stats().retired;
        rayon::scope(|scope| {
            for _ in 0..20_000 {
                scope.spawn(|scope| {
                    ran.fetch_add(1, SeqCst);
                    scope.spawn(|_| _ = ran.fetch_add(1, SeqCst));
                });
            }
        });
        assert!(default_collector().stats().retired > before, "the patch is not in force");
    });
    assert_eq!(ran.load(SeqCst), 40_000);
    settle();
}

/// Pools that come and go: their threads leave garbage behind.
#[test]
fn pools_come_and_go() {
    let words = words(10_000);
    let total = words.iter().copied().fold(0, u64::wrapping_add);
    for threads in (1..=8).cycle().take(40) {
        let sum =
            pool(threads).install(|| words.par_iter().copied().reduce(|| 0, u64::wrapping_add));
        assert_eq!(sum, total);
    }
}
