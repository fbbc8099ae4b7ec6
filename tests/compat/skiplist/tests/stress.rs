//! Many threads at one map: values are whole as long as somebody sees them, and gone once nobody does.

#[path = "../../patched.rs"]
mod patched;
#[allow(dead_code, reason = "the race has more")]
#[path = "../../race.rs"]
mod race;

use crossbeam_epoch::default_collector;
use crossbeam_skiplist::{SkipMap, SkipSet};
use patched::{Counted, settle};
use race::Random;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const KEYS: u64 = 128;

#[test]
fn threads_on_one_map() {
    let live = Arc::new(AtomicUsize::new(0));
    let map = SkipMap::new();
    let before = default_collector().stats().retired;
    let end = Instant::now() + Duration::from_millis(1500);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (map, live) = (&map, &live);
            scope.spawn(move || {
                let mut random = Random(thread);
                while Instant::now() < end {
                    for _ in 0..100 {
                        let word = random.next();
                        let key = (word >> 32) % KEYS;
                        match word % 10 {
                            0..3 => assert_eq!(
                                map.insert(key, Counted::new(key, live)).value().number(),
                                key
                            ),
                            3..5 => {
                                if let Some(entry) = map.remove(&key) {
                                    assert_eq!(entry.value().number(), key);
                                }
                            }
                            5 => {
                                let popped =
                                    if word & 1024 == 0 { map.pop_front() } else { map.pop_back() };
                                popped.inspect(|entry| {
                                    assert_eq!(entry.value().number(), *entry.key())
                                });
                            }
                            6 => {
                                let mut entry = map.lower_bound(Bound::Included(&key));
                                for _ in 0..10 {
                                    let Some(there) = &mut entry else { break };
                                    assert_eq!(there.value().number(), *there.key());
                                    if !there.move_next() {
                                        break;
                                    }
                                }
                            }
                            7 => {
                                for entry in map.iter().rev().take(10) {
                                    assert_eq!(entry.value().number(), *entry.key());
                                }
                            }
                            _ => {
                                if let Some(entry) = map.get(&key) {
                                    assert_eq!(entry.value().number(), key);
                                }
                            }
                        }
                    }
                }
            });
        }
    });
    assert!(default_collector().stats().retired > before + 1000, "the patch is not in force");
    let left = map.len();
    settle();
    assert_eq!(live.load(SeqCst), left);
    drop(map);
    settle();
    assert_eq!(live.load(SeqCst), 0);
}

/// Threads that come and go.
#[test]
fn short_threads_on_one_set() {
    let set = Arc::new(SkipSet::new());
    for round in 0..50u64 {
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let set = set.clone();
                thread::spawn(move || {
                    let keys = (0..50).map(|n| n * 4 + thread);
                    keys.clone().for_each(|key| drop(set.insert(key)));
                    assert!(keys.clone().all(|key| set.contains(&key)), "round {round}");
                    assert!(keys.clone().all(|key| set.remove(&key).is_some()));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(set.is_empty());
    }
    settle();
}
