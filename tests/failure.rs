//! What goes wrong with a daemon, and what its clients may rely on all the same: it is killed,
//! stopped and starved of room, its lock is removed, its programs are detached. No barrier passes
//! early, no deadline is missed, no time decreases, and whoever waits goes on with the next daemon.
//!
//! Owns the troubles and the crowd that lives through them. The one judge of barriers is the flag
//! game (`common/game.rs`).

mod common;
#[path = "common/crowd.rs"]
mod crowd;
#[path = "common/game.rs"]
mod game;
#[cfg(target_arch = "x86_64")]
#[path = "common/idle.rs"]
mod idle;
#[cfg(target_arch = "x86_64")]
#[path = "common/inject.rs"]
mod inject;

use barrierd_client::{Barrier, Liveness, OpenError, Stamp, WaitError};
use barrierd_reclaim::{ActiveSource, Reclaimer, Source};
use common::{Daemon, PATIENCE, directory, have_root};
use crowd::Crowd;
use game::{Game, Rest};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One at a time: they keep all CPUs busy.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The CPUs that this test may run on.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect()
}

/// A plain generator: the troubles come at other moments each time, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A hundred lives, each ended by SIGKILL, one in four before it was set up.
#[test]
fn killed_a_hundred_times_under_load() {
    if !have_root() {
        return;
    }
    let _turn = turn();
    let dir = directory();
    let mut daemon = Daemon::start(dir.path());
    let crowd = Crowd::new(&daemon.file, &cpus());
    let mut dice = Dice(0x5EED);
    let (daemon, sums) = crowd.live_through(|| {
        for life in 0..100 {
            thread::sleep(ms(dice.below(250)));
            daemon.kill();
            if dice.below(4) == 0 {
                thread::sleep(ms(dice.below(400)));
            }
            daemon = if life % 4 == 3 {
                Daemon::spawn(dir.path(), &[])
            } else {
                Daemon::start(dir.path())
            };
        }
        if !daemon.log().contains("Setup complete") {
            daemon.kill();
            daemon = Daemon::start(dir.path());
        }
        daemon
    });
    assert!(sums.passed > 100 && sums.edges > 100, "{sums:?}");
    assert!(crowd.barrier().same_file().unwrap(), "adopted each time, never replaced");
    assert!(daemon.stop().success());
    println!("{sums:?}");
}

