//! The `tracing` events, as a subscriber hears them. One test in a process of its own: a subscriber is for
//! the whole process, and a seccomp filter for good.

#![cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    not(barrierd_plain)
))]

mod common;

#[path = "../src/report/on_event.rs"]
mod on_event;

#[path = "common/quietly.rs"]
mod quietly;

use barrierd_client::{abi, clock::now_ns};
use barrierd_reclaim::{Blocker, Reclaimer, Source, Status};
use common::forged::Forged;
use common::seccomp;
use on_event::OnEvent;
use quietly::quietly;
use std::fmt::{Debug, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

static HEARD: Mutex<Vec<(Level, String)>> = Mutex::new(Vec::new());

/// The next event of the background thread is none that the recorder can bear.
static PANIC: AtomicBool = AtomicBool::new(false);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

/// Keeps what this crate says.
fn record(event: &Event<'_>) {
    if event.metadata().target().starts_with("barrierd_reclaim") {
        let mut line = Line(String::new());
        event.record(&mut line);
        HEARD.lock().unwrap().push((*event.metadata().level(), line.0));
        let behind = thread::current().name() == Some("barrierd-reclaim");
        assert!(!(behind && PANIC.swap(false, Relaxed)), "a subscriber's panic, on purpose");
    }
}

/// How often an event with all of `parts` was heard since the last call of `forget`.
fn heard(level: Level, parts: &[&str]) -> usize {
    let heard = HEARD.lock().unwrap();
    let fits = |line: &String| parts.iter().all(|part| line.contains(part));
    heard.iter().filter(|(at, line)| *at == level && fits(line)).count()
}

fn forget() {
    HEARD.lock().unwrap().clear();
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let stop = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < stop, "{what}; heard: {:?}", HEARD.lock().unwrap());
        thread::sleep(Duration::from_millis(1));
    }
}

const CHILD_ENV: &str = "BARRIERD_TEST_TRACING_CHILD";

#[test]
fn events() {
    tracing::subscriber::set_global_default(OnEvent(record)).unwrap();
    if std::env::var_os(CHILD_ENV).is_some() {
        return a_thread_that_cannot_start();
    }
    the_source_is_told_once();
    takeovers();
    pressure_is_told_when_it_begins();
    a_stalled_guard();
    a_subscriber_may_panic();
    the_daemon_is_lost_and_found();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "events"])
        .env(CHILD_ENV, "1")
        .status();
    assert!(child.unwrap().success());
    // The last one: it can't be undone.
    membarrier_is_refused();
}

fn the_source_is_told_once() {
    for background in [false, true] {
        forget();
        let reclaimer =
            Reclaimer::builder().source(Source::Fence).background(background).build().unwrap();
        (0..1000u64).for_each(|n| reclaimer.retire_value(n));
        let source = ["barriers come from this source", "status=fences in the readers"];
        until("the source", || heard(Level::INFO, &source) > 0);
        (0..1000u64).for_each(|n| reclaimer.retire_value(n));
        assert_eq!(heard(Level::INFO, &source), 1);
    }
}

fn takeovers() {
    forget();
    let reclaimer = Reclaimer::builder().source(Source::Fence).build().unwrap();
    reclaimer.retire_value(0u64);
    until("a takeover", || heard(Level::DEBUG, &["took over queues", "queues=1"]) == 1);
}

fn pressure_is_told_when_it_begins() {
    forget();
    let builder = Reclaimer::builder().source(Source::Fence).background(false);
    let reclaimer = builder.limit_items(200).build().unwrap();
    let above = ["above the limit", "readers=1"];
    for times in 1..=2 {
        let guard = reclaimer.pin();
        (0..1000u64).for_each(|n| reclaimer.retire_value(n));
        assert_eq!(heard(Level::WARN, &above), times);
        drop(guard);
        // Below it again.
        (0..1000u64).for_each(|n| reclaimer.retire_value(n));
    }
}

fn a_stalled_guard() {
    forget();
    let builder = Reclaimer::builder().source(Source::Fence);
    let reclaimer = builder.stall_hook(Duration::from_millis(30), |_| ()).build().unwrap();
    let (go, wait_go) = mpsc::channel::<()>();
    let (here, wait_here) = mpsc::channel();
    thread::scope(|scope| {
        let shared = &reclaimer;
        let read = move || {
            let _guard = shared.pin();
            here.send(()).unwrap();
            let _ = wait_go.recv();
        };
        thread::Builder::new().name("a-slow-reader".into()).spawn_scoped(scope, read).unwrap();
        wait_here.recv().unwrap();
        let stalled = ["open for too long", "thread=\"a-slow-reader\"", "robust=false"];
        until("a stalled guard", || {
            reclaimer.retire_value(0u64);
            heard(Level::WARN, &stalled) == 1
        });
        drop(go);
    });
}

