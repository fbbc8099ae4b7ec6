//! The Debian packages of the C interface (`scripts/deb_c.sh`), and the interface that they promise.

mod tool;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tool::run;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");
const HEADER: &str = include_str!("../include/barrierd.h");
const SYMBOLS: &str = include_str!("../libbarrierd0.symbols");
const SHARED_SYMBOLS: &str =
    include_str!("../../../barrierd-shared/capi/libbarrierd-shared0.symbols");
const SONAME: &str = "libbarrierd.so.0";

/// What the list of symbols names.
fn listed() -> BTreeSet<&'static str> {
    named_by(SYMBOLS)
}

fn named_by(symbols: &'static str) -> BTreeSet<&'static str> {
    let lines = symbols.lines().filter_map(|line| line.strip_prefix(' '));
    lines.map(|line| line.split_once("@Base ").expect("a symbol and its version").0).collect()
}

#[test]
fn b11_the_rule_names_the_library_and_the_list_names_the_headers_functions() {
    assert!(HEADER.contains(&format!("The interface of {SONAME} only grows.")));
    assert!(SYMBOLS.starts_with(&format!("{SONAME} libbarrierd0 #MINVER#\n")));
    let declared: BTreeSet<_> = HEADER
        .lines()
        .filter(|line| line.ends_with(';') && !line.starts_with([' ', '\t', '#']))
        .filter_map(|line| line.split_once('('))
        .map(|(before, _)| before.rsplit([' ', '*']).next().expect("a name"))
        .collect();
    assert_eq!(listed(), declared);
}

#[test]
fn b11_each_package_has_its_part_and_the_library_exports_the_list_and_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let mut build = Command::new(Path::new(PACKAGE).join("../../scripts/deb_c.sh"));
    build.arg(dir.path()).env("PROFILE", "dev");
    if run(Command::new("dpkg-deb").arg("--version")).is_none() || run(&mut build).is_none() {
        return;
    }
    let arch = run(Command::new("dpkg").arg("--print-architecture")).expect("as dpkg-deb");
    let deb = |package: &str| {
        at(&format!("{package}_{}-1_{}.deb", env!("CARGO_PKG_VERSION"), arch.trim()))
    };
    let dpkg_deb =
        |arguments: &[&str]| run(Command::new("dpkg-deb").args(arguments)).expect("as its version");
    let depends = |package: &str| dpkg_deb(&["-f", &deb(package), "Depends"]);
    let version = env!("CARGO_PKG_VERSION");
    let same = format!("libbarrierd0 (= {version}-1), libbarrierd-shared0 (= {version}-1)");
    assert_eq!(depends("libbarrierd-dev").trim(), same);
    assert!(depends("libbarrierd0").contains("libc6"), "{}", depends("libbarrierd0"));
    let control_of = |package: &str, file: &str| dpkg_deb(&["-I", &deb(package), file]);
    let control = |file: &str| control_of("libbarrierd0", file);
    assert_eq!(control("triggers").trim(), "activate-noawait ldconfig");
    assert_eq!(control("symbols"), SYMBOLS);

    // Where the files lie, without what comes before usr/.
    let files = |package: &str| -> Vec<String> {
        let list = dpkg_deb(&["-c", &deb(package)]);
        let paths = list.lines().filter_map(|line| line.split_once(" ./")).map(|(_, path)| path);
        let files = paths
            .filter(|path| !path.is_empty() && !path.ends_with('/') && !path.contains("/doc/"));
        files.map(|path| path.split(" -> ").next().expect("a path").to_owned()).collect()
    };
    let (runtime, dev) = (files("libbarrierd0"), files("libbarrierd-dev"));
    assert_eq!(runtime.len(), 2, "{runtime:?}");
    assert!(runtime.iter().all(|path| path.contains("libbarrierd.so.0")), "{runtime:?}");
    assert!(dev.contains(&"usr/include/barrierd/barrierd.h".to_owned()), "{dev:?}");
    let name = |path: &String| path.rsplit('/').next().expect("a name").to_owned();
    let names: BTreeSet<_> = dev.iter().map(name).collect();
    let expected = [
        "barrierd.h",
        "barrierd.pc",
        "barrierd_shared.h",
        "barrierd-shared.pc",
        "libbarrierd.a",
        "libbarrierd.so",
        "libbarrierd-shared.a",
        "libbarrierd-shared.so",
    ];
    assert_eq!(names, expected.map(String::from).into());

    // Both unpacked are what a program builds with, and what it runs with.
    let root = at("root");
    for package in ["libbarrierd0", "libbarrierd-shared0", "libbarrierd-dev"] {
        dpkg_deb(&["-x", &deb(package), &root]);
    }
    let library = format!("{root}/{}", runtime.iter().find(|p| p.ends_with(SONAME)).expect("it"));
    let exported =
        run(Command::new("nm").args(["-D", "--defined-only"]).arg(&library)).expect("binutils");
    let exported: BTreeSet<_> = exported.lines().filter_map(|l| l.rsplit(' ').next()).collect();
    assert_eq!(exported, listed());
    let headers = run(Command::new("readelf").arg("-d").arg(&library)).expect("binutils");
    assert!(headers.contains(&format!("Library soname: [{SONAME}]")), "{headers}");
    let lib = Path::new(&library).parent().expect("a directory");
    let shared = lib.join("libbarrierd-shared.so.0");
    let exported =
        run(Command::new("nm").args(["-D", "--defined-only"]).arg(&shared)).expect("binutils");
    let exported: BTreeSet<_> = exported.lines().filter_map(|l| l.rsplit(' ').next()).collect();
    assert_eq!(exported, named_by(SHARED_SYMBOLS));
    assert_eq!(control_of("libbarrierd-shared0", "symbols"), SHARED_SYMBOLS);
    let headers = run(Command::new("readelf").arg("-d").arg(&shared)).expect("binutils");
    assert!(headers.contains("Library soname: [libbarrierd-shared.so.0]"), "{headers}");
    for (name, source, words) in [
        ("barrierd", "examples/client.c", "start barrierd"),
        ("barrierd-shared", "../../barrierd-shared/capi/examples/watch_cell.c", "no region was"),
    ] {
        let mut config = Command::new("pkg-config");
        config.args(["--cflags", "--libs", name]).env("PKG_CONFIG_SYSROOT_DIR", &root);
        let options =
            run(config.env("PKG_CONFIG_LIBDIR", lib.join("pkgconfig"))).expect("pkg-config");
        let mut cc = Command::new("cc");
        cc.arg(Path::new(PACKAGE).join(source)).arg("-o").arg(at("client"));
        run(cc.args(options.split_whitespace())).expect("cc");
        let output = Command::new(at("client"))
            .arg(at("no-such-file"))
            .env("LD_LIBRARY_PATH", lib)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(words), "{said}");
    }
}
