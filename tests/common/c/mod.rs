//! C programs for tests of both C libraries: compiled as C99 and as C++17, warnings refused, linked with the library.
//!
//! Several packages have this file as a module. Where there is no compiler these tests say so and pass, except where
//! `CI` is set. Tests of another target, which an emulator runs, compile for that target, and link statically: nothing of
//! it is looked for at run time.

#![allow(dead_code, unreachable_pub, reason = "none of its users uses all of it")]

pub mod header;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What runs programs of this test's target, where that is not this machine's (`scripts/targets.sh`).
pub fn emulator() -> Option<OsString> {
    std::env::var_os("BARRIERD_TEST_EMULATOR")
}

/// Starts a program of this test's target.
pub fn program(binary: &Path) -> Command {
    let Some(emulator) = emulator() else { return Command::new(binary) };
    let mut command = Command::new(emulator);
    command.arg(binary);
    command
}

/// A library for C programs, and where it is.
#[derive(Debug)]
pub struct Library {
    package: &'static str,
    folder: &'static str,
    header: &'static str,
    /// What cargo builds, without its suffix.
    built: &'static str,
    /// The name by which programs look for it.
    soname: &'static str,
}

pub const BARRIERD: Library = Library {
    package: "barrierd-capi",
    folder: "barrierd-client/capi",
    header: "barrierd.h",
    built: "libbarrierd",
    soname: "libbarrierd.so.0",
};

pub const BARRIERD_SHARED: Library = Library {
    package: "barrierd-shared-capi",
    folder: "barrierd-shared/capi",
    header: "barrierd_shared.h",
    built: "libbarrierd_shared_c",
    soname: "libbarrierd-shared.so.0",
};

/// A language, with what compiles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    C99,
    Cxx17,
}

impl Language {
    pub const BOTH: [Self; 2] = [Self::C99, Self::Cxx17];

    /// Compiler, and its options that name the language.
    fn words(self) -> (&'static str, [&'static str; 2]) {
        match self {
            Self::C99 => ("cc", ["-std=c99", "-xc"]),
            Self::Cxx17 => ("c++", ["-std=c++17", "-xc++"]),
        }
    }
}

/// How the library comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Shared,
    Static,
    /// Not at all.
    None,
}

/// What `rustc --print native-static-libs` names for these libraries.
const STATIC_NEEDS: [&str; 7] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"];

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

impl Library {
    /// The package's own folder, whichever package asks.
    pub fn folder(&self) -> PathBuf {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().find(|at| at.join("tests/common/c/mod.rs").exists());
        root.expect("a package of the workspace").join(self.folder)
    }

    /// Where the compiled libraries of this source are.
    fn libraries(&self) -> PathBuf {
        // target/<profile>/deps/<this test>, or target/<target>/<profile>/deps/<this test>
        let test = std::env::current_exe().expect("this test's path");
        let at = |above: usize| test.ancestors().nth(above).expect("a target folder");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", self.package]);
        if emulator().is_some() {
            cargo.arg("--target").arg(at(3).file_name().expect("a target"));
            cargo.arg("--target-dir").arg(at(4));
        }
        assert!(cargo.status().expect("cargo runs").success(), "{cargo:?} failed");
        at(2).into()
    }

    /// Compiles `source` (absolute, or below the package) into `dir`; `None`, said aloud, where there is no compiler, and
    /// for C++ of another target.
    pub fn compile(
        &self,
        source: impl AsRef<Path>,
        language: Language,
        link: Link,
        options: &[&str],
        dir: &Path,
    ) -> Option<PathBuf> {
        let source = self.folder().join(source);
        let (mut compiler, words) = language.words();
        let crossed = format!("{}-linux-gnu-gcc", std::env::consts::ARCH);
        let foreign = emulator().is_some();
        if foreign {
            if language != Language::C99 {
                return None;
            }
            compiler = &crossed;
        }
        let name = source.file_stem().expect("a name").to_string_lossy();
        let binary = dir.join(format!("{name}-{language:?}-{link:?}-{}", options.concat()));
        let mut command = Command::new(compiler);
        command.args(words).args(WARNINGS).args(["-O2", "-pthread"]).args(options);
        command.arg("-I").arg(self.folder().join("include"));
        command.arg("-o").arg(&binary).arg(&source).arg("-xnone");
        match link {
            Link::Shared | Link::Static if foreign => {
                let built = self.libraries().join(self.built).with_extension("a");
                command.arg(built).args(["-static", "-lpthread", "-lm"]);
            }
            Link::Shared => {
                // As an installation has it: programs look for the library by its own name.
                let versioned = dir.join(self.soname);
                let built = self.libraries().join(self.built).with_extension("so");
                std::fs::copy(built, &versioned).expect("copied");
                command.arg(versioned).arg(format!("-Wl,-rpath,{}", dir.display()));
            }
            Link::Static => {
                let built = self.libraries().join(self.built).with_extension("a");
                command.arg(built).args(STATIC_NEEDS);
            }
            Link::None => {}
        }
        compiled(&mut command, true).then_some(binary)
    }
}

/// Runs a compiler, which must have nothing to say. False, said aloud, where there is no such compiler, except where it
/// must be there and `CI` is set.
fn compiled(command: &mut Command, must: bool) -> bool {
    match command.output() {
        Err(error) => {
            let compiler = command.get_program();
            let must = must && std::env::var_os("CI").is_some();
            assert!(!must, "{compiler:?}: {error}, and CI must run this test");
            eprintln!("\n*** NOT RUN: {compiler:?}: {error} ***\n");
            false
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}:\n{said}");
            true
        }
    }
}

/// Runs it; its output, if it succeeded.
#[track_caller]
pub fn run(binary: &Path, arguments: &[&str]) -> String {
    let output = program(binary).args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}: {said}",
        binary.display(),
        output.status
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}
