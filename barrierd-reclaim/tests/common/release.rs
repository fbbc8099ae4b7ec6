//! Examples of this package, built for release beside the tests.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// The example, with this `--cfg` where there is one. By a compiler that adds the flag to the workspace's own crates, so that
/// nothing else is built twice.
pub(crate) fn build(example: &str, cfg: Option<&str>) -> PathBuf {
    let target = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(3)
        .expect("target/profile/deps/this test")
        .join("disassembly");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--example", example]);
    cargo.args(["-p", "barrierd-reclaim", "--target-dir"]).arg(&target);
    // Sanitizers and models have other code.
    for other in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(other);
    }
    if let Some(cfg) = cfg {
        let compiler = target.join(cfg);
        std::fs::create_dir_all(&target).unwrap();
        write(&compiler, format!("#!/bin/sh\nexec \"$@\" --cfg {cfg}\n")).unwrap();
        set_permissions(&compiler, Permissions::from_mode(0o755)).unwrap();
        cargo.env("RUSTC_WORKSPACE_WRAPPER", compiler);
    }
    assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
    target.join("release/examples").join(example)
}
