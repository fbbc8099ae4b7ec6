//! Filters, on one thread and on several.

use super::super::bits::PIECE;
use super::super::list::List;
use super::super::node::Draft;
use super::*;
use crate::Map;
use barrierd_reclaim::Reclaimer;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::thread;

/// What the tests want to know of a map's filters.
#[derive(Default)]
pub(super) struct Counts {
    /// How many were begun.
    pub(super) begun: AtomicUsize,
    /// The most nodes and dummies that were passed by one call.
    pub(super) steps: AtomicUsize,
}

/// The weakest hasher that the documentation allows.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!()
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type Weak = Map<u64, u64, BuildHasherDefault<Identity>>;

/// What `insert` and the reclaimer need so that a filter is begun, waited for, and filled.
fn until<S>(map: &Map<u64, u64, S>, insert: &mut impl FnMut(), is: impl Fn(&Filters) -> bool) {
    for n in 0..20_000 {
        if is(&map.list.filters) {
            return;
        }
        if n % 64 == 0 {
            map.reclaimer().flush();
        }
        insert();
    }
    panic!("no filter came to be");
}

fn now(filters: &Filters) -> *mut Filter {
    filters.now.load(Acquire)
}

/// How many of so many absent keys are not ruled out.
fn passed<S: BuildHasher>(map: &Map<u64, u64, S>, keys: impl Iterator<Item = u64>) -> usize {
    let _guard = map.reclaimer().pin();
    // SAFETY: a section of the map's reclaimer is open.
    keys.filter(|key| !unsafe { map.list.filters.rule_out(map.hash(key)) }).count()
}

/// A map that grows gets filter after filter, and all that is there passes each.
#[test]
fn a_map_that_grows_has_filters() {
    let map = Map::builder().capacity(1).reclaimer(&Reclaimer::new()).build();
    let mut key = 0;
    let mut seen = Vec::new();
    for size in [100, 1000, 10_000u64] {
        let mut insert = || {
            map.pin().insert(key, key);
            key += 1;
        };
        (0..size).for_each(|_| insert());
        until(&map, &mut insert, |filters| {
            let now = now(filters);
            // SAFETY: nobody else is there, so it is not replaced.
            !now.is_null() && unsafe { &*now }.bytes() >= map.list.table.buckets()
        });
        seen.push(now(&map.list.filters));
        assert!((0..key).all(|key| map.pin().get(&key) == Some(&key)));
        assert!((key..key + 1000).all(|key| map.pin().get(&key).is_none()));
        let passed = passed(&map, key..key + 1000);
        assert!(passed < 500, "{passed} of 1000 absent keys are not ruled out");
    }
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

/// Keys that come and go leave their bits; in the end the filter is made anew, without them.
#[test]
fn what_has_gone_is_forgotten() {
    let map = Map::builder().capacity(3000).reclaimer(&Reclaimer::new()).build();
    let first = now(&map.list.filters);
    assert!(!first.is_null());
    (0..1000).for_each(|key| _ = map.pin().insert(key, key));
    let mut key = 1000;
    let mut turn = || {
        for _ in 0..100 {
            map.pin().insert(key, key);
            map.pin().remove(&key);
            key += 1;
        }
    };
    until(&map, &mut turn, |filters| now(filters) != first);
    let passed = passed(&map, 0..1000);
    assert_eq!(passed, 1000, "of those that are there");
    let passed = self::passed(&map, 1 << 40..(1 << 40) + 1000);
    assert!(passed < 500, "{passed} of 1000 absent keys are not ruled out");
}

/// A map without entries rules out all, also of a size that is made at once.
#[test]
fn an_empty_map_rules_out_all() {
    let map = Map::builder().capacity(1000).reclaimer(&Reclaimer::new()).build();
    assert_eq!(passed(&map, 0..1000), 0);
    map.pin().insert(7, 7);
    assert_eq!(map.pin().get(&7), Some(&7));
    assert_eq!(map.pin().remove(&8), None);
    assert_eq!(map.pin().update(8, |it| *it), None);
    map.pin().clear();
    assert_eq!(map.pin().get(&7), None);
}

/// A thread finds what it has inserted, through every filter that comes meanwhile; and what another has said that it inserted.
#[test]
fn a_storm_of_filters() {
    const THREADS: usize = 3;
    const EACH: u64 = if cfg!(miri) { 100 } else { 4000 };
    let mut filters = 0;
    for _ in 0..20 {
        let map = Map::builder().capacity(1).reclaimer(&Reclaimer::new()).build();
        let said: [AtomicU64; THREADS] = Default::default();
        let key = |thread: usize, n: u64| (thread as u64) << 32 | n;
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (map, said) = (&map, &said);
                scope.spawn(move || {
                    let mut handle = map.handle();
                    for n in 0..EACH {
                        handle.pin().insert(key(thread, n), n);
                        assert_eq!(handle.pin().get(&key(thread, n)), Some(&n));
                        said[thread].store(n + 1, Release);
                        // Bits that nobody needs any more.
                        handle.pin().insert(key(thread, n) | 1 << 63, n);
                        assert_eq!(handle.pin().remove(&(key(thread, n) | 1 << 63)), Some(&n));
                        let other = (thread + 1) % THREADS;
                        if let Some(last) = said[other].load(Acquire).checked_sub(1) {
                            assert_eq!(handle.pin().get(&key(other, last)), Some(&last));
                        }
                        if n % 64 == 0 {
                            map.reclaimer().flush();
                        }
                    }
                });
            }
        });
        filters += usize::from(map.list.filters.is_there());
        for thread in 0..THREADS {
            assert!((0..EACH).all(|n| map.pin().get(&key(thread, n)) == Some(&n)));
        }
    }
    assert!(filters > 0, "no filter came to be");
}

