//! What `scripts/install_c.sh` installs is what a C program finds by pkg-config.

use std::path::Path;
use std::process::Command;

/// Runs it and returns its output; `None`, said aloud, where there is no such program.
fn run(command: &mut Command) -> Option<String> {
    match command.output() {
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{command:?}: {error}, and CI must run this");
            eprintln!("\n*** NOT RUN: {command:?}: {error} ***\n");
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {said}");
            Some(String::from_utf8(output.stdout).expect("UTF-8"))
        }
    }
}

#[test]
fn a_program_builds_by_pkg_config_and_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut install = Command::new(package.join("../../scripts/install_c.sh"));
    install.env("PREFIX", dir.path()).env("PROFILE", "dev").env_remove("DESTDIR");
    if run(&mut install).is_none() {
        return;
    }
    let lib = dir.path().join("lib");
    // Nothing but the header's functions is there for other programs to trip over.
    if let Some(symbols) =
        run(Command::new("nm").args(["-D", "--defined-only"]).arg(lib.join("libbarrierd.so")))
    {
        let names: Vec<_> = symbols.lines().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(names.len(), 13, "{names:?}");
        assert!(names.iter().all(|name| name.starts_with("barrierd_")), "{names:?}");
    }
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
        cc.arg("-std=c99").arg("-o").arg(&program).arg(package.join("examples/client.c"));
        if !kind.is_empty() {
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
        let output = Command::new(&program)
            .arg(dir.path().join("no-such-file"))
            .env("LD_LIBRARY_PATH", &lib)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("start barrierd"), "{said}");
    }
}
