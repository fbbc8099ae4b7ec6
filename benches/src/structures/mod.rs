//! The structures, written once for every scheme: a stack, a queue, a hash map of ordered lists, a cell.
//!
//! The commented versions are in `barrierd-reclaim/examples/structures`; these leave out what a benchmark
//! doesn't need: values are numbers, and what is left inside at the end is leaked.

pub(crate) mod cell;
pub(crate) mod map;
pub(crate) mod queue;
pub(crate) mod stack;

use crate::schemes::{Headed, Scheme};
use std::sync::atomic::AtomicPtr;

/// A node of any of them.
#[repr(C)]
pub(crate) struct Node<S: Scheme> {
    header: S::Header,
    next: AtomicPtr<Node<S>>,
    key: u64,
}

// SAFETY: `repr(C)`, the header first.
unsafe impl<S: Scheme> Headed<S::Header> for Node<S> {}

// SAFETY: numbers, and a pointer that only atomic operations read.
unsafe impl<S: Scheme> Send for Node<S> {}

impl<S: Scheme> Node<S> {
    fn made(guard: &S::Guard<'_>, key: u64) -> *mut Node<S> {
        S::alloc(guard, Node { header: S::Header::default(), next: AtomicPtr::default(), key })
    }
}

/// A line of its own.
#[repr(align(128))]
#[derive(Default)]
pub(crate) struct Line<T>(pub(crate) T);

#[cfg(test)]
mod tests {
    //! Each structure on each scheme does what it is for.

    use super::cell::Cell;
    use super::map::Map;
    use super::queue::Queue;
    use super::stack::Stack;
    use crate::schemes::{self, Scheme, Setting, Visitor};
    use std::collections::{BTreeSet, VecDeque};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::thread;

    fn dice(seed: &mut u64) -> u64 {
        // xorshift
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    struct Models;

    impl Visitor for Models {
        fn visit<S: Scheme>(&mut self) {
            let scheme = S::new(&Setting::default());
            let mut local = scheme.local();
            let (stack, queue, map, cell) = {
                let guard = S::pin(&mut local);
                (
                    Stack::<S>::new(),
                    Queue::<S>::new(&guard),
                    Map::<S>::new(16),
                    Cell::<S>::new(&guard),
                )
            };
            let (mut list, mut line, mut set) = (Vec::new(), VecDeque::new(), BTreeSet::new());
            let mut seed = 7;
            for n in 0..20_000 {
                let mut guard = S::pin(&mut local);
                let (what, key) = (dice(&mut seed) % 3, dice(&mut seed) % 64);
                if what < 2 {
                    stack.push(&guard, n);
                    queue.push(&mut guard, n);
                    list.push(n);
                    line.push_back(n);
                } else {
                    assert_eq!(stack.pop(&mut guard), list.pop(), "{}", S::NAME);
                    assert_eq!(queue.pop(&mut guard), line.pop_front(), "{}", S::NAME);
                }
                match what {
                    0 => assert_eq!(map.insert(&mut guard, key), set.insert(key), "{}", S::NAME),
                    1 => assert_eq!(map.remove(&mut guard, key), set.remove(&key), "{}", S::NAME),
                    _ => assert_eq!(map.get(&mut guard, key), set.contains(&key), "{}", S::NAME),
                }
                cell.replace(&guard, n);
                assert_eq!(cell.read(&mut guard), n, "{}", S::NAME);
            }
        }
    }

    #[test]
    fn alone_each_is_like_its_model() {
        schemes::each(&Setting::default(), &mut Models);
    }

    struct Crowd;

    impl Visitor for Crowd {
        fn visit<S: Scheme>(&mut self) {
            const EACH: u64 = 20_000;
            let scheme = S::new(&Setting::default());
            let (stack, map) = (Stack::<S>::new(), Map::<S>::new(4));
            let queue = Queue::<S>::new(&S::pin(&mut scheme.local()));
            // What went in less what came out, of each structure.
            let left = [const { AtomicU64::new(0) }; 3];
            let add = |which: usize, n: u64| left[which].fetch_add(n, Relaxed);
            let take = |which: usize, n: u64| left[which].fetch_sub(n, Relaxed);
            thread::scope(|scope| {
                for thread in 0..4 {
                    let (scheme, stack, queue, map) = (&scheme, &stack, &queue, &map);
                    scope.spawn(move || {
                        let (mut local, mut seed) = (scheme.local(), thread + 1);
                        for n in 1..EACH {
                            let mut guard = S::pin(&mut local);
                            stack.push(&guard, n);
                            queue.push(&mut guard, n);
                            add(0, n);
                            add(1, n);
                            if dice(&mut seed).is_multiple_of(2) {
                                take(0, stack.pop(&mut guard).unwrap_or(0));
                                take(1, queue.pop(&mut guard).unwrap_or(0));
                            }
                            let key = dice(&mut seed) % 32;
                            if dice(&mut seed).is_multiple_of(2) {
                                add(2, map.insert(&mut guard, key).into());
                            } else {
                                take(2, map.remove(&mut guard, key).into());
                            }
                        }
                    });
                }
            });
            let mut local = scheme.local();
            let mut guard = S::pin(&mut local);
            while let Some(n) = stack.pop(&mut guard) {
                take(0, n);
            }
            while let Some(n) = queue.pop(&mut guard) {
                take(1, n);
            }
            (0..32).for_each(|key| {
                take(2, map.remove(&mut guard, key).into());
            });
            assert_eq!(left.map(AtomicU64::into_inner), [0; 3], "{}", S::NAME);
        }
    }

    #[test]
    fn in_a_crowd_nothing_is_lost_and_nothing_comes_twice() {
        schemes::each(&Setting::default(), &mut Crowd);
    }
}
