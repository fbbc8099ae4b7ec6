//! Queues alone, and against a plain list.

use super::*;
use crate::protocol::Safe;
use crate::protocol::holders::{HazardSlot, Holders};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use proptest::prelude::*;

unsafe fn nothing(_: *mut ()) {}

fn numbered(n: usize) -> Item {
    Item::new(ptr::without_provenance_mut(n), nothing)
}

/// Owned by this thread alone, which never has it taken.
struct Queue(Bags);

impl Queue {
    fn new(vtime: VtimeWord) -> Queue {
        Queue(Bags::new(vtime))
    }

    fn work<R>(&self, work: impl FnOnce(&mut Work<'_>) -> R) -> R {
        // SAFETY: this thread's own.
        unsafe { self.0.own(false, work) }.expect("not taken")
    }

    /// What a domain does.
    fn push(&self, n: usize, now: u64) {
        // SAFETY: this thread's own.
        match unsafe { self.0.push(numbered(n), 8, false) } {
            Ok(next) => assert!(next.is_none()),
            Err(Refused::Taken) => panic!("not taken"),
            Err(Refused::Closed) => self.work(|work| {
                if work.wants_seal() {
                    work.seal(now);
                }
                work.push(numbered(n), 8);
            }),
        }
    }

    fn take(&self, safe: Safe) -> Option<usize> {
        self.work(|work| {
            work.release(safe, &Holders::default());
            work.take_safe().map(|item| item.ptr().addr())
        })
    }
}

/// One call brings one item and takes one out: what is a bag behind would stay so for ever.
#[test]
fn what_is_left_over_of_a_bag_by_the_next_one_is_many() {
    let queue = Queue::new(VtimeWord::none());
    queue.work(|work| {
        work.set_step(2);
        for (bag, many) in [(1, false), (2, true)] {
            (0..2).for_each(|n| work.push(numbered(n), 8));
            work.seal(bag);
            work.release(Safe { ns: u64::MAX, vtime: 0 }, &Holders::default());
            assert!(work.take_safe().is_some());
            assert_eq!(work.has_many(), many);
        }
    });
}

#[test]
fn an_open_bag_waits_for_its_seal() {
    let queue = Queue::new(VtimeWord::none());
    queue.push(1, 0);
    let all = Safe { ns: u64::MAX, vtime: u64::MAX };
    assert_eq!(queue.take(all), None);
    queue.work(|work| work.seal(7));
    assert_eq!(queue.take(Safe { ns: 7, vtime: 0 }), None, "7 is not before 7");
    assert_eq!(queue.take(Safe { ns: 8, vtime: 0 }), Some(1));
}

#[test]
fn virtual_time_frees_an_open_bag() {
    let clock = AtomicU64::new(5);
    // SAFETY: `clock` outlives `queue`.
    let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
    queue.push(1, 10);
    queue.push(2, 11);
    assert_eq!(queue.take(Safe { ns: 0, vtime: 5 }), None, "5 is not before 5");
    assert_eq!(queue.take(Safe { ns: 0, vtime: 6 }), Some(1));
    clock.store(6, Ordering::Relaxed);
    // The other is safe already; the third is of another round.
    queue.push(3, 12);
    let six = Safe { ns: 0, vtime: 6 };
    assert_eq!((queue.take(six), queue.take(six)), (Some(2), None));
    assert_eq!(queue.take(Safe { ns: 0, vtime: 7 }), Some(3));
}

#[test]
fn what_no_watermark_covers_is_counted() {
    let queue = Queue::new(VtimeWord::none());
    for (n, ns) in [(1, 10), (2, 10), (3, 20), (4, 30)] {
        queue.push(n, 0);
        if n != 1 {
            queue.work(|work| work.seal(ns));
        }
    }
    let uncovered = |watermark| queue.work(|work| work.uncovered(watermark).items);
    assert_eq!([10, 11, 21, 31].map(uncovered), [4, 2, 1, 0]);
}

/// A round's worth goes one by one; what a second round finds left goes faster.
#[test]
fn only_what_is_left_over_is_a_backlog() {
    let queue = Queue::new(VtimeWord::none());
    let round = |ns| {
        (0..5 * BAG_ITEMS).for_each(|n| queue.push(n, ns));
        queue.work(|work| {
            work.seal(ns);
            work.release(Safe { ns: ns + 1, vtime: 0 }, &Holders::default());
            work.has_backlog()
        })
    };
    assert!(!round(10));
    assert!(round(20));
    (0..9 * BAG_ITEMS).for_each(|_| assert!(queue.work(|work| work.take_safe()).is_some()));
    assert!(!queue.work(|work| work.has_backlog()));
    assert!(!round(30), "one bag left over is none");
}

/// A round that goes by seals the bag: everything in a bag is of one virtual time.
#[test]
fn a_new_round_seals() {
    let clock = AtomicU64::new(5);
    // SAFETY: `clock` outlives `queue`.
    let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
    queue.push(1, 10);
    clock.store(6, Ordering::Relaxed);
    queue.push(2, 20);
    assert_eq!(queue.work(|work| (work.sealed(), work.open())), (1, 1));
    assert_eq!(queue.take(Safe { ns: 21, vtime: 0 }), Some(1));
}

/// Each kind has an open bag of its own, with its own room, virtual time, and bytes.
#[test]
fn kinds_fill_side_by_side() {
    let clock = AtomicU64::new(5);
    // SAFETY: `clock` outlives `queue`.
    let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
    let births: Vec<u64> = (0..BAG_ITEMS as u64 + 2).rev().map(|n| n + 7).collect();
    let born = |at: usize| Item::new(ptr::from_ref(&births[at]).cast_mut().cast(), nothing);
    // SAFETY: this thread's own; they begin with their births.
    let fast = |at| unsafe { queue.0.push_as::<true>(born(at), 4, || false) }.map(|_| ());
    let slow = |at| {
        queue.work(|work| {
            assert!(!work.wants_seal_as::<true>());
            // SAFETY: as above.
            unsafe { work.push_as::<true>(born(at), 4) };
        });
    };
    assert_eq!(fast(0), Err(Refused::Closed), "the first takes the slow path");
    slow(0);
    queue.push(1, 0);
    assert!((1..BAG_ITEMS).all(|at| fast(at).is_ok()));
    assert_eq!(fast(BAG_ITEMS), Err(Refused::Closed), "full");
    queue.push(2, 0);
    queue.work(|work| {
        assert!(work.wants_seal_as::<true>() && !work.wants_seal());
        work.seal(9);
        assert_eq!((work.sealed(), work.open()), (2, 0));
    });
    slow(BAG_ITEMS);
    clock.store(6, Ordering::Relaxed);
    assert_eq!(fast(BAG_ITEMS + 1), Err(Refused::Closed), "another round");
    queue.work(|work| {
        assert!(work.wants_seal_as::<true>());
        // Both sealed bags by their stamp; then the open one, by its round.
        work.release(Safe { ns: 10, vtime: 0 }, &Holders::default());
        assert_eq!(work.ready(), 2 + BAG_ITEMS);
        work.release(Safe { ns: 10, vtime: 5 }, &Holders::default());
        assert_eq!(work.ready(), 2 + BAG_ITEMS, "5 is not before 5");
        work.release(Safe { ns: 10, vtime: 6 }, &Holders::default());
        assert_eq!((work.ready(), work.sealed()), (2 + BAG_ITEMS + 1, 0));
    });
    // SAFETY: this thread is the owner.
    let bags = unsafe { queue.0.take_over(11) }.into_bags().collect::<Vec<_>>();
    let bytes: Vec<_> = bags.into_iter().map(|mut bag| (bag.waiting(), bag.take_bytes())).collect();
    assert_eq!(bytes, [(2, 16), (64, 256), (1, 4)]);
}

#[test]
fn a_taken_queue_is_left() {
    let queue = Queue::new(VtimeWord::none());
    (0..70).for_each(|n| queue.push(n, 5));
    queue.0.mark_taken();
    // SAFETY: it was this thread's own.
    assert_eq!(unsafe { queue.0.push(numbered(70), 8, true) }.err(), Some(Refused::Taken));
    // SAFETY: as above.
    assert!(unsafe { queue.0.own(true, |_| ()) }.is_err());
    assert!(queue.0.is_quiet());
    // SAFETY: marked, quiet, and this thread is the owner.
    let mut bags = unsafe { queue.0.take_over(9) }.into_bags().collect::<Vec<_>>();
    let stamps: Vec<_> =
        bags.iter_mut().map(|bag| (bag.ns, bag.waiting(), bag.take_bytes())).collect();
    assert_eq!(stamps, [(5, 64, 512), (9, 6, 48)]);
    let names: Vec<_> = bags.into_iter().flatten().map(|item| item.ptr().addr()).collect();
    assert_eq!(names, (0..70).collect::<Vec<_>>());
}

/// The owner was inside while the mark was set: what it pushed is there all the same.
#[test]
fn a_mark_survives_the_owner() {
    let queue = Queue::new(VtimeWord::none());
    queue.work(|work| {
        queue.0.mark_taken();
        work.set_step(BAG_ITEMS / 2);
        work.push(numbered(1), 8);
        work.seal(3);
        work.push(numbered(2), 8);
    });
    // SAFETY: it was this thread's own.
    assert_eq!(unsafe { queue.0.push(numbered(3), 8, true) }.err(), Some(Refused::Taken));
    // SAFETY: marked, quiet, and this thread is the owner.
    let bags = unsafe { queue.0.take_over(9) }.into_bags().collect::<Vec<_>>();
    let names: Vec<_> = bags.into_iter().flatten().map(|item| item.ptr().addr()).collect();
    assert_eq!(names, [1, 2]);
}

#[derive(Clone, Debug)]
enum Step {
    Push,
    Seal,
    Tick,
    Take { ns_behind: u64, vtime_behind: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Push),
        1 => Just(Step::Seal),
        2 => Just(Step::Tick),
        6 => (0..200u64, 0..6u64)
            .prop_map(|(ns_behind, vtime_behind)| Step::Take { ns_behind, vtime_behind }),
    ]
}

