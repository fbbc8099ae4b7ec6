//! The pace, told of scans and wake-ups by hand, at random, and by a machine with ticks.

use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const CYCLE: u64 = 4 * MS;

fn wait(how: How, until_ns: u64) -> Step {
    Step::Wait { how, until_ns }
}

fn pause(until_ns: u64) -> Step {
    wait(How::Pause, until_ns)
}

fn pace() -> Pace {
    Pace::new(CYCLE, 0).always_keen()
}

fn busy(now_ns: u64) -> Found {
    let (others_idle, passed, flag_stands) = (false, true, false);
    Found { now_ns, others_idle, passed, vtime: 0, last_vtime: None, flag_stands }
}

fn idle(now_ns: u64, vtime: u64) -> Found {
    let last_vtime = vtime.checked_sub(1);
    Found { others_idle: true, vtime, last_vtime, flag_stands: true, ..busy(now_ns) }
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
    assert_eq!(pace.scanned(&idle(now + MS + 1_000, 8)), wait(How::Sleep, until_ns));
    (now + MS + 1_000, 8)
}

#[test]
fn a_cycle_is_whole_ticks_unless_told_otherwise() {
    for (tick, period, cycle) in [
        (4 * MS, None, 4 * MS),
        (MS, None, 3 * MS),
        (3_333_333, None, 3_333_333),
        (10 * MS, None, 10 * MS),
        (4 * MS, Some(4 * MS), 4 * MS),
        (4 * MS, Some(5 * MS), 8 * MS),
        (4 * MS, Some(MS), MS),
    ] {
        assert_eq!(cycle_ns(tick, period), cycle, "{tick} {period:?}");
    }
}

/// Two wake-ups a cycle where every check finds all past.
#[test]
fn arm_look_scan_rest() {
    let mut pace = pace();
    assert_eq!(pace.scanned(&busy(MS)), wait(How::Rest, CYCLE));
    for at in (1..10).map(|cycle| cycle * CYCLE) {
        let check_at = at + LEAD_NS + TRAIL_NS;
        assert_eq!(pace.woken(at + 20_000, Woken::Timeout), pause(check_at));
        assert_eq!(pace.woken(check_at + 20_000, Woken::Timeout), Step::Check);
        assert_eq!(pace.checked(check_at + 20_000, true), Step::Scan);
        assert_eq!(pace.flag(), Flag::Clear);
        assert_eq!(pace.scanned(&busy(check_at + 30_000)), wait(How::Rest, at + CYCLE));
    }
}

/// One round that is listened for, until a notification at `passed_at`.
fn listened(pace: &mut Pace, armed_at: u64, passed_at: u64) -> Step {
    let Step::Wait { how: How::Pause, until_ns } = pace.woken(armed_at, Woken::Timeout) else {
        panic!("armed")
    };
    assert_eq!(pace.woken(until_ns, Woken::Timeout), Step::Check);
    assert_eq!(pace.checked(until_ns, false), wait(How::Listen, until_ns + MS));
    assert_eq!(pace.woken(passed_at, Woken::Notified), Step::Scan);
    pace.scanned(&busy(passed_at))
}

#[test]
fn three_late_rounds_move_the_phase_to_the_earliest_of_them() {
    let mut pace = pace();
    pace.scanned(&busy(0));
    let rest = |at| wait(How::Rest, at);
    let late = |by: u64| move |at: u64| at + LEAD_NS + by;
    assert_eq!(listened(&mut pace, CYCLE, late(900_000)(CYCLE)), rest(2 * CYCLE));
    assert_eq!(listened(&mut pace, 2 * CYCLE, late(700_000)(2 * CYCLE)), rest(3 * CYCLE));
    assert_eq!(listened(&mut pace, 3 * CYCLE, late(800_000)(3 * CYCLE)), rest(4 * CYCLE + 700_000));
}

