//! Virtual machines with Debian's kernels: `make vm`.
//!
//! Owns the order of things: build, fetch, run one scenario after the other, one verdict line each.
//! Knows nothing of what a guest does.
//!
//! `make vm VM="hotplug idle"` runs the scenarios whose names contain one of these words, `VM=1/6` the second of six
//! parts, `VM=arm64:0/3` the first of three of those on arm64 (`choose.rs`).
//! What each machine said is kept in `target/vm/logs`.

mod choose;
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
use std::fs::{Permissions, copy, create_dir_all, read_to_string, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
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
        .filter(|(n, scenario)| {
            words.is_empty() || words.iter().any(|w| choose::is_meant(w, *n, scenario))
        })
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

/// What scenarios share.
struct Host {
    vm: PathBuf,
    logs: PathBuf,
    /// Of this machine's kind, and of arm64: built when the first scenario wants them.
    own: Option<Guests>,
    arm: Option<Result<Guests, String>>,
}

/// What the machines of one kind share.
struct Guests {
    programs: Programs,
    kernels: Kernels,
    initramfs: PathBuf,
}

impl Host {
    fn new(vm: &Path) -> Host {
        let logs = vm.join("logs");
        create_dir_all(&logs).expect("target/vm/logs");
        Host { vm: vm.into(), logs, own: None, arm: None }
    }

    fn own(&mut self) -> &mut Guests {
        self.own.get_or_insert_with(|| Guests::new(&self.vm, programs(&self.vm), None))
    }

    fn arm(&mut self) -> Result<&mut Guests, String> {
        let arm = self.arm.get_or_insert_with(|| {
            let arm = Arm64::new(&self.vm)?;
            Ok(Guests::new(&self.vm, arm.programs(), Some(&arm)))
        });
        arm.as_mut().map_err(|why| why.clone())
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
            let guest = places::here(scenario, &self.own().programs, &directory);
            return (place, watch::run(guest, &console, &log));
        };
        let cpus = scenario.cpus;
        if cfg!(not(target_arch = "x86_64")) {
            let why = "the machines run x86-64, as must this host".into();
            return (format!("cpus={cpus}"), Ended::NotRun(why));
        }
        let guests = if kernel.is_arm() { self.arm() } else { Ok(self.own()) };
        let kernel =
            guests.and_then(|guests| Ok((guests.kernels.get(kernel)?, guests.initramfs.clone())));
        let (kernel, initramfs) = match kernel {
            Ok(kernel) => kernel,
            Err(why) => return (format!("cpus={cpus}"), Ended::NotRun(why)),
        };
        let place = format!("kernel={} cpus={cpus}", kernel.version);
        for boot in 1..=BOOTS {
            let qemu = places::machine(scenario, &kernel.image, &initramfs, &console);
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

impl Guests {
    fn new(vm: &Path, programs: Programs, arm: Option<&Arm64>) -> Guests {
        let libraries = arm.map(Arm64::libraries);
        let initramfs =
            vm.join(if arm.is_some() { "initramfs-arm64.cpio" } else { "initramfs.cpio" });
        let image = image::build(&programs, libraries.as_ref().map(<[PathBuf; 3]>::as_slice));
        write(&initramfs, image).expect("the initramfs");
        let apt = arm.map(|arm| arm.0.join("apt.conf"));
        Guests { programs, kernels: Kernels::new(&vm.join("kernels"), apt), initramfs }
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
    println!("building the daemon, two that are broken, and the guest");
    for what in [&DAEMON, &GUEST] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo_build(&mut cargo, what, &target());
        run(&mut cargo);
    }
    // In a directory of their own, so that nobody ever takes them for the real one.
    let built = vm.join("flawed");
    let flawed = |flaw: &str, name: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo_build(&mut cargo, &DAEMON, &built);
        run(cargo.env("RUSTC_WORKSPACE_WRAPPER", compiler_with(flaw, vm)));
        let daemon = vm.join(name);
        copy(built.join("release/barrierd"), &daemon).expect("the flawed daemon");
        daemon
    };
    Programs {
        guest: release.join("examples/vm_guest"),
        daemon: release.join("barrierd"),
        broken_daemon: flawed(BROKEN, "barrierd-broken"),
        deaf_daemon: Some(flawed(DEAF, "barrierd-deaf")),
        barrierctl: None,
    }
}

/// A compiler for the workspace's own crates that is told of a flaw: flags for all would have all that the daemon depends
/// on built once more. cargo keeps what each such compiler made apart, by its path.
fn compiler_with(flaw: &str, folder: &Path) -> PathBuf {
    let compiler = folder.join(flaw.trim_start_matches(" --cfg "));
    write(&compiler, format!("#!/bin/sh\nexec \"$@\"{flaw}\n")).expect("the compiler");
    set_permissions(&compiler, Permissions::from_mode(0o755)).expect("the compiler");
    compiler
}

const DAEMON: [&str; 4] = ["-p", "barrierd-daemon", "--bin", "barrierd"];
const GUEST: [&str; 4] = ["-p", "barrierd-bpf", "--example", "vm_guest"];
const BROKEN: &str = " --cfg barrierd_broken_credit";
const DEAF: &str = " --cfg barrierd_deaf";

fn cargo_build(cargo: &mut Command, what: &[&str], target: &Path) {
    cargo.args(["build", "--release", "--quiet"]).args(what).arg("--target-dir").arg(target);
}

fn run(command: &mut Command) {
    assert!(command.status().expect("it runs").success(), "{command:?} failed");
}

/// The folder in which `scripts/arm64.sh` keeps what building for arm64 takes.
struct Arm64(PathBuf);

impl Arm64 {
    /// Gets it, or says what is missing.
    fn new(vm: &Path) -> Result<Arm64, String> {
        let arm = Arm64(vm.join("arm64"));
        let output = arm.script().output().expect("bash");
        if output.status.success() {
            return Ok(arm);
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | "))
    }

    fn script(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/arm64.sh");
        let mut command = Command::new(script);
        // Of this build, not of the one that is started.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name == "CARGO" || name == "RUSTUP_TOOLCHAIN" || name.starts_with("CARGO_PKG_") {
                command.env_remove(&*name);
            }
        }
        command.env("CARGO_TARGET_DIR", target()).arg(&self.0);
        command
    }

    /// Builds what runs in the guest; nothing that misses switches.
    fn programs(&self) -> Programs {
        println!("building the daemon, one that is broken, barrierctl and the guest, for arm64");
        let build = |what: &[&str], compiler: Option<&Path>| {
            let mut cargo = self.script();
            cargo.arg("cargo");
            cargo_build(&mut cargo, what, &self.0.join("build"));
            if let Some(compiler) = compiler {
                cargo.env("RUSTC_WORKSPACE_WRAPPER", compiler);
            }
            run(&mut cargo);
        };
        let (compiler, broken) = (compiler_with(BROKEN, &self.0), self.0.join("barrierd-broken"));
        let release = self.0.join("build/aarch64-unknown-linux-gnu/release");
        build(&DAEMON, Some(&compiler));
        copy(release.join("barrierd"), &broken).expect("the broken daemon");
        build(&DAEMON, None);
        build(&GUEST, None);
        build(&["-p", "barrierctl"], None);
        Programs {
            guest: release.join("examples/vm_guest"),
            daemon: release.join("barrierd"),
            broken_daemon: broken,
            deaf_daemon: None,
            barrierctl: Some(release.join("barrierctl")),
        }
    }

    /// Where the libraries are: the C library is the compiler's.
    fn libraries(&self) -> [PathBuf; 3] {
        let root = self.0.join("root");
        let [lib, usr_lib] = ["lib", "usr/lib"].map(|lib| root.join(lib).join("aarch64-linux-gnu"));
        ["/usr/aarch64-linux-gnu/lib".into(), lib, usr_lib]
    }
}
