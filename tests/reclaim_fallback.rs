//! The reclaimer while its source comes and goes, under load: the daemon dies, hangs, is started late,
//! is started again on a new file. Readers check that nothing is freed too early, and afterwards
//! everything that was retired is freed.

#[path = "../barrierd-reclaim/tests/cases/mod.rs"]
#[allow(dead_code, reason = "only the load is used here")]
mod cases;
mod common;

use barrierd_reclaim::{Reclaimer, Source, Status, Why};
use common::{Daemon, directory, have_root};
use rustix::process::Signal;
use std::thread;
use std::time::{Duration, Instant};

fn until(reclaimer: &Reclaimer, wanted: Status) {
    let stop = Instant::now() + Duration::from_secs(20);
    while reclaimer.status() != wanted {
        let (status, stats) = (reclaimer.status(), reclaimer.stats());
        assert!(Instant::now() < stop, "{wanted} is awaited; it is {status}; {stats:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Frees go on: what was retired before now, mostly, is freed soon.
fn frees_go_on(reclaimer: &Reclaimer) {
    let before = reclaimer.stats();
    let stop = Instant::now() + Duration::from_secs(20);
    while reclaimer.stats().freed < before.retired {
        assert!(Instant::now() < stop, "{} {:?}", reclaimer.status(), reclaimer.stats());
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_daemon_that_is_started_late() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let reclaimer = Reclaimer::builder().daemon_file(dir.path().join("barrier")).build().unwrap();
    assert_eq!(reclaimer.status(), Status::Membarrier(Why::NoDaemon));
    cases::under_load(&reclaimer, || {
        frees_go_on(&reclaimer);
        let _daemon = Daemon::start(dir.path());
        until(&reclaimer, Status::Daemon);
        frees_go_on(&reclaimer);
    });
}

#[test]
fn a_daemon_that_dies_hangs_and_comes_back() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let reclaimer = Reclaimer::builder().daemon_file(&daemon.file).build().unwrap();
    cases::under_load(&reclaimer, || {
        until(&reclaimer, Status::Daemon);
        frees_go_on(&reclaimer);
        // Hangs.
        daemon.signal(Signal::STOP);
        until(&reclaimer, Status::Membarrier(Why::DaemonStale));
        frees_go_on(&reclaimer);
        daemon.signal(Signal::CONT);
        until(&reclaimer, Status::Daemon);
        frees_go_on(&reclaimer);
        // Dies, and comes back on its file.
        daemon.kill();
        until(&reclaimer, Status::Membarrier(Why::DaemonStale));
        frees_go_on(&reclaimer);
        let daemon = Daemon::start(dir.path());
        until(&reclaimer, Status::Daemon);
        frees_go_on(&reclaimer);
        // Stops, and comes back on a new one.
        let file = daemon.file.clone();
        daemon.stop();
        until(&reclaimer, Status::Membarrier(Why::DaemonStopped));
        frees_go_on(&reclaimer);
        for _ in 0..3 {
            std::fs::remove_file(&file).unwrap();
            let daemon = Daemon::start(dir.path());
            until(&reclaimer, Status::Daemon);
            frees_go_on(&reclaimer);
            daemon.kill();
            until(&reclaimer, Status::Membarrier(Why::DaemonStale));
        }
    });
}

/// Nothing but the daemon will do: while it is away garbage is kept, and when it is back, on whatever
/// file, it goes.
#[test]
fn the_daemon_alone() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let file = daemon.file.clone();
    let reclaimer = Reclaimer::builder().source(Source::Daemon).daemon_file(&file).build().unwrap();
    let mut again = None;
    cases::under_load(&reclaimer, || {
        frees_go_on(&reclaimer);
        daemon.kill();
        until(&reclaimer, Status::Nothing(Why::DaemonStale));
        thread::sleep(Duration::from_millis(100));
        std::fs::remove_file(&file).unwrap();
        let daemon = Daemon::start(dir.path());
        until(&reclaimer, Status::Daemon);
        frees_go_on(&reclaimer);
        // For what is left.
        again = Some(daemon);
    });
    drop(again);
}
