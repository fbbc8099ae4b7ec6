//! The daemon's counters, as they lie in the public file after the per-CPU table.
//!
//! This module owns their layout, names, units and meanings, for the daemon that writes them and for
//! all readers. It is handed a way to load words and knows nothing of mappings.
//!
//! They begin at [`base`]. The C daemon and its clients never read there, and that daemon never
//! shrinks a file. Every word is a little-endian `u64`, written by one thread in single stores.
//!
//! | offset from [`base`] | constant | meaning |
//! |---|---|---|
//! | 0 | [`MAGIC`] | [`MAGIC_VALUE`], stored last; 0 while a daemon starts over |
//! | 8 | [`VERSION`] | [`VERSION_VALUE`], raised if a word changes its place or its meaning |
//! | 16 | [`COUNT`] | number of words from [`FIRST`] on that this daemon writes |
//! | 24 | [`START_NS`] | when the daemon started, in nanoseconds of `CLOCK_MONOTONIC`: no two have the same |
//! | 32 + 8 i | [`FIRST`] | word i of [`TABLE`] |
//!
//! **Other versions.** New words are added at the end. An older daemon's file has fewer, and a reader
//! finds `None` for the rest. In a newer daemon's file, a reader ignores the words that it doesn't know.
//!
//! **What is in it.** Everyone can read the file, so no word tells when a single CPU takes
//! interrupts. There are sums over all CPUs, and the CPU that held up the longest round of all. The
//! counters tell when a scan was made, as the heartbeat does.

use std::sync::atomic::{Ordering, fence};

use crate::abi;

/// Alignment of the section in bytes, so that it shares no cache line with words that waiters read.
pub const ALIGN: usize = 128;
/// Offset of the magic number.
pub const MAGIC: usize = 0;
/// Offset of the layout's version.
pub const VERSION: usize = 8;
/// Offset of the number of words.
pub const COUNT: usize = 16;
/// Offset of the daemon's start, nanoseconds of `CLOCK_MONOTONIC`.
pub const START_NS: usize = 24;
/// Offset of the first word of [`TABLE`].
pub const FIRST: usize = 32;

/// The bytes `counters` as a little-endian number.
pub const MAGIC_VALUE: u64 = u64::from_le_bytes(*b"counters");
/// The version of this layout.
pub const VERSION_VALUE: u64 = 1;
/// The value of a word that has none now.
pub const NONE: u64 = u64::MAX;

/// The number of times that a reader tries again if a daemon is just starting over.
const TRIES: usize = 3;

/// How a word changes over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises while the daemon runs, from 0 at its start.
    Counter,
    /// It goes up and down, or never changes.
    Gauge,
    /// It identifies the daemon, and is no quantity.
    Identity,
}

/// The unit that a word counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// 0 for no, 1 for yes.
    Flag,
    /// Nanoseconds.
    Nanoseconds,
    /// A CPU's number, or [`NONE`].
    Cpu,
}

/// A row of [`TABLE`]: one word.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The word that this row describes.
    pub word: Word,
    /// Its name, in lower case with underscores, without its unit.
    pub name: &'static str,
    /// How it changes over time.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its meaning, in one line.
    pub help: &'static str,
}

macro_rules! words {
    ($($word:ident, $name:literal, $kind:ident, $unit:ident, $help:literal;)*) => {
        /// The name of a word. As a number it is the word's place in [`TABLE`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Word {
            $(#[doc = concat!($help, ".")] $word,)*
        }

        /// Every word, in the order of their places.
        pub const TABLE: &[Entry] = &[
            $(Entry {
                word: Word::$word,
                name: $name,
                kind: Kind::$kind,
                unit: Unit::$unit,
                help: $help,
            },)*
        ];
    };
}

