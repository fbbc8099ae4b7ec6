//! How a queue follows the pace of its thread, by counts: of scans, of purchases, of what waits. A reader and a
//! writer take turns on one thread, so nothing here depends on how busy the machine is, but that no two retirements
//! are nearer to each other than a pause.

use barrierd_reclaim::{Handle, Reclaimer, Source};
use std::thread;
use std::time::Duration;

/// Items that come this far apart are sealed in bags of two.
const PAUSE: Duration = Duration::from_micros(100);
/// A queue knows nothing of its thread's pace before it has filled a bag.
const FIRST_BAG: u64 = 64;

fn reclaimer() -> Reclaimer {
    Reclaimer::builder().source(Source::Membarrier).background(false).build().unwrap()
}

fn retire(writer: &Handle) {
    thread::sleep(PAUSE);
    // SAFETY: fresh from a Box, retired once.
    unsafe { writer.retire(Box::into_raw(Box::new(0u64))) };
}

/// Retires `items`, with a section of the reader's after each. The most that ever waited.
fn beside_a_reader(reclaimer: &Reclaimer, writer: &Handle, reader: &mut Handle, items: u64) -> u64 {
    let waiting = (0..items).map(|_| {
        retire(writer);
        drop(reader.pin());
        reclaimer.stats().waiting()
    });
    waiting.max().unwrap_or(0)
}

/// A bag is open, one waits for the scan of the next call, one is being freed. No call has both a seal and a scan to
/// pay for, and none a barrier: the reader shows what it has seen.
#[test]
fn a_slow_writer_beside_a_reader_waits_for_nothing() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    beside_a_reader(&reclaimer, &writer, &mut reader, 2 * FIRST_BAG);
    let before = reclaimer.stats();
    let most = beside_a_reader(&reclaimer, &writer, &mut reader, 100);
    let after = reclaimer.stats();
    assert!(most <= 6, "{most} waited");
    assert!((40..=51).contains(&(after.scans - before.scans)), "{before:?} {after:?}");
    assert_eq!(after.retire_syscalls, 0, "{after:?}");
}

/// However many places there are whose threads rest: a bag that is sealed before it is full is scanned for.
#[test]
fn a_slow_writer_beside_many_idle_threads_waits_for_no_further_bags() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    let mut idle: Vec<Handle> = (0..100).map(|_| reclaimer.handle()).collect();
    let mut most = 0;
    for round in 0..3 * FIRST_BAG {
        // They have seen what was unlinked so far, and go back to rest.
        idle.iter_mut().for_each(|one| drop(one.pin()));
        let waiting = beside_a_reader(&reclaimer, &writer, &mut reader, 1);
        most = most.max(if round < 2 * FIRST_BAG { 0 } else { waiting });
    }
    assert!(most <= 6, "{most} waited");
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}

/// While a section is open bags are filled up, but looks go on at the pace of before: so what it held goes soon after
/// its end, wherever in a bag that falls.
#[test]
fn what_a_section_held_goes_soon_after_it() {
    let reclaimer = reclaimer();
    let (writer, mut reader) = (reclaimer.handle(), reclaimer.handle());
    beside_a_reader(&reclaimer, &writer, &mut reader, 2 * FIRST_BAG);
    for held in [200, 216, 232, 248] {
        let guard = reader.pin();
        (0..held).for_each(|_| retire(&writer));
        assert!(reclaimer.stats().waiting() >= held);
        drop(guard);
        drop(reader.pin());
        let before = reclaimer.stats().freed;
        beside_a_reader(&reclaimer, &writer, &mut reader, 24);
        // Two a call, once a scan has found the section's end.
        let freed = reclaimer.stats().freed - before;
        assert!(freed >= 32, "{freed} of {held} freed");
        writer.flush();
        beside_a_reader(&reclaimer, &writer, &mut reader, 2 * FIRST_BAG);
    }
    // What an open section holds back no barrier lets go.
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}
