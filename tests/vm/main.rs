//! Virtual machines with Debian's kernels: `make vm`.
//!
//! Owns the order of things: build, fetch, run one scenario after the other, one verdict line each.
//! Knows nothing of what a guest does.
//!
//! `make vm VM="hotplug idle"` runs the scenarios whose names contain one of these words. What each
//! machine said is kept in `target/vm/logs`.

mod image;
mod kernels;
mod machine;
#[allow(dead_code, reason = "the steps are the guest's")]
mod scenarios;

use kernels::Kernels;
use machine::{Ended, Machine};
use scenarios::{End, PENDING, SCENARIOS, Scenario};
use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

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

    let vm = target().join("vm");
    let logs = vm.join("logs");
    create_dir_all(&logs).expect("target/vm/logs");
    let initramfs = vm.join("initramfs.cpio");
    std::fs::write(&initramfs, image::build(&binaries(&vm))).expect("the initramfs");
    let mut kernels = Kernels::new(&vm.join("kernels"));

    let (mut passed, mut failed, mut pending) = (0, 0, 0);
    for scenario in chosen {
        let kernel = kernels.get(scenario.kernel);
        let machine = Machine { kernel: &kernel.image, initramfs: &initramfs, logs: &logs };
        let start = Instant::now();
        let (ended, boots) = run(&machine, scenario);
        let verdict = judge(scenario, ended);
        let seconds = start.elapsed().as_secs();
        let again = match boots {
            1 => String::new(),
            n => format!(" (boot {n}: the emulator lost a patched instruction)"),
        };
        let Scenario { name, cpus, .. } = scenario;
        println!("vm: {name} kernel={} cpus={cpus} {verdict} [{seconds} s]{again}", kernel.version);
        match verdict {
            Verdict::Passed(_) => passed += 1,
            Verdict::Pending(_) => pending += 1,
            Verdict::Failed(_) => {
                failed += 1;
                println!("  see {}", logs.join(name).with_extension("*").display());
            }
        }
    }
    if pending > 0 {
        println!("{pending} pending (tests/vm/scenarios.rs: PENDING)");
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Runs one to its end, again where the emulator broke it.
fn run(machine: &Machine<'_>, scenario: &Scenario) -> (Ended, usize) {
    for boot in 1..BOOTS {
        match machine.run(scenario) {
            Ended::Emulator => {}
            ended => return (ended, boot),
        }
    }
    (machine.run(scenario), BOOTS)
}

enum Verdict {
    Passed(String),
    Pending(String),
    Failed(String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Verdict::Passed(how) => write!(f, "ok{how}"),
            Verdict::Pending(why) => write!(f, "pending {why}"),
            Verdict::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// What an end means for a scenario.
fn judge(scenario: &Scenario, ended: Ended) -> Verdict {
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
        (_, Ended::Emulator) => Err(format!("{BOOTS} boots, each broken by the emulator")),
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

/// What goes into the guest, and where to.
fn binaries(vm: &Path) -> [(PathBuf, &'static str); 3] {
    let release = target().join("release");
    cargo(&["-p", "barrierd-daemon", "--bin", "barrierd"], &target(), "");
    cargo(&["-p", "barrierd-bpf", "--example", "vm_guest"], &target(), "");
    // In a directory of its own, so that nobody ever takes it for the real one.
    let broken = vm.join("broken");
    let daemon = ["-p", "barrierd-daemon", "--bin", "barrierd"];
    cargo(&daemon, &broken, " --cfg barrierd_broken_credit");
    [
        (release.join("examples/vm_guest"), "init"),
        (release.join("barrierd"), "bin/barrierd"),
        (broken.join("release/barrierd"), "bin/barrierd-broken"),
    ]
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
