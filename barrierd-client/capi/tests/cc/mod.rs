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
    pub(crate) const BOTH: [Self; 2] = [Self::C99, Self::Cxx17];

    /// Compiler, and its options that name the language.
    fn words(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::C99 => ("cc", &["-std=c99", "-xc"]),
            Self::Cxx17 => ("c++", &["-std=c++17", "-xc++"]),
        }
    }
}

/// How the library comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Shared,
    Static,
    /// Not at all.
    #[allow(dead_code, reason = "not every test program has such a program")]
    None,
}

/// What `rustc --print native-static-libs` names for this library.
const STATIC_NEEDS: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

/// The package's own directory.
pub(crate) fn package() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Also used by the workspace's tests, which are another package's.
    if root.join("include/barrierd.h").exists() {
        root.into()
    } else {
        root.join("barrierd-client/capi")
    }
}

/// Where `libbarrierd.so` and `libbarrierd.a` of this source are.
fn libraries() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "barrierd-capi"]);
    assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
    // target/<profile>/deps/<this test>
    let test = std::env::current_exe().expect("this test's path");
    test.ancestors().nth(2).expect("target/profile").into()
}

/// Compiles `source` (below the package) into `dir`; `None`, said aloud, where there is no compiler.
pub(crate) fn compile(
    source: &str,
    language: Language,
    link: Link,
    options: &[&str],
    dir: &Path,
) -> Option<PathBuf> {
    let (compiler, words) = language.words();
    let name = Path::new(source).file_stem().expect("a name").to_string_lossy();
    let binary = dir.join(format!("{name}-{language:?}-{link:?}-{}", options.concat()));
    let mut command = Command::new(compiler);
    command.args(words).args(["-O2", "-pthread", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    command.args(options).arg("-I").arg(package().join("include"));
    command.arg("-o").arg(&binary).arg(package().join(source)).arg("-xnone");
    match link {
        Link::Shared => {
            // As an installation has it: programs look for the library by its own name.
            let libraries = libraries();
            let versioned = dir.join("libbarrierd.so.0");
            std::fs::copy(libraries.join("libbarrierd.so"), &versioned).expect("copied");
            command.arg(versioned).arg(format!("-Wl,-rpath,{}", dir.display()));
        }
        Link::Static => {
            command.arg(libraries().join("libbarrierd.a")).args(STATIC_NEEDS);
        }
        Link::None => {}
    }
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

/// Runs it; its output, if it succeeded.
#[track_caller]
pub(crate) fn run(binary: &Path, arguments: &[&str]) -> String {
    let output = Command::new(binary).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}: {said}",
        binary.display(),
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}
