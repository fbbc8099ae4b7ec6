//! The hash of a key, the same in every process.
//!
//! This file owns the function. Its seed stands in the region, beside the table that it is for.

use crate::share::{Plain, words_of};
use crate::sync::random;

/// Returns a seed that nobody can guess.
pub(crate) fn seed() -> [u64; 2] {
    random()
}

/// Returns the hash of a key's bytes: for each word a product of 128 bits, whose halves are folded.
#[inline]
pub(crate) fn hash<K: Plain>(key: K, seed: [u64; 2]) -> u64 {
    let mut state = seed[0];
    words_of(key, |_, word| state = fold(state, word, seed[1]));
    state
}

/// Returns the same of bytes whose type is not known.
pub(crate) fn hash_bytes(key: &[u8], seed: [u64; 2]) -> u64 {
    words(key).fold(seed[0], |state, word| fold(state, word, seed[1]))
}

/// Returns the words that bytes have in a region. The last one is filled up with zeros.
pub(crate) fn words(bytes: &[u8]) -> impl ExactSizeIterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

#[inline]
fn fold(state: u64, word: u64, seed: u64) -> u64 {
    let product = u128::from(state ^ word) * u128::from(seed | 1);
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// Returns what a map's kind has of its schema: FNV-1a of 32 bits, the highest 8 folded into the lowest; 0 for none.
pub(crate) const fn schema(text: &[u8]) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let (mut hash, mut at) = (0x811c_9dc5u32, 0);
    while at < text.len() {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash >> 24) ^ (hash & 0xff_ffff)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_hash_of_the_value_that_they_are() {
        let seed = [3, 0x9e37_79b9_7f4a_7c15];
        assert_eq!(hash(7u64, seed), hash_bytes(&7u64.to_le_bytes(), seed));
        assert_eq!(hash([1u8, 2, 3], seed), hash_bytes(&[1, 2, 3], seed));
        assert_eq!(hash([5u16; 7], seed), hash_bytes(&[5, 0].repeat(7), seed));
        assert_ne!(hash_bytes(&[1], seed), hash_bytes(&[2], seed));
        assert_eq!(hash_bytes(&[], seed), hash([0u8; 0], seed));
    }

    #[test]
    fn a_schema_is_24_bits_and_none_is_none() {
        // FNV-1a of "a" is 0xe40c292c.
        assert_eq!((schema(b""), schema(b"a")), (0, 0x0c_292c ^ 0xe4));
        assert_ne!(schema(b"v1"), schema(b"v2"));
    }
}
