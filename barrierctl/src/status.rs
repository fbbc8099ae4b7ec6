//! `barrierctl status`: the snapshot, for people and as JSON.
//!
//! Owns the wording. Knows nothing of where the figures come from.

use std::fmt::Write as _;
use std::time::Duration;

use barrierd_client::counters::{Counters, TABLE, Unit, Word, version_text};
use barrierd_client::{Barrier, abi};

use crate::json::{Json, object};
use crate::snapshot::Snapshot;

/// Most CPUs that are named for being late.
const LAGGARDS: usize = 4;

/// All there is to know, a line each.
pub(crate) fn text(barrier: &Barrier, snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let (mark, now) = (&snapshot.mark, snapshot.now_ns);
    line("file", barrier.path().display().to_string());
    line("daemon", snapshot.liveness.to_string());
    line("cpus", barrier.ncpu().to_string());
    if barrier.is_legacy() {
        line("source", "the C daemon's file: no virtual time, no heartbeat".into());
    } else {
        let (version, generation) = (abi::VERSION_VALUE, mark.generation);
        line("source", format!("barrierd's file, layout {version}, generation {generation}"));
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
    line("laggards", laggards(snapshot));
    match &snapshot.counters {
        Ok(counters) => counted(counters, now, snapshot.well(), &mut line),
        Err(why) => line("counters", why.to_string()),
    }
    if let Some(advice) = snapshot.advice() {
        line("advice", advice.into());
    }
    text
}

/// The CPUs that lag most at this moment.
fn laggards(snapshot: &Snapshot) -> String {
    let Some(oldest) = snapshot.laggards(LAGGARDS) else {
        return "CPUs are not told apart: that takes a barrierd with --per-cpu".into();
    };
    let each = oldest.iter().map(|&(cpu, age)| format!("CPU {cpu} {} ms", ms(age)));
    each.collect::<Vec<_>>().join(", ")
}

/// The same for a program. Times are nanoseconds, on CLOCK_MONOTONIC unless they are spans; `null` is
/// what can't be had.
pub(crate) fn json(barrier: &Barrier, snapshot: &Snapshot) -> Json {
    let (mark, now) = (&snapshot.mark, snapshot.now_ns);
    let age = |ns: u64| now.saturating_sub(ns);
    let laggards = snapshot.laggards(LAGGARDS).map(|oldest| {
        let each =
            |&(cpu, age): &(usize, u64)| object([("cpu", cpu.into()), ("age_ns", age.into())]);
        Json::List(oldest.iter().map(each).collect())
    });
    let (counters, why) = match &snapshot.counters {
        Ok(counters) => (Some(counted_json(counters)), None),
        Err(why) => (None, Some(why.to_string())),
    };
    object([
        ("well", snapshot.well().into()),
        ("file", barrier.path().display().to_string().into()),
        ("daemon", snapshot.liveness.to_string().into()),
        ("source", if barrier.is_legacy() { "c" } else { "barrierd" }.into()),
        ("cpus", barrier.ncpu().into()),
        ("generation", (!barrier.is_legacy()).then_some(mark.generation).into()),
        ("heartbeat_age_ns", barrier.heartbeat_ns().map(age).into()),
        ("watermark_ns", (mark.ns != 0).then_some(mark.ns).into()),
        ("watermark_age_ns", (mark.ns != 0).then(|| age(mark.ns)).into()),
        ("vtime", barrier.vtime().into()),
        ("complete_below_vtime", barrier.vtime().map(|_| mark.vtime).into()),
        ("laggards", laggards.into()),
        ("counters", counters.into()),
        ("counters_missing", why.into()),
        ("advice", snapshot.advice().into()),
    ])
}

/// The table by its names.
fn counted_json(counters: &Counters) -> Json {
    let start = ("start_ns".into(), counters.start_ns.into());
    let words = TABLE.iter().map(|entry| {
        let value = counters.get(entry.word);
        let value = match entry.word {
            Word::Program => value.map(version_text).into(),
            _ if entry.unit == Unit::Flag => value.map(|value| value != 0).into(),
            _ => Json::from(value),
        };
        let unit = if entry.unit == Unit::Nanoseconds { "_ns" } else { "" };
        (format!("{}{unit}", entry.name).into(), value)
    });
    Json::Object(std::iter::once(start).chain(words).collect())
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
    let easy = counters.get(Word::Keen) == Some(0);
    line(
        "pace",
        format!(
            "{}a barrier each {} ms, tick {} ms; other CPUs busy: {}",
            if easy { "easy, nobody waits; else " } else { "" },
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
    if get(Word::MissedEvents) > 0 {
        let n = get(Word::MissedEvents);
        line(
            "",
            format!("{n} switches out of idle were not traced, each of which can delay a barrier"),
        );
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
    line("log", format!("{} lines lost, for nobody read it in time", get(Word::LostLogLines)));
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
