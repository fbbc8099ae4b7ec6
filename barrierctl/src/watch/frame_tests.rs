//! Frames, whole, as they are on a terminal of 80 columns and 24 rows.

use super::frame::frame;
use super::state::{Cpu, Doing, Rates, View, Who};
use crate::draw::{ASCII, BLOCKS, Glyphs};
use crate::terminal::Size;
use barrierd_client::Liveness;

const MS: u64 = 1_000_000;

/// Ages from 0.1 ms to 400 ms, then as if from an idle machine: a history that rises.
fn ages(from: usize, frames: usize) -> impl Iterator<Item = Option<u64>> {
    (0..frames).map(move |i| match (from + i) % 13 {
        12 => None,
        n => Some(MS / 10 * 2u64.pow(u32::try_from(n).expect("small"))),
    })
}

/// A machine of `n` CPUs after 20 frames: of seven CPUs one is offline and two are idle.
fn view(n: usize) -> View {
    let cpu = |i: usize| {
        let ages: Vec<_> = ages(i, 20).collect();
        let doing = match i % 7 {
            6 => Doing::Offline,
            3 | 5 => Doing::Idle,
            _ => Doing::Busy(u64::try_from(i * 37 % 99 + 2).expect("small")),
        };
        Cpu { doing, age_ns: ages[19], ages: ages.into() }
    };
    View {
        file: "/run/barrierd/barrier".into(),
        liveness: Liveness::Alive,
        advice: None,
        legacy: false,
        daemon: Some(Who { version: "1.2.3".into(), pid: 4711, up_ns: 187_000 * MS }),
        exact: true,
        age_ns: Some(2_113_456),
        ages: ages(5, 20).collect(),
        rates: Some(Rates { rounds: 2_431, wake_ups: 4_902, requests: 17, kicks: 120 }),
        kicks: (0..20).map(|i| (i > 3).then_some(i * 10)).collect(),
        easy: false,
        longest: Some((8_123_000, 1)),
        cpus: (0..n).map(cpu).collect(),
    }
}

const SIZE: Size = Size { columns: 80, rows: 24 };

fn text(view: &View, size: Size, glyphs: &Glyphs, color: bool) -> String {
    let lines = frame(view, size, glyphs);
    lines.iter().map(|line| line.painted(size.columns, color) + "\n").collect()
}

/// Holds `found` against `frames/NAME.txt`. With BLESS in the environment it is written there, to be
/// looked at and committed.
#[track_caller]
fn expect(found: &str, name: &str) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/watch/frames");
    let path = format!("{dir}/{name}.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, found).expect("written");
    }
    let wanted = std::fs::read_to_string(&path).expect("there");
    assert!(found == wanted, "found:\n{found}\nwanted, of {path}:\n{wanted}");
}

#[test]
fn one_cpu() {
    expect(&text(&view(1), SIZE, &BLOCKS, false), "1");
}

#[test]
fn two_cpus() {
    expect(&text(&view(2), SIZE, &BLOCKS, false), "2");
}

#[test]
fn two_cpus_in_ascii() {
    let found = text(&view(2), SIZE, &ASCII, false);
    assert!(found.is_ascii());
    expect(&found, "2-ascii");
}

#[test]
fn eight_cpus() {
    expect(&text(&view(8), SIZE, &BLOCKS, false), "8");
}

#[test]
fn cells_for_64_cpus() {
    expect(&text(&view(64), SIZE, &BLOCKS, false), "64");
}

#[test]
fn a_glyph_for_each_of_200_cpus() {
    expect(&text(&view(200), SIZE, &BLOCKS, false), "200");
}

#[test]
fn cpus_that_are_not_told_apart_and_a_daemon_that_is_gone() {
    let mut gone = view(2);
    (gone.exact, gone.liveness) = (false, Liveness::Stale);
    gone.advice =
        Some("the daemon died, hangs or publishes nothing: its log says more; restart it");
    (gone.rates, gone.age_ns) = (None, Some(12_345 * MS));
    gone.cpus.iter_mut().for_each(|cpu| cpu.age_ns = Some(12_345 * MS));
    expect(&text(&gone, SIZE, &BLOCKS, false), "gone");
}

#[test]
fn the_c_daemons_file() {
    let mut legacy = view(1);
    (legacy.legacy, legacy.daemon, legacy.rates, legacy.longest) = (true, None, None, None);
    (legacy.age_ns, legacy.cpus[0].age_ns, legacy.cpus[0].doing) = (None, None, Doing::Unknown);
    expect(&text(&legacy, SIZE, &BLOCKS, false), "legacy");
}

#[test]
fn colours_say_nothing_of_their_own() {
    for n in [1, 2, 8, 64, 200] {
        let (plain, mut painted) =
            (text(&view(n), SIZE, &BLOCKS, false), text(&view(n), SIZE, &BLOCKS, true));
        assert!(painted.contains("\x1b[31m") || n < 8, "{painted}");
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            painted = painted.replace(code, "");
        }
        assert_eq!(painted, plain);
    }
}

#[test]
fn every_frame_fits() {
    for n in [1, 2, 3, 8, 15, 16, 64, 65, 200, 1_024, 4_096] {
        for columns in [20, 40, 66, 79, 80, 81, 120, 300] {
            for rows in [5, 12, 24, 60] {
                let size = Size { columns, rows };
                let text = text(&view(n), size, &BLOCKS, false);
                assert!(text.lines().count() < rows, "{n} CPUs, {size:?}:\n{text}");
                for line in text.lines() {
                    assert!(line.chars().count() <= columns, "{n} CPUs, {size:?}:\n{text}");
                }
                let all = rows == 60 && columns >= 80 && n < 4_096;
                assert!(!all || !text.contains("and more CPUs"), "{n} CPUs, {size:?}:\n{text}");
            }
        }
    }
}
