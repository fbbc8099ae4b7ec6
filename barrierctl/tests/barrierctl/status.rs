//! `status`: of a daemon that is at work, gone, or another's; for people and for programs.

use barrierd_client::counters::{self, Kind, NONE, TABLE, Word};
use barrierd_client::{abi, clock};

use crate::asked::json;
use crate::common::{Image, S, dir};
use crate::{barrierctl, beats, beside, expect};

#[test]
fn status_of_a_daemon_at_work() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    // However long the program takes to start, its daemon beats on.
    beside(&path, beats, || {
        let words = ["alive", "generation 1", "vtime      7, complete below 5", "cpus       2"];
        expect(&mut barrierctl(&path, &["status"]), 0, &words);
    });
}

#[test]
fn status_of_a_daemon_gone() {
    let dir = dir();
    let path = Image::ours(1).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["daemon     stopped"]);
    let path = Image::ours(1).with(abi::HEARTBEAT_NS, clock::now_ns() - 9 * S).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["daemon     stale"]);
    let path = Image::legacy(1).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["the C daemon's", "none to be had now"]);
}

#[test]
fn status_for_programs() {
    let dir = dir();
    let image = Image::counting(2)
        .with_word(2, Word::Program, counters::pack_version(3, 4, 5))
        .with_word(2, Word::IdleInference, 0)
        .with_word(2, Word::LongestRoundCpu, NONE)
        .with(abi::FLAGS, abi::FLAG_STOPPED | abi::FLAG_PER_CPU_EXACT);
    let path = image.with(abi::per_cpu_ns(1), clock::now_ns() - 5 * S).write(&dir);
    let said = json(&mut barrierctl(&path, &["status", "--json"]), 1);
    assert_eq!(said["well"], false);
    assert_eq!(said["file"], path.display().to_string());
    assert_eq!((&said["daemon"], &said["source"]), (&"stopped".into(), &"barrierd".into()));
    assert_eq!((&said["vtime"], &said["complete_below_vtime"]), (&7.into(), &5.into()));
    assert!((S..9 * S).contains(&said["watermark_age_ns"].as_u64().expect("there is one")));
    assert_eq!(said["laggards"][0]["cpu"], 1);
    assert!(said["laggards"][0]["age_ns"].as_u64().expect("its age") >= 5 * S);
    let counters = &said["counters"];
    assert_eq!(
        (&counters["program"], &counters["idle_inference"]),
        (&"3.4.5".into(), &false.into())
    );
    assert_eq!(
        (&counters["longest_round_cpu"], &said["counters_missing"]),
        (&().into(), &().into())
    );
    for entry in TABLE.iter().filter(|entry| entry.kind == Kind::Counter) {
        assert_eq!(counters[entry.name], 100 + entry.word as u64, "{}", entry.name);
    }
    assert!(said["advice"].as_str().expect("some").contains("start barrierd again"));

    let path = Image::legacy(1).write(&dir);
    let said = json(&mut barrierctl(&path, &["--json", "status"]), 1);
    assert_eq!((&said["source"], &said["watermark_ns"]), (&"c".into(), &().into()));
    assert!(said["counters"].is_null() && said["vtime"].is_null() && said["generation"].is_null());
    assert!(said["counters_missing"].as_str().expect("why").contains("keeps no counters"));
}

#[test]
fn status_names_the_laggards_where_cpus_are_told_apart() {
    let dir = dir();
    let image = Image::ours(3).with(abi::FLAGS, abi::FLAG_STOPPED);
    expect(&mut barrierctl(&image.write(&dir), &["status"]), 1, &["laggards   CPUs are not told"]);
    let path = Image::ours(3)
        .with(abi::FLAGS, abi::FLAG_STOPPED | abi::FLAG_PER_CPU_EXACT)
        .with(abi::per_cpu_ns(2), clock::now_ns() - 9 * S)
        .write(&dir);
    expect(
        &mut barrierctl(&path, &["status"]),
        1,
        &["laggards   CPU 2 9", "ms, CPU 0 1", "CPU 1 1"],
    );
}

#[test]
fn status_shows_the_counters() {
    let dir = dir();
    let image = Image::counting(2)
        .with_word(2, Word::Program, counters::pack_version(3, 4, 5))
        .with_word(2, Word::Rounds, 1_000)
        .with_word(2, Word::Kicks, 17)
        .with_word(2, Word::MissedEvents, 19)
        .with_word(2, Word::LongestRound, 9_876_543)
        .with_word(2, Word::LongestRoundCpu, 1)
        .with_word(2, Word::IdleInference, 1)
        .with_word(2, Word::TracingProved, 1);
    let words = [
        "3.4.5, process 100, started 1 min 4",
        "rounds     1000",
        "kicks      17; moved",
        "missed     19 task",
        "log        122 lines lost",
        "9.876 ms, held up by CPU 1",
        "idle CPUs pass at once",
        "tracing    proved",
    ];
    let stopped = image.with(abi::FLAGS, abi::FLAG_STOPPED);
    let path = stopped.write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["start barrierd again"]);
    expect(&mut barrierctl(&path, &["status"]), 1, &words);
    let path = stopped
        .with_word(2, Word::IdleInference, 0)
        .with_word(2, Word::TracingProved, 0)
        .with_word(2, Word::LongestRoundCpu, NONE)
        .write(&dir);
    let words = ["hold barriers up", "NOT PROVED", "no round was seen to be held up"];
    expect(&mut barrierctl(&path, &["status"]), 1, &words);
}

#[test]
fn status_says_why_there_are_no_counters() {
    let dir = dir();
    let path = Image::legacy(1).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["the C daemon keeps no counters"]);
    let stopped = |image: Image| image.with(abi::FLAGS, abi::FLAG_STOPPED);
    let path = stopped(Image::ours(1)).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["has no counters", "restart it"]);
    let version = counters::base(1) + counters::VERSION;
    let path = stopped(Image::counting(1)).with(version, 9).write(&dir);
    expect(&mut barrierctl(&path, &["status"]), 1, &["of layout 9, and this program knows 1"]);
}
