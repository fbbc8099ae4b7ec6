//! Panics in what the map calls: nothing is lost, and the map is whole.

use barrierd_reclaim::Reclaimer;
use barrierd_structures::Map;
use barrierd_structures::map::Operation;
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

thread_local! {
    /// How many calls of those that may panic are left before one does.
    static FUSE: Cell<Option<u32>> = const { Cell::new(None) };
}

fn may_panic() {
    match FUSE.get() {
        Some(0) => {
            FUSE.set(None);
            resume_unwind(Box::new("as planned"));
        }
        Some(n) => FUSE.set(Some(n - 1)),
        None => {}
    }
}

/// Three hashes for all keys, and both calls may panic.
struct Key(u32, #[expect(dead_code, reason = "counted")] Arc<()>);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        may_panic();
        (self.0 % 3).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        may_panic();
        self.0 == other.0
    }
}

impl Eq for Key {}

/// Whatever call panics, at whatever place: the map has what it had, and works.
#[test]
fn in_hash_eq_and_closures() {
    let counted = Arc::new(());
    let reclaimer = Reclaimer::new();
    let map = Map::builder().capacity(1).reclaimer(&reclaimer).build();
    let key = |n| Key(n, counted.clone());
    let calls: [&dyn Fn(u32); 9] = [
        &|n| {
            map.pin().insert(key(n), counted.clone());
        },
        &|n| {
            map.pin().remove(&key(n));
        },
        &|n| {
            let _ = map.pin().try_insert(key(n), counted.clone());
        },
        &|n| {
            map.pin().get(&key(n));
        },
        &|n| {
            let change = |old: &Arc<()>| {
                may_panic();
                old.clone()
            };
            map.pin().update_or_insert(key(n), change, counted.clone());
        },
        &|n| {
            let change = |old: &Arc<()>| {
                may_panic();
                old.clone()
            };
            map.pin().update_or_insert_with(key(n), change, || {
                may_panic();
                counted.clone()
            });
        },
        &|n| {
            map.pin().compute(key(n), |entry| {
                may_panic();
                match entry {
                    Some(_) => Operation::<_, ()>::Remove,
                    None => Operation::Insert(counted.clone()),
                }
            });
        },
        &|n| {
            map.pin().get_or_insert_with(key(n), || {
                may_panic();
                counted.clone()
            });
        },
        &|n| {
            map.pin().retain(|key, _| {
                may_panic();
                key.0 != n
            });
        },
    ];
    let mut panics = 0;
    for fuse in 0..30 {
        for (number, call) in calls.iter().enumerate() {
            for target in [1, 4, 7, 20] {
                for n in 0..12 {
                    map.pin().insert(key(n), counted.clone());
                }
                let before = map.len();
                FUSE.set(Some(fuse));
                let panicked = catch_unwind(AssertUnwindSafe(|| call(target))).is_err();
                FUSE.set(None);
                panics += u32::from(panicked);
                assert_eq!(map.len(), map.pin().iter().count(), "call {number}, fuse {fuse}");
                // `retain` may have done its work, and panicked afterwards.
                if panicked && number < 8 {
                    assert_eq!(map.len(), before, "call {number}, fuse {fuse}");
                }
                assert!(map.pin().contains_key(&key(0)) && map.pin().contains_key(&key(11)));
            }
        }
    }
    assert!(panics > 100, "{panics} panics");
    drop((map, reclaimer));
    assert_eq!(Arc::strong_count(&counted), 1);
}

/// A value whose drop panics, if it is told to.
struct Bomb(bool, #[expect(dead_code, reason = "counted")] Arc<()>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            resume_unwind(Box::new("as planned"));
        }
    }
}

#[test]
fn in_the_drop_of_what_was_removed() {
    let counted = Arc::new(());
    let reclaimer = Reclaimer::builder().background(false).build().unwrap();
    let map = Map::builder().capacity(1).reclaimer(&reclaimer).build();
    let mut panics = 0;
    for n in 0..2000u32 {
        let calls: [&dyn Fn(); 3] = [
            &|| {
                map.pin().insert(n % 50, Bomb(n % 3 == 0, counted.clone()));
            },
            &|| {
                map.pin().remove(&(n % 7));
            },
            &|| {
                if n % 100 == 0 {
                    reclaimer.flush();
                }
            },
        ];
        for call in calls {
            panics += u32::from(catch_unwind(AssertUnwindSafe(call)).is_err());
        }
        assert_eq!(map.len(), map.pin().iter().count());
    }
    assert!(panics > 0);
    // One of those that are left panics when the map is dropped, and all go.
    assert!(map.pin().values().any(|bomb| bomb.0));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(map))).is_err());
    let _ = catch_unwind(AssertUnwindSafe(|| drop(reclaimer)));
    assert_eq!(Arc::strong_count(&counted), 1);
}
