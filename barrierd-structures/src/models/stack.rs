//! The stack: two threads or three, with handles and without.

use super::late::{Graveyard, Late};
use super::{Turns, are_all, explore, mutants, spawn};
use crate::backoff::Pace;
use crate::protect::Protect;
use crate::raw::stack::RawStack;
use std::sync::Arc;

struct Stack(RawStack<u32, Late>, Turns);

// SAFETY: numbers go in by one thread and out by another.
unsafe impl Send for Stack {}
// SAFETY: as above.
unsafe impl Sync for Stack {}

impl Stack {
    fn new() -> Arc<Stack> {
        Arc::new(Stack(RawStack::new(Graveyard::default()), Turns::new()))
    }
    fn push(&self, value: u32) {
        self.1.take(|| self.0.push(None, value));
    }
    fn pop(&self) -> Option<u32> {
        self.1.take(|| self.0.pop(&mut self.0.domain.clone()))
    }
    /// Takes a value off by a handle that goes at once, or after a second value: `pops`.
    fn pop_by_handle(&self, pops: usize) -> Vec<u32> {
        let (mut pace, mut popped) = (Pace::new(), Late::batch(&self.0.domain));
        let mut section = self.0.domain.clone();
        (0..pops)
            .filter_map(|_| self.1.take(|| self.0.pop_into(&mut section, &mut pace, &mut popped)))
            .collect()
    }
    fn rest(self: Arc<Self>) -> Vec<u32> {
        let mut stack = Arc::into_inner(self).expect("the last");
        let rest = core::iter::from_fn(|| stack.0.pop_mut()).collect();
        stack.0.domain.free();
        rest
    }
}

/// Two push, one pops.
#[test]
fn nothing_is_lost() {
    explore(3, || {
        let stack = Stack::new();
        let one = spawn(&stack, |stack| stack.push(1));
        let two = spawn(&stack, |stack| stack.push(2));
        let popped = [stack.pop(), stack.pop()];
        one.join().unwrap();
        two.join().unwrap();
        are_all(popped.into_iter().flatten().chain(stack.rest()), &[1, 2]);
    });
}

/// Two pop, one of which pushes after that. By handles they retire later, one of them two nodes at once.
fn pops_around_a_push(by_handles: bool) {
    explore(3, move || {
        let stack = Stack::new();
        (1..=2).for_each(|n| stack.push(n));
        let pop = move |stack: &Stack, by_handle: usize| {
            if by_handles { stack.pop_by_handle(by_handle) } else { Vec::from_iter(stack.pop()) }
        };
        let one = spawn(&stack, move |stack| {
            let popped = pop(stack, 2);
            stack.push(3);
            popped
        });
        let own = pop(&stack, 1);
        let others = one.join().unwrap();
        are_all(own.into_iter().chain(others).chain(stack.rest()), &[1, 2, 3]);
    });
}

#[test]
fn each_value_goes_to_one() {
    pops_around_a_push(false);
}

#[test]
fn each_value_goes_to_one_handle() {
    pops_around_a_push(true);
}

mutants! {
    mutant_relaxed_push: RelaxedPush, nothing_is_lost;
    mutant_pop_by_store: PopByStore, each_value_goes_to_one;
    mutant_pop_by_store_of_a_handle: PopByStore, each_value_goes_to_one_handle;
}
