//! Is a history linearizable: is there an order of its operations, in which none moves before one that
//! had ended before it began, that a plain structure would have answered in the same way?
//!
//! The search of Wing and Gong ("Testing and verifying concurrent objects", 1993), with Lowe's memory of
//! what was tried ("Testing for linearizability", 2017). Exponential at worst: for short histories.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

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
