//! The text of `--help`, from the table in `usage`.
//!
//! Owns the layout: 80 columns. Knows no verb by name.

use std::fmt::Write as _;

use crate::usage::{ABOUT, EXITS, OPTIONS, Opt, Takes, VERBS, Verb};

const COLUMNS: usize = 80;
/// Where the explanations begin.
const INDENT: usize = 20;

/// The whole.
pub(crate) fn all() -> String {
    let mut text = wrapped(&format!("barrierctl {ABOUT}"), 0);
    text += "\nusage: barrierctl VERB [OPTION...]; barrierctl VERB --help says more\n\n";
    for verb in VERBS {
        entry(&mut text, verb.name, verb.about);
    }
    text += "\noptions:\n";
    for option in OPTIONS {
        let whose = match option.verbs {
            [] => option.text(),
            verbs => format!("{}: {}", verbs.join(", "), option.text()),
        };
        entry(&mut text, &name(option), &whose);
    }
    exits(&mut text);
    text += "\nexamples:\n";
    for Verb { example: (command, what), .. } in VERBS {
        // Writing to a String can't fail.
        let _ = write!(text, "  {command}\n{}", wrapped(what, 6));
    }
    text
}

/// What there is to know of one verb.
pub(crate) fn of(verb: &Verb) -> String {
    let mut text = wrapped(&format!("barrierctl {}: {}", verb.name, verb.about), 0);
    text += "\n";
    let options: Vec<_> = own(verb).collect();
    let usage: String = options
        .iter()
        .filter(|option| option.short.is_none_or(|short| !"hV".contains(short)))
        .map(|option| match option.value() {
            Some(value) => format!(" [--{} {value}]", option.long),
            None => format!(" [--{}]", option.long),
        })
        .collect();
    let operand = verb.operand.map(|name| format!(" {name}")).unwrap_or_default();
    let usage = wrapped(&format!("{}{operand}{usage}", verb.name), 18);
    let _ = write!(text, "usage: barrierctl {}\n{}", usage.trim_start(), wrapped(verb.more, 0));
    text += "\noptions:\n";
    for option in options {
        entry(&mut text, &name(option), &option.text());
        if let Takes::Number { least, most, .. } = option.takes {
            text += &wrapped(&format!("from {least} to {most}"), INDENT);
        }
    }
    exits(&mut text);
    let (command, what) = verb.example;
    let _ = write!(text, "\nexample:\n  {command}\n{}", wrapped(what, 6));
    text
}

/// The options that the verb takes.
fn own(verb: &Verb) -> impl Iterator<Item = &'static Opt> {
    let name = verb.name;
    OPTIONS.iter().filter(move |option| option.verbs.is_empty() || option.verbs.contains(&name))
}

fn exits(text: &mut String) {
    *text += "\nexit status:\n";
    for (status, about) in EXITS {
        let about = wrapped(about, 5);
        let _ = write!(text, "  {status}  {}", about.trim_start());
    }
}

fn name(option: &Opt) -> String {
    let short = option.short.map(|short| format!("-{short}, ")).unwrap_or_default();
    let value = option.value().map(|value| format!(" {value}")).unwrap_or_default();
    format!("{short}--{}{value}", option.long)
}

fn entry(text: &mut String, name: &str, about: &str) {
    let about = wrapped(about, INDENT);
    let _ = write!(text, "  {name:<17} {}", about.trim_start());
}

/// `text` in lines of 80 columns at most, each after `indent` blanks.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.len() + 1 + word.len() > COLUMNS {
            let _ = writeln!(lines, "{:indent$}{line}", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    let _ = writeln!(lines, "{:indent$}{line}", "");
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str) {
        for line in text.lines() {
            // A command can't be broken.
            let whole = line.trim_start().starts_with("barrierctl ");
            assert!(line.len() <= COLUMNS || whole, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }

    /// Without its line breaks.
    fn flat(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn help_has_everything() {
        let (text, flat) = (all(), flat(&all()));
        let names = VERBS.iter().map(|verb| verb.name).chain(OPTIONS.iter().map(|o| o.long));
        let texts = EXITS.iter().map(|exit| exit.1).chain(VERBS.iter().map(|verb| verb.about));
        for name in names.chain(texts).chain([barrierd_client::abi::DEFAULT_PATH]) {
            assert!(flat.contains(name), "{name} is missing from:\n{text}");
        }
        fits(&text);
    }

    #[test]
    fn each_verb_has_its_own_and_no_others() {
        for verb in VERBS {
            let text = of(verb);
            let flat = flat(&text);
            fits(&text);
            assert!(flat.contains(verb.more) && flat.contains(verb.example.1), "{text}");
            for option in OPTIONS {
                let named = flat.contains(&format!("--{} ", option.long));
                let taken = own(verb).any(|own| own.long == option.long);
                assert!(named || !taken, "--{} is missing from:\n{text}", option.long);
            }
        }
        assert!(!of(&VERBS[0]).contains("--load"));
    }
}
