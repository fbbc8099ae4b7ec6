//! The protocol against plain facts, one step at a time.

use super::words::{MOST_LEAD_NS, READINGS};
use super::*;
use crate::engine::pool::Taken;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use core::cell::Cell;
use core::iter::once;
use proptest::prelude::*;

/// Nobody buys.
static NONE: AtomicU64 = AtomicU64::new(0);

fn look(words: &Words, watermark: u64, reader: &Reader) -> Scan {
    scan(words, || watermark * GRAIN, || once(reader))
}

#[test]
fn a_pin_holds_back_what_came_after_it() {
    let (words, reader) = (Words::new(), Reader::new());
    assert!(look(&words, 99, &reader).advanced);
    assert_eq!(words.safe().ns, 99 * GRAIN);
    words.fence_and_stamp(&NONE, || 100 * GRAIN);
    reader.pin(&words);
    words.fence_and_stamp(&NONE, || 150 * GRAIN);
    look(&words, 200, &reader);
    let held = look(&words, 300, &reader);
    // What has the stamp that it has seen is reclaimable.
    assert_eq!((held.safe, held.oldest), (101 * GRAIN, Some(100 * GRAIN)));
    // Without news: the pin is gone, and that is enough.
    reader.unpin();
    let free = look(&words, 300, &reader);
    assert_eq!((free.safe, free.advanced), (300 * GRAIN, false));
    // Older evidence takes nothing back.
    assert_eq!(look(&words, 250, &reader).safe, 300 * GRAIN);
    assert_eq!(words.watermark(), 300 * GRAIN);
}

