//! The pace, told of scans and wake-ups by hand and at random.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

fn listen(until_ns: u64) -> Step {
    Step::Wait { how: How::Listen, until_ns }
}

fn pause(until_ns: u64) -> Step {
    Step::Wait { how: How::Pause, until_ns }
}

fn sleep(until_ns: u64) -> Step {
    Step::Wait { how: How::Sleep, until_ns }
}

fn pace() -> Pace {
    Pace::new(MS, 0)
}

fn busy(now_ns: u64) -> Found {
    Found { now_ns, others_idle: false, vtime: 0, last_vtime: None, flag_stands: false }
}

fn idle(now_ns: u64, vtime: u64) -> Found {
    let last_vtime = vtime.checked_sub(1);
    Found { now_ns, others_idle: true, vtime, last_vtime, flag_stands: true }
}

/// From awake to asleep; returns the time of the last scan and the newest vtime.
fn fall_asleep(pace: &mut Pace, now: u64) -> (u64, u64) {
    assert_eq!(pace.flag(), Flag::Clear);
    assert_eq!(pace.scanned(&idle(now, 5)), pause(now + MS));
    assert_eq!(pace.woken(now + MS, Woken::Timeout), Step::Scan);
    settle(pace, now + MS)
}

fn settle(pace: &mut Pace, now: u64) -> (u64, u64) {
    assert_eq!(pace.flag(), Flag::Set);
    assert_eq!(pace.scanned(&idle(now, 6)), pause(now + MS));
    assert_eq!(pace.flag(), Flag::Keep);
    assert_eq!(pace.woken(now + MS, Woken::Timeout), Step::Scan);
    // A stamp of 6 may be about: the second scan publishes 6, the third 7.
    assert_eq!(pace.scanned(&idle(now + MS, 7)), Step::Scan);
    assert_eq!(pace.flag(), Flag::Keep);
    let until_ns = now + MS + 1_000 + LONGEST_SLEEP_NS;
    assert_eq!(pace.scanned(&idle(now + MS + 1_000, 8)), sleep(until_ns));
    (now + MS + 1_000, 8)
}

#[test]
fn busy_scans_listen_for_a_period() {
    let mut pace = pace();
    for i in 1..10 {
        assert_eq!(pace.scanned(&busy(i * MS)), listen((i + 1) * MS));
        assert_eq!(pace.woken((i + 1) * MS, Woken::Timeout), Step::Scan);
    }
}

#[test]
fn early_scans_empty_the_bucket_and_late_timers_fill_it() {
    let mut pace = pace();
    let mut now = MS;
    // Four on credit, each at once.
    for _ in 0..4 {
        assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Listen, .. }));
        assert_eq!(pace.woken(now, Woken::Notified), Step::Scan);
    }
    assert_eq!(pace.scanned(&busy(now)), pause(now + MS));
    // Timers are late by 60 us: after 17 such pauses a period has been saved.
    for _ in 0..16 {
        now += MS + 60_000;
        assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Pause, .. }));
    }
    now += MS + 60_000;
    assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Listen, .. }));
}

#[test]
fn a_long_silence_saves_no_more_than_the_burst() {
    let mut pace = pace();
    pace.scanned(&busy(1_000 * MS));
    let early = (0..10).take_while(|_| {
        matches!(pace.scanned(&busy(1_000 * MS)), Step::Wait { how: How::Listen, .. })
    });
    assert_eq!(early.count(), 3);
}

#[test]
fn the_way_into_sleep() {
    fall_asleep(&mut pace(), 10 * MS);
}

#[test]
fn heartbeats_do_not_wake_it() {
    let mut pace = pace();
    let (mut now, mut vtime) = fall_asleep(&mut pace, 0);
    for _ in 0..3 {
        now += LONGEST_SLEEP_NS;
        vtime += 1;
        assert_eq!(pace.woken(now, Woken::Timeout), Step::Scan);
        assert_eq!(pace.flag(), Flag::Keep);
        let until_ns = now + LONGEST_SLEEP_NS;
        assert_eq!(pace.scanned(&idle(now, vtime)), sleep(until_ns));
    }
}

