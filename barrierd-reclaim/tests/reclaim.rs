//! The reclaimer on the sources that need no daemon.

mod cases;

use barrierd_reclaim::{ActiveSource, BuildError, Reclaimer, Source};

fn on(source: Source) -> impl Fn() -> Reclaimer {
    move || Reclaimer::builder().source(source).background(false).build().unwrap()
}

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
    for source in [Source::Membarrier, Source::Fence] {
        cases::limits::all(|| Reclaimer::builder().source(source));
    }
}

#[test]
fn observe() {
    for source in [Source::Membarrier, Source::Fence] {
        cases::observe::all(|| Reclaimer::builder().source(source));
    }
}

#[test]
fn drop_in() {
    for source in [Source::Membarrier, Source::Fence] {
        cases::epoch::all(|| Reclaimer::builder().source(source));
    }
}

#[test]
fn variants() {
    cases::variants::all(on(Source::Membarrier));
    cases::variants::all(on(Source::Fence));
}

#[test]
fn on_membarrier() {
    cases::all(on(Source::Membarrier));
}

#[test]
fn on_fences() {
    cases::all(on(Source::Fence));
}

/// What a thread buys as it exits is not `retire`'s.
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
fn auto_takes_membarrier_where_there_is_no_daemon() {
    let nowhere = tempfile::tempdir().unwrap();
    let reclaimer =
        Reclaimer::builder().daemon_file(nowhere.path().join("barrier")).build().unwrap();
    assert_eq!(reclaimer.stats().source, ActiveSource::Membarrier);
}

#[test]
fn a_missing_daemon_is_named() {
    let nowhere = tempfile::tempdir().unwrap();
    let path = nowhere.path().join("barrier");
    let error = Reclaimer::builder().source(Source::Daemon).daemon_file(&path).build().unwrap_err();
    assert!(matches!(error, BuildError::Daemon(_)));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}
