//! `barrierctl`: asks a running barrierd how it is, shows it live, waits for barriers.
//!
//! This file owns the exit statuses and the plain output; the verbs have a file or a directory each.
//! All it knows of the public file it has from `barrierd-client`. It is a library so that the generator of
//! the manual page, and the tests, read [`usage`]; its interface is the program's alone, and may change at
//! any time.

mod args;
mod compare;
mod doctor;
mod draw;
mod help;
mod json;
mod metrics;
mod shared;
mod snapshot;
mod status;
mod suggest;
mod terminal;
pub mod usage;
mod wait;
mod watch;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use args::Command;
use barrierd_client::{Barrier, Distrust, OpenError};
use json::object;
use snapshot::Snapshot;
use wait::{Hindrance, Waited};

/// What ends the program early, each with its own exit status.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}; see barrierctl --help")]
    Usage(String),
    #[error("{}", refused(.0))]
    Open(#[from] OpenError),
    #[error(transparent)]
    Distrust(#[from] Distrust),
    #[error("can't write to standard output ({0})")]
    Output(#[from] std::io::Error),
    #[error(transparent)]
    Region(#[from] barrierd_shared::RegionError),
    #[error("can't wait like that: {0}")]
    Hindrance(Hindrance),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Open(_) | Self::Region(_) => 3,
            Self::Distrust(_) => 4,
            Self::Output(_) => 5,
            Self::Hindrance(_) => 6,
        }
    }
}

impl From<Hindrance> for Failure {
    fn from(why: Hindrance) -> Self {
        match why {
            Hindrance::Distrust(why) => why.into(),
            other => Self::Hindrance(other),
        }
    }
}

impl From<watch::Failure> for Failure {
    fn from(why: watch::Failure) -> Self {
        match why {
            watch::Failure::Distrust(why) => why.into(),
            watch::Failure::Output(why) => why.into(),
        }
    }
}

impl From<compare::Failure> for Failure {
    fn from(why: compare::Failure) -> Self {
        match why {
            compare::Failure::Distrust(why) => why.into(),
            compare::Failure::Output(why) => why.into(),
        }
    }
}

/// Runs the program with these arguments, its name not among them.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command = args::parse(arguments).map_err(Failure::Usage);
    let done = command.and_then(|command| match command {
        Command::Print(text) => print(&text).map(|()| true),
        Command::Status { file, json } => status(&file, json),
        Command::Metrics { file } => metrics(&file),
        Command::Watch { file, how } => Ok(watch::watch(Barrier::open(&file)?, &file, how)?),
        Command::Wait { file, how } => wait(&Barrier::open(file)?, how),
        Command::Compare { file, how } => Ok(compare::compare(&file, how)?),
        Command::Doctor { file, json } => {
            let (text, well) = doctor::doctor(&file, json);
            print(&text).map(|()| well)
        }
        Command::Shared { region, owner, file, json } => shared(&region, owner, &file, json),
    });
    match done {
        Ok(well) => ExitCode::from(u8::from(!well)),
        Err(failure) => {
            eprintln!("barrierctl: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The library's words; and the option by which a file is named, where they say that one is to be named.
fn refused(why: &OpenError) -> String {
    match why {
        OpenError::NotFound { .. } => format!("{why} (--file PATH)"),
        _ => why.to_string(),
    }
}

/// True if the daemon is at work.
fn status(file: &Path, json: bool) -> Result<bool, Failure> {
    let barrier = Barrier::open(file)?;
    let snapshot = Snapshot::at(&barrier)?;
    if json {
        print(&format!("{}\n", status::json(&barrier, &snapshot)))?;
    } else {
        print(&status::text(&barrier, &snapshot))?;
    }
    Ok(snapshot.well())
}

/// True once they are printed, whatever they say: `barrierd_up` tells how the daemon is, and a failed
/// command would have collectors drop it. What is missing is said on standard error: the output is for a
/// program.
fn metrics(file: &Path) -> Result<bool, Failure> {
    let barrier = match Barrier::open(file) {
        Ok(barrier) => barrier,
        Err(why) => {
            print(&metrics::down())?;
            eprintln!("barrierctl: {}", refused(&why));
            return Ok(true);
        }
    };
    let snapshot = Snapshot::at(&barrier)?;
    print(&metrics::text(&barrier, &snapshot))?;
    if let Err(why) = &snapshot.counters {
        eprintln!("barrierctl: {why}");
    }
    if let Some(advice) = snapshot.advice() {
        eprintln!("barrierctl: {advice}");
    }
    Ok(true)
}

/// True once it is printed, whatever holds back.
fn shared(region: &Path, owner: Option<u32>, file: &Path, json: bool) -> Result<bool, Failure> {
    let look = shared::Look::at(region, owner, file)?;
    if json {
        print(&format!("{}\n", look.json()))?;
    } else {
        print(&look.text())?;
    }
    Ok(true)
}

/// Waits for one barrier; true if it passed in time.
fn wait(barrier: &Barrier, how: args::Wait) -> Result<bool, Failure> {
    let begin = Instant::now();
    let mut waited = wait::wait(barrier, how.by, begin + how.timeout)?;
    let took = begin.elapsed();
    if let Waited::Late(why) = &mut waited {
        // The library's words are for who calls it.
        if let Some(gone) = Snapshot::at(barrier)?.gone(barrier) {
            *why = format!("no barrier passed: {gone}");
        }
    }
    let passed = matches!(waited, Waited::Passed);
    if how.json {
        let late = match waited {
            Waited::Passed => None,
            Waited::Late(why) => Some(why),
        };
        let line =
            object([("passed", passed.into()), ("ns", ns(took).into()), ("why", late.into())]);
        print(&format!("{line}\n"))?;
    } else {
        match waited {
            Waited::Passed => print(&format!("passed after {:.3} ms\n", took.as_secs_f64() * 1e3))?,
            Waited::Late(why) => eprintln!("barrierctl: {why}"),
        }
    }
    Ok(passed)
}

fn ns(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
