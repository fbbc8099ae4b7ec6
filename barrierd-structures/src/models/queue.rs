//! The queue: two threads or three, on small segments.

use super::late::{Graveyard, Late};
use super::{Turns, are_all, explore, mutants, spawn};
use crate::raw::queue::RawQueue;
use std::sync::Arc;

/// A queue of small segments, and what its operations need.
struct Queue<const N: usize>(RawQueue<u32, Late, N>, Turns);

// SAFETY: numbers go in by one thread and out by another.
unsafe impl<const N: usize> Send for Queue<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for Queue<N> {}

impl<const N: usize> Queue<N> {
    fn new() -> Arc<Queue<N>> {
        Arc::new(Queue(RawQueue::new(Graveyard::default()), Turns::new()))
    }
    fn push(&self, value: u32) {
        self.1.take(|| self.0.push(&mut self.0.domain.clone(), value));
    }
    fn pop(&self) -> Option<u32> {
        self.1.take(|| self.0.pop(&mut self.0.domain.clone()))
    }
    /// What is left, by the only one that is left. Retired segments are out of reach.
    fn rest(self: Arc<Self>) -> Vec<u32> {
        let mut queue = Arc::into_inner(self).expect("the last");
        for end in queue.0.ends() {
            assert!(!queue.0.domain.has(end, None), "an end leads to a retired segment");
        }
        let rest = core::iter::from_fn(|| queue.0.pop_mut()).collect();
        queue.0.domain.free();
        // SAFETY: emptied above.
        unsafe { queue.0.free() };
        rest
    }
}

/// Two push, one pops: nothing is lost, nothing comes twice. Each second value needs a new segment.
#[test]
fn nothing_is_lost() {
    explore(3, || {
        let queue = Queue::<1>::new();
        let one = spawn(&queue, |queue| queue.push(1));
        let two = spawn(&queue, |queue| queue.push(2));
        let popped = [queue.pop(), queue.pop()];
        one.join().unwrap();
        two.join().unwrap();
        are_all(popped.into_iter().flatten().chain(queue.rest()), &[1, 2]);
    });
}

/// One pushes, one pops: all come whole and in order, across a segment's end.
#[test]
fn all_come_in_order() {
    explore(3, || {
        let queue = Queue::<2>::new();
        let one = spawn(&queue, |queue| (1..=3).for_each(|n| queue.push(n)));
        let mut seen: Vec<u32> = (0..3).filter_map(|_| queue.pop()).collect();
        one.join().unwrap();
        seen.extend(queue.rest());
        assert_eq!(seen, [1, 2, 3]);
    });
}

/// A thread that has pushed finds something, as long as nobody else takes it: also behind a slot whose push is on its way.
#[test]
fn what_was_pushed_is_there() {
    explore(3, || {
        let queue = Queue::<2>::new();
        let one = spawn(&queue, |queue| queue.push(1));
        queue.push(2);
        let first = queue.pop().expect("pushed before");
        one.join().unwrap();
        are_all([first].into_iter().chain(queue.rest()), &[1, 2]);
    });
}

/// Two pop, across a segment's end.
#[test]
fn each_value_goes_to_one() {
    explore(3, || {
        let queue = Queue::<1>::new();
        (1..=2).for_each(|n| queue.push(n));
        let one = spawn(&queue, Queue::pop);
        let own = queue.pop();
        let others = one.join().unwrap();
        assert!(queue.rest().is_empty(), "there is one for each");
        are_all(own.into_iter().chain(others), &[1, 2]);
    });
}

/// A push that is stopped at any of its steps, while another thread takes, goes on past the segment, and pushes.
#[test]
fn whole_segments_are_let_go() {
    explore(3, || {
        let queue = Queue::<1>::new();
        queue.push(1);
        let one = spawn(&queue, |queue| queue.push(2));
        let popped = [queue.pop(), queue.pop()];
        queue.push(3);
        one.join().unwrap();
        are_all(popped.into_iter().flatten().chain(queue.rest()), &[1, 2, 3]);
    });
}

mutants! {
    mutant_relaxed_publish: RelaxedPublish, all_come_in_order;
    mutant_publish_by_store: PublishByStore, nothing_is_lost;
    mutant_empty_unasked: EmptyUnasked, what_was_pushed_is_there;
    mutant_tail_left_behind: TailLeftBehind, whole_segments_are_let_go;
    mutant_relaxed_link: RelaxedLink, all_come_in_order;
    mutant_take_by_store: TakeByStore, each_value_goes_to_one;
}
