//! Loom models of the protocol, and the mutants that loom must reject.
//!
//! Run: `make loom`. Loom runs [`crate::protocol`]'s, [`crate::protocol::holders`]', [`crate::bag`]'s,
//! [`crate::bag::inbox`]'s and [`crate::background::parker`]'s own code; a model adds the callers, the data structure,
//! and where barriers come from.
//!
//! Loom has no interrupts. So a thread's CPU takes its barrier point at a chosen place between two
//! of the thread's steps, one model for each place. The logical clock is a Relaxed `fetch_add`: a
//! total order that synchronises nothing. The light barrier is nothing at all. Threads that retire,
//! scan and stand for the daemon are apart, since loom's SeqCst fences join one global clock and
//! would hide a missing Acquire.
//!
//! What loom can't show, loads that overtake stores under any number of interrupts, is shown by the
//! x86-TSO machine in `tests/tso`.

mod bought;
mod collected;
mod dormant;
mod holders;
mod inbox;
mod parker;
mod passive;
mod takeover;
mod vtime;

use crate::protocol::{GRAIN, Learned, Reader, Words, scan, walk};
use crate::search::{self, explore};
use crate::sync::Mutant;
use core::cell::{Cell, RefCell};
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::thread;
use std::sync::Arc;

std::thread_local! {
    // Loom runs a model's threads on one OS thread, so this reaches them all.
    static BROKEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    static DUE: RefCell<Option<Due>> = const { RefCell::new(None) };
}

/// Returns whether the code under test is to be broken in this way.
pub(crate) fn broken(mutant: Mutant) -> bool {
    BROKEN.get() == Some(mutant)
}

/// A thread, how many of its steps are left until its CPU takes an interrupt, and that CPU.
struct Due {
    thread: thread::ThreadId,
    steps_left: usize,
    cpu: Arc<Cpu>,
}

/// The calling thread's CPU takes an interrupt before its step `place`, counted from 1.
fn interrupt_at(place: usize, cpu: &Arc<Cpu>) {
    let thread = thread::current().id();
    DUE.set(Some(Due { thread, steps_left: place, cpu: cpu.clone() }));
}

/// Called by the protocol between two steps.
pub(crate) fn interrupt_here() {
    let due = DUE.with_borrow_mut(|due| {
        let due = due.as_mut().filter(|due| due.thread == thread::current().id())?;
        if due.steps_left == 0 {
            return None;
        }
        due.steps_left -= 1;
        (due.steps_left == 0).then(|| due.cpu.clone())
    });
    if let Some(cpu) = due {
        cpu.interrupt();
    }
}

/// The words that a thread which waits for a barrier shares with one CPU: `armed`, and the CPU's slot.
struct Cpu {
    armed: AtomicU64,
    passed: AtomicU64,
}

impl Cpu {
    fn new() -> Arc<Cpu> {
        Arc::new(Cpu { armed: AtomicU64::new(0), passed: AtomicU64::new(0) })
    }

    /// bpf/shared.bpf.h: load `armed`, then one fully ordered exchange.
    fn interrupt(&self) {
        let armed = self.armed.load(Relaxed);
        fence(SeqCst);
        self.passed.store(armed, Relaxed);
        fence(SeqCst);
    }

    /// Arms, and checks once whether the CPU has passed.
    fn has_passed(&self, time: u64) -> bool {
        fence(SeqCst);
        self.armed.store(time, Relaxed);
        fence(SeqCst);
        self.passed.load(Acquire) == time
    }
}

const ALIVE: u32 = 7;
const POISON: u32 = 0xdead;

/// The time before which nothing happens: below every stamp, above "no watermark yet".
const START: u64 = 10;

/// The domain's words, one node and the link to it, and the clock.
struct World {
    words: Words,
    /// What barriers are bought for.
    floor: AtomicU64,
    clock: AtomicU64,
    /// So many readings of it in a row show the same.
    ties: u64,
    linked: AtomicBool,
    node: UnsafeCell<u32>,
}

impl World {
    fn new() -> World {
        World::on_a_clock_that_ties(1)
    }

    fn on_a_clock_that_ties(ties: u64) -> World {
        World {
            words: Words::new(),
            floor: AtomicU64::new(0),
            clock: AtomicU64::new(START * ties),
            ties,
            linked: AtomicBool::new(true),
            node: UnsafeCell::new(ALIVE),
        }
    }

    /// Every reading is another time, unless the clock shows the same time twice.
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed) / self.ties * GRAIN
    }

    /// A section that may find the node.
    fn read(&self, reader: &Reader, fenced: bool) {
        let found = self.pin(reader, fenced);
        let early = broken(Mutant::IdleBeforeLastAccess);
        if early {
            reader.unpin();
        }
        if found {
            interrupt_here();
            self.use_node();
        }
        if !early {
            reader.unpin();
        }
    }

    /// Opens a section and looks for the node. Returns whether it is there.
    fn pin(&self, reader: &Reader, fenced: bool) -> bool {
        let find = || self.linked.load(Acquire);
        if broken(Mutant::LatestAfterPointer) {
            let found = find();
            reader.pin(&self.words);
            return found;
        }
        if broken(Mutant::SlotAfterLoads) {
            let stamp = self.words.latest();
            let found = find();
            interrupt_here();
            reader.show(stamp);
            return found;
        }
        if fenced {
            reader.sleep().fence_always();
        }
        reader.pin(&self.words);
        find()
    }

    fn use_node(&self) {
        // SAFETY: the model checks it: loom rejects an access that is not ordered with the free.
        let seen = self.node.with(|node| unsafe { *node });
        assert_eq!(seen, ALIVE, "read after free");
    }

    fn unlink(&self) {
        self.linked.store(false, Relaxed);
    }

    /// Frees what was stamped `ns`, if it is reclaimable.
    fn free_if_safe(&self, ns: u64) -> bool {
        let safe = ns < self.words.safe().ns;
        if safe {
            self.free();
        }
        safe
    }

    fn free(&self) {
        // SAFETY: the model checks it.
        self.node.with_mut(|node| unsafe { *node = POISON });
    }
}

/// `Engine::scan`, by what the readers show alone, to a thread with the stamp `own`: in one walk; or in two, as after a
/// purchase.
fn scan_by_walks<'r, R>(words: &Words, own: u64, twice: bool, readers: impl Fn() -> R)
where
    R: Iterator<Item = &'r Reader>,
{
    let learn = || {
        let walk = walk(own, readers());
        Learned { watermark: walk.collected, walk: (!twice).then_some(walk) }
    };
    scan(words, learn, &readers);
}

/// Returns whether `exploration` finds a violation with the code broken in this way.
fn is_rejected(mutant: Option<Mutant>, exploration: impl FnOnce()) -> bool {
    let rejected = search::is_rejected(&BROKEN, mutant, exploration);
    DUE.set(None);
    rejected
}

/// Asserts that loom finds a violation at one of the places at least.
fn rejects(mutant: Mutant, places: impl IntoIterator<Item = usize>, explore: impl Fn(usize)) {
    let found = places.into_iter().any(|place| is_rejected(Some(mutant), || explore(place)));
    assert!(found, "loom found no violation with {mutant:?}");
}
