//! `barrierctl doctor`: what was found, check by check, for people and as JSON.
//!
//! Owns the layout and the verdict over all. What is looked at is `facts`' business, what it means
//! `checks`'.

mod checks;
mod facts;

use std::fmt::Write as _;
use std::path::Path;

use crate::help::wrapped;
use crate::json::{Json, object};
use checks::{CHECKS, Finding, State};
use facts::Facts;

/// Where what was found stands.
const INDENT: usize = 20;

/// What it found: the text, and whether there is nothing to do. Takes up to two seconds.
pub(crate) fn doctor(file: &Path, json: bool) -> (String, bool) {
    let facts = Facts::gather(file);
    let findings: Vec<_> = CHECKS.iter().map(|check| (check.name, check.find(&facts))).collect();
    let well = findings.iter().all(|(_, finding)| finding.state != State::Fail);
    (if json { as_json(&findings, well) } else { as_text(&findings) }, well)
}

fn as_text(findings: &[(&str, Finding)]) -> String {
    let mut text = String::new();
    for (name, Finding { state, found, advice }) in findings {
        let found = wrapped(found, INDENT);
        // Writing to a String can't fail.
        let _ = write!(text, "{:<5} {name:<13} {}", state.name(), found.trim_start());
        if let Some(advice) = advice {
            let advice = wrapped(advice, INDENT + 3);
            let _ = write!(text, "{:INDENT$}-> {}", "", advice.trim_start());
        }
    }
    let count = |state| findings.iter().filter(|(_, finding)| finding.state == state).count();
    let notes = match count(State::Note) {
        0 => String::new(),
        1 => ", 1 note".into(),
        n => format!(", {n} notes"),
    };
    let _ = match count(State::Fail) {
        0 => writeln!(text, "\nnothing to do{notes}"),
        n => writeln!(text, "\n{n} to do{notes}"),
    };
    text
}

fn as_json(findings: &[(&str, Finding)], well: bool) -> String {
    let checks = findings.iter().map(|(name, finding)| {
        object([
            ("check", (*name).into()),
            ("state", finding.state.name().to_lowercase().into()),
            ("found", finding.found.as_str().into()),
            ("advice", finding.advice.as_deref().into()),
        ])
    });
    format!("{}\n", object([("well", well.into()), ("checks", Json::List(checks.collect()))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_a_table_with_advice_under_its_row() {
        let finding = |state, found: &str, advice: Option<&str>| Finding {
            state,
            found: found.into(),
            advice: advice.map(Into::into),
        };
        let long = "word ".repeat(20);
        let findings = [
            ("kernel", finding(State::Ok, "6.1", None)),
            ("file", finding(State::Fail, &long, Some("start it"))),
            ("btf", finding(State::Note, "none", None)),
        ];
        let expected = "\
ok    kernel        6.1
FAIL  file          word word word word word word word word word word word word
                    word word word word word word word word
                    -> start it
note  btf           none

1 to do, 1 note
";
        assert_eq!(as_text(&findings), expected);
        assert!(as_text(&findings[..1]).ends_with("\nnothing to do\n"));
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings, false)).unwrap();
        assert_eq!(json["checks"][1]["state"], "fail");
        assert_eq!(json["checks"][1]["advice"], "start it");
        assert_eq!(json["well"], false);
    }
}
