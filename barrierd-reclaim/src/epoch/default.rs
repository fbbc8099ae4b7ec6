//! The process's own collector, and each thread's place in it.
//!
//! Owns the static, the thread-locals and the fast path of [`pin`]. What a fork makes of them is said in
//! `child.rs`.

use super::child;
use super::collector::Collector;
use super::exit;
use super::guard::Guard;
use super::participant;
use crate::api::builder::Builder;
use crate::api::reclaimer::Reclaimer;
use crate::background;
use crate::engine::record::Record;
use crate::evidence::source::Source;
use crate::protocol::Reader;
use crate::sync::fence;
use core::cell::Cell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::*};

/// The process's own collector, and how it was made.
struct Established {
    collector: Collector,
    /// What `configure` was told here, or in a process that this one was forked from.
    settings: Option<Builder>,
}

/// Null, or leaked: so a pointer to a record of its is good for ever. Made without a lock, for a fork in the
/// middle would leave that locked in the child.
static COLLECTOR: AtomicPtr<Established> = AtomicPtr::new(ptr::null_mut());

/// That of the process which this one was forked from, or of an earlier one; null or leaked.
static PARENTS: AtomicPtr<Established> = AtomicPtr::new(ptr::null_mut());

/// In the place of a participant.
static NOBODY: Reader = Reader::nobody();

thread_local! {
    /// The reader at the beginning of this thread's place, once it has one, if readers need no fence;
    /// [`NOBODY`] otherwise. Without a destructor, so that it is found by one load; and never null, so that
    /// a look at the slot tells all.
    static HERE: Cell<*const Reader> = const { Cell::new(&NOBODY) };
    /// This thread's place: a participant that has a handle here. Null: it has none.
    static PLACE: Cell<*const Record> = const { Cell::new(ptr::null()) };
    static AT_EXIT: AtExit = const { AtExit };
}

/// Gives the place back when the thread exits.
struct AtExit;

impl Drop for AtExit {
    fn drop(&mut self) {
        let place = forget_place();
        if !place.is_null() {
            // SAFETY: the place's handle, which was forgotten.
            unsafe { participant::release(place) };
        }
    }
}

/// Gives this thread's place up: on the background thread, which does nothing in it but what others' code
/// has done there. Its next [`pin`] takes another.
fn leave() {
    let place = forget_place();
    if !place.is_null() {
        // SAFETY: the place's handle, which was forgotten.
        unsafe { participant::release_in_background(place) };
    }
}

/// The place, whose handle is the caller's from now on; or null.
fn forget_place() -> *const Record {
    HERE.set(&NOBODY);
    PLACE.replace(ptr::null())
}

/// There is no collector, and this thread has no place: in the child of a fork, which has one thread. Returns
/// the place that it had, or null.
pub(super) fn forget() -> *const Record {
    // Relaxed, both: threads that the child makes come after.
    let parents = COLLECTOR.swap(ptr::null_mut(), Relaxed);
    if !parents.is_null() {
        PARENTS.store(parents, Relaxed);
    }
    forget_place()
}

/// This thread's place, taken if need be. `None`: the thread is so far into its exit that nobody would give
/// it back.
fn place() -> Option<*const Record> {
    let place = PLACE.get();
    if place.is_null() { take_place() } else { Some(place) }
}

#[cold]
fn take_place() -> Option<*const Record> {
    AT_EXIT.try_with(|_| ()).ok()?;
    background::LEAVE[background::EPOCH].get_or_init(|| leave);
    let handle = default_collector().register();
    let place = PLACE.get();
    if !place.is_null() {
        // A subscriber to what was traced there has come before.
        return Some(place);
    }
    if !handle.record().engine().readers_fence() {
        let record = ptr::from_ref(handle.record());
        let reader = record.cast::<Reader>();
        assert!(ptr::eq(reader, handle.record().reader()), "a record begins with its reader");
        HERE.set(reader);
    }
    let record = handle.into_record();
    PLACE.set(record);
    Some(record)
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
    if unsafe { (*here).own_is_pinned() } {
        return pin_further(here);
    }
    let record = here.cast::<Record>();
    // SAFETY: `NOBODY` looks pinned, so this is the participant: the pointer is its record's, and
    // its reader lies at the beginning.
    let own = unsafe { &*record };
    own.engine().pin(own);
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
    let Some(place) = place() else { return default_collector().register().pin() };
    // SAFETY: this thread's place, which has a handle.
    unsafe { participant::begin(&*place) };
    Guard::of(place)
}

