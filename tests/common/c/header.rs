//! What a C header says, for tests that hold a library to it.
//!
//! The headers are hand-written, so nothing else keeps them true. The compiler says what their numbers are: a C program
//! prints them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, c_int};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use super::{Language, Library, Link, WARNINGS, compiled, run};

/// Names in capitals that the header gives a value, by an enumeration or a `#define`; not the one by which it guards
/// itself.
pub fn named(header: &str) -> BTreeSet<String> {
    let defines = header.lines().filter_map(|line| line.strip_prefix("#define "));
    let entries =
        header.lines().filter(|line| line.starts_with("\tBARRIERD_") && line.contains(" = "));
    let word = |line: &str| line.trim().split([' ', '=']).next().expect("a word").to_owned();
    defines.chain(entries).map(word).filter(|name| !name.ends_with("_H")).collect()
}

/// Functions that it declares and leaves to the library.
pub fn declared(header: &str) -> BTreeSet<&str> {
    header
        .lines()
        .filter(|line| line.ends_with([';', ',']) && !line.starts_with([' ', '\t', '#']))
        .filter(|line| !line.starts_with("static"))
        .filter_map(|line| line.split_once('('))
        .map(|(before, _)| before.rsplit([' ', '*']).next().expect("a name"))
        .collect()
}

/// Functions that a library's source exports.
pub fn exported(source: &str) -> BTreeSet<&str> {
    source
        .split("#[unsafe(no_mangle)]\npub ")
        .skip(1)
        .map(|rest| rest.split_once("fn ").expect("a function").1)
        .map(|rest| rest.split_once('(').expect("its parameters").0)
        .collect()
}

/// Each code has a text that no other has, and `text` has one for numbers that are no codes.
#[track_caller]
pub fn each_code_has_a_text(
    table: &[(&str, c_int, &CStr)],
    text: impl Fn(c_int) -> &'static CStr,
    none: &CStr,
) {
    let numbers: BTreeSet<_> = table.iter().map(|&(_, number, _)| number).collect();
    let texts: BTreeSet<_> = table.iter().map(|&(_, _, text)| text).collect();
    assert_eq!((numbers.len(), texts.len()), (table.len(), table.len()));
    assert!(texts.iter().all(|text| text.to_bytes().is_ascii() && !text.is_empty()));
    for &(name, number, own) in table {
        assert_eq!(text(number), own, "{name}");
    }
    for number in [-999, 1] {
        assert_eq!(text(number), none);
    }
}

impl Library {
    /// Compiles a program's text, and links nothing; `None`, said aloud, where there is no compiler.
    fn compile_text(
        &self,
        program: &str,
        options: &[&str],
        dir: &Path,
    ) -> Option<std::path::PathBuf> {
        let source = dir.join("program.c");
        std::fs::write(&source, program).expect("written");
        self.compile(&source, Language::C99, Link::None, options, dir)
    }

    /// What each of these expressions is in C; `None`, said aloud, where there is no compiler.
    pub fn numbers<'a>(
        &self,
        expressions: impl IntoIterator<Item = &'a str>,
    ) -> Option<BTreeMap<String, i128>> {
        let mut program =
            format!("#include <{}>\n#include <stdio.h>\nint main(void) {{\n", self.header);
        for text in expressions {
            writeln!(program, "printf(\"%s=%lld\\n\", \"{text}\", (long long)({text}));")
                .expect("to a string");
        }
        program.push_str("return 0;\n}\n");
        let dir = tempfile::tempdir().expect("a directory");
        let printed = run(&self.compile_text(&program, &[], dir.path())?, &[]);
        let numbers = printed
            .lines()
            .map(|line| line.split_once('=').expect("name=value"))
            .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")));
        Some(numbers.collect())
    }

    /// Every C block of `page`, as the body of a function after its `#include`s, compiles. Not linked: nothing calls it.
    #[track_caller]
    pub fn page_compiles(&self, page: &str) {
        let include = format!("#include <{}>\n", self.header);
        let blocks: Vec<_> = page.split("\n```c\n").skip(1).collect();
        assert!(!blocks.is_empty(), "a page for C programmers without C");
        for block in blocks {
            let block = block.split_once("\n```").expect("its end").0;
            let (includes, body) = block.rsplit_once(&include).expect("an #include");
            let program = format!(
                "{includes}{include}void readme(void);\nvoid readme(void) {{\n{body}\n(void)r;\n}}\n"
            );
            let dir = tempfile::tempdir().expect("a directory");
            self.compile_text(&program, &["-c"], dir.path());
        }
    }

    /// `program`, which uses the header, is compiled without a warning by every compiler and in every language that is
    /// here.
    pub fn pleases_every_compiler(&self, program: &str) {
        let dir = tempfile::tempdir().expect("a directory");
        let c = &["c99", "c11", "c17", "gnu17"][..];
        let cxx = &["c++11", "c++14", "c++17", "c++20"][..];
        for (compiler, suffix, standards, must) in [
            ("cc", "c", c, true),
            ("c++", "cc", cxx, true),
            ("clang", "c", c, false),
            ("clang++", "cc", cxx, false),
        ] {
            let source = dir.path().join(format!("header.{suffix}"));
            std::fs::write(&source, program).expect("written");
            for standard in standards {
                let mut command = Command::new(compiler);
                command.arg(format!("-std={standard}")).args(WARNINGS).args(["-O2", "-c", "-o"]);
                command.arg(dir.path().join("header.o")).arg(&source);
                command.arg("-I").arg(self.folder().join("include"));
                if !compiled(&mut command, must) {
                    break;
                }
            }
        }
    }
}
