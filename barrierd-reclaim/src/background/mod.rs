//! The background thread: one for the process, for every domain that wants it; while it is blocked, another.
//!
//! Owns the thread and the registry. How it sleeps and is woken is `background/parker.rs`, what it does for a domain
//! when it is awake `domain/keeper.rs`; it knows nothing of queues or barriers.
//!
//! # Who leads
//! One thread looks after all domains; a second one watches it, and takes its place while it is blocked in
//! somebody's destructor (`background/rota.rs`).
//!
//! # When it sleeps, and who wakes it
//! A domain is *asleep* while nothing waits in it: then the thread does not look at it, and with all
//! domains asleep it sleeps without a timeout. Two sides, each with a fence between its store and its
//! load, so that at least one sees the other (Dekker):
//!
//! - The thread: `asleep` = true; fence; look at the tallies; something waits: `asleep` = false.
//! - A retirer, with every first item of a bag, which takes the slow path: count the item; fence; look at
//!   `asleep`; true: exchange it for false, and whoever got the true wakes the thread.
//!
//! So there is at most one wake-up each time a domain falls asleep. The items behind the first of a
//! bag need no look: while they are pushed the first one waits, for a bag goes whole.
//!
//! The thread's own word is the same game once more ([`Parker`]): a waker marks it as called, and looks
//! whether it must wake; the thread sleeps only by exchanging "awake" for "asleep".
//!
//! The process's first retirer starts it, for all: so it is an ordinary thread, whoever that was
//! (`process/ordinary.rs`), and its code stays mapped (`process/loaded.rs`).
//!
//! # Panics
//! Threads that retire leave to it what it is there for, so it never ends. What of others' code runs here
//! (destructors, hooks, a `tracing` subscriber, what a hook owns, where this is the last to let its domain
//! go) may panic: that costs one look at one domain.

pub(crate) mod parker;
mod rota;

use crate::background::parker::{Parker, Sentry};
use crate::evidence::membarrier;
use crate::locks::lock;
use crate::process::fork::PerProcess;
use crate::process::loaded;
use crate::process::ordinary::become_ordinary;
use crate::report::trace;
use barrierd_client::clock::now_ns;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};
use rota::{Role, Rota};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

/// Between two attempts to start the thread, nanoseconds.
const RETRY_NS: u64 = 100_000_000;

/// After a visit that panicked.
const RETRY: Duration = Duration::from_millis(10);

/// [`Service::state`]: there is no thread, one is being started, it runs.
const NO_THREAD: u8 = 0;
const STARTS: u8 = 1;
const RUNS: u8 = 2;

/// What became of a call.
#[derive(Debug)]
enum Called {
    /// The thread is awake, and looks again.
    Awake,
    /// The same, and it took a system call.
    BySystemCall,
    /// There is no thread; why, if it was just tried.
    Nobody(Option<io::Error>),
}

/// One domain that the thread looks after.
pub(crate) trait Kept: Send + Sync {
    /// Its side of the thread.
    fn watch(&self) -> Option<&Watch>;

    /// Whether anybody wants to hear of a destructor that blocks.
    fn listens(&self) -> bool;

    /// Tells of the destructor that blocks, if one does. Foreign code runs here.
    fn tell(&self);
}

/// What the thread does for one domain, and when.
pub(crate) trait Keep: Send {
    fn domain(&self) -> &Weak<dyn Kept>;

    /// The domain is gone.
    fn is_gone(&self) -> bool {
        self.domain().strong_count() == 0
    }

    /// Destructors that its visits have begun.
    fn beats(&self) -> &Arc<AtomicU64>;

    /// Looks at the domain, if it is time. When to come again; `None`: when called. Foreign code runs here.
    fn visit(&mut self) -> Option<Duration>;

    /// What is worth waking up for before the next visit is due: sleeps until it has come, `longest` at most.
    /// False, at once: that can't be waited for.
    fn news(&self) -> Option<Box<dyn FnOnce(Duration) -> bool + Send>>;
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("nap", &self.nap)
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
    /// The domain itself, until its first item makes it known to the thread: one that never retires
    /// anything leaves no trace there.
    newcomer: Mutex<Option<Box<dyn Keep>>>,
}

