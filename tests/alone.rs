//! `scripts/alone.sh`, which runs each test of a program in a process of its own: no test is lost, and none fails unheard.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

/// Runs the tests of a program that lists `names`, and of which each says and does what `test` has a shell do: its name is `$2`.
fn run(names: &str, test: &str) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let program = dir.path().join("program");
    let list = format!("if [ \"$1\" = --list ]; then printf '{names}'; exit; fi");
    fs::write(&program, format!("#!/bin/sh\n{list}\n{test}\n")).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/alone.sh");
    let Output { status, stdout, stderr } =
        Command::new(script).arg(&program).output().expect("it runs");
    (status.success(), String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

const PASSES: &str = "echo 'test result: ok. 1 passed; 0 failed; 0 ignored'";

#[test]
fn all_are_run() {
    let (passed, said) = run("a::b: test\\nc: test\\n", PASSES);
    assert!(passed && said.contains("2 passed, 0 failed"), "{said}");
    assert!(said.contains("test a::b ... ok") && said.contains("test c ... ok"), "{said}");
}

#[test]
fn one_that_fails_is_heard() {
    let fails = format!("[ $2 = c ] && echo 'it is so' && exit 101\n{PASSES}");
    let (passed, said) = run("a: test\\nc: test\\nd: test\\n", &fails);
    assert!(!passed && said.contains("test c ... FAILED") && said.contains("it is so"), "{said}");
}

#[test]
fn one_that_did_not_run_has_not_passed() {
    let (passed, said) = run("a: test\\n", "echo 'test result: ok. 0 passed; 0 failed; 1 ignored'");
    assert!(!passed, "{said}");
    let (passed, said) = run("", PASSES);
    assert!(!passed && said.contains("has no tests"), "{said}");
}
