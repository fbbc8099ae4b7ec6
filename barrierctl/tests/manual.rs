//! The manual page and the completions: nothing of the command line is left out of them.

use std::fs;
use std::path::Path;
use std::process::Command;

use barrierctl::usage;

/// Whether the text of the file `name` has each of `words`.
#[track_caller]
fn has_all(directory: &Path, name: &str, words: &[&str]) {
    // Manual pages write a hyphen that is meant as \-.
    let text = fs::read_to_string(directory.join(name)).expect(name).replace('\\', "");
    for word in words {
        assert!(text.contains(word), "{name} lacks {word}");
    }
}

#[test]
fn manual_and_completions_have_every_verb_and_option() {
    let out = tempfile::tempdir().expect("a directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "-p", "barrierctl", "--example", "barrierctl_manual", "--"]);
    assert!(cargo.arg(out.path()).status().expect("cargo runs").success(), "{cargo:?} failed");
    let words: Vec<&str> = usage::VERBS
        .iter()
        .map(|verb| verb.name)
        .chain(usage::OPTIONS.iter().map(|option| option.long))
        .collect();
    assert!(words.contains(&"metrics") && words.contains(&"file"), "{words:?}");
    for name in ["barrierctl.1", "barrierctl.bash", "_barrierctl", "barrierctl.fish"] {
        has_all(out.path(), name, &words);
    }
    let exits: Vec<&str> = usage::EXITS.iter().map(|exit| exit.1).collect();
    has_all(out.path(), "barrierctl.1", &exits);
    let page = out.path().join("barrierctl.1");
    let mut man = Command::new("man");
    match man.args(["--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(&page).output() {
        Ok(output) => {
            let text =
                String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(!text.contains("warning"), "{text}");
        }
        Err(error) => eprintln!("\n*** NOT RUN: man: {error} ***\n"),
    }
}
