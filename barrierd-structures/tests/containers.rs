//! The stack and the queue against plain ones, and in a crowd: nothing is lost, nothing is dropped twice.

use barrierd_reclaim::{Reclaimer, Source};
use barrierd_structures::{Hazards, Plain, Protection, Queue, Robust, Stack};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

/// What a stack and a queue have in common.
trait Container<T>: Sync + Sized + Extend<T> + IntoIterator<Item = T> {
    fn on(reclaimer: &Reclaimer) -> Self;
    fn push(&self, value: T);
    fn pop(&self) -> Option<T>;
    fn is_empty(&self) -> bool;
    /// Pushes, or pops, by handles of this thread.
    fn with_handle<R>(&self, work: impl FnOnce(&mut dyn Ends<T>) -> R) -> R;
}

trait Ends<T> {
    fn push(&mut self, value: T);
    fn pop(&mut self) -> Option<T>;
}

macro_rules! container {
    ($structure:ident, $handle:ident) => {
        impl<T: Send, P: Protection + Sync> Container<T> for $structure<T, P> {
            fn on(reclaimer: &Reclaimer) -> Self {
                $structure::with_reclaimer(reclaimer)
            }
            fn push(&self, value: T) {
                self.push(value);
            }
            fn pop(&self) -> Option<T> {
                self.pop()
            }
            fn is_empty(&self) -> bool {
                self.is_empty()
            }
            fn with_handle<R>(&self, work: impl FnOnce(&mut dyn Ends<T>) -> R) -> R {
                work(&mut self.handle())
            }
        }

        impl<T, P: Protection> Ends<T> for barrierd_structures::$handle<'_, T, P> {
            fn push(&mut self, value: T) {
                self.push(value);
            }
            fn pop(&mut self) -> Option<T> {
                self.pop()
            }
        }
    };
}

container!(Stack, StackHandle);
container!(Queue, QueueHandle);

/// Calls a generic test for each structure and protection.
macro_rules! each {
    ($($name:ident: $test:ident;)*) => { $(
        #[test]
        fn $name() {
            $test::<Stack<Counted, Plain>>();
            $test::<Stack<Counted, Robust>>();
            $test::<Stack<Counted, Hazards>>();
            $test::<Queue<Counted, Plain>>();
            $test::<Queue<Counted, Robust>>();
            $test::<Queue<Counted, Hazards>>();
        }
    )* };
}

each! {
    what_is_left_inside_is_dropped_once: left_inside;
    in_a_crowd_each_value_comes_out_and_is_dropped_once: crowd;
    a_panic_in_a_destructor_loses_nothing_else: bombs;
    an_iterator_gives_all_and_drops_the_rest: iterated;
}

/// A value that counts its drop; a bomb panics in it.
#[derive(Debug)]
struct Counted {
    drops: Arc<AtomicUsize>,
    bomb: bool,
}

impl Counted {
    fn new(drops: &Arc<AtomicUsize>) -> Counted {
        Counted { drops: drops.clone(), bomb: false }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        assert_eq!(self.drops.fetch_add(1, Relaxed), 0, "dropped twice");
        if self.bomb {
            std::panic::resume_unwind(Box::new(()));
        }
    }
}

/// As many as a queue has in some segments.
const MANY: usize = 1_000;

fn counts(count: usize) -> Vec<Arc<AtomicUsize>> {
    (0..count).map(|_| Arc::default()).collect()
}

fn all_dropped(drops: &[Arc<AtomicUsize>]) {
    assert!(drops.iter().all(|drops| drops.load(Relaxed) == 1));
}

fn left_inside<C: Container<Counted>>() {
    let drops = counts(MANY);
    let container = C::on(&Reclaimer::new());
    drops.iter().for_each(|drops| container.push(Counted::new(drops)));
    (0..MANY / 3).for_each(|_| drop(container.pop().expect("there are more")));
    assert!(!container.is_empty());
    drop(container);
    all_dropped(&drops);
}

fn bombs<C: Container<Counted>>() {
    let drops = counts(MANY);
    let container = C::on(&Reclaimer::new());
    for (n, drops) in drops.iter().enumerate() {
        container.push(Counted { drops: drops.clone(), bomb: n == MANY / 2 });
    }
    catch_unwind(AssertUnwindSafe(|| drop(container))).expect_err("one panics");
    all_dropped(&drops);
    // A popped value is the caller's, and so is the panic.
    let drops = counts(2);
    let container = C::on(&Reclaimer::new());
    container.push(Counted { drops: drops[0].clone(), bomb: true });
    let bomb = container.pop().expect("pushed");
    container.push(Counted::new(&drops[1]));
    catch_unwind(AssertUnwindSafe(|| drop(bomb))).expect_err("it panics");
    drop(container.pop().expect("pushed"));
    assert!(container.pop().is_none());
    all_dropped(&drops);
}

