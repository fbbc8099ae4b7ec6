//! `barrierctl metrics`: the snapshot as Prometheus text (exposition format 0.0.4).
//!
//! Owns the names as Prometheus wants them: `barrierd_`, base units, `_total`. What there is to count
//! it has from the client's table.
//!
//! No labels but the version's: what is counted is counted over all CPUs.

use std::fmt::Write as _;

use barrierd_client::Barrier;
use barrierd_client::counters::{Counters, Entry, Kind, TABLE, Unit, Word, version_text};

use crate::snapshot::Snapshot;

/// The text where no file can be believed: an alert on it needs the metric to be there.
pub(crate) fn down() -> String {
    let mut text = Text::default();
    text.up(false);
    text.0
}

/// The text of all metrics. Where there are no counters, only what the public words say.
pub(crate) fn text(barrier: &Barrier, snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    text.up(snapshot.well());
    let cpus = barrier.ncpu().to_string();
    text.metric("cpus", "gauge", "CPUs that a barrier has to pass", &cpus);
    if snapshot.mark.ns != 0 {
        let age = seconds(snapshot.now_ns.saturating_sub(snapshot.mark.ns));
        text.metric(
            "watermark_age_seconds",
            "gauge",
            "How long ago the newest barrier was begun that has passed on every CPU",
            &age,
        );
    }
    if let Some(beat) = barrier.heartbeat_ns() {
        let age = seconds(snapshot.now_ns.saturating_sub(beat));
        text.metric(
            "heartbeat_age_seconds",
            "gauge",
            "How long ago the daemon last gave a sign of life",
            &age,
        );
        let generation = snapshot.mark.generation.to_string();
        text.metric(
            "generation",
            "gauge",
            "Daemons that have served this file so far",
            &generation,
        );
    }
    if let Ok(counters) = &snapshot.counters {
        text.counters(counters);
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// One metric without labels, in whole. `help` is one line without backslashes.
    fn metric(&mut self, name: &str, kind: &str, help: &str, value: &str) {
        self.head(name, kind, help);
        // Writing to a String can't fail.
        let _ = writeln!(self.0, "barrierd_{name} {value}");
    }

    fn up(&mut self, well: bool) {
        let help = "Whether the daemon is at work (1) or was never started, has stopped, died or hangs (0)";
        self.metric("up", "gauge", help, if well { "1" } else { "0" });
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP barrierd_{name} {help}.\n# TYPE barrierd_{name} {kind}\n");
    }

    fn counters(&mut self, counters: &Counters) {
        if let Some(version) = counters.get(Word::Program) {
            self.head("build_info", "gauge", "The daemon's version, always 1");
            let _ =
                writeln!(self.0, "barrierd_build_info{{version=\"{}\"}} 1", version_text(version));
        }
        for entry in TABLE {
            let (Some(kind), Some(value)) = (kind(entry.kind), counters.get(entry.word)) else {
                continue;
            };
            let value = match entry.unit {
                Unit::Nanoseconds => seconds(value),
                Unit::Count | Unit::Flag | Unit::Cpu => value.to_string(),
            };
            self.metric(&name(entry), kind, entry.help, &value);
        }
    }
}

/// The type in Prometheus' words, if the word is a metric at all.
fn kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Counter => Some("counter"),
        Kind::Gauge => Some("gauge"),
        Kind::Identity => None,
    }
}

fn name(entry: &Entry) -> String {
    let unit = if entry.unit == Unit::Nanoseconds { "_seconds" } else { "" };
    let total = if entry.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{total}", entry.name)
}

/// Exactly, without trailing zeros.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_as_seconds() {
        for (ns, text) in [
            (0, "0"),
            (1, "0.000000001"),
            (4_000_000, "0.004"),
            (20_000_000_000, "20"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(seconds(ns), text);
        }
    }
}
