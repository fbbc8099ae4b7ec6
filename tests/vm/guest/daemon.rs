//! A daemon in the guest.
//!
//! Owns its process and what it says. Knows nothing of why it was started.

use crate::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a daemon says only if something is wrong.
const COMPLAINTS: [&str; 3] =
    ["tracing is broken", "does not answer", "has not seen this daemon run"];

/// A daemon that is set up.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    file: PathBuf,
}

impl Daemon {
    /// Starts one that serves `file`; what it said, if it ends instead.
    pub(crate) fn start(mut command: Command, file: &Path) -> Result<Daemon, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let sink = log.clone();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                println!("  {line}");
                sink.lock().expect("no panics here").push_str(&format!("{line}\n"));
            }
        });
        let mut daemon = Daemon { child, log, reader: Some(reader), file: file.into() };
        let stop = Instant::now() + PATIENCE;
        while !daemon.said("Setup complete") {
            if daemon.child.try_wait().expect("a child").is_some() {
                daemon.reader.take().expect("once").join().expect("no panics there");
                return Err(daemon.log());
            }
            assert!(Instant::now() < stop, "the daemon is not set up, and doesn't end");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn said(&self, words: &str) -> bool {
        self.log.lock().expect("no panics there").contains(words)
    }

    /// Where in the kernel it is.
    fn stack(&self) -> String {
        let stack = std::fs::read_to_string(format!("/proc/{}/stack", self.child.id()));
        stack.unwrap_or_else(|error| error.to_string())
    }

    fn log(&self) -> String {
        self.log.lock().expect("no panics there").clone()
    }

    /// Whether it still runs, and has nothing to complain of.
    pub(crate) fn check(&mut self) {
        let ended = self.child.try_wait().expect("a child");
        assert!(ended.is_none(), "the daemon has ended: {ended:?}");
        for complaint in COMPLAINTS {
            assert!(!self.said(complaint), "the daemon complains: {complaint}");
        }
    }

    /// SIGTERM; all that it has said.
    pub(crate) fn stop(mut self) -> String {
        self.check();
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it runs");
        let stop = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < stop, "the daemon does not end: {}", self.stack());
            thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "the daemon's end: {status}");
        self.reader.take().expect("once").join().expect("no panics there");
        self.log()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A step has failed, or it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
