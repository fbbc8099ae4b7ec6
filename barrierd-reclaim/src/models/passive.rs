//! Barriers of the daemon (or bought ones: to the readers they are the same), and readers that fence.

use super::*;
use crate::protocol::scan;
use loom::sync::atomic::Ordering::Release;

/// The source of the scanner's evidence.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    /// The daemon's watermark.
    Daemon,
    /// The scanner's own stamp, against readers that fence.
    Fence,
    /// The clock, without waiting for anything.
    Nothing,
}

/// The choices of one exploration.
#[derive(Clone, Copy)]
struct Model {
    /// The reader's CPU is interrupted before this step of the reader, counted from 1.
    place: usize,
    /// The reader opens and closes this many sections; the scanner scans as often.
    sections: usize,
    source: Source,
    /// The daemon has a thread of its own; otherwise the scanner does its work first.
    daemon_apart: bool,
    /// Two readings of the clock in a row show the same.
    tied: bool,
    preemptions: usize,
}

struct Domain {
    world: World,
    reader: Reader,
    cpu: Arc<Cpu>,
    /// The daemon's public watermark.
    last_interrupt_ns: AtomicU64,
    /// The stamp, handed to the thread that scans, which frees after its scan. 0 is none yet. (A writer that
    /// frees has to be preempted at its last load, an execution that loom's bounded search does not find.)
    stamp: AtomicU64,
}

impl Domain {
    /// One daemon round: arm, check the reader's CPU once, publish.
    fn daemon(&self) {
        let armed = self.world.now();
        if self.cpu.has_passed(armed) {
            self.last_interrupt_ns.store(armed, Release);
        }
    }

    /// `Engine::scan`.
    fn scan(&self, source: Source) {
        let own = match source {
            Source::Fence => {
                self.world.words.fence_and_stamp(&self.world.floor, || self.world.now()).ns
            }
            _ => 0,
        };
        let watermark = || match source {
            Source::Daemon => {
                let watermark = self.last_interrupt_ns.load(Acquire);
                watermark + if broken(Mutant::StrictAsNotLess) { GRAIN } else { 0 }
            }
            Source::Fence => {
                fence(SeqCst);
                own
            }
            Source::Nothing => self.world.now(),
        };
        scan(&self.world.words, watermark, || core::iter::once(&self.reader));
    }
}

impl Model {
    fn new(place: usize, sections: usize) -> Model {
        Model {
            place,
            sections,
            source: Source::Daemon,
            daemon_apart: true,
            tied: false,
            preemptions: 3,
        }
    }

    fn explore(self) {
        explore(self.preemptions, move || self.execute());
    }

    fn is_rejected(self, mutant: Option<Mutant>) -> bool {
        is_rejected(mutant, || self.explore())
    }

    fn execute(self) {
        let Model { source, daemon_apart, .. } = self;
        let domain = Arc::new(Domain {
            world: World::on_a_clock_that_ties(1 + u64::from(self.tied)),
            reader: Reader::new(),
            cpu: Cpu::new(),
            last_interrupt_ns: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
        });

        let mut threads = Vec::new();
        let mut spawn = |work: fn(&Domain, Model)| {
            let domain = domain.clone();
            threads.push(thread::spawn(move || work(&domain, self)));
        };
        spawn(|domain, model| {
            interrupt_at(model.place, &domain.cpu);
            for _ in 0..model.sections {
                interrupt_here();
                domain.world.read(&domain.reader, model.source == Source::Fence);
            }
            interrupt_here();
        });
        if daemon_apart && source == Source::Daemon {
            spawn(|domain, _| domain.daemon());
        }
        spawn(|domain, model| {
            if !model.daemon_apart && model.source == Source::Daemon {
                domain.daemon();
            }
            // A pin may hold the first scan back and let the second through.
            for _ in 0..model.sections {
                domain.scan(model.source);
            }
            let stamp = domain.stamp.load(Acquire);
            if stamp != 0 {
                domain.world.free_if_safe(stamp);
            }
        });

        // The writer: unlink, stamp.
        domain.world.unlink();
        let stamp =
            domain.world.words.fence_and_stamp(&domain.world.floor, || domain.world.now()).ns;
        domain.stamp.store(stamp, Release);
        for thread in threads {
            thread.join().unwrap();
        }
        DUE.set(None);
    }
}

