//! The manual page and the completions: nothing of the command line is left out of them.

#[path = "../../tests/common/manual.rs"]
mod manual;

use barrierctl::usage;
use manual::{has_all, is_shown_without_warnings, written};

#[test]
fn manual_and_completions_have_every_verb_and_option() {
    let out = written("barrierctl_manual");
    let words: Vec<&str> = usage::VERBS
        .iter()
        .map(|verb| verb.name)
        .chain(usage::OPTIONS.iter().map(|option| option.long))
        .collect();
    assert!(words.contains(&"metrics") && words.contains(&"file"), "{words:?}");
    for name in ["barrierctl.1", "barrierctl.bash", "_barrierctl", "barrierctl.fish"] {
        has_all(out.path(), name, &words);
    }
    let exits: Vec<&str> = usage::EXITS.iter().map(|exit| exit.1).collect();
    has_all(out.path(), "barrierctl.1", &exits);
    is_shown_without_warnings(&out.path().join("barrierctl.1"));
}
