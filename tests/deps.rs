//! What `scripts/deps.sh` says on machines that lack something: on a path that holds only what this test puts there,
//! beside a file that names another distribution.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A machine: what is on its path, a home directory, and /etc/os-release.
struct Machine(tempfile::TempDir);

impl Machine {
    /// With what the script itself calls, and a user who isn't root.
    fn new(release: &str) -> Self {
        let machine = Self(tempfile::tempdir().expect("a directory"));
        fs::create_dir_all(machine.at("home/.cargo/bin")).expect("made");
        fs::create_dir(machine.at("bin")).expect("made");
        fs::write(machine.at("os-release"), release).expect("written");
        for tool in ["bash", "sh", "sed", "sort", "head", "dirname"] {
            let path = std::env::var("PATH").expect("set");
            let found = std::env::split_paths(&path).map(|dir| dir.join(tool));
            let found = found.filter(|path| path.exists()).last().expect("any machine has it");
            symlink(found, machine.at("bin").join(tool)).expect("linked");
        }
        machine.put("bin/id", "echo 1000");
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that does this.
    fn put(&self, name: &str, text: &str) {
        fs::write(self.at(name), format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", self.at("bin")).env("HOME", self.at("home"));
        command.env("OS_RELEASE", self.at("os-release"));
        command
    }

    fn deps(&self, step: &str) -> Output {
        let script = Path::new(ROOT).join("scripts/deps.sh");
        self.command(&script).arg(step).output().expect("it runs")
    }

    /// What it says of what is missing.
    fn complains(&self, step: &str) -> String {
        let output = self.deps(step);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }
}

const DEBIAN: &str = "ID=debian\n";

#[test]
fn b13_each_distribution_is_told_its_own_names() {
    for (release, line) in [
        (
            DEBIAN,
            "apt-get install gcc make rustup pkg-config clang libelf-dev zlib1g-dev libseccomp-dev",
        ),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get install gcc "),
        (
            "ID=fedora\n",
            "dnf install gcc make rustup pkgconf-pkg-config clang elfutils-libelf-devel zlib-devel \
             libseccomp-devel",
        ),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf install gcc "),
        ("ID=arch\n", "pacman -S gcc make rustup pkgconf clang libelf zlib libseccomp"),
        (
            "ID=alpine\n",
            "apk add gcc musl-dev make rustup pkgconf clang elfutils-dev zlib-dev libseccomp-dev",
        ),
        (
            "ID=\"opensuse-tumbleweed\"\nID_LIKE=\"opensuse suse\"\n",
            "zypper install gcc make rustup pkgconf-pkg-config clang libelf-devel zlib-devel \
             libseccomp-devel",
        ),
        (
            "ID=nixos\n",
            "nix-shell -p gcc gnumake cargo rustc pkg-config clang elfutils zlib libseccomp",
        ),
    ] {
        let machine = Machine::new(release);
        let said = machine.complains("build");
        assert!(said.contains(&format!("  {line}")), "{release}: {said}");
        assert_eq!(said.contains("apt-get"), line.starts_with("apt-get"), "{said}");
        // Another distribution's root is told the same, and nothing is installed.
        if !line.starts_with("apt-get") {
            machine.put("bin/id", "echo 0");
            assert_eq!(machine.complains("build"), said);
        }
    }
    let said = Machine::new("ID=plan9\n").complains("build");
    assert!(said.contains("their names in Debian") && !said.contains("  apt-get"), "{said}");
}

/// What is got by Debian's packages of arm64 is asked for nowhere else.
#[test]
fn machines_of_another_architecture_are_debian_s_alone() {
    let debian = Machine::new(DEBIAN).complains("vm");
    let packages = "qemu-system-x86 qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross";
    assert!(debian.contains(packages), "{debian}");
    let fedora = Machine::new("ID=fedora\n").complains("vm");
    assert!(fedora.trim_end().ends_with("qemu-system-x86") || fedora.contains("qemu-system-x86\n"));
    assert!(!fedora.contains("aarch64") && !fedora.contains(" - "), "{fedora}");
}

#[test]
fn b13_root_of_debian_gets_what_is_missing_by_apt() {
    let machine = Machine::new(DEBIAN);
    machine.put("bin/id", "echo 0");
    let log = machine.at("log");
    machine.put("bin/apt-get", &format!("echo \"$@\" >>'{}'", log.display()));
    // There after apt-get has run, as far as this test is concerned.
    machine.put("home/.cargo/bin/cargo", "echo cargo 99.0.0");
    let output = machine.deps("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = fs::read_to_string(log).expect("it was run");
    assert_eq!(log, "update -qq\ninstall -y -qq --no-install-recommends gcc make\n");
}

#[test]
fn b13_libraries_are_where_pkg_config_or_the_compiler_finds_them() {
    let machine = Machine::new(DEBIAN);
    for (name, text) in [
        ("cc", "exit 1"),
        ("make", ""),
        ("clang", "echo 19.1.7"),
        ("cargo", "echo cargo 99.0.0"),
        ("pkg-config", "[ \"$2\" != libelf ]"),
    ] {
        machine.put(&format!("bin/{name}"), text);
    }
    let said = machine.complains("build");
    assert!(said.starts_with("Missing: libelf-dev\n"), "{said}");
    machine.put("bin/cc", "read -r line; [ \"$line\" = '#include <libelf.h>' ]");
    let output = machine.deps("build");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn b12_an_old_cargo_is_named_and_rustups_goes_before_it() {
    let machine = Machine::new(DEBIAN);
    for name in ["cc", "make"] {
        machine.put(&format!("bin/{name}"), "");
    }
    machine.put("bin/cargo", "echo 'cargo 1.63.0 (fd9c4297c 2022-07-01)'");
    for rustup in [None, Some("echo cargo 1.70.0"), Some("exit 1")] {
        if let Some(text) = rustup {
            machine.put("home/.cargo/bin/cargo", text);
        }
        let said = machine.complains("run");
        let cargo = machine.at("bin/cargo").display().to_string();
        let right = format!("{cargo} is version 1.63.0, and this needs Rust {}", rust_version());
        assert!(said.contains(&right) && said.contains("rustup update stable"), "{said}");
    }
    machine.put("home/.cargo/bin/cargo", "echo cargo 1.100.0");
    let output = machine.deps("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // And `make` uses it.
    let make = std::env::split_paths(&std::env::var("PATH").expect("set"))
        .map(|dir| dir.join("make"))
        .find(|make| make.exists())
        .expect("make is there");
    let output = machine
        .command(&make)
        .current_dir(ROOT)
        .args(["-s", "--eval", "which: ; @command -v cargo", "which"])
        .output()
        .expect("it runs");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(Path::new(printed.trim()), machine.at("home/.cargo/bin/cargo"));
}

#[test]
fn b12_an_old_clang_is_named() {
    let machine = Machine::new(DEBIAN);
    machine.put("bin/clang", "echo 11.0.1");
    let said = machine.complains("build");
    assert!(said.contains("clang is version 11, and the BPF programs need 12"), "{said}");
}

fn rust_version() -> String {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("there");
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \""));
    line.expect("a version").trim_end_matches('"').to_owned()
}

/// The compiler with the standard library's source is rustup's nightly, where that can be had.
#[test]
fn rustup_goes_before_debian() {
    let script = Path::new(ROOT).join("scripts/rust_src.sh");
    let tries = |machine: &Machine, first: &[&str]| {
        for tool in ["realpath", "mkdir"] {
            let found = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(tool));
            let found = found.iter().find(|path| path.exists()).expect("any machine has it");
            symlink(found, machine.at("bin").join(tool)).expect("linked");
        }
        let mut command = machine.command(&script);
        command.args(first).arg(machine.at("folder"));
        let output = command.args(["sh", "-c", "echo with $RUSTUP_TOOLCHAIN"]).output();
        output.expect("it runs")
    };
    let root = |machine: &Machine| machine.at("nightly").display().to_string();
    let rustup = |machine: &Machine, adds: &str| {
        let root = root(machine);
        let text = format!(
            "case \"$*\" in\n\
             'run nightly rustc --print sysroot') echo {root} ;;\n\
             'run nightly rustc --version') ;;\n\
             'component add rust-src --toolchain nightly') {adds} ;;\n\
             *) exit 9 ;;\n\
             esac"
        );
        machine.put("bin/rustup", &text);
    };

    let machine = Machine::new("");
    let library = format!("{}/lib/rustlib/src/rust/library/std", root(&machine));
    rustup(&machine, &format!("mkdir -p {library} && : >{library}/Cargo.toml"));
    let output = tries(&machine, &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"with nightly\n");

    // It can't be had; nobody has it; Debian's is asked for.
    let without = Machine::new("");
    rustup(&without, "exit 1");
    let asked = Machine::new("");
    rustup(&asked, ":");
    for (machine, first) in [(without, &[][..]), (Machine::new(""), &[]), (asked, &["--debian"])] {
        let output = tries(&machine, first);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("no rustup that has nightly's rust-src, and no Debian"), "{said}");
    }
}
