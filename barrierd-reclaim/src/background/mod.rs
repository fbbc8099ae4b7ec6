//! The background thread. There is one in the process, for every domain that wants it; while it is blocked, another
//! replaces it.
//!
//! This file owns the thread and the registry. It knows nothing of queues or barriers. `background/parker.rs` has how
//! the thread sleeps and is woken, and `domain/keeper.rs` what it does for a domain when it is awake.
//!
//! # Who leads
//! One thread serves all domains. A second one watches it, and takes its place while it is blocked in a destructor
//! (`background/rota.rs`).
//!
//! # When it sleeps, and who wakes it
//! A domain is *asleep* while nothing waits in it. Then the thread does not visit it, and with all domains asleep the
//! thread sleeps without a timeout. Two sides each have a fence between their store and their load, so that at least
//! one sees the other (Dekker):
//!
//! - The thread: `asleep` = true; fence; read the tallies; if something waits, `asleep` = false.
//! - A retirer, at every first item of a bag, which takes the slow path: count the item; fence; read `asleep`; if it
//!   is true, exchange it for false. The one whose exchange returned true wakes the thread.
//!
//! So there is at most one wake-up each time a domain falls asleep. The later items of a bag need no check: while
//! they are pushed the first one waits, since a bag is freed as a whole.
//!
//! The thread's own word follows the same protocol ([`Parker`]): a waker marks the word as called, and checks whether
//! it must wake the thread. The thread sleeps only by exchanging "awake" for "asleep".
//!
//! The process's first retirer starts the thread for all domains. So the thread is an ordinary one, whichever thread
//! started it (`platform/linux/ordinary.rs`), and its code stays mapped (`platform/loaded.rs`).
//!
//! # Panics
//! Threads that retire rely on this thread, so it never ends. The foreign code that runs here may panic: destructors,
//! hooks, a `tracing` subscriber, and the destructors of what a hook owns, where this thread drops the domain last. A
//! panic costs one visit of one domain.

pub(crate) mod parker;
mod rota;

use crate::background::parker::{Parker, Sentry};
use crate::evidence::membarrier;
use crate::locks::lock;
use crate::panics::caught;
use crate::platform::{become_ordinary, now_ns, stay_loaded};
use crate::process::fork::PerProcess;
use crate::report::trace;
use crate::sync::real::AtomicU64;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering, fence};
use rota::{Role, Rota};
use std::io;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Duration;

/// The pause between two attempts to start the thread, in nanoseconds.
const RETRY_NS: u64 = 100_000_000;

/// The pause after a visit that panicked.
const RETRY: Duration = Duration::from_millis(10);

/// States of [`Service::state`]: there is no thread, one is being started, it runs.
const NO_THREAD: u8 = 0;
const STARTS: u8 = 1;
const RUNS: u8 = 2;

/// The result of a call.
#[derive(Debug)]
enum Called {
    /// The thread is awake, and checks again.
    Awake,
    /// The same, and it took a system call.
    BySystemCall,
    /// There is no thread; with the reason, if starting one was just tried.
    Nobody(Option<io::Error>),
}

/// One domain that the thread serves.
pub(crate) trait Kept: Send + Sync {
    /// Returns the domain's side of the thread.
    fn watch(&self) -> Option<&Watch>;

    /// Returns whether there is a hook or subscriber to tell of a destructor that blocks.
    fn listens(&self) -> bool;

    /// Reports the destructor that blocks, if one does. Foreign code runs here.
    fn tell(&self);
}

/// The work of the thread for one domain, and when it is due.
pub(crate) trait Keep: Send {
    fn domain(&self) -> &Weak<dyn Kept>;

    /// The domain is gone.
    fn is_gone(&self) -> bool {
        self.domain().strong_count() == 0
    }

    /// Returns the number of destructors that its visits have begun.
    fn beats(&self) -> &Arc<AtomicU64>;

    /// Visits the domain, if it is time. Returns when to come again; `None` means when called. Foreign code runs
    /// here.
    fn visit(&mut self) -> Option<Duration>;

    /// Sleeps until there is news that is worth waking up for before the next visit is due, for `longest` at most.
    /// Returns false at once if it can't wait for news.
    fn news(&self) -> Option<Box<dyn FnOnce(Duration) -> bool + Send>>;
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("parker", &self.parker)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep").field("is_gone", &self.is_gone()).finish_non_exhaustive()
    }
}

/// A domain's side of the background thread.
#[derive(Debug)]
pub(crate) struct Watch {
    service: &'static Service,
    attention: Sentry,
    /// The domain itself, until its first item makes it known to the thread. A domain in which nothing is ever
    /// retired leaves no trace in the thread.
    newcomer: Mutex<Option<Box<dyn Keep>>>,
}

