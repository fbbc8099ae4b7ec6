//! A program's manual page and completions, which an example of its package writes. Two packages have this file as a module.

mod built;

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Runs the example. Returns the directory that it has written to.
pub(crate) fn written(example: &'static str) -> TempDir {
    let out = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(built::example(example));
    assert!(command.arg(out.path()).status().expect("it runs").success(), "{command:?} failed");
    out
}

/// Whether the text of the file `name` has each of `words`.
#[track_caller]
pub(crate) fn has_all(directory: &Path, name: &str, words: &[&str]) {
    // Manual pages write a hyphen that is meant as \-.
    let text = fs::read_to_string(directory.join(name)).expect(name).replace('\\', "");
    for word in words {
        assert!(text.contains(word), "{name} lacks {word}");
    }
}

/// Whether `man` shows the page without a warning; without a manual reader there is nothing to ask.
#[track_caller]
pub(crate) fn is_shown_without_warnings(page: &Path) {
    let mut man = Command::new("man");
    match man.args(["--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(page).output() {
        Ok(output) => {
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!text.contains("warning"), "{text}");
        }
        Err(error) => eprintln!("\n*** NOT RUN: man: {error} ***\n"),
    }
}
