//! The choice of the thread that serves the domains while a destructor blocks the one that did.
//!
//! This file owns the list of keepers, the term, and the watcher. One thread leads: it takes out one keeper at a
//! time, visits that domain, and puts the keeper back. A second thread watches if a blocked leader would matter
//! (there are other domains, or a hook to call). It watches while there are visits to domains that are awake, and
//! sleeps once there have been none for a second. If the leader has been in one and the same destructor or hook for
//! [`STUCK`], the watcher begins a new term: from then on it leads, with all keepers except that one. The thread that
//! was blocked finds another term when it puts its keeper back, and ends.
//!
//! All of this happens under one lock, and no foreign code runs under it. A term begins only while the leader is on a
//! visit, and the leader checks the term after each visit. So at most one thread leads, sleeps on the service's word,
//! and visits a given domain. Whether the leader is really blocked does not matter: a wrong guess costs one thread.
//!
//! There are [`MOST`] threads at most. If all of them are blocked, what is left waits for one of them.

use super::{Keep, Kept, RETRY_NS, Service, leave_all_places};
use crate::engine::flights::STUCK;
use crate::locks::lock;
use crate::panics::caught;
use crate::platform::become_ordinary;
use crate::platform::now_ns;
use crate::sync::real::AtomicU64;
use core::sync::atomic::Ordering;
use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Instant;

/// How many checks of the watcher find no visit before it sleeps until it is called.
const LINGER: u32 = 10;
/// The most threads: blocked ones, the leader, the watcher.
const MOST: usize = 4;

/// See the file's documentation.
#[derive(Default)]
pub(super) struct Rota {
    /// The keepers of all domains except those that are being visited.
    pub(super) keepers: VecDeque<Box<dyn Keep>>,
    /// How often the lead has changed hands.
    pub(super) term: u64,
    /// The leader's visit, if it is on one.
    visit: Option<Visit>,
    /// The number of visits so far.
    visits: u64,
    pub(super) threads: usize,
    watcher: Watcher,
    /// When to try again to start one, in nanoseconds.
    retry_ns: u64,
}

/// A visit that is under way.
struct Visit {
    domain: Option<Weak<dyn Kept>>,
    /// The number of destructors that it has begun.
    beats: Arc<AtomicU64>,
}

/// What a thread is to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Lead { term: u64 },
    Watch,
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watcher {
    #[default]
    Nobody,
    Sleeps,
    Looks,
}

impl Rota {
    fn begin(&mut self, domain: Option<Weak<dyn Kept>>, beats: Arc<AtomicU64>) {
        self.visit = Some(Visit { domain, beats });
        self.visits += 1;
    }

    /// Called when a visit that began in `term` is over. Returns what its thread is to do, if another leads.
    fn end(&mut self, term: u64) -> Option<Role> {
        if self.term == term {
            self.visit = None;
            return None;
        }
        if self.watcher == Watcher::Nobody {
            self.watcher = Watcher::Looks;
            return Some(Role::Watch);
        }
        self.threads -= 1;
        Some(Role::End)
    }
}

impl Service {
    /// Does the work of each of its threads.
    pub(super) fn serve(&'static self, mut role: Role) {
        loop {
            role = match role {
                Role::Lead { term } => self.lead(term),
                Role::Watch => self.watch(),
                Role::End => return,
            };
        }
    }

    /// Takes out the keeper whose turn it is, for the leader's visit.
    pub(super) fn next_keeper(&self) -> Option<Box<dyn Keep>> {
        let mut rota = lock(&self.rota);
        let keeper = loop {
            let keeper = rota.keepers.pop_front()?;
            if !keeper.is_gone() {
                break keeper;
            }
        };
        rota.begin(Some(keeper.domain().clone()), keeper.beats().clone());
        Some(keeper)
    }

