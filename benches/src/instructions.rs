//! Exact instructions, by callgrind: one run of a job that calls [`barrierd_bench_counted`] once for each contestant.
//!
//! Callgrind collects inside that function only, of the thread that calls it, and writes a file after
//! each call. So set-up, warming up and other threads are not in it.

use crate::Bench;
use crate::job::{self, Allocator};
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);

/// What callgrind counts. By its name: not mangled, and never inlined.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) fn barrierd_bench_counted(work: &mut dyn FnMut()) {
    work();
}

/// Instructions of each call of [`barrierd_bench_counted`] that `task` makes, in order.
pub(crate) fn count(bench: &Bench, task: &str) -> Result<Vec<f64>, String> {
    eprintln!("         {task}, under callgrind");
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--toggle-collect=barrierd_bench_counted",
        "--dump-after=barrierd_bench_counted",
    ]);
    valgrind.arg(format!("--callgrind-out-file={}/out", dir.path().display()));
    let own = job::command(bench, Allocator::Counted, task)?;
    valgrind.arg(own.get_program()).args(own.get_args());
    valgrind.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = valgrind.spawn().map_err(|error| format!("valgrind: {error}"))?;
    let mut pipe = child.stderr.take().ok_or("valgrind has no stderr")?;
    let said = thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut pipe, &mut text);
        text
    });
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|error| format!("valgrind: {error}"))? {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("valgrind took more than {PATIENCE:?}"));
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    let said = said.join().unwrap_or_default();
    if !status.success() {
        return Err(format!("valgrind ended with {status}: {said}"));
    }
    let mut counts = Vec::new();
    // out.1, out.2, ...; the last, `out`, has nothing of ours.
    while let Ok(text) = fs::read_to_string(dir.path().join(format!("out.{}", counts.len() + 1))) {
        counts.push(total(&text).ok_or("a callgrind file without totals")?);
    }
    Ok(counts)
}

fn total(text: &str) -> Option<f64> {
    let line =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line("summary:").or_else(|| line("totals:"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn totals_are_found() {
        assert_eq!(super::total("events: Ir\nsummary: 1234\n\nfn=x\n"), Some(1234.0));
        assert_eq!(super::total("events: Ir\n"), None);
    }
}
