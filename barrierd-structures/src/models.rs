//! Loom models of the stack and the queue, and the mutants that loom must reject.
//!
//! Run: `make loom`. Loom runs `raw/`'s own code; a model adds the callers, and a scheme that frees nothing before the end,
//! and then each node once. What a real scheme does meanwhile is the reclaimer's own to prove; that a retired node can't be
//! found any more is checked here, at the end.
//!
//! What is argued by the order of all SeqCst operations (an empty structure beside another one) is not shown here: `sync::ordered`.

use crate::backoff::Pace;
use crate::protect::Protect;
use crate::raw::queue::RawQueue;
use crate::raw::stack::RawStack;
use crate::sync::{AtomicPtr, Mutant};
use core::cell::Cell;
use core::ops::{Deref, DerefMut};
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

std::thread_local! {
    // Loom runs a model's threads on one OS thread, so this reaches them all.
    static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Returns whether the code under test is to be broken in this way.
pub(crate) fn broken(mutant: Mutant) -> bool {
    BROKEN.get() == Some(mutant)
}

pub(crate) fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Asserts that loom finds a violation with the code broken in this way.
pub(crate) fn rejects(mutant: Mutant, exploration: impl FnOnce()) {
    BROKEN.set(Some(mutant));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rejected = catch_unwind(AssertUnwindSafe(exploration)).is_err();
    std::panic::set_hook(hook);
    BROKEN.set(None);
    assert!(rejected, "loom found no violation with {mutant:?}");
}

/// A node that was retired: its address, by whom, and how it is freed.
struct Grave {
    address: usize,
    by: thread::ThreadId,
    free: Box<dyn FnOnce()>,
}

/// What was retired.
#[derive(Clone, Default)]
struct Graveyard(Arc<Mutex<Vec<Grave>>>);

// SAFETY: nodes go from thread to thread as values do; it is locked.
unsafe impl Send for Graveyard {}
// SAFETY: as above.
unsafe impl Sync for Graveyard {}

impl Graveyard {
    fn has(&self, address: usize, by: Option<thread::ThreadId>) -> bool {
        let all = self.0.lock().unwrap();
        all.iter().any(|grave| grave.address == address && by.is_none_or(|by| by == grave.by))
    }

    /// Frees them, at the end.
    fn free(&self) {
        let all = core::mem::take(&mut *self.0.lock().unwrap());
        all.into_iter().for_each(|grave| (grave.free)());
    }
}

/// The scheme of the models.
enum Late {}

struct Node<S>(S);

impl<S> Deref for Node<S> {
    type Target = S;
    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S> DerefMut for Node<S> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.0
    }
}

impl Protect for Late {
    type Domain = Graveyard;
    type Node<S> = Node<S>;
    type Section<'s> = Graveyard;

