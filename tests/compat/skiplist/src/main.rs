//! Skip list and bare epoch: millions of operations a second.

#[path = "../../race.rs"]
mod race;

use crossbeam_epoch::{self as epoch, Atomic, Owned};
use crossbeam_skiplist::{SkipMap, SkipSet};
use race::row;
use std::hint::black_box;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const KEYS: u64 = 64 << 10;
const BATCH: u64 = 1000;

struct Node {
    value: u64,
    next: Atomic<Node>,
}

/// Treiber's stack.
#[derive(Default)]
struct Stack {
    head: Atomic<Node>,
}

impl Stack {
    fn push(&self, value: u64) {
        let guard = epoch::pin();
        let mut node = Owned::new(Node { value, next: Atomic::null() });
        loop {
            let head = self.head.load(Relaxed, &guard);
            node.next.store(head, Relaxed);
            match self.head.compare_exchange(head, node, Release, Relaxed, &guard) {
                Ok(_) => return,
                Err(error) => node = error.new,
            }
        }
    }

    fn pop(&self) -> Option<u64> {
        let guard = epoch::pin();
        loop {
            let head = self.head.load(Acquire, &guard);
            // SAFETY: the guard keeps it.
            let node = unsafe { head.as_ref() }?;
            let next = node.next.load(Relaxed, &guard);
            if self.head.compare_exchange(head, next, Relaxed, Relaxed, &guard).is_ok() {
                let value = node.value;
                // SAFETY: unlinked by this thread.
                unsafe { guard.defer_destroy(head) };
                return Some(value);
            }
        }
    }
}

fn main() {
    for threads in [1, 2] {
        row("pin + unpin", threads, |_, _| {
            (0..BATCH).for_each(|_| drop(black_box(epoch::pin())));
            BATCH
        });
    }
    for threads in [1, 2] {
        let cell = Atomic::new(0u64);
        row("pin + load + unpin", threads, |_, _| {
            for _ in 0..BATCH {
                let guard = epoch::pin();
                black_box(cell.load(Acquire, &guard));
            }
            BATCH
        });
        // SAFETY: the last pointer.
        drop(unsafe { cell.into_owned() });
    }
    for threads in [1, 2] {
        let cell = Atomic::new(0u64);
        row("swap + defer_destroy", threads, |random, _| {
            for _ in 0..BATCH {
                let guard = epoch::pin();
                let old = cell.swap(Owned::new(random.0), Acquire, &guard);
                // SAFETY: unlinked by this thread.
                unsafe { guard.defer_destroy(old) };
            }
            BATCH
        });
        // SAFETY: the last pointer.
        drop(unsafe { cell.into_owned() });
    }
    for threads in [1, 2] {
        let stack = Stack::default();
        (0..1000).for_each(|n| stack.push(n));
        row("stack: push + pop", threads, |random, _| {
            for _ in 0..BATCH {
                stack.push(random.0);
                black_box(stack.pop());
            }
            BATCH
        });
        while stack.pop().is_some() {}
    }
    for threads in [1, 2] {
        let map: SkipMap<u64, u64> = (0..KEYS).step_by(2).map(|key| (key, key)).collect();
        row("skip map: 90 % get, 9 % insert, 1 % remove, 64 Ki keys", threads, |random, _| {
            for _ in 0..BATCH {
                let word = random.next();
                let key = (word >> 32) % KEYS;
                match word % 100 {
                    0..90 => drop(black_box(map.get(&key))),
                    90..99 => drop(map.insert(key, word)),
                    _ => drop(map.remove(&key)),
                }
            }
            BATCH
        });
    }
    for threads in [1, 2] {
        let set: SkipSet<u64> = (0..1024).collect();
        row("skip set: 50 % insert, 50 % remove, 1 Ki keys", threads, |random, _| {
            for _ in 0..BATCH {
                let word = random.next();
                let key = (word >> 32) % 1024;
                if word % 2 == 0 { drop(set.insert(key)) } else { drop(set.remove(&key)) }
            }
            BATCH
        });
    }
    for threads in [1, 2] {
        let map: SkipMap<u64, u64> = (0..1024).map(|key| (key, key)).collect();
        row("skip map: iteration, an entry", threads, |_, _| {
            map.iter().map(|entry| *entry.value()).fold(0, u64::wrapping_add).min(0) + 1024
        });
    }
}
