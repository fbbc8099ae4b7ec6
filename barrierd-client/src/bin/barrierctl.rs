//! `barrierctl`: asks a running barrierd how it is, or waits for one barrier.
//!
//! This file owns the command line, its output and its exit codes. All it knows of the public file
//! it has from the library.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Distrust, Liveness, OpenError, Stamp, WaitError, abi, clock};

const HELP: &str = "\
usage: barrierctl [--file PATH] status
       barrierctl [--file PATH] wait [--timeout-ms N]

  status   say whether the daemon is at work and how far it has come
  wait     wait until every CPU has passed a memory barrier from now on

  --file PATH      the daemon's public file (default /run/barrierd/barrier)
  --timeout-ms N   give up after N milliseconds (default 1000)
  -h, --help       print this
  -V, --version    print the version

exit status:
  0  status: the daemon is at work; wait: the barrier has passed
  1  status: the daemon has stopped, died or hangs; wait: the time was up first
  2  the command line makes no sense
  3  the file was refused: the message says why and what to do
  4  the file was accepted, then caught lying
  5  the output could not be written
";

/// What ends the program early, each with its own exit status.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}; see barrierctl --help")]
    Usage(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Distrust(#[from] Distrust),
    #[error("can't write to standard output ({0})")]
    Output(#[from] std::io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Open(_) => 3,
            Self::Distrust(_) => 4,
            Self::Output(_) => 5,
        }
    }
}

enum Command {
    Print(String),
    Status { file: PathBuf },
    Wait { file: PathBuf, timeout: Duration },
}

fn main() -> ExitCode {
    let done = parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Print(text) => print(&text).map(|()| true),
        Command::Status { file } => status(&Barrier::open(file)?),
        Command::Wait { file, timeout } => wait(&Barrier::open(file)?, timeout),
    });
    match done {
        Ok(well) => ExitCode::from(u8::from(!well)),
        Err(failure) => {
            eprintln!("barrierctl: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    let usage = |text: String| Failure::Usage(text);
    let (mut file, mut timeout, mut verb) = (None, None, None);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("-h" | "--help") => return Ok(Command::Print(HELP.into())),
            Some("-V" | "--version") => {
                return Ok(Command::Print(
                    concat!("barrierctl ", env!("CARGO_PKG_VERSION"), "\n").into(),
                ));
            }
            Some("--file") => {
                file = Some(args.next().ok_or_else(|| usage("--file needs a path".into()))?);
            }
            Some("--timeout-ms") => {
                let value = args.next().unwrap_or_default();
                let ms = value.to_str().and_then(|text| text.parse().ok());
                timeout = Some(ms.map(Duration::from_millis).ok_or_else(|| {
                    usage(format!("--timeout-ms needs a whole number, not {value:?}"))
                })?);
            }
            Some("status" | "wait") if verb.is_none() => verb = arg.into_string().ok(),
            _ => return Err(usage(format!("don't know what to do with {arg:?}"))),
        }
    }
    let file = file.map_or_else(|| PathBuf::from(abi::DEFAULT_PATH), PathBuf::from);
    match (verb.as_deref(), timeout) {
        (Some("status"), None) => Ok(Command::Status { file }),
        (Some("status"), Some(_)) => Err(usage("status takes no --timeout-ms".into())),
        (Some(_), timeout) => {
            Ok(Command::Wait { file, timeout: timeout.unwrap_or(Duration::from_secs(1)) })
        }
        (None, _) => Err(usage("say what to do: status or wait".into())),
    }
}

/// Prints all there is to know; true if the daemon is at work.
fn status(barrier: &Barrier) -> Result<bool, Failure> {
    // One old heartbeat is a suspicion; the second look settles it.
    let settled = Instant::now() + Duration::from_millis(500);
    let mut liveness = barrier.liveness();
    while liveness == Liveness::Suspect && Instant::now() < settled {
        sleep(Duration::from_millis(60));
        liveness = barrier.liveness();
    }
    let mark = barrier.watermark()?;
    let now = clock::now_ns();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("file", barrier.path().display().to_string());
    line("daemon", liveness.to_string());
    line("cpus", barrier.ncpu().to_string());
    if barrier.is_legacy() {
        line("layout", "the C daemon's: no virtual time, no heartbeat".into());
    } else {
        line("generation", mark.generation.to_string());
    }
    if let Some(beat) = barrier.heartbeat_ns() {
        line("heartbeat", age(beat, now));
    }
    let watermark = match mark.ns {
        0 => "none to be had now".into(),
        ns => format!("{}, at {ns} ns", age(ns, now)),
    };
    line("watermark", watermark);
    if let Some(vtime) = barrier.vtime() {
        line("vtime", format!("{vtime}, complete below {}", mark.vtime));
    }
    print(&text)?;
    Ok(liveness == Liveness::Alive)
}

/// Waits for one barrier; true if it passed in time.
fn wait(barrier: &Barrier, timeout: Duration) -> Result<bool, Failure> {
    let begin = Instant::now();
    // An overflow is a deadline that never comes: 30 years will do.
    let far = begin + Duration::from_secs(1_000_000_000);
    match barrier.wait(Stamp::now(), begin.checked_add(timeout).unwrap_or(far)) {
        Ok(()) => {
            print(&format!("passed after {:.3} ms\n", begin.elapsed().as_secs_f64() * 1e3))?;
            Ok(true)
        }
        Err(WaitError::Distrust(why)) => Err(why.into()),
        Err(late) => {
            eprintln!("barrierctl: {late}");
            Ok(false)
        }
    }
}

/// How long ago `ns` was.
fn age(ns: u64, now: u64) -> String {
    let age = Duration::from_nanos(now.saturating_sub(ns));
    format!("{:.3} ms ago", age.as_secs_f64() * 1e3)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
