//! What the package brings beside the binaries: the unit, the manual page, the completions.
//!
//! Owns the bound on the unit's exposure, and the look that nothing of the command line is left
//! out. Needs no root; says so where a tool is missing.

#[path = "../../tests/common/manual.rs"]
mod manual;

use std::fs;
use std::path::Path;
use std::process::Command;

use barrierd_daemon::account::DEFAULT_NAME;
use barrierd_daemon::cli::Cli;
use clap::CommandFactory;
use manual::{has_all, is_shown_without_warnings, written};

const DIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist");

/// 1.6 by systemd 252, on its scale from 0 (best) to 10; a little more for versions that ask for more. 0.2 of
/// it are for ProtectClock, which would forbid adjtimex.
const MOST_EXPOSED: f64 = 1.7;

/// The tool's output, or `None`, said aloud, if there is no such tool.
fn run(tool: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(tool).args(arguments).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        Err(error) => {
            eprintln!("\n*** NOT RUN: {tool}: {error} ***\n");
            None
        }
    }
}

#[test]
fn the_unit_stays_as_closed_as_it_is() {
    let unit = format!("{DIST}/barrierd.service");
    let arguments = ["security", "--offline=true", "--no-pager", &unit];
    let Some(text) = run("systemd-analyze", &arguments) else { return };
    let words = "Overall exposure level for barrierd.service: ";
    let (_, level) = text.split_once(words).unwrap_or_else(|| panic!("no level in {text}"));
    let level: f64 = level.split(' ').next().expect("a word").parse().expect("a number");
    assert!(level <= MOST_EXPOSED, "{level}: {text}");
}

/// systemd goes by the order of the lines, and a group that is denied may hold what was allowed: the
/// daemon would start all the same, and never kick.
#[test]
fn what_the_start_needs_is_allowed_after_all_that_is_denied() {
    let unit = fs::read_to_string(Path::new(DIST).join("barrierd.service")).expect("the unit");
    let mut filters = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let last = filters.next_back().expect("a filter");
    for call in ["adjtimex", "bpf", "perf_event_open", "seccomp"] {
        assert!(last.split(' ').any(|word| word == call), "{call} is not in the last line: {last}");
    }
    // It makes a filter of its own, which the lines above don't undo.
    assert!(!unit.lines().any(|line| line == "ProtectClock=yes"), "ProtectClock forbids adjtimex");
}

#[test]
fn the_unit_and_the_user_are_those_of_the_program() {
    let unit = fs::read_to_string(Path::new(DIST).join("barrierd.service")).expect("the unit");
    let default = Path::new(barrierd_client::abi::DEFAULT_PATH);
    let directory = default.parent().and_then(Path::file_name).expect("below /run");
    for line in [
        "Type=notify",
        "RuntimeDirectoryPreserve=restart",
        &format!("RuntimeDirectory={}", directory.to_str().expect("ASCII")),
    ] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    let users = fs::read_to_string(Path::new(DIST).join("barrierd.sysusers")).expect("the users");
    assert!(users.lines().any(|line| line.starts_with(&format!("u {DEFAULT_NAME} - "))), "{users}");
}

#[test]
fn the_package_has_all_that_is_generated() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("there");
    for program in ["barrierd", "barrierctl"] {
        for name in [format!("{program}.bash"), format!("_{program}"), format!("{program}.fish")] {
            assert!(manifest.contains(&format!("\"target/release/dist/{name}\"")), "{name}");
        }
    }
    for page in ["barrierd.8", "barrierctl.1"] {
        assert!(manifest.contains(&format!("\"target/release/dist/{page}.gz\"")), "{page}");
    }
}

#[test]
fn manual_and_completions_have_every_option() {
    let out = written("barrierd_manual");
    let command = Cli::command();
    let options: Vec<&str> =
        command.get_arguments().filter_map(|argument| argument.get_long()).collect();
    assert!(options.contains(&"seccomp"), "{options:?}");
    for name in ["barrierd.8", "barrierd.bash", "_barrierd", "barrierd.fish"] {
        has_all(out.path(), name, &options);
    }
    is_shown_without_warnings(&out.path().join("barrierd.8"));
}