impl Watch {
    /// Of the calling process.
    pub(crate) fn new() -> Watch {
        Watch {
            service: Service::of_this_process(),
            attention: Sentry::new(),
            newcomer: Mutex::default(),
        }
    }

    /// Has the thread look after the domain of `keeper`, this one's, from its first item on.
    pub(crate) fn enlist(&self, keeper: Box<dyn Keep>) {
        *lock(&self.newcomer) = Some(keeper);
    }

    /// After an item was counted, and a SeqCst fence since: has the thread look at the domain, if it
    /// does not. Whether that took a system call.
    #[inline]
    pub(crate) fn wake_up(&self) -> bool {
        self.attention.wake_up() && self.call()
    }

    #[cold]
    fn call(&self) -> bool {
        if let Some(newcomer) = lock(&self.newcomer).take() {
            let mut new = lock(&self.service.new);
            if new.len() == new.capacity() {
                // As long as there is no thread to take them, those that are gone: a constant price each.
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
                // Or somebody else has started it meanwhile. Partner: the fence at its beginning. Either
                // this load sees that it runs, or its look at newcomers sees `asleep`.
                fence(Ordering::SeqCst);
                let woke = self.is_served() && self.attention.wake_up() && self.service.nap.call();
                // Last: a subscriber may panic.
                error.iter().for_each(trace::no_thread);
                woke
            }
        }
    }

    /// Whether the thread runs: it may not have been needed yet, or could not be started.
    pub(crate) fn is_served(&self) -> bool {
        // Relaxed: a hint, for who else looks for stalled sections.
        self.service.state.load(Ordering::Relaxed) == RUNS
    }

    /// What the thread asks and says of the domain.
    pub(crate) fn attention(&self) -> &Sentry {
        &self.attention
    }
}

/// The background thread of one process. The child of a fork has no such thread: it makes another for its
/// own domains.
struct Service {
    nap: Parker,
    /// [`NO_THREAD`], [`STARTS`] or [`RUNS`].
    state: AtomicU8,
    /// When to try again to start it, after that has failed, nanoseconds.
    retry_ns: AtomicU64,
    /// Domains that the thread has not seen yet.
    new: Mutex<Vec<Box<dyn Keep>>>,
    rota: Mutex<Rota>,
    /// The watcher is to look.
    look: Condvar,
}

impl Service {
    fn of_this_process() -> &'static Service {
        static CURRENT: PerProcess<Service> = PerProcess::new();
        CURRENT.get(|| Service {
            nap: Parker::new(),
            state: AtomicU8::new(NO_THREAD),
            retry_ns: AtomicU64::new(0),
            new: Mutex::default(),
            rota: Mutex::default(),
            look: Condvar::new(),
        })
    }

    /// Makes the thread look again; the first caller starts it.
    fn call(&'static self) -> Called {
        // Relaxed, all: they decide who spawns, and `spawn` itself hands on what the thread needs.
        if self.state.load(Ordering::Relaxed) == RUNS {
            return if self.nap.call() { Called::BySystemCall } else { Called::Awake };
        }
        if now_ns() < self.retry_ns.load(Ordering::Relaxed) {
            return Called::Nobody(None);
        }
        // While another thread starts it, nobody knows whether it will come.
        let mine =
            self.state.compare_exchange(NO_THREAD, STARTS, Ordering::Relaxed, Ordering::Relaxed);
        if mine.is_err() {
            return Called::Nobody(None);
        }
        loaded::for_good();
        let name = "barrierd-reclaim".into();
        match thread::Builder::new().name(name).spawn(|| self.run()) {
            Ok(_) => Called::BySystemCall,
            // Without a thread (a limit, a seccomp filter) all is as with `background(false)`, until
            // there is one.
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
        // Partner: the fence of who found nobody.
        fence(Ordering::SeqCst);
        let term = {
            let mut rota = lock(&self.rota);
            rota.threads += 1;
            rota.term
        };
        self.serve(Role::Lead { term });
    }

    /// Looks after all domains, until another thread has taken the lead. What to do then.
    fn lead(&'static self, term: u64) -> Role {
        loop {
            self.take_newcomers();
            let (mut nap, mut news) = (None, None);
            let count = lock(&self.rota).keepers.len();
            for _ in 0..count {
                let Some(mut keeper) = self.next_keeper() else { break };
                let next = attend(&mut *keeper, |domain| self.be_watched(domain));
                news = news.or_else(|| keeper.news());
                nap = nap.into_iter().chain(next).min();
                if let Some(role) = self.put_back(keeper, term) {
                    return role;
                }
            }
            if !news.zip(nap).is_some_and(|(sleep, nap)| sleep(nap)) {
                self.nap.sleep(nap);
            }
        }
    }

    fn take_newcomers(&self) {
        // Apart, so that the lock is not held below.
        let new = core::mem::take(&mut *lock(&self.new));
        for keeper in new {
            // This may be the last to let the domain go, and with it what its hooks own.
            caught(|| {
                let domain = keeper.domain().upgrade();
                if let Some(watch) = domain.as_ref().and_then(|domain| domain.watch()) {
                    // It may have called while there was no thread.
                    watch.attention().wake_up();
                }
            });
            lock(&self.rota).keepers.push_back(keeper);
        }
    }
}