#[test]
fn after_a_round_beyond_the_next_arming_comes_the_next_at_once() {
    let mut pace = pace();
    pace.scanned(&busy(0));
    let passed_at = 2 * CYCLE + MS;
    let check_at = passed_at + LEAD_NS + TRAIL_NS;
    assert_eq!(listened(&mut pace, CYCLE, passed_at), pause(check_at));
    assert_eq!(pace.woken(check_at, Woken::Timeout), Step::Check);
    assert_eq!(pace.checked(check_at, true), Step::Scan);
    assert_eq!(pace.scanned(&busy(check_at)), wait(How::Rest, 3 * CYCLE));
}

#[test]
fn a_good_look_forgets_the_late_rounds_before() {
    let mut pace = pace();
    pace.scanned(&busy(0));
    for cycle in (1..20).step_by(2) {
        let at = cycle * CYCLE;
        assert_eq!(listened(&mut pace, at, at + MS), wait(How::Rest, at + CYCLE));
        let at = at + CYCLE;
        pace.woken(at, Woken::Timeout);
        assert_eq!(pace.checked(at + MS, true), Step::Scan);
        assert_eq!(pace.scanned(&busy(at + MS)), wait(How::Rest, at + CYCLE));
    }
}

#[test]
fn a_round_that_is_never_notified_is_armed_anew_then_scanned_then_listened_for_in_cycles() {
    let mut pace = pace();
    pace.scanned(&busy(0));
    pace.woken(CYCLE, Woken::Timeout);
    let mut now = CYCLE + MS;
    assert_eq!(pace.checked(now, false), wait(How::Listen, now + MS));
    for _ in 0..3 {
        now += MS;
        assert_eq!(pace.woken(now, Woken::Timeout), Step::Check);
        assert_eq!(pace.checked(now, false), wait(How::Listen, now + MS));
    }
    now += MS;
    assert_eq!(pace.woken(now, Woken::Timeout), Step::Check);
    assert_eq!(pace.checked(now, false), Step::Scan);
    let lagging = |now| Found { passed: false, ..busy(now) };
    for _ in 0..5 {
        assert_eq!(pace.scanned(&lagging(now)), wait(How::Listen, now + CYCLE));
        now += CYCLE;
        assert_eq!(pace.woken(now, Woken::Timeout), Step::Check);
        assert_eq!(pace.checked(now, false), Step::Scan);
    }
    // Passed at last, long after the next arming was due.
    assert_eq!(pace.scanned(&busy(now)), pause(now + LEAD_NS + TRAIL_NS));
}

#[test]
fn a_served_request_ends_listening_and_nothing_else() {
    let mut pace = pace();
    assert_eq!(pace.served(0), None);
    pace.scanned(&busy(0));
    assert_eq!(pace.served(0), None);
    pace.woken(CYCLE, Woken::Timeout);
    assert_eq!(pace.served(CYCLE), None);
    pace.checked(CYCLE + MS, false);
    assert_eq!(pace.served(CYCLE + MS), Some(Step::Check));
    fall_asleep(&mut pace, 9 * MS);
    assert_eq!(pace.served(9 * MS), None);
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
        assert_eq!(pace.scanned(&idle(now, vtime)), wait(How::Sleep, until_ns));
    }
}

