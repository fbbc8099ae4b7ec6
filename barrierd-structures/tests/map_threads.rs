//! The map under several threads.

use barrierd_reclaim::Reclaimer;
use barrierd_structures::Map;
use barrierd_structures::map::{Compute, Operation};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread;

/// One of four hashes, so that different keys lie beside each other.
#[derive(Default)]
struct Few(u64);

impl Hasher for Few {
    fn finish(&self) -> u64 {
        self.0 % 4
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes[0].into();
    }
}

fn seed(round: u64, thread: usize) -> u64 {
    (round * 64 + thread as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn dice(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// What was done to one key, and came back.
#[derive(Clone, Copy, Debug)]
enum Did {
    /// A read, or any other call that left it as it was.
    Saw(Option<u32>),
    /// It was one, and became the other.
    Made(Option<u32>, Option<u32>),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    begin: u64,
    end: u64,
    did: Did,
}

/// Whether one thread alone could have done all of it in some order, in which none comes before one that had ended when it began.
/// By Wing and Gong's search, which tries nothing twice.
fn is_linearizable(events: &[Event], first: Option<u32>) -> bool {
    type Tried = HashSet<(u64, Option<u32>)>;
    fn search(events: &[Event], done: u64, state: Option<u32>, tried: &mut Tried) -> bool {
        if done.count_ones() as usize == events.len() {
            return true;
        }
        if !tried.insert((done, state)) {
            return false;
        }
        let open = || (0..events.len()).filter(|n| done & 1 << n == 0);
        let first_end = open().map(|n| events[n].end).min();
        open().any(|n| {
            let event = events[n];
            let next = match event.did {
                Did::Saw(seen) => (seen == state).then_some(state),
                Did::Made(seen, made) => (seen == state).then_some(made),
            };
            Some(event.begin) <= first_end
                && next.is_some_and(|next| search(events, done | 1 << n, next, tried))
        })
    }
    search(events, 0, first, &mut HashSet::new())
}

#[test]
fn the_checker_tells_them_apart() {
    let event = |begin, end, did| Event { begin, end, did };
    let made = event(1, 4, Did::Made(None, Some(1)));
    assert!(is_linearizable(&[made, event(2, 3, Did::Saw(None))], None));
    assert!(is_linearizable(&[made, event(2, 3, Did::Saw(Some(1)))], None));
    assert!(!is_linearizable(&[made, event(5, 6, Did::Saw(None))], None));
    assert!(!is_linearizable(&[made, event(2, 6, Did::Made(None, Some(2)))], None));
    // Seen, and then not seen.
    let both = [made, event(2, 3, Did::Saw(Some(1))), event(4, 5, Did::Saw(None))];
    assert!(!is_linearizable(&both, None));
}

/// Small histories of a few keys, in a map that begins with two buckets and grows meanwhile.
#[test]
fn histories_of_a_key_are_linearizable() {
    const THREADS: usize = 3;
    const OPS: usize = 12;
    let reclaimer = Reclaimer::new();
    for round in 0..1500u64 {
        let map = Map::builder()
            .hasher(BuildHasherDefault::<Few>::default())
            .capacity(1)
            .reclaimer(&reclaimer)
            .build();
        let (clock, start) = (AtomicU64::new(1), Barrier::new(THREADS));
        let work = |thread: usize| {
            let mut state = seed(round, thread);
            let mut events = Vec::new();
            let mut other = 100 + u8::try_from(thread).unwrap() * 40;
            start.wait();
            for n in 0..OPS {
                // Two keys of one hash, and others between, which make it grow.
                let key = u8::try_from(dice(&mut state) % 2).unwrap() * 4;
                let value = u32::try_from(thread * 100 + n).unwrap();
                let begin = clock.fetch_add(1, Ordering::SeqCst);
                let view = map.pin();
                let did = match dice(&mut state) % 8 {
                    0 | 1 => Did::Made(view.insert(key, value).copied(), Some(value)),
                    2 => match view.remove(&key).copied() {
                        Some(old) => Did::Made(Some(old), None),
                        None => Did::Saw(None),
                    },
                    3 => match view.try_insert(key, value) {
                        Ok(_) => Did::Made(None, Some(value)),
                        Err(there) => Did::Saw(Some(*there.current)),
                    },
                    4 => match view.compute(key, |entry| match entry {
                        Some((_, old)) if old % 2 == 0 => Operation::Remove,
                        Some((_, old)) if old % 3 == 0 => Operation::Abort(Some(*old)),
                        _ => Operation::Insert(value),
                    }) {
                        Compute::Inserted(_, new) => Did::Made(None, Some(*new)),
                        Compute::Updated { old, new } => Did::Made(Some(*old.1), Some(*new.1)),
                        Compute::Removed(_, old) => Did::Made(Some(*old), None),
                        Compute::Absent => Did::Saw(None),
                        Compute::Aborted(seen) => Did::Saw(seen),
                    },
                    _ => Did::Saw(view.get(&key).copied()),
                };
                let end = clock.fetch_add(1, Ordering::SeqCst);
                events.push((key, Event { begin, end, did }));
                if n % 3 == 0 {
                    view.insert(other, 0);
                    other += 1;
                }
            }
            events
        };
        let mut events: HashMap<u8, Vec<Event>> = HashMap::new();
        thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || work(n))).collect();
            for thread in threads {
                for (key, event) in thread.join().unwrap() {
                    events.entry(key).or_default().push(event);
                }
            }
        });
        for (key, mut own) in events {
            // What is there in the end.
            let end = clock.fetch_add(1, Ordering::SeqCst);
            own.push(Event { begin: end, end, did: Did::Saw(map.pin().get(&key).copied()) });
            assert!(is_linearizable(&own, None), "round {round}, key {key}: {own:#?}");
        }
    }
}

