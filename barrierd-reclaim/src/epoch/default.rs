//! The process's own collector, and each thread's participant in it.
//!
//! This file owns the static, the thread-locals and the fast path of [`pin`]. `child.rs` says what a fork does to
//! them.

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
    /// The settings that `configure` was given here, or in a process that this one was forked from.
    settings: Option<Builder>,
}

/// Null, or leaked, so a pointer to one of its records is valid for ever. It is made without a lock, since a fork in
/// the middle would leave the lock held in the child.
static COLLECTOR: AtomicPtr<Established> = AtomicPtr::new(ptr::null_mut());

/// The collector of the process which this one was forked from, or of an earlier one; null or leaked.
static PARENTS: AtomicPtr<Established> = AtomicPtr::new(ptr::null_mut());

/// Stands where a participant would.
static NOBODY: Reader = Reader::nobody();

thread_local! {
    /// The reader at the beginning of this thread's participant, once it has one, if readers need no fence; [`NOBODY`]
    /// otherwise. It has no destructor, so that one load finds it. It is never null, so that a read of the slot is
    /// the only test.
    static HERE: Cell<*const Reader> = const { Cell::new(&NOBODY) };
    /// This thread's participant, which has a handle here. Null if the thread has none.
    static RECORD: Cell<*const Record> = const { Cell::new(ptr::null()) };
    static AT_EXIT: AtExit = const { AtExit };
}

/// Gives the participant back when the thread exits.
struct AtExit;

impl Drop for AtExit {
    fn drop(&mut self) {
        let record = forget_record();
        if !record.is_null() {
            // SAFETY: the participant's handle, which was forgotten.
            unsafe { participant::release(record) };
        }
    }
}

/// Gives this thread's participant up. It is called on the background thread, which uses the participant only in
/// foreign code. The thread's next [`pin`] takes another.
fn leave() {
    let record = forget_record();
    if !record.is_null() {
        // SAFETY: the participant's handle, which was forgotten.
        unsafe { participant::release_in_background(record) };
    }
}

/// Returns the participant, whose handle the caller owns from now on; or null.
fn forget_record() -> *const Record {
    HERE.set(&NOBODY);
    RECORD.replace(ptr::null())
}

/// Leaves the process without a collector and this thread without a participant. It is called in the child of a fork,
/// which has one thread. Returns the participant that the thread had, or null.
pub(super) fn forget() -> *const Record {
    // Relaxed, both: threads that the child makes come after.
    let parents = COLLECTOR.swap(ptr::null_mut(), Relaxed);
    if !parents.is_null() {
        PARENTS.store(parents, Relaxed);
    }
    forget_record()
}

/// Returns this thread's participant, taking one if necessary. Returns `None` if the thread is so far into its exit
/// that nothing would give the participant back.
fn own_record() -> Option<*const Record> {
    let record = RECORD.get();
    if record.is_null() { take_record() } else { Some(record) }
}

#[cold]
fn take_record() -> Option<*const Record> {
    AT_EXIT.try_with(|_| ()).ok()?;
    static LEAVE: fn() = leave;
    background::enter(background::EPOCH, &LEAVE);
    let handle = default_collector().register();
    let record = RECORD.get();
    if !record.is_null() {
        // A `tracing` subscriber that was called there has taken a participant already.
        return Some(record);
    }
    if !handle.record().engine().readers_fence() {
        let record = ptr::from_ref(handle.record());
        let reader = record.cast::<Reader>();
        assert!(ptr::eq(reader, handle.record().reader()), "a record begins with its reader");
        HERE.set(reader);
    }
    let record = handle.into_record();
    RECORD.set(record);
    Some(record)
}