/// Filters that are not finished go with their map, or after it.
#[test]
fn a_map_goes_while_a_filter_is_made() {
    for entries in [10, 100, 1000] {
        let reclaimer = Reclaimer::new();
        let map = Map::builder().capacity(1).reclaimer(&reclaimer).build();
        let guard = reclaimer.pin();
        (0..entries).for_each(|key| _ = map.insert(key, key, &guard));
        // Not ready while the guard is there.
        assert!(!map.list.filters.is_there());
        assert!(!map.list.filters.next.load(Acquire).is_null());
        drop(guard);
        drop(map);
        reclaimer.flush();
    }
}

/// A load under one guard, beside which no filter gets ready, leaves no work behind that grows with it.
#[test]
fn a_load_under_one_guard_is_not_paid_for_later() {
    let reclaimer = Reclaimer::new();
    let map: Weak = Map::builder()
        .capacity(1)
        .hasher(BuildHasherDefault::default())
        .reclaimer(&reclaimer)
        .build();
    let mut key = 0;
    {
        let view = map.pin();
        while key < 20_000 {
            view.insert(key, key);
            key += 1;
        }
    }
    let counts = &map.list.filters.counts;
    assert_eq!(counts.begun.load(Relaxed), 1, "not ready while the guard is there");
    let mut insert = || {
        map.pin().insert(key, key);
        key += 1;
    };
    until(&map, &mut insert, |filters| filters.is_there());
    let steps = counts.steps.load(Relaxed);
    assert!(steps <= 4 * PIECE, "{steps} nodes and dummies were passed by one call");
    // One that is of use, and none that was filled in vain.
    assert_eq!(counts.begun.load(Relaxed), 2);
    // SAFETY: nobody else is there, so it is not replaced.
    assert!(unsafe { &*now(&map.list.filters) }.bytes() >= map.list.table.buckets());
    let passed = passed(&map, 1 << 40..(1 << 40) + 1000);
    assert!(passed < 500, "{passed} of 1000 absent keys are not ruled out");
}

/// However many zeros the hashes end in, filters are made anew because keys come and go, and not because keys are there.
#[test]
fn weak_hashes_make_no_filters_without_end() {
    const LIVE: u64 = 1400;
    const TURNS: u64 = if cfg!(miri) { 500 } else { 100_000 };
    for zeros in [0, 8, 20, 32, 40] {
        let reclaimer = Reclaimer::new();
        let builder = Map::builder().capacity(1500).hasher(BuildHasherDefault::default());
        let map: Weak = builder.reclaimer(&reclaimer).build();
        for n in 0..LIVE + TURNS {
            map.pin().insert(n << zeros, n);
            if n >= LIVE {
                map.pin().remove(&((n - LIVE) << zeros));
            }
            if n % 64 == 0 {
                reclaimer.flush();
            }
        }
        let begun = map.list.filters.counts.begun.load(Relaxed);
        // Each lasts until keys for five times the buckets have come and gone.
        assert!(begun <= 12, "{begun} filters for keys that end in {zeros} zeros");
        let absent = (LIVE + TURNS..).map(|n| n << zeros).take(1000);
        let passed = passed(&map, absent);
        assert!(passed < 500, "{passed} of 1000 absent keys that end in {zeros} zeros pass");
    }
}

