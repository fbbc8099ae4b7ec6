//! The guest: the first process of a virtual machine of `tests/vm`.
//!
//! Owns the machine's life: mounts, the scenario that the kernel's command line names, the verdict,
//! power off. Knows nothing of what a step does. The same program takes the steps of a scenario that
//! runs on the host.

mod cgroup;
mod confined;
mod cpus;
mod daemon;
mod jit;
mod load;
mod slew;
mod steps;
mod truth;

#[path = "../../common/game.rs"]
mod game;
#[path = "../scenarios.rs"]
#[allow(dead_code, reason = "some of the table is the host's")]
mod scenarios;

use steps::Place;

use rustix::mount::{MountFlags, mount};
use rustix::stdio::{dup2_stderr, dup2_stdout};
use rustix::system::{RebootCommand, reboot};
use rustix::termios::tcdrain;
use std::fs::{File, create_dir_all};
use std::time::Duration;
use std::{env, thread};

/// Far enough for anything that works, on an emulated machine that shares its CPUs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// The machine's second serial line: the first of its kind, where the console is of another.
const LINE: &str = if cfg!(target_arch = "x86_64") { "/dev/ttyS1" } else { "/dev/ttyS0" };

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["confined", user, capabilities, program, ref rest @ ..] => {
            confined::exec(user, capabilities, program, rest)
        }
        ["spin", cpu, group] => cgroup::spin(cpu.parse().expect("a number"), group),
        ["client", file, waits] => steps::waits(file.as_ref(), waits.parse().expect("a number")),
        ["here", scenario, daemon, broken_daemon, deaf_daemon, file] => {
            // A panic's words belong into the log, too.
            dup2_stderr(std::io::stdout()).expect("stderr");
            let [daemon, broken_daemon, deaf_daemon, file] =
                [daemon, broken_daemon, deaf_daemon, file].map(String::from);
            verdict(scenario, Place { daemon, broken_daemon, deaf_daemon, file });
        }
        [scenario] if rustix::process::getpid().is_init() => first_process(scenario),
        _ => eprintln!("this program is the first process of a virtual machine: see tests/vm"),
    }
}

fn first_process(name: &str) {
    mounts();
    // The console is the kernel's; this line is ours, and the host listens to it.
    let line = File::options().read(true).write(true).open(LINE).expect(LINE);
    dup2_stdout(&line).expect("stdout");
    dup2_stderr(&line).expect("stderr");
    verdict(
        name,
        Place {
            daemon: "/bin/barrierd".into(),
            broken_daemon: "/bin/barrierd-broken".into(),
            deaf_daemon: "/bin/barrierd-deaf".into(),
            file: "/run/barrierd/barrier".into(),
        },
    );
    tcdrain(&line).expect("the line takes it all");
    reboot(RebootCommand::PowerOff).expect("the kernel powers off");
}

fn pulse() {
    thread::spawn(|| {
        loop {
            thread::sleep(scenarios::A_PULSE);
            println!("{}", scenarios::PULSE);
        }
    });
}

/// Takes the scenario's steps and says what became of it.
fn verdict(name: &str, place: Place) {
    pulse();
    let scenario = scenarios::SCENARIOS.iter().find(|s| s.name == name).expect("in the table");
    match thread::spawn(move || steps::take(scenario.steps, place)).join() {
        Ok(()) => println!("verdict: ok"),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let text = text.unwrap_or_else(|| "a panic without words".into());
            println!("verdict: FAILED: {}", text.replace('\n', " | "));
        }
    }
}

fn mounts() {
    for (kind, at) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")]
    {
        create_dir_all(at).expect(at);
        let data = (kind == "tmpfs").then_some(c"mode=0755");
        mount(kind, at, kind, MountFlags::empty(), data).expect(at);
    }
}
