//! The reclaimer on a live daemon: the cases that every source must pass, the demo, and the claim
//! that retiring costs no system call.

#[path = "../barrierd-reclaim/tests/cases/mod.rs"]
mod cases;
mod common;

use barrierd_reclaim::{Reclaimer, Source, Status, Why};
use common::{Daemon, directory, have_root};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn on_the_daemon() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let builder = || Reclaimer::builder().source(Source::Daemon).daemon_file(&daemon.file);
    cases::all(|| builder().background(false).build().unwrap());
    cases::variants::all(|| builder().background(false).build().unwrap());
    cases::limits::all(builder);
    cases::observe::all(builder);
    cases::epoch::all(builder);
    cases::background::all(builder);
}

/// The daemon dies under a reclaimer: it buys its barriers until another daemon takes over.
#[test]
fn auto_outlives_the_daemon() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let reclaimer = Reclaimer::builder().daemon_file(&daemon.file).build().unwrap();
    let until = |wanted: Status| {
        let stop = Instant::now() + Duration::from_secs(20);
        loop {
            // SAFETY: fresh from a Box, retired once.
            unsafe { reclaimer.retire(Box::into_raw(Box::new(0u64))) };
            reclaimer.synchronize(cases::soon()).unwrap();
            assert_eq!(reclaimer.stats().waiting(), 0);
            if reclaimer.status() == wanted {
                return;
            }
            assert!(Instant::now() < stop, "{wanted} is awaited, not {}", reclaimer.status());
        }
    };
    until(Status::Daemon);
    daemon.kill();
    until(Status::Membarrier(Why::DaemonStale));
    let _again = Daemon::start(dir.path());
    until(Status::Daemon);
}

fn field<'t>(line: &'t str, name: &str) -> &'t str {
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name}= in {line}"))
}

#[test]
fn the_demo_frees_what_it_retires() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let output = Command::new(common::built::example("demo"))
        .arg("--file")
        .arg(&daemon.file)
        .args(["--seconds", "1", "--source", "daemon", "--source", "membarrier"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("demo: ")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(field(lines[0], "source"), "daemon");
    assert_eq!(field(lines[0], "retire_syscalls"), "0");
    assert_eq!(field(lines[1], "source"), "membarrier");
    for line in lines {
        assert_ne!(field(line, "retired"), "0");
        assert_eq!(field(line, "retired"), field(line, "freed"));
    }
}

/// Counted by strace, from outside: between two marks, a thread that pins, retires and frees makes
/// no system call but those of the allocator.
#[test]
fn retiring_makes_no_system_call() {
    if !have_root() {
        return;
    }
    if let Some(file) = std::env::var_os("BARRIERD_TEST_RETIRE_ON") {
        return retire_between_marks(file.as_ref());
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let trace = dir.path().join("trace");
    let output = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "retiring_makes_no_system_call", "--nocapture"])
        .env("BARRIERD_TEST_RETIRE_ON", &daemon.file)
        .output()
        .expect("strace is installed (scripts/deps.sh test)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let trace = std::fs::read_to_string(trace).unwrap();
    // "<pid> <call>(...": the marks are calls that nothing else here makes. The background thread,
    // which has a pid of its own there, may do what it likes.
    let is_mark = |line: &&str| line.contains("getpriority(");
    let pid = trace.lines().find(is_mark).and_then(|line| line.split_whitespace().next());
    let pid = pid.expect("the first mark is there");
    // A call during which another thread's is reported takes two lines.
    let own = trace.lines().filter(|line| line.split_whitespace().next() == Some(pid));
    let own = own.filter(|line| !line.contains("getpriority resumed"));
    let mut between = own.skip_while(|line| !is_mark(line)).skip(1);
    let calls: Vec<_> = between.by_ref().take_while(|line| !is_mark(line)).collect();
    assert!(between.next().is_some(), "the second mark is there");
    let foreign: Vec<_> = calls
        .iter()
        .filter(|line| {
            !["brk(", "mmap(", "munmap(", "madvise(", "mprotect("]
                .iter()
                .any(|allocator| line.contains(allocator))
        })
        .collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
}

fn retire_between_marks(file: &std::path::Path) {
    let reclaimer = Reclaimer::builder().source(Source::Daemon).daemon_file(file).build().unwrap();
    let mark = || rustix::process::getpriority_process(None).unwrap();
    let retire = || {
        let _guard = reclaimer.pin();
        // SAFETY: fresh from a Box, retired once.
        unsafe { reclaimer.retire(Box::into_raw(Box::new(0u64))) };
    };
    (0..1000).for_each(|_| retire());
    let before = reclaimer.stats();
    mark();
    let stop = Instant::now() + Duration::from_millis(300);
    while Instant::now() < stop {
        retire();
    }
    mark();
    let after = reclaimer.stats();
    // Not for want of work: barriers passed and objects were freed meanwhile.
    assert!(after.rounds > before.rounds + 5, "{before:?} {after:?}");
    assert!(after.freed > before.freed + 1000, "{before:?} {after:?}");
    assert_eq!(after.retire_syscalls, 0);
}
