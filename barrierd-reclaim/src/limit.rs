//! Bounds on what may wait, and what `retire` does above them.
//!
//! Owns the limits, the question whether they are exceeded, and the order of the remedies. Asked once
//! a bag, so a domain is within its limits but for one bag of each thread; two, where it retires objects
//! with a birth and without.

use crate::domain::Domain;
use crate::later;
use crate::record::Record;
use crate::source::Asked;
use crate::stalled::try_lock;
use barrierd_client::clock::now_ns;
use core::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What `retire` does when more waits than a limit allows and an expedited barrier has not helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// Nothing more: the hook is called, and `retire` returns.
    #[default]
    Expedite,
    /// It waits until enough has been freed, at most this long; then the hook is called, and it
    /// returns all the same. It never waits in a section of its own ([`Reclaimer::pin`] on this
    /// thread, or the handle that it goes through) nor in a destructor: that may be what it would
    /// wait for. A guard that this thread holds in another way costs it the whole time.
    ///
    /// [`Reclaimer::pin`]: crate::Reclaimer::pin
    Block(Duration),
}

/// What a limit's hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Objects that wait, in the whole domain.
    pub items: u64,
    /// What they take, bytes; as for [`Stats::waiting_bytes`](crate::Stats::waiting_bytes).
    pub bytes: u64,
    /// Threads and handles that hold a guard.
    pub readers: usize,
    /// How old the era is that the oldest of them reads in: at least as long has its guard been
    /// open, but for one barrier round.
    pub oldest_guard: Option<Duration>,
    /// The calling thread holds a guard itself.
    pub own_guard: bool,
}

type Hook = Arc<Mutex<dyn FnMut(&Pressure) + Send>>;

/// A domain's limits.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) items: u64,
    pub(crate) bytes: u64,
    pub(crate) then: OnLimit,
    pub(crate) hook: Option<Hook>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { items: u64::MAX, bytes: u64::MAX, then: OnLimit::default(), hook: None }
    }
}

impl Limits {
    /// Whether there are any.
    fn exist(&self) -> bool {
        self.items != u64::MAX || self.bytes != u64::MAX
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limits { items, bytes, then, hook } = self;
        write!(f, "Limits {{ {items} items, {bytes} bytes, {then:?}, hook: {} }}", hook.is_some())
    }
}

impl Domain {
    /// After a bag was sealed, or the first item pushed: keeps the domain within its limits, as far
    /// as the settings allow.
    ///
    /// # Safety
    /// The caller owns `record`.
    #[inline]
    pub(crate) unsafe fn heed_limits(&self, record: &Record) {
        if self.limits().exist() {
            // SAFETY: the caller owns the record.
            unsafe { self.heed_limits_now(record) };
        }
    }

    fn is_over(&self) -> bool {
        let limits = self.limits();
        self.waiting() > limits.items
            || limits.bytes != u64::MAX && self.waiting_bytes() > limits.bytes
    }

    /// # Safety
    /// The caller owns `record`.
    #[cold]
    unsafe fn heed_limits_now(&self, record: &Record) {
        if self.in_destructor(record) {
            return;
        }
        if !self.is_over() {
            self.told().pressed(None);
            return;
        }
        // SAFETY: the caller owns the record.
        unsafe { self.relieve(record) };
        let own_guard = record.reader().is_pinned();
        if let OnLimit::Block(longest) = self.limits().then
            && !own_guard
        {
            let stop = later::after(Instant::now(), longest);
            let mut nap = Duration::from_micros(20);
            while self.is_over() && Instant::now() < stop {
                std::thread::sleep(nap.min(stop.saturating_duration_since(Instant::now())));
                nap = (nap * 2).min(Duration::from_millis(2));
                // SAFETY: the caller owns the record.
                unsafe { self.relieve(record) };
            }
        }
        if !self.is_over() {
            self.told().pressed(None);
            return;
        }
        self.told().pressed(Some(&|| self.pressure(own_guard)));
        if let Some(hook) = &self.limits().hook {
            let pressure = self.pressure(own_guard);
            // Called by one thread at a time, and not from within itself.
            if let Some(mut hook) = try_lock(hook) {
                hook(&pressure);
            }
        }
    }

    /// A barrier now, if one can be had, and everything that is safe by then.
    ///
    /// # Safety
    /// The caller owns `record`, outside of destructors.
    unsafe fn relieve(&self, record: &Record) {
        // SAFETY: the caller owns the record.
        unsafe { self.flush_for(record, Asked::AtLimit) };
    }

    fn pressure(&self, own_guard: bool) -> Pressure {
        let now = now_ns();
        let pinned = || self.records().filter_map(|record| record.reader().pinned());
        Pressure {
            items: self.waiting(),
            bytes: self.waiting_bytes(),
            readers: pinned().count(),
            oldest_guard: pinned().min().map(|era| Duration::from_nanos(now.saturating_sub(era))),
            own_guard,
        }
    }
}
