//! Hazards and intervals: `protocol/holders.rs`'s own code under a reader, and a scanner that reclaims.

use super::*;
use crate::protocol::Safe;
use crate::protocol::holders::{HazardSlot, Holders, Interval, birth, reclaimable};
use core::iter::once;
use loom::sync::Mutex;
use loom::sync::atomic::Ordering::Release;

/// What the reader does. Each counts its steps: the places where its CPU may be interrupted.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// By a hazard, this many times.
    Hazard(usize),
    /// Found in a section, moved to a hazard.
    FromSection,
    /// Found in an interval, moved to a hazard.
    FromInterval,
    /// Found in an interval; born, published and retired while it may be open.
    Interval,
    /// Found in a section, then in an interval that shows the stamp it has seen: the evidence.
    Shown,
}

impl Story {
    /// Before, between and after the reader's steps, counted from 1.
    fn places(self) -> core::ops::RangeInclusive<usize> {
        match self {
            Story::Hazard(times) => 1..=times * 4 + 2,
            Story::FromSection => 1..=9,
            Story::FromInterval => 1..=8,
            Story::Interval => 1..=9,
            // No CPU is interrupted.
            Story::Shown => usize::MAX..=usize::MAX,
        }
    }
}

#[derive(Clone, Copy)]
struct Model {
    story: Story,
    /// Readers fence, and no CPU is interrupted.
    fenced: bool,
    /// The reclaiming side has a thread of its own, beside the one that scans.
    apart: bool,
    /// That thread does not scan the holders itself: it takes the result of the thread that scans, with its `safe`.
    shared: bool,
    preemptions: usize,
}

/// The node's address.
const NODE: u64 = 8;

struct Domain {
    world: World,
    reader: Reader,
    hazard: HazardSlot,
    interval: Interval,
    cpu: Arc<Cpu>,
    born: AtomicU64,
    /// The writer's stamp, handed to the thread that reclaims: 0 is none yet.
    stamp: AtomicU64,
    /// The last scan of the holders by the thread that scans.
    found: Mutex<Option<Arc<(Safe, Holders)>>>,
}

std::thread_local!(static FREED: Cell<bool> = const { Cell::new(false) });

impl Domain {
    fn find(&self) -> bool {
        self.world.linked.load(Acquire)
    }

    fn read(&self, Model { story, fenced, .. }: Model) {
        let (words, world) = (&self.world.words, &self.world);
        interrupt_here();
        match story {
            Story::Hazard(times) => {
                for _ in 0..times {
                    let seen = world.linked.load(Relaxed);
                    interrupt_here();
                    let address = |linked| if linked { NODE } else { 0 };
                    if self.hazard.protect(seen, address, || self.find(), fenced) == Ok(true) {
                        world.use_node();
                    }
                    self.hazard.clear();
                }
            }
            Story::FromSection => {
                self.reader.pin(words);
                let found = self.find();
                interrupt_here();
                self.hazard.hold(NODE);
                self.reader.unpin();
                self.use_held(found);
            }
            Story::FromInterval => {
                self.interval.open(words, fenced);
                let found = self.interval.protect(words, || self.find(), fenced);
                interrupt_here();
                self.hazard.hold(NODE);
                self.interval.close();
                self.use_held(found);
            }
            Story::Interval | Story::Shown => {
                let shown = story == Story::Shown;
                if shown {
                    world.read(&self.reader, fenced);
                }
                let seen = self.interval.open(words, fenced);
                if shown {
                    self.reader.show_idle(seen);
                }
                if self.interval.protect(words, || self.find(), fenced) {
                    interrupt_here();
                    world.use_node();
                }
                self.interval.close();
            }
        }
        interrupt_here();
    }

    fn use_held(&self, found: bool) {
        if found {
            self.world.use_node();
        }
        self.hazard.clear();
    }

    /// `Engine::scan`.
    fn scan(&self, Model { fenced, story, .. }: Model) {
        if story == Story::Interval {
            self.world.words.next_era(self.world.now());
        }
        if story == Story::Shown {
            let own = self.world.words.fence_and_stamp(&self.world.floor, || self.world.now()).ns;
            return scan_by_walks(&self.world.words, own, false, || once(&self.reader));
        }
        let watermark = if fenced {
            let own = self.world.words.fence_and_stamp(&self.world.floor, || self.world.now()).ns;
            fence(SeqCst);
            own
        } else {
            let now = self.world.now();
            if self.cpu.has_passed(now) { now } else { 0 }
        };
        scan(&self.world.words, || watermark, || once(&self.reader));
    }

    fn look(&self) -> (Safe, Holders) {
        let look = || Holders::collect(|| once(&self.interval), || once(&self.hazard));
        reclaimable(&self.world.words, look)
    }

    /// `Engine::scan_and_release`, by a thread that frees nothing itself.
    fn share(&self) {
        let found = Arc::new(self.look());
        *self.found.lock().unwrap() = Some(found);
    }

    /// `Engine::release_found`.
    fn reclaimable_found(&self) {
        let found = self.found.lock().unwrap().clone();
        let Some(found) = found else { return };
        let (safe, holders) = &*found;
        let safe = if broken(Mutant::PartedScan) { self.world.words.safe() } else { *safe };
        self.free_unless_held(safe, holders);
    }

    fn reclaimable(&self) {
        if self.stamp.load(Acquire) != 0 {
            let (safe, holders) = self.look();
            self.free_unless_held(safe, &holders);
        }
    }

    fn free_unless_held(&self, safe: Safe, holders: &Holders) {
        let stamp = self.stamp.load(Acquire);
        if stamp == 0 {
            return;
        }
        let born = self.born.load(Relaxed);
        let held = holders.has_hazard(NODE) || holders.holder(stamp, born).is_some();
        if stamp < safe.ns && !held {
            FREED.set(true);
            self.world.free();
        }
    }

