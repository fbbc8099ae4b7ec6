//! Tools that tests run: what they print, if they succeeded.

use std::process::Command;

/// Runs it and returns its output; `None`, said aloud, where there is no such program.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Option<String> {
    match command.output() {
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{command:?}: {error}, and CI must run this");
            eprintln!("\n*** NOT RUN: {command:?}: {error} ***\n");
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let printed = String::from_utf8(output.stdout).expect("UTF-8");
            assert!(output.status.success(), "{command:?}: {said}{printed}");
            Some(printed)
        }
    }
}