// Add at the end only. To take one out, or to change what it means, raise VERSION_VALUE.
words! {
    Pid, "pid", Identity, Count, "The daemon's process id, in its own namespace";
    Program, "program", Identity, Count, "The daemon's version: major * 2^32 + minor * 2^16 + patch";
    StartUnix, "start_time", Gauge, Nanoseconds, "When the daemon started, since the Unix epoch";
    Tick, "tick", Gauge, Nanoseconds, "Time between two timer interrupts of a busy CPU";
    Cycle, "cycle", Gauge, Nanoseconds, "Time between two barriers while a CPU is busy and someone waits";
    BusyCpus, "busy_cpus", Gauge, Count, "CPUs, the daemon's own aside, not known to be idle at its last look";
    IdleInference, "idle_inference", Gauge, Flag, "Whether an idle CPU passes barriers at once (1) or at its next interrupt (0)";
    TracingProved, "tracing_proved", Gauge, Flag, "Whether tracing was seen to work (1); while not (0), nothing is published";
    Rounds, "rounds", Counter, Count, "Barriers completed on every CPU, one after the other";
    Scans, "scans", Counter, Count, "Looks at all CPUs that were published";
    WakeUps, "wake_ups", Counter, Count, "Waits of the daemon that ended";
    Notifications, "notifications", Counter, Count, "Waits of the daemon that BPF ended";
    Sleeps, "sleeps", Counter, Count, "Waits of the daemon on an idle machine";
    Requests, "requests", Counter, Count, "Sound requests for expedited barriers";
    DroppedRequests, "dropped_requests", Counter, Count, "Requests that were malformed";
    Expedited, "expedited_rounds", Counter, Count, "Rounds made for requests; one may serve many";
    Kicks, "kicks", Counter, Count, "Interrupts that the daemon sent to CPUs that lagged";
    MissedKicks, "missed_kicks", Counter, Count, "Kicks that moved nothing";
    DeadKicks, "dead_kicks", Counter, Count, "Times that a CPU was given up because kicks don't reach it";
    MissedEvents, "missed_events", Counter, Count, "Switches out of a CPU's idle task that were not traced: each can delay a barrier, none lets one pass early";
    LongestRound, "longest_round", Gauge, Nanoseconds, "Longest round that a CPU was seen to hold up, since the daemon's start";
    LongestRoundCpu, "longest_round_cpu", Gauge, Cpu, "The CPU that was last in that round";
    LostLogLines, "lost_log_lines", Counter, Count, "Lines of the daemon's log that could not be written at once, and were dropped";
    Keen, "keen", Gauge, Flag, "Whether somebody waited of late, so that barriers come each cycle (1), or not (0)";
}

/// Number of words in [`TABLE`].
pub const WORDS: usize = TABLE.len();

/// Size of the section in bytes.
pub const BYTES: usize = FIRST + WORDS * 8;

/// Returns the offset in bytes of the section in the public file for `ncpu` CPUs.
#[must_use]
pub const fn base(ncpu: usize) -> usize {
    abi::size_for(ncpu).next_multiple_of(ALIGN)
}

/// Returns the size in bytes of a public file for `ncpu` CPUs with the section, before rounding up to whole pages.
#[must_use]
pub const fn file_size_for(ncpu: usize) -> usize {
    base(ncpu) + BYTES
}

impl Word {
    /// Returns the word's offset in bytes from [`base`].
    #[must_use]
    pub const fn offset(self) -> usize {
        FIRST + self as usize * 8
    }
}

/// Packs a version into a number, for [`Word::Program`].
#[must_use]
pub const fn pack_version(major: u64, minor: u64, patch: u64) -> u64 {
    major << 32 | (minor & 0xffff) << 16 | patch & 0xffff
}

/// Returns the text, such as `0.1.0`, of a version that [`pack_version`] packed.
#[must_use]
pub fn version_text(packed: u64) -> String {
    format!("{}.{}.{}", packed >> 32, packed >> 16 & 0xffff, packed & 0xffff)
}

/// The reason why there are no counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountersError {
    /// The C daemon wrote the file.
    #[error("the C daemon keeps no counters; run this project's barrierd to have some")]
    Legacy,
    /// The file was made by a daemon that had none yet, or opened before this one added them.
    #[error("the file has no counters: its barrierd is older than they are; restart it")]
    Absent,
    /// The counters have another layout.
    #[error(
        "the file's counters are of layout {found}, and this program knows {VERSION_VALUE}: use \
         the barrierctl that came with the daemon"
    )]
    UnknownVersion {
        /// The version of the file's layout.
        found: u64,
    },
    /// A daemon was starting over at each try.
    #[error("a daemon is starting on this file: try again")]
    Changing,
}

/// The counters, read once. Each is true by itself; two of them may be a scan of the daemon's apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// When the daemon started, in nanoseconds of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    values: [u64; WORDS],
}

impl Counters {
    /// Returns the word's value; `None` if the daemon is too old to have it, or it has none now.
    #[must_use]
    pub fn get(&self, word: Word) -> Option<u64> {
        Some(self.values[word as usize]).filter(|&value| value != NONE)
    }

    /// Reads the section in a file for `ncpu` CPUs of which `len` bytes are mapped.
    ///
    /// `load` is called with multiples of 8 at least 8 below `len`, and may be Relaxed: the fences
    /// are here.
    ///
    /// # Errors
    ///
    /// Returns any [`CountersError`] except `Legacy`.
    pub fn read(
        ncpu: usize,
        len: usize,
        load: impl Fn(usize) -> u64,
    ) -> Result<Self, CountersError> {
        let base = base(ncpu);
        let Some(room) = len.checked_sub(base + FIRST) else { return Err(CountersError::Absent) };
        for _ in 0..TRIES {
            if load(base + MAGIC) != MAGIC_VALUE {
                let begun = load(base + VERSION) != 0;
                return Err(if begun { CountersError::Changing } else { CountersError::Absent });
            }
            // Partner: the daemon's Release store of the magic number, after the words it starts with.
            fence(Ordering::Acquire);
            let found = load(base + VERSION);
            if found != VERSION_VALUE {
                return Err(CountersError::UnknownVersion { found });
            }
            let start_ns = load(base + START_NS);
            // Partner: its Release store of the start, after the zeros: no word of an earlier daemon
            // is seen under it.
            fence(Ordering::Acquire);
            let count = usize::try_from(load(base + COUNT)).unwrap_or(usize::MAX).min(room / 8);
            let mut values = [NONE; WORDS];
            for (i, value) in values.iter_mut().enumerate().take(count) {
                *value = load(base + FIRST + i * 8);
            }
            // Partner: its Release fence between taking the magic number away and the zeros: if one
            // of those was read above, this finds the magic number gone, or another start.
            fence(Ordering::Acquire);
            if load(base + MAGIC) == MAGIC_VALUE {
                fence(Ordering::Acquire);
                if load(base + START_NS) == start_ns {
                    return Ok(Self { start_ns, values });
                }
            }
        }
        Err(CountersError::Changing)
    }
}