impl Watch {
    /// Returns the service of the calling process.
    pub(crate) fn new() -> Watch {
        Watch {
            service: Service::of_this_process(),
            attention: Sentry::new(),
            newcomer: Mutex::default(),
        }
    }

    /// Has the thread serve the domain of `keeper`, which is this one's, from its first item on.
    pub(crate) fn enlist(&self, keeper: Box<dyn Keep>) {
        *lock(&self.newcomer) = Some(keeper);
    }

    /// Makes the thread visit the domain, if it does not already. It is called after an item was counted and a SeqCst
    /// fence was run since. Returns whether that took a system call.
    #[inline]
    pub(crate) fn wake_up(&self) -> bool {
        self.attention.wake_up() && self.call()
    }

    #[cold]
    fn call(&self) -> bool {
        if let Some(newcomer) = lock(&self.newcomer).take() {
            let mut new = lock(&self.service.new);
            if new.len() == new.capacity() {
                // As long as there is no thread to take the newcomers, remove those that are gone, at a constant
                // price each.
                new.retain(|keeper| !keeper.is_gone());
                let room = new.len().max(4);
                new.reserve(room);
            }
            new.push(newcomer);
            drop(new);
            self.service.come_too();
        }
        match self.service.call() {
            Called::Awake => false,
            Called::BySystemCall => true,
            Called::Nobody(error) => {
                // So that the next item tries again.
                self.attention.nobody_came();
                // Or another thread has started it meanwhile. Partner: the fence at its beginning. Either this load
                // sees that it runs, or its check of the newcomers sees `asleep`.
                fence(Ordering::SeqCst);
                let woke =
                    self.is_served() && self.attention.wake_up() && self.service.parker.call();
                // Last: a subscriber may panic.
                error.iter().for_each(trace::no_thread);
                woke
            }
        }
    }

    /// Returns whether the thread runs. If not, it has not been needed yet, or could not be started.
    pub(crate) fn is_served(&self) -> bool {
        // Relaxed: a hint, which decides what else checks for stalled sections.
        self.service.state.load(Ordering::Relaxed) == RUNS
    }

    /// Returns the word that says whether the thread visits the domain.
    pub(crate) fn attention(&self) -> &Sentry {
        &self.attention
    }
}

/// The background thread of one process. The child of a fork has no such thread, and makes another for its own
/// domains.
struct Service {
    parker: Parker,
    /// [`NO_THREAD`], [`STARTS`] or [`RUNS`].
    state: AtomicU8,
    /// When to try again to start the thread after a failure, in nanoseconds.
    retry_ns: AtomicU64,
    /// Domains that the thread has not seen yet.
    new: Mutex<Vec<Box<dyn Keep>>>,
    rota: Mutex<Rota>,
    /// Set when the watcher is to check.
    changed: Condvar,
}

