//! `metrics`: what Prometheus gets, read by a strict parser.

use std::path::Path;
use std::process::Output;

use barrierd_client::abi;
use barrierd_client::counters::{self, Kind, NONE, TABLE, Unit, Word};

use crate::common::{Image, dir};
use crate::{barrierctl, beats, beside, exposition};

/// What `metrics` prints for the file at `path`, with its exit status and complaints.
fn metrics(path: &Path) -> (Option<i32>, exposition::Metrics, String) {
    let Output { status, stdout, stderr } =
        barrierctl(path, &["metrics"]).output().expect("started");
    let text = String::from_utf8(stdout).expect("UTF-8");
    let metrics = exposition::parse(&text).unwrap_or_else(|why| panic!("{why} in:\n{text}"));
    (status.code(), metrics, String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn metrics_are_the_whole_table_in_base_units() {
    let dir = dir();
    let path = Image::counting(2)
        .with_word(2, Word::LongestRound, 9_876_543)
        .with_word(2, Word::Program, counters::pack_version(3, 4, 5))
        .write(&dir);
    let (status, metrics, said) = beside(&path, beats, || metrics(&path));
    assert_eq!((status, said.as_str()), (Some(0), ""));
    let value = |name: &str| metrics.get(name).unwrap_or_else(|| panic!("no {name}")).value;
    assert_eq!(value("barrierd_up"), 1.0);
    assert_eq!(value("barrierd_cpus"), 2.0);
    assert_eq!(value("barrierd_longest_round_seconds"), 0.009_876_543);
    assert!((1.0..100.0).contains(&value("barrierd_watermark_age_seconds")));
    assert_eq!(value("barrierd_build_info{version=\"3.4.5\"}"), 1.0);
    for entry in TABLE.iter().filter(|entry| entry.unit == Unit::Count) {
        let (name, kind) = match entry.kind {
            Kind::Counter => (format!("barrierd_{}_total", entry.name), "counter"),
            Kind::Gauge => (format!("barrierd_{}", entry.name), "gauge"),
            Kind::Identity => continue,
        };
        let found = metrics.get(&name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!((found.value, found.kind.as_str()), (100.0 + entry.word as u64 as f64, kind));
        assert!(found.help.contains(entry.help), "{name}");
    }
}

#[test]
fn metrics_of_a_daemon_gone_are_what_it_left() {
    let dir = dir();
    let path = Image::counting(1).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    let (status, found, said) = metrics(&path);
    assert_eq!((status, found["barrierd_up"].value), (Some(0), 0.0));
    assert!(said.contains("has stopped: start barrierd again"), "{said}");
    let rounds = 100.0 + Word::Rounds as u64 as f64;
    assert_eq!(found["barrierd_rounds_total"].value, rounds);
    // A CPU that there is none of has no number.
    let path = Image::counting(1).with_word(1, Word::LongestRoundCpu, NONE).write(&dir);
    let (status, found, said) = metrics(&path);
    assert!(!found.contains_key("barrierd_longest_round_cpu"));
    // It beat when the file was made.
    let well = found["barrierd_up"].value == 1.0;
    assert!(status == Some(0) && well != said.contains("died, hangs"), "{status:?} {said}");
}

#[test]
fn metrics_without_counters_are_the_public_words() {
    let dir = dir();
    let path = Image::legacy(1).write(&dir);
    let (status, found, said) = metrics(&path);
    assert_eq!(status, Some(0));
    assert!(said.contains("the C daemon keeps no counters"), "{said}");
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["barrierd_cpus", "barrierd_up"]);
}

#[test]
fn b21_metrics_where_no_daemon_ever_ran() {
    let dir = dir();
    let (status, found, said) = metrics(&dir.path().join("barrier"));
    assert_eq!((status, found.len(), found["barrierd_up"].value), (Some(0), 1, 0.0));
    assert_eq!(found["barrierd_up"].kind, "gauge");
    assert!(said.contains("no such file: start barrierd"), "{said}");
}
