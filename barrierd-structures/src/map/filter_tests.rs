//! Filters, on one thread and on several.

use super::*;
use crate::Map;
use barrierd_reclaim::Reclaimer;
use std::sync::atomic::AtomicU64;
use std::thread;

/// What `insert` and the reclaimer need so that a filter is begun, waited for, and filled.
fn until(map: &Map<u64, u64>, insert: &mut impl FnMut(), is: impl Fn(&Filters) -> bool) {
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
fn passed(map: &Map<u64, u64>, keys: core::ops::Range<u64>) -> usize {
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
