//! Readers that sleep: `protocol/dormant.rs`'s own code under an owner that reads, a marker that waits for its CPU,
//! and a writer that retires, scans past sleepers and frees.

use super::*;
use crate::protocol::dormant::{Asleep, Holds, fall_asleep, mark};
use crate::protocol::holders::{HazardSlot, Holders, reclaimable};
use core::iter::{empty, once};
use core::ops::RangeInclusive;

/// What the owner of the reader does.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// This many sections.
    Sections(usize),
    /// It makes a hazard, and reads by that.
    Hazard,
    /// It takes the record of another thread, whose reader it was: takes a stamp, and reads.
    Inherited,
    /// A section; and the writer begins a round of its own, before it unlinks.
    TwoRounds,
}

impl Story {
    /// Before, between and after the owner's steps, counted from 1.
    fn places(self) -> RangeInclusive<usize> {
        match self {
            Story::Sections(n) => 1..=7 * n + 1,
            Story::Hazard | Story::Inherited => 1..=8,
            Story::TwoRounds => 1..=1,
        }
    }
}

/// The bed of the reader, and the node's address.
const BED: usize = 3;
const NODE: u64 = 8;

struct Domain {
    world: World,
    reader: Reader,
    hazard: HazardSlot,
    holds: Holds,
    asleep: Asleep,
    cpu: Arc<Cpu>,
    /// A round is under way.
    round: AtomicBool,
    /// The writer scans in two walks.
    twice: bool,
}

// The node was freed past a sleeper.
std::thread_local!(static FREED: Cell<bool> = const { Cell::new(false) });

impl Domain {
    fn stamp(&self) -> u64 {
        self.world.words.fence_and_stamp(&self.world.floor, || self.world.now()).ns
    }

    /// `Engine::wake`, after a check.
    fn go_on(&self, awake: bool) {
        if !awake {
            self.reader.sleep().wake(|| {
                self.asleep.clear(BED);
            });
        }
    }

    fn section(&self) {
        self.go_on(self.reader.open(&self.world.words));
        if self.world.linked.load(Acquire) {
            interrupt_here();
            self.world.use_node();
        }
        self.reader.unpin();
    }

    fn own(&self, story: Story) {
        interrupt_here();
        match story {
            Story::Sections(n) => (0..n).for_each(|_| self.section()),
            Story::Inherited => {
                self.reader
                    .fence_and_stamp(&self.world.words, &self.world.floor, || self.world.now());
                self.section();
            }
            // Two: the first may wake it between the marker's checks.
            Story::TwoRounds => (0..2).for_each(|_| self.section()),
            Story::Hazard => {
                self.go_on(self.holds.hazard(self.reader.sleep()));
                let find = || self.world.linked.load(Acquire);
                let address = |linked| if linked { NODE } else { 0 };
                if self.hazard.protect(true, address, find, false) == Ok(true) {
                    self.world.use_node();
                }
                self.hazard.clear();
                self.holds.no_hazard();
            }
        }
        interrupt_here();
    }

    /// Whether this thread may mark: one round at a time.
    fn begins(&self) -> bool {
        !self.round.swap(true, Acquire) || broken(Mutant::TwoRounds)
    }

    /// `Engine::mark_idle_readers`, then a barrier, then `Engine::put_to_sleep`.
    fn mark_and_wait(&self) {
        if !self.begins() {
            return;
        }
        mark(self.reader.sleep(), &self.asleep, BED);
        let stamp = self.stamp();
        if self.cpu.has_passed(stamp) || broken(Mutant::AsleepBeforeBarrier) {
            let nothing_open = || self.reader.idle_since().is_some() && !self.holds.any();
            fall_asleep(self.reader.sleep(), &self.asleep, BED, nothing_open);
        }
    }

