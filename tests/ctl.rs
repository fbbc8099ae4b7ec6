//! barrierctl beside a live daemon: what it shows, waits for, times and finds.

mod common;

#[path = "../barrierctl/tests/common/asked.rs"]
mod asked;

#[path = "common/nobody.rs"]
mod nobody;

#[path = "common/terminal.rs"]
mod terminal;

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use asked::{json, printed};
use common::{Daemon, directory, have_root};
use serde_json::Value;
use terminal::Terminal;

/// barrierctl as root.
fn barrierctl(file: &Path, args: &[&str]) -> Command {
    asked::barrierctl(&common::barrierctl(), file, args)
}

#[test]
fn every_way_of_waiting() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    for how in [&["wait"][..], &["wait", "--by", "ns"], &["wait", "--by", "vtime"]] {
        let how = [how, &["--json", "--timeout-ms", "10000"]].concat();
        for mut command in [barrierctl(&daemon.file, &how), nobody::barrierctl(&daemon.file, &how)]
        {
            let said = json(&mut command, 0);
            assert!(said["passed"] == true && said["ns"].as_u64() > Some(0), "{said}");
        }
    }
    let expedited = ["wait", "--by", "expedited", "--timeout-ms", "10000"];
    assert!(printed(&mut barrierctl(&daemon.file, &expedited), 0).starts_with("passed after "));
    let output = nobody::barrierctl(&daemon.file, &expedited).output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("may not ask for expedited barriers"), "{said}");

    let file = daemon.file.clone();
    assert!(daemon.stop().success());
    let late = ["wait", "--timeout-ms", "50", "--by", "ns"];
    let output = barrierctl(&file, &late).output().expect("started");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has stopped: start barrierd again"));
}

#[test]
fn all_six_ways_are_timed_in_one_run() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let args = ["compare", "--count", "5", "--pause-ms", "2", "--timeout-ms", "10000"];
    let text = printed(&mut barrierctl(&daemon.file, &args), 0);
    let table = text.find("p50").expect("a table");
    let names = [
        "mprotect IPI",
        "ns",
        "vtime",
        "RCU membarrier",
        "expedited membarrier",
        "expedited barrier",
    ];
    for name in names {
        let lines = text[..table].lines();
        let timed = lines.filter(|line| line.get(8..29).is_some_and(|l| l.trim_end() == name));
        assert_eq!(timed.count(), 5, "{name} in:\n{text}");
        let rows = text[table..].lines().filter(|line| line.starts_with(&format!("{name} ")));
        assert_eq!(rows.count(), 2, "{name} in:\n{text}");
    }
    assert!(!text.contains("missing:") && text.contains(", Linux "), "{text}");

    // In turn, each as often as the others, and what comes of them is what was said before.
    let lines = printed(&mut barrierctl(&daemon.file, &[&args[..], &["--json"]].concat()), 0);
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let waits: Vec<_> = lines.iter().filter(|line| line["wait"].is_string()).collect();
    assert_eq!(waits.len(), 30, "{lines:?}");
    for (i, wait) in waits.iter().enumerate() {
        assert_eq!((&wait["round"], &wait["wait"]), (&(i / 6 + 1).into(), &waits[i % 6]["wait"]));
    }
    for summary in lines.iter().filter(|line| line["summary"].is_string()) {
        let own = waits.iter().filter(|wait| wait["wait"] == summary["summary"]);
        let mut ns: Vec<_> = own.map(|wait| wait["ns"].as_u64().expect("passed")).collect();
        ns.sort_unstable();
        assert_eq!((&summary["p50_ns"], &summary["max_ns"]), (&ns[2].into(), &ns[4].into()));
    }
    let p50 = |key| {
        let line = lines.iter().find(|line| line["summary"] == key).expect("one for each");
        line["p50_ns"].as_u64().expect("passed")
    };
    // Two rounds follow one another: no wait by virtual time is over before one has passed.
    assert!(p50("vtime") > p50("membarrier_private"), "{lines:?}");

    let output = nobody::barrierctl(&daemon.file, &[&args[..], &["-q"]].concat()).output();
    let output = output.expect("started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("missing: expedited barrier: this user may not ask"), "{text}");
}