#[test]
fn a_heartbeat_that_finds_someone_busy_ends_sleep() {
    let mut pace = pace();
    let (now, _) = fall_asleep(&mut pace, 0);
    assert!(matches!(pace.scanned(&busy(now + MS)), Step::Wait { how: How::Listen, .. }));
    assert_eq!(pace.flag(), Flag::Clear);
}

#[test]
fn wake_ups_into_an_idle_machine_back_off() {
    let mut pace = pace();
    let (mut now, _) = fall_asleep(&mut pace, 0);
    for wait in [1, 2, 4, 8, 16, 20, 20] {
        let until_ns = now + wait * MS;
        assert_eq!(pace.woken(now, Woken::Notified), pause(until_ns));
        assert_eq!(pace.woken(until_ns, Woken::Timeout), Step::Scan);
        now = settle(&mut pace, until_ns).0;
    }
    // Real work resets it.
    assert_eq!(pace.woken(now, Woken::Notified), pause(now + 20 * MS));
    pace.scanned(&busy(now + 20 * MS));
    let (now, _) = fall_asleep(&mut pace, now + 21 * MS);
    assert_eq!(pace.woken(now, Woken::Notified), pause(now + MS));
}

#[test]
fn a_task_that_runs_on_the_way_into_sleep_starts_it_over() {
    for scans_before in 0..3 {
        let mut pace = pace();
        pace.scanned(&idle(0, 5));
        let mut vtime = 6;
        for _ in 0..scans_before {
            pace.scanned(&idle(MS, vtime));
            vtime += 1;
        }
        let disturbed = Found { flag_stands: false, ..idle(2 * MS, vtime) };
        assert_eq!(pace.scanned(&disturbed), pause(3 * MS));
        assert_eq!(pace.flag(), Flag::Set);
    }
}

#[test]
fn sleep_waits_for_virtual_time_after_a_restart_too() {
    let mut pace = pace();
    pace.scanned(&idle(0, 5));
    pace.scanned(&idle(MS, 6));
    let silent = Found { last_vtime: None, ..idle(2 * MS, 7) };
    assert_eq!(pace.scanned(&silent), Step::Scan);
    assert_eq!(pace.scanned(&idle(2 * MS, 7)), Step::Scan);
    assert!(matches!(pace.scanned(&idle(2 * MS, 8)), Step::Wait { how: How::Sleep, .. }));
}

proptest! {
    /// Whatever happens: never asleep without two scans of an idle machine and a flag that
    /// stands, at most a scan a period beyond the burst, never a wait beyond the beat.
    #[test]
    fn invariants(
        events in proptest::collection::vec((any::<[bool; 3]>(), 0..2 * MS), 1..300),
    ) {
        let mut pace = pace();
        let (mut now, mut scans, mut vtime) = (0u64, 0u64, 0u64);
        let (mut idle_scans, mut since_flag) = (0, 0);
        let mut extra = 0u64;
        let mut step = Step::Scan;
        for ([others_idle, flag_stands, notified], cost) in events {
            match step {
                Step::Scan => {
                    if pace.flag() == Flag::Set {
                        since_flag = 0;
                    }
                    scans += 1;
                    since_flag += 1;
                    idle_scans = if others_idle { idle_scans + 1 } else { 0 };
                    vtime += 1;
                    let last_vtime = vtime.checked_sub(1);
                    let asleep = pace.mode == Mode::Asleep;
                    step = pace.scanned(&Found {
                        now_ns: now, others_idle, vtime, last_vtime, flag_stands,
                    });
                    if matches!(step, Step::Scan) {
                        extra += 1;
                    }
                    if matches!(step, Step::Wait { how: How::Sleep, .. }) {
                        prop_assert!(flag_stands);
                        prop_assert!(asleep || (idle_scans >= 2 && since_flag >= 2));
                    }
                }
                Step::Wait { how, until_ns } => {
                    prop_assert!(until_ns > now && until_ns - now <= LONGEST_SLEEP_NS);
                    let early = notified && how != How::Pause;
                    now = if early { (now + cost).min(until_ns) } else { until_ns };
                    let by = if early { Woken::Notified } else { Woken::Timeout };
                    step = pace.woken(now, by);
                }
            }
        }
        prop_assert!(scans <= now / MS + BURST + extra + 1, "{} scans in {} ns", scans, now);
    }
}
