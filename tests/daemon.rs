//! The daemon and its clients, end to end on this kernel: barriers pass, and lives and deaths of
//! the daemon lose no waiter.

mod common;
#[path = "common/game.rs"]
mod game;

use barrierd_client::{Barrier, Liveness, Stamp, WaitError};
use common::{Daemon, PATIENCE, directory, have_root};
use game::{Game, Outcome, Rest, pin_to};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity};
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// The CPUs that this test may run on.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect()
}

#[test]
fn barriers_pass_on_idle_and_busy_cpus() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).unwrap();
    let waits = |what: &str| {
        for _ in 0..20 {
            let stamp = Stamp::now();
            barrier.wait(stamp, soon()).unwrap_or_else(|e| panic!("{what}: {e}\n{}", daemon.log()));
            assert!(barrier.passed(stamp).unwrap());
        }
        assert_eq!(barrier.liveness(), Liveness::Alive);
    };
    // Long enough that the daemon goes to sleep, and the first wait finds it there.
    thread::sleep(Duration::from_millis(300));
    waits("idle");
    let cpus = cpus();
    for busy in [&cpus[..1], &cpus[cpus.len() - 1..], &cpus[..]] {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for &cpu in busy {
                let stop = &stop;
                scope.spawn(move || {
                    pin_to(cpu).unwrap();
                    // Never enters the kernel by itself.
                    while !stop.load(Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            waits(&format!("busy on {busy:?}"));
            stop.store(true, Relaxed);
        });
    }
}

#[test]
fn no_barrier_passes_early() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).unwrap();
    let watermark = || barrier.watermark().unwrap().ns;
    for rest in [Rest::Never, Rest::Naps] {
        let waited =
            Game::new(&cpus(), 500).wait_each(rest, |stamp| barrier.wait(stamp, soon()).unwrap());
        assert_eq!(waited, Outcome { judged: 500, broken: 0 }, "{rest:?}");
        let edges = Game::new(&cpus(), 2_000_000).every_edge(rest, watermark);
        assert!(edges.broken == 0 && edges.judged > 10, "{rest:?}: {edges:?}");
    }
}

/// The mutant of the test above: without the wait, the game is lost.
#[test]
fn the_game_is_lost_without_a_barrier() {
    let cpus = cpus();
    assert!(cpus.len() > 1, "this test needs two CPUs");
    pin_to(cpus[0]).unwrap();
    let game = || Game::new(&cpus[1..2], 200_000).wait_each(Rest::Never, drop);
    let stop = soon();
    while game().broken == 0 {
        assert!(Instant::now() < stop, "not one round in {PATIENCE:?} was broken");
    }
}

/// Two kinds of moments, whichever passes first; and a restart, after which virtual stamps of the daemon
/// before are said to be lost.
#[test]
fn the_first_of_several_moments_ends_a_wait() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).unwrap();
    for _ in 0..20 {
        let vstamp = barrier.virtual_stamp().unwrap();
        // Beside a time that never comes.
        let never = Stamp::from_ns(u64::MAX).into();
        assert_eq!(barrier.wait_any(&[never, vstamp.into()], soon()), Ok(1));
        assert!(barrier.watermark().unwrap().vtime > vstamp.vtime());
        let stamp = Stamp::now();
        let index = barrier.wait_any(&[stamp.into(), never], soon()).unwrap();
        assert!(index == 0 && barrier.passed(stamp).unwrap());
    }
    let vstamp = barrier.virtual_stamp().unwrap();
    daemon.kill();
    let daemon = Daemon::start(dir.path());
    let lost = barrier.wait_any(&[vstamp.into()], soon()).unwrap_err();
    assert!(matches!(lost, WaitError::OtherGeneration { .. }), "{lost}\n{}", daemon.log());
    assert_eq!(barrier.wait_any(&[vstamp.into(), Stamp::now().into()], soon()), Ok(1));
    assert!(barrier.reopen().unwrap().is_none(), "the same file");
}

#[test]
fn a_mapped_client_survives_kill_and_restart() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let mut daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).unwrap();
    let (mut ns, mut vtime) = (0, 0);
    for life in 0..5 {
        barrier.wait(Stamp::now(), soon()).unwrap();
        let watermark = barrier.watermark().unwrap();
        assert!(watermark.ns >= ns && watermark.vtime >= vtime, "times only rise over restarts");
        (ns, vtime) = (watermark.ns, watermark.vtime);
        daemon.kill();
        let stamp = Stamp::now();
        let short = Instant::now() + Duration::from_millis(300);
        assert!(barrier.wait(stamp, short).is_err(), "nothing passes without a daemon");
        assert!(!matches!(barrier.liveness(), Liveness::Alive), "life {life}");
        daemon = Daemon::start(dir.path());
        barrier.wait(stamp, soon()).unwrap();
        assert!(barrier.same_file().unwrap(), "the file was adopted, not replaced");
        assert_eq!(barrier.generation(), life + 2);
    }
}

