//! `barrierctl` run once, and what it prints: for the tests here, and for those beside a live daemon.

use std::path::Path;
use std::process::{Command, Output};

/// `program`, which is a `barrierctl`, on `file` with these arguments.
pub(crate) fn barrierctl(program: &Path, file: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("--file").arg(file).args(args);
    command
}

/// What `command` prints, after it ended with `status`.
#[track_caller]
pub(crate) fn printed(command: &mut Command, status: i32) -> String {
    let Output { status: found, stdout, stderr } = command.output().expect("started");
    let text = String::from_utf8(stdout).expect("UTF-8");
    assert_eq!(found.code(), Some(status), "{text}\n{}", String::from_utf8_lossy(&stderr));
    text
}

/// The same, read as JSON by somebody else's reader.
#[track_caller]
pub(crate) fn json(command: &mut Command, status: i32) -> serde_json::Value {
    let text = printed(command, status);
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why} in {text}"))
}
