//! Places (numbered entries of a pool) that are taken, given back and taken again. A walk over them meets those that
//! are taken, and pays for the others one bit each.
//!
//! Owns the memory of the entries, their numbers, and the bits that tell which are taken: 64 in a
//! word, so a scan of a domain that once was large reads a few lines of zeros. Knows nothing of what the
//! entries are. No thread waits for another: a thread that stops anywhere in here (also the one that a
//! `fork` left behind) costs the others a place.
//!
//! # Whom a walk may pass over
//! A walk that must meet an owner which came before it does meet it: the bit is set before its place is used and
//! before the taker's first stamp, and the place's own words are stored after the bit: see
//! [`walk`](crate::protocol::walk). And of an owner that is gone nothing is missed: a bit is cleared by a
//! Release after the last use, all later changes of the word are read-modify-writes, which carry that
//! Release on, and a walk loads the word Acquire. A place whose bit is set and that has no address yet
//! belongs to a thread that has not taken its first stamp: it counts as one that comes later.

use crate::protocol::Bound;
use crate::protocol::dormant::{Asleep, BEDS};
use crate::sync::{AtomicU64, Mutant, Ordering, broken};
use core::iter;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize};

/// Places of a word.
const WORD: usize = 64;
/// Places of the first block; each further one doubles what there is.
const FIRST: usize = 8;
/// Enough for 2^34 places.
const BLOCKS: usize = 32;
/// A walk passes this many words without a taken place in the time that one place takes: they lie side by side.
const WORDS_A_PLACE: usize = 8;

/// Which of 64 places are taken.
#[derive(Debug)]
pub(crate) struct Taken(AtomicU64);

impl Taken {
    pub(crate) fn new() -> Taken {
        Taken(AtomicU64::new(0))
    }

    /// Takes one of the first `count` places, if one is free.
    pub(crate) fn take(&self, count: usize) -> Option<usize> {
        let all = u64::MAX >> (WORD - count);
        let mut taken = self.0.load(Ordering::Relaxed);
        loop {
            let free = !taken & all;
            if free == 0 {
                return None;
            }
            let place = free.trailing_zeros();
            // Acquire: pairs with `give_back`, so the last owner's work happens before ours.
            taken = self.0.fetch_or(1 << place, Ordering::Acquire);
            if taken & 1 << place == 0 {
                return Some(place as usize);
            }
        }
    }

    /// Gives a place back that the caller has.
    pub(crate) fn give_back(&self, place: usize) {
        if broken(Mutant::GiveBackByStore) {
            let taken = self.0.load(Ordering::Relaxed);
            return self.0.store(taken & !(1 << place), Ordering::Release);
        }
        // Release: pairs with `take`, and with `numbers`, whose caller then sees the last unpin.
        let order =
            if broken(Mutant::RelaxedGiveBack) { Ordering::Relaxed } else { Ordering::Release };
        self.0.fetch_and(!(1 << place), order);
    }

    /// Returns the places that are taken. The word is loaded here.
    #[inline]
    pub(crate) fn numbers(&self) -> Numbers {
        // Acquire: pairs with `give_back`, for the places that are not met.
        let order =
            if broken(Mutant::RelaxedTaken) { Ordering::Relaxed } else { Ordering::Acquire };
        Numbers(self.0.load(order))
    }
}

/// The places that were taken when a word was loaded.
pub(crate) struct Numbers(u64);

impl Numbers {
    /// Leaves out those that sleep.
    #[inline]
    fn but(self, asleep: &[Asleep]) -> Numbers {
        let words = asleep.iter().map(|word| u64::from(word.bits()));
        Numbers(words.zip([0, BEDS]).fold(self.0, |taken, (bits, shift)| taken & !(bits << shift)))
    }
}

impl Iterator for Numbers {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let place = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (place < WORD).then_some(place)
    }
}

/// A pool of places for `T`s, as many as were ever taken at once.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    /// The blocks that exist come first. A block never moves, nor does what lies in it.
    blocks: [AtomicPtr<Block<T>>; BLOCKS],
    /// A place that was taken or given back: where the search for a free one begins. A hint.
    near: AtomicUsize,
    /// How many are taken. A hint.
    len: AtomicUsize,
}

