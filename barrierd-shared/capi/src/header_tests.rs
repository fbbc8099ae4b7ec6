//! `include/barrierd_shared.h` against this library and the layout: every number, every offset, every function.
//!
//! The header is hand-written, so nothing else keeps it true. The compiler says what it means: a C program prints it.
//! These tests need `cc`; without it they say so and pass, except where `CI` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::mem::offset_of;

use barrierd_shared::raw::{self, RawReader};

use crate::cc::{Language, compile};
use crate::map::SharedMapType;
use crate::{SharedReader, code};

const HEADER: &str = include_str!("../include/barrierd_shared.h");
const INCLUDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/include");
const SYMBOLS: &str = include_str!("../libbarrierd-shared0.symbols");

/// What each name of the header must be. Texts are checked apart.
fn expected() -> BTreeMap<String, i128> {
    let layout = [
        ("LAYOUT", raw::VERSION),
        ("ROOTS_AT", raw::ROOTS_AT),
        ("ROOTS", barrierd_shared::ROOTS as u64),
        ("BLOCKS", raw::BLOCKS),
        ("IDLE", raw::IDLE),
        ("TAG", raw::TAG),
        ("DATA", 0),
        ("SLOTS", 1),
        ("WRITERS", 2),
    ];
    let codes = code::TABLE.iter().map(|&(name, number, _)| (name, i128::from(number)));
    let all = codes.chain(layout.map(|(name, value)| (name, value.into())));
    all.map(|(name, value)| (format!("BARRIERD_SHARED_{name}"), value)).collect()
}

/// Every offset that the structure has in C, and here.
const OFFSETS: [(&str, usize); 6] = [
    ("latest", offset_of!(RawReader, latest)),
    ("slot", offset_of!(RawReader, slot)),
    ("process", offset_of!(RawReader, process)),
    ("number", offset_of!(RawReader, number)),
    ("data", offset_of!(RawReader, data)),
    ("bytes", offset_of!(RawReader, bytes)),
];

/// The same of what a program takes a map for.
const OF_A_MAP: [(&str, usize); 4] = [
    ("root", offset_of!(SharedMapType, root)),
    ("key_bytes", offset_of!(SharedMapType, key_bytes)),
    ("value_bytes", offset_of!(SharedMapType, value_bytes)),
    ("schema", offset_of!(SharedMapType, schema)),
];

/// Names in capitals that the header gives a value, by an enumeration or a `#define`.
fn named() -> BTreeSet<String> {
    let defines = HEADER.lines().filter_map(|line| line.strip_prefix("#define "));
    let entries =
        HEADER.lines().filter(|line| line.starts_with("\tBARRIERD_") && line.contains(" = "));
    let word = |line: &str| line.trim().split([' ', '=']).next().expect("a word").to_owned();
    defines.chain(entries).map(word).filter(|name| name != "BARRIERD_SHARED_H").collect()
}

#[test]
fn every_number_of_the_header_is_the_librarys() {
    let expected = expected();
    assert_eq!(named(), expected.keys().cloned().collect(), "names in the header, names in Rust");
    let mut all: BTreeMap<String, i128> = expected;
    for (name, at) in OFFSETS {
        let expression = format!("offsetof(struct barrierd_shared_reader, {name})");
        all.insert(expression, (offset_of!(SharedReader, raw) + at) as i128);
    }
    for (name, at) in OF_A_MAP {
        all.insert(format!("offsetof(struct barrierd_shared_map, {name})"), at as i128);
    }
    let bytes = size_of::<SharedMapType>() as i128;
    all.insert("sizeof(struct barrierd_shared_map)".into(), bytes);

    let mut program =
        String::from("#include <barrierd_shared.h>\n#include <stdio.h>\nint main(void) {\n");
    for expression in all.keys() {
        writeln!(program, "printf(\"%s=%lld\\n\", \"{expression}\", (long long)({expression}));")
            .expect("to a string");
    }
    program.push_str("return 0;\n}\n");
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("print.c");
    std::fs::write(&source, program).expect("written");
    let compiled = compile(&source, Language::C99, INCLUDE.as_ref(), dir.path());
    let Some(program) = compiled else { return };
    let output = crate::cc::program(&program).output().expect("it runs");
    let printed = String::from_utf8(output.stdout).expect("ASCII");
    let printed: BTreeMap<String, i128> = printed
        .lines()
        .map(|line| line.split_once('=').expect("name=value"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect();
    assert_eq!(printed, all);
}

#[test]
fn every_function_of_the_header_is_in_the_library_and_in_its_list_and_no_other() {
    let declared: BTreeSet<_> = HEADER
        .lines()
        .filter(|line| line.ends_with([';', ',']) && !line.starts_with([' ', '\t', '#']))
        .filter(|line| !line.starts_with("static"))
        .filter_map(|line| line.split_once('('))
        .map(|(before, _)| before.rsplit([' ', '*']).next().expect("a name"))
        .collect();
    let sources = [include_str!("lib.rs"), include_str!("map.rs"), include_str!("write.rs")];
    let defined: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| source.split("#[unsafe(no_mangle)]\npub ").skip(1))
        .map(|rest| rest.split_once("fn ").expect("a function").1)
        .map(|rest| rest.split_once('(').expect("its parameters").0)
        .collect();
    assert_eq!(declared, defined);
    let listed: BTreeSet<_> = SYMBOLS
        .lines()
        .filter_map(|line| line.strip_prefix(' '))
        .map(|line| line.split_once("@Base ").expect("a symbol and its version").0)
        .collect();
    assert_eq!(declared, listed);
    assert_eq!(declared.len(), 26);
}

/// The C block of the README, as the body of a function after its `#include`.
#[test]
fn the_readmes_program_compiles() {
    let block = include_str!("../README.md").split("\n```c\n").nth(1).expect("a block of C");
    let block = block.split_once("\n```").expect("its end").0;
    let body = block.strip_prefix("#include <barrierd_shared.h>\n").expect("an #include");
    let program =
        format!("#include <barrierd_shared.h>\nint main(void) {{\n{body}\nreturn r;\n}}\n");
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join("readme.c");
    std::fs::write(&source, program).expect("written");
    compile(&source, Language::C99, INCLUDE.as_ref(), dir.path());
}

#[test]
fn every_code_has_a_text_of_its_own() {
    let numbers: BTreeSet<_> = code::TABLE.iter().map(|&(_, number, _)| number).collect();
    let texts: BTreeSet<_> = code::TABLE.iter().map(|&(_, _, text)| text).collect();
    assert_eq!((numbers.len(), texts.len()), (code::TABLE.len(), code::TABLE.len()));
    assert!(texts.iter().all(|text| text.to_bytes().is_ascii() && !text.is_empty()));
    assert_eq!(code::text(-999), c"no error of libbarrierd-shared's");
}
