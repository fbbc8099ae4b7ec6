//! The process's own collector, and each thread's place in it.
//!
//! Owns the static, the thread-locals and the fast path of [`pin`].

use super::collector::{Collector, LocalHandle};
use super::exit;
use super::guard::Guard;
use super::participant;
use crate::record::Record;
use core::cell::Cell;
use core::ptr;
use std::sync::OnceLock;

/// Never dropped: so a pointer to a record of its is good for ever.
static COLLECTOR: OnceLock<Collector> = OnceLock::new();

thread_local! {
    /// This thread's participant, once it has one, if readers need no fence; without a destructor, so
    /// that it is found by one load.
    static HERE: Cell<*const Record> = const { Cell::new(ptr::null()) };
    static PLACE: Place = Place::take();
}

/// A thread's handle, given back when the thread exits.
struct Place(LocalHandle);

impl Place {
    fn take() -> Place {
        let handle = default_collector().register();
        if !default_collector().domain().readers_fence() {
            HERE.set(handle.record());
        }
        Place(handle)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        HERE.set(ptr::null());
    }
}

/// Opens a section in the process's own collector: two loads, a test and a store.
///
/// No fence (see the [module's documentation](super)), no locked instruction and no destructor of
/// others.
#[inline]
pub fn pin() -> Guard {
    let record = HERE.get();
    if record.is_null() {
        return pin_slowly();
    }
    // SAFETY: this thread's participant, whose domain is never dropped.
    participant::begin_unfenced(unsafe { &*record });
    Guard::of(record)
}

/// The thread's first time, its end, and whenever readers fence.
#[cold]
fn pin_slowly() -> Guard {
    with_handle(LocalHandle::pin)
}

/// Whether this thread has a guard of the process's own collector.
///
/// If not, a full fence is run: programs for crossbeam-epoch leave their own out when they know that
/// [`pin`] will run one.
#[inline]
pub fn is_pinned() -> bool {
    with_handle(LocalHandle::is_pinned)
}

/// The process's own collector, in which [`pin`] opens sections.
pub fn default_collector() -> &'static Collector {
    COLLECTOR.get_or_init(|| {
        exit::hook();
        Collector::new()
    })
}

/// The same, if there is one yet.
pub(super) fn existing() -> Option<&'static Collector> {
    COLLECTOR.get()
}

/// Makes it; or gives the collector back, if there is one already.
pub(super) fn establish(collector: Collector) -> Result<(), Collector> {
    COLLECTOR.set(collector)?;
    exit::hook();
    Ok(())
}

/// With this thread's handle; late in the thread's exit, when that is gone, with one for this call, which
/// a guard may outlive.
pub(super) fn with_handle<R>(work: impl Fn(&LocalHandle) -> R) -> R {
    PLACE.try_with(|place| work(&place.0)).unwrap_or_else(|_| work(&default_collector().register()))
}
