//! What a region shows of itself, for people.
//!
//! This file owns the report. It takes no turn and proves nothing: each figure is of its own moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use barrierd_client::clock;

use crate::files::Inner;
use crate::layout::{
    DEATHS, FREE_BYTES, RECOVERIES, TOP, TURN, WAITING, WAITING_BYTES, WORD, WRITER_PIDS, slot_at,
};
use crate::lock::SlotLock;
use crate::slots::{self, Scan};
use crate::turn;

/// A region's figures.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of the data file.
    pub bytes: u64,
    /// Bytes that are free, in blocks or not yet in any.
    pub free_bytes: u64,
    /// Retired blocks that wait for readers or a barrier.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Dead participants whose traces were found and removed: readers with a slot, writers with a turn.
    pub deaths: u64,
    /// Dead writers' turns that were completed or undone.
    pub recoveries: u64,
    /// The slots that have, or had, a reader.
    pub readers: Vec<ReaderStats>,
    /// The slots that have a living writer.
    pub writers: Vec<WriterStats>,
}

/// A reader.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStats {
    /// Its slot.
    pub slot: usize,
    /// Its process, as it called itself in its own pid namespace.
    pub pid: u64,
    /// The name of the process that has this number here and now.
    pub command: Option<String>,
    /// Whether it lives.
    pub lives: bool,
    /// For how long its section has been open, at most; `None` if it is in none.
    pub section: Option<Duration>,
}

/// A writer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStats {
    /// Its slot.
    pub slot: usize,
    /// Its process, as it called itself in its own pid namespace.
    pub pid: u64,
    /// The name of the process that has this number here and now.
    pub command: Option<String>,
    /// Whether it has the turn.
    pub has_turn: bool,
}

impl Stats {
    pub(crate) fn of(inner: &Inner) -> Stats {
        // Relaxed, all: for people.
        let read = |at: u64| inner.data.word(at).load(Ordering::Relaxed);
        let now = clock::now_ns();
        let readers = (0..inner.readers).filter_map(|slot| {
            let (word, pid) =
                (inner.slots.word(slot_at(slot)), inner.slots.word(slot_at(slot) + WORD));
            let lives = SlotLock::is_held(&inner.slots_file, slot).unwrap_or(true);
            if !lives && word.load(Ordering::Relaxed) == slots::NOBODY {
                return None;
            }
            let oldest = Scan::of(word).oldest;
            let section =
                (oldest != u64::MAX).then(|| Duration::from_nanos(now.saturating_sub(oldest)));
            let pid = pid.load(Ordering::Relaxed);
            Some(ReaderStats { slot, pid, command: command(pid), lives, section })
        });
        let holder = turn::holder(read(TURN));
        let writers = (0..inner.writers).filter_map(|slot| {
            if !SlotLock::is_held(&inner.data_file, slot).unwrap_or(true) {
                return None;
            }
            let pid = read(WRITER_PIDS + slot as u64 * 8);
            Some(WriterStats { slot, pid, command: command(pid), has_turn: holder == Some(slot) })
        });
        let bytes = inner.data.len();
        Stats {
            bytes,
            free_bytes: read(FREE_BYTES).saturating_add(bytes.saturating_sub(read(TOP))).min(bytes),
            waiting: read(WAITING),
            waiting_bytes: read(WAITING_BYTES),
            deaths: read(DEATHS),
            recoveries: read(RECOVERIES),
            readers: readers.collect(),
            writers: writers.collect(),
        }
    }
}

/// Returns a process's name.
fn command(pid: u64) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
