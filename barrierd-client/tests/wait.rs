//! Waiting: it ends when the barrier passes, never later than its deadline, whatever others do to
//! the futex.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep, spawn};
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Distrust, Liveness, Moment, Stamp, WaitError, abi, clock};
use common::{Image, Reader, S, Writer, dir};
use rustix::thread::futex;

/// Far longer than any wait here takes, short enough for a test that hangs.
const LONG: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);

#[test]
fn a_wait_ends_at_its_deadline_and_says_how_things_stood() {
    let dir = dir();
    let image = Image::ours(1).with(abi::HEARTBEAT_NS, clock::now_ns() - 5 * S);
    let barrier = Barrier::open(image.write(&dir)).expect("opened");
    let (deadline, stamp) = (Instant::now() + 150 * MS, Stamp::now());
    let error = barrier.wait(stamp, deadline).expect_err("nobody raises the watermark");
    assert!(Instant::now() >= deadline, "it gave up before");
    let WaitError::TimedOut { stamp_ns, watermark_ns, liveness } = error else {
        panic!("not a timeout: {error}");
    };
    assert_eq!((stamp_ns, liveness), (stamp.ns(), Liveness::Stale));
    assert!(0 < watermark_ns && watermark_ns < stamp_ns);
    assert!(error.to_string().contains("restart barrierd"), "{error}");
}

#[test]
fn a_deadline_in_the_past_still_gets_one_look() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let past = Instant::now();
    sleep(MS);
    assert_eq!(barrier.wait(Stamp::from_ns(1), past), Ok(()));
    assert!(matches!(barrier.wait(Stamp::now(), past), Err(WaitError::TimedOut { .. })));
    Writer::new(&path).store(abi::FLAGS, abi::FLAG_STOPPED);
    let error = barrier.wait(Stamp::now(), past).expect_err("nobody raises the watermark");
    assert!(matches!(error, WaitError::TimedOut { liveness: Liveness::Stopped, .. }));
    assert!(error.to_string().contains("start barrierd again"), "{error}");
}

/// The waiter is asleep on the very word that the daemon wakes (through another mapping), survives
/// being woken for nothing, and ends once the word is raised.
#[test]
fn a_wait_ends_when_the_word_is_raised_and_not_when_it_is_only_woken() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let writer = Writer::new(&path);
    let stamp = Stamp::now();
    let raised = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            let mut woken = 0;
            while woken < 20 {
                assert!(begin.elapsed() < LONG, "no waiter found on the futex word");
                woken += writer.wake(abi::LAST_INTERRUPT_NS);
            }
            raised.store(true, Ordering::SeqCst);
            writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns());
            writer.wake(abi::LAST_INTERRUPT_NS);
        });
        assert_eq!(barrier.wait(stamp, Instant::now() + 2 * LONG), Ok(()));
        assert!(raised.load(Ordering::SeqCst), "it ended before the word was raised");
    });
}

/// Publications that don't reach the stamp don't end the wait either.
#[test]
fn a_wait_outlasts_watermarks_below_its_stamp() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let writer = Writer::new(&path);
    let stamp = Stamp::now();
    scope(|scope| {
        scope.spawn(|| {
            for before in (0..20u64).rev() {
                sleep(MS);
                writer.store(abi::LAST_INTERRUPT_NS, stamp.ns() - before);
                writer.wake(abi::LAST_INTERRUPT_NS);
            }
            writer.store(abi::LAST_INTERRUPT_NS, stamp.ns() + 1);
            writer.wake(abi::LAST_INTERRUPT_NS);
        });
        assert_eq!(barrier.wait(stamp, Instant::now() + LONG), Ok(()));
        assert_eq!(barrier.watermark().map(|mark| mark.ns), Ok(stamp.ns() + 1));
    });
}

