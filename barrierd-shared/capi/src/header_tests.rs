//! `include/barrierd_shared.h` against this library and the layout: every number, every offset, every function.
//!
//! These tests need `cc`; without it they say so and pass, except where `CI` is set.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;

use barrierd_shared::raw::{self, RawReader};

use crate::c::BARRIERD_SHARED;
use crate::c::header::{declared, each_code_has_a_text, exported, named};
use crate::map::SharedMapType;
use crate::{SharedReader, code};

const HEADER: &str = include_str!("../include/barrierd_shared.h");
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

#[test]
fn every_number_of_the_header_is_the_librarys() {
    let expected = expected();
    assert_eq!(
        named(HEADER),
        expected.keys().cloned().collect(),
        "names in the header, names in Rust"
    );
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
    let Some(printed) = BARRIERD_SHARED.numbers(all.keys().map(String::as_str)) else { return };
    assert_eq!(printed, all);
}

#[test]
fn every_function_of_the_header_is_in_the_library_and_in_its_list_and_no_other() {
    let declared = declared(HEADER);
    let sources = [include_str!("lib.rs"), include_str!("map.rs"), include_str!("write.rs")];
    assert_eq!(declared, sources.into_iter().flat_map(exported).collect());
    let listed: BTreeSet<_> = SYMBOLS
        .lines()
        .filter_map(|line| line.strip_prefix(' '))
        .map(|line| line.split_once("@Base ").expect("a symbol and its version").0)
        .collect();
    assert_eq!(declared, listed);
    assert_eq!(declared.len(), 26);
}

#[test]
fn the_readmes_program_compiles() {
    BARRIERD_SHARED.page_compiles(include_str!("../README.md"));
}

#[test]
fn every_code_has_a_text_of_its_own() {
    each_code_has_a_text(code::TABLE, code::text, c"no error of libbarrierd-shared's");
}
