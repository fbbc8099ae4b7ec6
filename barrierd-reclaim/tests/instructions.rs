//! What a section of the drop-in takes, in instructions, against crossbeam-epoch: counted by valgrind.

use std::path::{Path, PathBuf};
use std::process::Command;

fn build() -> PathBuf {
    let target = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(3)
        .expect("target/profile/deps/this test")
        .join("disassembly");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--example", "sections"]);
    cargo.args(["-p", "barrierd-reclaim", "--target-dir"]).arg(&target);
    // Sanitizers and models have other code.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
    target.join("release/examples/sections")
}

/// All instructions of a run.
fn count(program: &Path, whose: &str, sections: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([whose, &sections.to_string()])
        .output()
        .expect("valgrind is installed (scripts/deps.sh test)");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("Collected : "));
    line.unwrap_or_else(|| panic!("no count: {text}")).1.trim().parse().expect("a number")
}

/// With the loop around it; once the guard is shown to `black_box`, which puts it into memory.
#[test]
fn a_section_is_a_third_of_the_original_s() {
    const FEW: u64 = 100_000;
    const MANY: u64 = 1_100_000;
    let program = build();
    // The rest of a run is no section.
    let a_section = |name: &str| {
        let more = count(&program, name, MANY).saturating_sub(count(&program, name, FEW));
        #[allow(clippy::cast_precision_loss, reason = "a few instructions")]
        let each = more as f64 / (MANY - FEW) as f64;
        each
    };
    for (here, original) in [("here", "original"), ("here_shown", "original_shown")] {
        let (here, original) = (a_section(here), a_section(original));
        println!("instructions a section: {here:.1} here, {original:.1} there");
        assert!(3.0 * here <= original, "{here} instructions of {original}");
    }
}
