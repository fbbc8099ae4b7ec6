//! One virtual machine: started, watched, ended.
//!
//! Owns qemu's command line and the watch: the guest's line, the kernel's console, silence, the
//! deadline. Knows nothing of what a verdict is worth.

use crate::scenarios::Scenario;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Neither a line of the guest nor one of the kernel.
const SILENCE: Duration = Duration::from_secs(90);

/// From start to verdict.
const DEADLINE: Duration = Duration::from_secs(300);

/// Between two looks at the console.
const A_LOOK: Duration = Duration::from_millis(200);

/// Time to power off after the verdict.
const TO_POWER_OFF: Duration = Duration::from_secs(15);

/// On every kernel's command line. The clock: the emulator hands out the host's counter, the same
/// on all CPUs, and the kernel's doubts about it would cost a system call a stamp, and full
/// dynticks. The watchdogs: their notion of time does not hold here, ours is in this file.
const CMDLINE: &str = "console=ttyS0 loglevel=5 panic=-1 oops=panic tsc=reliable nowatchdog \
                       rcupdate.rcu_cpu_stall_suppress=1";

/// What a kernel in trouble says.
const TROUBLE: [&str; 5] =
    ["Kernel panic", "Oops", "BUG:", "WARNING: CPU", "general protection fault"];

/// How a kernel patches its own code: a breakpoint first, which goes again before anyone may find
/// that it means nothing. Debian 12's qemu (7.2) sometimes runs the breakpoint from code that it
/// translated earlier; the kernel dies of it, and no fault of the kernel's or ours looks like this.
const EMULATOR: &str = "int3: 0000 [#1]";

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The guest says that every step holds.
    Ok,
    /// It says what doesn't, or this program does.
    Failed(String),
    /// The emulator broke it.
    Emulator,
}

/// What every machine has.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) logs: &'a Path,
}

impl Machine<'_> {
    /// Runs a scenario from boot to power off.
    pub(crate) fn run(&self, scenario: &Scenario) -> Ended {
        let console = self.logs.join(format!("{}.console", scenario.name));
        let log = self.logs.join(format!("{}.log", scenario.name));
        File::create(&console).expect("the console's file");
        let mut qemu = Qemu(self.start(scenario, &console));
        let lines = listen(&mut qemu.0, File::create(&log).expect("the log's file"));
        let ended = watch(&lines, &console);
        if ended == Ended::Ok {
            qemu.let_end();
        }
        ended
    }

    fn start(&self, scenario: &Scenario, console: &Path) -> Child {
        let Scenario { name, cpus, smp, cmdline, .. } = scenario;
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", "1G"])
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-smp", &format!("{cpus}{smp}")])
            .args(["-serial", &format!("file:{}", console.display()), "-serial", "stdio"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initramfs)
            .args(["-append", &format!("{CMDLINE} {cmdline} -- {name}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        qemu.spawn()
            .unwrap_or_else(|error| panic!("{qemu:?}: {error}: scripts/deps.sh vm installs it"))
    }
}

/// Killed when dropped.
struct Qemu(Child);

impl Qemu {
    /// A machine that has said its verdict powers off by itself; if it doesn't, it is killed all
    /// the same.
    fn let_end(&mut self) {
        let stop = Instant::now() + TO_POWER_OFF;
        while self.0.try_wait().expect("a child").is_none() && Instant::now() < stop {
            thread::sleep(A_LOOK / 10);
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Gone already: then there is nothing to kill.
        let _ = self.0.kill();
        self.0.wait().expect("a child");
    }
}

/// The guest's lines, as they come; each goes into `log` too.
fn listen(qemu: &mut Child, mut log: File) -> Receiver<String> {
    let (sender, lines) = channel();
    let mut line_of = BufReader::new(qemu.stdout.take().expect("piped"));
    thread::spawn(move || {
        let mut bytes = Vec::new();
        while line_of.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            writeln!(log, "{line}").expect("the log");
            // Nobody listens any more: the machine is being killed.
            if sender.send(line).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    lines
}

/// Until the verdict, or until there will be none.
fn watch(lines: &Receiver<String>, console: &Path) -> Ended {
    let start = Instant::now();
    let (mut heard, mut seen) = (start, 0);
    let mut last = String::from("nothing");
    loop {
        let over = match lines.recv_timeout(A_LOOK) {
            Ok(line) => {
                heard = Instant::now();
                if let Some(verdict) = line.strip_prefix("verdict: ") {
                    return match verdict.strip_prefix("FAILED: ") {
                        Some(why) => Ended::Failed(why.into()),
                        // A warning on the console is no good end.
                        None => trouble(console).unwrap_or(Ended::Ok),
                    };
                }
                last = line;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
        };
        if let Some(trouble) = trouble(console) {
            return trouble;
        }
        let size = fs::metadata(console).map_or(0, |meta| meta.len());
        if size > seen {
            (heard, seen) = (Instant::now(), size);
        }
        if over {
            return Ended::Failed(format!("the machine ended without a verdict, after: {last}"));
        }
        if heard.elapsed() > SILENCE {
            return Ended::Failed(format!("silent for {SILENCE:?}, after: {last}"));
        }
        if start.elapsed() > DEADLINE {
            return Ended::Failed(format!("no verdict within {DEADLINE:?}, last: {last}"));
        }
    }
}

/// What the kernel says of itself on the console.
fn trouble(console: &Path) -> Option<Ended> {
    let mut bytes = Vec::new();
    File::open(console).expect("the console").read_to_end(&mut bytes).expect("read");
    // Whole lines only: the rest of one may say that it is the emulator's.
    bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
    let text = String::from_utf8_lossy(&bytes);
    if text.contains(EMULATOR) {
        return Some(Ended::Emulator);
    }
    let line = text.lines().find(|line| TROUBLE.iter().any(|words| line.contains(words)))?;
    Some(Ended::Failed(format!("the kernel: {}", line.trim())))
}