proptest! {
    /// Against a plain list: nothing leaves before either of its stamps is past, everything
    /// leaves in order and once.
    #[test]
    fn like_a_plain_queue(steps in proptest::collection::vec(step(), 0..600)) {
        const OPEN: u64 = u64::MAX;
        let clock = AtomicU64::new(1);
        // SAFETY: `clock` outlives `queue`.
        let queue = Queue::new(unsafe { VtimeWord::new(NonNull::from(&clock)) });
        let mut plain: VecDeque<(usize, u64, u64)> = VecDeque::new(); // (name, ns, vtime)
        // Once safe, an item may go, however low the times of later calls.
        let mut safe_up_to = 0;
        let (mut name, mut now) = (0, 1);
        for step in steps {
            now += 1;
            match step {
                Step::Push => {
                    let vtime = clock.load(Ordering::Relaxed);
                    let open = plain.iter().filter(|item| item.1 == OPEN).count();
                    if open == BAG_ITEMS || plain.back().is_some_and(|last| last.2 != vtime) {
                        plain.iter_mut().filter(|item| item.1 == OPEN).for_each(|item| item.1 = now);
                    }
                    name += 1;
                    queue.push(name, now);
                    plain.push_back((name, OPEN, vtime));
                }
                Step::Seal => {
                    queue.work(|work| work.seal(now));
                    plain.iter_mut().filter(|item| item.1 == OPEN).for_each(|item| item.1 = now);
                }
                Step::Tick => {
                    clock.fetch_add(1, Ordering::Relaxed);
                }
                Step::Take { ns_behind, vtime_behind } => {
                    let safe = Safe {
                        ns: u64::saturating_sub(now, ns_behind),
                        vtime: clock.load(Ordering::Relaxed).saturating_sub(vtime_behind),
                    };
                    for &(name, ns, vtime) in &plain {
                        if name > safe_up_to && (ns < safe.ns || vtime < safe.vtime) {
                            safe_up_to = name;
                        } else if name > safe_up_to {
                            break;
                        }
                    }
                    let expected = plain.front().map(|item| item.0).filter(|&name| name <= safe_up_to);
                    prop_assert_eq!(queue.take(safe), expected);
                    if expected.is_some() {
                        plain.pop_front();
                    }
                }
            };
        }
        // SAFETY: this thread is the owner.
        let bags = unsafe { queue.0.take_over(now) }.into_bags().collect::<Vec<_>>();
        let left: Vec<usize> = bags.into_iter().flatten().map(|item| item.ptr().addr()).collect();
        let expected: Vec<usize> = plain.iter().map(|&(name, ..)| name).collect();
        prop_assert_eq!(left, expected);
    }
}

