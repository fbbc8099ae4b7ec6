//! The command line as data: verbs, options, exit statuses.
//!
//! Owns their names and texts. `args` parses by it, `--help` prints it, and the daemon crate's
//! example `manual` makes the manual page and the completions of it: so it stands for itself and
//! uses nothing of this program.

/// What it is, in a line.
pub(crate) const ABOUT: &str = "asks a running barrierd how it is, or waits for one barrier";

/// A thing to do.
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

/// All of them.
pub(crate) const VERBS: &[Verb] = &[
    Verb {
        name: "status",
        about: "say whether the daemon is at work, and what it has done so far",
    },
    Verb {
        name: "metrics",
        about: "print the same as Prometheus text, for its textfile collector",
    },
    Verb { name: "wait", about: "wait until every CPU has passed a memory barrier from now on" },
];

/// An option.
pub(crate) struct Opt {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// The name of its value, if it takes one.
    pub(crate) value: Option<&'static str>,
    pub(crate) about: &'static str,
    /// The verbs that take it; none: all.
    pub(crate) verbs: &'static [&'static str],
}

/// All of them.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt {
        long: "file",
        short: None,
        value: Some("PATH"),
        about: "the daemon's public file (default /run/barrierd/barrier)",
        verbs: &[],
    },
    Opt {
        long: "timeout-ms",
        short: None,
        value: Some("N"),
        about: "give up after N milliseconds (default 1000)",
        verbs: &["wait"],
    },
    Opt { long: "help", short: Some('h'), value: None, about: "print this", verbs: &[] },
    Opt { long: "version", short: Some('V'), value: None, about: "print the version", verbs: &[] },
];

/// What each exit status means.
pub(crate) const EXITS: &[(u8, &str)] = &[
    (0, "status, metrics: the daemon is at work; wait: the barrier has passed"),
    (1, "status, metrics: the daemon has stopped, died or hangs; wait: the time was up first"),
    (2, "the command line makes no sense"),
    (3, "the file was refused: the message says why and what to do"),
    (4, "the file was accepted, then caught lying"),
    (5, "the output could not be written"),
];
