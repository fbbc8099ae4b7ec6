//! What CI runs in parts (`scripts/parts.sh`): together they are the whole, and commits in a row run them all.

#[path = "vm/choose.rs"]
mod choose;
#[allow(dead_code, reason = "which scenarios there are is all that matters here")]
#[path = "vm/scenarios.rs"]
mod scenarios;

use scenarios::SCENARIOS;
use std::collections::BTreeSet;
use std::process::Command;

/// What a script of this repository prints, a line each.
fn lines(script: &str, arguments: &[&str]) -> Vec<String> {
    let script = format!("{}/scripts/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(&script).args(arguments).output().expect("it runs");
    assert!(output.status.success(), "{script} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// The arguments of all parts that `make` is called with by that name.
fn of(target: &str) -> Vec<String> {
    let whole = lines("parts.sh", &["list"]);
    whole.iter().filter_map(|part| Some(part.strip_prefix(target)?.to_owned())).collect()
}

/// Asserts that each of `all` is in a part, and `once` in no second one.
fn assert_whole(all: &[&str], once: impl Fn(&str) -> bool, parts: Vec<Vec<String>>) {
    assert!(parts.iter().all(|part| !part.is_empty()), "one is empty: {parts:?}");
    for &one in all {
        let times = parts.iter().filter(|part| part.iter().any(|name| name == one)).count();
        assert!(times == 1 || times > 1 && !once(one), "{one} is in {times} parts");
    }
}

#[test]
fn commits_in_a_row_run_all_parts() {
    let whole: BTreeSet<_> = lines("parts.sh", &["list"]).into_iter().collect();
    for first in [0, 1, 700] {
        let row = first..first + whole.len();
        let run: BTreeSet<_> =
            row.flat_map(|number| lines("parts.sh", &[&number.to_string()])).collect();
        assert_eq!(run, whole, "from the commit with {first} before it on");
    }
    let this = lines("parts.sh", &[]);
    assert!(this.len() == 1 && whole.contains(&this[0]), "{this:?}");
}

#[test]
fn every_scenario_is_in_a_part() {
    let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    let part = |word: &String| {
        let all = SCENARIOS.iter().enumerate();
        let chosen = all.filter(|(number, scenario)| choose::is_meant(word, *number, scenario));
        chosen.map(|(_, scenario)| scenario.name.to_owned()).collect()
    };
    // What runs here takes no emulator, and is in several.
    let emulated = |name: &str| !name.ends_with("here");
    assert_whole(&names, emulated, of("vm VM=").iter().map(part).collect());
}

#[test]
fn every_target_is_in_a_part() {
    let all = lines("targets.sh", &["names", "0/1"]);
    let names: Vec<_> = all.iter().map(String::as_str).collect();
    let part = |part: &String| lines("targets.sh", &["names", part]);
    assert_whole(&names, |_| true, of("targets TARGETS=").iter().map(part).collect());
}
