//! The main job on real input: a concurrent hash map over the words of a real text, two readers
//! and two writers, every removed node retired through the reclaimer.
//!
//! `cargo run --release -p barrierd-reclaim --example demo -- --help`

#[path = "../structures/list.rs"]
#[allow(unreachable_pub, reason = "a file to start a library's module from")]
mod list;
#[path = "../structures/map.rs"]
#[allow(unreachable_pub, reason = "as above")]
mod map;
mod report;
mod workload;

use anyhow::{Context, Result, bail};
use barrierd_reclaim::Source;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Runs a concurrent hash map on the reclaimer, once for each source, and compares.

Usage: demo [OPTIONS]

  --source NAME    auto, daemon, membarrier or fence; may be given again, for a
                   run beside the first (default: auto)
  --file PATH      the barrier daemon's file (default: /run/barrierd/barrier)
  --text PATH      the text to take words from (default: a licence found here)
  --seconds N      length of each run (default: 3)
  --help           this text

Each run ends in a line for scripts:
  demo: source=... retired=N freed=N p50_us=X p99_us=X retire_syscalls=N
";

/// Texts that most machines have; the last is this package's own.
const TEXTS: [&str; 3] = [
    "/usr/share/common-licenses/GPL-3",
    "/usr/share/licenses/common/GPL3/license.txt",
    concat!(env!("CARGO_MANIFEST_DIR"), "/LICENSE-APACHE"),
];

/// What to run.
struct Settings {
    sources: Vec<Source>,
    daemon_file: Option<PathBuf>,
    text: Option<PathBuf>,
    length: Duration,
}

fn settings() -> Result<Option<Settings>> {
    use lexopt::prelude::*;
    let mut settings = Settings {
        sources: Vec::new(),
        daemon_file: None,
        text: None,
        length: Duration::from_secs(3),
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("source") => settings.sources.push(match arguments.value()?.string()?.as_str() {
                "auto" => Source::Auto,
                "daemon" => Source::Daemon,
                "membarrier" => Source::Membarrier,
                "fence" => Source::Fence,
                other => bail!("--source {other}: not one of auto, daemon, membarrier, fence"),
            }),
            Long("file") => settings.daemon_file = Some(arguments.value()?.into()),
            Long("text") => settings.text = Some(arguments.value()?.into()),
            Long("seconds") => settings.length = Duration::from_secs(arguments.value()?.parse()?),
            Long("help") | Short('h') => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(other.unexpected()).context("see --help"),
        }
    }
    if settings.sources.is_empty() {
        settings.sources.push(Source::Auto);
    }
    Ok(Some(settings))
}

fn words(text: Option<PathBuf>) -> Result<(PathBuf, Vec<&'static str>)> {
    let path = text
        .or_else(|| TEXTS.iter().map(PathBuf::from).find(|path| path.exists()))
        .context("no licence text found on this machine: name one with --text")?;
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}: name another text with --text", path.display()))?;
    // For the rest of the program: entries borrow their words.
    let text: &'static str = text.leak();
    let words: Vec<_> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.len() < 2 {
        bail!("{} has no words in it: name another text with --text", path.display());
    }
    Ok((path, words))
}

fn main() -> Result<()> {
    let Some(settings) = settings()? else { return Ok(()) };
    let (text, words) = words(settings.text)?;
    println!(
        "A hash map over {} words of {}; {} readers, {} writers, {} s a run.",
        words.len(),
        text.display(),
        workload::READERS,
        workload::WRITERS,
        settings.length.as_secs()
    );
    let mut results = Vec::new();
    for source in settings.sources {
        let result =
            workload::run(source, settings.daemon_file.as_deref(), &words, settings.length)?;
        report::closing_line(&result);
        results.push(result);
    }
    report::table(&results);
    if let Some(bad) = results.iter().find(|result| result.stats.freed != result.stats.retired) {
        bail!("{}: retired {} but freed {}", bad.stats.source, bad.stats.retired, bad.stats.freed);
    }
    Ok(())
}
