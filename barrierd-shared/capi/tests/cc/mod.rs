//! C programs for tests: compiled as C99 and as C++17, warnings refused, linked with this library.
//!
//! Where there is no compiler these tests say so and pass, except where `CI` is set.

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

/// Where `libbarrierd_shared_c.so` of this source is.
fn library() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "barrierd-shared-capi"]);
    assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
    // target/<profile>/deps/<this test>
    let test = std::env::current_exe().expect("this test's path");
    test.ancestors().nth(2).expect("target/profile").join("libbarrierd_shared_c.so")
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
    // As an installation has it: programs look for the library by its own name.
    let versioned = dir.join("libbarrierd-shared.so.0");
    std::fs::copy(library(), &versioned).expect("copied");
    let name = source.file_stem().expect("a name").to_string_lossy();
    let binary = dir.join(format!("{name}-{language:?}"));
    let mut command = Command::new(compiler);
    command.args(words).args(WARNINGS).args(["-O2", "-I"]).arg(include);
    command.arg("-o").arg(&binary).arg(source).arg("-xnone").arg(versioned);
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
