//! The hash of a key, the same in every process.
//!
//! This file owns the function. Its seed stands in the region, beside the table that it is for.

use std::hash::{BuildHasher, RandomState};

use crate::share::{Plain, words_of};

/// Returns a seed that nobody can guess.
pub(crate) fn seed() -> [u64; 2] {
    let system = RandomState::new();
    [system.hash_one(1), system.hash_one(2)]
}

/// Returns the hash of a key's bytes: for each word a product of 128 bits, whose halves are folded.
#[inline]
pub(crate) fn hash<K: Plain>(key: K, seed: [u64; 2]) -> u64 {
    let mut state = seed[0];
    words_of(key, |_, word| {
        let product = u128::from(state ^ word) * u128::from(seed[1] | 1);
        #[expect(clippy::cast_possible_truncation, reason = "its halves")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        state = low ^ high;
    });
    state
}
