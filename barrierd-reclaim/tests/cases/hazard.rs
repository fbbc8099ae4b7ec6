//! Hazard pointers: what one keeps, what it does not, and that no reader sees a freed node.

use super::poison::POISON;
use super::{Log, Named, soon};
use barrierd_reclaim::{Hazard, Reclaimer};
use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub(super) fn all(make: impl Fn() -> Reclaimer) {
    one_object_is_kept(make());
    many_hazards_keep_one_each(make());
    pairs_keep_the_last_two(make());
    tags_are_compared_and_not_held(make());
    without_size_only_nodes_are_kept(make());
    from_a_guard_to_a_hazard(make());
    what_exited_threads_left_is_kept_too(make());
    what_is_held_is_freed_on_drop(make());
    a_hazard_may_outlive_its_registration(make());
    a_stalled_hazard_keeps_one_object(make());
    no_hazard_sees_a_freed_node(make());
    no_walker_sees_a_freed_node(make());
    from_guards_to_hazards_under_stress(make());
}

impl Log {
    fn boxed(&self, name: usize) -> *mut Named {
        Box::into_raw(Box::new(Named { name, log: self.0.clone() }))
    }
}

fn one_object_is_kept(reclaimer: Reclaimer) {
    let log = Log::default();
    let cell = AtomicPtr::new(log.boxed(0));
    let mut hazard = reclaimer.hazard();
    let held = hazard.protect(&cell);
    let old = cell.swap(ptr::null_mut(), AcqRel);
    assert_eq!(held.as_ptr(), old);
    // SAFETY: from a Box, unlinked, retired once.
    unsafe { reclaimer.retire(old) };
    (1..300).for_each(|name| log.retire(&reclaimer, name));
    for _ in 0..3 {
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(log.names(), (1..300).collect::<Vec<_>>(), "all but the one that is held");
    }
    // SAFETY: held.
    assert_eq!(unsafe { held.as_ref() }.unwrap().name, 0);
    // Null holds nothing.
    assert!(hazard.protect(&cell).is_null());
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names().last(), Some(&0));
}

/// More than a line of hazards, in arrays and alone, dropped and made again.
fn many_hazards_keep_one_each(reclaimer: Reclaimer) {
    let log = Log::default();
    let cells: Vec<_> = (0..40).map(|name| AtomicPtr::new(log.boxed(name))).collect();
    for round in 0..3 {
        let mut hazards: Vec<Hazard<'_>> = reclaimer.hazards::<20>().into();
        hazards.extend((0..20).map(|_| reclaimer.hazard()));
        for (hazard, cell) in hazards.iter_mut().zip(&cells) {
            hazard.protect(cell);
        }
        if round == 2 {
            for cell in &cells {
                let old = cell.swap(ptr::null_mut(), AcqRel);
                // SAFETY: from a Box, unlinked, retired once.
                unsafe { reclaimer.retire(old) };
            }
            reclaimer.synchronize(soon()).unwrap();
            assert!(log.names().is_empty());
            // Every other one is let go.
            (1..40).step_by(2).rev().for_each(|at| drop(hazards.remove(at)));
            reclaimer.synchronize(soon()).unwrap();
            assert_eq!(log.names(), (1..40).step_by(2).collect::<Vec<_>>());
            hazards[0].clear();
            reclaimer.flush();
            assert_eq!(log.names().last(), Some(&0));
        }
    }
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names().len(), 40);
}

/// A pair keeps what its last two calls returned, whatever other hazards there are in its line.
fn pairs_keep_the_last_two(reclaimer: Reclaimer) {
    let log = Log::default();
    let cells: Vec<_> = (0..40).map(|name| AtomicPtr::new(log.boxed(name))).collect();
    let single = reclaimer.hazard();
    let mut pairs: Vec<_> = (0..6).map(|_| reclaimer.hazard_pair()).collect();
    drop((single, pairs.remove(1)));
    for (at, pair) in pairs.iter_mut().enumerate() {
        for cell in &cells[at * 8..at * 8 + 5] {
            assert_eq!(pair.protect(cell).as_ptr(), cell.load(Relaxed));
        }
    }
    for cell in &cells {
        // SAFETY: from a Box, unlinked (nobody uses the cell again), retired once.
        unsafe { reclaimer.retire(cell.load(Relaxed)) };
    }
    reclaimer.synchronize(soon()).unwrap();
    let kept = |name: &usize| name % 8 == 3 || name % 8 == 4;
    let names = || {
        let mut names = log.names();
        names.sort_unstable();
        names
    };
    assert_eq!(names(), (0..40).filter(|name| !kept(name)).collect::<Vec<_>>());
    pairs[0].clear();
    drop(pairs);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(names(), (0..40).collect::<Vec<_>>());
}

