//! The collector of models: it keeps book of who is in a section, and calls what was deferred as early as it may.
//!
//! The book is plain memory, which loom doesn't see: loom runs one thread at a time, and changes threads only before
//! an operation on what is its own. So an entry that directly follows such an operation belongs to it. What the
//! book's entries mean to the memory model is said by two words of loom's, which are only ever changed by
//! read-modify-writes; so each sees the one before, and a Release is handed on by those behind it:
//!
//! | | on `deferred` | on `ended` |
//! |---|---|---|
//! | a section opens, is entered | Acquire: pairs with the defers whose calls don't wait for it | |
//! | a function is deferred; it waits for all that are entered | Release: the unlink is before it | Relaxed, first: so that loom tries it before and after each end |
//! | a section ends, and is struck out | | Release |
//! | functions that wait for nobody any more are called | | Acquire: pairs with the ends they waited for |
//!
//! A section that opens after a function was deferred, and so isn't waited for, finds the unlink by the first pair. One
//! that opened before is struck out before the call, and what it read is before the call by the second.

use super::guard::Guard;
use core::cell::Cell;
use core::fmt;
use core::mem;
use loom_crate::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom_crate::sync::atomic::{AtomicUsize, fence};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A domain of structures whose garbage waits for the same guards. Clones are the same collector, and compare equal.
#[derive(Clone)]
pub struct Collector {
    // The standard library's: loom's would synchronise what clones and drops it.
    shared: Arc<Shared>,
}

struct Shared {
    deferred: AtomicUsize,
    ended: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    sections: u64,
    open: Vec<u64>,
    calls: Vec<(Call, Vec<u64>)>,
}

impl Collector {
    /// Makes a new collector.
    pub fn new() -> Collector {
        let (deferred, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Collector { shared: Arc::new(Shared { deferred, ended, book: Mutex::default() }) }
    }

    /// Registers a new participant.
    pub fn register(&self) -> LocalHandle {
        let local = Local { collector: self.clone(), guards: Cell::new(0), section: Cell::new(0) };
        LocalHandle { local: Rc::new(local) }
    }

    /// Never held where loom may change threads, nor while foreign code runs.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> u64 {
        self.shared.deferred.fetch_add(0, Acquire);
        let mut book = self.book();
        book.sections += 1;
        let section = book.sections;
        book.open.push(section);
        section
    }

    fn end(&self, section: u64) {
        self.shared.ended.fetch_add(0, Release);
        let mut book = self.book();
        book.open.retain(|open| *open != section);
        book.calls.iter_mut().for_each(|(_, waits_for)| waits_for.retain(|open| *open != section));
        let (due, waiting): (Vec<_>, Vec<_>) =
            mem::take(&mut book.calls).into_iter().partition(|(_, waits_for)| waits_for.is_empty());
        book.calls = waiting;
        drop(book);
        if !due.is_empty() {
            self.shared.ended.fetch_add(0, Acquire);
            due.into_iter().for_each(|(call, _)| call.make());
        }
    }

    fn defer(&self, call: Call) {
        self.shared.ended.fetch_add(0, Relaxed);
        self.shared.deferred.fetch_add(0, Release);
        let mut book = self.book();
        // The caller's own section at least.
        let waits_for = book.open.clone();
        book.calls.push((call, waits_for));
    }
}

impl Default for Collector {
    fn default() -> Collector {
        Collector::new()
    }
}

impl PartialEq for Collector {
    fn eq(&self, other: &Collector) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Collector {}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Collector { .. }")
    }
}

/// A deferred call.
struct Call {
    work: *mut (),
    make: unsafe fn(*mut ()),
}

// SAFETY: whoever defers promises that the call may be made on any thread.
unsafe impl Send for Call {}

impl Call {
    fn new<F: FnOnce() -> R, R>(work: F) -> Call {
        /// # Safety
        /// `work` came from `Box::into_raw`; called once.
        unsafe fn make<F: FnOnce() -> R, R>(work: *mut ()) {
            // SAFETY: the caller promises it.
            drop(unsafe { Box::from_raw(work.cast::<F>()) }());
        }
        Call { work: Box::into_raw(Box::new(work)).cast(), make: make::<F, R> }
    }

    fn make(self) {
        // SAFETY: boxed in `new`, and `self` ends here.
        unsafe { (self.make)(self.work) };
    }
}

/// A participant, which its handle and its guards share.
pub(super) struct Local {
    collector: Collector,
    guards: Cell<usize>,
    section: Cell<u64>,
}

impl Local {
    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    pub(super) fn pin(&self) {
        if self.guards.get() == 0 {
            self.section.set(self.collector.open());
        }
        self.guards.set(self.guards.get() + 1);
    }

    pub(super) fn unpin(&self) {
        self.guards.set(self.guards.get() - 1);
        if self.guards.get() == 0 {
            self.collector.end(self.section.get());
        }
    }

    pub(super) fn is_sole(&self) -> bool {
        self.guards.get() == 1
    }

    pub(super) fn defer<F: FnOnce() -> R, R>(&self, work: F) {
        self.collector.defer(Call::new(work));
    }
}

/// A participant of a collector.
pub struct LocalHandle {
    local: Rc<Local>,
}

impl LocalHandle {
    /// Opens a section.
    pub fn pin(&self) -> Guard {
        self.local.pin();
        Guard::of(self.local.clone())
    }

    /// Returns whether this participant has a guard. If not, it runs a full fence.
    pub fn is_pinned(&self) -> bool {
        let pinned = self.local.guards.get() > 0;
        if !pinned {
            fence(SeqCst);
        }
        pinned
    }

    /// Returns the collector that it takes part in.
    pub fn collector(&self) -> &Collector {
        self.local.collector()
    }
}

impl fmt::Debug for LocalHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("LocalHandle { .. }")
    }
}
