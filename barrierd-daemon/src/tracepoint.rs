//! The tracepoints that the command line names.
//!
//! Owns their syntax, which of them are attached to, and the way from a number to a name through tracefs. Knows
//! nothing of how they are attached.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use barrierd_client::tracepoints::{DEFAULTS, SCHED_SWITCH, SOFTIRQ_ENTRY};

/// Where tracefs is mounted, by custom.
pub const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where the kernel passes when a task's name is set: the daemon's doorbell
/// ([`idle`](crate::idle)).
pub const TASK_RENAME: &str = "task_rename";

/// Why a tracepoint is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `category:name`, `category/name` nor a number.
    #[error(
        "`{0}` names no tracepoint: write it as category:name (sched:sched_switch), category/name, \
         or as the number in tracefs's events/CATEGORY/NAME/id"
    )]
    Syntax(String),
    /// A number, but no tracefs to look it up in.
    #[error(
        "tracepoint {id}: a number can only be looked up in tracefs, which is not mounted on \
         {tried}: run `mount -t tracefs tracefs /sys/kernel/tracing`, or name the tracepoint as \
         category:name",
        tried = TRACEFS.join(" or ")
    )]
    NoTracefs {
        /// The number.
        id: u64,
    },
    /// A number that no tracepoint has.
    #[error(
        "no tracepoint has the number {id} in {events}: numbers change from kernel to kernel; see \
         `cat {events}/CATEGORY/NAME/id`, or name it as category:name",
        events = events.display()
    )]
    UnknownId {
        /// The number.
        id: u64,
        /// Where it was looked for.
        events: PathBuf,
    },
    /// tracefs is there, but can't be read.
    #[error("looking for tracepoint {id} in {path}: {error}; run as root", path = path.display())]
    Unreadable {
        /// The number.
        id: u64,
        /// What could not be read.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A tracepoint as the command line has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// By category and name.
    Name {
        /// Its group in tracefs. The kernel needs only the name.
        category: String,
        /// Its name.
        name: String,
    },
    /// By its number in tracefs, as the C daemon's command line has it.
    Id(u64),
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let word = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        };
        match text.split_once([':', '/']) {
            Some((category, name)) if word(category) && word(name) => {
                Ok(Self::Name { category: category.into(), name: name.into() })
            }
            _ => Err(Error::Syntax(text.into())),
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { category, name } => write!(f, "{category}:{name}"),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

impl Spec {
    /// The tracepoint's name. Looks numbers up below the first of `tracefs` that has events.
    ///
    /// # Errors
    ///
    /// For a number only: no tracefs, not readable, or no such number.
    pub fn name(&self, tracefs: &[impl AsRef<Path>]) -> Result<String, Error> {
        match self {
            Self::Name { name, .. } => Ok(name.clone()),
            &Self::Id(id) => {
                let mut events = tracefs.iter().map(|root| root.as_ref().join("events"));
                let events = events.find(|e| e.is_dir()).ok_or(Error::NoTracefs { id })?;
                let unreadable = |(path, error)| Error::Unreadable { id, path, error };
                match look_up(&events, id).map_err(unreadable)? {
                    Some(name) => Ok(name),
                    None => Err(Error::UnknownId { id, events }),
                }
            }
        }
    }
}

/// What to attach to beside sched_switch, each once, and whether the kernel may lack it: what `names`
/// say, or the defaults.
#[must_use]
pub fn wanted(names: &[String], infers_idle: bool) -> Vec<(&str, bool)> {
    let defaults = DEFAULTS.iter().map(|default| (default.name, default.optional));
    let named = names.iter().map(|name| (name.as_str(), false));
    let mut all: Vec<(&str, bool)> =
        if names.is_empty() { defaults.clone().collect() } else { named.collect() };
    if infers_idle {
        // Whatever is named: its program mends IDLE.
        all.push((SOFTIRQ_ENTRY.name, SOFTIRQ_ENTRY.optional));
    }
    // Whatever is named: so that kicks show.
    all.extend(defaults.filter(|&(_, optional)| optional));
    let mut wanted: Vec<(&str, bool)> = Vec::new();
    for (name, optional) in all {
        if name != SCHED_SWITCH.name && wanted.iter().all(|&(other, _)| other != name) {
            wanted.push((name, optional));
        }
    }
    wanted
}

/// The name of the tracepoint with this id below `events`.
fn look_up(events: &Path, id: u64) -> Result<Option<String>, (PathBuf, io::Error)> {
    for category in directories(events)? {
        for event in directories(&category)? {
            // Some directories have no id: ftrace's own.
            let found =
                fs::read_to_string(event.join("id")).ok().and_then(|t| t.trim().parse().ok());
            if found == Some(id) {
                return Ok(event.file_name().map(|name| name.to_string_lossy().into_owned()));
            }
        }
    }
    Ok(None)
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let failed = |error| (path.to_owned(), error);
    let entries: Result<Vec<_>, _> = fs::read_dir(path).map_err(failed)?.collect();
    let paths = entries.map_err(failed)?.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(category: &str, name: &str) -> Spec {
        Spec::Name { category: category.into(), name: name.into() }
    }

    #[test]
    fn the_command_line_can_name_each_default() {
        for tracepoint in &DEFAULTS {
            let spec: Spec = format!("{}:{}", tracepoint.group, tracepoint.name).parse().unwrap();
            assert_eq!(spec, name(tracepoint.group, tracepoint.name));
        }
        let attached: Vec<_> = wanted(&[], false);
        let table = DEFAULTS.iter().filter(|&&tracepoint| tracepoint != SCHED_SWITCH);
        assert!(
            table.map(|tp| (tp.name, tp.optional)).eq(attached),
            "all but the one that has a program of its own"
        );
    }

    #[test]
    fn b19_each_is_tried_once() {
        let named = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        for names in
            [&[][..], &["softirq_entry", SCHED_SWITCH.name, "softirq_entry", "csd_function_entry"]]
        {
            let names = named(names);
            for infers_idle in [false, true] {
                let mut wanted = wanted(&names, infers_idle);
                assert!(wanted.iter().all(|&(name, _)| name != SCHED_SWITCH.name), "{wanted:?}");
                for needed in DEFAULTS.iter().filter(|default| default.optional) {
                    assert!(wanted.iter().any(|&(name, _)| name == needed.name), "{wanted:?}");
                }
                let all = wanted.len();
                wanted.sort_unstable_by_key(|&(name, _)| name);
                wanted.dedup_by_key(|&mut (name, _)| name);
                assert_eq!(wanted.len(), all, "{wanted:?}");
            }
        }
        // One that is named has to be there.
        assert!(
            wanted(&named(&["csd_function_entry"]), true).contains(&("csd_function_entry", false))
        );
    }

    #[test]
    fn three_ways_to_write_one() {
        assert_eq!(
            "sched:sched_switch".parse::<Spec>().expect("a name"),
            name("sched", "sched_switch")
        );
        assert_eq!(
            "irq/softirq_entry".parse::<Spec>().expect("a name"),
            name("irq", "softirq_entry")
        );
        assert_eq!("314".parse::<Spec>().expect("a number"), Spec::Id(314));
        assert_eq!(name("irq", "softirq_entry").to_string(), "irq:softirq_entry");
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["", "sched_switch", ":x", "x:", "a:b:c", "a/b/c", "-1", "a:b c", "../x:y"] {
            let error = text.parse::<Spec>().expect_err(text).to_string();
            assert!(error.contains("category:name"), "{error}");
        }
    }

    /// A directory laid out as tracefs lays out its events.
    fn tracefs(events: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (category, event, id) in events {
            let dir = root.path().join("events").join(category).join(event);
            fs::create_dir_all(&dir).expect("created");
            fs::write(dir.join("id"), id).expect("written");
        }
        root
    }

    #[test]
    fn numbers_are_looked_up_in_the_first_tracefs_there_is() {
        let root = tracefs(&[("sched", "sched_switch", "314\n"), ("irq", "softirq_entry", "31\n")]);
        fs::create_dir_all(root.path().join("events/ftrace/print")).expect("created");
        let missing = root.path().join("nothing");
        let roots = [missing.as_path(), root.path()];
        assert_eq!(Spec::Id(314).name(&roots).expect("found"), "sched_switch");
        assert_eq!(Spec::Id(31).name(&roots).expect("found"), "softirq_entry");
        assert_eq!(name("a", "b").name(&[&missing]).expect("needs no tracefs"), "b");

        let error = Spec::Id(3).name(&roots).expect_err("no such number").to_string();
        assert!(error.contains("number 3 in"), "{error}");
        let error = Spec::Id(3).name(&[&missing]).expect_err("no tracefs").to_string();
        assert!(error.contains("mount -t tracefs"), "{error}");
    }
}