fn tags_are_compared_and_not_held(reclaimer: Reclaimer) {
    let log = Log::default();
    let plain = log.boxed(0);
    let tagged = plain.map_addr(|address| address | 1);
    let cell = AtomicPtr::new(tagged);
    let mut hazard = reclaimer.hazard();
    assert_eq!(hazard.try_protect(plain, &cell).unwrap_err(), tagged);
    assert_eq!(hazard.try_protect(tagged, &cell).unwrap().as_ptr(), tagged);
    let held = hazard.protect(&cell);
    // SAFETY: held, and the tag is taken off.
    assert_eq!((held.as_ptr(), unsafe { held.as_ref() }.unwrap().name), (tagged, 0));
    cell.store(ptr::without_provenance_mut(1), Release);
    // SAFETY: from a Box, unlinked, retired once.
    unsafe { reclaimer.retire(plain) };
    reclaimer.synchronize(soon()).unwrap();
    assert!(log.names().is_empty());
    assert!(hazard.protect(&cell).is_null(), "a null with a tag");
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0]);
}

/// Boxes of no size have one address: a hazard there keeps the nodes, but no closure and no value.
fn without_size_only_nodes_are_kept(reclaimer: Reclaimer) {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    RUN.store(0, SeqCst);
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            RUN.fetch_add(1, SeqCst);
        }
    }
    let node = || Box::into_raw(Box::new(Value));
    let cell = AtomicPtr::new(node());
    let mut hazard = reclaimer.hazard();
    assert!(!hazard.protect(&cell).is_null());
    for _ in 0..100 {
        let old = cell.swap(node(), AcqRel);
        // SAFETY: from a Box, unlinked, retired once.
        unsafe { reclaimer.retire(old) };
        reclaimer.retire_value(Value);
        reclaimer.defer(|| {
            RUN.fetch_add(1, SeqCst);
        });
    }
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(RUN.load(SeqCst), 200, "all but the nodes");
    hazard.clear();
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(RUN.load(SeqCst), 300);
    // SAFETY: the last pointer, and nobody else has it.
    drop(unsafe { Box::from_raw(cell.into_inner()) });
}

fn from_a_guard_to_a_hazard(reclaimer: Reclaimer) {
    let log = Log::default();
    let mut hazard = reclaimer.hazard();
    for name in 0..3 {
        let cell = AtomicPtr::new(log.boxed(name));
        let ptr = match name {
            0 => {
                let guard = reclaimer.pin();
                hazard.keep(&guard, guard.protect(&cell)).as_ptr()
            }
            1 => {
                let guard = reclaimer.pin_robust();
                hazard.keep(&guard, guard.protect(&cell)).as_ptr()
            }
            _ => {
                let guard = reclaimer.pin_owned();
                hazard.keep(&guard, guard.protect(&cell)).as_ptr()
            }
        };
        // SAFETY: from a Box, unlinked (the cell is gone), retired once.
        unsafe { reclaimer.retire(ptr) };
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(log.names(), (0..name).collect::<Vec<_>>());
    }
    drop(hazard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [0, 1, 2]);
    let other = Reclaimer::builder().source(barrierd_reclaim::Source::Fence).build().unwrap();
    let refused = super::quietly::quietly(|| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            reclaimer.hazard().keep(&other.pin(), ptr::null_mut::<u8>()).is_null()
        }))
    });
    assert!(refused.is_err(), "a guard of another domain");
}