#[derive(Debug)]
struct Block<T> {
    taken: Box<[Taken]>,
    /// Two for each word of those.
    asleep: Box<[Asleep]>,
    /// One for each word of `taken`.
    bounds: Box<[Bound]>,
    /// Null: not made yet.
    places: Box<[AtomicPtr<T>]>,
}

impl<T> Block<T> {
    fn new(len: usize) -> Block<T> {
        Block {
            taken: iter::repeat_with(Taken::new).take(len.div_ceil(WORD)).collect(),
            asleep: iter::repeat_with(Asleep::new).take(2 * len.div_ceil(WORD)).collect(),
            bounds: iter::repeat_with(Bound::new).take(len.div_ceil(WORD)).collect(),
            places: iter::repeat_with(AtomicPtr::default).take(len).collect(),
        }
    }

    /// Returns the taken places of a word, if there is such a word; with `AWAKE`, those that do not sleep.
    #[inline]
    fn numbers<const AWAKE: bool>(&self, word: usize) -> Option<Numbers> {
        let numbers = self.taken.get(word)?.numbers();
        if !AWAKE || numbers.0 == 0 {
            return Some(numbers);
        }
        let beds = word * (WORD / BEDS)..(word + 1) * (WORD / BEDS);
        Some(numbers.but(&self.asleep[beds]))
    }

    fn words(&self) -> impl Iterator<Item = (&Taken, &[AtomicPtr<T>])> {
        self.taken.iter().zip(self.places.chunks(WORD))
    }
}

/// The places of one word.
#[derive(Debug)]
pub(crate) struct Group<'p, T> {
    block: &'p Block<T>,
    word: usize,
}

impl<'p, T> Group<'p, T> {
    /// Returns what lies in its taken places, except for those that sleep. The word is loaded here.
    pub(crate) fn awake(self) -> impl Iterator<Item = &'p T> {
        let Group { block, word } = self;
        let numbers = block.numbers::<true>(word).unwrap_or(Numbers(0));
        numbers.filter_map(move |place| {
            // Acquire: pairs with the Release in `take`.
            // SAFETY: null, or made by `take`, and it lives as long as the places.
            unsafe { block.places[word * WORD + place].load(Ordering::Acquire).as_ref() }
        })
    }
}

/// A walk over the taken places; with `AWAKE`, over those that do not sleep. Written by hand, since each scan makes two
/// or three walks, of one or two places mostly.
struct InUse<'p, T, const AWAKE: bool> {
    /// Those to come.
    blocks: core::slice::Iter<'p, AtomicPtr<Block<T>>>,
    block: Option<&'p Block<T>>,
    /// The next word of the block.
    word: usize,
    /// What is left of the one before it.
    numbers: Numbers,
}

impl<'p, T, const AWAKE: bool> Iterator for InUse<'p, T, AWAKE> {
    type Item = &'p T;

    #[inline]
    fn next(&mut self) -> Option<&'p T> {
        loop {
            if let Some(block) = self.block {
                for place in self.numbers.by_ref() {
                    let place = &block.places[(self.word - 1) * WORD + place];
                    // Acquire: pairs with the Release in `take`.
                    // SAFETY: null, or made by `take`, and it lives as long as the places.
                    if let Some(there) = unsafe { place.load(Ordering::Acquire).as_ref() } {
                        return Some(there);
                    }
                }
                // Nearly all words of a domain that was large are zeros.
                if let Some(numbers) = block.numbers::<AWAKE>(self.word) {
                    self.numbers = numbers;
                    self.word += 1;
                    continue;
                }
            }
            // Acquire: pairs with the Release in `grow`.
            // SAFETY: null, or a block that lives as long as the places.
            self.block = Some(unsafe { self.blocks.next()?.load(Ordering::Acquire).as_ref() }?);
            self.word = 0;
        }
    }
}

// SAFETY: what lies in a place is shared by the threads that walk, and belongs to the thread that drops this.
unsafe impl<T: Send + Sync> Sync for Pool<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Send for Pool<T> {}

/// Returns how many places a block has, and how many come before it.
fn size_of_block(block: usize) -> (usize, usize) {
    match block {
        0 => (FIRST, 0),
        block => (FIRST << (block - 1), FIRST << (block - 1)),
    }
}

/// Returns a place's block, and its number there.
fn locate(place: usize) -> (usize, usize) {
    let block = (place / FIRST).checked_ilog2().map_or(0, |log| log as usize + 1);
    (block, place - size_of_block(block).1)
}