#[test]
fn a_heartbeat_that_finds_someone_busy_ends_sleep() {
    let mut pace = pace();
    let (now, _) = fall_asleep(&mut pace, 0);
    assert!(matches!(pace.scanned(&busy(now + MS)), Step::Wait { how: How::Rest, .. }));
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

/// A lease after the start, easy; the time of the scan that made it so.
fn eased() -> (Pace, u64) {
    let mut pace = Pace::new(CYCLE, 0);
    assert!(matches!(pace.scanned(&busy(LEASE_NS - 1)), Step::Wait { how: How::Rest, .. }));
    assert!(!pace.is_easy());
    assert_eq!(pace.scanned(&busy(LEASE_NS)), pause(LEASE_NS + EASY_NS));
    assert!(pace.is_easy());
    (pace, LEASE_NS)
}

#[test]
fn b23_with_nobody_waiting_it_wakes_up_once_each_easy_period_on_a_busy_machine() {
    let (mut pace, mut now) = eased();
    for _ in 0..100 {
        now += EASY_NS + 30_000;
        assert_eq!(pace.woken(now, Woken::Timeout), Step::Scan);
        assert_eq!(pace.flag(), Flag::Clear);
        assert_eq!(pace.scanned(&busy(now)), pause(now + EASY_NS));
    }
}

/// Whatever user tasks come and go: nothing ends the wait.
#[test]
fn b23_with_nobody_waiting_it_wakes_up_once_a_beat_on_an_idle_machine() {
    let (mut pace, mut now) = eased();
    for vtime in 5..100 {
        now += EASY_NS + 30_000;
        assert_eq!(pace.woken(now, Woken::Timeout), Step::Scan);
        assert_eq!(pace.flag(), Flag::Clear);
        assert_eq!(pace.scanned(&idle(now, vtime)), pause(now + LONGEST_SLEEP_NS));
    }
    now += LONGEST_SLEEP_NS;
    assert_eq!(pace.scanned(&busy(now)), pause(now + EASY_NS));
}

/// A stamp from right after an arming has passed at the second wake-up after that, one of the vtime that was
/// opened with it at the third: the bound that docs/proofs/daemon.md states,
/// "Keen and easy".
#[test]
fn b23_who_neither_sleeps_nor_asks_waits_two_easy_periods_and_in_virtual_time_three() {
    const LATE: u64 = 45_000;
    let mut late = jitter(17);
    let (mut pace, now) = eased();
    let mut wake_ups = vec![now];
    for beat in 0..200_u64 {
        let others_idle = beat % 7 < 3;
        let last = *wake_ups.last().expect("one");
        let Step::Wait { how: How::Pause, until_ns } =
            pace.scanned(&Found { others_idle, ..busy(last) })
        else {
            panic!("armed anew, and nothing ends the wait")
        };
        // Each CPU has a tick in between.
        assert!(until_ns >= last + CYCLE);
        wake_ups.push(until_ns + late());
        assert_eq!(pace.woken(until_ns, Woken::Timeout), Step::Scan);
    }
    let apart = |n: usize| wake_ups.windows(n + 1).map(|w| w[n] - w[0]).max().expect("many");
    assert!(apart(2) <= 180 * MS + 2 * LATE && apart(3) <= 270 * MS + 3 * LATE);
}

#[test]
fn who_comes_to_an_easy_daemon_makes_it_keen_at_once() {
    let (mut pace, now) = eased();
    assert_eq!(pace.served(now + MS), None, "nobody has come");
    pace.demand(now + MS);
    assert_eq!(pace.served(now + MS), Some(Step::Scan));
    // The phase is still known: the next arming is one of the beat's.
    assert_eq!(pace.scanned(&busy(now + MS)), wait(How::Rest, LEASE_NS + CYCLE));
    assert!(!pace.is_easy());
    assert_eq!(pace.served(now + MS), None);
}

#[test]
fn who_is_woken_by_an_easy_publication_makes_it_keen_for_a_lease() {
    let (mut pace, mut now) = eased();
    now += EASY_NS;
    assert_eq!(pace.woken(now, Woken::Timeout), Step::Scan);
    pace.demand(now);
    let until = now + LEASE_NS;
    while now < until {
        assert!(matches!(pace.scanned(&busy(now)), Step::Wait { how: How::Rest, .. }));
        now += CYCLE;
    }
    assert_eq!(pace.scanned(&busy(now)), pause(now + EASY_NS));
    // On an idle machine: the way into sleep.
    pace.demand(now);
    fall_asleep(&mut pace, now);
}

#[test]
fn a_lease_that_ends_asleep_ends_at_the_next_beat() {
    let mut pace = Pace::new(CYCLE, 0);
    let (now, vtime) = fall_asleep(&mut pace, LEASE_NS - 10 * MS);
    let now = now + LONGEST_SLEEP_NS;
    assert_eq!(pace.woken(now, Woken::Timeout), Step::Scan);
    assert_eq!(pace.scanned(&idle(now, vtime + 1)), pause(now + LONGEST_SLEEP_NS));
    assert_eq!(pace.flag(), Flag::Clear);
}

#[test]
fn a_period_that_was_asked_for_stays() {
    let mut pace = pace();
    assert!(matches!(pace.scanned(&busy(u64::MAX / 2)), Step::Wait { how: How::Rest, .. }));
}

/// What a simulated second cost and how long barriers took.
#[derive(Debug)]
struct Second {
    wake_ups: u64,
    notified: u64,
    scans: u64,
    /// Mean time from a stamp to the publication that passes it, over all stamps.
    mean_wait_ns: u64,
}

/// A machine of busy CPUs that tick at `phases` and take no other interrupt. Every wake-up of the
/// daemon comes late, by what `late` says; the second is the third since the start.
fn simulate(phases: &[u64], mut late: impl FnMut() -> u64) -> Second {
    const START: u64 = 500_000_000;
    let (from, to) = (START + 2_000 * MS, START + 3_000 * MS);
    let mut pace = Pace::new(CYCLE, START).always_keen();
    let mut now = START;
    // Armings in order, and the one that a CPU holds at a time: the last one before its last tick.
    let mut armings = vec![START];
    let tick_before = |cpu: usize, now: u64| now - (now - phases[cpu]) % CYCLE;
    let holds = |armings: &[u64], cpu: usize, now: u64| {
        let tick = tick_before(cpu, now);
        armings.iter().rev().copied().find(|&armed| armed <= tick).unwrap_or(0)
    };
    let least = |armings: &[u64], now: u64| {
        (0..phases.len()).map(|cpu| holds(armings, cpu, now)).min().expect("a CPU")
    };
    let (mut wanted, mut watermark) = (None, 0);
    let mut second = Second { wake_ups: 0, notified: 0, scans: 0, mean_wait_ns: 0 };
    let mut waited = 0u128;
    let mut step = Step::Scan;
    while now < to {
        let counts = u64::from(now >= from);
        step = match step {
            Step::Scan => {
                second.scans += counts;
                let proved = least(&armings, now);
                // Every stamp from the old watermark to the new one passes now.
                if proved > watermark && watermark >= from {
                    let (first, last) = (now - proved, now - watermark);
                    waited += u128::from(first + last) * u128::from(proved - watermark) / 2;
                }
                watermark = watermark.max(proved);
                let passed = wanted.is_none_or(|wanted| watermark >= wanted);
                pace.scanned(&Found { passed, ..busy(now) })
            }
            Step::Check => {
                let passed = least(&armings, now) >= *armings.last().expect("one");
                pace.checked(now, passed)
            }
            Step::Wait { how, until_ns } => {
                if how != How::Rest {
                    armings.push(now);
                }
                match how {
                    How::Listen if wanted.is_none_or(|wanted| watermark >= wanted) => {
                        wanted = Some(now);
                    }
                    How::Listen => {}
                    _ => wanted = None,
                }
                let notified_at = wanted.map(|wanted| {
                    let passes = |&phase: &u64| wanted + (CYCLE - (wanted - phase) % CYCLE) % CYCLE;
                    phases.iter().map(passes).max().expect("a CPU")
                });
                let notified = notified_at.filter(|&at| at <= until_ns);
                let at = notified.map_or(until_ns, |at| at.max(now));
                now = at.max(now) + late();
                second.wake_ups += counts;
                second.notified += counts * u64::from(notified.is_some());
                pace.woken(now, if notified.is_some() { Woken::Notified } else { Woken::Timeout })
            }
        };
    }
    second.mean_wait_ns = u64::try_from(waited / u128::from(watermark - from)).expect("small");
    second
}

/// 5 to 45 us late, by a plain generator.
fn jitter(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        5_000 + state % 40_000
    }
}

