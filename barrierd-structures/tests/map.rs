//! The map on one thread: beside the standard library's, and its traits.

use barrierd_reclaim::Reclaimer;
use barrierd_structures::Map;
use barrierd_structures::map::{Compute, Operation};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;

/// The number itself, as some maps' hashers give it.
#[derive(Clone, Copy, Default)]
struct Identity(u64);

/// All keys collide.
#[derive(Clone, Copy, Default)]
struct Same;

/// One of three, the largest hash among them.
#[derive(Clone, Copy, Default)]
struct Few(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0 << 8 | u64::from(byte));
    }
}

impl Hasher for Same {
    fn finish(&self) -> u64 {
        7
    }
    fn write(&mut self, _: &[u8]) {}
}

/// The number that the map's multiplication makes `u64::MAX` of.
const LAST: u64 = {
    // The inverse of the factor, by Newton's steps; and -1 times that.
    let factor = 0x9E37_79B9_7F4A_7C15u64;
    let mut inverse = 1u64;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(factor.wrapping_mul(inverse)));
        step += 1;
    }
    assert!(factor.wrapping_mul(inverse) == 1);
    inverse.wrapping_neg()
};

impl Hasher for Few {
    fn finish(&self) -> u64 {
        [0, LAST, LAST.wrapping_mul(2)][usize::try_from(self.0 % 3).unwrap()]
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes[0].into();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u8, u32),
    TryInsert(u8, u32),
    GetOr(u8, u32),
    Remove(u8),
    RemoveIf(u8, u32),
    Update(u8),
    UpdateOr(u8, u32),
    UpdateOrWith(u8, u32),
    Compute(u8, Option<u32>),
    Retain(u32),
    Get(u8),
    Reserve(u8),
    Clear,
}

