//! `tracing` events, if the feature `tracing` is on; else nothing.
//!
//! Owns their wording, and what was told already: a state is told once, when it begins. A subscriber is
//! foreign code: these functions are called outside of queues and of locks that a call would wait for, and
//! never on the fast path of `retire`.

#[cfg(feature = "tracing")]
pub(crate) use on::*;

#[cfg(not(feature = "tracing"))]
pub(crate) use off::*;

#[cfg(feature = "tracing")]
mod on {
    use crate::domain::Domain;
    use crate::domain::limit::Pressure;
    use crate::evidence::status::{Status, Why};
    use crate::report::blockers::Blocker;
    use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::Mutex;
    use tracing::{debug, error, info, warn};

    pub(crate) const IS_ON: bool = true;

    /// The background thread could not be started.
    pub(crate) fn no_thread(error: &std::io::Error) {
        warn!(%error, "no background thread: what idle threads hold waits for them");
    }

    /// Queues of idle threads were taken over.
    pub(crate) fn took_over(queues: usize) {
        debug!(queues, "took over queues of threads that do not retire");
    }

    /// A section is open for longer than the stall hook's limit.
    pub(crate) fn stalled(blocker: &Blocker) {
        warn!(
            tid = blocker.tid,
            thread = blocker.thread.as_deref().unwrap_or(""),
            open_for_ms = u64::try_from(blocker.open_for.as_millis()).unwrap_or(u64::MAX),
            robust = blocker.robust,
            items = blocker.holds_items,
            bytes = blocker.holds_bytes,
            "a guard is open for too long"
        );
    }

    /// A destructor has kept a background thread for too long.
    pub(crate) fn blocked(blocker: &Blocker) {
        warn!(
            tid = blocker.tid,
            thread = blocker.thread.as_deref().unwrap_or(""),
            runs_for_ms = u64::try_from(blocker.open_for.as_millis()).unwrap_or(u64::MAX),
            items = blocker.holds_items,
            "a destructor blocks a background thread"
        );
    }

    /// What was told of a domain.
    #[derive(Debug, Default)]
    pub(crate) struct Told {
        status: Mutex<Option<Status>>,
        refused: AtomicBool,
        pressed: AtomicBool,
    }

    impl Told {
        /// Tells what is new.
        pub(crate) fn look(&self, domain: &Domain) {
            if domain.is_forked() {
                return;
            }
            let refused = domain.is_refused();
            if refused && !self.refused.swap(true, Relaxed) {
                warn!("the kernel refuses membarrier");
            } else if !refused && self.refused.load(Relaxed) {
                self.refused.store(false, Relaxed);
            }
            let status = domain.status();
            let before = {
                // Somebody else is at it.
                let Ok(mut told) = self.status.try_lock() else { return };
                if *told == Some(status) {
                    return;
                }
                told.replace(status)
            };
            tell(status, before.is_none());
        }

        /// The domain is above its limits, or (`None`) is not.
        pub(crate) fn pressed(&self, pressure: Option<&dyn Fn() -> Pressure>) {
            let Some(pressure) = pressure else {
                self.pressed.store(false, Relaxed);
                return;
            };
            if !self.pressed.swap(true, Relaxed) {
                let Pressure { items, bytes, readers, .. } = pressure();
                warn!(items, bytes, readers, "above the limit of what may wait");
            }
        }
    }

    fn tell(status: Status, first: bool) {
        let asked_for = matches!(status, Status::Membarrier(Why::AskedFor));
        match status {
            Status::Poisoned => {
                error!(%status, "the clock ran backwards: nothing is freed any more");
            }
            Status::Nothing(_) => warn!(%status, "no barriers"),
            Status::Membarrier(_) if !first && !asked_for => {
                warn!(%status, "barriers come from another source");
            }
            _ => info!(%status, "barriers come from this source"),
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use crate::domain::Domain;
    use crate::domain::limit::Pressure;
    use crate::report::blockers::Blocker;

    pub(crate) const IS_ON: bool = false;

    #[inline(always)]
    pub(crate) fn no_thread(_: &std::io::Error) {}

    #[inline(always)]
    pub(crate) fn took_over(_: usize) {}

    #[inline(always)]
    pub(crate) fn stalled(_: &Blocker) {}

    #[inline(always)]
    pub(crate) fn blocked(_: &Blocker) {}

    #[derive(Debug, Default)]
    pub(crate) struct Told {}

    impl Told {
        #[inline(always)]
        pub(crate) fn look(&self, _: &Domain) {}

        #[inline(always)]
        pub(crate) fn pressed(&self, _: Option<&dyn Fn() -> Pressure>) {}
    }
}

#[cfg(all(test, not(loom), feature = "tracing"))]
mod tests {
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::Arc;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    struct Errors(Arc<AtomicUsize>);

    impl Subscriber for Errors {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_poisoned_domain_says_so_once() {
        let errors = Arc::new(AtomicUsize::new(0));
        let subscriber = Errors(errors.clone());
        let settings = Settings { background: false, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        tracing::subscriber::with_default(subscriber, || {
            domain.told().look(&domain);
            assert_eq!(errors.load(Relaxed), 0);
            domain.poison();
            let record = domain.acquire();
            // SAFETY: the record is this test's.
            unsafe { domain.flush(record) };
            assert_eq!(errors.load(Relaxed), 1);
            domain.told().look(&domain);
            assert_eq!(errors.load(Relaxed), 1);
        });
        domain.close();
    }
}
