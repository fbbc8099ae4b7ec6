//! A live barrierd for the rows that need one: started, waited for, stopped by its pid.
//!
//! Each leaves its pid in a file beside its log, so that the script that made the directory can stop
//! one that this program, killed, has left behind.

use crate::options::Options;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon. Dropped, it is stopped and waited for.
pub(crate) struct Live {
    child: Child,
    pub(crate) file: PathBuf,
    pid_file: PathBuf,
}

/// The daemon for the whole run: none without root or without `--barrierd`; one that does not start
/// is an error, not a missing row.
pub(crate) fn start_if_possible(options: &Options) -> Result<Option<Live>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let (Some(binary), Some(dir)) = (&options.barrierd, &options.run_dir) else { return Ok(None) };
    start(binary, dir, "whole").map(Some)
}

/// A daemon on `dir/name`.
pub(crate) fn start(binary: &Path, dir: &Path, name: &str) -> Result<Live, String> {
    let (file, log, pid_file) =
        (dir.join(name), dir.join(format!("{name}.log")), dir.join(format!("{name}.pid")));
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("barrierd: {what}: {error}");
    let sink = fs::File::create(&log).map_err(|error| failed("its log", &error))?;
    let child = Command::new(binary)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(sink)
        .spawn()
        .map_err(|error| failed(&binary.display().to_string(), &error))?;
    // From here on it is stopped by the drop.
    let mut live = Live { child, file, pid_file };
    fs::write(&live.pid_file, live.pid().as_raw_nonzero().to_string())
        .map_err(|error| failed("its pid's file", &error))?;
    let until = Instant::now() + PATIENCE;
    loop {
        let said = fs::read_to_string(&log).unwrap_or_default();
        if said.contains("Setup complete") {
            return Ok(live);
        }
        let ended = live.child.try_wait().map_err(|error| failed("waiting", &error))?;
        if let Some(status) = ended {
            return Err(failed(&format!("it ended with {status} before it was set up"), &said));
        }
        if Instant::now() > until {
            return Err(failed(&format!("it is not set up after {PATIENCE:?}"), &said));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

impl Live {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Its CPU seconds and context switches so far.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        let pid = self.pid().as_raw_nonzero();
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let ns: f64 = read("schedstat")?.split(' ').next()?.parse().ok()?;
        let switches = read("status")?
            .lines()
            .filter(|line| line.contains("ctxt_switches"))
            .filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok())
            .sum();
        Some((ns / 1e9, switches))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = kill_process(self.pid(), Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let _ = fs::remove_file(&self.pid_file);
    }
}
