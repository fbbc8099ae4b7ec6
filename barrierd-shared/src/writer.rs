//! A writer: its slot, its barriers, and its turns.
//!
//! This file owns when turns are taken and what is done before and after. What is done in one is `change.rs` and `reclaim.rs`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use barrierd_client::{abi, time_ns};

use crate::blocks::{Blocks, size_of_class};
use crate::change::Turn;
use crate::error::{Held, JoinError, WriteError};
use crate::files::Inner;
use crate::fork::Process;
use crate::hand::Hand;
use crate::journal;
use crate::layout::{DEATHS, LATEST, RECOVERIES, TURN, WRITER_PIDS};
use crate::lock::SlotLock;
use crate::reclaim::PORTION;
use crate::region::Region;
use crate::source::{Barriers, Source};
use crate::steps::is_dead;
use crate::sweep::Sweep;
use crate::sync::{Ordering, now, sleep};
use crate::turn;

/// Memory that was never used is touched so far ahead of its use, and again when half of that is used.
const AHEAD: u64 = 1 << 18;
/// Between two looks at a reader that holds something back; and between two turns that free much, as long as one takes: who waits for the
/// turn looks at it from time to time, and would find it taken each time.
const NAP: Duration = Duration::from_millis(1);

/// How a writer works.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    barrier: PathBuf,
    membarrier: bool,
    patience: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        let barrier = abi::DEFAULT_PATH.into();
        WriterOptions { barrier, membarrier: true, patience: Duration::from_secs(1) }
    }
}

impl WriterOptions {
    /// The daemon's file, if it is not at the usual place.
    #[must_use]
    pub fn barrier(mut self, path: impl Into<PathBuf>) -> WriterOptions {
        self.barrier = path.into();
        self
    }

    /// Whether a global membarrier may stand in for a daemon that is not there, in calls that wait. It is so by default.
    #[must_use]
    pub fn membarrier(mut self, may: bool) -> WriterOptions {
        self.membarrier = may;
        self
    }

    /// How long a turn is waited for, by default a second: others' turns take microseconds, unless they are stopped in one.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> WriterOptions {
        self.patience = patience;
        self
    }
}

/// One writer. Writers write in turns, one at a time in the whole region; any of them may die in its turn.
pub struct Writer {
    pub(crate) barriers: Barriers,
    /// What the turn has under way. Kept for its memory.
    pub(crate) hand: Hand,
    index: usize,
    process: Process,
    patience: Duration,
    /// What it knows of the slots.
    pub(crate) sweep: Sweep,
    /// How far this process has touched what was never used.
    touched: u64,
    /// The slot that the next scan asks first whether its reader lives.
    pub(crate) next_asked: usize,
    // Dropped last but the region: by then this writer stores nothing more.
    _lock: SlotLock,
    region: Region,
}

impl Writer {
    pub(crate) fn join(region: Region, options: &WriterOptions) -> Result<Writer, JoinError> {
        let io = |source| JoinError::Io { role: "writer", source };
        let inner = region.inner();
        let locks = inner.writers_file.as_ref().filter(|_| inner.data.is_writable());
        let locks = locks.ok_or(JoinError::ReadOnly)?;
        // A clock that is shifted makes stamps that the daemon's barriers say nothing about.
        if !time_ns::is_initial().map_err(io)? {
            return Err(JoinError::TimeNamespace);
        }
        let process = Process::current().map_err(io)?;
        let mut taken = None;
        for index in 0..inner.writers {
            let lock = SlotLock::try_take(locks, index);
            if let Some(lock) = lock.map_err(JoinError::lock("writer"))? {
                taken = Some((index, lock));
                break;
            }
        }
        let (index, lock) =
            taken.ok_or(JoinError::Full { role: "writer", slots: inner.writers })?;
        let pid = u64::from(std::process::id());
        inner.data.word(WRITER_PIDS + index as u64 * 8).store(pid, Ordering::Relaxed);
        let dies_in_turn =
            turn::holder(inner.data.word(TURN).load(Ordering::Relaxed)) == Some(index);
        let mut writer = Writer {
            barriers: Barriers::new(&options.barrier, options.membarrier),
            hand: Hand::default(),
            index,
            process,
            patience: options.patience,
            sweep: Sweep::default(),
            touched: 0,
            next_asked: 0,
            _lock: lock,
            region,
        };
        // The one who had this slot died in a turn. From now on its slot looks alive, so this writer is the one to end it.
        if dies_in_turn {
            drop(writer.turn()?);
        }
        Ok(writer)
    }

