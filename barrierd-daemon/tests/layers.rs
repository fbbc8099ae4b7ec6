//! The pure parts import pure parts alone: neither I/O, nor the kernel side, nor the modules that do either.
//!
//! Owns the list of pure modules, which the crate's documentation calls by that word, and what counts as impure.

use std::fs;
use std::path::Path;

/// Rules without clock or I/O.
const PURE: [&str; 10] = [
    "bucket",
    "cpulist",
    "inheritance",
    "laggards",
    "machine",
    "pace",
    "recognition",
    "requests",
    "seccomp_policy",
    "straggler",
];

/// Where the way out of a pure module would begin. libc is there for its numbers: its functions are `unsafe`.
const IMPURE: [&str; 11] = [
    "barrierd_bpf::",
    "libbpf_rs::",
    "memmap2::",
    "rustix::",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "unsafe {",
];

/// What is impure in the source of a pure module, its tests and comments left out.
fn impurities(source: &str) -> Vec<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.filter(|line| {
        let own = line.split("crate::").nth(1).and_then(|rest| rest.split("::").next());
        let own = own.map(|module| module.trim_end_matches(';'));
        IMPURE.iter().any(|way| line.contains(way)) || own.is_some_and(|it| !PURE.contains(&it))
    })
    .map(str::to_owned)
    .collect()
}

#[test]
fn pure_parts_import_pure_parts_alone() {
    for module in PURE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module);
        let source = fs::read_to_string(path.with_extension("rs")).expect(module);
        assert_eq!(impurities(&source), Vec::<String>::new(), "in {module}");
    }
}

#[test]
fn what_is_not_pure_is_found() {
    for line in [
        "pub use barrierd_bpf::layout::IDLE;",
        "use crate::kick::Means;",
        "use crate::clock;",
        "let now = std::time::Instant::now();",
    ] {
        let source = format!(
            "//! crate::kick\nuse crate::cpulist::CpuSet;\n{line}\n#[cfg(test)]\nuse std::fs;\n"
        );
        assert_eq!(impurities(&source), [line]);
    }
}
