//! The command line: parsed by the table in `usage`.
//!
//! Owns what is refused, and the words for it. Knows nothing of what the verbs do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use barrierd_client::abi;

use crate::help;
use crate::usage::{OPTIONS, Opt, Takes, VERBS, Verb};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Print(String),
    Status { file: PathBuf, json: bool },
    Metrics { file: PathBuf },
    Watch { file: PathBuf, how: Watch },
    Wait { file: PathBuf, how: Wait },
    Compare { file: PathBuf, how: Compare },
    Doctor { file: PathBuf, json: bool },
    Shared { region: PathBuf, owner: Option<u32>, file: PathBuf, json: bool },
}

/// How to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    pub(crate) interval: Duration,
    /// Frames; `None`: no end.
    pub(crate) count: Option<u64>,
    pub(crate) color: bool,
    pub(crate) ascii: bool,
}

/// How to wait for one barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) by: By,
    pub(crate) timeout: Duration,
    pub(crate) json: bool,
}

/// What a wait goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Time, with a request that nobody has to serve.
    Default,
    Ns,
    Vtime,
    Expedited,
}

/// How to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compare {
    pub(crate) rounds: u64,
    pub(crate) load: u64,
    pub(crate) pause: Duration,
    pub(crate) timeout: Duration,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) ascii: bool,
}

/// Makes sense of `args`, the program's name not among them; or says what makes none.
pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = args;
    let mut verb: Option<&Verb> = None;
    let mut operand = None;
    let mut given = Vec::new();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        if !text.starts_with('-') {
            match VERBS.iter().find(|v| v.name == text) {
                Some(found) if verb.is_none() => verb = Some(found),
                _ if verb.is_some_and(|verb| verb.operand.is_some()) && operand.is_none() => {
                    operand = Some(arg);
                }
                Some(_) => return Err(format!("one thing at a time: {arg:?} is a second verb")),
                None => return Err(unknown(&arg, VERBS.iter().map(|verb| verb.name.into()))),
            }
            continue;
        }
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (text, None),
        };
        // Of options of one name all take a value, or none does.
        let option = OPTIONS.iter().find(|option| is(option, name)).ok_or_else(|| {
            unknown(&arg, OPTIONS.iter().map(|option| format!("--{}", option.long)))
        })?;
        let value = match (option.value(), attached) {
            (None, None) => OsString::new(),
            (None, Some(_)) => return Err(format!("--{} takes no value", option.long)),
            (Some(_), Some(value)) => value.into(),
            (Some(_), None) => args.next().ok_or_else(|| needs(option))?,
        };
        given.push((option.long, value));
    }
    let has = |long: &str| given.iter().any(|(given, _)| *given == long);
    if has("help") {
        return Ok(Command::Print(verb.map_or_else(help::all, help::of)));
    }
    if has("version") {
        return Ok(Command::Print(concat!("barrierctl ", env!("CARGO_PKG_VERSION"), "\n").into()));
    }
    let Some(verb) = verb else {
        let names: Vec<_> = VERBS.iter().map(|verb| verb.name).collect();
        return Err(format!("say what to do: {}", names.join(", ")));
    };
    if let (Some(name), None) = (verb.operand, &operand) {
        return Err(format!("{} needs a path: barrierctl {} {name}", verb.name, verb.name));
    }
    Given { verb: verb.name, operand, given }.command()
}

/// The options of one verb, as they were given.
struct Given {
    verb: &'static str,
    operand: Option<OsString>,
    given: Vec<(&'static str, OsString)>,
}

impl Given {
    fn command(&self) -> Result<Command, String> {
        for (long, value) in &self.given {
            let option = self.option(long).ok_or_else(|| {
                let verbs: Vec<_> =
                    OPTIONS.iter().filter(|o| o.long == *long).flat_map(|o| o.verbs).collect();
                let verbs: Vec<_> = verbs.into_iter().copied().collect();
                let does = if verbs.len() == 1 { "does" } else { "do" };
                format!("{} takes no --{long}, only {} {does}", self.verb, verbs.join(" and "))
            })?;
            check(option, value)?;
        }
        let file = self.value("file").map_or_else(|| abi::DEFAULT_PATH.into(), PathBuf::from);
        let json = self.has("json");
        Ok(match self.verb {
            "status" => Command::Status { file, json },
            "metrics" => Command::Metrics { file },
            "watch" => Command::Watch { file, how: self.watch() },
            "wait" => Command::Wait { file, how: self.wait() },
            "compare" => Command::Compare { file, how: self.compare() },
            "shared" => {
                let region = self.operand.clone().unwrap_or_default().into();
                // `check` has seen to it that it fits.
                let owner = self.has("owner").then(|| self.number("owner"));
                let owner = owner.and_then(|owner| u32::try_from(owner).ok());
                Command::Shared { region, owner, file, json }
            }
            _ => Command::Doctor { file, json },
        })
    }

