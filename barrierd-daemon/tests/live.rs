//! The daemon itself, as root, on this kernel's interrupts.
//!
//! Owns the questions that only a real run answers. Every test here needs root and says so.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use barrierd_client::abi;
use barrierd_daemon::clock::now_ns;
use barrierd_daemon::online::{Online, possible_cpus};
use barrierd_daemon::words::Words;
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: they keep CPUs busy, or count on idle ones.
static TURN: Mutex<()> = Mutex::new(());

struct Bench {
    dir: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test loads BPF programs: run it as root (cargo test as root, or sudo -E)"
        );
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Self { dir: tempfile::tempdir().expect("a directory"), _turn: turn }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("barrier")
    }

    fn barrierd(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_barrierd"));
        command.arg(self.file()).env_remove("VERBOSE");
        command
    }

    /// barrierd in a mount namespace of its own, after `script`, with `arguments`.
    fn barrierd_after(&self, script: &str, arguments: &str) -> Command {
        let mut command = Command::new("unshare");
        let script = format!("set -e; {script}; exec \"$0\" \"$1\" {arguments}");
        command.args(["--mount", "sh", "-c", &script]);
        command.arg(env!("CARGO_BIN_EXE_barrierd")).arg(self.file()).env_remove("VERBOSE");
        command
    }

    fn words(&self) -> Words {
        let file =
            File::options().read(true).write(true).open(self.file()).expect("the public file");
        let len = file.metadata().expect("stat").len();
        Words::map(file.as_fd(), usize::try_from(len).expect("small")).expect("mapped")
    }
}

/// A process whose stderr is collected. Killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("spawned");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (send, lines) = channel();
        thread::spawn(move || {
            stderr
                .lines()
                .map_while(Result::ok)
                .take_while(|line| send.send(line.clone()).is_ok())
                .last()
        });
        Self { child, lines, said: Vec::new() }
    }

    /// Spawned, and set up.
    fn start(command: Command) -> Self {
        let mut running = Self::spawn(command);
        running.wait_for("Setup complete.");
        running
    }

    fn wait_for(&mut self, words: &str) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let left = give_up.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.said.push(line);
                    if found {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("barrierd did not say {words:?}, but {:#?}", self.said)
                }
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Its exit status and everything that it said.
    fn finish(mut self) -> (ExitStatus, String) {
        let status = eventually(|| self.child.try_wait().expect("waited for"));
        self.said.extend(self.lines.iter());
        (status, self.said.join("\n"))
    }

    /// It has to fail, and to say `words`.
    fn fails_with(self, words: &str) {
        let (status, said) = self.finish();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("Setup complete."), "{said}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up, "it did not happen within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a barrier has passed for what was done before this call.
fn barrier(words: &Words) {
    let stamp = now_ns();
    eventually(|| (words.load(abi::LAST_INTERRUPT_NS) > stamp).then_some(()));
}

/// Runs `work` while each of `cpus` is kept busy.
fn with_busy<T>(cpus: &[usize], work: impl FnOnce() -> T) -> T {
    /// Also when `work` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for &cpu in cpus {
            let stop = &stop;
            scope.spawn(move || {
                let mut only = CpuSet::new();
                only.set(cpu);
                sched_setaffinity(None, &only).expect("an online CPU");
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let _stop = Stop(&stop);
        work()
    })
}

fn online() -> Vec<usize> {
    let cpus = possible_cpus().expect("sysfs");
    Online::open(cpus).expect("sysfs").read().iter().collect()
}

/// The BPF objects that a process holds, by kind.
fn bpf_objects(pid: Pid) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut programs, mut maps) = (BTreeSet::new(), BTreeSet::new());
    let fdinfo = PathBuf::from(format!("/proc/{}/fdinfo", pid.as_raw_nonzero()));
    for entry in fs::read_dir(fdinfo).expect("it runs") {
        let text = fs::read_to_string(entry.expect("an entry").path()).unwrap_or_default();
        for line in text.lines() {
            let id = |name| line.strip_prefix(name).and_then(|id| id.trim().parse::<u32>().ok());
            programs.extend(id("prog_id:"));
            maps.extend(id("map_id:"));
        }
    }
    (programs, maps)
}

