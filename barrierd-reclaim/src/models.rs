//! Loom models of the reader protocol, and the broken twins that loom must reject.
//!
//! Run: `RUSTFLAGS="--cfg loom" cargo test -p barrierd-reclaim --release --lib models`.
//!
//! Four threads run [`crate::protocol`]'s own code: a reader, a writer that retires and later
//! frees, the daemon, and a scanner (apart from the writer, since loom's SeqCst fences join one
//! global clock and would hide a missing Acquire).
//!
//! Loom has no interrupts. So the reader's CPU takes its barrier point at a chosen place between
//! two of the reader's steps, one model for each place. The logical clock is a Relaxed `fetch_add`:
//! a total order that synchronises nothing. The light barrier is nothing at all.

use crate::protocol::{Evidence, ScanMemory, Slot, Words, scan, stamp};
use crate::sync::Twin;
use core::cell::{Cell, RefCell};
use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicBool, AtomicU64, fence};
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

std::thread_local! {
    // Loom runs a model's threads on one OS thread, so this reaches them all.
    static BROKEN: Cell<Option<Twin>> = const { Cell::new(None) };
    static READER: RefCell<Option<Reader>> = const { RefCell::new(None) };
}

/// Whether the code under test is to be broken in this way.
pub(crate) fn broken(twin: Twin) -> bool {
    BROKEN.get() == Some(twin)
}

/// The reader's thread, its place in its own steps, and its CPU.
struct Reader {
    thread: thread::ThreadId,
    steps_left: usize,
    cpu: Arc<Cpu>,
}

/// Called by the protocol between two steps.
pub(crate) fn interrupt_here() {
    let due = READER.with_borrow_mut(|reader| {
        let reader = reader.as_mut().filter(|reader| reader.thread == thread::current().id())?;
        if reader.steps_left == 0 {
            return None;
        }
        reader.steps_left -= 1;
        (reader.steps_left == 0).then(|| reader.cpu.clone())
    });
    if let Some(cpu) = due {
        cpu.interrupt();
    }
}

/// What the daemon and one CPU share: `armed`, and the CPU's slot in the BPF map.
struct Cpu {
    armed: AtomicU64,
    passed: AtomicU64,
}

impl Cpu {
    /// bpf/barrierd.bpf.c: load `armed`, then one fully ordered exchange.
    fn interrupt(&self) {
        let armed = self.armed.load(Relaxed);
        fence(SEQ_CST);
        self.passed.store(armed, Relaxed);
        fence(SEQ_CST);
    }
}

const SEQ_CST: loom::sync::atomic::Ordering = loom::sync::atomic::Ordering::SeqCst;

const ALIVE: u32 = 7;
const POISON: u32 = 0xdead;

struct World {
    words: Words,
    slot: Slot,
    cpu: Arc<Cpu>,
    clock: AtomicU64,
    /// The daemon's public watermark.
    last_interrupt_ns: AtomicU64,
    linked: AtomicBool,
    node: UnsafeCell<u32>,
}

impl World {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Relaxed)
    }

    /// A section that may find the node.
    fn read(&self, source: Source) {
        if source == Source::Fence {
            self.slot.pin_fenced(&self.words);
        } else {
            self.slot.pin(&self.words);
        }
        if self.linked.load(Acquire) {
            interrupt_here();
            // SAFETY: what the model checks: loom rejects an access that is not ordered with
            // the free.
            let seen = self.node.with(|node| unsafe { *node });
            assert_eq!(seen, ALIVE, "read after free");
        }
        self.slot.unpin();
    }

    /// One daemon round: arm, look at the reader's CPU once, publish.
    fn daemon(&self) {
        let armed = self.now();
        fence(SEQ_CST);
        self.cpu.armed.store(armed, Relaxed);
        fence(SEQ_CST);
        if self.cpu.passed.load(Acquire) == armed {
            self.last_interrupt_ns.store(armed, Release);
        }
    }

    fn scan(&self, memory: &mut ScanMemory, source: Source) {
        let evidence = || {
            let ns = match source {
                Source::Daemon => self.last_interrupt_ns.load(Acquire),
                Source::Fence => {
                    let now = self.now();
                    fence(SEQ_CST);
                    now
                }
                Source::Nothing => self.now(),
            };
            Some(Evidence { ns, vtime: 0 })
        };
        scan(&self.words, memory, evidence, || core::iter::once(&self.slot));
    }
}

/// The time before which nothing happens: below every stamp, above "no watermark yet".
const START: u64 = 10;

/// Where the scanner's evidence comes from.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// The daemon's watermark.
    Daemon,
    /// The clock and a fence, against readers that fence.
    Fence,
    /// The clock, without waiting for anything.
    Nothing,
}

/// What one exploration covers.
#[derive(Clone, Copy)]
struct Model {
    /// The reader's CPU is interrupted before this step of the reader, counted from 1.
    place: usize,
    /// The reader opens and closes this many sections; the scanner scans as often.
    sections: usize,
    source: Source,
    /// The daemon has a thread of its own; otherwise the scanner does its work first.
    daemon_apart: bool,
    preemptions: usize,
}

impl Model {
    fn new(place: usize, sections: usize) -> Model {
        Model { place, sections, source: Source::Daemon, daemon_apart: true, preemptions: 3 }
    }

