//! The command line: parsed by the table in `usage`.
//!
//! Owns what is refused, and the words for it. Knows nothing of what the verbs do.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use barrierd_client::abi;

use crate::help;
use crate::suggest::unknown;
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

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
