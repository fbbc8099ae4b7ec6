//! A domain, as calls see it: its engine, and what runs beside the engine or reports on it: limits, hooks, `tracing`,
//! the background thread.
//!
//! This folder owns the order of those steps of a call that are not the engine's: to wake the background thread, to
//! check limits, to report. The engine knows nothing of it.

pub(crate) mod keeper;
pub(crate) mod limit;
pub(crate) mod local;
mod retire;
mod unlinked;
mod wait;

use crate::background::{self, Watch};
use crate::engine::Engine;
use crate::engine::record::Record;
use crate::evidence::barriers::Barriers;
use crate::evidence::purchase;
use crate::platform::{HAS_THREADS, THREADS_UNASKED};
use crate::report::blockers::{self, Blocker};
use crate::report::stalled::{StallHook, Stalls};
use crate::report::told::Told;
use crate::report::trace;
use crate::sync::stage;
use core::ops::Deref;
use core::ptr;
use keeper::IDLE_AFTER;
use limit::Limits;
use std::time::Duration;

/// See the module's documentation.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Domain {
    /// The first field, so that a pointer to the one is a pointer to the other: [`Domain::of`].
    engine: Engine,
    /// The background thread's side of this domain, if it serves the domain.
    watch: Option<Watch>,
    /// How long a thread may not retire before its queue is taken over.
    idle_after: Duration,
    limits: Limits,
    stalls: Option<Stalls>,
    told: Told,
}

/// A domain is its engine, with more beside it: nearly every call here goes on to the engine, and reports are made of an
/// `&Engine`. The engine lies at the domain's own address, and nothing changes it through this. No method of a domain has
/// the name of one of the engine's (`tests/house.rs`): which of the two runs would depend on where the call is written.
impl Deref for Domain {
    type Target = Engine;

    #[inline]
    fn deref(&self) -> &Engine {
        &self.engine
    }
}

/// The settings that a builder may choose, beside the source.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many items of one thread wait for a barrier before one is bought.
    pub(crate) budget: usize,
    /// Whether the background thread serves the domain.
    pub(crate) background: bool,
    /// How long a thread may not retire before its queue is taken over.
    pub(crate) idle_after: Duration,
    /// Whether `retire` runs no destructor.
    pub(crate) lazy: bool,
    pub(crate) limits: Limits,
    pub(crate) stall_hook: Option<StallHook>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            budget: purchase::BUDGET_ITEMS,
            background: THREADS_UNASKED,
            idle_after: IDLE_AFTER,
            lazy: false,
            limits: Limits::default(),
            stall_hook: None,
        }
    }
}

impl Domain {
    pub(crate) fn new(barriers: Barriers, settings: &Settings) -> Domain {
        static LEAVE: fn() = local::leave_all;
        background::enter(background::LOCAL, &LEAVE);
        // Where there are no threads nothing can be left to one.
        let (background, lazy) = (settings.background && HAS_THREADS, settings.lazy && HAS_THREADS);
        Domain {
            engine: Engine::new(barriers, settings.budget, lazy, background),
            watch: background.then(Watch::new),
            idle_after: settings.idle_after,
            limits: settings.limits.clone(),
            stalls: settings.stall_hook.clone().map(Stalls::new),
            told: Told::default(),
        }
    }

    /// Returns the domain that a record belongs to.
    #[inline]
    pub(crate) fn of(record: &Record) -> &Domain {
        // SAFETY: every engine is the first field of a domain, and a record's pointer to it was made from one to
        // the whole domain (`Domain::acquire`, the only caller of `Engine::acquire_for`), which outlives its records.
        unsafe { &*record.home().cast::<Domain>() }
    }

    /// Takes a record for the calling thread, which owns it until it hands it over.
    pub(crate) fn acquire(&self) -> &Record {
        self.engine.acquire_for(ptr::from_ref(self).cast::<Engine>())
    }

    /// Returns the engine, which has what calls do to items.
    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    pub(crate) fn idle_after(&self) -> Duration {
        self.idle_after
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn stalls(&self) -> Option<&Stalls> {
        self.stalls.as_ref()
    }

    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// Runs at the end of a thread's slow call, outside of its queue. Makes the reports, where the background thread
    /// does not make them. Foreign code may run here.
    #[inline]
    pub(crate) fn tell_news(&self, record: &Record) {
        if self.stalls.is_some() || trace::IS_ON {
            self.tell_news_now(record);
        }
    }

    #[cold]
    fn tell_news_now(&self, record: &Record) {
        let served = self.watch.as_ref().is_some_and(Watch::is_served);
        // A thread that must not run destructors should run no hooks either.
        if served || self.is_lazy() || self.in_destructor(record) {
            return;
        }
        if let Some(stalls) = &self.stalls {
            stalls.check_if_due(self);
        }
        self.told.tell_changes(self);
    }

    /// Takes over the marked queues that belong to the domain by now, and reports it. Returns how many.
    pub(crate) fn take_marked(&self) -> usize {
        stage();
        let count = self.engine.take_over_marked();
        stage();
        if count > 0 {
            trace::took_over(count);
        }
        count
    }

    /// Returns the threads that have a section open.
    pub(crate) fn blockers(&self) -> Vec<Blocker> {
        blockers::list(self)
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod tests {
    use super::*;
    use crate::bag::Item;
    use crate::error::SynchronizeError;
    use crate::platform::now_ns;
    use crate::sync::FLOOR;
    use std::time::Instant;

    unsafe fn nothing(_: *mut ()) {}

    /// The clock steps back past a stamp, as it does under a slew: nothing passes before it has caught up, and then
    /// everything works as before.
    #[test]
    fn b1_a_clock_that_steps_back_poisons_nobody() {
        let domain = Domain::new(
            Barriers::Fence { asked_for: true },
            &Settings { background: false, ..Settings::default() },
        );
        let record = domain.acquire();
        let ahead = domain.words().fence_and_stamp(&FLOOR, || now_ns() + 20_000_000).ns;
        let item = Item::new(ptr::null_mut(), nothing);
        // SAFETY: the record is this test's; `nothing` touches nothing.
        unsafe { Domain::retire::<false>(record, item, 0) };
        assert!(domain.fence_and_stamp(record) > ahead);
        let late = Instant::now() + Duration::from_secs(60);
        // SAFETY: the record is this test's.
        assert_eq!(unsafe { domain.synchronize(record, late) }, Ok(()));
        assert_eq!((domain.stats().freed, domain.stats().poisoned), (1, false));
        domain.close();
    }

    /// Stamps can't be compared with the daemon's watermarks: everything is kept, and `synchronize` says so.
    #[test]
    fn a_poisoned_domain_keeps_everything() {
        let domain = Domain::new(
            Barriers::Fence { asked_for: true },
            &Settings { background: false, ..Settings::default() },
        );
        let record = domain.acquire();
        let item = Item::new(ptr::null_mut(), nothing);
        // SAFETY: the record is this test's; `nothing` touches nothing.
        unsafe { Domain::retire::<false>(record, item, 0) };
        domain.poison();
        let late = Instant::now() + Duration::from_millis(50);
        // SAFETY: the record is this test's.
        let answer = unsafe { domain.synchronize(record, late) };
        assert_eq!(answer, Err(SynchronizeError::Poisoned));
        // SAFETY: the record is this test's.
        unsafe { domain.flush(record) };
        assert_eq!(domain.stats().freed, 0);
        assert!(domain.stats().poisoned);
        domain.close();
    }
}