    fn explore(self) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        builder.check(move || self.execute());
    }

    fn is_rejected(self, twin: Option<Twin>) -> bool {
        BROKEN.set(twin);
        let rejected = catch_unwind(AssertUnwindSafe(|| self.explore())).is_err();
        BROKEN.set(None);
        READER.set(None);
        rejected
    }

    fn execute(self) {
        let Model { source, daemon_apart, .. } = self;
        let cpu = Arc::new(Cpu { armed: AtomicU64::new(0), passed: AtomicU64::new(0) });
        let world = Arc::new(World {
            words: Words::new(),
            slot: Slot::new(),
            cpu: cpu.clone(),
            clock: AtomicU64::new(START),
            last_interrupt_ns: AtomicU64::new(0),
            linked: AtomicBool::new(true),
            node: UnsafeCell::new(ALIVE),
        });

        let mut threads = Vec::new();
        let mut spawn = |work: fn(&World, Model), model| {
            let world = world.clone();
            threads.push(thread::spawn(move || work(&world, model)));
        };
        spawn(
            |world, model| {
                READER.set(Some(Reader {
                    thread: thread::current().id(),
                    steps_left: model.place,
                    cpu: world.cpu.clone(),
                }));
                for _ in 0..model.sections {
                    interrupt_here();
                    world.read(model.source);
                }
                interrupt_here();
            },
            self,
        );
        if daemon_apart && source == Source::Daemon {
            spawn(|world, _| world.daemon(), self);
        }
        spawn(
            |world, model| {
                if !model.daemon_apart && model.source == Source::Daemon {
                    world.daemon();
                }
                // A pin may hold the first scan back and let the second through.
                let mut memory = ScanMemory::default();
                for _ in 0..model.sections {
                    world.scan(&mut memory, model.source);
                }
            },
            self,
        );

        // The writer: unlink, stamp, and free if it may.
        world.linked.store(false, Relaxed);
        let stamped = stamp(|| world.now());
        if stamped < world.words.safe().ns {
            // SAFETY: what the model checks.
            world.node.with_mut(|node| unsafe { *node = POISON });
        }
        for thread in threads {
            thread.join().unwrap();
        }
        READER.set(None);
    }
}

/// Steps of a reader in one section, counted from 1: before it, between era and slot, after the
/// slot, after the load of the link, around the unpin; and after the last section.
const STEPS_A_SECTION: usize = 6;
/// The step between the load of the link and the access to the node.
const READING: usize = 4;

fn places(sections: usize) -> impl Iterator<Item = usize> {
    1..=sections * STEPS_A_SECTION + 1
}

/// Loom finds the use after free at one of the places at least.
fn rejects(twin: Twin) {
    assert!(
        places(1).any(|place| Model::new(place, 1).is_rejected(Some(twin))),
        "loom found no use after free with {twin:?}"
    );
}

#[test]
fn one_section_is_never_freed_under() {
    places(1).for_each(|place| Model::new(place, 1).explore());
}

#[test]
fn two_sections_are_never_freed_under() {
    places(2).for_each(|place| Model::new(place, 2).explore());
}

/// With readers that fence there is no interrupt: the place is never reached.
#[test]
fn fenced_sections_are_never_freed_under() {
    let fenced = Model { source: Source::Fence, ..Model::new(usize::MAX, 2) };
    fenced.explore();
    let fenced = Model { sections: 1, ..fenced };
    assert!(fenced.is_rejected(Some(Twin::UnfencedReader)), "loom found no use after free");
    assert!(fenced.is_rejected(Some(Twin::NoScan)), "loom found no use after free");
}

/// The model can free at all: without the reader's section in the way, and with it ended.
#[test]
fn the_model_does_free() {
    use std::sync::atomic::{AtomicBool as StdBool, Ordering::Relaxed as StdRelaxed};
    static FREED: StdBool = StdBool::new(false);
    loom::model(|| {
        let words = Words::new();
        let slot = Slot::new();
        let mut memory = ScanMemory::default();
        scan(
            &words,
            &mut memory,
            || Some(Evidence { ns: START + 1, vtime: 0 }),
            || core::iter::once(&slot),
        );
        FREED.store(START < words.safe().ns, StdRelaxed);
    });
    assert!(FREED.load(StdRelaxed));
}

#[test]
fn twin_no_wait() {
    let rejected =
        |place| Model { source: Source::Nothing, ..Model::new(place, 1) }.is_rejected(None);
    assert!(places(1).any(rejected), "loom found no use after free without waiting");
}

#[test]
fn twin_no_scan() {
    rejects(Twin::NoScan);
}

#[test]
fn twin_era_zero() {
    rejects(Twin::EraZero);
}

#[test]
fn twin_relaxed_unpin() {
    rejects(Twin::RelaxedUnpin);
}

#[test]
fn twin_relaxed_pin() {
    // Needs a section that ends between two scans: more preemptions than every place can afford.
    let model = Model { preemptions: 5, daemon_apart: false, ..Model::new(READING, 2) };
    model.explore();
    assert!(model.is_rejected(Some(Twin::RelaxedPin)), "loom found no use after free");
}

#[test]
fn twin_scan_before_watermark() {
    rejects(Twin::ScanBeforeWatermark);
}

#[test]
fn twin_relaxed_scan() {
    rejects(Twin::RelaxedScan);
}

#[test]
fn twin_unfenced_stamp() {
    rejects(Twin::UnfencedStamp);
}
