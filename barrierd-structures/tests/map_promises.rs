//! What the map's documents promise of closures, iterators, capacities and keys. One thread is enough for it.

use barrierd_structures::Map;
use barrierd_structures::map::Operation;
use std::cell::Cell;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Undoes the multiplication of `Map`, so that a key's first bits are its place in the list.
#[derive(Default)]
struct Own(u64);

impl Hasher for Own {
    fn finish(&self) -> u64 {
        // The inverse of the factor, by Newton's steps.
        let factor = 0x9E37_79B9_7F4A_7C15u64;
        let inverse = (0..6).fold(1u64, |inverse, _| {
            inverse.wrapping_mul(2u64.wrapping_sub(factor.wrapping_mul(inverse)))
        });
        self.0.wrapping_mul(inverse)
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = u64::from_ne_bytes(bytes.try_into().unwrap());
    }
}

type Ordered = Map<u64, i32, BuildHasherDefault<Own>>;

fn ordered() -> Ordered {
    Map::builder().hasher(BuildHasherDefault::default()).capacity(12).build()
}

/// A change of a key whose closure calls what it is given.
type Change = dyn Fn(&Ordered, u64, &dyn Fn());

/// The key whose hash is so many steps from the first, on 32 bits as well.
const fn nth(n: u64) -> u64 {
    n << 32
}

/// How often a closure for one key is called that writes another one each time.
fn calls_where_the_closure_writes(there: bool, neighbour: u64, change: &Change) -> u32 {
    const ENOUGH: u32 = 1000;
    let map = ordered();
    map.pin().insert(nth(neighbour), 0);
    if there {
        map.pin().insert(nth(5), 0);
    }
    let calls = Cell::new(0);
    change(&map, nth(5), &|| {
        calls.set(calls.get() + 1);
        if calls.get() < ENOUGH {
            map.pin().insert(nth(neighbour), 0);
        }
    });
    calls.get()
}

/// A change of one key is no change of another, wherever it lies.
#[test]
fn a_closure_is_called_once_though_it_writes_a_neighbour() {
    let changes: [(&str, &Change); 5] = [
        ("compute, insert", &|map, key, write| {
            map.pin().compute(key, |_| {
                write();
                Operation::<i32, ()>::Insert(1)
            });
        }),
        ("compute, remove", &|map, key, write| {
            map.pin().compute(key, |_| {
                write();
                Operation::<i32, ()>::Remove
            });
        }),
        ("update", &|map, key, write| {
            map.pin().update(key, |old| {
                write();
                old + 1
            });
        }),
        ("update_or_insert", &|map, key, write| {
            let change = |old: &i32| {
                write();
                old + 1
            };
            map.pin().update_or_insert(key, change, 1);
        }),
        ("remove_if", &|map, key, write| {
            let _ = map.pin().remove_if(&key, |_, _| {
                write();
                true
            });
        }),
    ];
    for (name, change) in changes {
        for neighbour in [4, 6] {
            let calls = calls_where_the_closure_writes(true, neighbour, change);
            assert_eq!(calls, 1, "{name}, beside {neighbour}");
        }
    }
    for neighbour in [4, 6] {
        let calls = calls_where_the_closure_writes(false, neighbour, changes[0].1);
        assert_eq!(calls, 1, "of an absent key, beside {neighbour}");
    }
}

/// A lookup in the closure opens the bucket behind.
#[test]
fn a_closure_is_called_once_though_a_bucket_opens() {
    let map = ordered();
    let map = map.pin();
    map.insert(1, 0);
    let calls = Cell::new(0);
    map.update(1, |old| {
        calls.set(calls.get() + 1);
        assert_eq!(map.get(&(1 << 60 | 5)), None);
        old + 1
    });
    assert_eq!(calls.get(), 1);
}

/// Likewise in a place where any key may lie: no key among twenty, in no map, is a bad one.
#[test]
fn a_closure_is_called_once_though_it_counts_beside() {
    for _ in 0..500 {
        let map = Map::new();
        let map = map.pin();
        for n in 0..20 {
            map.insert(n.to_string(), 0);
        }
        let mut calls = 0;
        map.compute("7".to_string(), |_| {
            calls += 1;
            if calls < 1000 {
                map.update_or_insert("total".to_string(), |n| n + 1, 1);
            }
            Operation::<i32, ()>::Insert(1)
        });
        assert_eq!(calls, 1);
    }
}

/// It is called again if its own key's entry was changed, with what is there then.
#[test]
fn a_closure_is_called_again_if_its_key_was_written() {
    for there in [true, false] {
        let map = ordered();
        let map = map.pin();
        if there {
            map.insert(nth(5), 1);
        }
        let mut seen = Vec::new();
        map.compute(nth(5), |entry| {
            seen.push(entry.map(|(_, value)| *value));
            if seen.len() == 1 {
                map.insert(nth(5), 7);
            }
            Operation::<i32, ()>::Insert(9)
        });
        assert_eq!(seen, [there.then_some(1), Some(7)]);
        assert_eq!((map.get(&nth(5)), map.len()), (Some(&9), 1));
    }
}