static LIVING: AtomicI64 = AtomicI64::new(0);

/// A value that knows its key, and whether it was dropped.
struct Value {
    key: u64,
    canary: AtomicU64,
}

const ALIVE: u64 = 0xA11F_E000;

impl Value {
    fn new(key: u64) -> Value {
        LIVING.fetch_add(1, Ordering::Relaxed);
        Value { key, canary: AtomicU64::new(ALIVE) }
    }

    fn check(&self, key: u64) {
        assert_eq!((self.key, self.canary.load(Ordering::Relaxed)), (key, ALIVE));
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(self.canary.swap(0xDEAD, Ordering::Relaxed), ALIVE);
        LIVING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Readers and writers of all kinds on a map that grows from two buckets, again and again; and none is lost or dropped twice.
#[test]
fn a_storm_with_growth() {
    const KEYS: u64 = 3000;
    for round in 0..6u64 {
        let reclaimer = Reclaimer::new();
        let map = Map::builder().capacity(1).reclaimer(&reclaimer).build();
        // What was inserted, less what was removed, by all threads.
        let entries = AtomicI64::new(0);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (map, entries) = (&map, &entries);
                scope.spawn(move || {
                    let mut state = seed(round, thread);
                    let mut handle = map.handle();
                    for n in 0..6000 {
                        let view = handle.pin();
                        // More and more keys.
                        let key = dice(&mut state) % (KEYS * (n + 1) / 6000 + 1);
                        let seen = |it: &&Value| it.check(key);
                        let made = match dice(&mut state) % 10 {
                            0..4 => i64::from(view.insert(key, Value::new(key)).is_none()),
                            4 => i64::from(view.try_insert(key, Value::new(key)).is_ok()),
                            5 | 6 => -i64::from(view.remove(&key).inspect(seen).is_some()),
                            7 => {
                                let change = |old: &Value| {
                                    old.check(key);
                                    Value::new(key)
                                };
                                view.update(key, change);
                                0
                            }
                            _ => {
                                view.get(&key).inspect(seen);
                                0
                            }
                        };
                        entries.fetch_add(made, Ordering::Relaxed);
                    }
                });
            }
        });
        let expected = usize::try_from(entries.into_inner()).unwrap();
        assert_eq!((map.len(), map.pin().iter().count()), (expected, expected));
        map.pin().iter().for_each(|(key, value)| value.check(*key));
        drop((map, reclaimer));
        assert_eq!(LIVING.load(Ordering::Relaxed), 0);
    }
}

/// Keys that are there throughout are found by each read, and seen once by each iteration: while they are replaced, while others
/// come and go between them, and while the table grows.
#[test]
fn what_is_there_throughout_is_always_seen() {
    const KEPT: u32 = 64;
    for round in 0..20u64 {
        let reclaimer = Reclaimer::new();
        let map = Map::builder().capacity(1).reclaimer(&reclaimer).build();
        for key in 0..KEPT {
            map.pin().insert(key, 0);
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let replacing = scope.spawn(|| {
                let mut state = seed(round, 0);
                while !stop.load(Ordering::Relaxed) {
                    let key = u32::try_from(dice(&mut state) % u64::from(KEPT)).unwrap();
                    assert!(map.pin().insert(key, 1).is_some(), "{key} was absent");
                }
            });
            let others = scope.spawn(|| {
                // It grows to some thousand buckets while the others look on.
                for n in 0..4000 {
                    let view = map.pin();
                    view.insert(1000 + n, 2);
                    if n % 3 > 0 {
                        view.remove(&(1000 + n / 2));
                    }
                }
            });
            let mut failure = None;
            while !others.is_finished() && failure.is_none() {
                let view = map.pin();
                let mut seen = [0; KEPT as usize];
                view.keys().filter(|key| **key < KEPT).for_each(|key| seen[*key as usize] += 1);
                let absent = (0..KEPT).find(|key| !view.contains_key(key));
                failure =
                    (seen != [1; KEPT as usize] || absent.is_some()).then_some((seen, absent));
            }
            stop.store(true, Ordering::Relaxed);
            replacing.join().unwrap();
            assert_eq!(failure, None, "how often each was seen, and which was absent");
        });
    }
}

/// Counts by `update_or_insert`, `update_or_insert_with` and `compute` lose none.
#[test]
fn no_update_is_lost() {
    const N: u32 = 5000;
    let map = Map::with_capacity(1);
    thread::scope(|scope| {
        for thread in 0..3u32 {
            let map = &map;
            scope.spawn(move || {
                for n in 0..N {
                    let key = (n + thread) % 7;
                    if thread == 0 {
                        map.pin().compute(key, |entry| {
                            let count = entry.map_or(0, |(_, count)| *count);
                            Operation::<u32, ()>::Insert(count + 1)
                        });
                    } else if thread == 1 {
                        map.pin().update_or_insert(key, |count| count + 1, 1);
                    } else {
                        map.pin().update_or_insert_with(key, |count| count + 1, || 1);
                    }
                }
            });
        }
    });
    assert_eq!(map.pin().values().sum::<u32>(), 3 * N);
    assert_eq!(map.len(), 7);
}
