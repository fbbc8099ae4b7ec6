//! Where a scenario runs: qemu's command line, and the one without it.
//!
//! Owns what every machine has. Knows nothing of how it is watched.

use crate::scenarios::{Kernel, Scenario};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// On every kernel's command line. The watchdogs: their notion of time does not hold here, ours is in
/// this file.
const CMDLINE: &str = "loglevel=5 panic=-1 oops=panic nowatchdog rcupdate.rcu_cpu_stall_suppress=1";

/// On x86-64. The clock: the emulator hands out the host's counter, the same on all CPUs, and the
/// kernel's doubts about it would cost a system call a stamp, and full dynticks.
const CMDLINE_X86: &str = "console=ttyS0 tsc=reliable";

/// On arm64, whose first serial line is another device.
const CMDLINE_ARM: &str = "console=ttyAMA0";

/// The programs that were built.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) guest: PathBuf,
    pub(crate) daemon: PathBuf,
    pub(crate) broken_daemon: PathBuf,
    /// Where a scenario runs it.
    pub(crate) deaf_daemon: Option<PathBuf>,
    pub(crate) barrierctl: Option<PathBuf>,
}

/// A virtual machine: its second serial line is standard output, its first the console.
pub(crate) fn machine(
    scenario: &Scenario,
    kernel: &Path,
    initramfs: &Path,
    console: &Path,
) -> Command {
    let Scenario { name, cpu, cpus, smp, cmdline, .. } = scenario;
    let console = format!("file:{}", console.display());
    let is_arm = scenario.kernel.is_some_and(Kernel::is_arm);
    let mut qemu;
    if is_arm {
        qemu = Command::new("qemu-system-aarch64");
        // One serial line of the board's own; the other is a card.
        qemu.args(["-machine", "virt,gic-version=3", "-serial", &console]).args([
            "-chardev",
            "stdio,id=line",
            "-device",
            "pci-serial,chardev=line",
        ]);
    } else {
        qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-serial", &console, "-serial", "stdio"]);
    }
    let its_own = if is_arm { CMDLINE_ARM } else { CMDLINE_X86 };
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", cpu, "-m", "1G"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .args(["-smp", &format!("{cpus}{smp}")])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", &format!("{its_own} {CMDLINE} {cmdline} -- {name}")]);
    qemu
}

/// A directory that clients accept, gone when dropped.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        let path = PathBuf::from(format!("/run/barrierd-vm.{}", std::process::id()));
        let made = std::fs::DirBuilder::new().mode(0o755).create(&path);
        made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left of it lies on tmpfs.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The guest's program on this host.
pub(crate) fn here(scenario: &Scenario, programs: &Programs, directory: &Directory) -> Command {
    let mut guest = Command::new(&programs.guest);
    guest.args(["here", scenario.name]).arg(&programs.daemon).arg(&programs.broken_daemon);
    guest.args(&programs.deaf_daemon).arg(directory.0.join("barrier"));
    guest
}