impl Service {
    fn of_this_process() -> &'static Service {
        static CURRENT: PerProcess<Service> = PerProcess::new();
        CURRENT.get(|| Service {
            parker: Parker::new(),
            state: AtomicU8::new(NO_THREAD),
            retry_ns: AtomicU64::new(0),
            new: Mutex::default(),
            rota: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Makes the thread check again. The first caller starts it.
    fn call(&'static self) -> Called {
        // All are Relaxed: they decide which thread spawns, and `spawn` itself hands on what the new thread needs.
        if self.state.load(Ordering::Relaxed) == RUNS {
            return if self.parker.call() { Called::BySystemCall } else { Called::Awake };
        }
        if now_ns() < self.retry_ns.load(Ordering::Relaxed) {
            return Called::Nobody(None);
        }
        // While another thread starts it, it is not known whether that will succeed.
        let mine =
            self.state.compare_exchange(NO_THREAD, STARTS, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_err() {
            return Called::Nobody(None);
        }
        stay_loaded();
        let name = "barrierd-reclaim".into();
        match thread::Builder::new().name(name).spawn(|| self.run()) {
            Ok(_) => Called::BySystemCall,
            // Without a thread (because of a limit or a seccomp filter), everything works as with
            // `background(false)`, until there is one.
            Err(error) => {
                self.retry_ns.store(now_ns().saturating_add(RETRY_NS), Ordering::Relaxed);
                self.state.store(NO_THREAD, Ordering::Relaxed);
                membarrier::set_attended(false);
                Called::Nobody(Some(error))
            }
        }
    }

    fn run(&'static self) {
        become_ordinary();
        self.state.store(RUNS, Ordering::Relaxed);
        membarrier::set_attended(true);
        // Partner: the fence of a caller that found no thread.
        fence(Ordering::SeqCst);
        let term = {
            let mut rota = lock(&self.rota);
            rota.threads += 1;
            rota.term
        };
        self.serve(Role::Lead { term });
    }

    /// Serves all domains, until another thread has taken the lead. Returns what to do then.
    fn lead(&'static self, term: u64) -> Role {
        loop {
            self.take_newcomers();
            let (mut wait, mut news) = (None, None);
            let count = lock(&self.rota).keepers.len();
            for _ in 0..count {
                let Some(mut keeper) = self.next_keeper() else { break };
                let next = attend(&mut *keeper, |domain| self.be_watched(domain));
                news = news.or_else(|| keeper.news());
                wait = wait.into_iter().chain(next).min();
                if let Some(role) = self.put_back(keeper, term) {
                    return role;
                }
            }
            if !news.zip(wait).is_some_and(|(sleep, wait)| sleep(wait)) {
                self.parker.sleep(wait);
            }
        }
    }

    fn take_newcomers(&self) {
        // A statement of its own, so that the lock is not held below.
        let new = core::mem::take(&mut *lock(&self.new));
        for keeper in new {
            // This may drop the domain last, and with it what its hooks own.
            caught(|| {
                let domain = keeper.domain().upgrade();
                if let Some(watch) = domain.as_ref().and_then(|domain| domain.watch()) {
                    // A domain may have called while there was no thread.
                    watch.attention().wake_up();
                }
            });
            lock(&self.rota).keepers.push_back(keeper);
        }
    }
}

/// Makes one visit. Returns when to come again; `None` means when called.
pub(crate) fn attend(
    keeper: &mut dyn Keep,
    be_watched: impl FnOnce(&dyn Kept),
) -> Option<Duration> {
    let domain = keeper.domain().upgrade()?;
    be_watched(&*domain);
    // A keeper is usable after any of its steps.
    let wait = caught(|| keeper.visit()).unwrap_or(Some(RETRY));
    // A step of its own, so that it can't panic while a panic unwinds.
    caught(|| drop(domain));
    // Foreign code has run: destructors, hooks, a subscriber.
    caught(leave_all_places);
    wait
}

/// Functions that give up the records that foreign code has taken on this thread, in any domain ([`enter`]). This thread
/// does nothing in those records between its visits, and an idle record holds back collected barriers.
static LEAVE: [AtomicPtr<fn()>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// The entries of [`LEAVE`].
pub(crate) const LOCAL: usize = 0;
#[cfg(not(barrierd_loom))]
pub(crate) const EPOCH: usize = 1;

/// The code that hands out records by thread enters its function here, as often as it likes. By one store: a `OnceLock`
/// that another thread is about to set would be waited for in the child of a fork, which lacks that thread, for ever.
pub(crate) fn enter(entry: usize, leave: &'static fn()) {
    // Relaxed: what it leads to never changes.
    LEAVE[entry].store(ptr::from_ref(leave).cast_mut(), Ordering::Relaxed);
}

fn leave_all_places() {
    // The later entry runs first: it holds a record of the earlier.
    for entry in LEAVE.iter().rev() {
        // SAFETY: null, or from `enter`, which takes what lives for ever and is never written to.
        if let Some(leave) = unsafe { entry.load(Ordering::Relaxed).as_ref() } {
            leave();
        }
    }
}

#[cfg(all(test, not(barrierd_loom)))]
mod growth {
    use super::*;
    use crate::{Reclaimer, Source};

    #[test]
    fn a4_domains_that_retire_nothing_leave_nothing() {
        for _ in 0..1000 {
            drop(Reclaimer::builder().source(Source::Fence).build().expect("always"));
        }
        let new = lock(&Service::of_this_process().new);
        assert!(new.iter().filter(|keeper| keeper.is_gone()).count() < 100);
    }
}

#[cfg(all(test, not(barrierd_loom), feature = "tracing"))]
mod tests {
    use super::*;
    use crate::domain::keeper::Keeper;
    use crate::domain::local;
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use crate::report::on_event::OnEvent;
    use std::sync::Arc;
    use tracing::Event;

    #[test]
    fn a_subscriber_leaves_no_place_behind() {
        let settings = Settings { background: true, ..Settings::default() };
        let domain = Arc::new(Domain::new(Barriers::Fence { asked_for: true }, &settings));
        // The thread does not know the domain, so this one makes its visits.
        domain.watch().expect("it has one").wake_up();
        let id = local::next_id();
        let mut keeper = Keeper::new(Arc::downgrade(&domain), id);
        let used = Arc::downgrade(&domain);
        let rude = OnEvent(move |_: &Event<'_>| {
            local::find(id, &used.upgrade().expect("alive")).expect("not exiting");
            panic!("a subscriber's panic, on purpose");
        });
        let wait = tracing::subscriber::with_default(rude, || attend(&mut keeper, |_| ()));
        assert_eq!(wait, Some(RETRY), "it panicked, and the next visit is due");
        assert_eq!((domain.all_records().count(), domain.records().count()), (1, 0));
        domain.close();
    }
}
