//! Who holds garbage back: for people and for monitoring.
//!
//! Owns the report. Knows nothing of what follows from it: it is a look at words that readers store
//! meanwhile, and proves nothing.

use crate::record::Record;
use barrierd_client::clock::now_ns;
use std::time::Duration;

/// A section that is open ([`Reclaimer::blockers`](crate::Reclaimer::blockers)).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocker {
    /// The thread, as the kernel numbers it: the one that the guard's place was made on. An
    /// [`OwnedGuard`](crate::OwnedGuard) or a [`Handle`](crate::Handle) may have moved since.
    pub tid: u32,
    /// Its name as the kernel has it, at most 15 bytes; `None` if it has ended.
    pub thread: Option<String>,
    /// How long the section has been open, at most: it began after the era that it noted down had
    /// begun, so with a daemon some milliseconds less.
    pub open_for: Duration,
    /// It is a [`RobustGuard`](crate::RobustGuard)'s, which holds back only what is older than its last
    /// load.
    pub robust: bool,
}

/// All of them, the oldest first: its end lets the most go.
pub(crate) fn look<'r>(records: impl Iterator<Item = &'r Record>) -> Vec<Blocker> {
    let mut open: Vec<(u64, u32, bool)> = records
        .flat_map(|record| {
            let plain = record.reader().pinned().map(|era| (era, record.tid(), false));
            let robust = record.interval().ends().map(|(lo, _)| (lo, record.tid(), true));
            [plain, robust]
        })
        .flatten()
        .collect();
    open.sort_unstable();
    let now = now_ns();
    let report = |(era, tid, robust)| Blocker {
        tid,
        thread: name(tid),
        open_for: Duration::from_nanos(now.saturating_sub(era)),
        robust,
    };
    open.into_iter().map(report).collect()
}

fn name(tid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/self/task/{tid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}
