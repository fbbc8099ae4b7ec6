//! `doctor`: what it finds, and what it advises.

use barrierd_client::abi;
use barrierd_client::counters::Word;

use crate::asked::json;
use crate::common::{self, Image, dir};
use crate::{barrierctl, beside_a_daemon, expect};

#[test]
fn the_doctor_without_a_daemon_has_something_to_do() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    expect(
        &mut barrierctl(&missing, &["doctor"]),
        1,
        &["FAIL  file", "-> start barrierd", "to do"],
    );
    let said = json(&mut barrierctl(&missing, &["doctor", "--json"]), 1);
    assert_eq!(said["well"], false);
    let checks = said["checks"].as_array().expect("a list");
    let state = |name| {
        checks.iter().find(|check| check["check"] == name).expect("a row a check")["state"].clone()
    };
    assert_eq!(
        (state("file"), state("time"), state("boot")),
        ("fail".into(), "ok".into(), "ok".into())
    );
    assert!(checks.iter().all(|check| check["state"] != "fail" || check["advice"].is_string()));
}

#[test]
fn the_doctor_asks_for_a_barrier() {
    let dir = dir();
    let path = Image::counting(1).with_word(1, Word::TracingProved, 0).write(&dir);
    beside_a_daemon(&path, || {
        let words = ["ok    daemon        alive", "passed after", "FAIL  tracing", "note  socket"];
        expect(&mut barrierctl(&path, &["doctor"]), 1, &words);
    });
    let path = Image::ours(1).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    let words = ["FAIL  daemon", "stopped", "FAIL  barrier", "start barrierd again"];
    expect(&mut barrierctl(&path, &["doctor"]), 1, &words);
    let path = Image::ours(1).write(&dir);
    common::chmod(&path, 0o666);
    expect(&mut barrierctl(&path, &["doctor"]), 1, &["FAIL  file", "mode 0666", "remove it"]);
}
