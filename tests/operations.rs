//! What an operator sees of a live daemon: its counters, read by others without privilege.

mod common;

#[path = "common/nobody.rs"]
mod nobody;

#[path = "../barrierctl/tests/common/exposition.rs"]
mod exposition;

use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use barrierd_client::counters::{Counters, CountersError, Word};
use barrierd_client::{Barrier, Stamp, abi};
use common::{Daemon, PATIENCE, directory, have_root};
use exposition::Metrics;
use rustix::process::Signal;

/// barrierctl as nobody in particular, without a capability.
fn unprivileged(file: &Path, verb: &str) -> Output {
    nobody::barrierctl(file, &[verb]).output().expect("setpriv, of util-linux")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn metrics(file: &Path) -> Metrics {
    let output = unprivileged(file, "metrics");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    exposition::parse(&String::from_utf8_lossy(&output.stdout)).expect("strict")
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn read(barrier: &Barrier) -> Counters {
    let give_up = soon();
    loop {
        match barrier.counters() {
            // A daemon that has just started has not scanned yet.
            Err(CountersError::Changing) if Instant::now() < give_up => thread::yield_now(),
            found => return found.expect("counters"),
        }
    }
}

#[test]
fn counters_move_and_anyone_reads_them() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).expect("a sound file");
    barrier.wait(Stamp::now(), soon()).expect("passes");
    let before = metrics(&daemon.file);
    for _ in 0..20 {
        barrier.wait(Stamp::now(), soon()).expect("passes");
    }
    // One request that makes no sense.
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    socket.send_to(b"junk", abi::socket_path(&daemon.file)).expect("sent");
    let give_up = soon();
    let after = loop {
        let after = metrics(&daemon.file);
        if after["barrierd_dropped_requests_total"].value == 1.0 || Instant::now() > give_up {
            break after;
        }
    };
    for (name, least) in [
        ("barrierd_rounds_total", 2.0),
        ("barrierd_scans_total", 20.0),
        ("barrierd_wake_ups_total", 20.0),
        ("barrierd_requests_total", 20.0),
        ("barrierd_dropped_requests_total", 1.0),
    ] {
        let more = after[name].value - before[name].value;
        assert!(more >= least, "{name}: {more}");
    }
    for (series, sample) in &before {
        let moved = after[series].value - sample.value;
        assert!(sample.kind != "counter" || moved >= 0.0, "{series} fell by {moved}");
    }
    assert_eq!(after["barrierd_tracing_proved"].value, 1.0);
    assert_eq!(after["barrierd_idle_inference"].value, 1.0);
    let cycle = after["barrierd_cycle_seconds"].value;
    assert!((0.003..=0.05).contains(&cycle), "{cycle}");

    let status = unprivileged(&daemon.file, "status");
    let said = text(&status);
    assert_eq!(status.status.code(), Some(0), "{said}");
    for words in ["alive", &format!("process {}, up ", daemon.pid()), "tracing    proved"] {
        assert!(said.contains(words), "{words:?} is missing from:\n{said}");
    }

    // Stopped: the last word is the daemon's own sum, and barrierctl says so.
    let (file, last) = (daemon.file.clone(), after["barrierd_scans_total"].value);
    assert!(daemon.stop().success());
    let output = unprivileged(&file, "metrics");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let left = exposition::parse(&String::from_utf8_lossy(&output.stdout)).expect("strict");
    assert_eq!(left["barrierd_up"].value, 0.0);
    assert!(left["barrierd_scans_total"].value >= last);
    assert!(text(&output).contains("has stopped"), "{}", text(&output));
}

#[test]
fn a_daemon_that_was_killed_is_dead_and_the_next_one_counts_from_zero() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let file = daemon.file.clone();
    let barrier = Barrier::open(&file).expect("a sound file");
    let give_up = soon();
    while read(&barrier).get(Word::Scans) < Some(100) {
        assert!(Instant::now() < give_up, "no scans");
        barrier.wait(Stamp::now(), soon()).expect("passes");
    }
    let first = read(&barrier);
    daemon.kill();
    // Its last beat has to be old.
    thread::sleep(Duration::from_millis(300));
    let status = unprivileged(&file, "status");
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    assert!(text(&status).contains("daemon     stale"), "{}", text(&status));
    assert!(text(&status).contains("its log says more; restart it"), "{}", text(&status));

    let daemon = Daemon::start(dir.path());
    let second = read(&barrier);
    assert!(second.start_ns > first.start_ns);
    assert!(second.get(Word::Scans) < first.get(Word::Scans), "{second:?}");
    assert_eq!(second.get(Word::Pid), u64::try_from(daemon.pid().as_raw_nonzero().get()).ok());
}

/// Keeps this thread, and what it starts, on CPU `cpu`. One that isn't there is no matter.
fn pin(cpu: usize) {
    let mut only = rustix::thread::CpuSet::new();
    only.set(cpu);
    let _ = rustix::thread::sched_setaffinity(None, &only);
}

#[test]
fn the_longest_round_names_the_cpu_that_held_it_up() {
    if !have_root() {
        return;
    }
    let dir = directory();
    // A CPU that the daemon runs on is never behind, and it stays on this one.
    pin(0);
    let daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).expect("a sound file");
    assert!(barrier.ncpu() > 1, "this test needs a second CPU");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for cpu in 1..barrier.ncpu() {
            let stop = &stop;
            scope.spawn(move || {
                pin(cpu);
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let give_up = soon();
        while read(&barrier).get(Word::LongestRoundCpu).is_none() && Instant::now() < give_up {
            // So that the daemon looks at each tick.
            barrier.wait_passive(Stamp::now(), give_up).expect("it passes");
        }
        stop.store(true, Ordering::Relaxed);
    });
    let counters = read(&barrier);
    let cpu = counters.get(Word::LongestRoundCpu).expect("a CPU that ticks is behind at times");
    assert!(usize::try_from(cpu).is_ok_and(|cpu| (1..barrier.ncpu()).contains(&cpu)), "{cpu}");
    let longest = counters.get(Word::LongestRound).expect("there");
    assert!((1..10_000_000_000).contains(&longest), "{longest} ns");
    daemon.signal(Signal::TERM);
}