/// An iterator begins at its first `next`: what came or went before is as it is then.
#[test]
fn an_iterator_sees_what_is_there_from_the_first_next_on() {
    let map = Map::new();
    let guard = map.reclaimer().pin();
    let iter = map.iter(&guard);
    let (keys, values) = (map.keys(&guard), map.values(&guard));
    map.insert(1, 1, &guard);
    assert_eq!((iter.count(), keys.count(), values.count()), (1, 1, 1));

    let map = ordered();
    let map = map.pin();
    map.insert(nth(10), 0);
    let iter = map.iter();
    map.remove(&nth(10));
    map.insert(nth(11), 0);
    map.insert(nth(5), 0);
    assert_eq!(iter.count(), 2);
}

/// What is more than an address space takes is a panic, and nothing is taken for it.
#[test]
fn too_much_is_a_panic() {
    let mut too_much = vec![usize::MAX, usize::MAX / 2, usize::MAX >> 4];
    if cfg!(target_pointer_width = "64") {
        // So many buckets have keys, and no layout.
        too_much.push(usize::MAX >> 5);
    }
    for entries in too_much {
        let map: Map<u64, u64> = Map::new();
        let before = map.capacity();
        let panic = catch_unwind(AssertUnwindSafe(|| map.reserve(entries))).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"capacity overflow"), "{entries:x}");
        assert_eq!(map.capacity(), before);
        let made = catch_unwind(|| drop(Map::<u64, u64>::with_capacity(entries)));
        assert!(made.is_err(), "{entries:x}");
    }
}

/// An iterator that promises more than it has takes no memory for that.
#[test]
fn a_size_hint_is_not_trusted_with_all_memory() {
    struct Liar(u32);
    impl Iterator for Liar {
        type Item = (u32, u32);
        fn next(&mut self) -> Option<(u32, u32)> {
            self.0 = self.0.checked_sub(1)?;
            Some((self.0, self.0))
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX / 16, None)
        }
    }
    let map: Map<u32, u32> = Liar(3).collect();
    assert_eq!(map.len(), 3);
    assert!(map.capacity() < 1 << 20, "{}", map.capacity());
}

/// A key that is not equal to itself, and one whose hash is different each time.
struct Odd;

impl Hash for Odd {
    fn hash<H: Hasher>(&self, state: &mut H) {
        use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Relaxed).hash(state);
    }
}

impl PartialEq for Odd {
    fn eq(&self, _: &Odd) -> bool {
        false
    }
}

impl Eq for Odd {}

/// Entries are removed as they are met, and not looked for by their keys.
#[test]
fn what_is_met_is_removed_whatever_its_key_says() {
    let map = Map::new();
    let map = map.pin();
    for n in 0..100 {
        map.insert(Odd, n);
    }
    map.retain(|_, n| n % 3 != 0);
    let mut left: Vec<i32> = map.values().copied().collect();
    left.sort_unstable();
    assert_eq!(left, (0..100).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    assert_eq!(map.len(), 66);
    map.clear();
    assert_eq!((map.len(), map.iter().count()), (0, 0));
}

/// An entry that is replaced while it is asked for is asked for again, and the neighbours stay.
#[test]
fn retain_asks_again_for_what_was_replaced() {
    let map = ordered();
    let map = map.pin();
    for n in [4, 5, 6] {
        map.insert(nth(n), 0);
    }
    let mut asked = Vec::new();
    map.retain(|&key, &value| {
        asked.push((key, value));
        if (key, value) == (nth(5), 0) {
            // Its neighbours as well: the one before is not where it was any more.
            for n in [4, 5, 6] {
                map.insert(nth(n), 1);
            }
            return false;
        }
        value == 0 || key == nth(6)
    });
    assert_eq!(asked, [(nth(4), 0), (nth(5), 0), (nth(5), 1), (nth(6), 1)]);
    assert_eq!((map.len(), map.get(&nth(5))), (2, None));
    assert_eq!((map.get(&nth(4)), map.get(&nth(6))), (Some(&1), Some(&1)));
}

/// What has the map alone changes values in place, and takes entries by reference.
#[test]
fn the_only_owner_changes_values_in_place() {
    let mut map: Map<u32, u64> = (0..1000).map(|n| (n, 0)).collect();
    map.pin().remove(&7);
    map.pin().update(8, |_| 1);
    for (key, value) in &mut map {
        *value += u64::from(*key);
    }
    *map.get_mut(&9).unwrap() += 1;
    assert_eq!(map.get_mut(&7), None);
    assert_eq!(map.get_mut(&1000), None);
    let mut copy: Map<u32, u64> = Map::new();
    copy.extend(&map.pin());
    assert_eq!(copy, map);
    let view = copy.pin();
    assert_eq!((view.get(&8), view.get(&9), view.get(&10)), (Some(&9), Some(&10), Some(&10)));
    assert_eq!(view.len(), 999);
}
