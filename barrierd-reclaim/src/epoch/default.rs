//! The process's own collector, and each thread's place in it.
//!
//! Owns the static, the thread-locals and the fast path of [`pin`].

use super::collector::{Collector, LocalHandle};
use super::exit;
use super::guard::Guard;
use super::participant;
use crate::protocol::Reader;
use crate::record::Record;
use core::cell::Cell;
use core::ptr;
use std::sync::OnceLock;

/// Never dropped: so a pointer to a record of its is good for ever.
static COLLECTOR: OnceLock<Collector> = OnceLock::new();

/// In the place of a participant.
static NOBODY: Reader = Reader::nobody();

thread_local! {
    /// The reader at the beginning of this thread's participant, once it has one, if readers need no
    /// fence; [`NOBODY`] otherwise. Without a destructor, so that it is found by one load; and never null,
    /// so that a look at the slot tells all.
    static HERE: Cell<*const Reader> = const { Cell::new(&NOBODY) };
    static PLACE: Place = Place::take();
}

/// A thread's handle, given back when the thread exits.
struct Place(LocalHandle);

impl Place {
    fn take() -> Place {
        let handle = default_collector().register();
        if !default_collector().domain().readers_fence() {
            let record = ptr::from_ref(handle.record());
            let reader = record.cast::<Reader>();
            assert!(ptr::eq(reader, handle.record().reader()), "a record begins with its reader");
            HERE.set(reader);
        }
        Place(handle)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        HERE.set(&NOBODY);
    }
}

/// Opens a section in the process's own collector: three loads, a test and a store.
///
/// No fence (see the [module's documentation](super)), no locked instruction and no destructor of
/// others. Not for signal handlers.
#[inline]
pub fn pin() -> Guard {
    let here = HERE.get();
    // SAFETY: a static, or at the beginning of this thread's participant, whose domain is never dropped.
    // Nobody stores to the one, and this thread alone to the other.
    if unsafe { (*here).own_word() } != 0 {
        return pin_further(here);
    }
    let record = here.cast::<Record>();
    // SAFETY: the slot of `NOBODY` is not 0, so this is the participant: the pointer is its record's, and
    // its reader lies at the beginning.
    let own = unsafe { &*record };
    own.reader().pin(own.domain().words());
    Guard::of(record)
}

/// A guard more; or nobody is here.
#[inline(never)]
fn pin_further(here: *const Reader) -> Guard {
    if ptr::eq(here, &NOBODY) {
        return pin_slowly();
    }
    let record = here.cast::<Record>();
    // SAFETY: as in `pin`.
    participant::nest(unsafe { &*record });
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