fn iterated<C: Container<Counted>>() {
    let drops = counts(MANY);
    let mut container = C::on(&Reclaimer::new());
    container.extend(drops.iter().map(Counted::new));
    let mut iterator = container.into_iter();
    assert_eq!(iterator.by_ref().take(MANY / 2).count(), MANY / 2);
    drop(iterator);
    all_dropped(&drops);
}

fn crowd<C: Container<Counted>>() {
    const THREADS: usize = 4;
    const EACH: usize = 10_000;
    let drops = counts(THREADS * EACH);
    let reclaimer = Reclaimer::new();
    let container = C::on(&reclaimer);
    thread::scope(|scope| {
        for (n, own) in drops.chunks(EACH).enumerate() {
            let container = &container;
            scope.spawn(move || {
                let mut left = own.iter();
                let mut work = |ends: &mut dyn Ends<_>, times: usize| {
                    for drops in left.by_ref().take(times) {
                        ends.push(Counted::new(drops));
                        if n % 2 == 0 {
                            ends.pop();
                            ends.pop();
                        }
                    }
                };
                container.with_handle(|ends| work(ends, EACH / 2));
                for drops in left {
                    container.push(Counted::new(drops));
                    if n % 2 == 1 {
                        container.pop();
                        container.pop();
                    }
                }
            });
        }
    });
    drop(container);
    all_dropped(&drops);
}

#[test]
fn made_of_an_array_and_extended_while_others_have_it() {
    let queue = Queue::from([1, 2]);
    (&queue).extend([3]);
    assert_eq!(queue.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    let stack = Stack::from([1, 2]);
    (&stack).extend([3]);
    assert_eq!(stack.into_iter().collect::<Vec<_>>(), [3, 2, 1]);
}

/// Values that borrow: nothing of them outlives the structure.
#[test]
fn values_may_borrow() {
    let text = String::from("short-lived");
    let reclaimer = Reclaimer::new();
    let (stack, queue): (Stack<&str>, Queue<&str>) =
        (Stack::with_reclaimer(&reclaimer), Queue::with_reclaimer(&reclaimer));
    for word in text.split('-') {
        stack.push(word);
        queue.push(word);
    }
    assert_eq!((stack.peek(), queue.peek()), (Some("lived"), Some("short")));
    drop((stack, queue));
    drop(text);
}

/// What one thread pushes, another one gets in that order.
#[test]
fn a_queue_keeps_each_threads_order() {
    const EACH: u64 = 50_000;
    let queue = Queue::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let pushers: Vec<_> = (0..2)
            .map(|thread| {
                let queue = &queue;
                scope.spawn(move || {
                    let mut queue = queue.handle();
                    (0..EACH).for_each(|n| queue.push((thread, n)));
                })
            })
            .collect();
        let poppers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, done) = (&queue, &done);
                scope.spawn(move || {
                    let (mut last, mut got) = ([None, None], 0);
                    loop {
                        let over = done.load(Relaxed);
                        match queue.pop() {
                            Some((thread, n)) => {
                                assert!(last[thread] < Some(n), "out of order");
                                last[thread] = Some(n);
                                got += 1;
                            }
                            None if over => return got,
                            None => {}
                        }
                    }
                })
            })
            .collect();
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        done.store(true, Relaxed);
        let got: u64 = poppers.into_iter().map(|popper| popper.join().unwrap()).sum();
        assert_eq!(got, 2 * EACH);
    });
    assert!(queue.is_empty());
}

/// Memory goes back while the structure lives.
#[test]
fn what_is_popped_is_freed() {
    let reclaimer = Reclaimer::new();
    let (stack, queue): (Stack<u64>, Queue<u64>) =
        (Stack::with_reclaimer(&reclaimer), Queue::with_reclaimer(&reclaimer));
    for n in 0..MANY as u64 {
        stack.push(n);
        queue.push(n);
    }
    while stack.pop().is_some() {}
    while queue.pop().is_some() {}
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    if reclaimer.synchronize(deadline).is_ok() {
        let stats = reclaimer.stats();
        assert!(stats.retired > MANY as u64);
        assert_eq!(stats.retired, stats.freed);
    }
}

/// The nodes that a handle of a stack retires as one (`src/batch.rs`).
const BATCH: u64 = 8;

