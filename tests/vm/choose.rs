//! Which scenarios somebody means: by a part of their names, or by a part of all of them.
//!
//! `1/6`: those that run on this machine's own kernel, and every sixth one of those on x86-64, from the second on.
//! `arm64:1/3`: every third one of those on arm64.

use crate::scenarios::Scenario;

/// Whether `word` means the scenario, which is the `number`th.
pub(crate) fn is_meant(word: &str, number: usize, scenario: &Scenario) -> bool {
    let (arm, word) = word.strip_prefix("arm64:").map_or((false, word), |part| (true, part));
    let Some((part, parts)) = word.split_once('/') else { return scenario.name.contains(word) };
    let [part, parts] = [part, parts].map(|n| n.parse::<usize>().expect("a number"));
    assert!(part < parts, "there is no part {word}: the first is 0/{parts}");
    match scenario.kernel {
        None => !arm,
        Some(kernel) => kernel.is_arm() == arm && number % parts == part,
    }
}
