//! The daemon and its clients, end to end on this kernel: barriers pass, and lives and deaths of
//! the daemon lose no waiter.

mod common;

use barrierd_client::{Barrier, Liveness, Stamp, WaitError};
use common::{Daemon, PATIENCE, directory, have_root};
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::process::Command;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, compiler_fence};
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

fn pin_to(cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).unwrap();
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
                    pin_to(cpu);
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

/// "Store mine, read yours" without a fence on the fast side.
///
/// A fast thread's section `r` stores `r` in its word, then reads which round is asked for. The slow
/// side asks for round `k`, waits for the barrier, and then looks at the words: a section that it
/// can't see must have seen `k`. So each fast thread's first section to see `k` is at most the one
/// after the last that was visible.
struct Game {
    asked: Word,
    players: Vec<Player>,
    stop: AtomicBool,
}

#[repr(align(128))]
struct Word(AtomicU64);

struct Player {
    cpu: usize,
    section: Word,
    /// For each round, the first section that saw it.
    first: Vec<AtomicU64>,
}

impl Game {
    fn new(cpus: &[usize], rounds: usize) -> Game {
        let zero = || Word(AtomicU64::new(0));
        let player = |&cpu| Player {
            cpu,
            section: zero(),
            first: (0..=rounds).map(|_| AtomicU64::new(0)).collect(),
        };
        let players = cpus.iter().map(player).collect();
        Game { asked: zero(), players, stop: AtomicBool::new(false) }
    }

    fn play(&self, player: &Player, naps: bool) {
        pin_to(player.cpu);
        let (mut section, mut known) = (0, 0);
        while !self.stop.load(Relaxed) {
            section += 1;
            player.section.0.store(section, Relaxed);
            compiler_fence(SeqCst);
            let asked = usize::try_from(self.asked.0.load(Relaxed)).unwrap();
            for round in &player.first[known + 1..=asked] {
                round.store(section, Relaxed);
            }
            known = asked;
            if naps && section % 4096 == 0 {
                thread::sleep(Duration::from_micros(50)); // let the CPU idle at times
            }
        }
    }

    /// Plays the slow side; `barrier` waits. Returns the rounds that were broken.
    fn broken_rounds(&self, naps: bool, mut barrier: impl FnMut(Stamp)) -> usize {
        let rounds = self.players[0].first.len() - 1;
        let mut visible = Vec::with_capacity(rounds);
        thread::scope(|scope| {
            for player in &self.players {
                scope.spawn(move || self.play(player, naps));
            }
            thread::sleep(Duration::from_millis(20));
            for round in 1..=rounds {
                self.asked.0.store(u64::try_from(round).unwrap(), Relaxed);
                barrier(Stamp::now());
                let look = |player: &Player| player.section.0.load(Relaxed);
                visible.push(self.players.iter().map(look).collect::<Vec<_>>());
            }
            thread::sleep(Duration::from_millis(50));
            self.stop.store(true, Relaxed);
        });
        let broken = |(round, visible): (usize, &Vec<u64>)| {
            self.players.iter().zip(visible).any(|(player, &visible)| {
                let first = player.first[round + 1].load(Relaxed);
                first == 0 || first > visible + 1
            })
        };
        visible.iter().enumerate().filter(|&round| broken(round)).count()
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
    let wait = |stamp| barrier.wait(stamp, soon()).unwrap();
    for naps in [false, true] {
        assert_eq!(Game::new(&cpus(), 500).broken_rounds(naps, wait), 0, "naps: {naps}");
    }
}

/// The twin of the test above: without the wait, the game is lost.
#[test]
fn the_game_is_lost_without_a_barrier() {
    let cpus = cpus();
    assert!(cpus.len() > 1, "this test needs two CPUs");
    pin_to(cpus[0]);
    let game = || Game::new(&cpus[1..2], 200_000).broken_rounds(false, drop);
    let stop = soon();
    while game() == 0 {
        assert!(Instant::now() < stop, "not one round in {PATIENCE:?} was broken");
    }
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

#[test]
fn sigterm_wakes_waiters_and_leaves_the_file() {
    if !have_root() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let dir = directory();
        let daemon = Daemon::start(dir.path());
        let barrier = Barrier::open(&daemon.file).unwrap();
        daemon.signal(signal);
        let status = daemon.stop();
        assert!(status.success(), "{status}");
        assert_eq!(barrier.liveness(), Liveness::Stopped);
        let late = barrier.wait(Stamp::now(), Instant::now() + Duration::from_millis(100));
        assert!(matches!(late, Err(WaitError::TimedOut { .. })), "{late:?}");
        assert!(dir.path().join("barrier").exists());
        assert!(barrier.same_file().unwrap());
    }
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