/// A table that can't grow has more entries than a filter has bits for. Another filter would be no emptier, and isn't begun.
#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn what_is_there_makes_no_filters_without_end() {
    const ENTRIES: u64 = 6000;
    let reclaimer = Reclaimer::new();
    let builder = Map::builder().capacity(192).hasher(BuildHasherDefault::default());
    let map: Weak = builder.reclaimer(&reclaimer).build();
    for key in 0..ENTRIES {
        let guard = reclaimer.pin();
        let hash = map.hash(&key);
        let List { table, filters, .. } = &map.list;
        // SAFETY: the guard is of the map's reclaimer, and nobody else is there.
        unsafe {
            let place = map.list.find(&guard, hash, |_| false);
            // Not counted, so the table stays as it is.
            assert!(map.list.insert(&guard, &place, Draft::new(hash, key, key)).is_ok());
            filters.help(&guard, table);
        }
        drop(guard);
        reclaimer.flush();
    }
    let begun = map.list.filters.counts.begun.load(Relaxed);
    assert!((1..=4).contains(&begun), "{begun} filters");
    assert!((0..ENTRIES).all(|key| map.pin().get(&key) == Some(&key)));
}

/// A filter that has been replaced weighs what its words do.
#[test]
fn the_reclaimer_knows_what_a_filter_weighs() {
    let reclaimer = Reclaimer::new();
    let map = Map::builder().capacity(3000).reclaimer(&reclaimer).build();
    let first = now(&map.list.filters);
    // SAFETY: nobody else is there, so it is not replaced.
    let bytes = unsafe { &*first }.bytes();
    assert_eq!(bytes, 4096);
    let begin = |guard: &barrierd_reclaim::Guard<'_>| {
        // SAFETY: the guard is of the map's reclaimer.
        unsafe { map.list.filters.begin(guard, map.list.table.buckets()) };
    };
    begin(&reclaimer.pin());
    let next = map.list.filters.next.load(Acquire);
    for _ in 0..1000 {
        reclaimer.flush();
        // SAFETY: nobody fills it yet, so it stays.
        if unsafe { &*next }.token.is_ready.load(Acquire) {
            break;
        }
        thread::yield_now();
    }
    let guard = reclaimer.pin();
    for key in 0.. {
        map.insert(key, key, &guard);
        if now(&map.list.filters) == next {
            break;
        }
        assert!(key < 1000, "no filter came to be");
    }
    // Beside it a token may wait.
    let waiting = reclaimer.stats().waiting_bytes;
    assert!((4096..4096 + 64).contains(&waiting), "{waiting} bytes wait");
}

/// What waits for a section when a map goes with a filter that is not ready is a token, and none of the filter's memory.
#[test]
fn a_filter_that_is_not_ready_goes_with_its_map() {
    let reclaimer = Reclaimer::new();
    let map: Map<u64, u64> = Map::builder().capacity(3000).reclaimer(&reclaimer).build();
    let guard = reclaimer.pin();
    // SAFETY: the guard is of the map's reclaimer.
    unsafe { map.list.filters.begin(&guard, map.list.table.buckets()) };
    // SAFETY: begun above, and it stays as long as the map.
    let token = unsafe { &*map.list.filters.next.load(Acquire) }.token.clone();
    // The filter's, the reclaimer's, and this one.
    assert_eq!(Arc::strong_count(&token), 3);
    drop(map);
    assert_eq!(Arc::strong_count(&token), 2, "the filter is still there");
    let waiting = reclaimer.stats().waiting_bytes;
    assert!(waiting <= 64, "{waiting} bytes wait");
    drop(guard);
    reclaimer.flush();
}