#[test]
fn the_doctor_finds_nothing_to_do() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let state = |said: &Value, name: &str| {
        let checks = said["checks"].as_array().expect("a list");
        let check = checks.iter().find(|check| check["check"] == name);
        check.expect("a row a check")["state"].as_str().expect("a word").to_owned()
    };
    let said = json(&mut barrierctl(&daemon.file, &["doctor", "--json"]), 0);
    for name in ["kernel", "privileges", "btf", "time", "boot", "file", "daemon", "tracing"] {
        assert_eq!(state(&said, name), "ok", "{name}: {said}");
    }
    assert_eq!((state(&said, "socket"), state(&said, "barrier")), ("ok".into(), "ok".into()));

    // Nothing that nobody in particular could do is called for, either.
    let said = json(&mut nobody::barrierctl(&daemon.file, &["doctor", "--json"]), 0);
    for (name, wanted) in
        [("privileges", "note"), ("socket", "note"), ("tracepoints", "ok"), ("barrier", "ok")]
    {
        assert_eq!(state(&said, name), wanted, "{name}: {said}");
    }

    let file = daemon.file.clone();
    daemon.kill();
    thread::sleep(Duration::from_millis(300));
    let said = json(&mut barrierctl(&file, &["doctor", "--json"]), 1);
    assert_eq!((state(&said, "daemon"), state(&said, "barrier")), ("fail".into(), "fail".into()));
}

#[test]
fn a_watch_outlives_the_daemon_and_follows_the_next_one_to_a_new_file() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let (file, first) = (daemon.file.clone(), daemon.pid());
    let mut terminal = Terminal::new(100, 24);
    let mut watch = barrierctl(&file, &["watch", "--interval-ms", "100"]);
    let mut child = terminal.run(watch.env("TERM", "dumb"));
    let alive = |pid| format!("process {pid}: alive");
    let shown = terminal.read_until(|text| text.contains(&alive(first)));
    assert!(!shown.contains("\x1b[3"), "colours on a dumb terminal: {shown:?}");
    assert!(daemon.stop().success());
    terminal.read_until(|text| text.contains(": stopped") && text.contains("start barrierd again"));
    std::fs::remove_file(&file).expect("removed");
    let daemon = Daemon::start(dir.path());
    terminal.read_until(|text| text.contains(&alive(daemon.pid())));

    // A smaller window: what was wrapped is cleared, and the next frame fits.
    let _ = terminal.rest();
    terminal.resize(60, 12);
    let shown = terminal.read_until(|text| {
        let cleared = text.find("\x1b[2J").map_or("", |at| &text[at..]);
        cleared.contains("\x1b[J")
    });
    let (_, frame) = shown.split_once("\x1b[2J").expect("cleared");
    let (frame, _) = frame.split_once("\x1b[J").expect("whole");
    let frame = without_codes(frame);
    assert!(frame.lines().count() < 12, "{frame}");
    assert!(frame.lines().all(|line| line.chars().count() <= 60), "{frame}");
    terminal.write(b"\x03");
    assert_eq!(terminal::ended(&mut child), Some(0));
}

/// All that watch may send: home, clear, colours.
fn without_codes(text: &str) -> String {
    let mut text = text.replace("\r\n", "\n");
    for code in ["[H", "[2J", "[J", "[K", "[0m", "[1m", "[2m", "[31m", "[32m", "[33m"] {
        text = text.replace(&format!("\x1b{code}"), "");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
    text
}

#[test]
fn a_live_picture_that_ctrl_c_ends() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start_with(dir.path(), &["--per-cpu"]);
    let watch = ["watch", "--interval-ms", "100"];
    for (signal, color) in [("Ctrl-C", true), ("SIGTERM", false)] {
        let mut command = barrierctl(&daemon.file, &watch);
        command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
        if !color {
            command.env("NO_COLOR", "1");
        }
        let mut terminal = Terminal::new(80, 24);
        let before = terminal.modes();
        let mut child = terminal.run(&command);
        // Others wait, so that there is something to see.
        for _ in 0..3 {
            printed(&mut barrierctl(&daemon.file, &["wait"]), 0);
        }
        let shown = terminal.read_until(|text| text.matches("\x1b[H").count() >= 4);
        match signal {
            "Ctrl-C" => terminal.write(b"\x03"),
            _ => terminal::terminate(&child),
        }
        assert_eq!(terminal::ended(&mut child), Some(0), "after {signal}:\n{shown}");
        let shown = shown + &terminal.rest();
        assert_eq!(terminal.modes(), before, "after {signal}");
        assert_eq!(shown.contains("\x1b[32m"), color, "{shown:?}");

        // The last whole frame.
        let frame = shown.rsplit("\x1b[H").find(|frame| frame.contains("\x1b[J"));
        let frame = without_codes(frame.expect("a whole frame"));
        let (pid, cpus) = (daemon.pid(), thread::available_parallelism().expect("told"));
        for words in [&format!("process {pid}: alive, up "), "laggards  CPU ", "a second", "kicks"]
        {
            assert!(frame.contains(words), "{words:?} is missing from:\n{frame}");
        }
        assert!(frame.contains(&format!("CPUs      {cpus}: ")), "{frame}");
        let row = frame.lines().find(|line| line.starts_with("   0  ")).expect("CPU 0");
        assert!(row.contains("busy") || row.contains("idle"), "{frame}");
        assert!(row.contains(" ms ") || row.contains(" us "), "{frame}");
        assert!(frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
    }
}
