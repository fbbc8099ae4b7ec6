//! The bits of one filter, and how many are set. When it is made, filled and given up is said in `filter.rs`.

use super::link::{AtomicBool, AtomicUsize};
use core::sync::atomic::Ordering::{Relaxed, Release};
use crossbeam_utils::CachePadded;
use std::sync::Arc;

/// Buckets whose words are filled at once.
pub(super) const PIECE: usize = 16;
/// So many bits choose the bit in a word.
const IN_WORD: u32 = usize::BITS.trailing_zeros();
/// An odd factor, other than the one that makes hashes of what the hasher gives.
#[allow(clippy::cast_possible_truncation, reason = "either half is one")]
const MIX: usize = 0xD6E8_FEB8_6659_FD93_u64 as usize;
/// A word with so many bits set is full: with as many in each, three keys of eight would pass that are absent.
const FULL: u32 = usize::BITS * 3 / 8;

pub(super) struct Filter {
    pub(super) words: Box<[AtomicUsize]>,
    /// What is left of a hash behind the bits that choose the word.
    pub(super) shift: u32,
    /// About as many words as became full since the switch.
    pub(super) full: CachePadded<AtomicUsize>,
    pub(super) token: Arc<Token>,
    /// How many words were begun to be filled, and how many were ended.
    pub(super) begun: AtomicUsize,
    pub(super) done: AtomicUsize,
}

/// What is retired when a filter is begun. It may outlive the filter, and keeps none of its memory.
pub(super) struct Token {
    /// Whether all that might insert without a look at the filter have ended.
    pub(super) is_ready: AtomicBool,
}

impl Token {
    /// Says that all that had begun before have ended.
    ///
    /// # Safety
    /// The pointer is an [`Arc`]'s own, which goes.
    pub(super) unsafe fn ready(token: *mut Token) {
        // SAFETY: the caller's promise.
        let token = unsafe { Arc::from_raw(token) };
        // Release: with what they linked.
        token.is_ready.store(true, Release);
    }
}

fn zeroed(words: usize) -> Option<Box<[AtomicUsize]>> {
    #[cfg(not(all(barrierd_loom, test)))]
    {
        let layout = std::alloc::Layout::array::<AtomicUsize>(words).ok()?;
        // SAFETY: not of size 0.
        let first = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<AtomicUsize>();
        // SAFETY: allocated with this layout, as a box would; zeros are valid.
        (!first.is_null())
            .then(|| unsafe { Box::from_raw(core::ptr::slice_from_raw_parts_mut(first, words)) })
    }
    #[cfg(all(barrierd_loom, test))]
    Some((0..words).map(|_| AtomicUsize::new(0)).collect())
}

impl Filter {
    /// Makes one with no bit set, of a power of two of bytes; or none without memory.
    pub(super) fn new(bytes: usize) -> Option<Box<Filter>> {
        let words = (bytes / size_of::<usize>()).max(2);
        Some(Box::new(Filter {
            shift: usize::BITS - words.trailing_zeros(),
            words: zeroed(words)?,
            full: CachePadded::new(AtomicUsize::new(0)),
            token: Arc::new(Token { is_ready: AtomicBool::new(false) }),
            begun: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        }))
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.len() * size_of::<usize>()
    }

    #[inline]
    pub(super) fn word(&self, hash: usize) -> &AtomicUsize {
        &self.words[hash >> self.shift]
    }

    /// Relaxed: bits alone are read, and are never taken away. What they were set for is seen by other words.
    #[inline]
    pub(super) fn rules_out(&self, hash: usize) -> bool {
        self.word(hash).load(Relaxed) & bit(hash) == 0
    }

    /// Sets a hash's bit. Returns whether too many are set by now, as a guess that is made now and then.
    #[inline]
    pub(super) fn add(&self, hash: usize) -> bool {
        let (word, bit) = (self.word(hash), bit(hash));
        // Relaxed: the exchange that links the node is a Release. If the bit is set, by whomever, who sees the node sees it, too.
        let seen = word.load(Relaxed);
        if seen & bit != 0 {
            return false;
        }
        word.fetch_or(bit, Relaxed);
        // Two at once may count a word twice, or not at all: what the exchange itself found would be a loop of exchanges on x86.
        (seen | bit).count_ones() == FULL && self.full.fetch_add(1, Relaxed) >= self.words.len() / 2
    }

    /// How many words are filled at once, for a table of so many buckets.
    pub(super) fn piece(&self, buckets: usize) -> usize {
        if cfg!(all(barrierd_loom, test)) {
            return 1;
        }
        (self.words.len() / (buckets / PIECE).max(1)).max(1)
    }

    /// # Safety
    /// The pointer is a box's, which goes.
    pub(super) unsafe fn free(own: *mut Filter) {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(own) });
    }
}

/// The last bits come to the first ones by the shift, and all of them to the product's first bits.
#[inline]
fn bit(hash: usize) -> usize {
    let mixed = (hash ^ hash >> (usize::BITS / 2)).wrapping_mul(MIX);
    1 << (mixed >> (usize::BITS - IN_WORD))
}
