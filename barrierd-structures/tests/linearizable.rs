//! Short histories of the stack and the queue are linearizable, on each protection.

#[path = "../../tests/common/linearize.rs"]
mod linearize;

use barrierd_reclaim::Reclaimer;
use barrierd_structures::{Hazards, Plain, Protection, Queue, Robust, Stack};
use linearize::{Clock, Model, histories, is_linearizable};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Histories of each structure on each protection.
const HISTORIES: usize = 5_000;

#[derive(Clone, Debug)]
enum Op {
    Put(u64),
    Took(Option<u64>),
    Saw(Option<u64>),
    Empty(bool),
}

/// A stack, or a queue.
#[derive(Clone, PartialEq, Eq, Hash)]
struct PlainLine {
    values: VecDeque<u64>,
    lifo: bool,
}

impl PlainLine {
    fn new(lifo: bool) -> PlainLine {
        PlainLine { values: VecDeque::new(), lifo }
    }
}

impl Model for PlainLine {
    type Op = Op;

    fn after(&self, op: &Op) -> Option<PlainLine> {
        let mut next = self.clone();
        let first = if self.lifo { self.values.back() } else { self.values.front() };
        let right = match op {
            Op::Put(value) => {
                next.values.push_back(*value);
                true
            }
            Op::Took(value) => {
                let right = first == value.as_ref();
                if self.lifo {
                    next.values.pop_back()
                } else {
                    next.values.pop_front()
                };
                right
            }
            Op::Saw(value) => first == value.as_ref(),
            Op::Empty(empty) => self.values.is_empty() == *empty,
        };
        right.then_some(next)
    }
}

macro_rules! op {
    () => {
        |own, dice, name| match dice.roll(6) {
            0..=1 => {
                own.push(name);
                Op::Put(name)
            }
            2..=3 => Op::Took(own.pop()),
            4 => Op::Saw(own.peek()),
            _ => Op::Empty(own.is_empty()),
        }
    };
}

fn stacks<P: Protection + Sync>() {
    let reclaimer = Reclaimer::new();
    let fresh = || Stack::<u64, P>::with_reclaimer(&reclaimer);
    histories(HISTORIES, fresh, &PlainLine::new(true), op!());
}

fn queues<P: Protection + Sync>() {
    let reclaimer = Reclaimer::new();
    // Just before the end of a segment in each second history, so that one is linked and another retired in the midst of it.
    let count = AtomicUsize::new(0);
    let fresh = || {
        let queue = Queue::<u64, P>::with_reclaimer(&reclaimer);
        if count.fetch_add(1, SeqCst) % 2 == 0 {
            (0..SEGMENT - 2).for_each(|n| queue.push(n));
            (0..SEGMENT - 2).for_each(|n| assert_eq!(queue.pop(), Some(n)));
        }
        queue
    };
    histories(HISTORIES, fresh, &PlainLine::new(false), op!());
}

/// The slots of a queue's segment. Were it another number, the histories would only miss a segment's end.
const SEGMENT: u64 = 112;

#[test]
fn plain_stacks() {
    stacks::<Plain>();
}

#[test]
fn robust_stacks() {
    stacks::<Robust>();
}

#[test]
fn stacks_with_hazards() {
    stacks::<Hazards>();
}

#[test]
fn plain_queues() {
    queues::<Plain>();
}

#[test]
fn robust_queues() {
    queues::<Robust>();
}

#[test]
fn queues_with_hazards() {
    queues::<Hazards>();
}

/// The judge finds what it has to find.
#[test]
fn a_history_out_of_order_is_rejected() {
    let clock = Clock::default();
    let history = [
        clock.time(|| Op::Put(1)),
        clock.time(|| Op::Put(2)),
        clock.time(|| Op::Took(Some(2))),
        clock.time(|| Op::Empty(false)),
    ];
    assert!(is_linearizable(PlainLine::new(true), &history));
    assert!(!is_linearizable(PlainLine::new(false), &history));
}