/// In turn and all at once: one in so many is told to scan, however far the count has run past.
#[test]
fn one_scans_for_all() {
    let words = Words::new();
    let told = |bags| words.must_scan(bags, |sealed| sealed > 3);
    assert_eq!([1, 1, 1, 1, 1].map(told), [false, false, false, true, false]);
    assert_eq!([2, 7, 4, 3].map(told), [false, true, true, false]);
    let count = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| {
            scope.spawn(|| (0..10_000).filter(|_| words.must_scan(1, |sealed| sealed > 3)).count())
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert!((1..=10_001).contains(&count), "{count}");
}

#[test]
fn a_section_shows_what_its_thread_has_seen_after_its_end_too() {
    let (words, scanner, reader) = (Words::new(), Reader::new(), Reader::new());
    let stamp = |clock| scanner.fence_and_stamp(&words, &NONE, || clock * GRAIN).ns;
    let evidence = |own| walk(own, [&scanner, &reader].into_iter()).collected;
    let one = stamp(1);
    assert_eq!(evidence(one), GRAIN, "nobody knows what the reader has seen");
    reader.pin(&words);
    let two = stamp(2);
    assert_eq!(evidence(two), 2 * GRAIN);
    reader.unpin();
    assert_eq!(evidence(two), 2 * GRAIN, "idle, and no older than that");
    reader.pin(&words);
    assert_eq!(evidence(two), 3 * GRAIN);
}

/// One thread reads, another scans, a third frees; no other road leads from one to the next. That each hands on what the
/// next needs is for ThreadSanitizer to say (`make sanitizers`).
#[test]
fn who_frees_runs_after_who_read() {
    by_turns(|words, reader| assert!(look(words, 9, reader).safe > 0), |safe| safe.ns > 0);
    // By another domain's words, so that only the virtual time hands on.
    let other = Words::new();
    by_turns(
        |words, reader| words.publish_vtime(look(&other, 9, reader).safe),
        |safe| safe.vtime > 0,
    );
}

fn by_turns(publish: impl Fn(&Words, &Reader) + Sync, is_safe: impl Fn(Safe) -> bool) {
    let (words, reader) = (Words::new(), Reader::new());
    let object = Box::into_raw(Box::new(AtomicU64::new(7)));
    // Without an order between the threads, so that none but the protocol's is left.
    let (shared, ended, over) =
        (AtomicPtr::new(object), AtomicBool::new(false), AtomicBool::new(false));
    let wait_for = |what: &AtomicBool| {
        while !what.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            reader.pin(&words);
            // SAFETY: it is freed after the section.
            assert_eq!(unsafe { &*shared.load(Ordering::Relaxed) }.load(Ordering::Relaxed), 7);
            reader.unpin();
            ended.store(true, Ordering::Relaxed);
            // The end of a thread would be an order, too.
            wait_for(&over);
        });
        scope.spawn(|| {
            wait_for(&ended);
            publish(&words, &reader);
            wait_for(&over);
        });
        while !is_safe(words.safe()) {
            std::thread::yield_now();
        }
        // SAFETY: from `into_raw`; the section that used it has ended.
        drop(unsafe { Box::from_raw(object) });
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_nobody_has_needs_no_evidence() {
    let (words, taken) = (Words::new(), Taken::new());
    let readers = [Reader::new(), Reader::new()];
    let walk = |own| walk(own * GRAIN, taken.numbers().map(|i| &readers[i]));
    let evidence = |own| walk(own).collected / GRAIN;
    assert_eq!((taken.take(2), taken.take(2), taken.take(2)), (Some(0), Some(1), None));
    readers[1].fence_and_stamp(&words, &NONE, || 40 * GRAIN);
    readers[0].fence_and_stamp(&words, &NONE, || 60 * GRAIN);
    assert_eq!(evidence(100), 41);
    taken.give_back(1);
    assert_eq!(evidence(100), 61);
    assert_eq!(taken.take(2), Some(1));
    assert_eq!(evidence(100), 41);
    assert_eq!(evidence(30), 31);
}

#[test]
fn stamps_never_tie_and_say_when_the_clock_fell() {
    let words = Words::new();
    assert_eq!(words.fence_and_stamp(&NONE, || 500), Stamp { ns: 512, lag_ns: 0 });
    assert_eq!(words.fence_and_stamp(&NONE, || 500), Stamp { ns: 528, lag_ns: 0 });
    assert_eq!(words.fence_and_stamp(&NONE, || 200), Stamp { ns: 544, lag_ns: 300 });
    // That stamps run ahead of the clock is no sign that it fell.
    assert_eq!(words.fence_and_stamp(&NONE, || 501), Stamp { ns: 560, lag_ns: 0 });
    assert_eq!(words.fence_and_stamp(&NONE, || 600), Stamp { ns: 608, lag_ns: 0 });
}

/// On a clock that shows eight nanoseconds more at each reading, so that stamps are taken twice as fast as the clock goes.
#[test]
fn stamps_run_so_far_ahead_and_no_further() {
    let (words, readings) = (Words::new(), Cell::new(0));
    let clock = || {
        readings.set(readings.get() + 1);
        8 * readings.get()
    };
    let lead = || words.fence_and_stamp(&NONE, clock).ns.saturating_sub(8 * readings.get());
    let most = (0..100_000).map(|_| lead()).max().unwrap();
    assert!((MOST_LEAD_NS - GRAIN..=MOST_LEAD_NS).contains(&most), "{most}");
    // Each of them waits for a grain, once the lead is there.
    let before = readings.get();
    (0..100).for_each(|_| assert!(lead() <= MOST_LEAD_NS));
    assert!((190..=210).contains(&(readings.get() - before)));
}

/// No thread waits for long for a clock that has fallen, or stands still; and afterwards the bound holds again.
#[test]
fn stamps_wait_a_little_for_a_clock_that_fell() {
    let (words, readings) = (Words::new(), Cell::new(0));
    let stamp = |clock| {
        readings.set(0);
        let read = || {
            readings.set(readings.get() + 1);
            clock
        };
        (words.fence_and_stamp(&NONE, read).ns, readings.get())
    };
    let hour = 3_600_000_000_000;
    assert_eq!(stamp(hour), (hour, 1));
    assert_eq!(stamp(0), (hour + GRAIN, 1 + READINGS));
    assert_eq!(stamp(hour - MOST_LEAD_NS), (hour + 2 * GRAIN, 1 + READINGS));
    assert_eq!(stamp(hour), (hour + 3 * GRAIN, 1));
    // Held up since it was read: one reading tells.
    let (late, first) = (Words::new(), Cell::new(true));
    late.fence_and_stamp(&NONE, || 150_000);
    assert_eq!(
        late.fence_and_stamp(&NONE, || if first.take() { 0 } else { 160_000 }).ns,
        150_000 + 16
    );
    assert!(!first.get());
}

/// A thread that is preempted while it takes a stamp finds on its clock what others had found long before.
#[test]
fn b1_a_stop_that_is_held_up_is_no_clock_that_fell() {
    let words = Words::new();
    let held_up = Cell::new(true);
    let others = || {
        if held_up.take() {
            words.fence_and_stamp(&NONE, || 50_000_000);
        }
    };
    let stamp = words.fence_and_stamp(&NONE, || {
        let clock = 1_000;
        others();
        clock
    });
    assert_eq!(stamp, Stamp { ns: 50_000_016, lag_ns: 0 });
    // One that has come later and shows less has fallen.
    assert_eq!(words.fence_and_stamp(&NONE, || 49_000_000).lag_ns, 1_000_000);
}

/// Another domain buys a barrier, at a time that this thread's clock hasn't come to.
#[test]
fn b1_a_stop_is_no_earlier_than_what_others_are_buying() {
    let (words, floor) = (Words::new(), AtomicU64::new(0));
    assert_eq!(raise(&floor, 640), 656);
    assert_eq!(raise(&floor, 320), 336);
    // The clock is behind the floor; that is no sign that it was set back.
    assert_eq!(words.fence_and_stamp(&floor, || 600), Stamp { ns: 656, lag_ns: 0 });
    assert_eq!(words.fence_and_stamp(&floor, || 800), Stamp { ns: 800, lag_ns: 0 });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pin(usize),
    Unpin(usize),
    OwnStamp(usize),
    Take,
    GiveBack(usize),
    Stamp,
    Scan { bought: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..3usize;
    prop_oneof![
        3 => who.clone().prop_map(Step::Pin),
        3 => who.clone().prop_map(Step::Unpin),
        4 => who.clone().prop_map(Step::OwnStamp),
        1 => Just(Step::Take),
        1 => who.prop_map(Step::GiveBack),
        3 => Just(Step::Stamp),
        4 => any::<bool>().prop_map(|bought| Step::Scan { bought }),
    ]
}

proptest! {
    /// Against plain facts, one step at a time: what becomes safe was stamped before every open
    /// section, and before the last stamp or pin of each thread, or a bought barrier.
    #[test]
    fn safe_only_what_nobody_can_hold(steps in proptest::collection::vec(step(), 0..200)) {
        let words = Words::new();
        let readers = [Reader::new(), Reader::new(), Reader::new()];
        let taken = Taken::new();
        (0..3).for_each(|i| assert_eq!(taken.take(3), Some(i)));
        let there = || taken.numbers().map(|i| &readers[i]);
        // Moments are counted; the clock goes in grains.
        let mut now = 10u64;
        // Up to which moment a thread has seen all stamps: by its own, or by a pin.
        let mut seen = [0u64; 3];
        let mut in_use = [true; 3];
        let mut pinned: [Option<u64>; 3] = [None; 3];
        let mut stamps: Vec<(u64, u64)> = Vec::new(); // (stamp, when)
        let mut bought_at = 0;
        for step in steps {
            now += 1;
            let clock = || now * GRAIN;
            match step {
                Step::Pin(i) if in_use[i] && pinned[i].is_none() => {
                    readers[i].pin(&words);
                    (pinned[i], seen[i]) = (Some(now), now);
                }
                Step::Unpin(i) if pinned[i].take().is_some() => readers[i].unpin(),
                Step::OwnStamp(i) if in_use[i] => {
                    readers[i].fence_and_stamp(&words, &NONE, clock);
                    seen[i] = now;
                }
                Step::Take => {
                    let free = in_use.iter().position(|in_use| !in_use);
                    prop_assert_eq!(taken.take(3), free);
                    if let Some(i) = free {
                        readers[i].fence_and_stamp(&words, &NONE, clock);
                        (in_use[i], seen[i]) = (true, now);
                    }
                }
                Step::GiveBack(i) if in_use[i] && pinned[i].is_none() => {
                    taken.give_back(i);
                    in_use[i] = false;
                }
                Step::Stamp => stamps.push((words.fence_and_stamp(&NONE, clock).ns, now)),
                Step::Scan { bought } => {
                    let before = words.safe().ns;
                    let own = words.fence_and_stamp(&NONE, clock).ns;
                    if bought {
                        bought_at = now;
                    }
                    // As in `Engine::scan`: one walk, unless a barrier is bought after it.
                    let learn = || {
                        let walk = walk(own, there());
                        let bought = bought.then(|| above(own));
                        Learned {
                            watermark: walk.collected.max(bought.unwrap_or(0)),
                            walk: bought.is_none().then_some(walk),
                        }
                    };
                    let found = scan(&words, learn, there);
                    prop_assert!(words.safe().ns >= before.max(found.safe));
                    let passed = (0..3)
                        .filter(|&i| in_use[i])
                        .map(|i| seen[i])
                        .min()
                        .unwrap_or(now)
                        .max(bought_at);
                    for &(stamp, when) in &stamps {
                        // What an earlier scan made reclaimable stays so.
                        if stamp < before || stamp >= words.safe().ns {
                            continue;
                        }
                        prop_assert!(when < passed, "a thread has not seen it");
                        let held = pinned.iter().flatten().any(|&begin| begin <= when);
                        prop_assert!(!held, "a section of before the stamp is open");
                    }
                    // Bought with no reader pinned: everything is freed.
                    if bought && pinned.iter().all(Option::is_none) {
                        prop_assert!(stamps.iter().all(|&(stamp, _)| stamp < words.safe().ns));
                    }
                }
                _ => {}
            }
        }
    }

    /// A stamp is above all before it, whatever the clock says.
    #[test]
    fn stamps_only_rise(clocks in proptest::collection::vec(0..1_000_000u64, 1..50)) {
        let words = Words::new();
        let (mut last, mut shown) = (0, 0u64);
        for clock in clocks {
            let stamp = words.fence_and_stamp(&NONE, || clock);
            prop_assert_eq!(stamp.ns, clock.next_multiple_of(GRAIN).max(above(last)));
            prop_assert_eq!(stamp.lag_ns, shown.saturating_sub(clock));
            (last, shown) = (stamp.ns, shown.max(clock));
        }
    }

    /// A memory that forgets nothing gives at least as much, and what this one gives had passed
    /// before the pinned era.
    #[test]
    fn what_had_passed_is_never_too_new(
        news in proptest::collection::vec((0..4u64, 0..3u64), 0..30), pin in 0..80u64,
    ) {
        let mut memory = VtimeMemory::default();
        let (mut era, mut vtime, mut all) = (1, 0, Vec::new());
        for (eras, rounds) in news {
            (era, vtime) = (era + eras, vtime + rounds);
            memory.remember(era, vtime);
            all.push((era, vtime));
        }
        let full = all.iter().filter(|pair| pair.0 < pin).map(|pair| pair.1).max().unwrap_or(0);
        prop_assert!(memory.passed(Some(pin)) <= full);
        prop_assert_eq!(memory.passed(None), all.last().map_or(0, |pair| pair.1));
    }
}

#[test]
fn an_era_translates_to_what_had_passed_before_it() {
    let mut memory = VtimeMemory::default();
    assert_eq!(memory.passed(None), 0);
    memory.remember(100, 10);
    memory.remember(200, 20);
    assert_eq!(memory.passed(None), 20);
    assert_eq!(memory.passed(Some(201)), 20);
    // Pinned while 20 may not have passed yet.
    assert_eq!(memory.passed(Some(200)), 10);
    assert_eq!(memory.passed(Some(100)), 0);
    // A source without virtual time in between takes nothing back.
    memory.remember(300, 0);
    assert_eq!(memory.passed(None), 20);
    (0..20).for_each(|n| memory.remember(400 + n, 30 + n));
    assert_eq!(memory.passed(Some(101)), 0, "older than the memory");
}
