//! What the daemon has given up once it runs, seen from outside.
//!
//! Owns the questions to the kernel about a running daemon: its status, a trace of its system calls
//! against the table in `seccomp_policy`, what it tells a supervisor, and how it ends. Needs root.

#[path = "../../tests/common/built.rs"]
mod built;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use barrierd_client::abi;
use barrierd_daemon::account::DEFAULT_ID;
use barrierd_daemon::clock::now_ns;
use barrierd_daemon::seccomp_policy::{Role, Row, Seen, TABLE, When};
use libbpf_rs::query::MapInfoIter;
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use rustix::process::{Pid, Signal, geteuid, kill_process};

const PATIENCE: Duration = Duration::from_secs(20);

/// Whether this test can run; if not, says so, and fails where it has to run.
fn have_root() -> bool {
    if geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must run it");
    eprintln!("\n*** NOT RUN: this test starts the daemon, which needs root ***\n");
    false
}

/// A daemon, or what runs one. Killed when dropped.
struct Running {
    child: Child,
    /// The daemon itself.
    pid: Pid,
    log: Arc<Mutex<String>>,
}

impl Running {
    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("spawned");
        let lines = BufReader::new(child.stderr.take().expect("piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let sink = log.clone();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("no panics here");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let pid = Pid::from_child(&child);
        Self { child, pid, log }
    }

    /// Spawned, and set up.
    fn start(command: &mut Command) -> Self {
        let running = Self::spawn(command);
        running.says("Setup complete.");
        running
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panics here").clone()
    }

    fn says(&self, words: &str) {
        eventually(words, || self.log().contains(words).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).expect("it runs");
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid.as_raw_nonzero()))
    }

    fn status(&self, name: &str) -> String {
        let text = fs::read_to_string(self.proc("status")).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect(name).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn ends(&mut self) -> ExitStatus {
        let status = eventually("its end", || self.child.try_wait().expect("waited for"));
        // Its last words may still be on their way.
        thread::sleep(Duration::from_millis(50));
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < give_up, "{what:?} did not come within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn barrierd(dir: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_barrierd"));
    command.arg(dir.path().join("barrier")).env_remove("VERBOSE").env_remove("NOTIFY_SOCKET");
    command
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_running_daemon_has_nothing_left() {
    if !have_root() {
        return;
    }
    let dir = directory();
    // With groups to give up.
    let mut command = Command::new("setpriv");
    command.args(["--groups", "4,24", env!("CARGO_BIN_EXE_barrierd")]);
    command.arg(dir.path().join("barrier")).env_remove("VERBOSE").env_remove("NOTIFY_SOCKET");
    let daemon = Running::start(&mut command);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(daemon.status(set), "0000000000000000", "{set}");
    }
    for (name, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Threads", "1"), ("Groups", "")] {
        assert_eq!(daemon.status(name), value, "{name}");
    }
    let uid: u32 = daemon.status("Uid").split(' ').next().expect("four").parse().expect("a number");
    for name in ["Uid", "Gid"] {
        let ids: BTreeSet<String> = daemon.status(name).split(' ').map(Into::into).collect();
        assert!(ids.len() == 1 && !ids.contains("0") && !ids.contains("65534"), "{name} {ids:?}");
    }
    // Not dumpable: what is in /proc belongs to root, and its own user gets at none of it.
    assert_eq!(fs::metadata(daemon.proc("mem")).expect("it runs").uid(), 0);
    let by_itself = Command::new("setpriv")
        .args(["--reuid", &uid.to_string(), "--clear-groups", "head", "-c1"])
        .arg(daemon.proc("mem"))
        .stderr(Stdio::null())
        .status();
    assert_eq!(by_itself.expect("util-linux is there").code(), Some(1));

    // And it works: barriers pass, and the kernel's word on skipped events can still be read.
    let words = fs::read(dir.path().join("barrier")).expect("the file");
    let ns = |bytes: &[u8]| u64::from_le_bytes(bytes[16..24].try_into().expect("eight"));
    for _ in 0..5 {
        thread::sleep(Duration::from_millis(200));
        let later = fs::read(dir.path().join("barrier")).expect("the file");
        assert!(ns(&later) > ns(&words));
    }
    // Some kernels don't let it know idle CPUs, which it says.
    let log = daemon.log();
    let said: Vec<_> = log.lines().filter(|line| !line.contains("idle")).collect();
    assert_eq!(said, ["Setup complete."]);
}

#[test]
fn each_row_is_allowed_and_every_other_call_is_killed() {
    if !have_root() {
        return;
    }
    let probe = built::example("sandbox_probe");
    let output = Command::new(probe).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains(", 0 failed"), "{said}");
}

