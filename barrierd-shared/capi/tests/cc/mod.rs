//! C programs for tests: compiled as C99 and as C++17, warnings refused, linked with this library.
//!
//! Where there is no compiler these tests say so and pass, except where `CI` is set.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A language, with what compiles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C99,
    Cxx17,
}

impl Language {
    #[allow(dead_code, reason = "not every test compiles in both")]
    pub(crate) const BOTH: [Self; 2] = [Self::C99, Self::Cxx17];
}

const WARNINGS: [&str; 8] = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wsign-conversion",
    "-Wshadow",
    "-Wundef",
    "-Werror",
];

/// What runs programs of this test's target, where that is not this machine's (`scripts/targets.sh`).
pub(crate) fn emulator() -> Option<OsString> {
    std::env::var_os("BARRIERD_TEST_EMULATOR")
}

/// Starts a program of this test's target.
pub(crate) fn program(binary: &Path) -> Command {
    let Some(emulator) = emulator() else { return Command::new(binary) };
    let mut command = Command::new(emulator);
    command.arg(binary);
    command
}

/// Where the library of this source is: `libbarrierd_shared_c` with this suffix.
fn library(suffix: &str) -> PathBuf {
    // target/<profile>/deps/<this test>, or target/<target>/<profile>/deps/<this test>
    let test = std::env::current_exe().expect("this test's path");
    let at = |above: usize| test.ancestors().nth(above).expect("a target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "barrierd-shared-capi"]);
    if emulator().is_some() {
        cargo.arg("--target").arg(at(3).file_name().expect("a target"));
        cargo.arg("--target-dir").arg(at(4));
    }
    assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
    at(2).join(format!("libbarrierd_shared_c.{suffix}"))
}

/// Compiles `source` into `dir` against the header in `include`, and links it if it is to run; `None`, said aloud, where
/// there is no compiler.
pub(crate) fn compile(
    source: &Path,
    language: Language,
    include: &Path,
    dir: &Path,
) -> Option<PathBuf> {
    let (compiler, words) = match language {
        Language::C99 => ("cc", ["-std=c99", "-xc"]),
        Language::Cxx17 => ("c++", ["-std=c++17", "-xc++"]),
    };
    let crossed = format!("{}-linux-gnu-gcc", std::env::consts::ARCH);
    let (compiler, versioned) = if emulator().is_some() {
        // Nothing of the target's is looked for at run time; there is one compiler.
        if language != Language::C99 {
            return None;
        }
        (&*crossed, library("a"))
    } else {
        // As an installation has it: programs look for the library by its own name.
        let versioned = dir.join("libbarrierd-shared.so.0");
        std::fs::copy(library("so"), &versioned).expect("copied");
        (compiler, versioned)
    };
    let name = source.file_stem().expect("a name").to_string_lossy();
    let binary = dir.join(format!("{name}-{language:?}"));
    let mut command = Command::new(compiler);
    command.args(words).args(WARNINGS).args(["-O2", "-I"]).arg(include);
    command.arg("-o").arg(&binary).arg(source).arg("-xnone").arg(versioned);
    if emulator().is_some() {
        command.args(["-static", "-lpthread", "-lm"]);
    }
    command.arg(format!("-Wl,-rpath,{}", dir.display()));
    match command.output() {
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{compiler}: {error}, and CI must run this");
            eprintln!("\n*** NOT RUN: {compiler}: {error} ***\n");
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}:\n{said}");
            Some(binary)
        }
    }
}