    fn watch(&self) -> Watch {
        let count = if self.has("once") { 1 } else { self.number("count") };
        Watch {
            interval: self.ms("interval-ms"),
            count: Some(count).filter(|&count| count != 0),
            color: !self.has("no-color"),
            ascii: self.has("ascii"),
        }
    }

    fn wait(&self) -> Wait {
        let by = match self.value("by").and_then(|word| word.to_str()) {
            Some("ns") => By::Ns,
            Some("vtime") => By::Vtime,
            Some("expedited") => By::Expedited,
            _ => By::Default,
        };
        Wait { by, timeout: self.ms("timeout-ms"), json: self.has("json") }
    }

    fn compare(&self) -> Compare {
        Compare {
            rounds: self.number("count"),
            load: self.number("load"),
            pause: self.ms("pause-ms"),
            timeout: self.ms("timeout-ms"),
            json: self.has("json"),
            quiet: self.has("quiet"),
            ascii: self.has("ascii"),
        }
    }

    /// This verb's option of that name.
    fn option(&self, long: &str) -> Option<&'static Opt> {
        OPTIONS
            .iter()
            .find(|o| o.long == long && (o.verbs.is_empty() || o.verbs.contains(&self.verb)))
    }

    /// The last one counts.
    fn value(&self, long: &str) -> Option<&OsString> {
        self.given.iter().rev().find(|(given, _)| *given == long).map(|(_, value)| value)
    }

    fn has(&self, long: &str) -> bool {
        self.value(long).is_some()
    }

    /// The number given, which was checked, or the table's default.
    fn number(&self, long: &str) -> u64 {
        let given = self.value(long).and_then(|value| value.to_str()?.parse().ok());
        let default = match self.option(long).map(|option| &option.takes) {
            Some(Takes::Number { default, .. }) => *default,
            _ => 0,
        };
        given.unwrap_or(default)
    }

    fn ms(&self, long: &str) -> Duration {
        Duration::from_millis(self.number(long))
    }
}

/// Refuses a value that the table doesn't allow.
fn check(option: &Opt, value: &OsString) -> Result<(), String> {
    let long = option.long;
    match option.takes {
        Takes::Nothing => Ok(()),
        Takes::Path if value.is_empty() => Err(format!("--{long} needs a path, not nothing")),
        Takes::Path => Ok(()),
        Takes::Number { least, most, .. } => {
            let number = value.to_str().and_then(|text| text.parse().ok());
            match number {
                Some(number) if (least..=most).contains(&number) => Ok(()),
                _ => Err(format!("{}, not {value:?}", needs(option))),
            }
        }
        Takes::OneOf { words, .. } => {
            if words.iter().any(|(word, _)| value == word) {
                return Ok(());
            }
            Err(format!("{}, not {value:?}", needs(option)))
        }
    }
}

/// Says what `option` must be followed by.
fn needs(option: &Opt) -> String {
    let long = option.long;
    match option.takes {
        Takes::Nothing => format!("--{long} takes no value"),
        Takes::Path => format!("--{long} needs a path"),
        Takes::Number { least, most, .. } => {
            format!("--{long} needs a whole number from {least} to {most}")
        }
        Takes::OneOf { words, .. } => {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            format!("--{long} needs one of {}", words.join(", "))
        }
    }
}

fn is(option: &Opt, text: &str) -> bool {
    text.strip_prefix("--") == Some(option.long)
        || option.short.is_some_and(|short| text == format!("-{short}"))
}

