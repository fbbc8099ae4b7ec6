//! The table on one thread.

use super::*;
use std::collections::HashSet;

const HALF: usize = 1 << (BITS - 1);

/// Doubles a table of so many buckets, piece by piece.
fn double(table: &Table, buckets: usize) {
    table.grow(buckets);
    assert_eq!(table.buckets(), buckets, "not before its buckets are opened");
    for _ in 0..buckets.div_ceil(PIECE) {
        // SAFETY: there are no nodes.
        assert!(unsafe { table.help() });
    }
    assert_eq!(table.buckets(), 2 * buckets);
    // SAFETY: likewise.
    assert!(!unsafe { table.help() }, "it grows by itself");
}

/// All slots of a size are different, and none moves when the table grows.
#[test]
fn each_bucket_has_a_slot_of_its_own_which_stays() {
    let table = Table::new(4);
    let mut before: Vec<(usize, *const Link)> = Vec::new();
    for bits in 2..10u32 {
        assert_eq!(table.buckets(), 1 << bits);
        // SAFETY: of the mask as it is.
        let slot = |key| ptr::from_ref(unsafe { table.slot(key) });
        assert!(before.iter().all(|&(key, old)| slot(key) == old));
        before =
            (0..1 << bits).map(|n: usize| n << (BITS - bits)).map(|key| (key, slot(key))).collect();
        let distinct: HashSet<_> = before.iter().map(|&(_, slot)| slot).collect();
        assert_eq!(distinct.len(), 1 << bits);
        double(&table, 1 << bits);
    }
}

/// Opened in any order, the dummies lie in the list in the order of their keys.
#[test]
fn the_dummies_are_in_order() {
    let table = Table::new(64);
    for n in 0..64usize {
        // SAFETY: there are no nodes.
        let _ = unsafe { table.start((n * 37 % 64) << (BITS - 6)) };
    }
    are_in_order(&table, 6);
}

/// Asserts that the list has the dummies of 2^bits buckets, in order.
fn are_in_order(table: &Table, bits: u32) {
    let (mut at, mut keys) = (table.first().load(Relaxed), vec![0]);
    while !link::is_end(at) {
        keys.push(link::key(at) >> (BITS - bits));
        at = table.behind(at).load(Relaxed);
    }
    assert_eq!(keys, (0..1 << bits).collect::<Vec<_>>());
}

/// Whoever finds a bucket in the hands of another thread goes by one before, and waits for nobody.
#[test]
fn an_owner_that_stalls_keeps_nobody() {
    let table = Table::new(8);
    let key = 5 << (BITS - 3);
    // SAFETY: of the mask as it is.
    let own = unsafe { table.slot(key) };
    own.store(link::marked(link::none()), Relaxed);
    // SAFETY: there are no nodes.
    let start = unsafe { table.start(key) };
    assert!(!ptr::eq(start.link, own));
    assert!(link::is_ready(start.seen));
}

/// Whatever grows to many buckets at once leads to the same slots as step by step.
#[test]
fn it_grows_by_several_sizes_at_once() {
    let (steps, once) = (Table::new(2), Table::new(2));
    (1..9).for_each(|bits| double(&steps, 1 << bits));
    once.reserve(257);
    assert_eq!((once.buckets(), steps.buckets()), (512, 512));
    once.reserve(300);
    assert_eq!(once.buckets(), 512);
    let slots: HashSet<_> = (0..512usize)
        // SAFETY: of the mask as it is.
        .map(|n| ptr::from_ref(unsafe { once.slot(n << (BITS - 9)) }))
        .collect();
    assert_eq!(slots.len(), 512);
}

/// A table that grows opens all of its new buckets beforehand, so that searches write nothing.
#[test]
fn new_buckets_are_open_before_they_are_used() {
    let table = Table::new(2);
    // SAFETY: there are no nodes.
    let _ = unsafe { table.start(HALF) };
    (1..9).for_each(|bits| double(&table, 1 << bits));
    for n in 0..512usize {
        // SAFETY: of the mask as it is.
        let slot = unsafe { table.slot(n << (BITS - 9)) };
        assert!(link::is_ready(slot.load(Relaxed)), "{n}");
    }
}

/// A thread that has begun a piece and never goes on keeps the table from nothing: its buckets are opened when they are looked for.
#[test]
fn a_piece_that_is_not_done_keeps_nobody() {
    let table = Table::new(64);
    table.grow(64);
    // As if that thread had taken all but the last piece.
    table.begun.fetch_add(64 - PIECE, Relaxed);
    // SAFETY: there are no nodes.
    assert!(unsafe { table.help() });
    assert_eq!(table.buckets(), 128);
    for n in 0..128usize {
        let key = n << (BITS - 7);
        // SAFETY: there are no nodes; of the mask as it is.
        let (start, own) = unsafe { (table.start(key), table.slot(key)) };
        assert!(ptr::eq(start.link, own) && link::is_ready(own.load(Relaxed)), "{n}");
    }
}

/// One that has the last piece, likewise: the next insertion makes the mask wider.
#[test]
fn the_last_piece_keeps_nobody() {
    let table = Table::new(64);
    table.grow(64);
    table.begun.fetch_add(64, Relaxed);
    // SAFETY: there are no nodes.
    assert!(unsafe { table.help() });
    assert_eq!(table.buckets(), 128);
}

/// Room that is reserved while the table grows is there at once, and the next doubling begins where it has to.
#[test]
fn room_is_reserved_while_it_grows() {
    let table = Table::new(64);
    table.grow(64);
    // SAFETY: there are no nodes.
    assert!(unsafe { table.help() });
    table.reserve(256);
    assert_eq!(table.buckets(), 256);
    double(&table, 256);
    let keys = (0..512usize).map(|n| n << (BITS - 9));
    // SAFETY: there are no nodes.
    keys.for_each(|key| _ = unsafe { table.start(key) });
    are_in_order(&table, 9);
}
