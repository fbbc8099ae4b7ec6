//! `barrierctl status`: the look, for people.
//!
//! Owns the wording. Knows nothing of where the figures come from.

use std::fmt::Write as _;
use std::time::Duration;

use barrierd_client::Barrier;
use barrierd_client::counters::{Counters, Word, version_text};

use crate::look::Look;

/// All there is to know, a line each.
pub(crate) fn text(barrier: &Barrier, look: &Look) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let (mark, now) = (&look.mark, look.now_ns);
    line("file", barrier.path().display().to_string());
    line("daemon", look.liveness.to_string());
    line("cpus", barrier.ncpu().to_string());
    if barrier.is_legacy() {
        line("layout", "the C daemon's: no virtual time, no heartbeat".into());
    } else {
        line("generation", mark.generation.to_string());
    }
    if let Some(beat) = barrier.heartbeat_ns() {
        line("heartbeat", age(beat, now));
    }
    let watermark = match mark.ns {
        0 => "none to be had now".into(),
        ns => format!("{}, at {ns} ns", age(ns, now)),
    };
    line("watermark", watermark);
    if let Some(vtime) = barrier.vtime() {
        line("vtime", format!("{vtime}, complete below {}", mark.vtime));
    }
    match &look.counters {
        Ok(counters) => counted(counters, now, look.well(), &mut line),
        Err(why) => line("counters", why.to_string()),
    }
    if let Some(advice) = look.advice() {
        line("advice", advice.into());
    }
    text
}

/// What the daemon has counted: sums, and how many a second since its start.
fn counted(counters: &Counters, now: u64, runs: bool, line: &mut impl FnMut(&str, String)) {
    let get = |word| counters.get(word).unwrap_or(0);
    let up = Duration::from_nanos(now.saturating_sub(counters.start_ns));
    let sum = |word| match get(word) {
        0 => "0".to_owned(),
        n if runs => format!("{n} ({} a second)", rate(n, up)),
        n => n.to_string(),
    };
    let program = version_text(get(Word::Program));
    let since = if runs { "up" } else { "started" };
    let ago = if runs { "" } else { " ago" };
    line("barrierd", format!("{program}, process {}, {since} {}{ago}", get(Word::Pid), long(up)));
    line(
        "pace",
        format!(
            "a barrier each {} ms, tick {} ms; other CPUs busy: {}",
            ms(get(Word::Cycle)),
            ms(get(Word::Tick)),
            get(Word::BusyCpus)
        ),
    );
    if counters.get(Word::IdleInference) == Some(0) {
        line(
            "idle",
            "idle CPUs hold barriers up until their next interrupt: see barrierd's log".into(),
        );
    } else {
        line("idle", "idle CPUs pass at once".into());
    }
    if counters.get(Word::TracingProved) == Some(0) {
        line("tracing", "NOT PROVED: nothing is published; see barrierd's log".into());
    } else {
        line("tracing", "proved".into());
    }
    line("rounds", sum(Word::Rounds));
    line("scans", sum(Word::Scans));
    line(
        "wake-ups",
        format!(
            "{}; by BPF {}; to sleep again {}",
            sum(Word::WakeUps),
            get(Word::Notifications),
            get(Word::Sleeps)
        ),
    );
    line(
        "longest",
        match counters.get(Word::LongestRoundCpu) {
            None => "no round was seen to be held up".into(),
            Some(cpu) => format!("{} ms, held up by CPU {cpu}", ms(get(Word::LongestRound))),
        },
    );
    line(
        "requests",
        format!(
            "{}; rounds made for them {}; dropped {}",
            sum(Word::Requests),
            get(Word::Expedited),
            get(Word::DroppedRequests)
        ),
    );
    line(
        "kicks",
        format!(
            "{}; moved nothing {}; CPUs given up {}",
            sum(Word::Kicks),
            get(Word::MissedKicks),
            get(Word::DeadKicks)
        ),
    );
    line("missed", format!("{} task switches by the kernel", get(Word::MissedEvents)));
}

/// `n` a second, to a tenth.
fn rate(n: u64, up: Duration) -> String {
    let tenths = u128::from(n) * 10_000_000_000 / up.as_nanos().max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn ms(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000)
}

/// How long ago `ns` was.
fn age(ns: u64, now: u64) -> String {
    format!("{} ms ago", ms(now.saturating_sub(ns)))
}

/// A span that may be days, by its two greatest units.
fn long(span: Duration) -> String {
    let s = span.as_secs();
    match (s / 86_400, s / 3_600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, min, s) => format!("{min} min {s} s"),
        (0, h, min, _) => format!("{h} h {min} min"),
        (days, h, ..) => format!("{days} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_rates() {
        let long = |s| long(Duration::from_secs(s));
        assert_eq!(long(59), "59 s");
        assert_eq!(long(61), "1 min 1 s");
        assert_eq!(long(7_320), "2 h 2 min");
        assert_eq!(long(90_000), "1 d 1 h");
        assert_eq!(rate(25, Duration::from_secs(10)), "2.5");
        assert_eq!(rate(7, Duration::ZERO), "7000000000.0");
        assert_eq!(ms(4_056_789), "4.056");
    }
}
