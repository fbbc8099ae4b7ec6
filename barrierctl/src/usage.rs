//! The command line as data: verbs, options, exit statuses, examples.
//!
//! Owns their names, texts, ranges and defaults. `args` parses by it, `help` prints it, and the
//! example `barrierctl_manual` makes the manual page and the completions of it. It uses nothing of the rest.

/// What it is, in a line.
pub const ABOUT: &str = "asks a running barrierd how it is, shows it live, waits for barriers";

/// A thing to do.
pub struct Verb {
    /// As it is typed.
    pub name: &'static str,
    /// What it must be followed by, if anything: the name of a path.
    pub operand: Option<&'static str>,
    /// In a line.
    pub about: &'static str,
    /// What its own `--help` and the manual say beyond that.
    pub more: &'static str,
    /// A command, and what it is good for.
    pub example: (&'static str, &'static str),
}

/// All of them.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "status",
        operand: None,
        about: "say whether the daemon is at work, and what it has done so far",
        more: "Once: the daemon, which daemon wrote the file, the watermark's age, rounds, what the daemon \
               has counted, which CPU held barriers up, and what to do if something is wrong. Takes \
               up to half a second where the daemon seems to be dead.",
        example: ("barrierctl status --json", "how the daemon is, for a program: one JSON object"),
    },
    Verb {
        name: "watch",
        operand: None,
        about: "show the barrier of every CPU, live",
        more: "A line a CPU where they fit, else cells, else a glyph a CPU. Bars are ages on a \
               logarithmic scale, the greatest since the frame before; histories have the newest \
               frame at their right end. Each CPU has an age of its own only where barrierd was \
               started with --per-cpu; otherwise all show that of the oldest. Busy, idle and offline \
               are the kernel's own words. Ctrl-C ends it; it changes no mode of the terminal. \
               Without a terminal, frames follow one another without control codes, 80 columns wide \
               (or COLUMNS).",
        example: ("barrierctl watch --once", "one frame, for a script or a bug report"),
    },
    Verb {
        name: "wait",
        operand: None,
        about: "wait until every CPU has passed a memory barrier from now on",
        more: "Without --by it waits in nanoseconds and asks the daemon to make haste, if this user \
               may; that takes tens of microseconds where the daemon serves it, else milliseconds.",
        example: (
            "barrierctl wait --by ns --timeout-ms 100 || echo late",
            "wait for the CPUs' own interrupts, at most 100 ms",
        ),
    },
    Verb {
        name: "compare",
        operand: None,
        about: "time six ways to a barrier, one after the other, and draw them",
        more: "mprotect IPI: takes write access from a page, which interrupts the CPUs that run this \
               process. ns, vtime: the daemon's watermarks, at the CPUs' own pace. RCU membarrier: \
               membarrier(GLOBAL). expedited membarrier: membarrier(PRIVATE_EXPEDITED), which interrupts \
               the CPUs that run this process. expedited barrier: the daemon's, all CPUs. They take \
               turns in one run, each after a rest of random length. What can't be had here, say \
               without a daemon, is named with the reason, and the others are timed. Ctrl-C ends the \
               rounds early; what was timed is shown.",
        example: ("barrierctl compare --quiet", "a picture of this machine's barriers, in seconds"),
    },
    Verb {
        name: "doctor",
        operand: None,
        about: "check kernel, privileges, file and daemon, and say what to do",
        more: "ok: fine. note: works, but less well, or matters only for starting barrierd. FAIL: \
               something to do. It sends one request for an expedited barrier and waits for one \
               barrier, a second at most.",
        example: ("barrierctl doctor", "the first thing to run where something doesn't work"),
    },
    Verb {
        name: "metrics",
        operand: None,
        about: "print what status knows as Prometheus text, for its textfile collector",
        more: "Also where the daemon is gone or was never there: then barrierd_up is 0, and so is the exit \
               status, since a collector is to keep the line.",
        example: (
            "barrierctl metrics > barrierd.prom.new; mv barrierd.prom.new barrierd.prom",
            "in the directory that node_exporter's textfile collector reads",
        ),
    },
    Verb {
        name: "shared",
        operand: Some("REGION"),
        about: "show memory that processes share by barrierd-shared, and who holds it back",
        more: "REGION is the file that the region was created at. Bytes that are free, live, and waiting for \
               readers or barriers; the readers and writers that live, and what the dead left; whose section \
               holds back what waits, for how long at most; the maps: root, entries, sizes of keys and values, \
               blocks and bytes; where writers' barriers come from. It reads both \
               of the region's files and writes to neither. A process's name is of the one that has its \
               number here and now. Takes up to half a second where the daemon seems to be dead.",
        example: ("barrierctl shared /dev/shm/limits", "why a region fills up"),
    },
];

/// What an option is followed by.
pub enum Takes {
    /// Nothing: it is a switch.
    Nothing,
    /// A path.
    Path,
    /// A whole number within these bounds; without it, `default`.
    Number {
        /// What the help calls it.
        name: &'static str,
        /// The least that is taken.
        least: u64,
        /// The greatest that is taken.
        most: u64,
        /// What it is when the option is not given.
        default: u64,
    },
    /// One of these words, each with what it means.
    OneOf {
        /// What the help calls it.
        name: &'static str,
        /// Each word, and what it means.
        words: &'static [(&'static str, &'static str)],
    },
}