    /// Takes the turn, and first completes or undoes what a dead writer had under way.
    ///
    /// Where something waits it frees a few blocks, once in some turns.
    ///
    /// # Errors
    ///
    /// [`WriteError::Busy`] if another writer, which lives, keeps the turn for longer than this one waits;
    /// [`WriteError::Forked`], [`WriteError::Corrupt`].
    pub fn turn(&mut self) -> Result<Turn<'_>, WriteError> {
        let patience = self.patience;
        self.tidy_turn(|| after(patience))
    }

    /// The same, with a deadline for the wait.
    ///
    /// # Errors
    ///
    /// As for [`turn`](Self::turn).
    pub fn turn_by(&mut self, deadline: Instant) -> Result<Turn<'_>, WriteError> {
        self.tidy_turn(|| deadline)
    }

    fn tidy_turn(&mut self, deadline: impl FnOnce() -> Instant) -> Result<Turn<'_>, WriteError> {
        // Before the turn, since others wait for its end.
        let begins = self.sweep.begins() && self.blocks().waits();
        let watermark = begins.then(|| self.barriers.watermark());
        self.touch_ahead();
        self.hand.joined.turn();
        let mut turn = self.plain_turn(deadline)?;
        turn.tidy(watermark)?;
        Ok(turn)
    }

    /// Has the kernel map what will be used next: a turn would otherwise wait for that, page by page.
    fn touch_ahead(&mut self) {
        let (data, top) = (&self.region.inner().data, self.blocks().top());
        if top + AHEAD / 2 <= self.touched || self.touched >= data.len() {
            return;
        }
        let to = (top + AHEAD).min(data.len());
        // Where the kernel does not know how, turns wait.
        let done = data.touch(top.max(self.touched), to);
        self.touched = if done { to } else { u64::MAX };
    }

    fn plain_turn(&mut self, deadline: impl FnOnce() -> Instant) -> Result<Turn<'_>, WriteError> {
        if !self.process.is_current() {
            return Err(WriteError::Forked);
        }
        let inner = self.region.inner();
        let is_dead = |writer: usize| writer_is_dead(inner, writer);
        let taken = turn::take(inner.data.word(TURN), self.index, deadline, is_dead);
        let taken = taken.map_err(|turn::Kept { by: slot, turns }| {
            let pid = inner.data.word(WRITER_PIDS + (slot % inner.writers) as u64 * 8);
            WriteError::Busy { slot, pid: pid.load(Ordering::Relaxed), turns }
        })?;
        self.hand.clear();
        // From here on the drop of the turn ends it.
        let turn = Turn::new(self, taken.dirty);
        if taken.dirty {
            let blocks = turn.blocks();
            journal::recover(blocks)?;
            for count in [RECOVERIES, DEATHS] {
                blocks.put(count, blocks.read(count).wrapping_add(1));
            }
            turn.is_clean();
        }
        Ok(turn)
    }

    /// Frees what can be freed now, without a wait for readers or barriers. Returns the number of blocks. A turn frees 4096 of them at
    /// most; between two turns other writers have theirs. It learns of 64 deaths of
    /// readers at most: where more have died at once, the next call learns of the others.
    ///
    /// # Errors
    ///
    /// As for [`turn`](Self::turn).
    pub fn flush(&mut self) -> Result<usize, WriteError> {
        self.free_until(|_| false)
    }

    /// Frees what can be freed, a portion a turn, until there is a block of so many bytes. Where there is one already it takes no turn.
    pub(crate) fn make_room(&mut self, bytes: u64) -> Result<(), WriteError> {
        self.free_until(|blocks| blocks.has_bytes(bytes)).map(drop)
    }

    fn free_until(&mut self, enough: impl Fn(Blocks<'_>) -> bool) -> Result<usize, WriteError> {
        let patience = self.patience;
        // Not for ever, whoever puts back what is freed.
        let blocks = self.region.inner().data.len() / size_of_class(0);
        let mut freed = 0;
        for round in 0..=blocks / PORTION as u64 {
            if enough(self.blocks()) {
                break;
            }
            if round > 0 {
                sleep(NAP);
            }
            let portion = self.plain_turn(|| after(patience))?.reclaim()?;
            freed += portion;
            if portion < PORTION {
                break;
            }
        }
        Ok(freed)
    }

    /// Frees all that any writer had retired before this call, and waits for readers and barriers as long as `deadline` allows. A turn
    /// frees 4096 blocks at most, as in [`flush`](Self::flush). A barrier that is under way may make it late by some milliseconds where there is no daemon.
    ///
    /// # Errors
    ///
    /// [`WriteError::Deadline`], with what is in the way; and as for [`turn`](Self::turn).
    pub fn synchronize(&mut self, deadline: Instant) -> Result<(), WriteError> {
        let mut target = None;
        loop {
            let mut turn = self.plain_turn(|| deadline)?;
            // What is retired by now has this stamp or an earlier one.
            let latest = turn.latest()?;
            let target = *target.get_or_insert(latest);
            let freed = turn.reclaim()?;
            let why = if freed == PORTION { Held::Turns } else { turn.why() };
            let (oldest, waiting_bytes) = (turn.oldest()?, turn.waiting_bytes());
            drop(turn);
            if oldest.is_none_or(|oldest| oldest > target) {
                return Ok(());
            }
            let now = now();
            if now >= deadline {
                return Err(WriteError::Deadline { waiting_bytes, why });
            }
            if let Held::Reader { .. } | Held::Turns = why {
                sleep(NAP.min(deadline - now));
            } else {
                let latest = self.region.inner().data.word(LATEST);
                self.barriers.wait(target, latest, deadline);
            }
        }
    }

    /// Returns where its barriers come from at the moment.
    #[must_use]
    pub fn source(&self) -> Source {
        self.barriers.source()
    }

    /// Returns the number of its slot, by which errors and figures call it.
    #[must_use]
    pub fn slot(&self) -> usize {
        self.index
    }

    /// Returns the region.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn process(&self) -> Process {
        self.process
    }

    pub(crate) fn blocks(&self) -> Blocks<'_> {
        Blocks(&self.region.inner().data)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.process.is_current() && !is_dead() {
            let pid = self.region.inner().data.word(WRITER_PIDS + self.index as u64 * 8);
            pid.store(0, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("slot", &self.index).finish_non_exhaustive()
    }
}

/// Returns the time `patience` from now, or one that nobody lives to see.
fn after(patience: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    now() + patience.min(CENTURY)
}

/// Returns whether the writer's lock is free. What can't be asked lives.
fn writer_is_dead(inner: &Inner, writer: usize) -> bool {
    // A number that is no writer's stands there since somebody broke the word: nobody has that turn.
    let held = |locks| SlotLock::is_held(locks, writer).unwrap_or(true);
    writer >= inner.writers || !inner.writers_file.as_ref().is_none_or(held)
}
