//! The background thread: one for the process, for every domain that wants it.
//!
//! Owns the thread and the registry. How it sleeps and is woken is `nap.rs`, what it does for a domain
//! when it is awake `takeover.rs`; it knows nothing of queues or barriers.
//!
//! # When it sleeps, and who wakes it
//! A domain is *asleep* while nothing waits in it: then the thread does not look at it, and with all
//! domains asleep it sleeps without a timeout. Two sides, each with a fence between its store and its
//! load, so that at least one sees the other (Dekker):
//!
//! - The thread: `asleep` = true; fence; look at the tallies; something waits: `asleep` = false.
//! - A retirer, in the slow path that every first item of a bag takes: count the item; fence; look at
//!   `asleep`; true: exchange it for false, and whoever got the true wakes the thread.
//!
//! So there is at most one wake-up each time a domain falls asleep. The items behind the first of a
//! bag need no look: while they are pushed the first one waits, for a bag goes whole.
//!
//! The thread's own word is the same game once more ([`Nap`]): a waker marks it as called, and looks
//! whether it must wake; the thread sleeps only by exchanging "awake" for "asleep".

use crate::domain::Domain;
use crate::local::DomainId;
use crate::nap::{Attention, Nap};
use crate::takeover::Keeper;
use crate::trace;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use rustix::process::{Pid, getpid};
use std::sync::{Mutex, PoisonError, Weak};
use std::thread;

/// A domain's side of the background thread.
#[derive(Debug)]
pub(crate) struct Watch {
    service: &'static Service,
    attention: Attention,
}

impl Watch {
    /// Of the calling process.
    pub(crate) fn new() -> Watch {
        Watch { service: Service::of_this_process(), attention: Attention::new() }
    }

    /// Has the thread look after `domain`, from its first item on.
    pub(crate) fn enlist(&self, domain: Weak<Domain>, id: DomainId) {
        lock(&self.service.new).push((domain, id));
    }

    /// After an item was counted, and a SeqCst fence since: has the thread look at the domain, if it
    /// does not. Whether that took a system call.
    #[inline]
    pub(crate) fn rouse(&self) -> bool {
        self.attention.rouse() && self.service.call()
    }

    /// Whether the thread runs: it may not have been needed yet, or could not be started.
    pub(crate) fn is_served(&self) -> bool {
        self.service.started.load(Ordering::Relaxed)
    }

    /// What the thread asks and says of the domain.
    pub(crate) fn attention(&self) -> &Attention {
        &self.attention
    }
}

/// The background thread of one process. Never freed: a process has one.
#[derive(Debug)]
struct Service {
    /// The child of a fork has no such thread: it makes another for its own domains.
    process: Pid,
    nap: Nap,
    started: AtomicBool,
    /// Domains that the thread has not seen yet.
    new: Mutex<Vec<(Weak<Domain>, DomainId)>>,
}

impl Service {
    fn of_this_process() -> &'static Service {
        static CURRENT: AtomicPtr<Service> = AtomicPtr::new(core::ptr::null_mut());
        let process = getpid();
        let current = CURRENT.load(Ordering::Acquire);
        // SAFETY: null, or leaked below.
        if let Some(service) = unsafe { current.as_ref() }.filter(|s| s.process == process) {
            return service;
        }
        let service = Box::into_raw(Box::new(Service {
            process,
            nap: Nap::new(),
            started: AtomicBool::new(false),
            new: Mutex::default(),
        }));
        match CURRENT.compare_exchange(current, service, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: leaked above.
            Ok(_) => unsafe { &*service },
            Err(other) => {
                // SAFETY: made above, and nobody else has seen it. The other was leaked by the
                // thread of this process that came first.
                unsafe {
                    drop(Box::from_raw(service));
                    &*other
                }
            }
        }
    }

    /// Makes the thread look again; the first caller starts it. Whether that took a system call.
    fn call(&'static self) -> bool {
        if !self.started.load(Ordering::Relaxed) && !self.started.swap(true, Ordering::Relaxed) {
            // The word first: whatever was enlisted before is seen by the thread's first look.
            let name = "barrierd-reclaim".into();
            // Without a thread (a limit, a seccomp filter) all is as with `background(false)`.
            if let Err(error) = thread::Builder::new().name(name).spawn(|| self.run()) {
                self.started.store(false, Ordering::Relaxed);
                trace::no_thread(&error);
            }
            return true;
        }
        self.nap.call()
    }

    fn run(&'static self) {
        let mut keepers = Vec::new();
        loop {
            for (domain, id) in core::mem::take(&mut *lock(&self.new)) {
                keepers.push(Keeper::new(domain, id));
            }
            keepers.retain(|keeper: &Keeper| !keeper.is_gone());
            let nap = keepers.iter_mut().filter_map(Keeper::visit).min();
            self.nap.sleep(nap);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
