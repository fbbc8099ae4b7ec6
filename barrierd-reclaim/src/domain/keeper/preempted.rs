//! Tests of the owner and the taker of a queue. Each is held up at every one of its steps in turn, while the other
//! goes on: nothing is stranded, and nothing is freed twice.
//!
//! The owner then never calls again, so the background thread has to find whatever waits.

use super::*;
use crate::bag::Item;
use crate::domain::Settings;
use crate::evidence::source::Source;
use crate::sync::preempt_at;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

/// A domain that the background thread does not know: the test makes the visits.
struct World {
    domain: Arc<Domain>,
    freed: Box<AtomicUsize>,
    retired: AtomicUsize,
}

unsafe fn count(freed: *mut ()) {
    // SAFETY: the world's counter, which outlives its domain.
    unsafe { &*freed.cast::<AtomicUsize>() }.fetch_add(1, Relaxed);
}

impl World {
    fn new(source: Source, lazy: bool) -> (World, Keeper) {
        let barriers =
            crate::evidence::barriers::Barriers::choose(source, None).expect("this kernel has it");
        let settings =
            Settings { background: true, idle_after: Duration::ZERO, lazy, ..Settings::default() };
        let domain = Arc::new(Domain::new(barriers, &settings));
        // From here on, a call finds the thread.
        while !domain.watch().expect("it has one").is_served() {
            domain.watch().expect("it has one").wake_up();
            thread::yield_now();
        }
        let keeper = Keeper::new(Arc::downgrade(&domain), local::next_id());
        (World { domain, freed: Box::default(), retired: AtomicUsize::new(0) }, keeper)
    }

    fn item(&self) -> Item {
        self.retired.fetch_add(1, Relaxed);
        Item::new(ptr::from_ref(&*self.freed).cast_mut().cast(), count)
    }

    /// Makes visits of the background thread. The real one would wait for a lock that the owner holds, so it would
    /// not come this far.
    fn look(&self, keeper: &mut Keeper, times: usize) {
        for _ in 0..times {
            if self.domain.are_orphans_locked() {
                return;
            }
            keeper.due = Instant::now();
            keeper.visit();
        }
    }
}

/// Runs what calls run on the owner's record. After the last call, the owner no longer owns it.
#[derive(Clone, Copy, Debug)]
enum Call {
    Retire(usize),
    Batch(usize),
    Flush,
    HandOver,
}

/// # Safety
/// The caller owns `record`.
unsafe fn call(world: &World, record: &Record, call: Call) {
    let domain = &world.domain;
    // SAFETY: the caller owns the record; the items point to a counter.
    unsafe {
        match call {
            Call::Retire(times) => {
                (0..times).for_each(|_| Domain::retire::<false>(record, world.item(), 8));
            }
            Call::Batch(items) => {
                let batch: Vec<Item> = (0..items).map(|_| world.item()).collect();
                domain.retire_batch(record, batch.into_iter(), 8);
            }
            Call::Flush => domain.flush(record),
            Call::HandOver => domain.hand_over(record),
        }
    }
}

const OWNERS: [&[Call]; 7] = [
    &[Call::Retire(1)],
    &[Call::Retire(3), Call::Retire(1)],
    &[Call::Retire(70)],
    &[Call::Batch(130)],
    &[Call::Retire(2), Call::Flush, Call::Retire(1)],
    &[Call::Retire(2), Call::HandOver],
    &[Call::HandOver],
];

fn each_world(mut test: impl FnMut(Source, bool, &[Call])) {
    for source in [Source::Membarrier, Source::Fence] {
        for lazy in [false, true] {
            OWNERS.iter().for_each(|calls| test(source, lazy, calls));
        }
    }
}

/// The owner never calls again.
fn nothing_is_stranded(world: World, mut keeper: Keeper, what: &dyn core::fmt::Debug) {
    // A few visits, unless other tests buy barriers all the time.
    let late = Instant::now() + Duration::from_secs(20);
    while world.domain.waiting() > 0 {
        assert!(Instant::now() < late, "{what:?}: {} wait", world.domain.waiting());
        world.look(&mut keeper, 1);
        thread::yield_now();
    }
    assert_eq!(world.freed.load(Relaxed), world.retired.load(Relaxed), "{what:?}");
    world.domain.close();
    assert_eq!(world.freed.load(Relaxed), world.retired.load(Relaxed), "{what:?}: again");
}

#[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
#[test]
fn a6_the_owner_is_held_up() {
    let mut places = 0;
    each_world(|source, lazy, calls| {
        // Its queue is new, or was taken over before.
        for before in [0, 1] {
            for place in 0.. {
                let (world, mut keeper) = World::new(source, lazy);
                let record = world.domain.acquire();
                // SAFETY: the record is this test's, until a call hands it over, the last one.
                let all = |calls: &[Call]| unsafe {
                    calls.iter().for_each(|&one| call(&world, record, one));
                };
                all(&[Call::Retire(before)]);
                world.look(&mut keeper, 6);
                let came = preempt_at(place, || world.look(&mut keeper, 6), || all(calls));
                nothing_is_stranded(world, keeper, &(source, lazy, calls, before, place));
                if !came {
                    places += place;
                    break;
                }
            }
        }
    });
    assert!(places > 500, "{places}");
}

#[cfg_attr(any(barrierd_plain, windows), ignore = "no membarrier, or Wine's")]
#[test]
fn a6_the_taker_is_held_up() {
    let mut places = 0;
    each_world(|source, lazy, calls| {
        for place in 0.. {
            let (world, mut keeper) = World::new(source, lazy);
            let record = world.domain.acquire();
            // SAFETY: the record is this test's, until a call hands it over, the last one.
            let all = |calls: &[Call]| unsafe {
                calls.iter().for_each(|&one| call(&world, record, one));
            };
            all(&[Call::Retire(1)]);
            // The owner would wait for a lock that the taker holds, so its call comes later.
            let left = core::cell::Cell::new(calls);
            let owner = || {
                if !world.domain.are_orphans_locked() {
                    all(left.take());
                }
            };
            let came = preempt_at(place, owner, || world.look(&mut keeper, 6));
            if came {
                all(left.take());
                nothing_is_stranded(world, keeper, &(source, lazy, calls, place));
            } else {
                places += place;
                world.domain.close();
                break;
            }
        }
    });
    assert!(places > 100, "{places}");
}

/// The taker believes that the owner is idle, and marks its queue while it waits for what is in it.
#[test]
fn a6_synchronize_finds_what_is_marked_meanwhile() {
    for place in 0.. {
        let (world, keeper) = World::new(Source::Fence, false);
        let record = world.domain.acquire();
        // SAFETY: this thread's record.
        unsafe { call(&world, record, Call::Retire(3)) };
        let late = Instant::now() + Duration::from_secs(10);
        let mut answer = None;
        let came = preempt_at(
            place,
            || {
                if !world.domain.are_orphans_locked() {
                    world.domain.mark(record);
                }
            },
            // SAFETY: this thread's record.
            || answer = Some(unsafe { world.domain.synchronize(record, late) }),
        );
        if answer == Some(Ok(())) && came {
            assert_eq!(world.freed.load(Relaxed), 3, "place {place}");
        }
        nothing_is_stranded(world, keeper, &place);
        if !came {
            break;
        }
    }
}
