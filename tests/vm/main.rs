//! Virtual machines with Debian's kernels: `make vm`.
//!
//! Owns the order of things: build, fetch, run one scenario after the other, one verdict line each.
//! Knows nothing of what a guest does.
//!
//! `make vm VM="hotplug idle"` runs the scenarios whose names contain one of these words. What each
//! machine said is kept in `target/vm/logs`.

mod image;
mod kernels;
mod places;
#[allow(dead_code, reason = "the steps are the guest's")]
mod scenarios;
mod watch;

use kernels::Kernels;
use places::{Directory, Programs};
use rustix::process::geteuid;
use scenarios::{End, PENDING, SCENARIOS, Scenario};
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
    let chosen = |s: &&Scenario| words.is_empty() || words.iter().any(|w| s.name.contains(w));
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(chosen).collect();
    assert!(!chosen.is_empty(), "no scenario's name contains one of {words:?}");
    for pending in PENDING {
        assert!(SCENARIOS.iter().any(|s| s.name == pending.scenario), "{pending:?}");
    }

    let mut host = Host::new(&target().join("vm"));
    let (mut passed, mut failed, mut others) = (0, 0, 0);
    for scenario in chosen {
        let start = Instant::now();
        let (place, ended) = host.run(scenario);
        let verdict = judge(scenario, ended);
        println!("vm: {} {place} {verdict} [{} s]", scenario.name, start.elapsed().as_secs());
        match verdict {
            Verdict::Passed(_) => passed += 1,
            Verdict::Pending(_) | Verdict::NotRun => others += 1,
            Verdict::Failed(_) => {
                failed += 1;
                println!("  see {}", host.logs.join(scenario.name).with_extension("*").display());
            }
        }
    }
    if others > 0 {
        println!("{others} pending (tests/vm/scenarios.rs: PENDING) or not run");
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
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
                return (place, Ended::NoRoot);
            }
            let directory = Directory::new();
            let guest = places::here(scenario, &self.programs, &directory);
            return (place, watch::run(guest, &console, &log));
        };
        let kernel = self.kernels.get(kernel);
        let place = format!("kernel={} cpus={}", kernel.version, scenario.cpus);
        for boot in 1..=BOOTS {
            let qemu = places::machine(scenario, &kernel.image, &self.initramfs, &console);
            match watch::run(qemu, &console, &log) {
                Ended::Emulator => {
                    println!("vm: {} {place} boot {boot}: {EMULATOR}", scenario.name)
                }
                ended => return (place, ended),
            }
        }
        (place, Ended::Emulator)
    }
}

const EMULATOR: &str = "the emulator ran a patched instruction of before the patch";

enum Verdict {
    Passed(String),
    Pending(String),
    NotRun,
    Failed(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Passed(how) => write!(f, "ok{how}"),
            Verdict::Pending(why) => write!(f, "pending {why}"),
            Verdict::NotRun => write!(f, "*** NOT RUN: it starts the daemon here, as root ***"),
            Verdict::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// What an end means for a scenario.
fn judge(scenario: &Scenario, ended: Ended) -> Verdict {
    if ended == Ended::NoRoot {
        let must = std::env::var_os("CI").is_some();
        return if must {
            Verdict::Failed("CI must run it as root".into())
        } else {
            Verdict::NotRun
        };
    }
    let pending = PENDING.iter().find(|pending| pending.scenario == scenario.name);
    let held = match (scenario.end, ended) {
        (End::Holds, Ended::Ok) => Ok(String::new()),
        (End::Fails(words), Ended::Failed(why)) if why.contains(words) => {
            Ok(format!(" (found out: {why})"))
        }
        (End::Fails(words), Ended::Ok) => {
            Err(format!("not found out: no step failed with `{words}`"))
        }
        (_, Ended::Failed(why)) => Err(why),
        (_, Ended::Emulator) => Err(format!("{BOOTS} boots: {EMULATOR}")),
        (_, Ended::NoRoot) => unreachable!("handled above"),
    };
    match (held, pending) {
        (Ok(how), None) => Verdict::Passed(how),
        (Ok(_), Some(_)) => Verdict::Failed("it passes now: take it out of PENDING".into()),
        (Err(why), Some(p)) if why.contains(p.fails_with) => {
            Verdict::Pending(format!("until {}: {why}", p.until))
        }
        (Err(why), _) => Verdict::Failed(why),
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
    cargo(&daemon, &target(), "");
    cargo(&["-p", "barrierd-bpf", "--example", "vm_guest"], &target(), "");
    // In a directory of its own, so that nobody ever takes it for the real one.
    let broken = vm.join("broken");
    cargo(&daemon, &broken, " --cfg barrierd_broken_credit");
    Programs {
        guest: release.join("examples/vm_guest"),
        daemon: release.join("barrierd"),
        broken_daemon: broken.join("release/barrierd"),
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
