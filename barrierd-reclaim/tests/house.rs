//! The house keeps its order: no folder imports what stands above it, no file of two ideas grows unnoticed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders and files at the root of `src`, each above those that it may import. `tests` of a file may import
/// anything.
const ORDER: &[&str] = &[
    "platform",   // what is asked of the system
    "sync",       // the atomics, or loom's
    "later",      // a sum of times, and sleeps that double
    "locks",      // mutexes that a panic does not break
    "panics",     // those of foreign code, which end here
    "error",      // what calls fail with
    "process",    // forks
    "protocol",   // stamps, readers, scans, holders
    "evidence",   // where barriers come from
    "meter",      // what is counted
    "bag",        // a thread's queue
    "engine",     // records, and the way of an item from its queue to its destructor
    "report",     // what people hear of
    "background", // the thread
    "domain",     // the engine, and what is told of it
    "api",        // what users call
    "rcu",        // a cell in safe code
    "epoch",      // crossbeam-epoch's interface, beside it
];

/// Not part of the order: prose, models, and the root.
const APART: &[&str] = &["docs", "models", "lib"];

/// A file may be longer than this only with its reason here.
const LINES: usize = 400;
const LONG: &[(&str, &str)] = &[
    ("bag/mod.rs", "push, work and takeover argue about the same three words"),
    ("bag/work.rs", "what an owner does inside its queue, on one structure"),
    ("engine/record.rs", "one structure in two cache lines, and who may touch which field"),
    (
        "models/collected.rs",
        "one domain, and what may become of a record in it, by scans and by bounds",
    ),
];

fn files(dir: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, all);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            all.push(path);
        }
    }
}

/// Each file of the crate: its path below `src`, and its text without tests.
fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    assert!(all.len() > 50, "the sources are there");
    all.iter()
        .map(|path| {
            let name = path.strip_prefix(&src).expect("below").to_str().expect("plain").to_owned();
            let text = fs::read_to_string(path).expect("readable");
            (name, without_tests(&text).to_owned())
        })
        .collect()
}

/// A file's text as far as its module of tests, which is its last.
fn without_tests(text: &str) -> &str {
    let mut from = 0;
    while let Some(at) = text[from..].find("\n#[cfg(all(test") {
        let attribute = from + at + 1;
        let next = text[attribute..].split('\n').nth(1).unwrap_or("");
        if next.starts_with("mod ") {
            return &text[..attribute];
        }
        from = attribute;
    }
    text
}

/// The folder, or the file at the root, that a path begins with.
fn room(name: &str) -> &str {
    let first = name.split('/').next().expect("not empty");
    first.strip_suffix(".rs").unwrap_or(first)
}

/// What a text imports from the crate: the rooms behind `crate::`, in `use` lines and in paths.
fn imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in text.lines() {
        let code = line.split("//").next().expect("not empty");
        for path in code.split("crate::").skip(1) {
            let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
            // What begins with a capital is public, and so named where users see it.
            if path.starts_with(|c: char| c.is_lowercase()) {
                rooms.insert(path[..end].to_owned());
            }
        }
    }
    rooms
}

fn rank(room: &str) -> Option<usize> {
    ORDER.iter().position(|known| *known == room)
}

/// The arrows of `sources` that point up, or to or from a room without a place.
fn wrong_arrows(sources: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, text) in sources {
        let from = room(name);
        if APART.contains(&from) || name == "epoch/tests.rs" || name.ends_with("tests.rs") {
            continue;
        }
        let Some(own) = rank(from) else {
            wrong.push(format!("{name}: {from} has no place in the order"));
            continue;
        };
        for to in imports(text) {
            if rank(&to).is_none_or(|other| other > own) && to != "models" {
                wrong.push(format!("{name} imports {to}"));
            }
        }
    }
    wrong
}

#[test]
fn no_room_imports_what_stands_above_it() {
    let wrong = wrong_arrows(&sources());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_arrow_that_points_up_is_found() {
    let one = |name: &str, text: &str| wrong_arrows(&[(name.to_owned(), text.to_owned())]).len();
    assert_eq!(one("bag/work.rs", "use crate::protocol::Safe;"), 0);
    assert_eq!(one("bag/work.rs", "use crate::engine::Engine;"), 1);
    assert_eq!(one("bag/work.rs", "    let x = crate::domain::local::find();"), 1);
    assert_eq!(one("bag/work.rs", "// crate::domain is above"), 0);
    assert_eq!(one("attic/work.rs", ""), 1);
}

/// The methods in blocks that begin with this line, in the files of a room.
fn methods(sources: &[(String, String)], of: &str, begin: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (_, text) in sources.iter().filter(|(name, _)| room(name) == of) {
        for block in text.split(begin).skip(1) {
            let block = block.split("\n}\n").next().expect("not empty");
            for method in block.split("fn ").skip(1) {
                let (name, rest) = method.split_at(method.find(['(', '<']).unwrap_or(0));
                let arguments = rest.split_once('(').map_or("", |(_, arguments)| arguments);
                if arguments.trim_start().starts_with("&self") {
                    all.insert(name.to_owned());
                }
            }
        }
    }
    all
}

/// A domain derefs to its engine: a method of both would be another one where the call is written in another place.
#[test]
fn no_method_of_a_domain_hides_one_of_its_engine() {
    let domain = methods(&sources(), "domain", "\nimpl Domain {\n");
    let engine = methods(&sources(), "engine", "\nimpl Engine {\n");
    assert!(domain.len() > 20 && engine.len() > 80, "{} and {}", domain.len(), engine.len());
    assert_eq!(domain.intersection(&engine).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn long_files_have_a_reason() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(name, lines)| *lines > LINES && !LONG.iter().any(|(known, _)| known == name))
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// The thread that makes it may be one that a fork does not copy, and its child would wait for ever.
#[test]
fn nothing_is_made_once_under_a_lock() {
    for (path, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let once = ["OnceLock", "LazyLock", "Once::"].iter().find(|name| line.contains(*name));
            assert!(once.is_none(), "{path}: {}", line.trim());
        }
    }
}