/// An option.
pub struct Opt {
    /// Its name, without dashes.
    pub long: &'static str,
    /// Its one letter, if it has one.
    pub short: Option<char>,
    /// What it is followed by.
    pub takes: Takes,
    /// In a line.
    pub about: &'static str,
    /// The verbs that take it; none: all. No verb has two of one name.
    pub verbs: &'static [&'static str],
}

impl Opt {
    /// The name of its value, if it takes one.
    pub fn value(&self) -> Option<&'static str> {
        match self.takes {
            Takes::Nothing => None,
            Takes::Path => Some("PATH"),
            Takes::Number { name, .. } | Takes::OneOf { name, .. } => Some(name),
        }
    }

    /// What it is for, with the words it takes and its default.
    pub fn text(&self) -> String {
        match self.takes {
            Takes::Number { default, .. } if default != 0 => {
                format!("{} (default {default})", self.about)
            }
            Takes::OneOf { words, .. } => {
                let words: Vec<_> =
                    words.iter().map(|(word, about)| format!("{word}: {about}")).collect();
                format!("{}; {}", self.about, words.join("; "))
            }
            _ => self.about.into(),
        }
    }
}

/// All of them.
pub const OPTIONS: &[Opt] = &[
    Opt {
        long: "file",
        short: None,
        takes: Takes::Path,
        about: "the daemon's public file (default /run/barrierd/barrier)",
        verbs: &[],
    },
    Opt {
        long: "json",
        short: None,
        takes: Takes::Nothing,
        about: "for a program: one JSON object; compare: one a line",
        verbs: &["status", "wait", "compare", "doctor", "shared"],
    },
    Opt {
        long: "interval-ms",
        short: None,
        takes: Takes::Number { name: "N", least: 50, most: 60_000, default: 500 },
        about: "milliseconds from one frame to the next",
        verbs: &["watch"],
    },
    Opt {
        long: "count",
        short: None,
        takes: Takes::Number { name: "N", least: 0, most: 1_000_000, default: 0 },
        about: "end after N frames (default 0: go on)",
        verbs: &["watch"],
    },
    Opt {
        long: "once",
        short: None,
        takes: Takes::Nothing,
        about: "one frame, as --count 1",
        verbs: &["watch"],
    },
    Opt {
        long: "no-color",
        short: None,
        takes: Takes::Nothing,
        about: "no colour, as with NO_COLOR set or without a terminal",
        verbs: &["watch"],
    },
    Opt {
        long: "by",
        short: None,
        takes: Takes::OneOf {
            name: "WHAT",
            words: &[
                ("ns", "by time, at the CPUs' own pace"),
                ("vtime", "by virtual time, at the CPUs' own pace"),
                ("expedited", "by time, and only if the daemon can be asked to make haste"),
            ],
        },
        about: "how to wait",
        verbs: &["wait"],
    },
    Opt {
        long: "count",
        short: None,
        takes: Takes::Number { name: "N", least: 1, most: 1_000_000, default: 100 },
        about: "how often each is timed",
        verbs: &["compare"],
    },
    Opt {
        long: "load",
        short: None,
        takes: Takes::Number { name: "N", least: 0, most: 4_096, default: 1 },
        about: "threads of this process that spin meanwhile; with 0, some ways have no CPU to interrupt",
        verbs: &["compare"],
    },
    Opt {
        long: "pause-ms",
        short: None,
        takes: Takes::Number { name: "N", least: 0, most: 10_000, default: 10 },
        about: "rest up to N milliseconds before each wait",
        verbs: &["compare"],
    },
    Opt {
        long: "quiet",
        short: Some('q'),
        takes: Takes::Nothing,
        about: "no line for each wait, only the table and the picture",
        verbs: &["compare"],
    },
    Opt {
        long: "ascii",
        short: None,
        takes: Takes::Nothing,
        about: "draw with ASCII alone, as where the locale is not UTF-8",
        verbs: &["watch", "compare"],
    },
    Opt {
        long: "timeout-ms",
        short: None,
        takes: Takes::Number { name: "N", least: 0, most: 86_400_000, default: 1_000 },
        about: "give a wait up after N milliseconds",
        verbs: &["wait", "compare"],
    },
    Opt {
        long: "help",
        short: Some('h'),
        takes: Takes::Nothing,
        about: "print this; after a verb, what there is to know of it",
        verbs: &[],
    },
    Opt {
        long: "version",
        short: Some('V'),
        takes: Takes::Nothing,
        about: "print the version",
        verbs: &[],
    },
];

/// What each exit status means.
pub const EXITS: &[(u8, &str)] = &[
    (
        0,
        "status, watch: the daemon is at work; metrics, shared: printed, whatever there is to say; \
         wait: the barrier has passed; compare: all were timed; doctor: nothing to do",
    ),
    (
        1,
        "status, watch: the daemon has stopped, died or hangs; wait: the time was up first; \
         compare: one can't be had here or was late; doctor: something to do",
    ),
    (2, "the command line makes no sense"),
    (
        3,
        "the file was refused: the message says why and what to do (compare, doctor, metrics go on); \
         shared: the region was",
    ),
    (4, "the file was accepted, then caught lying"),
    (5, "the output could not be written"),
    (6, "wait: what --by names can't be had here: the message says why"),
];