/// What is held, being safe by then, is not released by another thread's older scan of the holders, which came before
/// it was safe and can't have seen its holder.
#[test]
fn an_older_look_lets_nothing_go() {
    if std::env::var_os(OLDER_LOOK).is_some() {
        crate::sync::BROKEN.store(Mutant::OlderScan as u8 + 1, Ordering::Relaxed);
    }
    let queue = Queue::new(VtimeWord::none());
    let hazard = HazardSlot::new();
    let look = || Holders::collect(core::iter::empty, || core::iter::once(&hazard));
    let safe = |ns| Safe { ns, vtime: 0 };
    queue.push(8, 1);
    queue.work(|work| work.seal(30));
    let older = look();
    hazard.hold(8);
    queue.work(|work| {
        work.release(safe(40), &look());
        assert_eq!(work.ready(), 0, "held");
        work.release_shared(safe(20), &older);
        assert_eq!(work.ready(), 0, "not safe when that look was taken");
        work.release_shared(safe(40), &look());
        assert_eq!(work.ready(), 0, "held still");
    });
    hazard.clear();
    queue.work(|work| {
        work.release_shared(safe(40), &look());
        assert_eq!(work.ready(), 1);
        assert_eq!(work.take_safe().map(|item| item.ptr().addr()), Some(8));
    });
}

/// Set for the process that runs [`an_older_look_lets_nothing_go`] with the code broken.
const OLDER_LOOK: &str = "BARRIERD_TEST_OLDER_LOOK";

#[test]
fn mutant_older_look() {
    let mut test = std::process::Command::new(std::env::current_exe().expect("this test"));
    test.args(["--exact", "bag::tests::an_older_look_lets_nothing_go"]).env(OLDER_LOOK, "1");
    let output = test.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("not safe when that look"), "{said}");
}