    /// Unlinks and stamps; first of all, where the story wants it, the node is born.
    fn write(&self, story: Story) {
        let words = &self.world.words;
        if story == Story::Interval {
            // Another thread's scan, which has no evidence: the era moves.
            words.next_era((START - 1) * GRAIN);
            self.born.store(birth(words, || self.world.now()), Relaxed);
            self.world.linked.store(true, Release);
        }
        self.world.unlink();
        let stamp = words.fence_and_stamp(&self.world.floor, || self.world.now()).ns;
        if story == Story::Interval {
            // A later one: a reader that has seen it has seen that the node is gone, and need not hold it.
            words.fence_and_stamp(&self.world.floor, || self.world.now());
        }
        self.stamp.store(stamp, Release);
    }
}

impl Model {
    fn new(story: Story) -> Model {
        Model { story, fenced: false, apart: false, shared: false, preemptions: 2 }
    }

    fn execute(self, place: usize) {
        let domain = Arc::new(Domain {
            world: World::new(),
            reader: Reader::new(),
            hazard: HazardSlot::new(),
            interval: Interval::new(),
            cpu: Cpu::new(),
            born: AtomicU64::new(0),
            stamp: AtomicU64::new(0),
            found: Mutex::new(None),
        });
        if self.story == Story::Interval {
            domain.world.unlink();
        }
        let mut threads = Vec::new();
        let mut spawn = |work: fn(&Domain, Model, usize)| {
            let domain = domain.clone();
            threads.push(thread::spawn(move || work(&domain, self, place)));
        };
        spawn(|domain, model, place| {
            interrupt_at(place, &domain.cpu);
            domain.read(model);
        });
        spawn(|domain, model, _| {
            if model.shared {
                domain.share();
            }
            domain.scan(model);
            if model.shared {
                domain.share();
            } else if !model.apart {
                domain.reclaimable();
            }
        });
        if self.shared {
            spawn(|domain, _, _| domain.reclaimable_found());
        } else if self.apart {
            spawn(|domain, _, _| domain.reclaimable());
        }
        domain.write(self.story);
        for thread in threads {
            thread.join().unwrap();
        }
        DUE.set(None);
    }

    fn explore(self, place: usize) {
        explore(self.preemptions, move || self.execute(place));
    }

    fn places(self) -> core::ops::RangeInclusive<usize> {
        if self.fenced { usize::MAX..=usize::MAX } else { self.story.places() }
    }

    /// No execution frees under the reader, and some do free.
    fn holds(self) {
        FREED.set(false);
        self.places().for_each(|place| self.explore(place));
        assert!(FREED.get(), "nothing was freed");
    }

    fn rejects(self, mutant: Mutant) {
        rejects(mutant, self.places(), |place| self.explore(place));
    }
}

#[test]
fn a_hazard_keeps_its_object() {
    Model::new(Story::Hazard(1)).holds();
    Model::new(Story::Hazard(2)).holds();
}

#[test]
fn a_fenced_hazard_keeps_its_object() {
    let fenced = Model { fenced: true, ..Model::new(Story::Hazard(1)) };
    fenced.holds();
    fenced.rejects(Mutant::UnfencedReader);
}

#[test]
fn what_moves_to_a_hazard_is_kept() {
    Model::new(Story::FromSection).holds();
    Model { apart: true, ..Model::new(Story::FromSection) }.holds();
    Model::new(Story::FromInterval).holds();
}

#[test]
fn an_interval_keeps_what_was_born_before_its_end() {
    Model::new(Story::Interval).holds();
}

#[test]
fn a_fenced_interval_keeps_what_was_born_before_its_end() {
    let fenced = Model { fenced: true, ..Model::new(Story::Interval) };
    fenced.holds();
    fenced.rejects(Mutant::UnfencedReader);
}

#[test]
fn what_an_interval_has_seen_stands_for_a_barrier() {
    Model::new(Story::Shown).holds();
}

#[test]
fn mutants_of_what_an_interval_has_seen() {
    Model::new(Story::Shown).rejects(Mutant::RelaxedPin);
    Model::new(Story::Shown).rejects(Mutant::RelaxedLatest);
}

#[test]
fn mutants_of_hazards() {
    Model::new(Story::Hazard(1)).rejects(Mutant::HazardNoReload);
    Model::new(Story::Hazard(1)).rejects(Mutant::RelaxedHazard);
    Model::new(Story::Hazard(1)).rejects(Mutant::RelaxedHolderScan);
}

/// A thread that reclaims by another's scan of readers and holders.
#[test]
fn a_look_is_shared_with_its_safe() {
    Model { shared: true, ..Model::new(Story::FromSection) }.holds();
    Model { shared: true, ..Model::new(Story::FromSection) }.rejects(Mutant::PartedScan);
}

#[test]
fn mutants_of_moves() {
    Model { apart: true, ..Model::new(Story::FromSection) }.rejects(Mutant::HolderSetOld);
    Model::new(Story::FromInterval).rejects(Mutant::HazardsBeforeIntervals);
}

#[test]
fn mutants_of_intervals() {
    Model::new(Story::Interval).rejects(Mutant::RelaxedInterval);
    Model::new(Story::Interval).rejects(Mutant::RelaxedHolderScan);
    Model::new(Story::Interval).rejects(Mutant::RobustNoReload);
    Model::new(Story::Interval).rejects(Mutant::RelaxedLatest);
    Model::new(Story::Interval).rejects(Mutant::BirthFromNow);
}
