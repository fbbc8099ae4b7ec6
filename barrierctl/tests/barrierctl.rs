//! The program: its exit statuses and output, and what only another process can show: other
//! namespaces, a missing `/proc`.

#[path = "common/asked.rs"]
mod asked;

#[path = "common/exposition.rs"]
mod exposition;

#[path = "../../barrierd-client/tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use asked::{json, printed};
use barrierd_client::boot::BootId;
use barrierd_client::counters::{self, Kind, NONE, TABLE, Unit, Word};
use barrierd_client::{Stamp, abi, clock};
use common::{Image, S, Writer, dir, root};

const BARRIERCTL: &str = env!("CARGO_BIN_EXE_barrierctl");

/// Runs `command` and checks its exit status and that its output holds each of `words`.
#[track_caller]
fn expect(command: &mut Command, status: i32, words: &[&str]) {
    let Output { status: found, stdout, stderr } = command.output().expect("started");
    let text = format!(
        "{found}\n{}\n{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
    assert_eq!(found.code(), Some(status), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing from: {text}");
    }
}

fn barrierctl(path: &Path, args: &[&str]) -> Command {
    asked::barrierctl(BARRIERCTL.as_ref(), path, args)
}

/// Runs `asked` while the daemon of the file at `path` beats and its barrier moves.
fn beside_a_daemon(path: &Path, asked: impl FnOnce() + Send) {
    let writer = Writer::new(path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(asked);
        while !asked.is_finished() {
            writer.store(abi::HEARTBEAT_NS, clock::now_ns());
            writer.store(abi::LAST_INTERRUPT_NS, Stamp::now().ns() - 10_000);
            writer.wake(abi::LAST_INTERRUPT_NS);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
}

/// `barrierctl status`, after `setup` ran in a shell inside the namespaces that `unshare` makes for `flags`.
fn inside(flags: &[&str], setup: &str, path: &Path) -> Command {
    let mut command = Command::new("unshare");
    let script = format!("{setup} exec \"$0\" --file \"$1\" status");
    command.args(flags).args(["--fork", "--", "sh", "-ec", &script, BARRIERCTL]).arg(path);
    command
}

#[test]
fn status_of_a_daemon_at_work() {
    let dir = dir();
    let path = Image::ours(2).write(&dir);
    // However long the program takes to start, its daemon beats on.
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let words = ["alive", "generation 1", "vtime      7, complete below 5", "cpus       2"];
            expect(&mut barrierctl(&path, &["status"]), 0, &words);
        });
        while !asked.is_finished() {
            writer.store(abi::HEARTBEAT_NS, clock::now_ns());
            std::thread::sleep(Duration::from_millis(5));
        }
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
fn frames_for_any_number_of_cpus_without_a_terminal() {
    let dir = dir();
    for (cpus, words) in [(1, "   0  "), (2, "   1  "), (64, "  63"), (200, "  192 ")] {
        let path = Image::counting(cpus).write(&dir);
        beside_a_daemon(&path, || {
            let mut command = barrierctl(&path, &["watch", "--once", "--interval-ms", "50"]);
            command.env_remove("COLUMNS").env_remove("LINES").env("LC_ALL", "C.UTF-8");
            let text = printed(&mut command, 0);
            assert!(text.contains("alive") && text.contains(words), "{text}");
            assert!(text.contains(&format!("CPUs      {cpus}: ")), "{text}");
            assert!(!text.contains('\x1b') && text.lines().count() < 24, "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains('▁') || text.contains('█'), "{text}");
            let text = printed(command.env("LC_ALL", "C"), 0);
            assert!(text.is_ascii(), "{text}");
        });
    }
}

#[test]
fn frames_are_counted_and_as_wide_as_asked() {
    let dir = dir();
    let path = Image::counting(2).write(&dir);
    beside_a_daemon(&path, || {
        let mut command =
            barrierctl(&path, &["watch", "--count", "3", "--interval-ms=50", "--ascii"]);
        let text = printed(command.env("COLUMNS", "120"), 0);
        assert_eq!(text.matches(": alive").count(), 3, "{text}");
        assert_eq!(text.matches("\n\nbarrierd ").count(), 2, "{text}");
        assert_eq!(text.lines().map(|line| line.chars().count()).max(), Some(120), "{text}");
    });
    // A daemon that is gone: the frame says so, and so does the exit status.
    let path = Image::counting(2).with(abi::FLAGS, abi::FLAG_STOPPED).write(&dir);
    let text = printed(&mut barrierctl(&path, &["watch", "--once", "--interval-ms", "50"]), 1);
    assert!(text.contains("stopped") && text.contains("start barrierd again"), "{text}");
}

#[test]
fn a_watch_ends_where_the_file_lies() {
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let writer = Writer::new(&path);
    let mut command = barrierctl(&path, &["watch", "--interval-ms", "50"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    // Once there is a frame it has accepted the file.
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut frame = String::new();
    out.read_line(&mut frame).expect("a line");
    writer.store(abi::LAST_INTERRUPT_NS, clock::now_ns() + 3_600 * S);
    out.read_to_string(&mut frame).expect("UTF-8");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert_eq!(child.wait().expect("waits").code(), Some(4), "{frame}\n{said}");
    assert!(said.contains("after CLOCK_MONOTONIC"), "{said}");
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
    let writer = Writer::new(&path);
    let (status, metrics, said) = std::thread::scope(|scope| {
        let asked = scope.spawn(|| metrics(&path));
        while !asked.is_finished() {
            writer.store(abi::HEARTBEAT_NS, clock::now_ns());
            std::thread::sleep(Duration::from_millis(5));
        }
        asked.join().expect("no panic")
    });
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
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut command = barrierctl(&path, &["wait", "--timeout-ms", "60000"]);
            expect(&mut command, 0, &["passed after"]);
        });
        while !asked.is_finished() {
            writer.store(abi::LAST_INTERRUPT_NS, Stamp::now().ns() - 10_000);
            writer.wake(abi::LAST_INTERRUPT_NS);
            std::thread::sleep(Duration::from_millis(2));
        }
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
    let writer = Writer::new(&path);
    std::thread::scope(|scope| {
        let begin = Instant::now();
        let asked = scope.spawn(|| {
            let mut command =
                barrierctl(&path, &["wait", "--by", "vtime", "--timeout-ms", "60000"]);
            expect(&mut command, 0, &["passed after"]);
        });
        // Tag 7: passed once 7 is below the last complete one, and the file is at 5.
        while !asked.is_finished() {
            if begin.elapsed() > Duration::from_millis(300) {
                writer.store(abi::TRUSTED_VTIME, 9);
                writer.store(abi::TRUSTED_LAST_VTIME, 8);
            }
            writer.store(abi::LAST_INTERRUPT_NS, Stamp::now().ns() - 10_000);
            writer.wake(abi::LAST_INTERRUPT_NS);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(begin.elapsed() >= Duration::from_millis(300), "it did not wait for the last one");
    });
    let path = Image::legacy(1).write(&dir);
    expect(&mut barrierctl(&path, &["wait", "--by", "vtime"]), 6, &["the C daemon has no virtual"]);
}

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

#[test]
fn refusals_and_nonsense_have_their_own_statuses() {
    let dir = dir();
    let missing = dir.path().join("barrier");
    expect(&mut barrierctl(&missing, &["status"]), 3, &["barrierctl: ", "no such file"]);
    for args in [
        &[][..],
        &["jump"],
        &["status", "wait"],
        &["status", "--timeout-ms", "5"],
        &["metrics", "--timeout-ms", "5"],
    ] {
        expect(&mut barrierctl(&missing, args), 2, &["barrierctl --help"]);
    }
    expect(&mut barrierctl(&missing, &["wait", "--timeout-ms", "-1"]), 2, &["whole number"]);
    expect(Command::new(BARRIERCTL).arg("--file"), 2, &["--file needs a path"]);
    expect(
        Command::new(BARRIERCTL).arg("--help"),
        0,
        &["usage: barrierctl", "exit status", abi::DEFAULT_PATH],
    );
    expect(Command::new(BARRIERCTL).arg("--version"), 0, &["barrierctl 0."]);
    for verb in ["status", "watch", "wait", "compare", "doctor", "metrics"] {
        expect(
            Command::new(BARRIERCTL).args([verb, "-h"]),
            0,
            &["usage: barrierctl", "exit status"],
        );
    }
    for (args, words) in [
        (&["watch", "--interval-ms", "1"][..], "from 50 to 60000"),
        (&["compare", "--count", "0"], "from 1 to"),
        (&["wait", "--by", "luck"], "one of ns, vtime, expedited"),
        (&["wacht"], "did you mean watch?"),
        (&["doctor", "--load", "2"], "doctor takes no --load, only compare"),
    ] {
        expect(&mut barrierctl(&missing, args), 2, &[words, "see barrierctl --help"]);
    }
    let full = std::fs::File::options().write(true).open("/dev/full").expect("opened");
    expect(Command::new(BARRIERCTL).arg("--help").stdout(full), 5, &["can't write"]);
}

#[test]
fn another_time_namespace_is_refused() {
    if !root("making a time namespace") {
        return;
    }
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let words = ["in time namespace", "4026531834"];
    // Ahead of the file's times, where nothing but the namespace gives the shift away.
    expect(&mut inside(&["--time", "--monotonic", "1000"], "", &path), 3, &words);
    expect(&mut inside(&["--time"], "", &path), 3, &words);
}

#[test]
fn without_a_real_proc_nothing_is_believed() {
    if !root("mounting over /proc") {
        return;
    }
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let words = ["can't read /proc/self/ns/time", "mount a proc file system"];
    let hide = "mount -t tmpfs none /proc;";
    expect(&mut inside(&["--mount"], hide, &path), 3, &words);
    // A directory that looks the part, without the file, isn't a kernel without time namespaces.
    let forge = "mount -t tmpfs none /proc; mkdir -p /proc/self/ns;";
    expect(&mut inside(&["--mount"], forge, &path), 3, &words);
}

#[test]
fn a_faked_boot_id_is_refused() {
    if !root("mounting over the boot id") {
        return;
    }
    let dir = dir();
    let other = BootId([0x11; 16]);
    let [first, second] = other.words();
    let image = Image::ours(1).with(abi::BOOT_ID, first).with(abi::BOOT_ID + 8, second);
    let path = image.write(&dir);
    let fake = dir.path().join("boot_id");
    std::fs::write(&fake, other.to_string()).expect("written");
    let setup = format!("mount --bind '{}' /proc/sys/kernel/random/boot_id;", fake.display());
    expect(&mut inside(&["--mount"], &setup, &path), 3, &["another file is mounted over it"]);
}

/// Nobody is mapped in a user namespace without a map: `/` itself has no owner there. With a map for root the
/// same file is opened.
#[test]
fn b14_an_owner_without_a_number_in_this_user_namespace() {
    if !root("a user namespace") {
        return;
    }
    let dir = dir();
    let path = Image::ours(1).write(&dir);
    let status = |options: &[&str]| {
        let output = Command::new("unshare")
            .arg("--user")
            .args(options)
            .args([BARRIERCTL, "status", "--file"])
            .arg(&path)
            .output()
            .expect("util-linux is there");
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"))
    };
    let [shown, said] = status(&[]);
    assert!(shown.is_empty(), "{shown}");
    for words in ["/: its owner has no number", "--userns=host", "membarrier(2)"] {
        assert!(said.contains(words), "{words:?} is missing from: {said}");
    }
    let [shown, said] = status(&["--map-root-user"]);
    assert!(shown.contains(path.to_str().expect("UTF-8")), "{shown}{said}");
}
