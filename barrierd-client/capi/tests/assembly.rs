//! The header's inline readers as compilers make them, for x86-64 and for aarch64: the fence of a stamp is
//! there and comes before the clock; a load that tells of a barrier is an Acquire.
//!
//! Needs clang, which compiles for either; without it this says so and passes, except where `CI` is set.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Outside of any C library, so that no other machine's headers are needed.
const TIME_H: &str = "struct timespec { long tv_sec; long tv_nsec; };\n\
    #define CLOCK_MONOTONIC 1\nint clock_gettime(int, struct timespec *);\n";

const PROGRAM: &str = "#include <barrierd.h>\n\
    uint64_t stamp(void) { return barrierd_stamp_inline(); }\n\
    int passed(const struct barrierd_mapped_data *d, uint64_t t) { return barrierd_data_passed(d, t); }\n\
    int vpassed(const struct barrierd_mapped_data *d, uint64_t t) { return barrierd_data_vpassed(d, t); }\n\
    uint64_t vstamp(const struct barrierd_mapped_data *d, uint64_t *p)\n\
    { *p = 7; uint64_t v = barrierd_data_vstamp(d); *p = 8; return v; }\n";

/// The first clang that runs.
fn clang() -> Option<PathBuf> {
    let named = std::env::var_os("CLANG").map(PathBuf::from);
    let usual =
        std::iter::once("clang".to_owned()).chain((14..=19).rev().map(|n| format!("clang-{n}")));
    let found = named
        .into_iter()
        .chain(usual.map(PathBuf::from))
        .find(|clang| Command::new(clang).arg("--version").output().is_ok());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no clang, and CI must run this test");
        eprintln!("\n*** NOT RUN: no clang ***\n");
    }
    found
}

/// The instructions of each function of [`PROGRAM`], by name.
fn assembled(clang: &Path, machine: &str) -> impl Fn(&str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("readers.c");
    std::fs::write(&source, PROGRAM).expect("written");
    std::fs::write(dir.path().join("time.h"), TIME_H).expect("written");
    let output = Command::new(clang)
        .args(["-S", "-O2", "-std=c99", "-ffreestanding", "-fno-asynchronous-unwind-tables"])
        .arg(format!("--target={machine}-linux-gnu"))
        .args(["-o", "-", "-I", concat!(env!("CARGO_MANIFEST_DIR"), "/include"), "-isystem"])
        .args([dir.path(), &source])
        .output()
        .expect("clang runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("ASCII");
    move |name| {
        let (_, rest) = text.split_once(&format!("\n{name}:")).expect("the function");
        rest.split("\n.Lfunc_end").next().expect("its end").to_owned()
    }
}

#[track_caller]
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        rest =
            rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} in its place: {text}")).1;
    }
}

#[test]
fn on_x86_64() {
    let Some(clang) = clang() else { return };
    let function = assembled(&clang, "x86_64");
    in_order(&function("stamp"), &["mfence", "clock_gettime"]);
    in_order(&function("passed"), &["16(%rdi)"]);
    in_order(&function("vpassed"), &["96(%rdi)"]);
    // The change stands before the load; neither is moved by the compiler.
    in_order(&function("vstamp"), &["$7, (%rsi)", "88(%rdi)", "$8, (%rsi)"]);
}

#[test]
fn on_aarch64() {
    let Some(clang) = clang() else { return };
    let function = assembled(&clang, "aarch64");
    in_order(&function("stamp"), &["dmb\tish\n", "clock_gettime"]);
    for (name, offset) in [("passed", "#16"), ("vpassed", "#96")] {
        in_order(&function(name), &[offset, "ldar\t"]);
    }
    let vstamp = function("vstamp");
    in_order(&vstamp, &["str\t", "ldr\t", "#88", "str\t"]);
}
