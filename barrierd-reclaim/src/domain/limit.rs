//! Limits on what may wait, and what `retire` does above them.
//!
//! This file owns the limits, the check whether they are exceeded, and the order of the remedies. The check is made
//! where a call opens a bag, so once in 64 items. It counts everything except the caller's open bags, which may fill
//! up. So a domain in which nothing is in the way is within its limits except for one bag of each thread, or two,
//! where a thread retires objects with a birth and without. What was sealed a moment ago is freed with the barrier
//! that the check asks for, and what was pushed since stays open. So a domain above its limits has no more bags than
//! one without limits.

use crate::bag::Work;
use crate::domain::Domain;
use crate::engine::record::Record;
use crate::later::{self, Backoff};
use crate::locks::try_lock;
use crate::meter::sums::Sum;
use crate::platform::{CAN_SLEEP, now_ns};
use crate::report::pressure::Pressure;
use core::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What `retire` does when more waits than a limit allows and an expedited barrier has not helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnLimit {
    /// `retire` does nothing more: the hook is called, and it returns.
    #[default]
    Expedite,
    /// `retire` waits until enough has been freed, for at most this long, once in 64 objects. Then the hook is
    /// called, and it returns in any case. It never waits inside a section of its own ([`Reclaimer::pin`] on this
    /// thread, or the handle that the call goes through) nor in a destructor, since it might wait for just that. A
    /// guard that this thread holds in another way makes it wait the whole time.
    ///
    /// [`Reclaimer::pin`]: crate::Reclaimer::pin
    Block(Duration),
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
    /// Returns whether there are any.
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
    /// Returns whether there are limits, and it is time to check them.
    pub(super) fn limited(&self, work: &mut Work<'_>) -> bool {
        self.limits().exist() && work.is_to_check_limits()
    }

    /// Keeps the domain within its limits, as far as the settings allow. It runs once in 64 items, after one has
    /// opened a bag.
    ///
    /// # Safety
    /// The caller owns `record`, in a process that was not forked since the domain was made.
    #[inline]
    pub(crate) unsafe fn check_limits(&self, record: &Record) {
        if self.limits().exist() {
            // SAFETY: the caller owns the record.
            unsafe { self.check_limits_now(record) };
        }
    }

    /// # Safety
    /// The caller owns `record`.
    unsafe fn is_over(&self, record: &Record) -> bool {
        let limits = self.limits();
        // SAFETY: the caller owns the record.
        let Sum { items, bytes } = unsafe { self.unsealed(record) };
        self.waiting().saturating_sub(items) > limits.items
            || limits.bytes != u64::MAX && self.waiting_bytes().saturating_sub(bytes) > limits.bytes
    }

    /// # Safety
    /// The caller owns `record`.
    #[cold]
    unsafe fn check_limits_now(&self, record: &Record) {
        if self.in_destructor(record) {
            return;
        }
        // SAFETY: the caller owns the record.
        if !unsafe { self.is_over(record) } {
            self.told().pressed(None);
            return;
        }
        // SAFETY: the caller owns the record.
        unsafe { self.relieve(record) };
        let own_guard = record.reader().is_pinned();
        let longest = match self.limits().then {
            OnLimit::Block(longest) if !own_guard && CAN_SLEEP => Some(longest),
            _ => None,
        };
        if let Some(longest) = longest {
            let stop = later::after(Instant::now(), longest);
            let mut backoff = Backoff::new();
            // SAFETY: the caller owns the record.
            while unsafe { self.is_over(record) } && Instant::now() < stop {
                backoff.sleep(stop);
                // SAFETY: the caller owns the record.
                unsafe { self.relieve(record) };
            }
            // SAFETY: the caller owns the record.
            unsafe { self.own(record, |work| work.was_held_up(now_ns())) };
        }
        // SAFETY: the caller owns the record.
        if !unsafe { self.is_over(record) } {
            self.told().pressed(None);
            return;
        }
        self.told().pressed(Some(&|| Pressure::of(self, own_guard)));
        if let Some(hook) = &self.limits().hook {
            let pressure = Pressure::of(self, own_guard);
            // The hook is called by one thread at a time, and not from within itself.
            if let Some(mut hook) = try_lock(hook) {
                hook(&pressure);
            }
        }
    }
}