/// Whether a line of `strace -y` is a call that the row is for. The kernel has checked the
/// arguments; this only tells rows of one call apart.
fn is_for(row: &Row, line: &str) -> bool {
    let Some(arguments) = line.strip_prefix(row.call).and_then(|rest| rest.strip_prefix('('))
    else {
        return row.call == "restart_syscall" && line.contains("resuming interrupted");
    };
    row.when.iter().all(|when| match when {
        When::On(Role::Log) => {
            ["\"barrierd: ", "\"Setup complete."].iter().any(|words| arguments.contains(words))
        }
        When::On(Role::LogSocket) => arguments.contains("MSG_DONTWAIT|MSG_NOSIGNAL, NULL"),
        When::On(Role::Online) => arguments.contains("</sys/devices/system/cpu/online>"),
        When::On(Role::Isolated) => arguments.contains("/cpuset.cpus.isolated>"),
        When::On(Role::Kick) => arguments.contains("<anon_inode:[perf_event]>"),
        When::On(Role::Requests) => arguments.contains("<socket:["),
        When::On(Role::Stop) => arguments.contains(">, \"X\", 1, "),
        When::On(Role::Supervisor) => {
            ["READY=1", "WATCHDOG=1", "STOPPING=1"].iter().any(|words| arguments.contains(words))
        }
        // The two ioctls are one to it.
        When::Is(..) => true,
    })
}

#[test]
fn a_trace_of_idle_busy_and_stopped_holds_rows_of_the_table_only() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let trace = dir.path().join("trace");
    let address = dir.path().join("notify");
    let _supervisor = UnixDatagram::bind(&address).expect("bound");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-o"])
        .arg(&trace)
        .args([env!("CARGO_BIN_EXE_barrierd"), "-v"])
        .arg(dir.path().join("barrier"))
        .env("NOTIFY_SOCKET", &address)
        .env("WATCHDOG_USEC", "400000");
    let mut tracer = Running::start(&mut command);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", tracer.child.id()));
    let daemon: i32 = children.expect("it runs").trim().parse().expect("one child");
    tracer.pid = Pid::from_raw(daemon).expect("not 0");

    thread::sleep(Duration::from_secs(2));
    ask_while_busy(&dir.path().join("barrier"), Duration::from_secs(2));
    for _ in 0..5 {
        tracer.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(50));
        tracer.signal(Signal::CONT);
        thread::sleep(Duration::from_millis(50));
    }
    tracer.signal(Signal::TERM);
    assert_eq!(tracer.ends().code(), Some(0), "{}", tracer.log());

    let text = fs::read_to_string(&trace).expect("a trace");
    let (_, inside) = text.split_once("SECCOMP_SET_MODE_FILTER, 0, {len=").expect("a filter");
    // Each line: process id, call(arguments) = result.
    let calls: Vec<&str> = inside
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start()))
        .filter(|call| !call.starts_with("---") && !call.starts_with("+++"))
        .filter(|call| !call.starts_with("<... "))
        .collect();
    assert!(calls.len() > 100, "{calls:#?}");
    for call in &calls {
        assert!(TABLE.iter().any(|row| is_for(row, call)), "no row is for {call}");
    }
    for row in TABLE {
        let seen = calls.iter().any(|call| is_for(row, call));
        assert!(seen || matches!(row.seen, Seen::Rarely(_)), "never seen, and not rare: {row:?}");
        // What this test provides for; toggling takes a CPU that was offline.
        let provided = [Role::Supervisor, Role::Requests, Role::Kick].map(When::On);
        let provided = matches!(row.when, [when] if provided.contains(when));
        assert!(seen || !provided, "not seen: {row:?}");
    }
}

/// Keeps every CPU busy and asks for expedited barriers all the while.
fn ask_while_busy(file: &Path, time: Duration) {
    let end = Instant::now() + time;
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
            });
        }
        let socket = UnixDatagram::unbound().expect("a socket");
        socket.connect(abi::socket_path(file)).expect("the daemon listens");
        while Instant::now() < end {
            let request = [abi::REQUEST_MAGIC, now_ns()].map(u64::to_le_bytes).concat();
            // It may be full: then others are being served.
            let _ = socket.send(&request);
            thread::sleep(Duration::from_millis(7));
        }
    });
}

#[test]
fn an_error_in_the_sandbox_is_still_put_into_words() {
    if !have_root() {
        return;
    }
    let dir = directory();
    // Errors that collect backtraces would be killed instead of told.
    let mut daemon = Running::start(barrierd(&dir).env("RUST_BACKTRACE", "1"));
    // The flag of an event on a CPU without a slot, set behind its back.
    let maps: BTreeSet<u32> = fs::read_dir(daemon.proc("fdinfo"))
        .expect("it runs")
        .filter_map(|entry| fs::read_to_string(entry.expect("an entry").path()).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok())
        })
        .collect();
    let control = MapInfoIter::default()
        .find(|map| maps.contains(&map.id) && map.name == "control")
        .expect("its control words");
    let control = MapHandle::from_map_id(control.id).expect("opened");
    let key = 0_u32.to_ne_bytes();
    let mut value = control.lookup(&key, MapFlags::ANY).expect("read").expect("there");
    value[barrierd_bpf::layout::OVERFLOW..][..8].copy_from_slice(&1_u64.to_ne_bytes());
    control.update(&key, &value, MapFlags::ANY).expect("written");

    let status = daemon.ends();
    assert_eq!(status.code(), Some(1), "{status}: {}", daemon.log());
    assert!(daemon.log().contains("start barrierd again"), "{}", daemon.log());
}

