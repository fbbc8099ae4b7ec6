//! CPUs that are isolated while the machine runs, by cgroup v2.
//!
//! Owns the partition, and the kernel's count of function calls on a CPU, which a kick is one of. Knows
//! nothing of who is spared.

use crate::PATIENCE;
use crate::game::pin_to;
use crate::truth::row;
use barrierd_client::{Barrier, Stamp};
use rustix::mount::{MountFlags, mount};
use std::fs::{self, create_dir};
use std::hint::spin_loop;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";
const PARTITION: &str = "/sys/fs/cgroup/isolated";

/// Mounts cgroup v2 with the cpuset controller, and checks whether the kernel lists isolated CPUs.
pub(crate) fn mounts(lists: bool) {
    mount("cgroup2", ROOT, "cgroup2", MountFlags::empty(), None).expect(ROOT);
    set(ROOT, "cgroup.subtree_control", "+cpuset");
    create_dir(PARTITION).expect(PARTITION);
    let list = Path::new(ROOT).join("cpuset.cpus.isolated");
    assert_eq!(list.exists(), lists, "{}", list.display());
}

/// Makes a partition of one CPU, or of none.
pub(crate) fn isolate(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        set(PARTITION, "cpuset.cpus", &cpu.to_string());
    }
    let kind = if cpu.is_some() { "isolated" } else { "member" };
    set(PARTITION, "cpuset.cpus.partition", kind);
    let is = fs::read_to_string(format!("{PARTITION}/cpuset.cpus.partition")).expect("there");
    assert_eq!(is.trim(), kind, "the kernel makes no such partition");
    // The daemon looks again after a second.
    thread::sleep(Duration::from_millis(1_100));
}

fn set(group: &str, name: &str, value: &str) {
    let path = format!("{group}/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{value} to {path}: {error}"));
}

/// A process that spins on a CPU. Nobody but the partition's own processes may run on its CPU, and this one is
/// pinned to another, so it is a process of its own. Dropped, it is killed.
struct Spinner(Child);

impl Spinner {
    /// Starts one, and waits until it spins.
    fn on(cpu: usize) -> Self {
        let of = fs::read_to_string(format!("{PARTITION}/cpuset.cpus")).expect("there");
        let group = if of.trim() == cpu.to_string() { PARTITION } else { ROOT };
        let mut command = Command::new("/init");
        command.args(["spin", &cpu.to_string(), group]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line);
        assert!(said.is_ok() && line == "spins\n", "the spinner on CPU {cpu} doesn't run: {line}");
        Self(child)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        // It runs until then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What that process does.
pub(crate) fn spin(cpu: usize, group: &str) {
    set(group, "cgroup.procs", "0");
    pin_to(cpu).unwrap_or_else(|errno| panic!("CPU {cpu}: {errno}"));
    println!("spins");
    loop {
        spin_loop();
    }
}

/// Of so many expedited barriers, a spinner on `cpu` is interrupted for most, or for hardly any.
pub(crate) fn kicked(barrier: &Barrier, cpu: usize, rounds: u64, often: bool) {
    let spinner = Spinner::on(cpu);
    let calls = || {
        let text = fs::read_to_string("/proc/interrupts").expect("/proc/interrupts");
        row(&text, "CAL:", cpu)
    };
    let before = calls();
    for _ in 0..rounds {
        let passed = barrier.wait(Stamp::now(), Instant::now() + PATIENCE);
        passed.unwrap_or_else(|error| panic!("{error}"));
    }
    let calls = calls() - before;
    drop(spinner);
    println!("  CPU {cpu}: {calls} function calls in {rounds} expedited barriers");
    assert!(
        if often { calls > rounds / 2 } else { calls < rounds / 10 },
        "CPU {cpu}: {calls} function calls in {rounds} expedited barriers"
    );
}
