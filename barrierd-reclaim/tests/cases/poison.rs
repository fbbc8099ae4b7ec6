//! The crowd: readers that re-read a node's name while pinned, against nodes that are poisoned when they
//! are freed. Counting alone is nearly blind: a reclaimer that ignores pins would count right.

use super::soon;
use barrierd_reclaim::Reclaimer;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

pub(super) const POISON: u64 = u64::MAX;

/// A node whose memory stays readable after it is "freed", so that a reader that still holds it
/// sees the poison.
struct Node {
    name: AtomicU64,
}

unsafe fn poison(node: *mut Node) {
    // SAFETY: nodes are leaked by these tests, never deallocated.
    unsafe { &*node }.name.store(POISON, Relaxed);
}

fn fresh(name: u64) -> *mut Node {
    Box::into_raw(Box::new(Node { name: AtomicU64::new(name) }))
}

/// Some cells, each with a node.
pub(super) struct Crowd<'r> {
    reclaimer: &'r Reclaimer,
    cells: [AtomicPtr<Node>; 4],
    names: AtomicU64,
    done: AtomicBool,
}

impl<'r> Crowd<'r> {
    pub(super) fn new(reclaimer: &'r Reclaimer) -> Crowd<'r> {
        let cells = core::array::from_fn(|i| AtomicPtr::new(fresh(i as u64)));
        Crowd { reclaimer, cells, names: AtomicU64::new(4), done: AtomicBool::new(false) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Relaxed)
    }

    /// Another node for the cell of that number; the old one is retired.
    pub(super) fn replace(&self, cell: usize) {
        let new = fresh(self.names.fetch_add(1, Relaxed));
        let old = self.cells[cell % 4].swap(new, AcqRel);
        // SAFETY: unlinked by the swap, retired once; `poison` frees nothing.
        unsafe { self.reclaimer.retire_with(old, poison) };
    }

    /// Reads until all is done, each node up to seven times `looks`, and calls `pause` in between with the
    /// number of reads so far. The first read is done before `start`: after that, all may be over before this thread
    /// has a CPU again.
    fn read(&self, reader: usize, looks: usize, start: &Barrier, pause: impl Fn(usize)) {
        let mut reads = 0usize;
        loop {
            let guard = self.reclaimer.pin();
            // SAFETY: protected while the guard lives.
            let node = unsafe { &*guard.protect(&self.cells[(reads + reader) % 4]) };
            let name = node.name.load(Relaxed);
            assert_ne!(name, POISON, "reached after it was freed");
            for _ in 0..(reads % 8) * looks {
                assert_eq!(node.name.load(Relaxed), name, "freed while pinned");
            }
            drop(guard);
            reads += 1;
            if reads == 1 {
                start.wait();
            }
            if self.is_done() {
                break;
            }
            pause(reads);
        }
    }

    /// Two readers, as long as `work` runs on this thread. A reader's panic comes out here.
    pub(super) fn among_readers(
        &self,
        looks: usize,
        pause: impl Fn(usize) + Copy + Send,
        work: impl FnOnce(),
    ) {
        struct Done<'d>(&'d AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let start = &Barrier::new(3);
        thread::scope(|scope| {
            let _done = Done(&self.done);
            for reader in 0..2 {
                scope.spawn(move || {
                    // A reader that fails ends it for all.
                    let _done = Done(&self.done);
                    self.read(reader, looks, start, pause);
                });
            }
            start.wait();
            work();
        });
    }
}

/// Two writers as fast as they can.
pub(super) fn no_reader_sees_a_freed_node(reclaimer: Reclaimer) {
    const WRITES: usize = 60_000;
    let crowd = Crowd::new(&reclaimer);
    crowd.among_readers(
        16,
        |_| (),
        || {
            thread::scope(|scope| {
                for writer in 0..2 {
                    let crowd = &crowd;
                    scope.spawn(move || (0..WRITES).for_each(|i| crowd.replace(i + writer)));
                }
            });
        },
    );
    let stop = soon();
    while reclaimer.stats().freed < 2 * WRITES as u64 {
        assert!(Instant::now() < stop, "{:?}", reclaimer.stats());
        reclaimer.synchronize(soon()).unwrap();
    }
}

/// The crowd and two writers, one of them pausing, while `during` runs. Everything that was retired is
/// freed within `soon` afterwards.
#[allow(dead_code, reason = "not every test program breaks things under load")]
pub(crate) fn under_load(reclaimer: &Reclaimer, during: impl FnOnce()) {
    let crowd = Crowd::new(reclaimer);
    let rest = |reads: usize| {
        if reads % 4096 == 0 {
            thread::sleep(Duration::from_micros(200));
        }
    };
    thread::scope(|scope| {
        crowd.among_readers(64, rest, || {
            for (writer, pause) in [100, 12_000].into_iter().enumerate() {
                let crowd = &crowd;
                scope.spawn(move || {
                    for n in (0usize..).take_while(|_| !crowd.is_done()) {
                        crowd.replace(n + writer);
                        if n % 32 == 31 {
                            thread::sleep(Duration::from_micros(pause));
                        }
                    }
                });
            }
            during();
        });
    });
    let stop = soon();
    while reclaimer.stats().waiting() > 0 {
        assert!(Instant::now() < stop, "{:?} {:?}", reclaimer.status(), reclaimer.stats());
        thread::sleep(Duration::from_millis(5));
    }
}