impl<T> Pool<T> {
    pub(crate) fn new() -> Pool<T> {
        Pool {
            blocks: [const { AtomicPtr::new(ptr::null_mut()) }; BLOCKS],
            near: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
        }
    }

    /// Takes a free place, or adds some. `make` is given the place's number, and makes what lies there if
    /// it is taken for the first time, by `Box::into_raw`; that stays for all who take it later.
    ///
    /// The caller owns the place until it gives it back. Costs a few atomic operations, and the load of a
    /// word for each 64 places at most.
    pub(crate) fn take(&self, make: impl FnOnce(usize) -> *mut T) -> &T {
        let (number, place) = loop {
            match self.find() {
                Some(found) => break found,
                None => self.grow(),
            }
        };
        self.near.store(number, Ordering::Relaxed);
        self.len.fetch_add(1, Ordering::Relaxed);
        // Relaxed: stored by an owner of the place, and this one acquired what those before it did.
        let mut there = place.load(Ordering::Relaxed);
        if there.is_null() {
            there = make(number);
            // Release: pairs with the load in `in_use`, which sees it whole.
            place.store(there, Ordering::Release);
        }
        // SAFETY: not null, and it lives as long as `self`.
        unsafe { &*there }
    }

    /// Returns a place that is now the caller's, and its number.
    fn find(&self) -> Option<(usize, &AtomicPtr<T>)> {
        let (near, offset) = locate(self.near.load(Ordering::Relaxed));
        let words = |from: usize| {
            self.blocks().enumerate().skip(from).flat_map(|(block, places)| {
                places.words().enumerate().map(move |(word, of_word)| (block, word, of_word))
            })
        };
        // From there to the end, then from the beginning.
        let mut around = words(near).skip(offset / WORD).chain(words(0));
        around.find_map(|(block, word, (taken, places))| {
            let place = taken.take(places.len())?;
            Some((size_of_block(block).1 + word * WORD + place, &places[place]))
        })
    }

    fn grow(&self) {
        let block = self.blocks().count();
        let new = Box::into_raw(Box::new(Block::new(size_of_block(block).0)));
        // Release: pairs with the load in `blocks`.
        let added = self.blocks[block].compare_exchange(
            ptr::null_mut(),
            new,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if added.is_err() {
            // Another thread was faster.
            // SAFETY: made above, and no other thread knows it.
            drop(unsafe { Box::from_raw(new) });
        }
    }

    /// Gives the place `number` back, which the caller has.
    pub(crate) fn give_back(&self, number: usize) {
        let (block, offset) = locate(number);
        // Relaxed: the caller found its place in it, or the thread that did handed the place over.
        let block = self.blocks[block].load(Ordering::Relaxed);
        self.len.fetch_sub(1, Ordering::Relaxed);
        self.near.store(number, Ordering::Relaxed);
        // SAFETY: it has the caller's place; blocks live as long as `self`.
        unsafe { &*block }.taken[offset / WORD].give_back(offset % WORD);
    }

    fn blocks(&self) -> impl Iterator<Item = &Block<T>> {
        // Acquire: pairs with the Release in `grow`.
        // SAFETY: null, or a block that lives as long as `self`.
        self.blocks.iter().map_while(|block| unsafe { block.load(Ordering::Acquire).as_ref() })
    }

    /// Returns whether no place was ever taken. One load.
    #[inline]
    pub(crate) fn is_new(&self) -> bool {
        // Acquire: as in `blocks`.
        self.blocks[0].load(Ordering::Acquire).is_null()
    }

    /// Returns what lies in the taken places. Nothing is loaded before it is called for.
    #[inline]
    pub(crate) fn in_use(&self) -> impl Iterator<Item = &T> {
        self.walk::<false>()
    }

    /// Returns the same, except for those that sleep.
    #[inline]
    pub(crate) fn awake(&self) -> impl Iterator<Item = &T> {
        self.walk::<true>()
    }

    #[inline]
    fn walk<const AWAKE: bool>(&self) -> InUse<'_, T, AWAKE> {
        InUse { blocks: self.blocks.iter(), block: None, word: 0, numbers: Numbers(0) }
    }