#[test]
fn on_ticks_it_takes_two_wake_ups_a_tick_and_half_a_tick_of_waiting() {
    for phase in [0, 1, 333_333, 2 * MS, 3_900_000] {
        for seed in [7, 11, 99_991] {
            let second = simulate(&[phase; 8], jitter(seed));
            assert!(second.wake_ups <= 510, "{phase}: {second:?}");
            assert!(second.notified <= 3, "{phase}: {second:?}");
            assert!((249..=252).contains(&second.scans), "{phase}: {second:?}");
            assert!(second.mean_wait_ns < 2_300_000, "{phase}: {second:?}");
        }
    }
}

#[test]
fn ticks_apart_cost_more_and_take_longer_within_bounds() {
    for phases in [&[0, MS][..], &[0, 2 * MS], &[0, 500_000, MS, 1_500_000], &[0, 3 * MS]] {
        let second = simulate(phases, jitter(5));
        assert!(second.wake_ups <= 1_500 && second.scans <= 252, "{phases:?}: {second:?}");
        // One and a half: at worst the CPU that ticks last is the one that was last before.
        assert!(second.mean_wait_ns < 6_300_000, "{phases:?}: {second:?}");
    }
}

#[test]
fn now_and_then_a_wake_up_that_is_very_late_does_not_lose_the_phase() {
    let mut small = jitter(3);
    let mut count = 0;
    let second = simulate(&[MS; 4], move || {
        count += 1;
        if count % 50 == 0 { 1_500_000 } else { small() }
    });
    assert!(second.mean_wait_ns < 2_700_000 && second.wake_ups <= 560, "{second:?}");
}