/// What to say of `arg`, with the name most like it, if one is; else, for a verb, with all of them.
fn unknown(arg: &OsString, names: impl Iterator<Item = String>) -> String {
    let said = format!("don't know what to do with {arg:?}");
    let Some(text) = arg.to_str().map(|text| text.split('=').next().unwrap_or_default()) else {
        return said;
    };
    let like = |name: &String| {
        let begun = text.len() > 3 && (name.starts_with(text) || text.starts_with(name.as_str()));
        begun || edits(text, name) <= 2
    };
    let names: Vec<_> = names.collect();
    match names.iter().filter(|name| like(name)).min_by_key(|name| edits(text, name)) {
        Some(name) => format!("{said}: did you mean {name}?"),
        None if text.starts_with('-') => said,
        None => format!("{said}: the verbs are {}", names.join(", ")),
    }
}

/// Letters to put in, take out or change to make the one the other.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Command, String> {
        super::parse(args.iter().map(OsString::from))
    }

    fn wait(by: By, ms: u64) -> Command {
        let how = Wait { by, timeout: Duration::from_millis(ms), json: false };
        Command::Wait { file: abi::DEFAULT_PATH.into(), how }
    }

    #[test]
    fn verbs_and_their_options_in_any_order() {
        let file = PathBuf::from(abi::DEFAULT_PATH);
        assert_eq!(parse(&["status"]), Ok(Command::Status { file: file.clone(), json: false }));
        assert_eq!(parse(&["--json", "doctor"]), Ok(Command::Doctor { file, json: true }));
        assert_eq!(parse(&["wait"]), Ok(wait(By::Default, 1_000)));
        assert_eq!(parse(&["--timeout-ms", "7", "wait", "--by", "ns"]), Ok(wait(By::Ns, 7)));
        assert_eq!(parse(&["wait", "--by=vtime", "--timeout-ms=0"]), Ok(wait(By::Vtime, 0)));
        assert_eq!(parse(&["wait", "--by=ns", "--by=expedited"]), Ok(wait(By::Expedited, 1_000)));
        let file = PathBuf::from("/x=y");
        assert_eq!(parse(&["metrics", "--file", "/x=y"]), Ok(Command::Metrics { file }));
    }

    #[test]
    fn a_region_is_named_after_its_verb() {
        let of = |region: &str, owner, json| {
            let file = PathBuf::from(abi::DEFAULT_PATH);
            Ok(Command::Shared { region: region.into(), owner, file, json })
        };
        let shared = |region: &str, json| of(region, None, json);
        for (uid, owner) in [("0", 0), ("1000", 1000), ("4294967294", u32::MAX - 1)] {
            assert_eq!(parse(&["shared", "/x", "--owner", uid]), of("/x", Some(owner), false));
        }
        assert_eq!(parse(&["shared", "/x"]), shared("/x", false));
        assert_eq!(parse(&["--json", "shared", "/x"]), shared("/x", true));
        assert_eq!(parse(&["shared", "--json", "status"]), shared("status", true));
        for (args, words) in [
            (&["shared"][..], "shared needs a path: barrierctl shared REGION"),
            (&["/x", "shared"], "don't know what to do with \"/x\""),
            (&["shared", "/x", "/y"], "don't know what to do with \"/y\""),
            (&["shared", "/x", "status"], "a second verb"),
            (&["shared", "/x", "--owner", "root"], "--owner needs a whole number from 0 to"),
            (&["shared", "/x", "--owner", "4294967295"], "--owner needs a whole number from 0 to"),
            (&["status", "--owner", "0"], "status takes no --owner, only shared does"),
        ] {
            let said = parse(args).expect_err("refused");
            assert!(said.contains(words), "{args:?}: {said}");
        }
        assert!(matches!(parse(&["shared", "--help"]), Ok(Command::Print(_))));
    }

    #[test]
    fn one_name_means_each_verb_its_own() {
        let how = |args: &[&str]| match parse(args) {
            Ok(Command::Watch { how, .. }) => how,
            other => panic!("{other:?}"),
        };
        assert_eq!(how(&["watch"]).count, None);
        assert_eq!(how(&["watch", "--count", "0"]).count, None);
        assert_eq!(how(&["--count", "3", "watch"]).count, Some(3));
        assert_eq!(how(&["watch", "--once"]).count, Some(1));
        assert_eq!(how(&["watch"]).interval, Duration::from_millis(500));
        assert!(!how(&["watch", "--no-color"]).color && how(&["watch"]).color);
        let Ok(Command::Compare { how, .. }) = parse(&["compare", "-q"]) else { panic!("refused") };
        assert_eq!((how.rounds, how.load, how.quiet, how.json), (100, 1, true, false));
        assert!(parse(&["compare", "--count", "0"]).is_err());
    }

    #[test]
    fn every_verb_is_known_and_takes_what_the_table_says() {
        for verb in VERBS {
            for option in OPTIONS.iter().filter(|o| !matches!(o.long, "help" | "version")) {
                let taken = OPTIONS.iter().any(|o| {
                    o.long == option.long && (o.verbs.is_empty() || o.verbs.contains(&verb.name))
                });
                let long = format!("--{}", option.long);
                let parse_with = |value: Option<&str>| {
                    let words = [Some(verb.name), verb.operand, Some(&long), value];
                    parse(&words.into_iter().flatten().collect::<Vec<_>>())
                };
                let parsed = match option.takes {
                    Takes::Nothing => parse_with(None),
                    Takes::Path => parse_with(Some("/x")),
                    Takes::Number { most, .. } => parse_with(Some(&most.to_string())),
                    Takes::OneOf { words, .. } => parse_with(Some(words[0].0)),
                };
                assert_eq!(parsed.is_ok(), taken, "{} {long}: {parsed:?}", verb.name);
            }
        }
    }

    #[test]
    fn no_verb_has_two_options_of_one_name_and_names_agree_on_values() {
        for (i, one) in OPTIONS.iter().enumerate() {
            for other in OPTIONS[i + 1..].iter().filter(|other| other.long == one.long) {
                assert!(!one.verbs.is_empty() && !other.verbs.is_empty(), "{}", one.long);
                assert!(!one.verbs.iter().any(|verb| other.verbs.contains(verb)), "{}", one.long);
                assert_eq!(one.value().is_some(), other.value().is_some(), "{}", one.long);
            }
            for verb in one.verbs {
                assert!(VERBS.iter().any(|v| v.name == *verb), "{verb}");
            }
        }
    }

    #[test]
    fn bad_input_is_refused_with_what_to_do() {
        for (args, words) in [
            (&[][..], "say what to do: status, watch"),
            (&["jump"], "don't know what to do with \"jump\": the verbs are status, watch, wait"),
            (&["stats"], "did you mean status?"),
            (&["watch", "--intervall-ms", "5"], "did you mean --interval-ms?"),
            (&["wait", "--timeout", "5"], "did you mean --timeout-ms?"),
            (&["status", "wait"], "a second verb"),
            (
                &["status", "--timeout-ms", "5"],
                "status takes no --timeout-ms, only wait and compare do",
            ),
            (&["wait", "--timeout-ms", "-1"], "a whole number from 0 to 86400000, not \"-1\""),
            (&["wait", "--timeout-ms", ""], "a whole number"),
            (&["wait", "--timeout-ms", "99999999999999999999"], "a whole number"),
            (&["watch", "--interval-ms", "1"], "from 50 to 60000"),
            (&["compare", "--load", "1e3"], "a whole number"),
            (&["wait", "--by", "luck"], "one of ns, vtime, expedited, not \"luck\""),
            (&["wait", "--by"], "--by needs one of ns, vtime, expedited"),
            (&["status", "--json=yes"], "--json takes no value"),
            (&["status", "--file", ""], "needs a path, not nothing"),
            (&["status", "--file"], "--file needs a path"),
            (&["status", "-x"], "don't know what to do with \"-x\""),
            (&["status", "--"], "don't know"),
        ] {
            let said = parse(args).expect_err("refused");
            assert!(said.contains(words), "{args:?}: {said}");
        }
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![0xff, 0xfe]);
        assert!(super::parse([odd].into_iter()).is_err());
    }

    #[test]
    fn edits_are_counted() {
        for (a, b, n) in [("", "", 0), ("a", "", 1), ("stats", "status", 1), ("wacht", "watch", 2)]
        {
            assert_eq!((edits(a, b), edits(b, a)), (n, n), "{a} {b}");
        }
    }
}