    fn alloc<S>(_: &Graveyard, value: S) -> *mut Node<S> {
        Box::into_raw(Box::new(Node(value)))
    }
    unsafe fn free<S>(node: *mut Node<S>) {
        // SAFETY: the caller's promise: from `alloc`.
        drop(unsafe { Box::from_raw(node) });
    }
    fn protect<S>(section: &mut Graveyard, source: &AtomicPtr<Node<S>>) -> *mut Node<S> {
        let node = source.load(loom::sync::atomic::Ordering::Acquire);
        // What others retire meanwhile may still be found. What this thread retired before may not.
        let own = Some(thread::current().id());
        assert!(!section.has(node.addr(), own), "found after it was retired");
        node
    }
    unsafe fn retire<S: Send>(section: &mut Graveyard, node: *mut Node<S>) {
        assert!(!section.has(node.addr(), None), "retired twice");
        // SAFETY: from `alloc`, freed once, at the end.
        let free = Box::new(move || unsafe { Self::free(node) });
        // SAFETY: only the lifetime is changed; a node borrows nothing, and all are freed within the model.
        let free: Box<dyn FnOnce()> =
            unsafe { core::mem::transmute(free as Box<dyn FnOnce() + '_>) };
        let by = thread::current().id();
        section.0.lock().unwrap().push(Grave { address: node.addr(), by, free });
    }
    type Batch<S> = Pair<S>;
    fn batch<S>() -> Pair<S> {
        Pair(None)
    }
    unsafe fn retire_later<S: Send>(
        section: &mut Graveyard,
        batch: &mut Pair<S>,
        node: *mut Node<S>,
    ) {
        match Self::take(batch) {
            None => batch.0 = Some(node),
            // SAFETY: the caller's promise, of both.
            Some(first) => unsafe {
                Self::retire(section, first);
                Self::retire(section, node);
            },
        }
    }
    fn take<S>(batch: &mut Pair<S>) -> Option<*mut Node<S>> {
        batch.0.take()
    }
}

/// A batch of the models: a node waits until there is a second one.
struct Pair<S>(Option<*mut Node<S>>);

// SAFETY: memory only.
unsafe impl<S> Send for Pair<S> {}

/// A step that depends on that of every other thread, so that loom tries who comes first. By itself it looks at a word's last
/// access alone: where a thread loads a word and then exchanges it, as most do here, it forgets the load of another one that
/// came before, and tries one order. Relaxed, so it orders nothing.
struct Turns(loom::sync::atomic::AtomicU32);

impl Turns {
    fn new() -> Turns {
        Turns(loom::sync::atomic::AtomicU32::new(0))
    }
    fn take<R>(&self, work: impl FnOnce() -> R) -> R {
        self.0.fetch_add(1, Relaxed);
        let result = work();
        self.0.fetch_add(1, Relaxed);
        result
    }
}

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

fn spawn<S: Send + Sync + 'static>(
    shared: &Arc<S>,
    work: impl FnOnce(&S) + 'static,
) -> thread::JoinHandle<()> {
    let shared = shared.clone();
    thread::spawn(move || work(&shared))
}

/// Two push, one pops: nothing is lost, nothing comes twice. Each second value needs a new segment.
fn two_push_one_pops() {
    explore(3, || {
        let queue = Queue::<1>::new();
        let one = spawn(&queue, |queue| queue.push(1));
        let two = spawn(&queue, |queue| queue.push(2));
        let mut seen: Vec<u32> = [queue.pop(), queue.pop()].into_iter().flatten().collect();
        one.join().unwrap();
        two.join().unwrap();
        seen.extend(queue.rest());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2], "lost, or twice");
    });
}

