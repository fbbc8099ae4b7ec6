//! `include/barrierd.h` against this library and `abi.rs`: every number, every offset, every function.
//!
//! The header is hand-written, so nothing else keeps it true. The compiler says what it means: a C
//! program prints it. These tests need `cc`; without it they say so and pass, except where `CI` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;

use barrierd_client::abi;

use crate::code;

const HEADER: &str = include_str!("../include/barrierd.h");
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include");

/// What each name of the header must be. Texts are checked apart.
fn expected() -> BTreeMap<String, i128> {
    let mut all = BTreeMap::new();
    let mut put =
        |name: &str, value: i128| assert_eq!(all.insert(name.into(), value), None, "{name}");
    for &(name, number, _) in code::TABLE {
        put(&format!("BARRIERD_{name}"), number.into());
    }
    for (name, number) in [
        ("ALIVE", code::ALIVE),
        ("STOPPED", code::STOPPED),
        ("SUSPECT", code::SUSPECT),
        ("STALE", code::STALE),
    ] {
        put(&format!("BARRIERD_{name}"), number.into());
    }
    for (name, offset) in [
        ("MAGIC", abi::MAGIC),
        ("VERSION", abi::VERSION),
        ("FLAGS", abi::FLAGS),
        ("BOOT_ID", abi::BOOT_ID),
        ("GENERATION", abi::GENERATION),
        ("HEARTBEAT_NS", abi::HEARTBEAT_NS),
        ("TRUSTED_VTIME", abi::TRUSTED_VTIME),
        ("TRUSTED_LAST_VTIME", abi::TRUSTED_LAST_VTIME),
        ("PER_CPU", abi::PER_CPU),
    ] {
        put(&format!("BARRIERD_{name}"), offset as i128);
    }
    for (name, value) in [
        ("MAGIC_VALUE", abi::MAGIC_VALUE),
        ("VERSION_VALUE", abi::VERSION_VALUE),
        ("FLAG_STOPPED", abi::FLAG_STOPPED),
        ("FLAG_PER_CPU_EXACT", abi::FLAG_PER_CPU_EXACT),
        ("FLAG_EASY", abi::FLAG_EASY),
        ("HEARTBEAT_PERIOD_NS", abi::HEARTBEAT_PERIOD_NS),
    ] {
        put(&format!("BARRIERD_{name}"), value.into());
    }
    all
}

/// Every offset and size that the structures have in C, and in `abi.rs`.
const STRUCTURES: &[(&str, usize)] = &[
    ("offsetof(struct barrierd_mapped_data, ncpu)", abi::NCPU),
    ("offsetof(struct barrierd_mapped_data, vtime)", abi::VTIME),
    ("offsetof(struct barrierd_mapped_data, last_interrupt_ns)", abi::LAST_INTERRUPT_NS),
    ("offsetof(struct barrierd_mapped_data, last_interrupt_vtime)", abi::LAST_INTERRUPT_VTIME),
    ("offsetof(struct barrierd_mapped_data, padding)", abi::MAGIC),
    ("offsetof(struct barrierd_mapped_data, per_cpu)", abi::PER_CPU),
    ("sizeof(struct barrierd_mapped_data)", abi::size_for(0)),
    ("sizeof(struct barrierd_per_cpu)", abi::PER_CPU_STRIDE),
    ("offsetof(struct barrierd_per_cpu, last_interrupt_ns)", abi::per_cpu_ns(0) - abi::PER_CPU),
    (
        "offsetof(struct barrierd_per_cpu, last_interrupt_vtime)",
        abi::per_cpu_vtime(0) - abi::PER_CPU,
    ),
];

/// Names in capitals that the header gives a value, by an enumeration or a `#define`.
fn named() -> BTreeSet<String> {
    let defines = HEADER.lines().filter_map(|line| line.strip_prefix("#define "));
    let entries =
        HEADER.lines().filter(|line| line.starts_with("\tBARRIERD_") && line.contains(" = "));
    let word = |line: &str| line.trim().split([' ', '=']).next().expect("a word").to_owned();
    defines.chain(entries).map(word).filter(|name| name != "BARRIERD_H").collect()
}