/// Steps of a reader in one section, counted from 1: before it, between stamp and slot, around the check
/// after the slot, after the load of the link, around the unpin; and after the last section.
const STEPS_A_SECTION: usize = 7;
/// The step between the load of the link and the access to the node.
const READING: usize = 5;

fn places(sections: usize) -> impl Iterator<Item = usize> {
    1..=sections * STEPS_A_SECTION + 1
}

/// Asserts that loom finds the use after free at one of the places at least.
fn rejects_it(mutant: Mutant) {
    rejects(mutant, places(1), |place| Model::new(place, 1).explore());
}

#[test]
fn one_section_is_never_freed_under() {
    places(1).for_each(|place| Model::new(place, 1).explore());
}

#[test]
fn two_sections_are_never_freed_under() {
    places(2).for_each(|place| Model { preemptions: 2, ..Model::new(place, 2) }.explore());
}

/// With readers that fence there is no interrupt: the place is never reached.
#[test]
fn fenced_sections_are_never_freed_under() {
    let fenced = Model { source: Source::Fence, ..Model::new(usize::MAX, 2) };
    fenced.explore();
    let fenced = Model { sections: 1, ..fenced };
    assert!(fenced.is_rejected(Some(Mutant::UnfencedReader)), "loom found no use after free");
    assert!(fenced.is_rejected(Some(Mutant::NoScan)), "loom found no use after free");
}

/// The model can free at all: without the reader's section in the way, and with it ended.
#[test]
fn the_model_does_free() {
    use std::sync::atomic::{AtomicBool as StdBool, Ordering::Relaxed as StdRelaxed};
    static FREED: StdBool = StdBool::new(false);
    loom::model(|| {
        let (words, reader) = (Words::new(), Reader::new());
        scan(&words, || (START + 1) * GRAIN, || core::iter::once(&reader));
        FREED.store(START * GRAIN < words.safe().ns, StdRelaxed);
    });
    assert!(FREED.load(StdRelaxed));
}

#[test]
fn mutant_no_wait() {
    let rejected =
        |place| Model { source: Source::Nothing, ..Model::new(place, 1) }.is_rejected(None);
    assert!(places(1).any(rejected), "loom found no use after free without waiting");
}

#[test]
fn mutant_no_scan() {
    rejects_it(Mutant::NoScan);
}

#[test]
fn mutant_relaxed_unpin() {
    rejects_it(Mutant::RelaxedUnpin);
}

#[test]
fn mutant_relaxed_pin() {
    // Needs a section that ends between two scans: more preemptions than every place can afford.
    let model = Model { preemptions: 5, daemon_apart: false, ..Model::new(READING, 2) };
    assert!(model.is_rejected(Some(Mutant::RelaxedPin)), "loom found no use after free");
}

#[test]
fn mutants_of_sections() {
    // After the pointer; between it and the slot; between the idle mark and the access.
    let explore_it = |place| Model::new(place, 1).explore();
    rejects(Mutant::LatestAfterPointer, 2..=4, explore_it);
    rejects(Mutant::SlotAfterLoads, 2..=2, explore_it);
    rejects(Mutant::IdleBeforeLastAccess, 5..=6, explore_it);
}

/// The daemon's time and a stamp may be equal, and then it is not known which came first.
#[test]
fn a_watermark_says_nothing_of_what_is_as_late() {
    let tied = |place| Model { tied: true, ..Model::new(place, 1) };
    // Before the section, between slot and pointer, before the access.
    [1, 3, READING].into_iter().for_each(|place| tied(place).explore());
    rejects(Mutant::StrictAsNotLess, 1..=1, |place| tied(place).explore());
}

#[test]
fn mutant_scan_before_watermark() {
    rejects_it(Mutant::ScanBeforeWatermark);
}

#[test]
fn mutant_relaxed_scan() {
    rejects_it(Mutant::RelaxedScan);
}

#[test]
fn mutant_unfenced_stamp() {
    rejects_it(Mutant::UnfencedStamp);
}
