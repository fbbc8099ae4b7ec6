//! `wait`: barriers that pass, and that don't.

use std::time::{Duration, Instant};

use barrierd_client::{abi, clock};

use crate::asked::{json, printed};
use crate::common::{Image, S, Writer, dir};
use crate::{barrierctl, beside, beside_a_daemon, expect, moves};

#[test]
fn b21_a_dead_daemon_is_called_dead() {
    let dir = dir();
    let path = Image::counting(1).with(abi::HEARTBEAT_NS, clock::now_ns() - 9 * S).write(&dir);
    let dead = [
        "the daemon died, hangs or publishes nothing",
        "restart it",
        "process 100, last sign of life 9.",
    ];
    expect(&mut barrierctl(&path, &["wait", "--timeout-ms", "30"]), 1, &dead);
    let said = json(&mut barrierctl(&path, &["wait", "--json", "--timeout-ms=30"]), 1);
    let why = said["why"].as_str().expect("late").to_owned();
    assert!(dead.iter().all(|words| why.contains(words)), "{why}");
    let compare = ["compare", "-q", "--count=4", "--pause-ms=0", "--timeout-ms=30"];
    let text = printed(&mut barrierctl(&path, &compare), 1);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("missing: ns, vtime, expedited barrier: the daemon died"), "{text}");
    assert!(dead.iter().all(|words| flat.contains(words)), "{text}");
    let path = Image::counting(1).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    let stopped = ["has stopped: start barrierd again (process 100, "];
    expect(&mut barrierctl(&path, &["wait", "--timeout-ms", "30"]), 1, &stopped);
}

#[test]
fn a_wait_that_passes() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    beside(&path, moves, || {
        let mut command = barrierctl(&path, &["wait", "--timeout-ms", "60000"]);
        expect(&mut command, 0, &["passed after"]);
    });
}

#[test]
fn waits_for_programs_and_what_they_go_by() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    beside_a_daemon(&path, || {
        let wait = |how: &[&str]| {
            barrierctl(&path, &[&["wait", "--timeout-ms", "60000", "--json"][..], how].concat())
        };
        let said = json(&mut wait(&["--by", "ns"]), 0);
        assert!(said["passed"] == true && said["ns"].is_u64() && said["why"].is_null());
        // Nobody takes requests.
        expect(&mut wait(&["--by", "expedited"]), 6, &["can't wait like that: no barrierd takes"]);
        // The virtual time stands still.
        let mut late = barrierctl(&path, &["wait", "--by=vtime", "--timeout-ms=100", "--json"]);
        let said = json(&mut late, 1);
        assert!(said["passed"] == false && said["why"].as_str().expect("why").contains("deadline"));
    });
    // Tag 7: passed once 7 is below the last complete one, and the file is at 5.
    let mut ticks = 0;
    let goes_on_late = |writer: &Writer| {
        ticks += 1;
        if ticks > 100 {
            writer.store(abi::TRUSTED_VTIME, 9);
            writer.store(abi::TRUSTED_LAST_VTIME, 8);
        }
        moves(writer);
    };
    beside(&path, goes_on_late, || {
        let mut command = barrierctl(&path, &["wait", "--by", "vtime", "--timeout-ms", "60000"]);
        expect(&mut command, 0, &["passed after"]);
    });
    assert!(ticks > 100, "it did not wait for the last one");
    let path = Image::legacy(1).write(&dir);
    expect(&mut barrierctl(&path, &["wait", "--by", "vtime"]), 6, &["the C daemon has no virtual"]);
}

#[test]
fn a_wait_that_does_not() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let begin = Instant::now();
    let mut command = barrierctl(&path, &["wait", "--timeout-ms", "100"]);
    expect(&mut command, 1, &["had not passed by the deadline"]);
    assert!(begin.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_file_that_lies_has_its_own_status() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut command = barrierctl(&path, &["wait", "--timeout-ms", "60000"]);
            expect(&mut command, 4, &["after CLOCK_MONOTONIC", "open the file again"]);
        });
        // Once it sleeps on the word it has accepted the file.
        while writer.wake(abi::LAST_INTERRUPT_NS) == 0 && !asked.is_finished() {}
        writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
    });
}