#[test]
fn every_number_of_the_header_is_the_librarys() {
    let expected = expected();
    let mut named = named();
    assert!(named.remove("BARRIERD_DEFAULT_PATH"));
    assert!(HEADER.contains(&format!("#define BARRIERD_DEFAULT_PATH \"{}\"\n", abi::DEFAULT_PATH)));
    assert_eq!(named, expected.keys().cloned().collect(), "names in the header, names in Rust");

    let mut program = String::from("#include <barrierd.h>\n#include <stdio.h>\nint main(void) {\n");
    let expressions =
        STRUCTURES.iter().map(|&(text, _)| text.to_owned()).chain(expected.keys().cloned());
    for expression in expressions {
        writeln!(program, "printf(\"%s=%lld\\n\", \"{expression}\", (long long)({expression}));")
            .expect("to a string");
    }
    program.push_str("return 0;\n}\n");
    let Some(printed) = run_c(&program, &[]) else { return };
    let printed: BTreeMap<&str, i128> = printed
        .lines()
        .map(|line| line.split_once('=').expect("name=value"))
        .map(|(name, value)| (name, value.parse().expect("a number")))
        .collect();
    for (name, value) in STRUCTURES {
        assert_eq!(printed[name], *value as i128, "{name}");
    }
    for (name, value) in &expected {
        assert_eq!(printed[name.as_str()], *value, "{name}");
    }
}

#[test]
fn every_function_of_the_header_is_in_the_library_and_no_other() {
    let declared: BTreeSet<_> = HEADER
        .lines()
        .filter(|line| line.ends_with(';') && !line.starts_with([' ', '\t', '#']))
        .filter_map(|line| line.split_once('('))
        .map(|(before, _)| before.rsplit([' ', '*']).next().expect("a name").to_owned())
        .collect();
    let marker = "#[unsafe(no_mangle)]\npub ";
    let defined: BTreeSet<_> = include_str!("lib.rs")
        .split(marker)
        .skip(1)
        .map(|rest| rest.split_once("fn ").expect("a function").1)
        .map(|rest| rest.split_once('(').expect("its parameters").0.to_owned())
        .collect();
    assert_eq!(declared, defined);
    assert_eq!(declared.len(), 13);
}

/// Every C block of docs/c.md and of the README, as the body of a function after its `#include`s.
#[test]
fn the_pages_for_c_programmers_compile() {
    let pages = [include_str!("../../../docs/c.md"), include_str!("../README.md")];
    let blocks = pages.map(|page| page.split("\n```c\n").skip(1).collect::<Vec<_>>());
    assert!(blocks.iter().all(|blocks| !blocks.is_empty()));
    for block in blocks.concat() {
        let block = block.split_once("\n```").expect("its end").0;
        let (includes, body) = block.rsplit_once("#include <barrierd.h>\n").expect("an #include");
        let program = format!(
            "{includes}#include <barrierd.h>\nvoid readme(void);\n\
             void readme(void) {{\n{body}\n(void)r;\n}}\nint main(void) {{ return 0; }}\n"
        );
        // Not linked: `main` calls nothing, and the library isn't there.
        run_c(&program, &["-c"]);
    }
}

#[test]
fn every_code_has_a_text_of_its_own() {
    let numbers: BTreeSet<_> = code::TABLE.iter().map(|&(_, number, _)| number).collect();
    let texts: BTreeSet<_> = code::TABLE.iter().map(|&(_, _, text)| text).collect();
    assert_eq!((numbers.len(), texts.len()), (code::TABLE.len(), code::TABLE.len()));
    assert!(texts.iter().all(|text| text.to_bytes().is_ascii() && !text.is_empty()));
    assert_eq!(code::text(-999), c"no error of libbarrierd's");
    assert_eq!(code::text(1), c"no error of libbarrierd's");
}

/// What `program` prints, compiled with `options`, and nothing with `-c`; `None`, said aloud, where there is
/// no C compiler.
fn run_c(program: &str, options: &[&str]) -> Option<String> {
    let dir = tempfile::tempdir().expect("a directory");
    let (source, binary) = (dir.path().join("print.c"), dir.path().join("print"));
    std::fs::write(&source, program).expect("written");
    let compiled = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", INCLUDE])
        .args(options)
        .arg("-o")
        .args([&binary, &source])
        .output();
    match compiled {
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "cc: {error}, and CI must run this test");
            eprintln!("\n*** NOT RUN: cc: {error} ***\n");
            None
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{said}");
            if options.contains(&"-c") {
                return Some(String::new());
            }
            let output = Command::new(&binary).output().expect("it runs");
            assert!(output.status.success());
            Some(String::from_utf8(output.stdout).expect("ASCII"))
        }
    }
}
