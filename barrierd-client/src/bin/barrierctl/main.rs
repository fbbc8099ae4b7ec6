//! `barrierctl`: asks a running barrierd how it is, or waits for one barrier.
//!
//! This file owns the exit statuses, the output and the waiting; the verbs that show something have
//! a file each. All it knows of the public file it has from the library.

mod args;
mod look;
mod metrics;
mod status;
mod usage;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use args::Command;
use barrierd_client::{Barrier, Distrust, OpenError, Stamp, WaitError};
use look::Look;

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

fn main() -> ExitCode {
    let command = args::parse(std::env::args_os().skip(1)).map_err(Failure::Usage);
    let done = command.and_then(|command| match command {
        Command::Print(text) => print(&text).map(|()| true),
        Command::Status { file } => status(&file),
        Command::Metrics { file } => metrics(&file),
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

/// True if the daemon is at work.
fn status(file: &Path) -> Result<bool, Failure> {
    let barrier = Barrier::open(file)?;
    let look = Look::at(&barrier)?;
    print(&status::text(&barrier, &look))?;
    Ok(look.well())
}

/// The same. What is missing is said on standard error: the output is for a program.
fn metrics(file: &Path) -> Result<bool, Failure> {
    let barrier = Barrier::open(file)?;
    let look = Look::at(&barrier)?;
    print(&metrics::text(&barrier, &look))?;
    if let Err(why) = &look.counters {
        eprintln!("barrierctl: {why}");
    }
    if let Some(advice) = look.advice() {
        eprintln!("barrierctl: {advice}");
    }
    Ok(look.well())
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

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
