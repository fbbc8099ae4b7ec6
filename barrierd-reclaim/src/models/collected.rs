//! Collected barriers: threads that pin, read, unpin, and fence and take stamps; a record that is given
//! back and taken by another thread; two that change hands in one word; a thread whose record is new. No
//! interrupts.

use super::*;
use crate::engine::pool::Taken;
use crate::protocol::{Bound, glance};
use core::cell::Cell;
use core::iter::once;
use loom::sync::atomic::Ordering::Release;

/// What becomes of the first record.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// Its owner reads, takes a stamp, and reads again.
    Kept,
    /// Its owner reads, takes a stamp, and raises the group's bound by that.
    Glances,
    /// Its owner reads twice, and never takes a stamp: what it has seen shows in its slot.
    Observed,
    /// The same, on a clock that stands still; the scanner has taken its stamp before.
    Frozen,
    /// Its owner takes a stamp inside a section: it retires while it is pinned.
    StampsPinned,
    /// A signal handler reads between the two halves of its owner's pin.
    Interrupted,
    /// Its owner reads and gives it back.
    GivenBack,
    /// It has no owner; a thread takes it and reads.
    Taken,
    /// Both, one after the other, on two threads.
    Passed,
    /// A thread takes the place, makes the record, makes it known, and reads.
    Late,
    /// Its owner reads and gives it back, while the owner of the one beside it does the same.
    BothGivenBack,
    /// It has no owner; a thread takes it and reads, while the one beside it is given back.
    TakenBeside,
}

/// How the thread that frees learns what the readers show.
#[derive(Clone, Copy, PartialEq)]
enum How {
    /// It scans, in two walks.
    Scan,
    /// It scans, in one.
    Once,
    /// It glances at the bound of their group, which it raises itself.
    Glance,
    /// The same; and another thread raised the bound before, when it found the readers as they are at first.
    Again,
    /// The scanner glances; and the writer raises the bound as well, after its stamp, by what the readers have shown by
    /// then.
    Raised,
}

struct Domain {
    world: World,
    how: How,
    /// Of both readers.
    bound: Bound,
    /// Which of the readers are taken.
    taken: Taken,
    reader: Reader,
    beside: Reader,
    /// The scanner's own, which adds nothing to what it finds. (The writer is a thread that has handed its
    /// record over.)
    scanner: Reader,
    /// Where the first place leads: whether `reader` is known.
    listed: AtomicBool,
    /// The writer's stamp, handed to the thread that scans: 0 is none yet.
    stamp: AtomicU64,
    /// The clock stands still.
    frozen: bool,
}

impl Domain {
    fn clock(&self) -> u64 {
        if self.frozen { START * GRAIN } else { self.world.now() }
    }

    /// `Pool::in_use`: nothing is loaded before it is called for.
    fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.taken.numbers().filter_map(|place| match place {
            0 => self.listed.load(Acquire).then_some(&self.reader),
            _ => Some(&self.beside),
        })
    }

    fn fence_and_stamp(&self, reader: &Reader) -> u64 {
        reader.fence_and_stamp(&self.world.words, &self.world.floor, || self.clock()).ns
    }

    fn read(&self) {
        self.world.read(&self.reader, false);
    }

    /// A section with a stamp taken in it.
    fn read_and_stamp(&self) {
        let (world, reader) = (&self.world, &self.reader);
        let late = broken(Mutant::SlotAfterLoads).then(|| world.words.latest());
        if late.is_none() {
            reader.pin(&world.words);
        }
        let found = world.linked.load(Acquire);
        self.fence_and_stamp(reader);
        if let Some(stamp) = late {
            reader.show(stamp);
        }
        let early = broken(Mutant::IdleBeforeLastAccess);
        if early {
            reader.unpin();
        }
        if found {
            world.use_node();
        }
        if !early {
            reader.unpin();
        }
    }

    fn read_and_give_back(&self) {
        self.read();
        self.taken.give_back(0);
    }

    /// `Engine::acquire_for`.
    fn arrive(&self) {
        if !broken(Mutant::NewcomerWithoutStamp) {
            self.fence_and_stamp(&self.reader);
        }
    }

    fn take(&self) {
        if self.taken.take(1).is_some() {
            self.arrive();
            self.read();
        }
    }

    /// `Engine::scan`, or a glance.
    fn scan(&self) {
        let early = broken(Mutant::ListBeforeStamp).then(|| self.readers().count());
        let own = self.fence_and_stamp(&self.scanner);
        // Those of the early load, which in its story are all or none.
        let readers = || self.readers().take(early.unwrap_or(usize::MAX));
        if matches!(self.how, How::Scan | How::Once) {
            return scan_by_walks(&self.world.words, own, self.how == How::Scan, readers);
        }
        glance(&self.world.words, own, || once((&self.bound, ())), |()| readers());
    }
}

