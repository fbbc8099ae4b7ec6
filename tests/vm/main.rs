//! Virtual machines with Debian's kernels: `make vm`.
//!
//! Owns the order of things: build, fetch, run one scenario after the other, one verdict line each.
//! Knows nothing of what a guest does.
//!
//! `make vm VM="hotplug idle"` runs the scenarios whose names contain one of these words, `VM=1/2` the
//! second of two parts: those that run on this machine's own kernel, and every second one of the rest.
//! What each machine said is kept in `target/vm/logs`.

mod image;
mod kernels;
mod places;
#[allow(dead_code, reason = "the steps are the guest's")]
mod scenarios;
mod watch;

use kernels::Kernels;
use places::{Directory, Programs};
use rustix::process::geteuid;
use scenarios::{End, SCENARIOS, Scenario};
use std::fs::{create_dir_all, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use watch::Ended;

/// How often a machine is started that its emulator breaks.
const BOOTS: usize = 4;

fn main() -> ExitCode {
    // cargo's own flags are not for us.
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let chosen: Vec<&Scenario> = SCENARIOS
        .iter()
        .enumerate()
        .filter(|(n, scenario)| words.is_empty() || words.iter().any(|w| is_meant(w, *n, scenario)))
        .map(|(_, scenario)| scenario)
        .collect();
    let all = || SCENARIOS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    assert!(
        !chosen.is_empty(),
        "no scenario's name contains one of {words:?}; there are: {}",
        all()
    );

    let mut host = Host::new(&target().join("vm"));
    let (mut passed, mut failed, mut not_run) = (0, 0, 0);
    for scenario in chosen {
        let start = Instant::now();
        let (place, ended) = host.run(scenario);
        let verdict = judge(scenario, ended);
        println!("vm: {} {place} {verdict} [{} s]", scenario.name, start.elapsed().as_secs());
        match verdict {
            Verdict::Passed(_) => passed += 1,
            Verdict::NotRun(_) => not_run += 1,
            Verdict::Failed(_) => {
                failed += 1;
                println!("  see {}", host.logs.join(scenario.name).with_extension("*").display());
            }
        }
    }
    let not_run = if not_run > 0 { format!(", {not_run} NOT RUN") } else { String::new() };
    println!("{passed} passed, {failed} failed{not_run}");
    ExitCode::from(u8::from(failed > 0))
}

/// Whether `word` means the scenario, the `number`th: by a part of its name, or as in `1/2`.
fn is_meant(word: &str, number: usize, scenario: &Scenario) -> bool {
    let Some((part, parts)) = word.split_once('/') else { return scenario.name.contains(word) };
    let [part, parts] = [part, parts].map(|n| n.parse::<usize>().expect("a number"));
    assert!(part < parts, "there is no part {word}: the first is 0/{parts}");
    scenario.kernel.is_none() || number % parts == part
}

/// What scenarios share.
struct Host {
    programs: Programs,
    kernels: Kernels,
    initramfs: PathBuf,
    logs: PathBuf,
}

impl Host {
    fn new(vm: &Path) -> Host {
        let logs = vm.join("logs");
        create_dir_all(&logs).expect("target/vm/logs");
        let programs = programs(vm);
        let initramfs = vm.join("initramfs.cpio");
        std::fs::write(&initramfs, image::build(&programs)).expect("the initramfs");
        Host { programs, kernels: Kernels::new(&vm.join("kernels")), initramfs, logs }
    }

    /// Runs one to its end, again where the emulator broke it. Where it ran, and how it ended.
    fn run(&mut self, scenario: &Scenario) -> (String, Ended) {
        let console = self.logs.join(format!("{}.console", scenario.name));
        let log = self.logs.join(format!("{}.log", scenario.name));
        let Some(kernel) = scenario.kernel else {
            let release = read_to_string("/proc/sys/kernel/osrelease").expect("the release");
            let cpus = std::thread::available_parallelism().expect("a number");
            let place = format!("kernel={} cpus={cpus}", release.trim());
            if !geteuid().is_root() {
                return (place, Ended::NotRun("it starts the daemon here, as root".into()));
            }
            let directory = Directory::new();
            let guest = places::here(scenario, &self.programs, &directory);
            return (place, watch::run(guest, &console, &log));
        };
        let cpus = scenario.cpus;
        if cfg!(not(target_arch = "x86_64")) {
            let why = "the machines run x86-64, as must this host".into();
            return (format!("cpus={cpus}"), Ended::NotRun(why));
        }
        let kernel = match self.kernels.get(kernel) {
            Ok(kernel) => kernel,
            Err(why) => return (format!("cpus={cpus}"), Ended::NotRun(why)),
        };
        let place = format!("kernel={} cpus={cpus}", kernel.version);
        for boot in 1..=BOOTS {
            let qemu = places::machine(scenario, &kernel.image, &self.initramfs, &console);
            match watch::run(qemu, &console, &log) {
                Ended::Emulator(why) if boot < BOOTS => {
                    println!(
                        "vm: {} {place} boot {boot}: the emulator's fault: {why}",
                        scenario.name
                    );
                }
                ended => return (place, ended),
            }
        }
        unreachable!("the last boot's end is the end")
    }
}

enum Verdict {
    Passed(String),
    NotRun(String),
    Failed(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Passed(how) => write!(f, "ok{how}"),
            Verdict::NotRun(why) => write!(f, "*** NOT RUN: {why} ***"),
            Verdict::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// What an end means for a scenario.
fn judge(scenario: &Scenario, ended: Ended) -> Verdict {
    match (scenario.end, ended) {
        (_, Ended::NotRun(why)) if std::env::var_os("CI").is_some() => {
            Verdict::Failed(format!("CI must run it: {why}"))
        }
        (_, Ended::NotRun(why)) => Verdict::NotRun(why),
        (End::Holds, Ended::Ok) => Verdict::Passed(String::new()),
        (End::Fails(words), Ended::Failed(why)) if why.contains(words) => {
            Verdict::Passed(format!(" (found out: {why})"))
        }
        (End::Fails(words), Ended::Ok) => {
            Verdict::Failed(format!("not found out: no step failed with `{words}`"))
        }
        (_, Ended::Failed(why)) => Verdict::Failed(why),
        (_, Ended::Emulator(why)) => {
            Verdict::Failed(format!("the emulator's fault, in each of {BOOTS} boots: {why}"))
        }
    }
}

/// cargo's target directory: this program is `target/<profile>/deps/vm-<hash>`.
fn target() -> PathBuf {
    let this = std::env::current_exe().expect("this program's path");
    this.ancestors().nth(3).expect("target/profile/deps").into()
}

/// Builds what runs in the guest.
fn programs(vm: &Path) -> Programs {
    let release = target().join("release");
    let daemon = ["-p", "barrierd-daemon", "--bin", "barrierd"];
    println!("building the daemon, two that are broken, and the guest");
    cargo(&daemon, &target(), "");
    cargo(&["-p", "barrierd-bpf", "--example", "vm_guest"], &target(), "");
    // In directories of their own, so that nobody ever takes them for the real one.
    let (broken, deaf) = (vm.join("broken"), vm.join("deaf"));
    cargo(&daemon, &broken, " --cfg barrierd_broken_credit");
    cargo(&daemon, &deaf, " --cfg barrierd_deaf");
    Programs {
        guest: release.join("examples/vm_guest"),
        daemon: release.join("barrierd"),
        broken_daemon: broken.join("release/barrierd"),
        deaf_daemon: deaf.join("release/barrierd"),
    }
}

fn cargo(what: &[&str], target: &Path, flags: &str) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet"]).args(what).arg("--target-dir").arg(target);
    if !flags.is_empty() {
        let usual = std::env::var("RUSTFLAGS").unwrap_or_default();
        cargo.env("RUSTFLAGS", usual + flags);
    }
    assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
}
