//! A daemon's file as this process has it: one mapping, one socket, however many domains use it.
//!
//! Owns the list of mappings, and how often the daemon is asked to hurry. `evidence/daemons.rs` decides which file a
//! domain uses.
//!
//! A mapping lasts as long as some domain has it; the last one that was opened is kept for the domains to come,
//! since opening a file takes thirty system calls and a domain may live for a moment. The child of a fork
//! begins a list of its own, since a thread of the parent may have been changing this one; so the child opens each file
//! once more.

use crate::locks::lock;
use crate::platform::client::{Barrier, OpenError, Stamp};
use crate::process::fork::PerProcess;
use crate::sync::real::AtomicU64;
use core::ops::Deref;
use core::sync::atomic::Ordering::Relaxed;
use std::fs::symlink_metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf, absolute};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// Requests to hurry are at least this far apart, nanoseconds ...
const ASK_NS: u64 = 1_000_000;
/// ... and this, while the last one has not been served.
const ASK_AGAIN_NS: u64 = 10_000_000;

/// See the file's documentation.
#[derive(Debug)]
pub(crate) struct Mapped {
    barrier: Barrier,
    /// The stamp for which the daemon was last asked to hurry, by any domain, nanoseconds.
    asked_ns: AtomicU64,
}

impl Deref for Mapped {
    type Target = Barrier;

    fn deref(&self) -> &Barrier {
        &self.barrier
    }
}

#[derive(Default)]
struct List {
    /// In the order in which they were opened.
    known: Vec<Weak<Mapped>>,
    /// The last of them.
    last: Option<Arc<Mapped>>,
}

static LIST: PerProcess<Mutex<List>> = PerProcess::new();

fn list() -> MutexGuard<'static, List> {
    lock(LIST.get(Mutex::default))
}

/// Returns the file at `path`. If some domain has mapped the file that is still there, and it was not caught lying,
/// that mapping is used; otherwise the file is opened, with every check: a new domain judges it anew.
///
/// Costs a `stat` where the file is mapped.
pub(crate) fn open(path: &Path) -> Result<Arc<Mapped>, OpenError> {
    let path = whole(path);
    let mut list = list();
    let barrier = match find(&list, &path) {
        None => Barrier::open(&path)?,
        Some(known) => match known.reopen()? {
            None => return Ok(known),
            Some(barrier) => barrier,
        },
    };
    let new = Arc::new(Mapped { barrier, asked_ns: AtomicU64::new(0) });
    list.last = Some(new.clone());
    list.known.retain(|known| known.strong_count() > 0);
    list.known.push(Arc::downgrade(&new));
    Ok(new)
}

/// Returns the same for a caller that does not ask why there is none. Costs a `stat` where there is no file, too.
pub(crate) fn try_open(path: &Path) -> Option<Arc<Mapped>> {
    let path = whole(path);
    let unknown = find(&list(), &path).is_none();
    if unknown && symlink_metadata(&path).is_err_and(|why| why.kind() == ErrorKind::NotFound) {
        return None;
    }
    open(&path).ok()
}

fn find(list: &List, path: &Path) -> Option<Arc<Mapped>> {
    let mut known = list.known.iter().rev().filter_map(Weak::upgrade);
    let known = known.find(|known| known.path() == path)?;
    known.watermark().is_ok().then_some(known)
}

/// Returns `path` as `Barrier::path` has it.
fn whole(path: &Path) -> PathBuf {
    absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

impl Mapped {
    /// Asks for a barrier soon, unless some domain did a moment ago. `now_ns`: a stamp. Returns whether the request
    /// was sent.
    pub(crate) fn hurry(&self, now_ns: u64) -> bool {
        // Relaxed, all: this decides which thread sends, and nothing rests on that.
        let before = self.asked_ns.load(Relaxed);
        let served = self.watermark().is_ok_and(|mark| mark.ns > before);
        let due = if served { ASK_NS } else { ASK_AGAIN_NS };
        if now_ns.saturating_sub(before) < due
            || self.asked_ns.compare_exchange(before, now_ns, Relaxed, Relaxed).is_err()
        {
            return false;
        }
        // A hint: if the daemon ignores it, the barrier comes all the same.
        let _ = self.expedite(Stamp::from_ns(now_ns));
        true
    }
}
