//! A queue that is taken over while its owner pushes: `bag/mod.rs`'s own code on both sides.
//!
//! The owner's CPU takes its barrier point at a chosen place; loom watches what one owner at a time
//! may touch ([`crate::sync::Owned`]).

use super::*;
use crate::bag::{BAG_ITEMS, Bags, Item, Refused, Work};
use crate::protocol::VtimeWord;
use core::iter::once;
use core::ptr;
use loom::sync::atomic::Ordering::Release;

unsafe fn nothing(_: *mut ()) {}

fn item(n: usize) -> Item {
    Item::new(ptr::without_provenance_mut(n), nothing)
}

/// The evidence that stands for a barrier of the owner's CPU.
#[derive(Clone, Copy, PartialEq)]
enum Evidence {
    Barrier,
    /// The owner's slot shows a stamp that was taken after the mark.
    Shown,
}

struct Domain {
    world: World,
    cpu: Arc<Cpu>,
    bags: *mut Bags,
    evidence: Evidence,
    /// The owner's.
    reader: Reader,
    /// Another thread's scan: what it found safe.
    scanned: AtomicU64,
}

// SAFETY: the model checks that the queue has one owner at a time.
unsafe impl Sync for Domain {}
// SAFETY: as above.
unsafe impl Send for Domain {}

impl Domain {
    fn queue(&self) -> &Bags {
        // SAFETY: owner and taker touch it before each leaves it, once.
        unsafe { &*self.bags }
    }

    /// Does what `Domain::retire` does with the queue. Returns whether the item was pushed.
    fn push(&self, n: usize) -> bool {
        // SAFETY: this thread owns the queue, or it was just taken from it.
        let pushed = unsafe { self.queue().push(item(n), 8, true) };
        match pushed {
            Ok(_) => true,
            Err(Refused::Taken) => false,
            // SAFETY: as above.
            Err(Refused::Closed) => unsafe {
                let work = |work: &mut Work<'_>| {
                    work.set_step(BAG_ITEMS / 2);
                    work.push(item(n), 8);
                };
                self.queue().own(false, work).is_ok()
            },
        }
    }

    /// The same, and a section after it.
    fn push_and_pin(&self, n: usize) -> bool {
        let pushed = self.push(n);
        if self.evidence == Evidence::Shown {
            self.reader.pin(&self.world.words);
            self.reader.unpin();
        }
        pushed
    }

    /// The taker's half. Returns what it found, if the queue became its own.
    fn take(&self) -> Option<Vec<usize>> {
        let stamp = || self.world.words.fence_and_stamp(&self.world.floor, || self.world.now()).ns;
        let early = broken(Mutant::StampBeforeCheck).then(stamp);
        self.queue().mark_taken();
        let passed = if self.evidence == Evidence::Shown {
            let at = stamp();
            walk(at, once(&self.reader)).collected > at
        } else {
            self.cpu.has_passed(self.world.now())
        };
        if !passed && !broken(Mutant::TakeoverWithoutBarrier) {
            return None;
        }
        if !self.queue().is_quiet() {
            return None;
        }
        let ns = early.unwrap_or_else(stamp);
        // SAFETY: marked, its barrier has passed, quiet.
        let bags = unsafe { self.queue().take_over(ns) };
        let names: Vec<usize> = bags.into_bags().flatten().map(|item| item.ptr().addr()).collect();
        if !names.is_empty() && ns < self.scanned.load(Acquire) {
            self.world.free();
        }
        Some(names)
    }
}

std::thread_local!(static TOOK: Cell<usize> = const { Cell::new(0) });

/// The owner pushes `pushes` items, the first of which is the world's node, unlinked just before.
fn execute(place: usize, evidence: Evidence, pushes: usize, reads: bool) {
    let domain = Arc::new(Domain {
        world: World::new(),
        cpu: Cpu::new(),
        bags: Box::into_raw(Box::new(Bags::new(VtimeWord::none()))),
        evidence,
        reader: Reader::new(),
        scanned: AtomicU64::new(0),
    });
    let owner = domain.clone();
    let owner = thread::spawn(move || {
        interrupt_at(place, &owner.cpu);
        interrupt_here();
        owner.world.unlink();
        let pushed: Vec<usize> =
            (0..pushes).filter(|&n| owner.push_and_pin(n + 1)).map(|n| n + 1).collect();
        interrupt_here();
        pushed
    });
    let reader = reads.then(|| {
        // A scan that found no reader pinned, at its time; and a reader that came after it.
        let domain = domain.clone();
        thread::spawn(move || {
            let now = domain.world.now();
            // The barrier of the reader's CPU for that time.
            fence(SeqCst);
            domain.scanned.store(now, Release);
            if domain.world.linked.load(Acquire) {
                domain.world.use_node();
            }
        })
    });
    let taken = domain.take();
    let pushed = owner.join().unwrap();
    if let Some(reader) = reader {
        reader.join().unwrap();
    }
    DUE.set(None);
    if let Some(taken) = taken {
        TOOK.set(TOOK.get() + 1);
        assert_eq!(taken, pushed, "an item was lost or came twice");
    }
    // SAFETY: both threads are done with it.
    drop(unsafe { Box::from_raw(domain.bags) });
}

/// Before the unlink; four in the first push, of the slow path; three or four in the second.
const PLACES: core::ops::RangeInclusive<usize> = 1..=10;

fn model(place: usize) {
    explore(3, move || execute(place, Evidence::Barrier, 2, false));
}

/// With a thread that reads the node.
fn model_read(place: usize) {
    explore(3, move || execute(place, Evidence::Barrier, 1, true));
}

#[test]
fn a_queue_has_one_owner() {
    PLACES.for_each(model);
}

#[test]
fn what_is_taken_over_is_stamped_after_its_unlink() {
    PLACES.for_each(model_read);
}

/// No CPU takes an interrupt.
fn model_shown(_: usize) {
    explore(3, || execute(usize::MAX, Evidence::Shown, 2, false));
    explore(3, || execute(usize::MAX, Evidence::Shown, 1, true));
}

/// The stamp that an owner shows is as good as a barrier for its own queue: what it pushed before it loaded the stamp
/// is seen by a thread that finds that stamp in the slot, and what it pushes after that finds the mark. The crate
/// does not use it: an owner need not pin, and a reader that scans pass over because it sleeps may push.
#[test]
fn what_an_owner_shows_is_a_barrier_for_its_queue() {
    TOOK.set(0);
    model_shown(0);
    assert!(TOOK.get() > 0, "nothing was taken");
    rejects(Mutant::IdleNeedsNothing, 0..1, model_shown);
}

#[test]
fn mutants() {
    rejects(Mutant::TakeoverWithoutBarrier, PLACES, model);
    rejects(Mutant::LimitBeforeBusy, PLACES, model);
    rejects(Mutant::RelaxedQuiet, PLACES, model);
    rejects(Mutant::LimitByStore, PLACES, model);
}

#[test]
fn mutant_stamp_before_look() {
    rejects(Mutant::StampBeforeCheck, PLACES, model_read);
}