    /// Retires the node, scans, and frees it if it is reclaimable.
    fn write(&self, story: Story) {
        if story == Story::TwoRounds && self.begins() {
            mark(self.reader.sleep(), &self.asleep, BED);
        }
        self.world.unlink();
        let own = self.stamp();
        // `Pool::awake`.
        let passed_over = Cell::new(false);
        let readers = || {
            passed_over.set(self.asleep.bits() >> BED & 1 == 1);
            once(&self.reader).filter(|_| !passed_over.get())
        };
        scan_by_walks(&self.world.words, own, self.twice, readers);
        let (safe, holders) =
            reclaimable(&self.world.words, || Holders::collect(empty, || once(&self.hazard)));
        if own < safe.ns && !holders.has_hazard(NODE) {
            if passed_over.get() {
                FREED.set(true);
            }
            self.world.free();
        }
    }
}

fn execute(story: Story, place: usize, twice: bool) {
    let domain = Arc::new(Domain {
        world: World::new(),
        reader: Reader::new(),
        hazard: HazardSlot::new(),
        holds: Holds::new(),
        asleep: Asleep::new(),
        cpu: Cpu::new(),
        round: AtomicBool::new(false),
        twice,
    });
    let own = domain.clone();
    let owner = thread::spawn(move || {
        interrupt_at(place, &own.cpu);
        own.own(story);
    });
    let marks = domain.clone();
    let marker = thread::spawn(move || marks.mark_and_wait());
    domain.write(story);
    owner.join().unwrap();
    marker.join().unwrap();
    DUE.set(None);
}

/// No violation at any place; and with one preemption more, where it falls asleep before the owner's first step, the
/// node is freed past a sleeper.
fn holds(story: Story, preemptions: usize) {
    for twice in [false, true] {
        story.places().for_each(|place| explore(preemptions, move || execute(story, place, twice)));
        FREED.set(false);
        explore(3, move || execute(story, BEFORE, twice));
        assert!(FREED.get(), "nothing was freed");
    }
}

/// The owner's CPU takes its barrier point before the step `place`.
fn finds(mutant: Mutant, story: Story, place: usize) {
    for twice in [false, true] {
        rejects(mutant, [place], |place| explore(3, move || execute(story, place, twice)));
    }
}

/// Before the owner's first step: it is asleep when it comes to that.
const BEFORE: usize = 1;
/// The place after a check that comes too early, before the store that should have come first: of a pin, of a hazard.
const BEHIND_LOOK: [usize; 2] = [4, 3];
#[test]
fn who_sleeps_needs_no_evidence() {
    holds(Story::Sections(1), 2);
}

#[test]
fn who_sleeps_wakes_and_sleeps_again() {
    holds(Story::Sections(2), 2);
}

#[test]
fn who_makes_a_hazard_wakes() {
    holds(Story::Hazard, 2);
}

#[test]
fn a_place_may_be_taken_with_its_mark() {
    holds(Story::Inherited, 2);
}

#[test]
fn one_round_at_a_time() {
    holds(Story::TwoRounds, 3);
    finds(Mutant::TwoRounds, Story::TwoRounds, BEFORE);
}

#[test]
fn mutant_look_before_pin() {
    finds(Mutant::CheckBeforePin, Story::Sections(1), BEHIND_LOOK[0]);
}

#[test]
fn mutant_asleep_before_barrier() {
    finds(Mutant::AsleepBeforeBarrier, Story::Sections(1), BEFORE);
}

#[test]
fn mutant_asleep_though_it_woke() {
    finds(Mutant::AsleepAnyway, Story::Sections(2), BEFORE);
}

#[test]
fn mutant_wakes_after_its_fence() {
    finds(Mutant::WakesAfterFence, Story::Sections(1), BEFORE);
}

#[test]
fn mutant_unfenced_stamp() {
    finds(Mutant::UnfencedStamp, Story::Sections(1), BEFORE);
}

#[test]
fn mutants_of_holders() {
    finds(Mutant::HolderAsleep, Story::Hazard, BEHIND_LOOK[1]);
    finds(Mutant::CheckBeforeHold, Story::Hazard, BEHIND_LOOK[1]);
}
