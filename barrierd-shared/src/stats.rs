//! What a region shows of itself, for people.
//!
//! This file owns the report. It takes no turn and proves nothing: each figure is of its own moment.

use crate::sync::Ordering;
use std::path::Path;
use std::time::Duration;

use barrierd_client::clock;

use crate::any;
use crate::blocks::Blocks;
use crate::error::RegionError;
use crate::files::{self, Inner, Use};
use crate::layout::{
    BLOCKS, DEATHS, FREE_BYTES, RECOVERIES, TOP, TURN, WAITING, WAITING_BYTES, WORD, WRITER_PIDS,
    slot_at,
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
    /// Bytes of published blocks, with their headers; what a writer has in its hand counts.
    pub live_bytes: u64,
    /// Retired blocks that wait for readers or a barrier.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// For how long the oldest of them has waited; `None` if none waits.
    pub oldest_waiting: Option<Duration>,
    /// Dead participants whose traces were found and removed: readers with a slot, writers with a turn.
    pub deaths: u64,
    /// Dead writers' turns that were completed or undone.
    pub recoveries: u64,
    /// How many readers there can be at once.
    pub reader_slots: usize,
    /// The slots that have, or had, a reader. That of a dead reader is free, and holds nothing back.
    pub readers: Vec<ReaderStats>,
    /// How many writers there can be at once.
    pub writer_slots: usize,
    /// The slots that have a living writer, and that of a dead one whose turn nobody has completed or undone yet; where this
    /// process may not read the writers' file, all that had one.
    pub writers: Vec<WriterStats>,
    /// What lies at roots and looks like a [`SharedMap`](crate::SharedMap). Cells and other structures are not told apart.
    pub maps: Vec<MapStats>,
}

/// A map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapStats {
    /// Its root.
    pub root: usize,
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of a value.
    pub value_bytes: u64,
    /// Whether those who made it have stated a [schema](crate::SharedMap::schema).
    pub has_schema: bool,
    /// How many entries there are.
    pub entries: u64,
    /// How many buckets there are.
    pub buckets: u64,
    /// The blocks of its entries, of its buckets, and of itself.
    pub blocks: u64,
    /// Their bytes, with headers.
    pub bytes: u64,
    /// Whether entries of a table that was cleared are still being taken away, by the next writers' calls; they are not in these
    /// figures.
    pub clearing: bool,
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
    /// Whether the oldest retired block waits for this section.
    pub holds_back: bool,
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
    /// Whether it lives.
    pub lives: bool,
    /// Whether it has the turn.
    pub has_turn: bool,
}

impl Stats {
    /// Returns what the region at `path` shows of itself. Both of its files are opened and mapped read-only: it stores nothing,
    /// and takes no slot. They must belong to root or to the effective user, as for [`Region::open`](crate::Region::open).
    ///
    /// # Errors
    ///
    /// A [`RegionError`], which names what is wrong with it.
    pub fn at(path: impl AsRef<Path>) -> Result<Stats, RegionError> {
        files::open(path.as_ref(), Use::Look, None).map(|files| Stats::of(&files))
    }

    /// The same, where the files may belong to user `owner`, too, whom the caller trusts as
    /// [`Region::open_of`](crate::Region::open_of) says.
    ///
    /// # Errors
    ///
    /// As for [`at`](Self::at).
    pub fn at_of(path: impl AsRef<Path>, owner: u32) -> Result<Stats, RegionError> {
        files::open(path.as_ref(), Use::Look, Some(owner)).map(|files| Stats::of(&files))
    }

    pub(crate) fn of(inner: &Inner) -> Stats {
        // Relaxed, all: for people.
        let read = |at: u64| inner.data.word(at).load(Ordering::Relaxed);
        let now = clock::now_ns();
        let since = |ns: u64| Duration::from_nanos(now.saturating_sub(ns));
        // Without the turn it may be another block's, or none's, by now: then nothing is said of it.
        let waits_since = Blocks(&inner.data).oldest().ok().flatten().map(|(_, stamp)| stamp);
        let readers = (0..inner.readers).filter_map(|slot| {
            let (word, pid) =
                (inner.slots.word(slot_at(slot)), inner.slots.word(slot_at(slot) + WORD));
            let lives = SlotLock::is_held(&inner.slots_file, slot).unwrap_or(true);
            if !lives && word.load(Ordering::Relaxed) == slots::NOBODY {
                return None;
            }
            let oldest = Scan::of(word).oldest;
            let section = (oldest != u64::MAX).then(|| since(oldest));
            let holds_back = lives && waits_since.is_some_and(|stamp| oldest < stamp);
            let pid = pid.load(Ordering::Relaxed);
            Some(ReaderStats { slot, pid, command: command(pid), lives, section, holds_back })
        });
        let holder = turn::holder(read(TURN));
        let writers = (0..inner.writers).filter_map(|slot| {
            let pid = read(WRITER_PIDS + slot as u64 * 8);
            let lives = match &inner.writers_file {
                Some(locks) => SlotLock::is_held(locks, slot).unwrap_or(true),
                None => pid != 0,
            };
            let has_turn = holder == Some(slot);
            if !lives && !has_turn {
                return None;
            }
            Some(WriterStats { slot, pid, command: command(pid), lives, has_turn })
        });
        let (bytes, top) = (inner.data.len(), read(TOP));
        let (free, waiting_bytes) = (read(FREE_BYTES), read(WAITING_BYTES));
        Stats {
            bytes,
            free_bytes: free.saturating_add(bytes.saturating_sub(top)).min(bytes),
            live_bytes: top
                .min(bytes)
                .saturating_sub(BLOCKS.saturating_add(free).saturating_add(waiting_bytes)),
            waiting: read(WAITING),
            waiting_bytes,
            oldest_waiting: waits_since.map(since),
            deaths: read(DEATHS),
            recoveries: read(RECOVERIES),
            reader_slots: inner.readers,
            readers: readers.collect(),
            writer_slots: inner.writers,
            writers: writers.collect(),
            maps: any::maps(&inner.data),
        }
    }
}

/// Returns a process's name.
fn command(pid: u64) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