/// Whether this thread has a guard of the process's own collector. In the child of a fork it counts as one,
/// too, if the thread has guards or handles from before.
///
/// If not, a full fence is run: programs for crossbeam-epoch leave their own out when they know that
/// [`pin`] will run one.
#[inline]
pub fn is_pinned() -> bool {
    let place = PLACE.get();
    // SAFETY: null, or this thread's place, which has a handle.
    let pinned = unsafe { place.as_ref() }.is_some_and(|place| place.reader().is_pinned());
    pinned || child::has_old() || {
        fence(SeqCst);
        false
    }
}

/// The process's own collector, in which [`pin`] opens sections.
///
/// In the child of a fork it is another, which begins empty, with the settings that its parent gave to
/// [`configure`](super::configure). The parent's clones stand for it there, and are equal to it.
pub fn default_collector() -> &'static Collector {
    existing().unwrap_or_else(make)
}

/// The same, if there is one yet.
pub(super) fn existing() -> Option<&'static Collector> {
    // Acquire: pairs with the exchange in `establish`.
    // SAFETY: null, or leaked there.
    unsafe { COLLECTOR.load(Acquire).as_ref() }.map(|own| &own.collector)
}

/// With the settings that there are, or without.
#[cold]
fn make() -> &'static Collector {
    // Relaxed: stored before this process had a second thread. SAFETY: null, or leaked.
    let parents = unsafe { PARENTS.load(Relaxed).as_ref() };
    let settings = parents.and_then(|own| own.settings.clone());
    let reclaimer = settings.clone().and_then(|settings| {
        // What was asked for by name may not be there any more.
        let any = settings.clone().source(Source::Auto);
        settings.build().or_else(|_| any.build()).ok()
    });
    establish(reclaimer.unwrap_or_default(), settings).unwrap_or_else(|there| there)
}

/// Makes it, if there is none yet; else gives the one back that there is.
pub(super) fn establish(
    reclaimer: Reclaimer,
    settings: Option<Builder>,
) -> Result<&'static Collector, &'static Collector> {
    hook();
    let collector = Collector::of_the_process(reclaimer);
    let stand_in = child::stand_in(collector.domain());
    let new = Box::into_raw(Box::new(Established { collector, settings }));
    // Release, Acquire: whoever finds it finds it whole, and the stand-in pinned.
    match COLLECTOR.compare_exchange(ptr::null_mut(), new, Release, Acquire) {
        Ok(_) => {
            child::stands_in(stand_in);
            // SAFETY: leaked above.
            Ok(unsafe { &(*new).collector })
        }
        Err(other) => {
            // SAFETY: made above, and nobody else has seen it; a stand-in is not used again. The other was
            // leaked here by the thread of this process that came first.
            unsafe {
                drop(Box::from_raw(new));
                Err(&(*other).collector)
            }
        }
    }
}

/// The C library calls back, in this process and its children. Asked twice by threads that come together, it
/// does so twice, which does no harm.
fn hook() {
    static HOOKED: AtomicBool = AtomicBool::new(false);
    // Relaxed: nothing is handed over by it. Set after the calls, so that a fork between them costs its child
    // no handler.
    if !HOOKED.load(Relaxed) {
        exit::hook();
        child::hook();
        HOOKED.store(true, Relaxed);
    }
}

/// With this thread's place; late in the thread's exit, when that is gone, with one for this call.
///
/// `work` may run destructors. If one forks, the child goes on with a record of a dead domain, where nobody
/// else takes it.
pub(super) fn with_record<R>(work: impl FnOnce(&Record) -> R) -> R {
    match place() {
        // SAFETY: this thread's place: its handle goes at the thread's exit or between two visits of the
        // background thread, so not before this returns.
        Some(place) => work(unsafe { &*place }),
        None => work(default_collector().register().record()),
    }
}
