//! Waiting for the first of several moments, in time and in virtual time.

mod common;

use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Distrust, Liveness, Moment, Stamp, WaitError, abi, clock};
use common::{Image, S, Writer, dir};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tempfile::TempDir;

/// Far longer than any wait here takes, short enough for a test that hangs.
const LONG: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);

/// A file, its writer, and a moment of each kind. The file's vtime is 7, complete below 5.
fn opened(dir: &TempDir) -> (Barrier, Writer, Stamp, Moment) {
    let path = Image::ours(1).write(dir);
    let barrier = Barrier::open(&path).expect("opened");
    let stamped = barrier.virtual_stamp().expect("not legacy");
    assert_eq!((stamped.vtime(), stamped.generation()), (7, 1));
    (barrier, Writer::new(&path), Stamp::now(), stamped.into())
}

#[test]
fn the_lowest_index_that_has_passed_is_returned() {
    let dir = dir();
    let (barrier, writer, stamp, vstamp) = opened(&dir);
    let soon = || Instant::now();
    let early = Stamp::from_ns(1);
    let any = |moments: &[Moment]| barrier.wait_any(moments, soon());
    assert_eq!(any(&[stamp.into(), vstamp, early.into()]), Ok(2));
    assert_eq!(any(&[early.into(), stamp.into(), early.into()]), Ok(0));
    assert!(any(&[stamp.into(), vstamp]).is_err());
    // Strictly greater: at the stamp itself nothing has passed.
    writer.store(abi::TRUSTED_VTIME, 9);
    writer.store(abi::TRUSTED_LAST_VTIME, 7);
    assert!(any(&[stamp.into(), vstamp]).is_err());
    writer.store(abi::TRUSTED_LAST_VTIME, 8);
    assert_eq!(any(&[stamp.into(), vstamp]), Ok(1));
    sleep(MS);
    writer.store(abi::LAST_INTERRUPT_NS, stamp.ns() + 1);
    assert_eq!(any(&[stamp.into(), vstamp]), Ok(0));
}

/// The words that the C daemon would raise unsoundly count for nothing here.
#[test]
fn only_the_trusted_copy_of_virtual_time_counts() {
    let dir = dir();
    let (barrier, writer, _, vstamp) = opened(&dir);
    writer.store(abi::VTIME, 1 << 40);
    writer.store(abi::LAST_INTERRUPT_VTIME, 1 << 40);
    let error = barrier.wait_any(&[vstamp], Instant::now() + 30 * MS).expect_err("not passed");
    assert!(matches!(error, WaitError::NonePassed { .. }), "{error}");
}

#[test]
fn a_wait_for_either_ends_with_the_first() {
    for by_vtime in [false, true] {
        let dir = dir();
        let (barrier, writer, stamp, vstamp) = opened(&dir);
        let passed = scope(|scope| {
            scope.spawn(|| {
                sleep(50 * MS);
                // As the daemon does: virtual time, then time, then a wake-up for time.
                if by_vtime {
                    writer.store(abi::TRUSTED_VTIME, 9);
                    writer.store(abi::TRUSTED_LAST_VTIME, 8);
                    writer.store(abi::LAST_INTERRUPT_NS, stamp.ns());
                } else {
                    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns());
                }
                writer.wake(abi::LAST_INTERRUPT_NS);
            });
            barrier.wait_any(&[vstamp, stamp.into()], Instant::now() + LONG)
        });
        assert_eq!(passed, Ok(if by_vtime { 0 } else { 1 }));
    }
}

#[test]
fn a_deadline_ends_it_and_says_how_things_stood() {
    let dir = dir();
    let image = Image::ours(1).with(abi::HEARTBEAT_NS, clock::now_ns() - 5 * S);
    let barrier = Barrier::open(image.write(&dir)).expect("opened");
    let (deadline, moment) = (Instant::now() + 120 * MS, Moment::from(Stamp::now()));
    let error = barrier.wait_any(&[moment, moment], deadline).expect_err("nobody stores");
    assert!(Instant::now() >= deadline, "it gave up before");
    let WaitError::NonePassed { moments, watermark, liveness } = error else {
        panic!("not a timeout: {error}");
    };
    assert_eq!((moments, watermark.vtime, liveness), (2, 5, Liveness::Stale));
    assert!(error.to_string().contains("restart barrierd"), "{error}");
    // Nothing to wait for: no wait.
    let none = barrier.wait_any(&[], deadline + 10 * LONG).expect_err("nothing can pass");
    assert!(matches!(none, WaitError::NonePassed { moments: 0, .. }));
}