/// Someone who may only read the file moves the waiters to where nobody wakes them; the word is
/// raised and no wake-up ever comes. Without the limit on each sleep this takes the whole deadline.
#[test]
fn a_wait_survives_requeueing_by_any_reader() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let (writer, attacker) = (Writer::new(&path), Reader::new(&path));
    let stamp = Stamp::now();
    scope(|scope| {
        scope.spawn(|| {
            let begin = Instant::now();
            let from = attacker.half(abi::LAST_INTERRUPT_NS);
            let to = attacker.half(abi::per_cpu_ns(0));
            let mut moved = 0;
            while moved == 0 {
                assert!(begin.elapsed() < LONG, "no waiter to requeue");
                moved = futex::requeue(from, futex::Flags::empty(), 0, 1, to).expect("requeue");
            }
            writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns());
        });
        let deadline = Instant::now() + 6 * LONG;
        assert_eq!(barrier.wait(stamp, deadline), Ok(()));
        assert!(Instant::now() < deadline, "it slept until then");
    });
}

#[test]
fn a_daemon_restarted_within_the_deadline_is_waited_for() {
    let dir = dir();
    let path = Image::ours(1).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let writer = Writer::new(&path);
    let stamp = Stamp::now();
    scope(|scope| {
        scope.spawn(|| {
            sleep(100 * MS);
            writer.store(abi::GENERATION, 2);
            writer.store(abi::FLAGS, 0);
            writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns());
            writer.wake(abi::LAST_INTERRUPT_NS);
        });
        assert_eq!(barrier.wait(stamp, Instant::now() + LONG), Ok(()));
    });
}

#[test]
fn a_lie_ends_the_wait_at_once() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let writer = Writer::new(&path);
    scope(|scope| {
        scope.spawn(|| {
            sleep(20 * MS);
            writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
        });
        // At its deadline it would look as well.
        let deadline = Instant::now() + 6 * LONG;
        let error = barrier.wait(Stamp::now(), deadline).expect_err("a lie");
        assert!(matches!(error, WaitError::Distrust(Distrust::FutureWatermark { .. })));
        assert!(Instant::now() < deadline, "it slept until then");
    });
}

/// The watermark is above the stamp but a little in the future: the wait polls until it is not.
#[test]
fn a_clock_that_lags_a_little_delays_the_wait_and_no_more() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let stamp = Stamp::now();
    Writer::new(&path).store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 900_000);
    assert_eq!(barrier.wait(stamp, Instant::now() + LONG), Ok(()));
}

#[test]
fn threads_share_a_barrier_by_reference_and_by_value() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Barrier>();
    shared::<Stamp>();
    shared::<Moment>();
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier: &'static Barrier = Box::leak(Box::new(Barrier::open(&path).expect("opened")));
    let stamp = Stamp::now();
    let waiters: Vec<_> =
        (0..4).map(|_| spawn(move || barrier.wait(stamp, Instant::now() + LONG))).collect();
    let writer = Writer::new(&path);
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns());
    writer.wake(abi::LAST_INTERRUPT_NS);
    for waiter in waiters {
        assert_eq!(waiter.join().expect("no panic"), Ok(()));
    }
    assert_eq!(barrier.watermark().map(|mark| mark.generation), Ok(1));
}

/// What reached the socket beside `path` meanwhile.
fn sent(path: &std::path::Path, wait: impl FnOnce()) -> Vec<Vec<u8>> {
    let socket = std::os::unix::net::UnixDatagram::bind(abi::socket_path(path)).expect("bound");
    socket.set_nonblocking(true).expect("set");
    wait();
    let next = || {
        let mut bytes = [0; 64];
        let len = socket.recv(&mut bytes).ok()?;
        Some(bytes[..len].to_vec())
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn b23_who_sleeps_says_so_to_a_daemon_that_has_seen_nobody_wait() {
    for (flags, announces) in [(0, false), (abi::FLAG_EASY, true)] {
        let dir = dir();
        let path = Image::ours(1).with(abi::FLAGS, flags).write(&dir);
        let barrier = Barrier::open(&path).expect("a sound file");
        assert_eq!(barrier.is_easy(), announces);
        let sent = sent(&path, || {
            let soon = Instant::now() + Duration::from_millis(1);
            barrier.wait_passive(Stamp::now(), soon).expect_err("no daemon");
        });
        assert_eq!(!sent.is_empty(), announces);
        assert!(sent.iter().all(|datagram| *datagram == abi::announcement()), "{sent:?}");
    }
}
