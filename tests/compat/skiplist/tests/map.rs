//! crossbeam-skiplist's map and set, against the standard library's, method by method.

#[path = "../../patched.rs"]
mod patched;
#[allow(dead_code, reason = "the race has more")]
#[path = "../../race.rs"]
mod race;

use crossbeam_skiplist::{SkipMap, SkipSet};
use patched::{Counted, settle};
use race::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const KEYS: u64 = 64;

fn bound(word: u64) -> Bound<u64> {
    let key = (word >> 8) % KEYS;
    match word % 3 {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    }
}

fn as_ref(bound: &Bound<u64>) -> Bound<&u64> {
    bound.as_ref()
}

/// A range that `BTreeMap` takes.
fn is_range(low: &Bound<u64>, high: &Bound<u64>) -> bool {
    use Bound::{Excluded, Included};
    match (low, high) {
        (Included(low), Included(high) | Excluded(high)) => low <= high,
        (Excluded(low), Included(high)) => low <= high,
        (Excluded(low), Excluded(high)) => low < high,
        _ => true,
    }
}

#[test]
fn a_map_like_any_other() {
    let live = Arc::new(AtomicUsize::new(0));
    let (map, mut model) = (SkipMap::new(), BTreeMap::new());
    let mut random = Random(1);
    assert!(map.is_empty() && map.front().is_none() && map.back().is_none());
    for round in 0..30_000u64 {
        let (word, value) = (random.next(), round);
        let key = (word >> 32) % KEYS;
        let counted = |n| Counted::new(n, &live);
        match word % 23 {
            0..4 => {
                assert_eq!(map.insert(key, counted(value)).value().number(), value);
                model.insert(key, value);
            }
            4 => {
                let entry = map.get_or_insert(key, counted(value));
                assert_eq!(entry.value().number(), *model.entry(key).or_insert(value));
            }
            5 => {
                let entry = map.get_or_insert_with(key, || counted(value));
                assert_eq!(entry.value().number(), *model.entry(key).or_insert(value));
            }
            6 => {
                let entry = map.compare_insert(key, counted(value), |old| old.number() % 2 == 0);
                let old = model.get(&key).copied();
                if old.is_none_or(|old| old % 2 == 0) {
                    model.insert(key, value);
                }
                assert_eq!(entry.value().number(), model[&key]);
            }
            7..9 => {
                let removed = map.remove(&key);
                assert_eq!(
                    removed.as_ref().map(|entry| entry.value().number()),
                    model.remove(&key)
                );
                assert!(removed.is_none_or(|entry| entry.is_removed()));
            }
            9 => {
                let popped = map.pop_front().map(|entry| (*entry.key(), entry.value().number()));
                assert_eq!(popped, model.pop_first());
            }
            10 => {
                let popped = map.pop_back().map(|entry| (*entry.key(), entry.value().number()));
                assert_eq!(popped, model.pop_last());
            }
            11 => {
                let front = map.front().map(|entry| (*entry.key(), entry.value().number()));
                assert_eq!(front, model.first_key_value().map(|(k, v)| (*k, *v)));
                let back = map.back().map(|entry| (*entry.key(), entry.value().number()));
                assert_eq!(back, model.last_key_value().map(|(k, v)| (*k, *v)));
            }
            12 => {
                let bound = bound(random.next());
                let lower = map.lower_bound(as_ref(&bound)).map(|entry| *entry.key());
                let range = (bound, Bound::Unbounded);
                assert_eq!(lower, model.range(range).next().map(|(key, _)| *key));
                let upper = map.upper_bound(as_ref(&bound)).map(|entry| *entry.key());
                let range = (Bound::Unbounded, bound);
                assert_eq!(upper, model.range(range).next_back().map(|(key, _)| *key));
            }
            13 => {
                assert!(map.iter().map(|entry| *entry.key()).eq(model.keys().copied()));
                assert!(
                    (&map)
                        .into_iter()
                        .rev()
                        .map(|entry| *entry.key())
                        .eq(model.keys().rev().copied())
                );
                let mut both = map.iter();
                let ends = (both.next().map(|e| *e.key()), both.next_back().map(|e| *e.key()));
                let mut other = model.keys().copied();
                assert_eq!(ends, (other.next(), other.next_back()));
            }
            14 => {
                // From entry to entry.
                let Some(mut entry) = map.get(&key) else { continue };
                let copy = entry.clone();
                let next = model.range((Bound::Excluded(key), Bound::Unbounded)).next();
                assert_eq!(entry.next().map(|e| *e.key()), next.map(|(key, _)| *key));
                assert_eq!(entry.move_next(), next.is_some());
                let previous = model.range(..key).next_back();
                assert_eq!(copy.prev().map(|e| *e.key()), previous.map(|(key, _)| *key));
                let mut copy = copy;
                assert_eq!(copy.move_prev(), previous.is_some());
            }
            15 => {
                let Some(entry) = map.get(&key) else { continue };
                let copy = entry.clone();
                assert!(entry.remove() && !copy.remove() && copy.is_removed());
                // Still there for who holds it.
                assert_eq!(Some(copy.value().number()), model.remove(&key));
            }
            16 if round % 50 == 0 => {
                map.clear();
                model.clear();
            }
            _ => {
                assert_eq!(
                    map.get(&key).map(|entry| entry.value().number()),
                    model.get(&key).copied()
                );
                assert_eq!(map.contains_key(&key), model.contains_key(&key));
                assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
    assert!(format!("{map:?}").starts_with("Skip"));
    let left = map.len();
    settle();
    assert_eq!(live.load(SeqCst), left);
    let rest: Vec<(u64, u64)> = map.into_iter().map(|(key, value)| (key, value.number())).collect();
    assert!(rest.into_iter().eq(model));
    settle();
    assert_eq!(live.load(SeqCst), 0);
}

/// Apart, and of plain values: crossbeam-skiplist 0.1.3 never releases the entry behind a range's end,
/// whichever crossbeam-epoch it has.
#[test]
fn ranges_like_any_others() {
    let (map, mut model) = (SkipMap::new(), BTreeMap::new());
    let mut random = Random(3);
    for value in 0..10_000u64 {
        let (low, high) = (bound(random.next()), bound(random.next()));
        if is_range(&low, &high) {
            let there = map.range((low, high)).map(|entry| *entry.key());
            assert!(there.eq(model.range((low, high)).map(|(key, _)| *key)));
            let back = map.range((low, high)).rev().map(|entry| *entry.value());
            assert!(back.eq(model.range((low, high)).rev().map(|(_, value)| *value)));
        }
        let key = random.next() % KEYS;
        if value % 2 == 0 {
            map.insert(key, value);
            model.insert(key, value);
        } else {
            assert_eq!(map.remove(&key).map(|entry| *entry.value()), model.remove(&key));
        }
    }
}

#[test]
fn a_set_like_any_other() {
    let (set, mut model) = (SkipSet::new(), BTreeSet::new());
    let mut random = Random(2);
    for _ in 0..20_000 {
        let word = random.next();
        let key = (word >> 32) % KEYS;
        match word % 12 {
            0..3 => {
                assert_eq!(*set.insert(key), key);
                model.insert(key);
            }
            3 => {
                assert_eq!(*set.get_or_insert(key).value(), key);
                model.insert(key);
            }
            4 | 5 => assert_eq!(set.remove(&key).is_some(), model.remove(&key)),
            6 => assert_eq!(set.pop_front().map(|entry| *entry), model.pop_first()),
            7 => assert_eq!(set.pop_back().map(|entry| *entry), model.pop_last()),
            8 => {
                let bound = bound(random.next());
                let lower = set.lower_bound(as_ref(&bound)).map(|entry| *entry);
                assert_eq!(lower, model.range((bound, Bound::Unbounded)).next().copied());
                let upper = set.upper_bound(as_ref(&bound)).map(|entry| *entry);
                assert_eq!(upper, model.range((Bound::Unbounded, bound)).next_back().copied());
                assert!(set.range(..key).map(|entry| *entry).eq(model.range(..key).copied()));
                assert!(
                    set.range(key..)
                        .rev()
                        .map(|entry| *entry)
                        .eq(model.range(key..).rev().copied())
                );
            }
            9 => {
                let Some(mut entry) = set.get(&key) else { continue };
                let next = model.range((Bound::Excluded(key), Bound::Unbounded)).next().copied();
                assert_eq!(entry.next().map(|entry| *entry), next);
                let previous = model.range(..key).next_back().copied();
                assert_eq!(entry.prev().map(|entry| *entry), previous);
                let copy = entry.clone();
                assert_eq!(entry.move_next(), next.is_some());
                if word & 1024 == 0 {
                    assert!(copy.remove() && copy.is_removed());
                    model.remove(&key);
                } else if next.is_some() {
                    assert!(entry.move_prev());
                    assert_eq!(*entry, key);
                }
            }
            _ => {
                assert_eq!(set.contains(&key), model.contains(&key));
                assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
                assert_eq!(set.front().map(|entry| *entry), model.first().copied());
                assert_eq!(set.back().map(|entry| *entry), model.last().copied());
                assert!((&set).into_iter().map(|entry| *entry).eq(model.iter().copied()));
                assert!(set.iter().rev().map(|entry| *entry).eq(model.iter().rev().copied()));
            }
        }
    }
    assert!(format!("{set:?}").starts_with("Skip"));
    set.clear();
    assert!(set.is_empty());
    let set: SkipSet<u64> = (0..10).rev().collect();
    assert!(set.into_iter().eq(0..10));
    let map: SkipMap<u64, u64> = (0..10).rev().map(|n| (n, n)).collect();
    assert!(map.into_iter().eq((0..10).map(|n| (n, n))));
    assert!(SkipMap::<u64, u64>::default().is_empty() && SkipSet::<u64>::default().is_empty());
}