proptest! {
    /// Whatever happens: never asleep without two scans of an idle machine and a flag that stands,
    /// never a wait beyond the beat, and scans of a busy machine about a cycle apart. While somebody
    /// waits no wait is easy; while nobody does, all are; and an easy one follows what it armed.
    #[test]
    fn invariants(
        events in proptest::collection::vec((any::<[bool; 4]>(), 0..2 * MS), 1..300),
        visits in proptest::collection::vec(0u64..6 * LEASE_NS, 0..4),
    ) {
        let mut pace = Pace::new(CYCLE, 0);
        let mut visits: Vec<u64> = visits;
        visits.sort_unstable();
        let mut visits = visits.into_iter().peekable();
        let mut keen_until = LEASE_NS;
        let (mut now, mut vtime) = (0u64, 0u64);
        let (mut idle_scans, mut since_flag) = (0, 0);
        let (mut busy_scans, mut busy_since) = (0u64, 0u64);
        let mut step = Step::Scan;
        for ([others_idle, flag_stands, passed, notified], cost) in events {
            match step {
                Step::Scan => {
                    if pace.flag() == Flag::Set {
                        since_flag = 0;
                    }
                    since_flag += 1;
                    idle_scans = if others_idle { idle_scans + 1 } else { 0 };
                    if others_idle {
                        (busy_scans, busy_since) = (0, now);
                    } else {
                        busy_scans += 1;
                    }
                    vtime += 1;
                    let last_vtime = vtime.checked_sub(1);
                    let asleep = pace.mode == Mode::Asleep;
                    while visits.next_if(|&at| at <= now).is_some() {
                        pace.demand(now);
                        keen_until = now + LEASE_NS;
                    }
                    step = pace.scanned(&Found {
                        now_ns: now, others_idle, passed, vtime, last_vtime, flag_stands,
                    });
                    if matches!(step, Step::Wait { how: How::Sleep, .. }) {
                        prop_assert!(flag_stands);
                        prop_assert!(asleep || (idle_scans >= 2 && since_flag >= 2));
                    }
                    prop_assert_eq!(pace.is_easy(), now >= keen_until);
                    if pace.is_easy() {
                        let most = if others_idle { LONGEST_SLEEP_NS } else { EASY_NS };
                        prop_assert_eq!(step, pause(now + most));
                    }
                    // Listening may be notified at once, but then a rest comes first. The ways out of
                    // sleep, and into the first rest, have a scan each.
                    let cycles = (now - busy_since) / (CYCLE - MS);
                    prop_assert!(busy_scans <= 2 * cycles + 6, "{busy_scans} in {cycles}");
                }
                Step::Check => {
                    prop_assert!(pace.flag() == Flag::Clear);
                    step = pace.checked(now, passed);
                }
                Step::Wait { how, until_ns } => {
                    prop_assert!(until_ns > now && until_ns - now <= LONGEST_SLEEP_NS);
                    let hears = matches!(how, How::Listen | How::Sleep);
                    let early = notified && hears;
                    now = if early { (now + cost).min(until_ns) } else { until_ns };
                    let by = if early { Woken::Notified } else { Woken::Timeout };
                    step = pace.woken(now, by);
                }
            }
        }
    }
}
