//! What orders what on AArch64: litmus tests, and a small machine for them.
//!
//! Owns the verdicts: each file says what must come of it, and each that says "never" has mutants that must come true.
//! The tests in `known/` hold the machine itself to what is known of the model. They are written as for herd7, which was
//! not at hand to try them, and which knows no counter (`MRS`).

mod model;
mod parse;

use model::Atomics;
use parse::{Expect, Litmus};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn all(folder: &str) -> BTreeMap<String, Litmus> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/litmus").join(folder);
    let files = fs::read_dir(&folder).expect("the folder");
    let read = |path: &Path| {
        let litmus = parse::parse(&fs::read_to_string(path).expect("a file"));
        assert_eq!(path.file_stem().expect("a name").to_string_lossy(), litmus.name);
        (litmus.name.clone(), litmus)
    };
    files.map(|file| read(&file.expect("a file").path())).collect()
}

fn judge(tests: &BTreeMap<String, Litmus>) {
    let wrong: Vec<String> = tests
        .values()
        .filter(|litmus| {
            model::is_possible(litmus, Atomics::Today) != (litmus.expect == Expect::Sometimes)
        })
        .map(|litmus| format!("{}: not {:?}", litmus.name, litmus.expect))
        .collect();
    assert!(wrong.is_empty(), "of {}: {wrong:#?}", tests.len());
}

#[test]
fn the_machine_gives_the_known_verdicts() {
    judge(&all("known"));
}

#[test]
fn barrierd_is_sound_on_aarch64_and_each_mutant_is_not() {
    judge(&all("ours"));
}

/// Of all that is claimed, one thing rests on the manual's later words on such exchanges: a daemon that goes to sleep
/// is woken at once, not by its own time.
#[test]
fn no_barrier_rests_on_an_exchange_s_own_store_being_early() {
    let tests = all("ours");
    let sound = tests.values().filter(|litmus| litmus.expect == Expect::Never);
    let broken: Vec<&str> = sound
        .filter(|litmus| model::is_possible(litmus, Atomics::AtFirst))
        .map(|litmus| litmus.name.as_str())
        .collect();
    assert_eq!(broken, ["sleep"]);
}

/// A test that can't come true whatever the order says nothing.
#[test]
fn each_sound_test_has_a_mutant() {
    let tests = all("ours");
    for mutant in tests.values().filter(|litmus| litmus.expect == Expect::Sometimes) {
        let sound = mutant.mutant_of.as_ref().expect("a mutant names what it breaks");
        assert_eq!(tests[sound].expect, Expect::Never, "{}", mutant.name);
    }
    // Two ways to do the same exchange, or the same load, share their mutants.
    let is_broken = |name: &str| tests.values().any(|l| l.mutant_of.as_deref() == Some(name));
    for litmus in tests.values().filter(|litmus| litmus.expect == Expect::Never) {
        let name = litmus.name.as_str();
        let plain = ["-swpal", "-casal", "-llsc", "-pc", "-client-acquires"]
            .iter()
            .find_map(|way| name.strip_suffix(way))
            .unwrap_or(name);
        let ways = [name.to_owned(), plain.to_owned(), format!("{plain}-swpal")];
        assert!(ways.iter().any(|name| is_broken(name)), "{name}: no mutant");
    }
}