std::thread_local!(static FREED: Cell<bool> = const { Cell::new(false) });

fn execute(story: Story, how: How) {
    let domain = Arc::new(Domain {
        world: World::new(),
        how,
        bound: Bound::new(),
        taken: Taken::new(),
        reader: Reader::new(),
        beside: Reader::new(),
        scanner: Reader::new(),
        listed: AtomicBool::new(story != Story::Late),
        stamp: AtomicU64::new(0),
        frozen: story == Story::Frozen,
    });
    let two = matches!(story, Story::BothGivenBack | Story::TakenBeside);
    (0..1 + usize::from(two)).for_each(|place| assert_eq!(domain.taken.take(2), Some(place)));
    if matches!(story, Story::Taken | Story::TakenBeside | Story::Late) {
        domain.taken.give_back(0);
    }
    if story == Story::Frozen {
        domain.fence_and_stamp(&domain.scanner);
    }
    if how == How::Again {
        let own = domain.fence_and_stamp(&domain.scanner);
        domain.bound.refresh(0, own, domain.readers());
    }
    let mut threads = Vec::new();
    let mut spawn = |work: fn(&Domain)| {
        let domain = domain.clone();
        threads.push(thread::spawn(move || work(&domain)));
    };
    match story {
        Story::Kept => spawn(|domain| {
            domain.read();
            domain.fence_and_stamp(&domain.reader);
            domain.read();
        }),
        Story::Glances => spawn(|domain| {
            domain.read();
            let own = domain.fence_and_stamp(&domain.reader);
            domain.bound.refresh(0, own, domain.readers());
        }),
        Story::Observed => spawn(|domain| {
            domain.read();
            domain.read();
        }),
        Story::Frozen => spawn(|domain| domain.read()),
        Story::StampsPinned => spawn(Domain::read_and_stamp),
        Story::Interrupted => spawn(|domain| {
            let stamp = domain.world.words.latest();
            // The handler's.
            domain.read();
            domain.reader.show(stamp);
            if domain.world.linked.load(Acquire) {
                domain.world.use_node();
            }
            domain.reader.unpin();
        }),
        Story::GivenBack | Story::Passed | Story::BothGivenBack => {
            spawn(Domain::read_and_give_back);
        }
        Story::Taken | Story::TakenBeside => spawn(Domain::take),
        Story::Late => spawn(|domain| {
            assert_eq!(domain.taken.take(1), Some(0));
            domain.listed.store(true, Release);
            domain.arrive();
            domain.read();
        }),
    }
    if two {
        spawn(|domain| domain.taken.give_back(1));
    }
    if story == Story::Passed {
        spawn(|domain| domain.take());
    }
    spawn(|domain| {
        domain.scan();
        let stamp = domain.stamp.load(Acquire);
        if stamp != 0 && domain.world.free_if_safe(stamp) {
            FREED.set(true);
        }
    });

    domain.world.unlink();
    let stamp = domain.world.words.fence_and_stamp(&domain.world.floor, || domain.clock()).ns;
    domain.stamp.store(stamp, Release);
    if how == How::Raised {
        // After the stamp was handed on, so that the bound alone brings the scanner the ends of the sections.
        domain.bound.refresh(0, stamp, domain.readers());
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Whether anything was freed.
fn model(story: Story, preemptions: usize) -> bool {
    model_how(story, How::Scan, preemptions)
}

fn model_how(story: Story, how: How, preemptions: usize) -> bool {
    FREED.set(false);
    explore(preemptions, move || execute(story, how));
    FREED.get()
}

fn finds(mutant: Mutant, story: Story, preemptions: usize) {
    finds_how(mutant, story, How::Scan, preemptions);
}

fn finds_how(mutant: Mutant, story: Story, how: How, preemptions: usize) {
    assert!(
        is_rejected(Some(mutant), || assert!(model_how(story, how, preemptions) || true)),
        "loom found no use after free with {mutant:?}"
    );
}

#[test]
fn a_bound_stands_for_its_readers() {
    for story in
        [Story::Kept, Story::StampsPinned, Story::Observed, Story::Frozen, Story::Interrupted]
    {
        assert!(model_how(story, How::Glance, 3), "nothing was freed");
    }
}

#[test]
fn a_bound_outlasts_a_change_of_hands() {
    for story in [Story::GivenBack, Story::Taken, Story::Late] {
        assert!(model_how(story, How::Glance, 3), "nothing was freed");
    }
    for story in [Story::Passed, Story::BothGivenBack, Story::TakenBeside] {
        assert!(model_how(story, How::Glance, 2), "nothing was freed");
    }
}

#[test]
fn a_bound_is_true_for_whoever_finds_it() {
    assert!(model_how(Story::Glances, How::Glance, 3), "nothing was freed");
    assert!(model_how(Story::Observed, How::Raised, 2), "nothing was freed");
    for story in [Story::Kept, Story::Taken, Story::Late] {
        assert!(model_how(story, How::Again, 3), "nothing was freed");
    }
}

#[test]
fn mutants_of_bounds() {
    finds_how(Mutant::SlotBeforeStamped, Story::StampsPinned, How::Glance, 3);
    finds_how(Mutant::IdleNeedsNothing, Story::Observed, How::Glance, 3);
    finds_how(Mutant::RelaxedTaken, Story::GivenBack, How::Glance, 3);
    finds_how(Mutant::ListBeforeStamp, Story::Late, How::Glance, 3);
    finds_how(Mutant::UncappedEvidence, Story::Taken, How::Again, 3);
}

/// It takes a thread that raises the bound by what another one shows, see docs/testing.md: a reader that raises it by its
/// own stamp hands the ends of its sections on by that stamp's fence, however it raises.
#[test]
fn mutants_of_a_bounds_order() {
    finds_how(Mutant::RelaxedBound, Story::Observed, How::Raised, 2);
    finds_how(Mutant::RelaxedRaise, Story::Observed, How::Raised, 2);
}

#[test]
fn one_walk_is_enough() {
    for story in
        [Story::Kept, Story::StampsPinned, Story::Observed, Story::Frozen, Story::Interrupted]
    {
        assert!(model_how(story, How::Once, 3), "nothing was freed");
    }
    for story in [Story::GivenBack, Story::Taken, Story::Late] {
        assert!(model_how(story, How::Once, 3), "nothing was freed");
    }
    for story in [Story::Passed, Story::BothGivenBack, Story::TakenBeside] {
        assert!(model_how(story, How::Once, 2), "nothing was freed");
    }
}

#[test]
fn mutants_of_one_walk() {
    finds_how(Mutant::SlotBeforeStamped, Story::StampsPinned, How::Once, 3);
    finds_how(Mutant::NoScan, Story::StampsPinned, How::Once, 3);
    finds_how(Mutant::SlotAfterLoads, Story::StampsPinned, How::Once, 3);
    finds_how(Mutant::IdleBeforeLastAccess, Story::StampsPinned, How::Once, 3);
    finds_how(Mutant::RelaxedScan, Story::Observed, How::Once, 3);
    finds_how(Mutant::RelaxedEvidence, Story::Kept, How::Once, 3);
    finds_how(Mutant::IdleNeedsNothing, Story::Observed, How::Once, 3);
    finds_how(Mutant::NobodyInUse, Story::Kept, How::Once, 3);
    finds_how(Mutant::RelaxedTaken, Story::GivenBack, How::Once, 3);
    finds_how(Mutant::ListBeforeStamp, Story::Late, How::Once, 3);
    finds_how(Mutant::UncappedEvidence, Story::Late, How::Once, 3);
}

#[test]
fn stamps_stand_for_barriers() {
    assert!(model(Story::Kept, 3), "nothing was freed");
    assert!(model(Story::StampsPinned, 3), "nothing was freed");
}

#[test]
fn what_a_reader_has_seen_stands_for_a_barrier() {
    assert!(model(Story::Observed, 3), "nothing was freed");
    assert!(model(Story::Frozen, 3), "nothing was freed");
}

#[test]
fn mutants_of_what_a_reader_has_seen() {
    finds(Mutant::RelaxedLatest, Story::Observed, 3);
    finds(Mutant::LatestAfterPointer, Story::Observed, 3);
    finds(Mutant::RelaxedPin, Story::Observed, 3);
    finds(Mutant::RelaxedUnpin, Story::Observed, 3);
    finds(Mutant::IdleNeedsNothing, Story::Observed, 3);
    finds(Mutant::TiedStamps, Story::Frozen, 3);
}

#[test]
fn a_handler_reads_in_the_middle_of_a_pin() {
    assert!(model(Story::Interrupted, 3), "nothing was freed");
}

/// What a reader shows is not enough to find these two: a section that may hold the node shows a stamp
/// that is too old, wherever it shows it. It takes evidence from within the section.
#[test]
fn mutants_of_sections() {
    finds(Mutant::SlotAfterLoads, Story::StampsPinned, 3);
    finds(Mutant::IdleBeforeLastAccess, Story::StampsPinned, 3);
}

#[test]
fn mutant_uncapped_evidence() {
    finds(Mutant::UncappedEvidence, Story::Late, 3);
}

#[test]
fn a_record_that_nobody_has_needs_no_stop() {
    assert!(model(Story::GivenBack, 3), "nothing was freed");
    assert!(model(Story::Taken, 3), "nothing was freed");
}

#[test]
fn a_record_goes_to_another_thread() {
    assert!(model(Story::Passed, 2), "nothing was freed");
}

#[test]
fn two_records_change_hands_in_one_word() {
    assert!(model(Story::BothGivenBack, 2), "nothing was freed");
    assert!(model(Story::TakenBeside, 2), "nothing was freed");
}

#[test]
fn a_thread_registers_late() {
    assert!(model(Story::Late, 3), "nothing was freed");
}

/// It takes a newcomer: the fence before a stamp makes its exchange Release even so, and every pin is Acquire, so
/// a thread that had its record before loses nothing. But the scanner may miss that a record was taken.
#[test]
fn mutant_relaxed_stop() {
    finds(Mutant::RelaxedStamp, Story::Taken, 2);
}

#[test]
fn mutant_relaxed_evidence() {
    finds(Mutant::RelaxedEvidence, Story::Kept, 3);
}

#[test]
fn mutant_nobody_in_use() {
    finds(Mutant::NobodyInUse, Story::Kept, 3);
}

#[test]
fn mutant_relaxed_give_back() {
    finds(Mutant::RelaxedGiveBack, Story::GivenBack, 3);
}

#[test]
fn mutant_relaxed_taken() {
    finds(Mutant::RelaxedTaken, Story::GivenBack, 3);
}

/// The newcomer is lost.
#[test]
fn mutant_give_back_by_store() {
    finds(Mutant::GiveBackByStore, Story::TakenBeside, 2);
}

/// The end of the other one's section is lost.
#[test]
fn mutant_give_back_by_store_beside_another() {
    finds(Mutant::GiveBackByStore, Story::BothGivenBack, 2);
}

#[test]
fn mutant_newcomer_without_stop() {
    finds(Mutant::NewcomerWithoutStamp, Story::Taken, 3);
}

#[test]
fn mutant_list_before_stop() {
    finds(Mutant::ListBeforeStamp, Story::Late, 3);
}

#[test]
fn mutant_no_scan() {
    finds(Mutant::NoScan, Story::StampsPinned, 3);
}
