//! Is a history linearizable: is there an order of its operations, in which none moves before one that
//! had ended before it began, that a plain structure would have answered in the same way?
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993), with Lowe's memory of
//! what was tried ("Testing for linearizability", 2017). Exponential at worst: for short histories, which [`histories`]
//! plays.
//!
//! The tests of `barrierd-reclaim` and of `barrierd-structures` have this file as a module.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread;

/// Not more than CPUs, or they hardly meet.
const THREADS: usize = 2;
/// Operations of one thread in a history.
const OPS: usize = 8;
/// In the environment: how many histories, where each takes long (`scripts/sanitizers.sh`).
const HISTORIES_ENV: &str = "BARRIERD_TEST_HISTORIES";

/// A plain structure.
pub(crate) trait Model: Clone + Eq + Hash {
    /// An operation with the answer that was given.
    type Op;

    /// The structure after `op`, if it would have given that answer.
    fn after(&self, op: &Self::Op) -> Option<Self>;
}

/// An operation, and when it began and ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<Op> {
    begin: u64,
    end: u64,
    op: Op,
}

/// The order of beginnings and ends.
#[derive(Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    /// Runs an operation that says what it did.
    pub(crate) fn time<Op>(&self, work: impl FnOnce() -> Op) -> Event<Op> {
        let begin = self.0.fetch_add(1, SeqCst);
        let op = work();
        Event { begin, end: self.0.fetch_add(1, SeqCst), op }
    }
}

/// Whether `events`, at most 64, are linearizable from `start`.
pub(crate) fn is_linearizable<M: Model>(start: M, events: &[Event<M::Op>]) -> bool {
    assert!(events.len() <= 64, "one bit an event");
    let all = if events.len() == 64 { u64::MAX } else { (1 << events.len()) - 1 };
    let mut tried = HashSet::new();
    let mut open = vec![(0u64, start)];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        let left = || (0..events.len()).filter(|&i| done & 1 << i == 0);
        let first_end = left().map(|i| events[i].end).min().expect("some are left");
        for i in left().filter(|&i| events[i].begin < first_end) {
            if let Some(next) = state.after(&events[i].op) {
                let node = (done | 1 << i, next);
                if tried.insert(node.clone()) {
                    open.push(node);
                }
            }
        }
    }
    false
}

/// xorshift: any order, the same each time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Less than `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Plays `usual` short histories on fresh structures, or as many as the environment says, and judges each. `op` chooses
/// an operation by the dice; its last argument is a number of its own.
pub(crate) fn histories<S: Sync, M: Model>(
    usual: usize,
    fresh: impl Fn() -> S,
    start: &M,
    op: impl Fn(&S, &mut Dice, u64) -> M::Op + Sync,
) where
    M::Op: Send + Debug,
{
    // The same threads all along: what matters is how they meet.
    let (here, clock) = (AtomicUsize::new(0), Clock::default());
    let histories = std::env::var(HISTORIES_ENV).map_or(usual, |count| count.parse().unwrap());
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: `true` writes.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Register(u32);

    impl Model for Register {
        type Op = (bool, u32);

        fn after(&self, &(write, value): &Self::Op) -> Option<Register> {
            if write { Some(Register(value)) } else { (self.0 == value).then(|| self.clone()) }
        }
    }

    fn event(begin: u64, end: u64, op: (bool, u32)) -> Event<(bool, u32)> {
        Event { begin, end, op }
    }

    #[test]
    fn an_overlapping_read_may_see_either() {
        for seen in [0, 1] {
            let history = [event(0, 3, (true, 1)), event(1, 2, (false, seen))];
            assert!(is_linearizable(Register(0), &history));
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        let history = [event(0, 1, (true, 1)), event(2, 3, (false, 0))];
        assert!(!is_linearizable(Register(0), &history));
        // Two reads of one write that go back in time.
        let history = [event(0, 9, (true, 1)), event(1, 2, (false, 1)), event(3, 4, (false, 0))];
        assert!(!is_linearizable(Register(0), &history));
    }
}
