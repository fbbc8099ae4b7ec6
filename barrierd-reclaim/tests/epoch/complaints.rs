//! What users of crossbeam-epoch complain about, and what happens here: each line of the table in the
//! chapter on migrating.

use super::{counter, late, wait_for};
use barrierd_reclaim::epoch::{self, Collector, ConfigureError};
use barrierd_reclaim::{OnLimit, Reclaimer, SynchronizeError};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Garbage that waits for ever when no one pins again.
#[cfg_attr(barrierd_plain, ignore = "nobody asked for a background thread")]
#[test]
fn garbage_goes_though_nobody_pins_again() {
    let called = counter();
    epoch::pin().defer(|| called.fetch_add(1, SeqCst));
    let (thread, exited) = (counter(), counter());
    let (end, wait) = mpsc::channel::<()>();
    let sleeper = thread::spawn(move || {
        epoch::pin().defer(|| thread.fetch_add(1, SeqCst));
        let _ = wait.recv();
    });
    thread::spawn(|| epoch::pin().defer(|| exited.fetch_add(1, SeqCst))).join().unwrap();
    // Of this thread, of one that sleeps, of one that has exited.
    for counter in [called, thread, exited] {
        wait_for("garbage", || counter.load(SeqCst) == 1);
    }
    drop(end);
    sleeper.join().unwrap();
}

/// `flush` that must be called twice, and pins between.
#[cfg_attr(barrierd_plain, ignore = "nobody asked for a background thread")]
#[test]
fn one_flush_will_do() {
    let collector = Collector::new();
    let called = counter();
    let handle = collector.register();
    let guard = handle.pin();
    guard.defer(|| called.fetch_add(1, SeqCst));
    guard.flush();
    assert_eq!(called.load(SeqCst), 0, "called under its own guard");
    drop(guard);
    wait_for("one flush", || called.load(SeqCst) == 1);
    // What came before the guard goes in the flush, if nobody else is in the way.
    handle.pin().defer(|| called.fetch_add(1, SeqCst));
    wait_for("flush", || {
        handle.pin().flush();
        called.load(SeqCst) == 2
    });
}

/// Unbounded garbage behind one stalled guard: it has a name, a limit and a report.
#[cfg_attr(barrierd_plain, ignore = "nobody asked for a background thread")]
#[test]
fn a_stalled_guard_is_named_limited_and_reported() {
    const LIMIT: u64 = 1000;
    let (reports, worst) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count, most) = (reports.clone(), worst.clone());
    let (found, stalls) = mpsc::channel();
    let settings = Reclaimer::builder()
        .stall_hook(Duration::from_millis(20), move |blocker| _ = found.send(blocker.clone()))
        .limit_items(LIMIT)
        .on_limit(OnLimit::Block(Duration::from_millis(1)))
        .limit_hook(move |pressure| {
            count.fetch_add(1, SeqCst);
            most.fetch_max(pressure.items, SeqCst);
        });
    let collector = Collector::build(settings).unwrap();
    let (stall, stalled) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel();
    let own = collector.clone();
    let stalling = thread::Builder::new()
        .name("stalls".into())
        .spawn(move || {
            let guard = own.register().pin();
            ready.send(()).unwrap();
            let _ = stalled.recv();
            drop(guard);
        })
        .unwrap();
    is_ready.recv().unwrap();
    let handle = collector.register();
    for _ in 0..2 * LIMIT {
        handle.pin().defer(|| ());
    }
    let blockers = collector.blockers();
    // Linux has names for other threads to read.
    let name = cfg!(all(target_os = "linux", not(barrierd_plain))).then_some("stalls");
    assert_eq!(blockers[0].thread.as_deref(), name, "{blockers:?}");
    assert!(reports.load(SeqCst) > 0 && worst.load(SeqCst) >= LIMIT);
    // Without being asked.
    let found = stalls.recv_timeout(Duration::from_secs(20)).expect("the hook is called");
    assert_eq!(found.thread.as_deref(), name);
    assert!(collector.stats().waiting() > LIMIT && collector.stats().waiting_bytes == 0);
    // What a call waits for has a name as well.
    let error = collector.drain(Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error.reason, Some(SynchronizeError::Readers { readers: 1 })), "{error}");
    assert!(error.waiting > LIMIT && error.to_string().contains("deferred call(s) still wait"));
    drop(stall);
    stalling.join().unwrap();
    collector.drain(late()).unwrap();
}