/// A daemon that is stopped is stale, and a source like any other that is away; it goes on.
#[test]
fn stopped_for_seconds_and_continued() {
    if !have_root() {
        return;
    }
    let _turn = turn();
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let crowd = Crowd::new(&daemon.file, &cpus());
    let barrier = crowd.barrier();
    let on = |source| {
        let builder = Reclaimer::builder().source(source).daemon_file(&daemon.file);
        builder.build().unwrap()
    };
    let (auto, strict) = (on(Source::Auto), on(Source::Daemon));
    // A record that rests in each: with this thread alone, no barrier would be needed. One that has had a robust guard
    // is never put to sleep.
    let resting = (auto.handle(), strict.handle());
    drop((resting.0.pin_robust(), resting.1.pin_robust()));
    // SAFETY: fresh from a Box, retired once.
    let retire = |on: &Reclaimer| unsafe { on.retire(Box::into_raw(Box::new(0u64))) };
    let freed_by = |on: &Reclaimer, deadline| {
        retire(on);
        on.synchronize(deadline).map(|()| on.stats().source)
    };
    let ((), sums) = crowd.live_through(|| {
        let late = soon();
        for on in [&auto, &strict] {
            // On a machine that others keep busy the daemon is late now and then, and a barrier is bought.
            while freed_by(on, soon()).unwrap() != ActiveSource::Daemon {
                assert!(Instant::now() < late, "the daemon is never the source");
            }
        }
        daemon.signal(Signal::STOP);
        thread::sleep(ms(20));
        let (stamp, stopped_at) = (Stamp::now(), barrier.watermark().unwrap());
        let late = barrier.wait(stamp, Instant::now() + ms(500));
        assert!(
            matches!(late, Err(WaitError::TimedOut { liveness: Liveness::Stale, .. })),
            "{late:?}"
        );
        assert!(freed_by(&strict, Instant::now() + ms(200)).is_err(), "there is no barrier");
        let (begin, mut kept) = (Instant::now(), 0);
        while begin.elapsed() < ms(1500) || kept <= 50 {
            assert_eq!(freed_by(&auto, soon()).unwrap(), ActiveSource::Membarrier);
            retire(&strict);
            kept += 1;
            thread::sleep(ms(5));
        }
        assert!(strict.stats().waiting() > 50, "garbage is kept: {:?}", strict.stats());
        assert_eq!(barrier.watermark().unwrap(), stopped_at, "nothing moves");
        assert_eq!(barrier.liveness(), Liveness::Stale);
        daemon.signal(Signal::CONT);
        barrier.wait(stamp, soon()).unwrap();
        assert_eq!(barrier.liveness(), Liveness::Alive);
        strict.synchronize(soon()).unwrap();
        assert_eq!(strict.stats().waiting(), 0);
        let stop = soon();
        while freed_by(&auto, soon()).unwrap() != ActiveSource::Daemon {
            assert!(Instant::now() < stop, "the daemon is back, the reclaimer is not");
        }
        // At any step of its loop, for longer and shorter than anything that it waits for.
        let mut dice = Dice(0xBEA7);
        for _ in 0..60 {
            daemon.signal(Signal::STOP);
            thread::sleep(Duration::from_micros(dice.below(40_000)));
            daemon.signal(Signal::CONT);
            thread::sleep(Duration::from_micros(dice.below(20_000)));
        }
    });
    assert!(sums.passed > 20 && sums.edges > 20, "{sums:?}");
    assert!(!daemon.log().contains("broken"), "{}", daemon.log());
    assert!(daemon.stop().success());
    println!("{sums:?}");
}

/// Two daemons never write one file, whatever became of the lock beside it.
#[test]
fn the_lock_is_removed_under_it() {
    if !have_root() {
        return;
    }
    let _turn = turn();
    let dir = directory();
    let first = Daemon::start(dir.path());
    let crowd = Crowd::new(&first.file, &cpus());
    let barrier = crowd.barrier();
    let lock = dir.path().join("barrier.lock");
    let (second, _) = crowd.live_through(|| {
        fs::remove_file(&lock).unwrap();
        let generation = barrier.generation();
        let (status, said) = Daemon::spawn(dir.path(), &[]).failure();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("another barrierd serves it under another name"), "{said}");
        assert_eq!(barrier.generation(), generation, "the second has not touched it");
        barrier.wait(Stamp::now(), soon()).unwrap();

        // With the file gone too the socket tells.
        fs::remove_file(&first.file).unwrap();
        fs::remove_file(&lock).unwrap();
        let (status, said) = Daemon::spawn(dir.path(), &[]).failure();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("somebody listens on"), "{said}");

        // Without that there is nothing to tell the second by: it makes its own, and the first goes
        // on in the file that its clients have mapped.
        fs::remove_file(dir.path().join("barrier.sock")).unwrap();
        let second = Daemon::start(dir.path());
        let other = Barrier::open(&second.file).unwrap();
        assert!(!barrier.same_file().unwrap() && other.same_file().unwrap());
        for _ in 0..20 {
            let stamp = Stamp::now();
            barrier.wait(stamp, soon()).unwrap();
            other.wait(stamp, soon()).unwrap();
        }
        let edges =
            Game::new(&cpus(), 200_000).every_edge(Rest::Naps, || other.watermark().unwrap().ns);
        assert_eq!(edges.broken, 0);
        // Reclaimers go over to the file that the path names: it must stay alive for them.
        second
    });
    assert!(second.stop().success());
    barrier.wait(Stamp::now(), soon()).unwrap();
    assert!(first.stop().success());
}

