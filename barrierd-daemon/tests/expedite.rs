//! Expedited waits and kicks on the live daemon, as root.
//!
//! Owns the questions that only a real run answers, by the daemon's own counters where one can: it
//! says them when it stops, if it is verbose. Every test here needs root and says so.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use barrierd_client::counters::Word;
use barrierd_client::{Barrier, ExpediteError, Stamp, abi};
use barrierd_daemon::online::{Online, possible_cpus};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: they keep CPUs busy.
static TURN: Mutex<()> = Mutex::new(());

/// A running daemon on a file of its own. Killed when dropped.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// What it says of itself when it stops.
#[derive(Debug)]
struct Counters {
    requests: u64,
    rounds: u64,
    dropped: u64,
    kicks: u64,
    missed: u64,
    given_up: u64,
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test loads BPF programs: run it as root (cargo test as root, or sudo -E)"
        );
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // Where clients look it over: root's, in root's.
        let dir =
            tempfile::Builder::new().prefix("barrierd-test.").tempdir_in("/run").expect("/run");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let log = fs::File::create(dir.path().join("log")).expect("made");
        let child = Command::new(env!("CARGO_BIN_EXE_barrierd"))
            .arg("-v")
            .arg(dir.path().join("barrier"))
            .args(arguments)
            .stderr(Stdio::from(log))
            .spawn()
            .expect("spawned");
        let daemon = Self { child, dir, _turn: turn };
        let begin = Instant::now();
        while !daemon.said().contains("Setup complete.") {
            assert!(begin.elapsed() < PATIENCE, "{}", daemon.said());
            thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("barrier")
    }

    fn barrier(&self) -> Barrier {
        Barrier::open(self.file()).expect("a sound file")
    }

    fn said(&self) -> String {
        let mut text = String::new();
        let mut log = fs::File::open(self.dir.path().join("log")).expect("there");
        log.read_to_string(&mut text).expect("text");
        text
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn stop(mut self) -> Counters {
        self.signal(Signal::TERM);
        let status = self.child.wait().expect("waited for");
        let said = self.said();
        assert!(status.success(), "{said}");
        let line = said.lines().rev().find(|line| line.contains("stopped: ")).expect("its sums");
        // Each sum stands before its name.
        let before = |name: &str| {
            let (head, _) = line.split_once(name).unwrap_or_else(|| panic!("{name} in {line}"));
            head.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
        };
        let after = |name: &str| {
            let (_, tail) = line.split_once(name).unwrap_or_else(|| panic!("{name} in {line}"));
            tail.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
        };
        Counters {
            requests: before(" requests in"),
            rounds: after(" requests in "),
            dropped: before(" dropped"),
            kicks: before(" kicks"),
            missed: before(" missed"),
            given_up: before(" CPUs given up"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `work` on the first CPU while the last one is kept busy.
fn beside_a_busy_cpu<T>(work: impl FnOnce() -> T) -> T {
    /// Also when `work` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let mut online = Online::open(possible_cpus().expect("sysfs")).expect("sysfs");
    let last = online.read().iter().last().expect("one is online");
    assert!(last > 0, "this test needs a second CPU");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut only = CpuSet::new();
            only.set(last);
            sched_setaffinity(None, &only).expect("an online CPU");
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let _stop = Stop(&stop);
        thread::sleep(Duration::from_millis(100));
        work()
    })
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// So many waits, one after the other. Returns how often the daemon woke up meanwhile for its own cycle, and not for a
/// request; its counters may be those of the publication before the last.
fn own_wake_ups(barrier: &Barrier, waits: u64, wait: impl Fn(Stamp)) -> u64 {
    let counted = || {
        let counters = barrier.counters().expect("counted");
        [Word::WakeUps, Word::Requests].map(|word| counters.get(word).expect("this daemon's"))
    };
    let before = counted();
    (0..waits).for_each(|_| wait(Stamp::now()));
    let after = counted();
    let [wake_ups, requests] = [0, 1].map(|at| after[at] - before[at]);
    wake_ups.saturating_sub(requests)
}

/// In long cycles, of which a wait in its own time takes one at least. A daemon that heard a request and kicked, and
/// published no sooner, would take one for each of the others, too.
#[test]
fn an_expedited_wait_takes_a_round_of_its_own_and_kicks() {
    let daemon = Daemon::start(&["--period-us=50000"]);
    let barrier = daemon.barrier();
    let (passive, expedited) = beside_a_busy_cpu(|| {
        let passive = |stamp| barrier.wait_passive(stamp, soon()).expect("passes");
        let expedited = |stamp| barrier.wait(stamp, soon()).expect("passes");
        (own_wake_ups(&barrier, 20, passive), own_wake_ups(&barrier, 100, expedited))
    });
    println!(
        "wake-ups for its own cycle: {passive} in 20 waits, {expedited} in 100 expedited ones"
    );
    assert!(passive >= 20, "{passive} for 20 waits");
    assert!(expedited <= 50, "{expedited} for 100 waits, and {passive} for 20 in their own time");
    let counters = daemon.stop();
    assert!(counters.requests >= 90 && counters.rounds >= 80, "{counters:?}");
    assert!(counters.kicks >= 40, "{counters:?}");
    assert_eq!((counters.dropped, counters.given_up), (0, 0), "{counters:?}");
}

#[test]
fn a_hundred_waiters_at_once_cost_one_round_of_kicks() {
    let daemon = Daemon::start(&[]);
    let barrier = daemon.barrier();
    beside_a_busy_cpu(|| {
        daemon.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(50));
        thread::scope(|scope| {
            let waiters: Vec<_> = (0..100)
                .map(|_| scope.spawn(|| barrier.wait(Stamp::now(), soon()).expect("passes")))
                .collect();
            thread::sleep(Duration::from_millis(200));
            assert!(waiters.iter().all(|waiter| !waiter.is_finished()), "nobody serves them");
            daemon.signal(Signal::CONT);
        });
    });
    let counters = daemon.stop();
    assert!(counters.requests >= 2, "{counters:?}");
    assert_eq!(counters.rounds, 1, "{counters:?}");
    // Of at most one CPU; and one for the bound, when the daemon woke up.
    assert!(counters.kicks <= 2, "{counters:?}");
}

#[test]
fn a_flood_costs_the_rate_and_starves_nobody() {
    let daemon = Daemon::start(&["--expedites-per-second=20"]);
    let barrier = daemon.barrier();
    let begin = Instant::now();
    let stop = AtomicBool::new(false);
    beside_a_busy_cpu(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let socket = UnixDatagram::unbound().expect("a socket");
                socket.set_nonblocking(true).expect("set");
                let path = abi::socket_path(&daemon.file());
                while !stop.load(Ordering::Relaxed) {
                    let now = Stamp::now().ns();
                    for request in [&abi::request(now)[..], &abi::request(now + 1_000_000), b"junk"]
                    {
                        // Refused where the queue is full.
                        let _ = socket.send_to(request, &path);
                    }
                    thread::sleep(Duration::from_micros(50));
                }
            });
            for _ in 0..100 {
                barrier.wait(Stamp::now(), soon()).expect("passes");
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
    let seconds = begin.elapsed().as_secs() + 1;
    let counters = daemon.stop();
    assert!(counters.rounds <= 64 + 20 * seconds, "{counters:?} in {seconds} s");
    assert!(counters.requests > 0 && counters.dropped > 0, "{counters:?}");
}

#[test]
fn who_may_not_ask_is_told_and_waits_all_the_same() {
    let daemon = Daemon::start(&["--group=4711"]);
    let barrier = daemon.barrier();
    let there = fs::metadata(abi::socket_path(&daemon.file())).expect("there");
    use std::os::unix::fs::MetadataExt;
    assert_eq!((there.mode() & 0o7777, there.uid(), there.gid()), (0o660, 0, 4711));
    barrier.expedite(Stamp::now()).expect("root may");
    // Another user, for this thread alone.
    thread::scope(|scope| {
        scope.spawn(|| {
            let ask_as = |uid: u32, gid: u32| {
                use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
                let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                let root = (Uid::from_raw(0), Gid::from_raw(0));
                set_thread_res_gid(gid, gid, root.1).expect("root");
                set_thread_res_uid(uid, uid, root.0).expect("root");
                let asked = barrier.expedite(Stamp::now());
                set_thread_res_uid(root.0, root.0, root.0).expect("back");
                set_thread_res_gid(root.1, root.1, root.1).expect("back");
                asked
            };
            ask_as(12_345, 4711).expect("its group may");
            let refused = ask_as(12_345, 12_345);
            assert!(matches!(refused, Err(ExpediteError::Denied)), "{refused:?}");
        });
    });
    daemon.stop();
}

#[test]
fn without_requests_there_is_no_socket_and_waits_pass() {
    let daemon = Daemon::start(&["--expedites-per-second=0"]);
    let barrier = daemon.barrier();
    assert!(matches!(barrier.expedite(Stamp::now()), Err(ExpediteError::Absent)));
    beside_a_busy_cpu(|| barrier.wait(Stamp::now(), soon()).expect("passes"));
    assert_eq!(daemon.stop().requests, 0);
}

#[test]
fn who_is_past_the_bound_is_kicked_though_nobody_waits_and_never_above_the_rate() {
    // A spinning CPU is seen at its ticks, and these cycles are far shorter.
    let impatient = ["--period-us=100", "--bound-us=100"];
    let daemon = Daemon::start(&impatient);
    beside_a_busy_cpu(|| thread::sleep(Duration::from_secs(2)));
    let counters = daemon.stop();
    assert!(counters.kicks >= 20, "{counters:?}");
    // A CPU that is just leaving an interrupt's handler may take one without another interrupt.
    assert!(counters.missed * 10 <= counters.kicks, "{counters:?}");

    let daemon = Daemon::start(&[&impatient[..], &["--kicks-per-second=0"]].concat());
    beside_a_busy_cpu(|| thread::sleep(Duration::from_millis(500)));
    assert_eq!(daemon.stop().kicks, 0);
}

/// Whoever sleeps on the file makes a daemon that has seen nobody wait keen again, with the socket and
/// without.
#[test]
fn b23_who_comes_to_an_easy_daemon_makes_it_keen() {
    for arguments in [&[][..], &["--expedites-per-second=0"]] {
        let daemon = Daemon::start(arguments);
        let barrier = daemon.barrier();
        let keen = || barrier.counters().expect("counted").get(Word::Keen);
        let until = |what: &str, is: &dyn Fn() -> bool| {
            let begin = Instant::now();
            while !is() {
                assert!(begin.elapsed() < PATIENCE, "{what}, {arguments:?}: {}", daemon.said());
                thread::sleep(Duration::from_millis(1));
            }
        };
        until("easy", &|| barrier.is_easy() && keen() == Some(0));
        until("keen", &|| {
            barrier.wait_passive(Stamp::now(), Instant::now() + PATIENCE).expect("it passes");
            !barrier.is_easy()
        });
        // One expedited request is enough, too.
        if arguments.is_empty() {
            until("easy again", &|| barrier.is_easy());
            until("keen again", &|| {
                barrier.expedite(Stamp::now()).expect("sent");
                !barrier.is_easy()
            });
        }
    }
}