fn op() -> impl Strategy<Value = Op> {
    // Few keys and many, so that entries meet and the table grows.
    let key = || prop_oneof![0u8..8, any::<u8>()];
    let value = || 0u32..4;
    prop_oneof![
        12 => (key(), value()).prop_map(|(key, value)| Op::Insert(key, value)),
        4 => (key(), value()).prop_map(|(key, value)| Op::TryInsert(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Op::GetOr(key, value)),
        6 => key().prop_map(Op::Remove),
        2 => (key(), value()).prop_map(|(key, value)| Op::RemoveIf(key, value)),
        2 => key().prop_map(Op::Update),
        2 => (key(), value()).prop_map(|(key, value)| Op::UpdateOr(key, value)),
        2 => (key(), value()).prop_map(|(key, value)| Op::UpdateOrWith(key, value)),
        3 => (key(), proptest::option::of(value())).prop_map(|(key, to)| Op::Compute(key, to)),
        1 => value().prop_map(Op::Retain),
        6 => key().prop_map(Op::Get),
        1 => any::<u8>().prop_map(Op::Reserve),
        1 => Just(Op::Clear),
    ]
}

/// Does the same to both, and compares all that comes back.
fn agrees<S: BuildHasher>(ops: &[Op], hasher: S) {
    let map = Map::builder().hasher(hasher).capacity(1).reclaimer(&Reclaimer::new()).build();
    let mut model: HashMap<u8, u32> = HashMap::new();
    for op in ops {
        let view = map.pin();
        match *op {
            Op::Insert(key, value) => {
                assert_eq!(view.insert(key, value).copied(), model.insert(key, value));
            }
            Op::TryInsert(key, value) => match (view.try_insert(key, value), model.get(&key)) {
                (Ok(new), None) => {
                    assert_eq!(*new, value);
                    model.insert(key, value);
                }
                (Err(there), Some(old)) => {
                    assert_eq!((there.current, there.key, there.value), (old, key, value));
                }
                (own, model) => panic!("{own:?}, {model:?}"),
            },
            Op::GetOr(key, value) => {
                let own = view.get_or_insert_with(key, || value);
                assert_eq!(own, model.entry(key).or_insert(value));
            }
            Op::Remove(key) => {
                let own = view.remove_entry(&key).map(|(key, value)| (*key, *value));
                assert_eq!(own, model.remove_entry(&key));
            }
            Op::RemoveIf(key, value) => {
                let own = view.remove_if(&key, |_, own| *own == value);
                match model.get(&key).copied() {
                    None => assert_eq!(own, Ok(None)),
                    Some(there) if there == value => {
                        assert_eq!(own, Ok(Some((&key, &there))));
                        model.remove(&key);
                    }
                    Some(there) => assert_eq!(own, Err((&key, &there))),
                }
            }
            Op::Update(key) => {
                let new = model.get_mut(&key).map(|value| {
                    *value += 10;
                    *value
                });
                assert_eq!(view.update(key, |value| value + 10).copied(), new);
            }
            Op::UpdateOr(key, value) => {
                let new = *model.entry(key).and_modify(|value| *value += 10).or_insert(value);
                assert_eq!(*view.update_or_insert(key, |value| value + 10, value), new);
            }
            Op::UpdateOrWith(key, value) => {
                let (own, made) = (model.get(&key).map(|value| value + 10), Cell::new(0));
                let make = || {
                    made.set(made.get() + 1);
                    value
                };
                let new = view.update_or_insert_with(key, |value| value + 10, make);
                assert_eq!((*new, made.get()), (own.unwrap_or(value), u32::from(own.is_none())));
                model.insert(key, *new);
            }
            Op::Compute(key, to) => {
                let done = view.compute(key, |entry| {
                    assert_eq!(entry.map(|(_, value)| *value), model.get(&key).copied());
                    match to {
                        Some(1) => Operation::Abort(5),
                        Some(to) => Operation::Insert(to),
                        None => Operation::Remove,
                    }
                });
                let (key, old) = (&key, model.get(&key).copied());
                match (to, &old) {
                    (Some(1), _) => assert_eq!(done, Compute::Aborted(5)),
                    (Some(to), None) => assert_eq!(done, Compute::Inserted(key, &to)),
                    (Some(to), Some(old)) => {
                        assert_eq!(done, Compute::Updated { old: (key, old), new: (key, &to) });
                    }
                    (None, None) => assert_eq!(done, Compute::Absent),
                    (None, Some(old)) => assert_eq!(done, Compute::Removed(key, old)),
                }
                match to {
                    Some(1) => None,
                    Some(to) => model.insert(*key, to),
                    None => model.remove(key),
                };
            }
            Op::Retain(value) => {
                let mut asked = HashSet::new();
                view.retain(|key, own| {
                    assert!(asked.insert(*key), "asked twice");
                    *own != value
                });
                model.retain(|_, own| *own != value);
            }
            Op::Get(key) => {
                assert_eq!(view.get(&key), model.get(&key));
                assert_eq!(view.get_key_value(&key), model.get_key_value(&key));
                assert_eq!(view.contains_key(&key), model.contains_key(&key));
            }
            Op::Reserve(more) => {
                map.reserve(more.into());
                assert!(map.capacity() >= model.len() + usize::from(more));
            }
            Op::Clear => {
                view.clear();
                model.clear();
            }
        }
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
    }
    let view = map.pin();
    let seen: Vec<(u8, u32)> = view.iter().map(|(key, value)| (*key, *value)).collect();
    assert_eq!(seen.len(), model.len(), "each once");
    assert_eq!(seen.into_iter().collect::<HashMap<_, _>>(), model);
    assert!(view.keys().all(|key| model.contains_key(key)));
    assert_eq!(view.values().sum::<u32>(), model.values().sum::<u32>());
    drop(view);
    assert_eq!(map.into_iter().collect::<HashMap<_, _>>(), model);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_does_what_the_standard_map_does(ops in proptest::collection::vec(op(), 1..250)) {
        agrees(&ops, RandomState::new());
        agrees(&ops, BuildHasherDefault::<Identity>::default());
    }

    #[test]
    fn it_does_so_if_keys_collide(ops in proptest::collection::vec(op(), 1..120)) {
        agrees(&ops, BuildHasherDefault::<Same>::default());
        agrees(&ops, BuildHasherDefault::<Few>::default());
    }
}

#[test]
fn it_grows_from_two_buckets_and_keeps_all() {
    const N: u32 = 50_000;
    let map = Map::with_capacity(0);
    assert_eq!(map.capacity(), 2);
    for n in 0..N {
        assert_eq!(map.pin().insert(n, n + 1), None);
    }
    assert_eq!(map.len(), N as usize);
    assert!(map.capacity() >= N as usize / 2, "it grew to {}", map.capacity());
    let view = map.pin();
    assert!((0..N).all(|n| view.get(&n) == Some(&(n + 1))));
    assert!((N..2 * N).all(|n| view.get(&n).is_none()));
    assert_eq!(view.iter().count(), N as usize);
    assert!((0..N).all(|n| view.remove(&n) == Some(&(n + 1))));
    assert!(view.is_empty() && view.iter().next().is_none());
}

#[test]
#[should_panic(expected = "the guard is of another reclaimer than the map's")]
fn a_guard_of_another_reclaimer_is_refused() {
    let map: Map<u32, u32> = Map::new();
    let other = Reclaimer::new();
    let _ = map.get(&1, &other.pin());
}

#[test]
fn a_handle_and_a_reclaimer_of_ones_own() {
    let reclaimer = Reclaimer::new();
    let map = Map::with_reclaimer(&reclaimer);
    let mut handle = map.handle();
    handle.pin().insert("a", 1);
    {
        let mut view = handle.pin();
        assert_eq!(view.get("a"), Some(&1));
        assert!(view.repin());
        assert!(view.guard().belongs_to(&reclaimer));
        assert!(view.map().reclaimer().pin().belongs_to(&reclaimer));
    }
    assert_eq!(map.get("a", &reclaimer.pin()), Some(&1));
}

#[test]
fn the_traits() {
    let map = Map::from([(1, "a"), (2, "b")]);
    let copy = map.clone();
    assert_eq!(map, copy);
    copy.pin().insert(2, "c");
    assert_ne!(map, copy);
    copy.pin().remove(&2);
    assert_ne!(map, copy);
    assert_eq!(format!("{copy:?} {:?}", copy.pin()), r#"{1: "a"} {1: "a"}"#);
    let view = copy.pin();
    let parts = format!("{:?} {:?} {:?}", view.iter(), view.keys(), view.values());
    assert_eq!(parts, r#"{1: "a"} [1] ["a"]"#);
    drop(view);
    let mut copy = copy;
    copy.extend([(3, "d"), (1, "e")]);
    assert_eq!(copy, Map::from([(1, "e"), (3, "d")]));
    let empty: Map<u8, u8> = Map::default();
    assert_eq!(empty.len(), 0);
    for (key, value) in &copy.pin() {
        assert_eq!(copy.pin().get(key), Some(value));
    }
}

/// What can't be sent can be looked for in a map that nobody could put it into.
#[test]
fn bounds() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Map::from([(1, String::new())]));
    let map: Map<Rc<u8>, &mut u8> = Map::new();
    assert!(map.pin().get(&Rc::new(1)).is_none());
}

/// Each is dropped once: replaced, removed, cleared, refused, left in the map, and taken apart half way.
#[test]
fn nothing_is_lost_or_dropped_twice() {
    let counted = Arc::new(());
    let one = || counted.clone();
    let reclaimer = Reclaimer::new();
    let map = Map::builder().capacity(1).reclaimer(&reclaimer).build();
    for round in 0..3 {
        for n in 0..200 {
            map.pin().insert(n, one());
        }
        for n in 0..100 {
            map.pin().remove(&n);
            let _ = map.pin().try_insert(n + 50, one());
            map.pin().update(n + 100, |_| one());
        }
        if round == 1 {
            map.pin().clear();
        }
    }
    let mut rest = map.into_iter();
    assert_eq!(rest.by_ref().take(50).count(), 50);
    drop(rest);
    drop(reclaimer);
    assert_eq!(Arc::strong_count(&counted), 1);
}

/// So many entries that there are filters: made at once, made beside growth, and made anew where keys come and go.
#[test]
fn a_large_map_has_what_is_there_and_nothing_else() {
    const N: u64 = if cfg!(miri) { 100 } else { 120_000 };
    for capacity in [1, 100_000] {
        let map = Map::builder().capacity(capacity).reclaimer(&Reclaimer::new()).build();
        let mut handle = map.handle();
        for key in 0..N {
            let view = handle.pin();
            assert_eq!(view.get(&key), None);
            assert_eq!(view.insert(key, key), None);
            assert_eq!(view.get(&(key / 2)), Some(&(key / 2)));
        }
        let view = handle.pin();
        for key in (0..N).step_by(2) {
            assert_eq!(view.remove(&key), Some(&key));
            assert_eq!((view.remove(&key), view.update(key, |it| *it)), (None, None));
        }
        assert!((0..2 * N).all(|key| view.get(&key).is_some() == (key < N && key % 2 == 1)));
        assert!((0..N).step_by(2).all(|key| view.insert(key, 0).is_none()));
        assert!((0..2 * N).all(|key| view.contains_key(&key) == (key < N)));
    }
}

/// Another thread's insertion while a value is made: the closure plays that thread.
#[test]
fn what_comes_while_a_value_is_made_is_updated() {
    let map = Map::new();
    let map = map.pin();
    let make = || {
        map.insert("a", 5);
        0
    };
    assert_eq!(map.update_or_insert_with("a", |value| value + 10, make), &15);
    assert_eq!((map.get("a"), map.len()), (Some(&15), 1));
}

#[cfg(feature = "serde")]
#[test]
fn it_is_written_and_read_as_its_entries() {
    let map: Map<u8, String> = serde_json::from_str(r#"{"1":"a","2":"b","1":"c"}"#).unwrap();
    assert_eq!(map, Map::from([(1, String::from("c")), (2, String::from("b"))]));
    let text = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<Map<u8, String>>(&text).unwrap(), map);
    let wrong = serde_json::from_str::<Map<u8, String>>("[1]").unwrap_err().to_string();
    assert!(wrong.contains("expected a map"), "{wrong}");
}