/// The bag of a thread that has exited is freed but for what is held; that stays behind, and goes
/// later.
fn what_exited_threads_left_is_kept_too(reclaimer: Reclaimer) {
    let log = Log::default();
    let cell = AtomicPtr::new(log.boxed(0));
    let mut hazard = reclaimer.hazard();
    let held = hazard.protect(&cell).as_ptr();
    let shared = AtomicPtr::new(held);
    for round in 0..2 {
        let thread = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if round == 0 {
                    // SAFETY: from a Box, nobody loads it from `cell` any more, retired once.
                    unsafe { reclaimer.retire(shared.load(Relaxed)) };
                }
                (1..10).for_each(|name| log.retire(&reclaimer, name));
                if round == 1 {
                    // In its own queue it was put aside before the thread exits.
                    reclaimer.flush();
                }
            });
            thread.join()
        });
        thread.unwrap();
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(log.names().len(), 9 * (round + 1), "{:?}", log.names());
        assert!(!log.names().contains(&0));
    }
    // A thread that holds one back in its own queue and exits with it.
    let second = AtomicPtr::new(log.boxed(100));
    let mut other = reclaimer.hazard();
    let ptr = AtomicPtr::new(other.protect(&second).as_ptr());
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: from a Box, nobody loads it from `second` any more, retired once.
            unsafe { reclaimer.retire(ptr.load(Relaxed)) };
            reclaimer.synchronize(soon()).unwrap();
        });
        thread.join().unwrap();
    });
    reclaimer.synchronize(soon()).unwrap();
    assert!(!log.names().contains(&100));
    drop(other);
    reclaimer.synchronize(soon()).unwrap();
    assert!(log.names().contains(&100) && !log.names().contains(&0));
    drop(hazard);
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names().last(), Some(&0));
    assert_eq!(reclaimer.stats().waiting(), 0);
}

fn what_is_held_is_freed_on_drop(reclaimer: Reclaimer) {
    let log = Log::default();
    let cell = AtomicPtr::new(log.boxed(0));
    let mut hazard = reclaimer.hazard();
    let ptr = hazard.protect(&cell).as_ptr();
    // SAFETY: from a Box, unlinked (nobody uses the cell again), retired once.
    unsafe { reclaimer.retire(ptr) };
    reclaimer.synchronize(soon()).unwrap();
    assert!(log.names().is_empty());
    // A hazard that is forgotten keeps its object until the domain goes.
    std::mem::forget(hazard);
    drop(reclaimer);
    assert_eq!(log.names(), [0]);
}

