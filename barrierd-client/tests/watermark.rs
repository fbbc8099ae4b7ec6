//! What a mapped file is believed, while something stores to it.

mod common;

use std::fs::{remove_file, rename, write};
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use barrierd_client::{Barrier, Distrust, FUTURE_SLACK_NS, Liveness, OpenError, Stamp, abi, clock};
use common::{Image, S, Writer, dir};

#[test]
fn passed_means_strictly_greater() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    let stamp = barrier.now();
    assert_eq!(barrier.passed(stamp), Ok(false));
    let writer = Writer::new(&path);
    writer.store(abi::LAST_INTERRUPT_NS, stamp.ns());
    assert_eq!(barrier.passed(stamp), Ok(false));
    sleep(Duration::from_millis(1));
    writer.store(abi::LAST_INTERRUPT_NS, stamp.ns() + 1);
    assert_eq!(barrier.passed(stamp), Ok(true));
    assert_eq!(barrier.watermark().map(|mark| mark.ns), Ok(stamp.ns() + 1));
}

#[test]
fn a_stamp_holds_for_every_mapping() {
    let (one, two) = (dir(), dir());
    let paths = [Image::ours(1).write(&one), Image::ours(1).write(&two)];
    let stamp = Stamp::now();
    sleep(Duration::from_millis(1));
    for path in paths {
        let barrier = Barrier::open(&path).expect("opened");
        assert_eq!(barrier.passed(stamp), Ok(false));
        Writer::new(&path).store(abi::LAST_INTERRUPT_NS, stamp.ns() + 1);
        assert_eq!(barrier.passed(stamp), Ok(true));
    }
}

#[test]
fn only_the_reserved_copies_of_vtime_are_read() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    // What the C daemon would do, started on our file.
    writer.store(abi::VTIME, 1 << 40);
    writer.store(abi::LAST_INTERRUPT_VTIME, 1 << 40);
    let mark = barrier.watermark().expect("trusted");
    assert_eq!((mark.vtime, mark.generation, barrier.vtime()), (5, 1, Some(7)));
    let word = barrier.vtime_word().expect("not legacy");
    writer.store(abi::TRUSTED_VTIME, 8);
    writer.store(abi::TRUSTED_LAST_VTIME, 6);
    writer.store(abi::GENERATION, 2);
    // SAFETY: `barrier` is alive.
    assert_eq!(unsafe { word.as_ref() }.load(Ordering::Relaxed), 8);
    let mark = barrier.watermark().expect("trusted");
    assert_eq!((mark.vtime, mark.generation, barrier.generation()), (6, 2, 2));
}

#[test]
fn a_watermark_from_the_future_ends_trust_for_good() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
    let first = barrier.passed(Stamp::from_ns(1)).expect_err("a lie");
    assert!(matches!(first, Distrust::FutureWatermark { ahead_ns } if ahead_ns > 3_000 * S));
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() - S);
    assert_eq!(barrier.passed(Stamp::from_ns(1)), Err(first));
    assert_eq!(barrier.watermark(), Err(first));
    // Another opening judges anew.
    assert!(Barrier::open(&path).expect("opened").watermark().is_ok());
}

#[test]
fn a_watermark_slightly_ahead_is_no_watermark_yet() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    // Half of the slack is long for this, but not for a machine that is busy elsewhere.
    let ahead = (0..1000).find_map(|_| {
        let word = clock::now_ns() + FUTURE_SLACK_NS / 2;
        writer.store(abi::LAST_INTERRUPT_NS, word);
        let mark = barrier.watermark().expect("within the slack");
        (clock::now_ns() < word).then_some((word, mark))
    });
    let (word, mark) = ahead.expect("one look in a thousand was quick enough");
    assert_eq!((mark.ns, mark.vtime), (0, 0));
    while clock::now_ns() < word {}
    let mark = barrier.watermark().expect("still trusted");
    assert_eq!((mark.ns, mark.vtime), (word, 5));
}

#[test]
fn a_vtime_from_the_future_ends_trust_for_good() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    writer.store(abi::TRUSTED_LAST_VTIME, 10);
    assert_eq!(barrier.watermark(), Err(Distrust::FutureVtime { ahead: 3 }));
    writer.store(abi::TRUSTED_LAST_VTIME, 5);
    assert_eq!(barrier.passed(Stamp::from_ns(1)), Err(Distrust::FutureVtime { ahead: 3 }));
}

#[test]
fn a_legacy_file_has_no_vtime_and_is_believed_once_it_moves() {
    let dir = dir();
    let path = Image::legacy(2).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    assert!(barrier.is_legacy());
    assert_eq!((barrier.vtime(), barrier.vtime_word(), barrier.heartbeat_ns()), (None, None, None));
    assert_eq!((barrier.generation(), barrier.ncpu()), (0, 2));
    // It may be left over from an earlier boot: what stood there at first proves nothing.
    let early = Stamp::from_ns(1);
    assert_eq!(barrier.passed(early), Ok(false));
    let word = clock::now_ns() - S / 100;
    writer.store(abi::LAST_INTERRUPT_NS, word);
    assert_eq!(barrier.passed(early), Ok(true));
    let mark = barrier.watermark().expect("trusted");
    assert_eq!((mark.ns, mark.vtime, mark.generation), (word, 0, 0));
    // Adoption while mapped: still legacy here, until it is opened again.
    writer.store(abi::GENERATION, 1);
    writer.store(abi::MAGIC, abi::MAGIC_VALUE);
    assert_eq!(barrier.watermark().map(|mark| mark.vtime), Ok(0));
}