const IN_A_SPACE_OF_ITS_OWN: &str = "BARRIERD_TEST_MOUNTS_ON";

/// Runs the test `name` again, in a mount namespace of its own that ends with it, on a directory
/// that it may mount on.
fn in_a_mount_namespace(name: &str) {
    let dir = directory();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(IN_A_SPACE_OF_ITS_OWN, dir.path())
        .status()
        .expect("unshare is installed (util-linux)");
    assert!(status.success(), "{status}");
}

fn mount_tmpfs(dir: &Path, options: &str) {
    let options = format!("mode=755,{options}");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(dir);
    assert!(mount.status().unwrap().success(), "{mount:?}");
}

/// Lazily: this process, which has had a reclaimer on a file there, keeps the last one mapped for others to come.
fn unmount(dir: &Path) {
    assert!(Command::new("umount").arg("--lazy").arg(dir).status().unwrap().success());
}

/// Fills the file system at `dir` until it takes no more, and returns what holds it full.
fn fill(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    let full = loop {
        if let Err(error) = std::io::Write::write(&mut file, &[0; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    path
}

/// Too little room: it says so, and leaves nothing that a client could take for a daemon's.
#[test]
fn no_room_to_start_in() {
    if !have_root() {
        return;
    }
    let Some(dir) = std::env::var_os(IN_A_SPACE_OF_ITS_OWN) else {
        let _turn = turn();
        return in_a_mount_namespace("no_room_to_start_in");
    };
    let dir = Path::new(&dir);
    let page = 4096;
    // What is left, in pages and in inodes; tmpfs takes one of each for its root or the filler.
    for (options, filled, what) in [
        (format!("size={page}"), true, "writing the first bytes"),
        (format!("size={page},nr_inodes=1"), false, "opening the lock file"),
        (format!("size={}", 4 * page), true, "writing the first bytes"),
        (format!("size={},nr_inodes=2", 9 * page), false, "making"),
        (format!("size={},nr_inodes=3", 9 * page), false, "binding"),
    ] {
        mount_tmpfs(dir, &options);
        if filled {
            fill(dir);
        }
        let (status, said) = Daemon::spawn(dir, &[]).failure();
        assert_eq!(status.code(), Some(1), "{options}: {said}");
        assert!(said.contains(what), "{options}: {said}");
        assert!(said.contains("No space left"), "{options}: {said}");
        let file = dir.join("barrier");
        match Barrier::open(&file) {
            Err(OpenError::NotFound { .. }) => {}
            Ok(left) => assert_eq!(left.liveness(), Liveness::Stopped, "{options}"),
            Err(error) => panic!("{options}: {error}"),
        }
        assert!(!dir.join("barrier.new").exists(), "{options}");
        let auto = Reclaimer::builder().daemon_file(&file).build().unwrap();
        assert_eq!(auto.stats().source, ActiveSource::Membarrier, "{options}");
        drop(auto);
        unmount(dir);
        // With room it starts in what the failure left.
        if options.contains("nr_inodes=3") {
            mount_tmpfs(dir, &options.replace("nr_inodes=3", "nr_inodes=4"));
            let daemon = Daemon::start(dir);
            Barrier::open(&file).unwrap().wait(Stamp::now(), soon()).unwrap();
            assert!(daemon.stop().success());
            unmount(dir);
        }
    }
}

/// The room is gone once it runs: it needs no more, nor does the one that is started after it.
#[test]
fn the_room_is_filled_up_under_it() {
    if !have_root() {
        return;
    }
    let Some(dir) = std::env::var_os(IN_A_SPACE_OF_ITS_OWN) else {
        let _turn = turn();
        return in_a_mount_namespace("the_room_is_filled_up_under_it");
    };
    let dir = Path::new(&dir);
    mount_tmpfs(dir, "size=256k");
    let mut daemon = Daemon::start(dir);
    let crowd = Crowd::new(&daemon.file, &cpus());
    let barrier = crowd.barrier();
    let filler = fill(dir);
    let (daemon, _) = crowd.live_through(|| {
        for _ in 0..5 {
            for _ in 0..20 {
                barrier.wait(Stamp::now(), soon()).unwrap();
            }
            daemon.kill();
            // As others would: nothing is left for who gives a page back and wants it again.
            fill(dir);
            daemon = Daemon::start(dir);
        }
        barrier.wait(Stamp::now(), soon()).unwrap();
        let other = Barrier::open(&daemon.file).unwrap();
        other.wait(Stamp::now(), soon()).unwrap();
        daemon
    });
    assert!(filler.exists() && barrier.same_file().unwrap());
    assert!(daemon.stop().success());
    drop(crowd);
    unmount(dir);
}

/// Its programs are taken from the kernel under it: it says so, and no barrier has passed early, neither
/// with the program gone that writes IDLE, nor with the one that tells who is idle, nor with all; with
/// all it stops to publish.
#[cfg(target_arch = "x86_64")]
#[test]
fn its_programs_are_detached_under_it() {
    if !have_root() {
        return;
    }
    let _turn = turn();
    let cases = [
        (Some("sched_switch"), Rest::Never, "has not seen this daemon run for a second"),
        (Some("sched_switch"), Rest::Naps, "has not seen this daemon run for a second"),
        // Only with naps is there an idle CPU to ask about.
        (Some("task_rename"), Rest::Naps, "does not answer"),
        (None, Rest::Never, "publishing nothing"),
        (None, Rest::Naps, "publishing nothing"),
    ];
    for (gone, rest, said) in cases {
        let dir = directory();
        // Its filter would kill it: no call of its own closes anything.
        let daemon = Daemon::start_with(dir.path(), &["--seccomp=off"]);
        let barrier = Barrier::open(&daemon.file).unwrap();
        barrier.wait(Stamp::now(), soon()).unwrap();
        let links: Vec<i32> = inject::bpf_links(daemon.pid())
            .into_iter()
            .filter(|(_, tracepoint)| gone.is_none_or(|gone| tracepoint == gone))
            .map(|(fd, _)| fd)
            .collect();
        assert!(links.len() == 1 || (gone.is_none() && links.len() > 4), "{links:?}");
        let crowd = Crowd::resting(&daemon.file, &cpus(), rest);
        let (_next, sums) = crowd.live_through(|| {
            thread::sleep(ms(300));
            inject::close_all(daemon.pid(), &links);
            let (stop, idle) = (soon(), idle::spent_except_on(None));
            while !daemon.log().contains(said) {
                if Instant::now() > stop {
                    // Who would tell which CPU is idle is asked only where one looks idle.
                    let none_to_ask_about = gone == Some("task_rename")
                        && idle::spent_except_on(None) - idle < Duration::from_secs(1)
                        && std::env::var_os("CI").is_none();
                    assert!(none_to_ask_about, "{gone:?} {rest:?}: {}", daemon.log());
                    eprintln!("\n*** NOT SEEN: an idle CPU; the machine is too busy ***\n");
                    break;
                }
                thread::sleep(ms(5));
            }
            thread::sleep(ms(300));
            if gone.is_some() {
                barrier.wait(Stamp::now(), soon()).unwrap();
            } else {
                let late = barrier.wait(Stamp::now(), Instant::now() + ms(700));
                let Err(WaitError::TimedOut { liveness, .. }) = late else {
                    panic!("{late:?} with nothing traced")
                };
                assert_eq!(liveness, Liveness::Stale, "it doesn't beat either");
            }
            // The crowd needs a daemon to come to its end.
            daemon.kill();
            Daemon::start(dir.path())
        });
        assert!(sums.edges > 10, "{sums:?}");
    }
}
