//! `include/barrierd.h` against this library and `abi.rs`: every number, every offset, every function.
//!
//! These tests need `cc`; without it they say so and pass, except where `CI` is set.

use std::collections::BTreeMap;

use barrierd_client::abi;

use crate::c::BARRIERD;
use crate::c::header::{declared, each_code_has_a_text, exported, named};
use crate::code;

const HEADER: &str = include_str!("../include/barrierd.h");

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

#[test]
fn every_number_of_the_header_is_the_librarys() {
    let expected = expected();
    let mut named = named(HEADER);
    assert!(named.remove("BARRIERD_DEFAULT_PATH"));
    assert!(HEADER.contains(&format!("#define BARRIERD_DEFAULT_PATH \"{}\"\n", abi::DEFAULT_PATH)));
    assert_eq!(named, expected.keys().cloned().collect(), "names in the header, names in Rust");

    let structures = STRUCTURES.iter().map(|&(text, _)| text);
    let expressions = structures.chain(expected.keys().map(String::as_str));
    let Some(printed) = BARRIERD.numbers(expressions) else { return };
    for (name, value) in STRUCTURES {
        assert_eq!(printed[*name], *value as i128, "{name}");
    }
    for (name, value) in &expected {
        assert_eq!(printed[name.as_str()], *value, "{name}");
    }
}

#[test]
fn every_function_of_the_header_is_in_the_library_and_no_other() {
    let declared = declared(HEADER);
    assert_eq!(declared, exported(include_str!("lib.rs")));
    assert_eq!(declared.len(), 13);
}

#[test]
fn the_pages_for_c_programmers_compile() {
    BARRIERD.page_compiles(include_str!("../../../docs/c.md"));
    BARRIERD.page_compiles(include_str!("../README.md"));
}

#[test]
fn every_code_has_a_text_of_its_own() {
    each_code_has_a_text(code::TABLE, code::text, c"no error of libbarrierd's");
}
