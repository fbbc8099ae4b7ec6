//! One configuration in a process of its own: so that no contestant inherits another's heap, and a peer
//! that crashes or hangs costs a row, not the report.
//!
//! A job is named by words, prints `name,value` lines, and is this program again, on either allocator.

use crate::options::Options;
use crate::turns::Samples;
use crate::{Bench, experiments};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allocator {
    System,
    Mimalloc,
    /// The system's, in the build for callgrind (`barrierd_unpaced`, `scripts/bench.sh`): bags as large as they are
    /// without it. This build, where there is none.
    Counted,
}

impl Allocator {
    fn binary(self) -> Result<PathBuf, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok(match self {
            Allocator::System => own,
            Allocator::Mimalloc => own.with_file_name("barrierd-bench-mimalloc"),
            Allocator::Counted => Some(own.with_file_name("barrierd-bench-counted"))
                .filter(|it| it.exists())
                .unwrap_or(own),
        })
    }
}

/// The command that does a job.
pub(crate) fn command(bench: &Bench, allocator: Allocator, task: &str) -> Result<Command, String> {
    let mut command = Command::new(allocator.binary()?);
    command.args(["--job", task, "--effort", bench.effort.name()]);
    if let Some(live) = &bench.live {
        command.arg("--file").arg(&live.file);
    }
    Ok(command)
}

/// Does a job in a process of its own, within `patience`.
pub(crate) fn done(
    bench: &Bench,
    allocator: Allocator,
    task: &str,
    patience: Duration,
) -> Result<Samples, String> {
    finished(command(bench, allocator, task)?, task, patience)
}

/// Runs a command that prints `name,value` lines, within `patience`.
pub(crate) fn finished(
    mut command: Command,
    task: &str,
    patience: Duration,
) -> Result<Samples, String> {
    eprintln!("         {task}");
    let failed = |what: String| format!("`{task}` {what}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let mut pipe = child.stdout.take().ok_or_else(|| failed("has no output".into()))?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let until = Instant::now() + patience;
    let status = loop {
        match child.try_wait().map_err(|error| failed(error.to_string()))? {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!("took more than {patience:?}")));
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    let text = reader.join().ok().and_then(Result::ok).ok_or_else(|| failed("is mute".into()))?;
    if !status.success() {
        return Err(failed(format!("ended with {status}")));
    }
    Ok(parse(&text))
}

/// Returns the samples of each of `names`: `EXPERIMENT SCENARIO NAME` for each scenario, all names in turn, so many times.
/// What fails is missing in the report.
pub(crate) fn in_turn<'n>(
    bench: &mut Bench,
    allocator: Allocator,
    experiment: &str,
    scenarios: &[&str],
    names: &[&'n str],
    rounds: usize,
) -> Vec<(&'n str, Samples)> {
    let mut all: Vec<(&str, Samples)> =
        names.iter().map(|name| (*name, Samples::default())).collect();
    for _ in 0..rounds {
        for scenario in scenarios {
            for (name, own) in &mut all {
                let task = format!("{experiment} {scenario} {name}");
                match done(bench, allocator, &task, Duration::from_secs(60)) {
                    Ok(samples) => own.append(&samples),
                    Err(error) => bench.report.miss(error),
                }
            }
        }
    }
    all
}

fn parse(text: &str) -> Samples {
    let mut samples = Samples::default();
    for line in text.lines() {
        if let Some((name, value)) = line.rsplit_once(',')
            && let Ok(value) = value.parse()
        {
            samples.push(name, value);
        }
    }
    samples
}

/// The other side: does it, and prints what came of it.
pub(crate) fn run(task: &str, options: &Options) -> ExitCode {
    let (kind, rest) = task.split_once(' ').unwrap_or((task, ""));
    let Some(job) = experiments::ALL.iter().find(|one| one.name == kind).and_then(|one| one.job)
    else {
        eprintln!("barrierd-bench: no job `{task}`");
        return ExitCode::from(2);
    };
    match job(rest, options) {
        Ok(samples) => {
            for (name, rounds) in samples.names.iter().zip(&samples.rounds) {
                rounds.iter().for_each(|value| println!("{name},{value}"));
            }
            // Without destructors: what waits, and libraries' threads, end with the process.
            std::process::exit(0);
        }
        Err(error) => {
            eprintln!("barrierd-bench: `{task}`: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_become_rounds_by_name() {
        let samples = super::parse("a, b,1\nc,2.5\na, b,3\nnoise\n");
        assert_eq!(samples.names, ["a, b", "c"]);
        assert_eq!(samples.rounds, [vec![1.0, 3.0], vec![2.5]]);
    }
}