/// As the source is told of, a queue taken over, a guard found stalled: the background thread goes on.
fn a_subscriber_may_panic() {
    quietly(|| (0..3).for_each(the_panic_of_one_event));
}

fn the_panic_of_one_event(event: usize) {
    forget();
    let (called, calls) = mpsc::channel();
    let stalled = move |_: &Blocker| called.send(()).unwrap();
    let builder = Reclaimer::builder().source(Source::Fence);
    let reclaimer = builder.stall_hook(Duration::from_millis(30), stalled).build().unwrap();
    if event == 0 {
        PANIC.store(true, Relaxed);
    }
    reclaimer.retire_value(0u64);
    until("the source", || heard(Level::INFO, &["this source"]) == 1);
    until("the first one's end", || reclaimer.stats().waiting() == 0);
    if event == 1 {
        PANIC.store(true, Relaxed);
    }
    let takeovers = heard(Level::DEBUG, &["took over queues"]);
    let guard = reclaimer.pin();
    reclaimer.retire_value(0u64);
    until("a takeover", || heard(Level::DEBUG, &["took over queues"]) > takeovers);
    if event == 2 {
        PANIC.store(true, Relaxed);
    }
    until("a stalled guard", || heard(Level::WARN, &["open for too long"]) == 1);
    calls.recv_timeout(Duration::from_secs(20)).expect("the hook is called all the same");
    assert!(!PANIC.load(Relaxed), "{event}: it did not panic");
    drop(guard);
    until("the second one's end", || reclaimer.stats().waiting() == 0);
}

fn the_daemon_is_lost_and_found() {
    forget();
    let beat = |forged: &Forged| {
        forged.store(abi::HEARTBEAT_NS, now_ns());
        forged.store(abi::LAST_INTERRUPT_NS, now_ns() - 1_000_000);
    };
    let now = now_ns();
    let forged = Forged::new(now, now - 1_000_000);
    let reclaimer = Reclaimer::builder().daemon_file(&forged.path).build().unwrap();
    // Something waits all the time, so that somebody looks.
    let _guard = reclaimer.pin();
    reclaimer.retire_value(0u64);
    until("the daemon", || {
        beat(&forged);
        heard(Level::INFO, &["status=the daemon"]) == 1
    });
    until("the daemon's end", || heard(Level::WARN, &["another source", "status=membarrier"]) >= 1);
    let lost = heard(Level::WARN, &["another source"]);
    assert!(lost <= 2, "lags, then dead: {:?}", HEARD.lock().unwrap());
    until("the daemon again", || {
        beat(&forged);
        heard(Level::INFO, &["status=the daemon"]) == 2
    });
}

fn membarrier_is_refused() {
    let nowhere = tempfile::tempdir().unwrap();
    let file = nowhere.path().join("barrier");
    let reclaimer = Reclaimer::builder().daemon_file(&file).build().unwrap();
    let (go, wait_go) = mpsc::channel::<()>();
    let (here, wait_here) = mpsc::channel();
    thread::scope(|scope| {
        let reader = reclaimer.clone();
        scope.spawn(move || {
            drop(reader.pin());
            here.send(()).unwrap();
            let _ = wait_go.recv();
        });
        wait_here.recv().unwrap();
        forget();
        seccomp::forbid(&[libc::SYS_membarrier]);
        (0..1000u64).for_each(|n| reclaimer.retire_value(n));
        until("the refusal", || {
            heard(Level::WARN, &["message=the kernel refuses membarrier"]) == 1
        });
        until("no source", || heard(Level::WARN, &["no barriers", "status=nothing"]) == 1);
        thread::sleep(Duration::from_millis(100));
        assert_eq!(heard(Level::WARN, &[]), 2, "{:?}", HEARD.lock().unwrap());
        drop(go);
    });
    assert!(matches!(reclaimer.status(), Status::Nothing(_)));
}

fn a_thread_that_cannot_start() {
    let reclaimer = Reclaimer::builder().source(Source::Fence).build().unwrap();
    seccomp::forbid(&[libc::SYS_clone, libc::SYS_clone3]);
    reclaimer.retire_value(0u64);
    assert_eq!(heard(Level::WARN, &["no background thread", "error="]), 1);
    assert_eq!(heard(Level::INFO, &["this source"]), 1, "this thread looks instead");
    reclaimer.synchronize(Instant::now() + Duration::from_secs(20)).unwrap();
    assert_eq!(reclaimer.stats().waiting(), 0);
}