// What other versions rely on: these can't move.
const _: () = {
    assert!(FIRST == 32 && Word::Pid.offset() == 32 && Word::LongestRoundCpu.offset() == 200);
    assert!(base(1) == 256 && base(8) == 256 && base(9) == 384);
    let mut i = 0;
    while i < WORDS {
        assert!(TABLE[i].word as usize == i);
        i += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::HashSet;

    const CPUS: usize = 3;

    /// A file of this version's daemon: word i holds 100 + i.
    fn file() -> Vec<u64> {
        let mut words = vec![0; file_size_for(CPUS) / 8];
        let base = base(CPUS) / 8;
        words[base + MAGIC / 8] = MAGIC_VALUE;
        words[base + VERSION / 8] = VERSION_VALUE;
        words[base + COUNT / 8] = WORDS as u64;
        words[base + START_NS / 8] = 77;
        (0..WORDS).for_each(|i| words[base + FIRST / 8 + i] = 100 + i as u64);
        words
    }

    fn read(words: &[u64]) -> Result<Counters, CountersError> {
        Counters::read(CPUS, words.len() * 8, |offset| words[offset / 8])
    }

    fn with(offset: usize, value: u64) -> Vec<u64> {
        let mut words = file();
        words[(base(CPUS) + offset) / 8] = value;
        words
    }

    #[test]
    fn names_are_unique_and_plain_and_help_is_one_line() {
        let names: HashSet<_> = TABLE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), WORDS);
        for Entry { name, help, .. } in TABLE {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!name.ends_with("_total") && !name.ends_with("_ns"), "{name}");
            assert!(!help.contains(['\n', '\\']) && !help.ends_with('.'), "{help}");
        }
    }

    #[test]
    fn every_word_is_read_from_its_place() {
        let counters = read(&file()).expect("whole");
        assert_eq!(counters.start_ns, 77);
        for (i, entry) in TABLE.iter().enumerate() {
            assert_eq!(counters.get(entry.word), Some(100 + i as u64), "{}", entry.name);
        }
        let none = read(&with(Word::LongestRoundCpu.offset(), NONE)).expect("whole");
        assert_eq!(none.get(Word::LongestRoundCpu), None);
    }

    #[test]
    fn an_older_daemon_has_fewer_words_and_a_newer_one_more() {
        let older = read(&with(COUNT, 2)).expect("readable");
        assert_eq!(older.get(Word::Program), Some(101));
        assert_eq!(older.get(Word::StartUnix), None);
        let newer = read(&with(COUNT, 1_000)).expect("readable");
        assert_eq!(newer, read(&file()).expect("whole"));
        assert_eq!(read(&with(COUNT, u64::MAX)).expect("readable"), newer);
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(read(&vec![0; file().len()]), Err(CountersError::Absent));
        assert_eq!(read(&with(MAGIC, 0)), Err(CountersError::Changing));
        assert_eq!(read(&with(VERSION, 2)), Err(CountersError::UnknownVersion { found: 2 }));
        // However short the file is, nothing outside of it is asked for.
        let words = file();
        for len in 0..words.len() {
            match read(&words[..len]) {
                Ok(counters) => assert_eq!(counters.get(TABLE[WORDS - 1].word), None),
                Err(why) => assert_eq!(why, CountersError::Absent),
            }
        }
    }

    #[test]
    fn a_takeover_in_the_middle_is_noticed() {
        // The start changes after the words were read, each time.
        let words = file();
        let starts = Cell::new(0);
        let load = |offset: usize| {
            if offset == base(CPUS) + START_NS {
                starts.set(starts.get() + 1);
                return starts.get();
            }
            words[offset / 8]
        };
        let found = Counters::read(CPUS, words.len() * 8, load);
        assert_eq!(found, Err(CountersError::Changing));
        assert_eq!(starts.get(), 2 * TRIES as u64);
        // Or once.
        let starts = Cell::new(0);
        let load = |offset: usize| {
            if offset == base(CPUS) + START_NS {
                starts.set(starts.get() + 1);
                return if starts.get() == 1 { 5 } else { 77 };
            }
            words[offset / 8]
        };
        assert_eq!(Counters::read(CPUS, words.len() * 8, load), read(&words));
    }

    #[test]
    fn versions() {
        assert_eq!(version_text(pack_version(1, 22, 333)), "1.22.333");
    }
}
