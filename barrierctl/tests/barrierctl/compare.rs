//! `compare`: what is missing, what is interrupted, how often a daemon is asked.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use barrierd_client::abi;

use crate::asked::printed;
use crate::common::{Image, dir};
use crate::{barrierctl, expect};

#[test]
fn comparing_without_a_daemon_says_what_is_missing() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    let compare = |how: &[&str]| {
        let args = [&["compare", "--count", "2", "--pause-ms", "1", "--ascii"][..], how].concat();
        barrierctl(&missing, &args)
    };
    let text = printed(&mut compare(&[]), 1);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "1 mprotect IPI ",
        "2 RCU membarrier ",
        "2 expedited membarrier ",
        "missing: ns, vtime, expedited barrier: ",
        "no such file: start barrierd",
        "2 rounds in",
        "1 thread spins",
    ] {
        assert!(flat.contains(words), "{words} is missing from:\n{text}");
    }
    let quiet = printed(&mut compare(&["-q", "--load=0"]), 1);
    assert!(!quiet.contains("     1  mprotect") && quiet.contains("0 threads spin"), "{quiet}");

    let lines = printed(&mut compare(&["--json"]), 1);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let waits: Vec<_> = lines.iter().filter(|line| line["wait"].is_string()).collect();
    assert_eq!(waits.len(), 6, "{lines:?}");
    assert!(waits.iter().all(|wait| wait["passed"] == true && wait["ns"].is_u64()), "{lines:?}");
    for (key, there) in [
        ("mprotect", true),
        ("ns", false),
        ("vtime", false),
        ("membarrier_global", true),
        ("membarrier_private", true),
        ("expedited", false),
    ] {
        let line = lines.iter().find(|line| line["summary"] == key).expect("one for each");
        assert_eq!(line["missing"].is_null(), there, "{line}");
        assert_eq!(line["waits"], if there { 2 } else { 0 }, "{line}");
        assert_eq!(line["p50_ns"].is_u64(), there, "{line}");
    }
}

#[test]
fn a_comparison_that_is_interrupted_shows_what_it_has() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    let args = ["compare", "--count", "1000000", "--pause-ms", "1", "--load", "0"];
    let mut command = barrierctl(&missing, &args);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    // Once a line has come it listens to signals.
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut text = String::new();
    out.read_line(&mut text).expect("a line");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    out.read_to_string(&mut text).expect("UTF-8");
    assert_eq!(child.wait().expect("waits").code(), Some(1));
    assert!(text.contains("p50") && text.contains(" rounds in "), "{text}");
    assert!(!text.contains("1000000 rounds"), "{text}");
}

#[test]
fn comparing_with_a_daemon_that_stands_still_gives_up_its_waits() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let args = ["compare", "-q", "--count", "5", "--pause-ms", "0", "--timeout-ms", "30"];
    let text = printed(&mut barrierctl(&path, &args), 1);
    let words =
        ["missing: ns, vtime: given up: late 3 times", "expedited barrier: no barrierd takes"];
    for words in words {
        assert!(text.contains(words), "{words} is missing from:\n{text}");
    }
}

#[test]
fn a_comparison_asks_once_a_wait() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    // Takes requests and serves none, so that each wait lasts until its time is up.
    let daemon = UnixDatagram::bind(abi::socket_path(&path)).expect("bound");
    daemon.set_nonblocking(true).expect("set");
    let args = ["compare", "-q", "--count", "3", "--load", "0", "--timeout-ms", "5"];
    expect(&mut barrierctl(&path, &args), 1, &["expedited barrier"]);
    let requests = std::iter::from_fn(|| daemon.recv(&mut [0; 64]).ok()).count();
    assert_eq!(requests, 1 + 3, "one to see whether it may, and one a wait");
}