/// One pushes, one pops: all come whole and in order, across a segment's end.
fn in_order() {
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
fn what_was_pushed_is_there() {
    explore(3, || {
        let queue = Queue::<2>::new();
        let one = spawn(&queue, |queue| queue.push(1));
        queue.push(2);
        let first = queue.pop().expect("pushed before");
        one.join().unwrap();
        let mut seen = queue.rest();
        seen.push(first);
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

/// Two pop, across a segment's end.
fn two_pop() {
    explore(3, || {
        let queue = Queue::<1>::new();
        (1..=2).for_each(|n| queue.push(n));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let of_one = taken.clone();
        let one = spawn(&queue, move |queue| {
            let popped = queue.pop();
            of_one.lock().unwrap().extend(popped);
        });
        let own = queue.pop();
        one.join().unwrap();
        let mut seen = taken.lock().unwrap().clone();
        seen.extend(own);
        assert_eq!(seen.len(), 2, "there is one for each");
        assert!(queue.rest().is_empty());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}

/// A push that is stopped at any of its steps, while another thread takes, goes on past the segment, and pushes.
fn push_behind() {
    explore(3, || {
        let queue = Queue::<1>::new();
        queue.push(1);
        let one = spawn(&queue, |queue| queue.push(2));
        let mut seen: Vec<u32> = [queue.pop(), queue.pop()].into_iter().flatten().collect();
        queue.push(3);
        one.join().unwrap();
        seen.extend(queue.rest());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn a_queue_loses_nothing() {
    two_push_one_pops();
}

#[test]
fn a_queue_keeps_the_order() {
    in_order();
}

#[test]
fn a_queue_with_something_in_it_is_not_empty() {
    what_was_pushed_is_there();
}

#[test]
fn a_queue_gives_each_value_to_one() {
    two_pop();
}

#[test]
fn a_queue_lets_go_of_whole_segments() {
    push_behind();
}

#[test]
fn mutant_relaxed_publish() {
    rejects(Mutant::RelaxedPublish, in_order);
}

#[test]
fn mutant_publish_by_store() {
    rejects(Mutant::PublishByStore, two_push_one_pops);
}

#[test]
fn mutant_empty_unasked() {
    rejects(Mutant::EmptyUnasked, what_was_pushed_is_there);
}

#[test]
fn mutant_tail_left_behind() {
    rejects(Mutant::TailLeftBehind, push_behind);
}

#[test]
fn mutant_relaxed_link() {
    rejects(Mutant::RelaxedLink, in_order);
}

#[test]
fn mutant_take_by_store() {
    rejects(Mutant::TakeByStore, two_pop);
}

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
        let (mut pace, mut popped) = (Pace::new(), Late::batch());
        let mut section = self.0.domain.clone();
        let values = (0..pops)
            .filter_map(|_| self.1.take(|| self.0.pop_into(&mut section, &mut pace, &mut popped)))
            .collect();
        while let Some(node) = Late::take(&mut popped) {
            // SAFETY: popped by this thread, and not retired yet.
            unsafe { Late::retire(&mut section, node) };
        }
        values
    }
    fn rest(self: Arc<Self>) -> Vec<u32> {
        let mut stack = Arc::into_inner(self).expect("the last");
        let rest = core::iter::from_fn(|| stack.0.pop_mut()).collect();
        stack.0.domain.free();
        rest
    }
}

/// Two push, one pops.
fn stack_of_three_threads() {
    explore(3, || {
        let stack = Stack::new();
        let one = spawn(&stack, |stack| stack.push(1));
        let two = spawn(&stack, |stack| stack.push(2));
        let mut seen: Vec<u32> = [stack.pop(), stack.pop()].into_iter().flatten().collect();
        one.join().unwrap();
        two.join().unwrap();
        seen.extend(stack.rest());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2], "lost, or twice");
    });
}

/// Two pop, one of which pushes in between.
fn stack_under_pops() {
    explore(3, || {
        let stack = Stack::new();
        (1..=2).for_each(|n| stack.push(n));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let of_one = taken.clone();
        let one = spawn(&stack, move |stack| {
            let popped = stack.pop();
            stack.push(3);
            of_one.lock().unwrap().extend(popped);
        });
        let own = stack.pop();
        one.join().unwrap();
        let mut seen = taken.lock().unwrap().clone();
        seen.extend(own);
        seen.extend(stack.rest());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

/// Two pop by handles, which retire later; one pushes in between.
fn stack_under_handles() {
    explore(3, || {
        let stack = Stack::new();
        (1..=2).for_each(|n| stack.push(n));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let of_one = taken.clone();
        let one = spawn(&stack, move |stack| {
            let popped = stack.pop_by_handle(2);
            stack.push(3);
            of_one.lock().unwrap().extend(popped);
        });
        let own = stack.pop_by_handle(1);
        one.join().unwrap();
        let mut seen = taken.lock().unwrap().clone();
        seen.extend(own);
        seen.extend(stack.rest());
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3]);
    });
}

#[test]
fn a_stack_gives_each_value_to_one_handle() {
    stack_under_handles();
}

#[test]
fn mutant_pop_by_store_of_a_handle() {
    rejects(Mutant::PopByStore, stack_under_handles);
}

#[test]
fn a_stack_loses_nothing() {
    stack_of_three_threads();
}

#[test]
fn a_stack_gives_each_value_to_one() {
    stack_under_pops();
}

#[test]
fn mutant_relaxed_push() {
    rejects(Mutant::RelaxedPush, stack_of_three_threads);
}

#[test]
fn mutant_pop_by_store() {
    rejects(Mutant::PopByStore, stack_under_pops);
}