fn a_hazard_may_outlive_its_registration(reclaimer: Reclaimer) {
    thread_local! {
        static HELD: RefCell<Option<(Hazard<'static>, Option<barrierd_reclaim::Guard<'static>>)>> =
            const { RefCell::new(None) };
    }
    struct Late(&'static Reclaimer);
    impl Drop for Late {
        fn drop(&mut self) {
            // Made and dropped when there is no registration any more, or will not be.
            let [mut one, two] = self.0.hazards();
            drop(two);
            one.protect(&AtomicPtr::new(ptr::null_mut::<u8>()));
            drop(self.0.pin_robust());
        }
    }
    thread_local! {
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let reclaimer: &'static Reclaimer = Box::leak(Box::new(reclaimer));
    let log = Log::default();
    for name in 0..6 {
        let names = log.clone();
        let thread = thread::spawn(move || {
            let log = names;
            HELD.with_borrow(|_| ()); // first, so that it is destroyed last
            LATE.set(Some(Late(reclaimer)));
            let mut hazard = reclaimer.hazard();
            let cell = AtomicPtr::new(log.boxed(name));
            let ptr = hazard.protect(&cell).as_ptr();
            let guard = (name % 2 == 1).then(|| reclaimer.pin());
            HELD.set(Some((hazard, guard)));
            // SAFETY: from a Box, unlinked (the cell is gone), retired once.
            unsafe { reclaimer.retire(ptr) };
        });
        thread.join().unwrap();
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(log.names(), (0..=name).collect::<Vec<_>>());
    }
}

/// Garbage under a reader that stalls with a hazard: whatever is retired, one object stays. 2,000 is
/// the bound; a full second of it, watched all the time.
fn a_stalled_hazard_keeps_one_object(reclaimer: Reclaimer) {
    let log = Log::default();
    let cell = AtomicPtr::new(log.boxed(7));
    let (stalled, wait_stalled) = mpsc::channel();
    let (go, wait_go) = mpsc::channel::<()>();
    let (other, shared) = (&reclaimer, &cell);
    thread::scope(move |scope| {
        scope.spawn(move || {
            let mut hazard = other.hazard();
            let held = hazard.protect(shared);
            stalled.send(()).unwrap();
            let _ = wait_go.recv();
            // SAFETY: held.
            assert_eq!(unsafe { held.as_ref() }.unwrap().name, 7, "freed while held");
        });
        wait_stalled.recv().unwrap();
        // SAFETY: unlinked by the swap, retired once.
        unsafe { other.retire(shared.swap(ptr::null_mut(), AcqRel)) };
        let most = retire_for(other, Duration::from_millis(500), || {
            // SAFETY: fresh from a Box, retired once.
            unsafe { other.retire(Box::into_raw(Box::new(1u64))) };
        });
        let slow = cfg!(debug_assertions) || other.stats().source == DAEMON;
        assert!(slow || most <= 2_000, "{most} waiting, {:?}", other.stats());
        other.synchronize(soon()).unwrap();
        assert_eq!(other.stats().waiting(), 1, "the one that is held");
        drop(go);
    });
    reclaimer.synchronize(soon()).unwrap();
    assert_eq!(log.names(), [7]);
}

/// Its watermark comes by itself, milliseconds late; how many are retired in them is the writer's.
const DAEMON: barrierd_reclaim::ActiveSource = barrierd_reclaim::ActiveSource::Daemon;

/// Retires at full speed for a while; the most that ever waited, looked at every so often.
pub(super) fn retire_for(reclaimer: &Reclaimer, time: Duration, mut retire: impl FnMut()) -> u64 {
    // Threads start, allocators warm up.
    (0..50_000).for_each(|_| retire());
    let end = Instant::now() + time;
    let mut most = 0;
    while Instant::now() < end {
        (0..500).for_each(|_| retire());
        most = most.max(reclaimer.stats().waiting());
    }
    most
}

struct Node {
    name: AtomicU64,
    next: AtomicPtr<Node>,
}

impl Node {
    fn boxed(name: u64) -> *mut Node {
        let next = AtomicPtr::new(ptr::null_mut());
        Box::into_raw(Box::new(Node { name: AtomicU64::new(name), next }))
    }

    /// Reads the name again and again: it must not change, nor be poisoned.
    fn check(&self, times: usize) {
        let name = self.name.load(Relaxed);
        assert_ne!(name, POISON, "reached after it was freed");
        for _ in 0..times {
            let again = self.name.load(Relaxed);
            assert!(again != POISON && again == name, "freed while held");
        }
    }
}

static FREED: AtomicUsize = AtomicUsize::new(0);

/// Nodes are leaked, never deallocated, so that a reader that still holds one sees the poison.
unsafe fn poison(node: *mut Node) {
    // SAFETY: leaked by these tests.
    unsafe { &*node }.name.store(POISON, Relaxed);
    FREED.fetch_add(1, Relaxed);
}

const WRITES: u64 = 50_000;

fn all_are_freed(reclaimer: &Reclaimer, retired: usize) {
    let stop = soon();
    while FREED.load(Relaxed) < retired {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        reclaimer.synchronize(soon()).unwrap();
    }
    FREED.store(0, Relaxed);
}

fn no_hazard_sees_a_freed_node(reclaimer: Reclaimer) {
    let cells: [_; 4] = std::array::from_fn(|at| AtomicPtr::new(Node::boxed(at as u64)));
    let done = AtomicBool::new(false);
    let (cells, done, reclaimer) = (&cells, &done, &reclaimer);
    thread::scope(|scope| {
        for reader in 0..2 {
            scope.spawn(move || {
                let mut pair = reclaimer.hazards::<2>();
                let mut reads = 0;
                while !done.load(Relaxed) {
                    let at = reads + reader;
                    let [one, two] = &mut pair;
                    let one = one.protect(&cells[at % 4]);
                    let two = two.protect(&cells[(at + 1) % 4]);
                    for held in [one, two] {
                        // SAFETY: held.
                        unsafe { held.as_ref() }.unwrap().check((reads % 8) * 16);
                    }
                    reads += 1;
                }
            });
        }
        let writers = [0, 1].map(|writer| {
            scope.spawn(move || {
                for i in 0..WRITES {
                    let at = usize::try_from(i + writer).unwrap() % 4;
                    let old = cells[at].swap(Node::boxed(i), AcqRel);
                    // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
                    unsafe { reclaimer.retire_with(old, poison) };
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Relaxed);
    });
    all_are_freed(reclaimer, 2 * usize::try_from(WRITES).unwrap());
}

/// Hand over hand along a list whose first node is taken off and whose end grows. A node that is taken
/// off gets a mark in its `next`, so that nobody goes on from it.
fn no_walker_sees_a_freed_node(reclaimer: Reclaimer) {
    const MARK: usize = 1;
    let head = AtomicPtr::new(Node::boxed(0));
    let done = AtomicBool::new(false);
    let (head, done, reclaimer) = (&head, &done, &reclaimer);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                let [mut here, mut next] = reclaimer.hazards();
                let mut pair = reclaimer.hazard_pair();
                while !done.load(Relaxed) {
                    let mut at = pair.protect(head).as_ptr();
                    // SAFETY: `at` is what the call before returned, at each turn.
                    while let Some(node) = unsafe { at.as_ref() } {
                        node.check(8);
                        at = pair.protect(&node.next).as_ptr();
                        if at.addr() & MARK != 0 {
                            break;
                        }
                    }
                    let mut at = here.protect(head).as_ptr();
                    // SAFETY: `at` is held by `here`, at each turn.
                    while let Some(node) = unsafe { at.as_ref() } {
                        node.check(8);
                        let after = next.protect(&node.next).as_ptr();
                        if after.addr() & MARK != 0 {
                            break;
                        }
                        std::mem::swap(&mut here, &mut next);
                        at = after;
                    }
                }
            });
        }
        let mut last = head.load(Relaxed);
        for i in 1..=WRITES {
            let new = Node::boxed(i);
            // SAFETY: this thread alone takes nodes off, and the last one never.
            unsafe { &*last }.next.store(new, Release);
            last = new;
            if i >= 8 {
                let first = head.load(Relaxed);
                // SAFETY: as above.
                let next = unsafe { &*first }.next.load(Relaxed);
                head.store(next, Release);
                // SAFETY: as above.
                unsafe { &*first }.next.store(next.map_addr(|address| address | MARK), Release);
                // SAFETY: nothing leads to it any more, retired once; `poison` frees nothing.
                unsafe { reclaimer.retire_with(first, poison) };
            }
        }
        done.store(true, Relaxed);
    });
    all_are_freed(reclaimer, usize::try_from(WRITES).unwrap() - 7);
}

/// Readers move what they found under a guard to a hazard and end the section.
fn from_guards_to_hazards_under_stress(reclaimer: Reclaimer) {
    let cell = AtomicPtr::new(Node::boxed(0));
    let done = AtomicBool::new(false);
    let (cell, done, reclaimer) = (&cell, &done, &reclaimer);
    thread::scope(|scope| {
        for reader in 0..2 {
            scope.spawn(move || {
                let mut hazard = reclaimer.hazard();
                while !done.load(Relaxed) {
                    let held = if reader == 0 {
                        let guard = reclaimer.pin();
                        hazard.keep(&guard, guard.protect(cell))
                    } else {
                        let guard = reclaimer.pin_robust();
                        hazard.keep(&guard, guard.protect(cell))
                    };
                    // SAFETY: held.
                    unsafe { held.as_ref() }.unwrap().check(64);
                }
            });
        }
        for i in 0..WRITES {
            let old = cell.swap(Node::boxed(i), AcqRel);
            // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
            unsafe { reclaimer.retire_with(old, poison) };
        }
        done.store(true, Relaxed);
    });
    all_are_freed(reclaimer, usize::try_from(WRITES).unwrap());
}