    /// Returns the word that tells whether the owner of the place `number` sleeps, and its number there.
    pub(crate) fn bed(&self, number: usize) -> (&Asleep, usize) {
        let (block, offset) = locate(number);
        // Acquire: as in `blocks`.
        // SAFETY: the block of a place that there is; blocks live as long as `self`.
        let block = unsafe { &*self.blocks[block].load(Ordering::Acquire) };
        (&block.asleep[offset / BEDS], offset % BEDS)
    }

    /// Returns the places of each word, in groups, with their bounds. Nothing is loaded before it is called for.
    #[inline]
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Bound, Group<'_, T>)> {
        self.blocks().flat_map(|block| {
            let bounds = block.bounds.iter().enumerate();
            bounds.map(move |(word, bound)| (bound, Group { block, word }))
        })
    }

    /// Returns what lies in all places, taken or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.blocks().flat_map(|block| block.places.iter()).filter_map(|place| {
            // Acquire: as in `in_use`.
            // SAFETY: null, or made by `take`, and it lives as long as `self`.
            unsafe { place.load(Ordering::Acquire).as_ref() }
        })
    }

    /// Returns roughly how many places are taken.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Returns the price of a walk over those in use, in places that it meets.
    pub(crate) fn cost(&self) -> usize {
        let words: usize = self.blocks().map(|block| block.taken.len()).sum();
        self.len() + words / WORDS_A_PLACE
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        for block in &mut self.blocks {
            let block = *block.get_mut();
            if block.is_null() {
                break;
            }
            // SAFETY: made by `Box::into_raw` in `grow`, freed here once.
            let mut block = unsafe { Box::from_raw(block) };
            for place in &mut block.places {
                let there = *place.get_mut();
                if !there.is_null() {
                    // SAFETY: from `Box::into_raw`, as `take` asks; freed here once.
                    drop(unsafe { Box::from_raw(there) });
                }
            }
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn number(number: usize) -> *mut usize {
        Box::into_raw(Box::new(number))
    }

    #[test]
    fn every_place_has_one_number() {
        let all = (0..BLOCKS).flat_map(|block| {
            let (len, before) = size_of_block(block);
            (0..len.min(3)).chain(len.saturating_sub(3)..len).map(move |n| (before + n, (block, n)))
        });
        all.for_each(|(place, found)| assert_eq!(locate(place), found, "{place}"));
        (0..10_000).for_each(|place| {
            let (block, n) = locate(place);
            assert!(n < size_of_block(block).0);
        });
    }

    proptest! {
        /// Against a plain set: a free place, each at most once; no more blocks than so many need.
        #[test]
        fn places_are_taken_once(steps in proptest::collection::vec(any::<(bool, usize)>(), 0..600)) {
            let places = Pool::new();
            let mut taken = BTreeSet::new();
            let mut most = 0;
            for (take, which) in steps {
                if take || taken.is_empty() {
                    let place = *places.take(number);
                    prop_assert!(taken.insert(place), "{place} twice");
                } else {
                    let place = *taken.iter().nth(which % taken.len()).expect("one of them");
                    taken.remove(&place);
                    places.give_back(place);
                }
                most = most.max(taken.len());
                let seen: BTreeSet<usize> = places.in_use().copied().collect();
                prop_assert_eq!(&seen, &taken);
                prop_assert_eq!(places.len(), taken.len());
                prop_assert!(places.all().count() <= most.next_power_of_two().max(FIRST));
            }
        }
    }

    /// Each place has one owner at a time.
    #[test]
    fn threads_take_and_give_back() {
        let places = Pool::new();
        let make = |number| Box::into_raw(Box::new((number, AtomicUsize::new(0))));
        let there = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|me| {
                    let places = &places;
                    scope.spawn(move || {
                        for round in 0..2000usize {
                            let own: Vec<_> =
                                (0..round % 50 + 1).map(|_| places.take(make)).collect();
                            own.iter().for_each(|(_, owner)| {
                                assert_eq!(owner.swap(me + 1, Ordering::Relaxed), 0);
                            });
                            for (number, owner) in own {
                                assert_eq!(owner.swap(0, Ordering::Relaxed), me + 1);
                                places.give_back(*number);
                            }
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().expect("no panics"));
            places.all().count()
        });
        assert_eq!((places.in_use().count(), places.len()), (0, 0));
        assert!(there <= 512, "{there} places for 200");
    }
}
