//! The data structures of `examples/structures` under stress: short histories are linearizable, long
//! runs lose and duplicate nothing, and no value is seen after it was dropped.

#[path = "../../examples/structures/cell.rs"]
#[allow(unreachable_pub, dead_code, reason = "a file to start a library's module from")]
mod cell;
#[path = "../../../tests/common/linearize.rs"]
mod linearize;
#[path = "../../examples/structures/list.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod list;
#[path = "../../examples/structures/map.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod map;
#[path = "../../examples/structures/queue.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod queue;
#[path = "../common/sources.rs"]
mod sources;
#[path = "../../examples/structures/stack.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod stack;

use barrierd_reclaim::{Guard, Reclaimer};
use cell::RcuCell;
use linearize::{Dice, Model};
use list::List;
use map::Map;
use queue::Queue;
use sources::SOURCES;
use stack::Stack;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// Short histories of each structure on each source.
const HISTORIES: usize = 10_000;

fn reclaimers() -> impl Iterator<Item = Reclaimer> {
    SOURCES.iter().map(|&source| Reclaimer::builder().source(source).build().unwrap())
}

/// Plays short histories on fresh structures, each operation under a guard of its own, and judges each.
fn histories<S: Sync, M: Model>(
    reclaimer: &Reclaimer,
    fresh: impl Fn(&Reclaimer) -> S,
    start: &M,
    op: impl Fn(&S, &Guard<'_>, &mut Dice, u64) -> M::Op + Sync,
) where
    M::Op: Send + Debug,
{
    let op = |own: &S, dice: &mut Dice, name| op(own, &reclaimer.pin(), dice, name);
    linearize::histories(HISTORIES, || fresh(reclaimer), start, op);
}

#[derive(Clone, Debug)]
enum Op {
    Put(u64),
    Took(Option<u64>),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PlainStack(Vec<u64>);

impl Model for PlainStack {
    type Op = Op;

    fn after(&self, op: &Op) -> Option<PlainStack> {
        let mut next = self.clone();
        match op {
            Op::Put(value) => next.0.push(*value),
            Op::Took(value) => {
                if next.0.pop() != *value {
                    return None;
                }
            }
        }
        Some(next)
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PlainQueue(VecDeque<u64>);

impl Model for PlainQueue {
    type Op = Op;

    fn after(&self, op: &Op) -> Option<PlainQueue> {
        let mut next = self.clone();
        match op {
            Op::Put(value) => next.0.push_back(*value),
            Op::Took(value) => {
                if next.0.pop_front() != *value {
                    return None;
                }
            }
        }
        Some(next)
    }
}

#[derive(Clone, Debug)]
enum MapOp {
    Insert(u64, u64, bool),
    Remove(u64, bool),
    Get(u64, Option<u64>),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PlainMap(BTreeMap<u64, u64>);

impl Model for PlainMap {
    type Op = MapOp;

    fn after(&self, op: &MapOp) -> Option<PlainMap> {
        let mut next = self.clone();
        let so = match *op {
            MapOp::Insert(key, value, new) => {
                let free = !next.0.contains_key(&key);
                next.0.entry(key).or_insert(value);
                free == new
            }
            MapOp::Remove(key, was) => next.0.remove(&key).is_some() == was,
            MapOp::Get(key, seen) => next.0.get(&key).copied() == seen,
        };
        so.then_some(next)
    }
}

/// A counter that is read, set, and updated: `Updated` says what it was before.
#[derive(Clone, Debug)]
enum CellOp {
    Set(u64),
    Updated(u64),
    Read(u64),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PlainCell(u64);

impl Model for PlainCell {
    type Op = CellOp;

    fn after(&self, op: &CellOp) -> Option<PlainCell> {
        match *op {
            CellOp::Set(value) => Some(PlainCell(value)),
            CellOp::Updated(old) => (self.0 == old).then_some(PlainCell(old + 1)),
            CellOp::Read(value) => (self.0 == value).then(|| self.clone()),
        }
    }
}

#[test]
fn the_stack_is_linearizable() {
    for reclaimer in reclaimers() {
        histories(
            &reclaimer,
            |reclaimer| Stack::new(reclaimer.clone()),
            &PlainStack(Vec::new()),
            |stack, guard, dice, name| {
                if dice.roll(2) == 0 {
                    stack.push(name);
                    Op::Put(name)
                } else {
                    Op::Took(stack.pop(guard))
                }
            },
        );
    }
}

#[test]
fn the_queue_is_linearizable() {
    for reclaimer in reclaimers() {
        histories(
            &reclaimer,
            |reclaimer| Queue::new(reclaimer.clone()),
            &PlainQueue(VecDeque::new()),
            |queue, guard, dice, name| {
                if dice.roll(2) == 0 {
                    queue.push(guard, name);
                    Op::Put(name)
                } else {
                    Op::Took(queue.pop(guard))
                }
            },
        );
    }
}

#[test]
fn the_list_is_linearizable() {
    for reclaimer in reclaimers() {
        histories(
            &reclaimer,
            |_| List::<u64, u64>::default(),
            &PlainMap(BTreeMap::new()),
            |list, guard, dice, name| {
                let key = dice.roll(3);
                match dice.roll(3) {
                    0 => MapOp::Insert(key, name, list.insert(guard, key, name)),
                    1 => MapOp::Remove(key, list.remove(guard, &key, |_| ())),
                    _ => MapOp::Get(key, list.get(guard, &key).copied()),
                }
            },
        );
    }
}

#[test]
fn the_map_is_linearizable() {
    for reclaimer in reclaimers() {
        histories(
            &reclaimer,
            |reclaimer| Map::<u64, u64>::new(reclaimer.clone(), 2),
            &PlainMap(BTreeMap::new()),
            |map, guard, dice, name| {
                let key = dice.roll(3);
                match dice.roll(3) {
                    0 => MapOp::Insert(key, name, map.insert(guard, key, name)),
                    1 => MapOp::Remove(key, map.remove(guard, &key, |_| ())),
                    _ => MapOp::Get(key, map.get(guard, &key).copied()),
                }
            },
        );
    }
}

#[test]
fn the_cell_is_linearizable() {
    for reclaimer in reclaimers() {
        histories(
            &reclaimer,
            |reclaimer| RcuCell::new(reclaimer.clone(), 1_000),
            &PlainCell(1_000),
            |cell, guard, dice, name| match dice.roll(3) {
                0 => {
                    cell.set(name);
                    CellOp::Set(name)
                }
                1 => {
                    let mut old = 0;
                    cell.update(guard, |value| {
                        old = *value;
                        old + 1
                    });
                    CellOp::Updated(old)
                }
                _ => CellOp::Read(*cell.read(guard)),
            },
        );
    }
}

const POISON: u64 = 0xDEAD_DEAD_DEAD_DEAD;

/// A value that is counted, and that can be told from a dropped one.
struct Value {
    name: AtomicU64,
    alive: Arc<AtomicU64>,
}

impl Value {
    fn new(name: u64, alive: &Arc<AtomicU64>) -> Value {
        alive.fetch_add(1, Relaxed);
        Value { name: AtomicU64::new(name), alive: alive.clone() }
    }

    fn name(&self) -> u64 {
        let name = self.name.load(Relaxed);
        assert_ne!(name, POISON, "seen after it was dropped");
        name
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.name();
        self.name.store(POISON, Relaxed);
        self.alive.fetch_sub(1, Relaxed);
    }
}

const VALUES: u64 = 60_000;

/// Two threads put numbered values in and two take them out, until all are out.
fn conserve(put: impl Fn(Value) + Sync, take: impl Fn() -> Option<Value> + Sync, in_order: bool) {
    let alive = Arc::new(AtomicU64::new(0));
    let (taken, sum) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for producer in 0..2 {
            let (put, alive) = (&put, &alive);
            scope.spawn(move || (0..VALUES).for_each(|n| put(Value::new(n * 2 + producer, alive))));
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = [None, None];
                while taken.load(Relaxed) < 2 * VALUES {
                    let Some(value) = take() else {
                        thread::yield_now();
                        continue;
                    };
                    let name = value.name();
                    let before = last[usize::try_from(name % 2).unwrap()].replace(name);
                    assert!(!in_order || before.is_none_or(|before| before < name));
                    sum.fetch_add(name, Relaxed);
                    taken.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(taken.into_inner(), 2 * VALUES);
    assert_eq!(sum.into_inner(), (0..2 * VALUES).sum::<u64>());
    assert_eq!(alive.load(Relaxed), 0, "each was dropped once");
}

#[test]
fn the_stack_conserves() {
    for reclaimer in reclaimers() {
        let stack = Stack::new(reclaimer.clone());
        conserve(|value| stack.push(value), || stack.pop(&reclaimer.pin()), false);
    }
}

#[test]
fn the_queue_conserves_in_order() {
    for reclaimer in reclaimers() {
        let queue = Queue::new(reclaimer.clone());
        conserve(|value| queue.push(&reclaimer.pin(), value), || queue.pop(&reclaimer.pin()), true);
    }
}

#[test]
fn what_is_left_inside_is_dropped() {
    for reclaimer in reclaimers() {
        let alive = Arc::new(AtomicU64::new(0));
        let (stack, queue) = (Stack::new(reclaimer.clone()), Queue::new(reclaimer.clone()));
        let map = Map::<u64, Value>::new(reclaimer.clone(), 4);
        let cell = RcuCell::new(reclaimer.clone(), Value::new(0, &alive));
        for name in 0..100 {
            let guard = reclaimer.pin();
            stack.push(Value::new(name, &alive));
            queue.push(&guard, Value::new(name, &alive));
            assert!(map.insert(&guard, name, Value::new(name, &alive)));
            cell.set(Value::new(name, &alive));
        }
        drop((stack, queue, map, cell, reclaimer));
        assert_eq!(alive.load(Relaxed), 0);
    }
}

/// Readers follow entries that writers remove all the while.
#[test]
fn map_and_cell_readers_see_only_the_living() {
    for reclaimer in reclaimers() {
        let alive = Arc::new(AtomicU64::new(0));
        let map = Map::<u64, Value>::new(reclaimer.clone(), 4);
        let cell = RcuCell::new(reclaimer.clone(), Value::new(0, &alive));
        let left = AtomicU64::new(2);
        thread::scope(|scope| {
            for writer in 0..2 {
                let (map, cell, reclaimer, alive, left) = (&map, &cell, &reclaimer, &alive, &left);
                scope.spawn(move || {
                    let mut dice = Dice(77 + writer);
                    for name in 0..60_000 {
                        let (key, guard) = (dice.roll(16), reclaimer.pin());
                        if !map.remove(&guard, &key, |_| ()) {
                            map.insert(&guard, key, Value::new(key, alive));
                        }
                        cell.set(Value::new(name, alive));
                    }
                    left.fetch_sub(1, Relaxed);
                });
            }
            for reader in 0..2 {
                let (map, cell, reclaimer, left) = (&map, &cell, &reclaimer, &left);
                scope.spawn(move || {
                    let mut dice = Dice(7 + reader);
                    while left.load(Relaxed) > 0 {
                        let (key, guard) = (dice.roll(16), reclaimer.pin());
                        let (entry, value) = (map.get(&guard, &key), cell.read(&guard));
                        for _ in 0..dice.roll(40) {
                            assert!(entry.is_none_or(|entry| entry.name() == key));
                            value.name();
                        }
                    }
                });
            }
        });
        drop((map, cell, reclaimer));
        assert_eq!(alive.load(Relaxed), 0);
    }
}

#[test]
#[should_panic(expected = "a guard of another reclaimer")]
fn a_foreign_guard_is_refused() {
    let (one, two) = (Reclaimer::new(), Reclaimer::new());
    let stack = Stack::<u64>::new(one);
    stack.pop(&two.pin());
}