/// Whether this process has it ignored, as under `nohup`, and the daemons that it starts.
fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    u64::from_str_radix(ignored, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn b9_what_ends_it_leaves_the_file_marked_stopped() {
    if !have_root() {
        return;
    }
    let signals = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::XCPU];
    for signal in signals.into_iter().filter(|&signal| !is_ignored(signal)) {
        let dir = directory();
        let mut daemon = Daemon::start(dir.path());
        let barrier = Barrier::open(&daemon.file).unwrap();
        daemon.signal(signal);
        let status = daemon.ends();
        assert!(status.success(), "{signal:?}: {status}");
        assert_eq!(barrier.liveness(), Liveness::Stopped);
        let late = barrier.wait(Stamp::now(), Instant::now() + Duration::from_millis(100));
        assert!(matches!(late, Err(WaitError::TimedOut { .. })), "{late:?}");
        assert!(dir.path().join("barrier").exists());
        assert!(barrier.same_file().unwrap());
    }
}

#[test]
fn b9_no_other_signal_ends_it() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let mut daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).unwrap();
    for signal in [
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::IO,
        Signal::POWER,
        Signal::STKFLT,
        Signal::PIPE,
        Signal::XFSZ,
        // It would stop it, if only it said something to a terminal from the background.
        Signal::TTOU,
    ] {
        daemon.signal(signal);
        for _ in 0..3 {
            let waited = barrier.wait(Stamp::now(), soon());
            waited.unwrap_or_else(|late| panic!("{signal:?}: {late}"));
        }
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.ends().success());
}

/// Started by `nohup`, or by a script's `&`; and by a program that had SIGTERM blocked.
#[test]
fn b9_what_was_ignored_at_the_start_stays_ignored() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let file = dir.path().join("barrier");
    let script = "import os, signal, sys\n\
                  for s in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU):\n  \
                    signal.signal(s, signal.SIG_IGN)\n\
                  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n\
                  os.execv(sys.argv[1], sys.argv[1:])";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(common::barrierd()).arg(&file);
    let mut daemon = Daemon::run(python.stderr(std::process::Stdio::null()), &file);
    let give_up = soon();
    let barrier = loop {
        match Barrier::open(&file) {
            Ok(barrier) => break barrier,
            Err(error) => assert!(Instant::now() < give_up, "{error}"),
        }
        thread::sleep(Duration::from_millis(5));
    };
    barrier.wait(Stamp::now(), soon()).unwrap();
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::XCPU] {
        daemon.signal(signal);
        for _ in 0..3 {
            let waited = barrier.wait(Stamp::now(), soon());
            waited.unwrap_or_else(|late| panic!("{signal:?}: {late}"));
        }
    }
    daemon.signal(Signal::TERM);
    assert!(daemon.ends().success());
    assert_eq!(barrier.liveness(), Liveness::Stopped);
}

/// A raw futex waiter, as a C client would be one, with a long timeout: the stop wakes it.
#[test]
fn sigterm_wakes_a_raw_futex_waiter() {
    if !have_root() {
        return;
    }
    let waiter = r#"
import ctypes, mmap, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDONLY)
libc.mmap.restype = ctypes.c_void_p
base = libc.mmap(None, 4096, 1, 1, fd, 0)
class Timespec(ctypes.Structure):
    _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]
value = ctypes.c_uint32.from_address(base + 16).value
print("waiting", flush=True)
while True:
    # FUTEX_WAIT on the low half of last_interrupt_ns, ten minutes
    r = libc.syscall(202, ctypes.c_void_p(base + 16), 0, ctypes.c_uint32(value), ctypes.byref(Timespec(600, 0)))
    flags = struct.unpack("<Q", ctypes.string_at(base + 48, 8))[0]
    if flags & 1:
        break
    value = ctypes.c_uint32.from_address(base + 16).value
print("woken")
"#;
    if !cfg!(target_arch = "x86_64") {
        return; // the call's number
    }
    use std::io::{BufRead, BufReader};
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let mut python = Command::new("python3")
        .args(["-c", waiter])
        .arg(&daemon.file)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "waiting");
    thread::sleep(Duration::from_millis(50));
    assert!(daemon.stop().success());
    assert_eq!(lines.next().unwrap().unwrap(), "woken");
    assert!(python.wait().unwrap().success());
}

#[test]
fn a_second_daemon_is_refused_by_name() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let first = Daemon::start(dir.path());
    let second = Command::new(common::barrierd()).arg(&first.file).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    let holder = std::fs::read_to_string(dir.path().join("barrier.lock")).unwrap();
    assert!(!holder.trim().is_empty() && said.contains(holder.trim()), "{said}");
    // And the first goes on.
    Barrier::open(&first.file).unwrap().wait(Stamp::now(), soon()).unwrap();
}

/// Many waiters at once, on a machine that would otherwise sleep.
#[test]
fn a_crowd_of_waiters_is_served() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let barrier = Barrier::open(&daemon.file).unwrap();
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..20 {
                    barrier.wait(Stamp::now(), soon()).unwrap();
                    served.fetch_add(1, Relaxed);
                }
            });
        }
    });
    assert_eq!(served.into_inner(), 64 * 20);
}
