//! Programs of this workspace that tests run: built by cargo, once in each process of tests, so that no test runs a stale one.
//!
//! Several packages have this file as a module. What these programs depend on is as `cargo test --workspace` has built it, and
//! so is not built again with fewer features: hence all packages are named, and an example, beside which cargo counts the
//! features that tests ask for.

#![allow(dead_code, reason = "not each of its users has both kinds")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// Builds an example of any package.
pub(crate) fn example(name: &'static str) -> PathBuf {
    built(&["--example", name]).join("examples").join(name)
}

/// Builds a program of any package.
pub(crate) fn program(name: &'static str) -> PathBuf {
    built(&["--bin", name, "--example", "shared_memory"]).join(name)
}

/// Returns the folder in which they are.
fn built(targets: &[&'static str]) -> PathBuf {
    static BUILT: Mutex<BTreeMap<Vec<&str>, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().expect("cargo built those before");
    let build = || {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--workspace"]).args(targets);
        assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
        // target/<profile>/deps/<this test>
        let test = std::env::current_exe().expect("this test's path");
        test.ancestors().nth(2).expect("target/profile").into()
    };
    built.entry(targets.to_vec()).or_insert_with(build).clone()
}