#[test]
fn liveness_follows_the_heartbeat() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    alive_after(&barrier, || writer.store(abi::HEARTBEAT_NS, clock::now_ns()));
    writer.store(abi::HEARTBEAT_NS, clock::now_ns() - 10 * S);
    assert_eq!(barrier.liveness(), Liveness::Suspect);
    sleep(Duration::from_millis(51));
    assert_eq!(barrier.liveness(), Liveness::Stale);
    alive_after(&barrier, || writer.store(abi::HEARTBEAT_NS, clock::now_ns()));
    writer.store(abi::FLAGS, abi::FLAG_STOPPED);
    assert_eq!(barrier.liveness(), Liveness::Stopped);
    writer.store(abi::FLAGS, abi::FLAG_PER_CPU_EXACT);
    alive_after(&barrier, || writer.store(abi::HEARTBEAT_NS, clock::now_ns()));
}

#[test]
fn liveness_of_a_legacy_file_is_its_watermarks_age() {
    let dir = dir();
    let path = Image::legacy(1).write(&dir);
    let (barrier, writer) = (Barrier::open(&path).expect("opened"), Writer::new(&path));
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() - 2 * S);
    assert_eq!(barrier.liveness(), Liveness::Suspect);
    sleep(Duration::from_millis(51));
    assert_eq!(barrier.liveness(), Liveness::Stale);
    alive_after(&barrier, || writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns()));
}

/// Beats and looks until both happened within 200 ms of each other; then it must look alive.
#[track_caller]
fn alive_after(barrier: &Barrier, beat: impl Fn()) {
    for _ in 0..100 {
        let begin = clock::now_ns();
        beat();
        let seen = barrier.liveness();
        if clock::now_ns() - begin < S / 5 {
            assert_eq!(seen, Liveness::Alive);
            return;
        }
    }
    panic!("this machine takes 200 ms for a load");
}

#[test]
fn a_replaced_file_is_noticed() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    assert!(barrier.same_file().expect("stat works"));
    let new = dir.path().join("new");
    write(&new, Image::ours(1).bytes()).expect("written");
    rename(&new, &path).expect("renamed");
    assert!(!barrier.same_file().expect("stat works"));
    assert!(Barrier::open(&path).expect("opened").same_file().expect("stat works"));
    remove_file(&path).expect("removed");
    assert!(!barrier.same_file().expect("nothing there is an answer"));
    // The old mapping is still there.
    assert_eq!(barrier.vtime(), Some(7));
}

#[test]
fn reopening_follows_the_path_and_only_where_it_leads_elsewhere() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    assert!(barrier.reopen().expect("looked").is_none());
    // A daemon started again on the same file.
    Writer::new(&path).store(abi::GENERATION, 2);
    assert!(barrier.reopen().expect("looked").is_none());
    let new = dir.path().join("new");
    write(&new, Image::ours(1).with(abi::TRUSTED_VTIME, 70).bytes()).expect("written");
    common::chmod(&new, 0o644);
    rename(&new, &path).expect("renamed");
    let next = barrier.reopen().expect("opened").expect("another file");
    assert_eq!((barrier.vtime(), next.vtime()), (Some(7), Some(70)));
    assert!(next.reopen().expect("looked").is_none());
    remove_file(&path).expect("removed");
    assert!(matches!(next.reopen(), Err(OpenError::NotFound { .. })));
    // What stands there now is judged as at any opening.
    write(&path, Image::ours(1).bytes()).expect("written");
    common::chmod(&path, 0o666);
    assert!(matches!(next.reopen(), Err(OpenError::BadMode { .. })));
}

#[test]
fn a_legacy_file_that_a_daemon_completes_is_reopened_for_its_virtual_time() {
    let dir = dir();
    let path = Image::legacy(1).write(&dir);
    let barrier = Barrier::open(&path).expect("opened");
    assert!(barrier.reopen().expect("looked").is_none());
    let writer = Writer::new(&path);
    for (word, value) in Image::ours(1).0.into_iter().enumerate() {
        if word * 8 >= abi::MAGIC + 8 && word * 8 < abi::PER_CPU {
            writer.store(word * 8, value);
        }
    }
    assert!(barrier.reopen().expect("looked").is_none(), "the magic number comes last");
    writer.store(abi::MAGIC, abi::MAGIC_VALUE);
    let next = barrier.reopen().expect("opened").expect("completed");
    assert!(barrier.is_legacy() && !next.is_legacy());
    assert_eq!((barrier.vtime(), next.vtime()), (None, Some(7)));
}