#[test]
fn a_virtual_stamp_of_a_daemon_that_has_gone_never_passes() {
    let dir = dir();
    let (barrier, writer, stamp, vstamp) = opened(&dir);
    writer.store(abi::GENERATION, 2);
    writer.store(abi::TRUSTED_VTIME, 90);
    writer.store(abi::TRUSTED_LAST_VTIME, 80);
    let long = Instant::now() + LONG;
    let error = barrier.wait_any(&[vstamp], long).expect_err("of another daemon");
    assert_eq!(error, WaitError::OtherGeneration { stamped: 1, now: 2 });
    assert!(error.to_string().contains("Stamp::now()"), "{error}");
    // Beside another moment it is passed over.
    let early = Stamp::from_ns(1).into();
    assert_eq!(barrier.wait_any(&[vstamp, early], long), Ok(1));
    let short = Instant::now() + 30 * MS;
    let error = barrier.wait_any(&[vstamp, stamp.into()], short).expect_err("not passed");
    assert!(matches!(error, WaitError::NonePassed { moments: 2, .. }));
}

#[test]
fn a_legacy_file_serves_stamps_in_time_alone_and_once_it_has_moved() {
    let dir = dir();
    let (_, _, _, vstamp) = opened(&dir);
    let path = Image::legacy(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    assert_eq!(barrier.virtual_stamp(), None);
    let now = Instant::now();
    let error = barrier.wait_any(&[vstamp], now + LONG).expect_err("no virtual time");
    assert_eq!(error, WaitError::OtherGeneration { stamped: 1, now: 0 });
    let early = Stamp::from_ns(1).into();
    assert!(barrier.wait_any(&[vstamp, early], now).is_err(), "it may be of another boot");
    Writer::new(&path).store(abi::LAST_INTERRUPT_NS, clock::now_ns());
    sleep(MS);
    assert_eq!(barrier.wait_any(&[vstamp, early], now), Ok(1));
}

#[test]
fn a_lie_ends_it_at_once() {
    let dir = dir();
    let (barrier, writer, stamp, vstamp) = opened(&dir);
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
    let error =
        barrier.wait_any(&[stamp.into(), vstamp], Instant::now() + LONG).expect_err("a lie");
    assert!(matches!(error, WaitError::Distrust(Distrust::FutureWatermark { .. })));
}

/// A moment of the model: in time before (or not before) a base, or in virtual time of a generation.
#[derive(Clone, Copy, Debug)]
enum Modelled {
    Time { before_ns: u64 },
    Virtual { generation: u64, vtime: u64 },
}

fn modelled() -> impl Strategy<Value = Modelled> {
    prop_oneof![
        (0u64..8).prop_map(|before_ns| Modelled::Time { before_ns }),
        (1u64..3, 0u64..8).prop_map(|(generation, vtime)| Modelled::Virtual { generation, vtime }),
    ]
}

/// Failures are kept beside this file, since there is no lib.rs above it to keep them by.
fn config() -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// One look, against the rules in a few words.
    #[test]
    fn a_look_answers_as_the_rules_say(
        moments in prop::collection::vec(modelled(), 0..6),
        (word, vtime, generation) in (0u64..8, 0u64..8, 1u64..3),
    ) {
        let dir = dir();
        let base = clock::now_ns() - S;
        let path = Image::ours(1)
            .with(abi::LAST_INTERRUPT_NS, base - word)
            .with(abi::per_cpu_ns(0), 0)
            .with(abi::TRUSTED_VTIME, 9)
            .write(&dir);
        let barrier = Barrier::open(&path).expect("opened");
        let writer = Writer::new(&path);
        // Stamps are only had from the file.
        let stamps: Vec<Moment> = moments.iter().map(|&moment| match moment {
            Modelled::Time { before_ns } => Stamp::from_ns(base - before_ns).into(),
            Modelled::Virtual { generation, vtime } => {
                writer.store(abi::GENERATION, generation);
                writer.store(abi::TRUSTED_VTIME, vtime);
                barrier.virtual_stamp().expect("not legacy").into()
            }
        }).collect();
        writer.store(abi::GENERATION, generation);
        writer.store(abi::TRUSTED_VTIME, 9);
        writer.store(abi::TRUSTED_LAST_VTIME, vtime);
        let passed = |moment: &Modelled| match *moment {
            Modelled::Time { before_ns } => before_ns > word,
            Modelled::Virtual { generation: of, vtime: at } => of == generation && vtime > at,
        };
        let hopeless = |moment: &Modelled| {
            matches!(*moment, Modelled::Virtual { generation: of, .. } if of != generation)
        };
        match barrier.wait_any(&stamps, Instant::now()) {
            Ok(index) => prop_assert_eq!(moments.iter().position(passed), Some(index)),
            Err(error) => {
                prop_assert!(!moments.iter().any(passed));
                let lost = !moments.is_empty() && moments.iter().all(hopeless);
                prop_assert_eq!(lost, matches!(error, WaitError::OtherGeneration { .. }));
            }
        }
    }
}
