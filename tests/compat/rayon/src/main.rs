//! rayon, whose workers steal from one another: millions of elements a second.

#[path = "../../race.rs"]
mod race;

use race::{Random, row};
use rayon::prelude::*;

fn fibonacci(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = rayon::join(|| fibonacci(n - 1), || fibonacci(n - 2));
    a + b
}

fn main() {
    let mut random = Random(1);
    let words: Vec<u64> = (0..1 << 18).map(|_| random.next()).collect();
    let size = words.len() as u64;
    row("rayon: sort", 1, |_, _| {
        let mut words = words.clone();
        words.par_sort_unstable();
        size
    });
    row("rayon: map and sum", 1, |_, _| {
        let sum: u64 = words.par_iter().map(|word| word.count_ones() as u64).sum();
        assert!(sum > 0);
        size
    });
    row("rayon: small joins", 1, |_, _| {
        assert_eq!(fibonacci(20), 6765);
        10_945
    });
    row("rayon: scopes of small tasks", 1, |_, _| {
        rayon::scope(|scope| (0..1000).for_each(|_| scope.spawn(|_| ())));
        1000
    });
}