/// One look. When to come again; `None`: when called.
pub(crate) fn attend(
    keeper: &mut dyn Keep,
    be_watched: impl FnOnce(&dyn Kept),
) -> Option<Duration> {
    let domain = keeper.domain().upgrade()?;
    be_watched(&*domain);
    let nap = caught(|| keeper.visit()).unwrap_or(Some(RETRY));
    // Apart, so that it can't panic while a panic unwinds.
    caught(|| drop(domain));
    // Others' code has run: destructors, hooks, a subscriber.
    caught(leave_all_places);
    nap
}

/// What gives up the places that others' code has taken on this thread, in whichever domain: those who hand places
/// out by thread enter it here. This thread does nothing in them between its visits, and an idle place holds back the
/// barriers that are collected.
pub(crate) static LEAVE: [OnceLock<fn()>; 2] = [const { OnceLock::new() }; 2];

/// The entries of [`LEAVE`].
pub(crate) const LOCAL: usize = 0;
#[cfg(not(loom))]
pub(crate) const EPOCH: usize = 1;

fn leave_all_places() {
    // The later first: it holds a place of the earlier.
    LEAVE.iter().rev().filter_map(OnceLock::get).for_each(|leave| leave());
}

/// `None`: it panicked.
fn caught<R>(work: impl FnOnce() -> R) -> Option<R> {
    // A keeper is as good after any of its steps.
    catch_unwind(AssertUnwindSafe(work))
        // The panic hook has reported it. The payload stays: its own destructor might panic.
        .map_err(core::mem::forget)
        .ok()
}

#[cfg(all(test, not(loom)))]
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

#[cfg(all(test, not(loom), feature = "tracing"))]
mod tests {
    use super::*;
    use crate::domain::keeper::Keeper;
    use crate::domain::local;
    use crate::domain::local::DomainId;
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use std::sync::Arc;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Uses the domain, and panics.
    struct Rude(Weak<Domain>, DomainId);

    impl Subscriber for Rude {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            local::find(self.1, &self.0.upgrade().expect("alive")).expect("not exiting");
            panic!("a subscriber's panic, on purpose");
        }
    }

    #[test]
    fn a_subscriber_leaves_no_place_behind() {
        let settings = Settings { background: true, ..Settings::default() };
        let domain = Arc::new(Domain::new(Barriers::Fence { asked_for: true }, &settings));
        // The thread does not know the domain: this one looks in its stead.
        domain.watch().expect("it has one").wake_up();
        let id = local::next_id();
        let mut keeper = Keeper::new(Arc::downgrade(&domain), id);
        let rude = Rude(Arc::downgrade(&domain), id);
        let nap = tracing::subscriber::with_default(rude, || attend(&mut keeper, |_| ()));
        assert_eq!(nap, Some(RETRY), "it panicked, and the next look is due");
        assert_eq!((domain.all_records().count(), domain.records().count()), (1, 0));
        domain.close();
    }
}