/// Opens a section in the process's own collector. It costs three loads, a test and a store.
///
/// No fence (see the [module's documentation](super)), no locked instruction and no deferred destructor. It is not
/// for signal handlers.
#[inline]
pub fn pin() -> Guard {
    let here = HERE.get();
    // SAFETY: a static, or at the beginning of this thread's participant, whose domain is never dropped. No thread
    // stores to the static, and only this thread stores to the other.
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

/// Opens one more guard; or the thread has no reader here yet.
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

/// Runs the thread's first time, at its end, and whenever readers fence.
#[cold]
fn pin_slowly() -> Guard {
    let Some(record) = own_record() else { return default_collector().register().pin() };
    // SAFETY: this thread's participant, which has a handle.
    unsafe { participant::begin(&*record) };
    Guard::of(record)
}

/// Returns whether this thread has a guard of the process's own collector. In the child of a fork, guards or handles
/// from before the fork count as well.
///
/// If not, it runs a full fence, since programs for crossbeam-epoch leave their own out when they know that [`pin`]
/// will run one.
#[inline]
pub fn is_pinned() -> bool {
    let record = RECORD.get();
    // SAFETY: null, or this thread's participant, which has a handle.
    let pinned = unsafe { record.as_ref() }.is_some_and(|record| record.reader().is_pinned());
    pinned || child::has_old() || {
        fence(SeqCst);
        false
    }
}

/// Returns the process's own collector, in which [`pin`] opens sections.
///
/// In the child of a fork it is another one, which begins empty, with the settings that the parent gave to
/// [`configure`](super::configure). The parent's clones stand for it there, and are equal to it.
pub fn default_collector() -> &'static Collector {
    existing().unwrap_or_else(make)
}

/// Returns the process's own collector, if there is one yet.
pub(super) fn existing() -> Option<&'static Collector> {
    // Acquire: pairs with the exchange in `establish`.
    // SAFETY: null, or leaked there.
    unsafe { COLLECTOR.load(Acquire).as_ref() }.map(|own| &own.collector)
}

/// Makes the collector, with the settings if there are any.
#[cold]
fn make() -> &'static Collector {
    // Relaxed: stored before this process had a second thread. SAFETY: null, or leaked.
    let parents = unsafe { PARENTS.load(Relaxed).as_ref() };
    let settings = parents.and_then(|own| own.settings.clone());
    let reclaimer = settings.clone().and_then(|settings| {
        // A source that was asked for by name may not be available any more.
        let any = settings.clone().source(Source::Auto);
        settings.build().or_else(|_| any.build()).ok()
    });
    establish(reclaimer.unwrap_or_default(), settings).unwrap_or_else(|there| there)
}

/// Publishes the collector, if there is none yet; otherwise returns the existing one.
pub(super) fn establish(
    reclaimer: Reclaimer,
    settings: Option<Builder>,
) -> Result<&'static Collector, &'static Collector> {
    hook();
    let collector = Collector::of_the_process(reclaimer);
    let stand_in = child::stand_in(collector.domain());
    let new = Box::into_raw(Box::new(Established { collector, settings }));
    // Release, Acquire: a thread that finds the collector finds it complete, and the stand-in pinned.
    match COLLECTOR.compare_exchange(ptr::null_mut(), new, Release, Acquire) {
        Ok(_) => {
            child::stands_in(stand_in);
            // SAFETY: leaked above.
            Ok(unsafe { &(*new).collector })
        }
        Err(other) => {
            // SAFETY: it was made above, and no other thread has seen it; a stand-in is not used again. The other was
            // leaked here by the thread of this process that came first.
            unsafe {
                drop(Box::from_raw(new));
                Err(&(*other).collector)
            }
        }
    }
}

/// Has the C library call back, in this process and its children. Two threads at once may register twice; then it
/// calls back twice, which does no harm.
fn hook() {
    static HOOKED: AtomicBool = AtomicBool::new(false);
    // Relaxed: it hands nothing over. It is set after the calls, so that a child forked between them still registers
    // a handler.
    if !HOOKED.load(Relaxed) {
        exit::hook();
        child::hook();
        HOOKED.store(true, Relaxed);
    }
}

/// Runs `work` with this thread's participant; late in the thread's exit, when that is gone, with one for this call.
///
/// `work` may run destructors. If one forks, the child goes on with a record of a dead domain, where nobody
/// else takes it.
pub(super) fn with_record<R>(work: impl FnOnce(&Record) -> R) -> R {
    match own_record() {
        // SAFETY: this thread's participant: its handle goes at the thread's exit or between two visits of the
        // background thread, so not before this returns.
        Some(record) => work(unsafe { &*record }),
        None => work(default_collector().register().record()),
    }
}
