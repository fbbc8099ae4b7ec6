//! The table on one thread.

use super::*;
use std::collections::HashSet;

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
        table.grow(1 << bits);
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
    let (mut at, mut keys) = (table.first().load(Relaxed), vec![0]);
    while !link::is_end(at) {
        keys.push(link::key(at) >> (BITS - 6));
        at = table.behind(at).load(Relaxed);
    }
    assert_eq!(keys, (0..64).collect::<Vec<_>>());
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
    (1..9).for_each(|bits| steps.grow(1 << bits));
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
