//! Collected barriers: threads that pin, read, unpin and come to full stops; a record that is given
//! back and taken by another thread; a thread whose record is new on the list. No interrupts.

use super::*;
use crate::protocol::{collect, scan};
use core::cell::Cell;
use loom::sync::atomic::Ordering::Release;

/// What becomes of the first record.
#[derive(Clone, Copy, PartialEq)]
enum Story {
    /// Its owner reads, stops, and reads again.
    Kept,
    /// Its owner comes to a stop inside a section: it retires while it is pinned.
    StopsPinned,
    /// Its owner reads and gives it back.
    GivenBack,
    /// Nobody has it; a thread takes it and reads.
    Taken,
    /// Both, one after the other, on two threads.
    Passed,
    /// A thread makes it, puts it on the list, and reads.
    Late,
}

struct Domain {
    world: World,
    reader: Reader,
    scanner: Reader,
    /// The head of the list: whether `reader` is on it. (The scanner's own record adds nothing, and
    /// the writer is a thread that has handed its record over.)
    listed: AtomicBool,
    /// The writer's stamp, handed to whoever scans: 0 is none yet.
    stamp: AtomicU64,
}

impl Domain {
    /// `Records::iter`: the head is loaded when it is called.
    fn readers(&self) -> impl Iterator<Item = &Reader> {
        let listed = self.listed.load(Acquire);
        listed.then_some(&self.reader).into_iter()
    }

    fn full_stop(&self, reader: &Reader) -> u64 {
        reader.full_stop(&self.world.words, &self.world.floor, || self.world.now()).ns
    }

    fn read(&self) {
        self.world.read(&self.reader, false);
    }

    /// `Domain::acquire`.
    fn arrive(&self) {
        if !broken(Twin::NewcomerWithoutStop) {
            self.full_stop(&self.reader);
        }
    }

    fn take(&self) {
        if self.reader.take() {
            self.arrive();
            self.read();
        }
    }

    /// `Domain::scan`.
    fn scan(&self) {
        let early = broken(Twin::ListBeforeStop).then(|| self.listed.load(Acquire));
        let own = self.full_stop(&self.scanner);
        let readers = || {
            let readers = self.readers();
            readers.skip(usize::from(early == Some(false) && self.listed.load(Acquire)))
        };
        scan(&self.world.words, || collect(own, readers()), readers);
    }
}

std::thread_local!(static FREED: Cell<bool> = const { Cell::new(false) });

fn execute(story: Story) {
    let domain = Arc::new(Domain {
        world: World::new(),
        reader: Reader::new(),
        scanner: Reader::new(),
        listed: AtomicBool::new(story != Story::Late),
        stamp: AtomicU64::new(0),
    });
    if story == Story::Taken {
        domain.reader.give_back();
    }
    let mut threads = Vec::new();
    let mut spawn = |work: fn(&Domain)| {
        let domain = domain.clone();
        threads.push(thread::spawn(move || work(&domain)));
    };
    match story {
        Story::Kept => spawn(|domain| {
            domain.read();
            domain.full_stop(&domain.reader);
            domain.read();
        }),
        Story::StopsPinned => spawn(|domain| {
            domain.reader.pin(&domain.world.words);
            let found = domain.world.linked.load(Acquire);
            domain.full_stop(&domain.reader);
            if found {
                domain.world.use_node();
            }
            domain.reader.unpin();
        }),
        Story::GivenBack | Story::Passed => spawn(|domain| {
            domain.read();
            domain.reader.give_back();
        }),
        Story::Taken => spawn(|domain| domain.take()),
        Story::Late => spawn(|domain| {
            domain.listed.store(true, Release);
            domain.arrive();
            domain.read();
        }),
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
    let stamp = domain.world.words.stop(&domain.world.floor, || domain.world.now()).ns;
    domain.stamp.store(stamp, Release);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Whether anything was freed.
fn model(story: Story, preemptions: usize) -> bool {
    FREED.set(false);
    explore(preemptions, move || execute(story));
    FREED.get()
}

fn finds(twin: Twin, story: Story, preemptions: usize) {
    assert!(
        is_rejected(Some(twin), || assert!(model(story, preemptions) || true)),
        "loom found no use after free with {twin:?}"
    );
}

#[test]
fn stops_stand_for_barriers() {
    assert!(model(Story::Kept, 3), "nothing was freed");
    assert!(model(Story::StopsPinned, 3), "nothing was freed");
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
fn a_thread_registers_late() {
    assert!(model(Story::Late, 3), "nothing was freed");
}

#[test]
fn twin_relaxed_stop() {
    finds(Twin::RelaxedStop, Story::Kept, 3);
}

#[test]
fn twin_relaxed_evidence() {
    finds(Twin::RelaxedEvidence, Story::Kept, 3);
}

#[test]
fn twin_nobody_in_use() {
    finds(Twin::NobodyInUse, Story::Kept, 3);
}

#[test]
fn twin_relaxed_give_back() {
    finds(Twin::RelaxedGiveBack, Story::GivenBack, 3);
}

#[test]
fn twin_newcomer_without_stop() {
    finds(Twin::NewcomerWithoutStop, Story::Taken, 3);
}

#[test]
fn twin_list_before_stop() {
    finds(Twin::ListBeforeStop, Story::Late, 3);
}

#[test]
fn twin_no_scan() {
    finds(Twin::NoScan, Story::StopsPinned, 3);
}