/// Destructors that never run at the end of a program: the documented call.
#[cfg_attr(barrierd_plain, ignore = "nobody asked for a background thread")]
#[test]
fn drain_calls_everything() {
    let collector = Collector::new();
    let called = counter();
    let (end, wait) = mpsc::channel::<()>();
    let (ready, is_ready) = mpsc::channel();
    let own = collector.clone();
    let idle = thread::spawn(move || {
        let handle = own.register();
        (0..100).for_each(|_| handle.pin().defer(|| called.fetch_add(1, SeqCst)));
        ready.send(()).unwrap();
        let _ = wait.recv();
    });
    is_ready.recv().unwrap();
    let handle = collector.register();
    (0..100).for_each(|_| handle.pin().defer(|| called.fetch_add(1, SeqCst)));
    // Also what an idle thread and another handle hold.
    collector.drain(late()).unwrap();
    assert_eq!(called.load(SeqCst), 200);
    drop(end);
    idle.join().unwrap();
    // With a guard it can't be done, and says so at once.
    let guard = epoch::pin();
    guard.defer(|| called.fetch_add(1, SeqCst));
    let error = epoch::drain(late()).unwrap_err();
    assert_eq!(error.reason, Some(SynchronizeError::Pinned));
    drop(guard);
    epoch::drain(late()).unwrap();
    assert_eq!(called.load(SeqCst), 201);
}

#[test]
fn settings_come_too_late() {
    drop(epoch::pin());
    let error = epoch::configure(Reclaimer::builder()).unwrap_err();
    assert!(matches!(error, ConfigureError::InUse), "{error}");
}

/// What `child` does at its end, as its output says. It must come to that end.
fn run(child: &str) -> String {
    let mut running = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", child])
        .env("RUST_BACKTRACE", "0")
        // A panic whose payload nobody may drop is meant to leak.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let give_up = late();
    while running.try_wait().unwrap().is_none() {
        if Instant::now() > give_up {
            running.kill().unwrap();
            panic!("{child} does not end: {:?}", running.wait_with_output());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = running.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// ... and at a clean exit, whichever thread deferred, and however the program ends.
#[cfg_attr(barrierd_plain, ignore = "nothing is called at the end")]
#[test]
fn a_clean_exit_calls_what_may_be_called() {
    for child in ["returns", "exits"] {
        let text = run(&format!("complaints::child_{child}"));
        for who in ["main", "after a panic", "exited"] {
            assert_eq!(text.matches(&format!("called: {who}")).count(), 1, "{child}: {text}");
        }
        // If the background thread comes to it within the deadline.
        assert!(text.matches("called: idle").count() <= 1, "{child}: {text}");
    }
}

/// Somebody reads for ever: the exit is not held up as long.
#[test]
fn a_clean_exit_does_not_wait_for_ever() {
    let text = run("complaints::child_stalls");
    assert!(!text.contains("called: behind a guard"), "{text}");
}

fn defer_for_the_end() {
    // One guard, so that none of the calls runs what came before it: the panic would come out here.
    let guard = epoch::pin();
    guard.defer(|| println!("called: main"));
    guard.defer(|| panic!("on purpose"));
    guard.defer(|| println!("called: after a panic"));
    drop(guard);
    thread::spawn(|| epoch::pin().defer(|| println!("called: exited"))).join().unwrap();
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        epoch::pin().defer(|| println!("called: idle"));
        ready.send(()).unwrap();
        thread::park();
    });
    is_ready.recv().unwrap();
}

#[test]
#[ignore = "run by a_clean_exit_calls_what_may_be_called"]
fn child_returns() {
    defer_for_the_end();
}

#[test]
#[ignore = "run by a_clean_exit_calls_what_may_be_called"]
fn child_exits() {
    defer_for_the_end();
    std::process::exit(0);
}

#[test]
#[ignore = "run by a_clean_exit_does_not_wait_for_ever"]
fn child_stalls() {
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let guard = epoch::pin();
        ready.send(()).unwrap();
        thread::park();
        drop(guard);
    });
    is_ready.recv().unwrap();
    epoch::pin().defer(|| println!("called: behind a guard"));
    std::process::exit(0);
}

#[test]
#[ignore = "run by settings_hold_for_the_process"]
fn child_configures() {
    let (hook, heard) = mpsc::channel();
    let settings = Reclaimer::builder().limit_items(10).limit_hook(move |_| _ = hook.send(()));
    epoch::configure(settings).unwrap();
    let _stalled = epoch::pin();
    (0..1000).for_each(|_| epoch::pin().defer(|| ()));
    heard.recv_timeout(Duration::from_secs(10)).expect("the limit is reported");
    println!("configured");
}

#[test]
fn settings_hold_for_the_process() {
    assert!(run("complaints::child_configures").contains("configured"));
}
