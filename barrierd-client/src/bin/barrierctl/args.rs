//! The command line: parsed by the table in `usage`.
//!
//! Owns the text of `--help` and what is refused. Knows nothing of what the verbs do.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use barrierd_client::abi;

use crate::usage::{ABOUT, EXITS, OPTIONS, Opt, VERBS};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Print(String),
    Status { file: PathBuf },
    Metrics { file: PathBuf },
    Wait { file: PathBuf, timeout: Duration },
}

/// Makes sense of `args`, the program's name not among them; or says what makes none.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args;
    let (mut file, mut timeout, mut verb) = (PathBuf::from(abi::DEFAULT_PATH), None, None);
    let mut given: Vec<&Opt> = Vec::new();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        if let Some(found) = VERBS.iter().find(|v| v.name == text).filter(|_| verb.is_none()) {
            verb = Some(found.name);
            continue;
        }
        let option = OPTIONS.iter().find(|option| is(option, text));
        let option = option.ok_or_else(|| format!("don't know what to do with {arg:?}"))?;
        let value = match option.value {
            None => OsString::new(),
            Some(what) => args
                .next()
                .ok_or_else(|| format!("--{} needs a {}", option.long, what.to_lowercase()))?,
        };
        match option.long {
            "help" => return Ok(Command::Print(help())),
            "version" => return Ok(Command::Print(version())),
            "file" => file = value.into(),
            _ => {
                let ms = value.to_str().and_then(|text| text.parse().ok());
                timeout = Some(Duration::from_millis(ms.ok_or_else(|| {
                    format!("--{} needs a whole number, not {value:?}", option.long)
                })?));
            }
        }
        given.push(option);
    }
    let Some(verb) = verb else {
        let names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        return Err(format!("say what to do: {}", names.join(" or ")));
    };
    if let Some(option) = given.iter().find(|o| !o.verbs.is_empty() && !o.verbs.contains(&verb)) {
        return Err(format!("{verb} takes no --{}", option.long));
    }
    Ok(match verb {
        "status" => Command::Status { file },
        "metrics" => Command::Metrics { file },
        _ => Command::Wait { file, timeout: timeout.unwrap_or(Duration::from_secs(1)) },
    })
}

fn is(option: &Opt, text: &str) -> bool {
    text.strip_prefix("--") == Some(option.long)
        || option.short.is_some_and(|short| text == format!("-{short}"))
}

fn version() -> String {
    concat!("barrierctl ", env!("CARGO_PKG_VERSION"), "\n").into()
}

fn help() -> String {
    let mut text = format!("barrierctl {ABOUT}\n\n");
    let mut line = |line: String| {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", line.trim_end());
    };
    for (i, verb) in VERBS.iter().enumerate() {
        let own = OPTIONS.iter().filter(|option| option.verbs.contains(&verb.name));
        let own: String =
            own.map(|o| format!(" [--{} {}]", o.long, o.value.unwrap_or_default())).collect();
        let usage = if i == 0 { "usage:" } else { "" };
        line(format!("{usage:6} barrierctl [--file PATH] {}{own}", verb.name));
    }
    line(String::new());
    for verb in VERBS {
        line(format!("  {:<18} {}", verb.name, verb.about));
    }
    line(String::new());
    for option in OPTIONS {
        let short = option.short.map(|short| format!("-{short}, ")).unwrap_or_default();
        let name = format!("{short}--{} {}", option.long, option.value.unwrap_or_default());
        line(format!("  {name:<18} {}", option.about));
    }
    line("\nexit status:".into());
    for (status, about) in EXITS {
        line(format!("  {status}  {about}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Command, String> {
        super::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn verbs_and_their_options_in_any_order() {
        let file = PathBuf::from(abi::DEFAULT_PATH);
        assert_eq!(parse(&["status"]), Ok(Command::Status { file: file.clone() }));
        let timeout = Duration::from_secs(1);
        assert_eq!(parse(&["wait"]), Ok(Command::Wait { file, timeout }));
        let file = PathBuf::from("/x");
        let timeout = Duration::from_millis(7);
        let line = ["--timeout-ms", "7", "wait", "--file", "/x"];
        assert_eq!(parse(&line), Ok(Command::Wait { file: file.clone(), timeout }));
        assert_eq!(parse(&["metrics", "--file", "/x"]), Ok(Command::Metrics { file }));
    }

    #[test]
    fn every_verb_is_known_and_takes_what_the_table_says() {
        for verb in VERBS {
            for option in OPTIONS.iter().filter(|option| option.value.is_some()) {
                let taken = option.verbs.is_empty() || option.verbs.contains(&verb.name);
                let long = format!("--{}", option.long);
                let parsed = parse(&[verb.name, &long, "5"]);
                assert_eq!(parsed.is_ok(), taken, "{} {long}: {parsed:?}", verb.name);
            }
        }
    }

    #[test]
    fn help_has_everything() {
        let Ok(Command::Print(text)) = parse(&["-h"]) else { panic!("no help") };
        let names = VERBS.iter().map(|verb| verb.name).chain(OPTIONS.iter().map(|o| o.long));
        for name in names.chain(EXITS.iter().map(|exit| exit.1)).chain([abi::DEFAULT_PATH]) {
            assert!(text.contains(name), "{name} is missing from:\n{text}");
        }
        assert!(text.lines().all(|line| line.len() <= 100 && line == line.trim_end()), "{text}");
    }
}
