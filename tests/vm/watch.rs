//! One run, of a virtual machine or of the guest's program alone: watched, ended.
//!
//! Owns the watch: the guest's line, the kernel's console, silence, the deadline. Knows nothing of
//! what was started or what a verdict is worth.

use crate::scenarios::PULSE;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Neither a line of the guest, its pulse included, nor one of the kernel.
const SILENCE: Duration = Duration::from_secs(60);

/// From start to verdict.
const DEADLINE: Duration = Duration::from_secs(300);

/// Between two looks at the console.
const A_LOOK: Duration = Duration::from_millis(200);

/// Time to power off after the verdict.
const TO_END: Duration = Duration::from_secs(15);

/// What a kernel in trouble says.
const TROUBLE: [&str; 5] =
    ["Kernel panic", "Oops", "BUG:", "WARNING: CPU", "general protection fault"];

/// What an x86-64 kernel says while it boots if its timer does not tick within a loop that it runs: an emulated timer is
/// served by a thread of the host's, which may be busy.
const NO_TICK: &str = "IO-APIC + timer doesn't work";

/// A complaint of time alone: a CPU without ticks was not looked after by another one for three seconds. It was the
/// host's CPUs that had no time.
const OF_TIME: &str = "sched_tick_remote";

/// How a kernel patches its own code: a breakpoint first, which goes again before anyone may find
/// that it means nothing. Debian 12's qemu (7.2) sometimes runs the breakpoint from code that it
/// translated earlier; the kernel dies of it, and no fault of the kernel's or ours looks like this.
const PATCHED: &str = "int3: 0000 [#1]";

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The guest says that every step holds.
    Ok,
    /// It says what doesn't, or this program does.
    Failed(String),
    /// The emulator broke it, in this way.
    Emulator(String),
    /// It can't run here, for this reason.
    NotRun(String),
}

/// Runs `command`, whose standard output is the guest's line, to its verdict. The kernel's console
/// is what grows in `console`.
pub(crate) fn run(mut command: Command, console: &Path, log: &Path) -> Ended {
    File::create(console).expect("the console's file");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    // One group, so that whatever it starts ends with it.
    command.process_group(0);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut running = Running(child);
    let lines = listen(&mut running.0, File::create(log).expect("the log's file"));
    let ended = watch(&lines, console);
    if ended == Ended::Ok {
        running.let_end();
    }
    ended
}

/// Killed when dropped, with all its group.
struct Running(Child);

impl Running {
    /// After its verdict it ends by itself; if it doesn't, it is killed all the same.
    fn let_end(&mut self) {
        let stop = Instant::now() + TO_END;
        while self.0.try_wait().expect("a child").is_none() && Instant::now() < stop {
            thread::sleep(A_LOOK / 10);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already: then there is nothing to kill.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        self.0.wait().expect("a child");
    }
}

/// The guest's lines, as they come; each goes into `log` too.
fn listen(child: &mut Child, mut log: File) -> Receiver<String> {
    let (sender, lines) = channel();
    let mut line_of = BufReader::new(child.stdout.take().expect("piped"));
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
                if line != PULSE {
                    last = line;
                }
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
            // Not a step that hangs: neither the guest's pulse nor the kernel's own watchdogs speak any
            // more. On a busy host emulated CPUs wait for each other for ever, now and then, also
            // before the first process runs.
            let machine = "the machine stood still";
            return Ended::Emulator(format!("{machine}, {SILENCE:?} long, after: {last}"));
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
    if text.contains(PATCHED) {
        return Some(Ended::Emulator("it ran a patched instruction of before the patch".into()));
    }
    if text.contains(NO_TICK) {
        return Some(Ended::Emulator("no tick came while the kernel waited for one".into()));
    }
    let is_trouble = |line: &&str| TROUBLE.iter().any(|words| line.contains(words));
    let line = text.lines().filter(|line| !line.contains(OF_TIME)).find(is_trouble)?;
    Some(Ended::Failed(format!("the kernel: {}", line.trim())))
}
