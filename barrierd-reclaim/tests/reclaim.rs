//! The reclaimer on the sources that need no daemon.

mod cases;
#[path = "common/sources.rs"]
mod sources;

use barrierd_reclaim::{ActiveSource, BuildError, Reclaimer, Source, Status, Why};
use sources::{BOUGHT, HAS_CLIENT, SOURCES};

fn on(source: Source) -> impl Fn() -> Reclaimer {
    move || Reclaimer::builder().source(source).background(false).build().unwrap()
}

#[cfg_attr(any(barrierd_plain, not(target_os = "linux")), ignore = "there is no membarrier")]
#[test]
fn behind_on_membarrier() {
    cases::background::all(|| Reclaimer::builder().source(Source::Membarrier));
}

#[test]
fn behind_on_fences() {
    cases::background::all(|| Reclaimer::builder().source(Source::Fence));
}

#[test]
fn limits() {
    for &source in SOURCES {
        cases::limits::all(|| Reclaimer::builder().source(source));
    }
}

#[cfg_attr(any(barrierd_plain, not(target_os = "linux")), ignore = "threads have no names")]
#[test]
fn observe() {
    for &source in SOURCES {
        cases::observe::all(|| Reclaimer::builder().source(source));
    }
}

#[test]
fn drop_in() {
    for &source in SOURCES {
        cases::epoch::all(|| Reclaimer::builder().source(source));
    }
}

#[test]
fn variants() {
    for &source in SOURCES {
        cases::variants::all(on(source));
    }
}

#[cfg_attr(any(barrierd_plain, not(target_os = "linux")), ignore = "there is no membarrier")]
#[test]
fn on_membarrier() {
    cases::all(on(Source::Membarrier));
}

#[test]
fn on_fences() {
    cases::all(on(Source::Fence));
}

/// What a thread buys as it exits is not `retire`'s.
#[cfg_attr(any(barrierd_plain, not(target_os = "linux")), ignore = "there is no membarrier")]
#[test]
fn exits_buy_apart() {
    let reclaimer = on(Source::Membarrier)();
    // This thread takes part and never takes a stamp: nothing can be collected.
    drop(reclaimer.pin());
    let stop = cases::soon();
    while reclaimer.stats().other_syscalls == 0 {
        assert!(std::time::Instant::now() < stop, "{:?}", reclaimer.stats());
        std::thread::sleep(std::time::Duration::from_millis(5));
        let exits = || reclaimer.retire_value(0u64);
        std::thread::scope(|scope| scope.spawn(exits).join().unwrap());
    }
    assert_eq!(reclaimer.stats().retire_syscalls, 0);
}

#[test]
fn auto_takes_the_best_that_there_is_where_there_is_no_daemon() {
    let nowhere = tempfile::tempdir().unwrap();
    let reclaimer =
        Reclaimer::builder().daemon_file(nowhere.path().join("barrier")).build().unwrap();
    let bought = Reclaimer::builder().source(Source::Membarrier).build().is_ok();
    assert!(bought || !BOUGHT);
    let best = if bought { ActiveSource::Membarrier } else { ActiveSource::Fence };
    assert_eq!(reclaimer.stats().source, best);
    let status = reclaimer.status();
    if HAS_CLIENT {
        assert_eq!(status, Status::Membarrier(Why::NoDaemon));
    } else if bought {
        assert_eq!(status, Status::Membarrier(Why::NotHere));
    } else {
        assert!(matches!(status, Status::Fence(Why::NotHere | Why::NoMembarrier)), "{status}");
    }
}

#[test]
fn a_missing_daemon_is_named() {
    let nowhere = tempfile::tempdir().unwrap();
    let path = nowhere.path().join("barrier");
    let error = Reclaimer::builder().source(Source::Daemon).daemon_file(&path).build().unwrap_err();
    if HAS_CLIENT {
        assert!(matches!(error, BuildError::Daemon(_)));
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    } else {
        assert!(matches!(error, BuildError::DaemonElsewhere));
        assert!(error.to_string().contains("use Source::Auto"), "{error}");
    }
}

#[test]
fn a_missing_membarrier_is_named() {
    let built = Reclaimer::builder().source(Source::Membarrier).build();
    match built {
        Ok(reclaimer) => assert_eq!(reclaimer.status(), Status::Membarrier(Why::AskedFor)),
        Err(error) => {
            assert!(!BOUGHT && matches!(error, BuildError::Membarrier(_)), "{error}");
            assert!(error.to_string().contains("use Source::Auto"), "{error}");
        }
    }
}
