//! Short histories of the stack and the queue are linearizable, on each protection.

#[path = "../../barrierd-reclaim/tests/structures/linearize.rs"]
mod linearize;

use barrierd_reclaim::Reclaimer;
use barrierd_structures::{Hazards, Plain, Protection, Queue, Robust, Stack};
use linearize::{Clock, Event, Model, is_linearizable};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

/// Not more than CPUs, or they hardly meet.
const THREADS: usize = 2;
/// Operations of one thread in a history.
const OPS: usize = 8;
/// Histories of each structure on each protection, unless [`HISTORIES_ENV`] says otherwise.
const HISTORIES: usize = 5_000;
/// In the environment: how many, where each takes long (`scripts/sanitizers.sh`).
const HISTORIES_ENV: &str = "BARRIERD_TEST_HISTORIES";

/// xorshift: any order, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Plays short histories on fresh structures and judges each.
fn histories<S: Sync, M: Model>(
    fresh: impl Fn() -> S,
    start: &M,
    op: impl Fn(&S, &mut Dice, u64) -> M::Op + Sync,
) where
    M::Op: Send + Debug,
{
    // The same threads all along: what matters is how they meet.
    let (here, clock) = (AtomicUsize::new(0), Clock::default());
    let histories = std::env::var(HISTORIES_ENV).map_or(HISTORIES, |count| count.parse().unwrap());
    let structures: Vec<S> = (0..histories).map(|_| fresh()).collect();
    let play = |thread: usize| -> Vec<Vec<Event<M::Op>>> {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15 + u64::try_from(thread).unwrap());
        let mut play = |(round, structure): (usize, &S)| {
            // Awake, so that they start within nanoseconds of each other.
            here.fetch_add(1, SeqCst);
            let mut turns = 0;
            while here.load(SeqCst) < THREADS * (round + 1) {
                turns += 1;
                if turns % 10_000 == 0 { thread::yield_now() } else { std::hint::spin_loop() }
            }
            let names = (0..OPS).map(|n| u64::try_from(thread * OPS + n).unwrap());
            names.map(|name| clock.time(|| op(structure, &mut dice, name))).collect()
        };
        structures.iter().enumerate().map(&mut play).collect()
    };
    let played: Vec<Vec<Vec<Event<M::Op>>>> = thread::scope(|scope| {
        let play = &play;
        let threads: Vec<_> = (0..THREADS).map(|t| scope.spawn(move || play(t))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut threads: Vec<_> = played.into_iter().map(Vec::into_iter).collect();
    for _ in 0..histories {
        let history: Vec<_> = threads.iter_mut().flat_map(|own| own.next().unwrap()).collect();
        assert!(is_linearizable(start.clone(), &history), "{history:#?}");
    }
}

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
    histories(fresh, &PlainLine::new(true), op!());
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
    histories(fresh, &PlainLine::new(false), op!());
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