    /// Called when the leader is about to visit `domain`. Has the leader watched, if it will do anything there and it
    /// would matter if it did not return.
    pub(super) fn be_watched(&'static self, domain: &dyn Kept) {
        if domain.watch().is_none_or(|watch| watch.attention().is_asleep()) {
            return;
        }
        // Newcomers are read last: the visit has begun, so a domain that comes later finds it (`come_too`).
        if domain.listens() || !lock(&self.rota).keepers.is_empty() || !lock(&self.new).is_empty() {
            self.have_it_watched(lock(&self.rota));
        }
    }

    /// Called when a domain has joined the newcomers. Has the leader watched, if it is on a visit.
    pub(super) fn come_too(&'static self) {
        let rota = lock(&self.rota);
        if rota.visit.is_some() {
            self.have_it_watched(rota);
        }
    }

    /// Gives the keeper back after the visit. Returns what to do now, if another thread leads.
    pub(super) fn put_back(&self, keeper: Box<dyn Keep>, term: u64) -> Option<Role> {
        let mut rota = lock(&self.rota);
        rota.keepers.push_back(keeper);
        let role = rota.end(term);
        drop(rota);
        if role.is_some() {
            // The leader knows nothing of what is due there.
            self.parker.call();
        }
        role
    }

    /// Has a watcher check the visit that is under way.
    fn have_it_watched(&'static self, mut rota: MutexGuard<'_, Rota>) {
        match rota.watcher {
            Watcher::Looks => {}
            Watcher::Sleeps => {
                rota.watcher = Watcher::Looks;
                drop(rota);
                self.changed.notify_one();
            }
            Watcher::Nobody if rota.threads < MOST && now_ns() >= rota.retry_ns => {
                rota.watcher = Watcher::Looks;
                rota.threads += 1;
                // Not under the lock, since it may take long.
                drop(rota);
                let name = "barrierd-reclaim".into();
                if thread::Builder::new().name(name).spawn(|| self.come_to_watch()).is_err() {
                    let mut rota = lock(&self.rota);
                    rota.watcher = Watcher::Nobody;
                    rota.threads -= 1;
                    rota.retry_ns = now_ns().saturating_add(RETRY_NS);
                }
            }
            Watcher::Nobody => {}
        }
    }

    fn come_to_watch(&'static self) {
        become_ordinary();
        self.serve(Role::Watch);
    }

    /// Watches the leader, until it is blocked; then takes its place.
    fn watch(&'static self) -> Role {
        let mut rota = lock(&self.rota);
        let (mut seen, mut since, mut quiet) = ((0, 0), Instant::now(), 0);
        loop {
            if let Some(visit) = &rota.visit {
                // Relaxed: a hint.
                let now = (rota.visits, visit.beats.load(Ordering::Relaxed));
                if now != seen {
                    (seen, since) = (now, Instant::now());
                } else if since.elapsed() >= STUCK {
                    break;
                }
                quiet = 0;
            } else {
                quiet += 1;
            }
            if quiet <= LINGER {
                let woken = self.changed.wait_timeout(rota, STUCK);
                rota = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            quiet = 0;
            rota.watcher = Watcher::Sleeps;
            while rota.watcher == Watcher::Sleeps {
                rota = self.changed.wait(rota).unwrap_or_else(PoisonError::into_inner);
            }
        }
        rota.watcher = Watcher::Nobody;
        rota.term += 1;
        let term = rota.term;
        let blocked = rota.visit.take().and_then(|visit| visit.domain);
        // What is called now may block as well.
        rota.begin(None, Arc::default());
        self.have_it_watched(rota);
        if let Some(domain) = blocked {
            tell(&domain);
        }
        lock(&self.rota).end(term).unwrap_or(Role::Lead { term })
    }
}

/// Reports a destructor of `domain` that blocks.
fn tell(domain: &Weak<dyn Kept>) {
    let Some(domain) = domain.upgrade() else { return };
    caught(|| domain.tell());
    // A step of its own, so that it can't panic while a panic unwinds.
    caught(|| drop(domain));
    caught(leave_all_places);
}