fn is_gone((programs, maps): &(BTreeSet<u32>, BTreeSet<u32>)) -> bool {
    ProgInfoIter::default().all(|program| !programs.contains(&program.id))
        && MapInfoIter::default().all(|map| !maps.contains(&map.id))
}

#[test]
fn barriers_pass_on_idle_and_on_busy_cpus_and_the_daemon_beats() {
    let bench = Bench::new();
    let daemon = Running::start(bench.barrierd());
    let words = bench.words();
    (0..20).for_each(|_| barrier(&words));
    let all = online();
    for busy in all.iter().map(std::slice::from_ref).chain([all.as_slice()]) {
        with_busy(busy, || (0..20).for_each(|_| barrier(&words)));
    }
    // Asleep or not, it beats. (How often is `pace_tests.rs`'s matter.)
    for _ in 0..10 {
        let beat = words.load(abi::HEARTBEAT_NS);
        eventually(|| (words.load(abi::HEARTBEAT_NS) > beat).then_some(()));
    }
    // Nobody has waited meanwhile: barriers by `barrier` only look.
    assert_eq!(words.load(abi::FLAGS), abi::FLAG_EASY);
    drop(daemon);
}

#[test]
fn virtual_time_goes_on_and_stays_one_late() {
    let bench = Bench::new();
    let _daemon = Running::start(bench.barrierd());
    let words = bench.words();
    for _ in 0..200 {
        // The last complete one is read first, so the current one can only be later.
        let last = words.load(abi::TRUSTED_LAST_VTIME);
        let vtime = words.load(abi::TRUSTED_VTIME);
        assert!(last == 0 || last < vtime, "{last} of {vtime}");
        thread::sleep(Duration::from_millis(1));
    }
    let stamp = words.load(abi::TRUSTED_VTIME);
    eventually(|| (words.load(abi::TRUSTED_LAST_VTIME) > stamp).then_some(()));
    eventually(|| (words.load(abi::LAST_INTERRUPT_VTIME) > stamp).then_some(()));
}

