//! A live daemon for tests: built, started on a file of its own, stopped again.
//!
//! These tests need root. Without it they say so and pass, except where `CI` is set: there a test
//! that can't run has failed.

pub(crate) mod built;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Far enough for anything that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Whether this test can run; if not, says so.
#[must_use]
pub(crate) fn have_root() -> bool {
    if geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must run it");
    eprintln!("\n*** NOT RUN: this test starts the daemon, which needs root ***\n");
    false
}

/// The daemon's binary.
pub(crate) fn barrierd() -> PathBuf {
    built::program("barrierd")
}

/// The program that asks it.
#[allow(dead_code, reason = "not every test program asks it")]
pub(crate) fn barrierctl() -> PathBuf {
    built::program("barrierctl")
}

/// A directory that clients accept: root's, in root's.
pub(crate) fn directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("barrierd-test.").tempdir_in("/run").expect("/run");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

/// A running daemon. Dropped, it is stopped and waited for.
pub(crate) struct Daemon {
    child: Option<Child>,
    log: Arc<Mutex<String>>,
    pub(crate) file: PathBuf,
}

impl Daemon {
    /// Starts a daemon on `dir/barrier` and waits until it is set up.
    #[allow(dead_code, reason = "one test program has the log elsewhere")]
    pub(crate) fn start(dir: &Path) -> Daemon {
        Daemon::start_with(dir, &[])
    }

    #[allow(dead_code, reason = "one test program has the log elsewhere")]
    pub(crate) fn start_with(dir: &Path, arguments: &[&str]) -> Daemon {
        let daemon = Daemon::spawn(dir, arguments);
        let stop = Instant::now() + PATIENCE;
        while !daemon.log().contains("Setup complete") {
            assert!(Instant::now() < stop, "the daemon is not set up:\n{}", daemon.log());
            thread::sleep(Duration::from_millis(5));
        }
        daemon
    }

    /// Starts a daemon on `dir/barrier` and waits for nothing.
    #[allow(dead_code, reason = "one test program has the log elsewhere")]
    pub(crate) fn spawn(dir: &Path, arguments: &[&str]) -> Daemon {
        let mut daemon = Daemon::spawn_to(Stdio::piped(), dir, arguments);
        let stderr = daemon.child.as_mut().and_then(|child| child.stderr.take()).expect("piped");
        let (lines, sink) = (BufReader::new(stderr), daemon.log.clone());
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut log = sink.lock().expect("no panics here");
                log.push_str(&line);
                log.push('\n');
            }
        });
        daemon
    }

    /// The same, with its standard error elsewhere: its log stays empty here.
    pub(crate) fn spawn_to(stderr: impl Into<Stdio>, dir: &Path, arguments: &[&str]) -> Daemon {
        let file = dir.join("barrier");
        let mut command = Command::new(barrierd());
        Daemon::run(command.arg(&file).args(arguments).stderr(stderr), &file)
    }

    /// What `command` becomes, a daemon on `file`.
    pub(crate) fn run(command: &mut Command, file: &Path) -> Daemon {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the daemon starts");
        Daemon { child: Some(child), log: Arc::default(), file: file.into() }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no panics here").clone()
    }

    #[allow(dead_code, reason = "not every test program looks into it")]
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("running"))
    }

    /// Its exit status and its log, once it has ended by itself.
    #[allow(dead_code, reason = "not every test program has it fail")]
    pub(crate) fn failure(mut self) -> (ExitStatus, String) {
        let status = self.child.take().expect("running").wait().expect("waits");
        // The last lines may still be in the pipe.
        thread::sleep(Duration::from_millis(50));
        (status, self.log())
    }

    #[allow(dead_code, reason = "not every test program signals it")]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("running")), signal)
            .expect("it runs");
    }

    /// SIGTERM, and its exit status.
    #[allow(dead_code, reason = "not every test program looks at the end")]
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.take().expect("running").wait().expect("waits")
    }

    /// Its exit status, once it has ended; it is killed, and the test failed, if it doesn't.
    #[allow(dead_code, reason = "not every test program waits for it with patience")]
    #[track_caller]
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().expect("running").try_wait().expect("ours") {
                self.child = None;
                return status;
            }
            if Instant::now() > give_up {
                let mut child = self.child.take().expect("running");
                let _ = child.kill().and_then(|()| child.wait());
                panic!("it did not end: {}", self.log());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL.
    #[allow(dead_code, reason = "not every test program kills it")]
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("it runs");
        child.wait().expect("waits");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself, or a test may have stopped it; the wait tells either way.
            for signal in [Signal::TERM, Signal::CONT] {
                let _ = kill_process(Pid::from_child(&child), signal);
            }
            let give_up = Instant::now() + PATIENCE;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > give_up {
                    let _ = child.kill();
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
