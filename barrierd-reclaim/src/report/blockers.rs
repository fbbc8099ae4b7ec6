//! The report on which threads hold garbage back, for people and for monitoring.
//!
//! This file owns the report, and knows nothing of what follows from it. The report reads words that readers store
//! meanwhile, and proves nothing.

use crate::engine::Engine;
use crate::engine::flights::Blocked;
use crate::engine::record::Record;
use crate::meter::Meter;
use crate::meter::ledger::Together;
use crate::meter::sums::Sum;
use crate::platform::now_ns;
use std::collections::HashMap;
use std::time::Duration;

/// A section that is open, or a destructor that blocks ([`Reclaimer::blockers`](crate::Reclaimer::blockers)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocker {
    /// The thread, as the kernel numbers it (or a count, see [platforms](crate::docs::platforms)): the one on which the guard's record was made. An
    /// [`OwnedGuard`](crate::OwnedGuard) or a [`Handle`](crate::Handle) may have moved since.
    pub tid: u32,
    /// The thread's name as the kernel has it, at most 15 bytes; `None` if the thread has ended, and where
    /// the system does not tell.
    pub thread: Option<String>,
    /// How long the section has been open, at most. It began after the last stamp that it noted, which may be much
    /// earlier where no thread retires.
    pub open_for: Duration,
    /// Whether the section is a [`RobustGuard`](crate::RobustGuard)'s, which holds back only what is older than its
    /// last load.
    pub robust: bool,
    /// Whether this is no section but a destructor that has run on a background thread for longer than 100 ms: on the
    /// thread `tid`, for `open_for`. It holds back the rest of its bag, which
    /// [`synchronize`](crate::Reclaimer::synchronize) takes away from it. `holds_items` counts that and the
    /// destructor's own object; `holds_bytes` does not. What inactive threads hold of this domain waits for it as
    /// well.
    pub destructor: bool,
    /// The most objects that it holds back: those that wait and may have been retired since it began. They may wait
    /// for other sections as well, or for a barrier, so these figures don't add up.
    ///
    /// The figure is computed from what threads noted once in two bags. So each thread may add 128 objects that it
    /// retired before (some 250, if it retires objects with a birth and without). Once a thread has retired more than
    /// 32 bags under the oldest section, it may also add about a seventh of what it has retired since that section
    /// began. A robust section holds nothing that was [born](crate::Born) after its last load, but such objects are
    /// counted here.
    pub holds_items: u64,
    /// The size of these objects in bytes; as for [`Stats::waiting_bytes`](crate::Stats::waiting_bytes).
    pub holds_bytes: u64,
}

/// An open section, before anything is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Open {
    /// Nanoseconds.
    pub(crate) era: u64,
    pub(crate) record: *const Record,
    tid: u32,
    pub(crate) robust: bool,
}

impl Open {
    /// Makes a plain one, for tests that look nothing up.
    #[cfg(all(test, not(barrierd_loom)))]
    pub(crate) fn new(record: *const Record, era: u64) -> Open {
        Open { era, record, tid: 0, robust: false }
    }
}

/// Returns all open sections.
pub(crate) fn sections(engine: &Engine) -> impl Iterator<Item = Open> {
    engine
        .records()
        .flat_map(|record| {
            let open = |era, robust| Open { era, record, tid: record.tid(), robust };
            let plain = record.reader().pinned().map(|era| open(era, false));
            let robust = record.interval().ends().map(|(lo, _)| open(lo, true));
            [plain, robust]
        })
        .flatten()
}

/// Returns all of them, the oldest first: when it ends, the most becomes reclaimable.
///
/// It is linear in records and marks, except for two sorts.
pub(crate) fn list(engine: &Engine) -> Vec<Blocker> {
    let mut open: Vec<Open> = sections(engine).collect();
    let destructor = engine.blocked_destructor().map(Blocker::of_destructor);
    if open.is_empty() {
        return Vec::from_iter(destructor);
    }
    open.sort_unstable();
    let mut about = About::new(engine);
    let mut all: Vec<Blocker> = open.into_iter().map(|section| about.blocker(section)).collect();
    if let Some(destructor) = destructor {
        let at = all.iter().position(|section| section.open_for < destructor.open_for);
        all.insert(at.unwrap_or(all.len()), destructor);
    }
    all
}

/// The data that is looked up once for all sections of a report.
pub(crate) struct About {
    now_ns: u64,
    /// How much was retired by which time in the whole domain, and how much by now.
    retired: Together,
    all: Sum,
    waiting: Sum,
    names: HashMap<u32, Option<String>>,
}

impl About {
    /// It costs a walk over all records that the domain ever had.
    pub(crate) fn new(engine: &Engine) -> About {
        // The marks are read first, so what they count as retired is included in the total.
        let meters = || engine.all_records().map(Record::meter);
        let retired = Together::new(meters().map(Meter::ledger));
        let all = meters().map(Meter::retired).fold(Sum::default(), Sum::plus);
        let waiting = Sum { items: engine.waiting(), bytes: engine.waiting_bytes() };
        About { now_ns: now_ns(), retired, all, waiting, names: HashMap::new() }
    }

    /// It costs a search, and a read from `/proc` for a thread's first section.
    pub(crate) fn blocker(&mut self, section: Open) -> Blocker {
        let Open { era, tid, robust, .. } = section;
        let before = self.retired.before(era);
        Blocker {
            tid,
            thread: self.names.entry(tid).or_insert_with(|| name(tid)).clone(),
            open_for: Duration::from_nanos(self.now_ns.saturating_sub(era)),
            robust,
            destructor: false,
            holds_items: self.all.items.saturating_sub(before.items).min(self.waiting.items),
            holds_bytes: self.all.bytes.saturating_sub(before.bytes).min(self.waiting.bytes),
        }
    }
}

impl Blocker {
    /// Returns the report of a destructor that has run for so long on thread `tid`. It costs a read from `/proc`.
    pub(crate) fn of_destructor(blocked: Blocked) -> Blocker {
        let Blocked { tid, runs, holds_items } = blocked;
        Blocker {
            tid,
            thread: name(tid),
            open_for: runs,
            robust: false,
            destructor: true,
            holds_items,
            holds_bytes: 0,
        }
    }
}

fn name(tid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