/// A handle retires what it pops some at a time, and what is left when it goes: each node is retired and weighed once.
#[test]
fn a_handle_retires_all_that_it_has_popped() {
    const VALUES: u64 = 10 * BATCH + 3;
    let reclaimer = Reclaimer::new();
    let stack: Stack<u64> = Stack::with_reclaimer(&reclaimer);
    // Nothing is freed meanwhile.
    let guard = reclaimer.pin();
    let mut handle = stack.handle();
    (0..VALUES).for_each(|n| handle.push(n));
    assert_eq!(std::iter::from_fn(|| handle.pop()).count() as u64, VALUES);
    assert_eq!(reclaimer.stats().retired, 10);
    drop(handle);
    let stats = reclaimer.stats();
    assert_eq!(stats.retired, 10 + 3);
    assert!(stats.waiting_bytes >= VALUES * 16, "{stats:?}");
    drop(guard);
}

/// A handle may be declared before its stack, and before what the values borrow. It retires what it has popped after both are
/// gone.
#[test]
fn a_handle_may_be_dropped_after_its_stack() {
    let reclaimer = Reclaimer::new();
    let guard = reclaimer.pin();
    {
        let mut handle;
        let text = String::from("one two three");
        let stack: Stack<&str> = Stack::with_reclaimer(&reclaimer);
        handle = stack.handle();
        text.split(' ').for_each(|word| handle.push(word));
        assert_eq!((handle.pop(), handle.pop()), (Some("three"), Some("two")));
        assert_eq!(reclaimer.stats().retired, 0);
    }
    assert_eq!(reclaimer.stats().retired, 2);
    drop(guard);
}

/// What others on the reclaimer have left may be freed at the end of a handle, and panic. The nodes are retired all the same.
#[test]
fn a_panic_at_the_end_of_a_handle_loses_no_node() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new(()));
        }
    }
    let reclaimer =
        Reclaimer::builder().source(Source::Fence).background(false).build().expect("any system");
    let stack: Stack<u64> = Stack::with_reclaimer(&reclaimer);
    let mut handle = stack.handle();
    (0..BATCH - 1).for_each(|n| handle.push(n));
    (0..BATCH - 1).for_each(|_| assert!(handle.pop().is_some()));
    let others = reclaimer.clone();
    thread::spawn(move || others.retire_value(Bomb)).join().expect("it only retires");
    assert_eq!(reclaimer.stats().retired, 1);
    catch_unwind(AssertUnwindSafe(|| drop(handle))).expect_err("the bomb is freed");
    assert_eq!(reclaimer.stats().retired, 1 + BATCH - 1);
}

/// A handle may go to another thread with what it has popped.
#[test]
fn a_handle_moves_to_another_thread() {
    let reclaimer = Reclaimer::new();
    let stack: Stack<Box<u64>> = Stack::with_reclaimer(&reclaimer);
    (0..2 * BATCH).for_each(|n| stack.push(Box::new(n)));
    let mut handle = stack.handle();
    (0..BATCH + 1).for_each(|_| drop(handle.pop().expect("pushed")));
    thread::scope(|scope| {
        scope.spawn(move || {
            assert_eq!(std::iter::from_fn(|| handle.pop()).count() as u64, BATCH - 1)
        });
    });
    assert!(stack.is_empty());
}

#[derive(Clone, Debug)]
enum Op {
    Push(u16),
    Pop,
    Peek,
    Extend(Vec<u16>),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => any::<u16>().prop_map(Op::Push),
        3 => Just(Op::Pop),
        1 => Just(Op::Peek),
        1 => prop::collection::vec(any::<u16>(), 0..150).prop_map(Op::Extend),
    ];
    prop::collection::vec(op, 0..400)
}

macro_rules! like_its_model {
    ($structure:ident, $ops:ident, $front:ident, $pop:ident) => {{
        let (mut own, mut model) = ($structure::new(), VecDeque::new());
        for op in $ops {
            match op {
                Op::Push(value) => {
                    own.push(value);
                    model.push_back(value);
                }
                Op::Pop => prop_assert_eq!(own.pop(), model.$pop()),
                Op::Peek => prop_assert_eq!(own.peek(), model.$front().copied()),
                Op::Extend(values) => {
                    own.extend(values.iter().copied());
                    model.extend(values);
                }
            }
            prop_assert_eq!(own.is_empty(), model.is_empty());
        }
        let left: Vec<u16> = own.into_iter().collect();
        let model: Vec<u16> = core::iter::from_fn(|| model.$pop()).collect();
        prop_assert_eq!(left, model);
    }};
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_stack_alone_is_like_a_vec(ops in ops()) {
        like_its_model!(Stack, ops, back, pop_back);
    }

    #[test]
    fn a_queue_alone_is_like_a_vec_deque(ops in ops()) {
        like_its_model!(Queue, ops, front, pop_front);
    }
}