#[test]
fn sigterm_and_sigint_mark_the_file_stopped_and_leave_nothing_in_the_kernel() {
    // Background jobs of a script have it ignored, and the daemon then leaves it so.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    let takes = |signal: &Signal| ignored >> (signal.as_raw() - 1) & 1 == 0;
    for signal in [Signal::TERM, Signal::INT].into_iter().filter(takes) {
        let bench = Bench::new();
        let daemon = Running::start(bench.barrierd());
        let objects = bpf_objects(daemon.pid());
        assert!(objects.0.len() >= 5 && objects.1.len() == 4, "{objects:?}");
        assert!(!is_gone(&objects));
        daemon.signal(signal);
        let (status, said) = daemon.finish();
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(bench.words().load(abi::FLAGS), abi::FLAG_STOPPED);
        eventually(|| is_gone(&objects).then_some(()));
    }
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let bench = Bench::new();
    let first = Running::start(bench.barrierd());
    let holder = format!("is held by process {}: another barrierd", first.pid().as_raw_nonzero());
    Running::spawn(bench.barrierd()).fails_with(&holder);
    barrier(&bench.words());
    first.signal(Signal::TERM);
    let (status, said) = first.finish();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn killed_and_started_again_it_goes_on_in_the_same_file() {
    let bench = Bench::new();
    let first = Running::start(bench.barrierd());
    let words = bench.words();
    eventually(|| (words.load(abi::LAST_INTERRUPT_VTIME) > 3).then_some(()));
    first.signal(Signal::KILL);
    first.finish();
    let (ns, vtime) = (words.load(abi::LAST_INTERRUPT_NS), words.load(abi::VTIME));
    let last = words.load(abi::LAST_INTERRUPT_VTIME);
    assert_eq!(words.load(abi::GENERATION), 1);

    // The mapping of before goes on being served, and nothing steps back.
    let _second = Running::start(bench.barrierd());
    let mut lowest = (ns, vtime, last);
    eventually(|| {
        let now = (
            words.load(abi::LAST_INTERRUPT_NS),
            words.load(abi::VTIME),
            words.load(abi::LAST_INTERRUPT_VTIME),
        );
        assert!(now.0 >= lowest.0 && now.1 >= lowest.1 && now.2 >= lowest.2, "{now:?} {lowest:?}");
        // Nothing of virtual time between what the first left and the second's own rounds.
        assert!(now.2 == last || now.2 > vtime, "{now:?}");
        lowest = now;
        (now.2 > vtime + 3).then_some(())
    });
    barrier(&words);
    assert_eq!(words.load(abi::GENERATION), 2);
}

#[test]
fn exact_times_are_published_when_asked_for() {
    let bench = Bench::new();
    let mut command = bench.barrierd();
    command.arg("--per-cpu");
    let _daemon = Running::start(command);
    let words = bench.words();
    assert_eq!(words.load(abi::FLAGS), abi::FLAG_PER_CPU_EXACT);
    let all = online();
    with_busy(&all, || {
        eventually(|| {
            let last = words.load(abi::LAST_INTERRUPT_NS);
            let own = all.iter().map(|&cpu| words.load(abi::per_cpu_ns(cpu))).max();
            (own > Some(last) || all.len() == 1).then_some(())
        });
    });
}

#[test]
fn tracepoints_by_name_and_by_number() {
    let bench = Bench::new();
    let mut command = bench.barrierd();
    command.args(["-v", "irq/irq_handler_entry", "timer:timer_expire_entry"]);
    let mut daemon = Running::spawn(command);
    daemon.wait_for("tracing sched_switch, irq_handler_entry, timer_expire_entry, softirq_entry");
    daemon.wait_for("Setup complete.");
    drop(daemon);

    // As the C daemon is told: by number. tracefs is mounted for this process alone.
    let mount = "mount -t tracefs tracefs /sys/kernel/tracing; \
                 events=/sys/kernel/tracing/events";
    let ids = "-v $(cat $events/irq/softirq_entry/id) $(cat $events/sched/sched_switch/id)";
    let mut daemon = Running::spawn(bench.barrierd_after(mount, ids));
    daemon.wait_for("tracing sched_switch, softirq_entry");
    daemon.wait_for("Setup complete.");
    barrier(&bench.words());
}

#[test]
fn without_btf_it_warns_and_goes_on_without_idle_inference() {
    let bench = Bench::new();
    let hide = "mount -t tmpfs none /sys/kernel/btf";
    let mut daemon = Running::spawn(bench.barrierd_after(hide, "-v"));
    daemon.wait_for("going on without idle inference");
    daemon.wait_for("idle inference off");
    daemon.wait_for("Setup complete.");
    let words = bench.words();
    with_busy(&online(), || {
        for _ in 0..10 {
            barrier(&words);
        }
    });
}

#[test]
fn mistakes_are_said_with_what_to_do() {
    let bench = Bench::new();
    let mut unknown = bench.barrierd();
    unknown.arg("irq:no_such_thing");
    Running::spawn(unknown).fails_with("the kernel has no raw tracepoint `no_such_thing`");

    let hide = "mount -t tmpfs none /sys/kernel/tracing; mount -t tmpfs none /sys/kernel/debug";
    Running::spawn(bench.barrierd_after(hide, "31")).fails_with("mount -t tracefs tracefs");

    let mount = "mount -t tracefs tracefs /sys/kernel/tracing";
    Running::spawn(bench.barrierd_after(mount, "999999"))
        .fails_with("no tracepoint has the number");

    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_barrierd"));
    nowhere.arg("/nonexistent/barrier");
    Running::spawn(nowhere).fails_with("the directory must exist");
}

#[test]
fn who_is_not_root_is_told_so() {
    let bench = Bench::new();
    let user = 54_321;
    // A copy, since the build's directory may be closed to others.
    let copy = bench.dir.path().join("barrierd");
    fs::copy(env!("CARGO_BIN_EXE_barrierd"), &copy).expect("copied");
    std::os::unix::fs::chown(bench.dir.path(), Some(user), Some(user)).expect("chown");
    let run = |path: &Path| {
        let mut command = Command::new(&copy);
        command.arg(path).uid(user).gid(user);
        Running::spawn(command)
    };
    run(&bench.file()).fails_with("run as root");
    assert!(!bench.file().exists());
    run(Path::new("/root/barrier"))
        .fails_with("run as root, or name a file in a directory of yours");
}
