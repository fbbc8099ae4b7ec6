//! What `scripts/install_c.sh` installs is what a C program finds: by pkg-config when it is compiled, by the
//! dynamic linker when it runs.

mod tool;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tool::run;

/// The page for C programmers.
const PAGE: &str = include_str!("../../../docs/c.md");
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

fn install(prefix: &Path) -> Command {
    let mut install = Command::new(Path::new(PACKAGE).join("../../scripts/install_c.sh"));
    install.env("PREFIX", prefix).env("PROFILE", "dev");
    install.env_remove("DESTDIR").env_remove("LIBDIR");
    install
}

/// The client must have come as far as the file, which isn't there.
#[track_caller]
fn asks_for_the_daemon(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(code == Some(1) && said.contains("start barrierd"), "{code:?}: {said}");
}

#[test]
fn a_program_builds_by_pkg_config_and_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    if run(&mut install(dir.path())).is_none() {
        return;
    }
    let lib = dir.path().join("lib");
    let config = |options: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.args(options).arg("barrierd").env("PKG_CONFIG_PATH", lib.join("pkgconfig"));
        run(&mut command)
    };
    let Some(version) = config(&["--modversion"]) else { return };
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
    for kind in [&[][..], &["--static"]] {
        let options = config(&[&["--cflags", "--libs"], kind].concat()).expect("there");
        let program = dir.path().join("client");
        let mut cc = Command::new("cc");
        cc.arg("-std=c99").arg("-o").arg(&program);
        cc.arg(Path::new(PACKAGE).join("examples/client.c"));
        if kind.is_empty() {
            // What the script's line about this directory says.
            cc.arg(format!("-Wl,-rpath,{}", lib.display()));
        } else {
            cc.arg("-Wl,-Bstatic");
        }
        let options = options.split_whitespace();
        // Static for this library alone: a C library that is static as well is another matter.
        for option in options {
            cc.arg(option);
            if !kind.is_empty() && option == "-lbarrierd" {
                cc.arg("-Wl,-Bdynamic");
            }
        }
        run(&mut cc).expect("cc is there, as pkg-config is");
        let needed = run(Command::new("readelf").arg("-d").arg(&program)).unwrap_or_default();
        assert_eq!(needed.contains("libbarrierd.so.0"), kind.is_empty(), "{needed}");
        let output = Command::new(&program).arg(dir.path().join("no-such-file")).output();
        asks_for_the_daemon(&output.expect("it runs"));
    }
}

/// A mount namespace in which /etc, /var/cache and /usr/local are this test's own: `ldconfig` is run for real,
/// and nothing of it is left.
const IN_A_NAMESPACE: &str = r#"
cp -a /etc/. "$0/etc"
rm -rf "$0/etc/ld.so.conf.d"
echo "$1" >"$0/etc/ld.so.conf"
mount --bind "$0/etc" /etc
mount --bind "$0/cache" /var/cache
mount --bind "$0/lib" /usr/local/lib
mount --bind "$0/include" /usr/local/include
ldconfig
eval "$2"
cd "$0"
eval "$3"
exec ./a.out no-such-file
"#;

/// What docs/c.md tells to type, where ld.so looks into `searched` beside its own directories.
fn by_the_page(searched: &str) -> Option<Output> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, and CI must run it");
        eprintln!("\n*** NOT RUN: this test mounts, which needs root ***\n");
        return None;
    }
    // A line without its prompt and what is said of it.
    let line = |start: &str| {
        let line = PAGE.lines().find(|line| line.get(2..).is_some_and(|l| l.starts_with(start)));
        let line = line.unwrap_or_else(|| panic!("no {start:?} in docs/c.md"));
        line[2..].split("   ").next().expect("a command").to_owned()
    };
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["etc", "cache", "lib", "include"] {
        fs::create_dir(dir.path().join(name)).expect("made");
    }
    let source = Path::new(PACKAGE).join("examples/client.c");
    fs::copy(source, dir.path().join("client.c")).expect("copied");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-euc", IN_A_NAMESPACE]);
    command.arg(dir.path()).arg(searched).args([line("make install-c "), line("cc client.c ")]);
    command.current_dir(Path::new(PACKAGE).join("../..")).env("PROFILE", "dev");
    for name in ["LD_LIBRARY_PATH", "PKG_CONFIG_PATH", "DESTDIR", "LIBDIR"] {
        command.env_remove(name);
    }
    Some(command.output().expect("util-linux is there"))
}

#[test]
fn b10_the_pages_commands_make_a_program_that_runs() {
    let Some(output) = by_the_page("/usr/local/lib") else { return };
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(!printed.contains("ld.so"), "nothing is missing here: {printed}");
    asks_for_the_daemon(&output);
}

#[test]
fn b10_where_the_linker_does_not_look_the_missing_line_is_said() {
    let Some(output) = by_the_page("/usr/lib") else { return };
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("LD_LIBRARY_PATH=/usr/local/lib"), "{printed}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(127) && said.contains("libbarrierd.so.0"), "{said}");
}

/// `ldconfig` and `id` are the test's own, which see this directory as one that ld.so searches.
#[test]
fn b10_ldconfig_is_for_root_and_never_for_packages() {
    let dir = tempfile::tempdir().expect("a directory");
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).expect("made");
    let stub = |name: &str, text: &str| {
        fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("chmod");
    };
    let (lib, ran) = (dir.path().join("lib"), dir.path().join("ran"));
    stub(
        "ldconfig",
        &format!(
            "if [ $# -gt 0 ]; then echo '{}: (from /etc/ld.so.conf:1)'; else echo >'{}'; fi",
            lib.display(),
            ran.display()
        ),
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("set"));
    let installed = |user: &str, package: bool| {
        stub("id", &format!("echo {user}"));
        let mut install = install(dir.path());
        install.env("PATH", &path);
        if package {
            install.env("DESTDIR", dir.path().join("root"));
        }
        run(&mut install).map(|printed| (printed, fs::remove_file(&ran).is_ok()))
    };
    let Some(by_root) = installed("0", false) else { return };
    assert_eq!(by_root, (String::new(), true));
    let (printed, ran) = installed("1000", false).expect("as before");
    assert!(printed.contains("root has run: ldconfig") && !ran, "{printed}");
    assert_eq!(installed("0", true), Some((String::new(), false)));
}