#[test]
fn the_supervisor_hears_of_barriers_only_while_they_are_published() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let address = dir.path().join("notify");
    let supervisor = UnixDatagram::bind(&address).expect("bound");
    supervisor.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let hear = || {
        let mut text = [0; 256];
        let n = supervisor.recv(&mut text).expect("a message within 5 s");
        String::from_utf8_lossy(&text[..n]).into_owned()
    };
    let mut command = barrierd(&dir);
    command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "300000");
    let mut daemon = Running::start(&mut command);
    assert!(hear().starts_with("READY=1\n"));
    for _ in 0..4 {
        assert_eq!(hear(), "WATCHDOG=1\n");
    }
    daemon.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(20));
    supervisor.set_nonblocking(true).expect("set");
    let mut rest = [0; 256];
    while supervisor.recv(&mut rest).is_ok() {}
    thread::sleep(Duration::from_millis(700));
    assert!(supervisor.recv(&mut rest).is_err(), "it beats though it is stopped");
    daemon.signal(Signal::CONT);
    supervisor.set_nonblocking(false).expect("set");
    assert_eq!(hear(), "WATCHDOG=1\n");
    daemon.signal(Signal::TERM);
    while hear() != "STOPPING=1\n" {}
    assert_eq!(daemon.ends().code(), Some(0));

    // A supervisor that can't be reached is a mistake to be told of, not to be lived with.
    command.env("NOTIFY_SOCKET", dir.path().join("nowhere"));
    let mut daemon = Running::spawn(&mut command);
    assert_eq!(daemon.ends().code(), Some(1));
    assert!(daemon.log().contains("NOTIFY_SOCKET"), "{}", daemon.log());
}

#[test]
fn without_its_sandbox_it_does_not_run() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let refused = |command: &mut Command, words: &str| {
        let mut daemon = Running::spawn(command);
        let status = daemon.ends();
        assert_eq!(status.code(), Some(1), "{}", daemon.log());
        assert!(daemon.log().contains(words), "{words}: {}", daemon.log());
        assert!(!daemon.log().contains("Setup complete."), "{}", daemon.log());
    };
    for (user, words) in
        [("root", "of its own"), ("65534", "of its own"), ("no-such-user", "useradd --system")]
    {
        refused(barrierd(&dir).args(["--user", user]), words);
    }
    let with = |capabilities: &str| {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set=-all,{capabilities}"))
            .arg(env!("CARGO_BIN_EXE_barrierd"))
            .arg(dir.path().join("barrier"))
            .env_remove("NOTIFY_SOCKET");
        command
    };
    refused(&mut with("+bpf,+perfmon,+setuid,+setgid"), "CAP_SETPCAP");
    refused(&mut with("+bpf,+perfmon,+setpcap,+setgid"), "CAP_SETUID");
    refused(&mut with("+bpf,+perfmon,+setpcap,+setuid"), "CAP_SETGID");
    // What start-up really needs.
    let daemon = Running::start(&mut with("+bpf,+perfmon,+setpcap,+setuid,+setgid"));
    assert_eq!(daemon.status("CapBnd"), "0000000000000000");
}

#[test]
fn who_is_not_root_keeps_the_user_and_gives_the_rest_up() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let user = DEFAULT_ID + 1;
    std::os::unix::fs::chown(dir.path(), Some(user), Some(user)).expect("chown");
    // A copy, since the build's directory may be closed to others.
    let copy = dir.path().join("barrierd");
    fs::copy(env!("CARGO_BIN_EXE_barrierd"), &copy).expect("copied");
    let daemon = Running::start(&mut capable(&copy, user, &dir.path().join("barrier")));
    assert_eq!(daemon.status("Uid"), [user.to_string().as_str(); 4].join(" "));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(daemon.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(daemon.status("Seccomp"), "2");
}

fn capable(binary: &Path, user: u32, file: &Path) -> Command {
    let user = user.to_string();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["--inh-caps", "+bpf,+perfmon,+setpcap", "--ambient-caps", "+bpf,+perfmon,+setpcap"])
        .arg(binary)
        .arg(file)
        .env_remove("NOTIFY_SOCKET");
    command
}

#[test]
fn a_weaker_filter_is_told_loudly() {
    if !have_root() {
        return;
    }
    for (what, mode) in [("log", "2"), ("off", "0")] {
        let dir = directory();
        let flag = format!("--seccomp={what}");
        let mut daemon = Running::start(barrierd(&dir).args([&flag, "--user", "4711:4712"]));
        assert_eq!(daemon.status("Seccomp"), mode);
        assert_eq!(daemon.status("Uid"), "4711 4711 4711 4711");
        assert_eq!(daemon.status("Gid"), "4712 4712 4712 4712");
        assert_eq!(daemon.status("CapBnd"), "0000000000000000");
        assert!(daemon.log().contains(&format!("WARNING: {flag}")), "{}", daemon.log());
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.ends().code(), Some(0));
    }
}
