//! The instructions that a program runs, which valgrind counts.

use std::path::Path;
use std::process::Command;

/// All instructions of `program NAME TIMES`.
pub(crate) fn count(program: &Path, name: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &times.to_string()])
        .output()
        .expect("valgrind is installed (scripts/deps.sh test)");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("Collected : "));
    line.unwrap_or_else(|| panic!("no count: {text}")).1.trim().parse().expect("a number")
}
