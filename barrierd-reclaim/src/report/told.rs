//! What `tracing` events have already reported of a domain: a state is reported once, when it begins.

use super::pressure::Pressure;
use super::trace;
use crate::engine::Engine;
use crate::evidence::status::Status;
use crate::locks::try_lock;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Mutex;

/// What was reported of an engine.
#[derive(Debug, Default)]
pub(crate) struct Told {
    status: Mutex<Option<Status>>,
    refused: AtomicBool,
    pressed: AtomicBool,
}

impl Told {
    /// Reports what is new.
    pub(crate) fn tell_changes(&self, engine: &Engine) {
        if !trace::IS_ON || engine.is_forked() {
            return;
        }
        let refused = engine.is_refused();
        if refused && !self.refused.swap(true, Relaxed) {
            trace::refused();
        } else if !refused && self.refused.load(Relaxed) {
            self.refused.store(false, Relaxed);
        }
        let status = engine.status();
        let before = {
            // Another thread is reporting.
            let Some(mut told) = try_lock(&self.status) else { return };
            if *told == Some(status) {
                return;
            }
            told.replace(status)
        };
        trace::source(status, before.is_none());
    }

    /// Notes that the domain is above its limits, or (`None`) is not.
    pub(crate) fn pressed(&self, pressure: Option<&dyn Fn() -> Pressure>) {
        let Some(pressure) = pressure else {
            self.pressed.store(false, Relaxed);
            return;
        };
        if trace::IS_ON && !self.pressed.swap(true, Relaxed) {
            trace::pressed(&pressure());
        }
    }
}

#[cfg(all(test, not(barrierd_loom), feature = "tracing"))]
mod tests {
    use crate::domain::{Domain, Settings};
    use crate::evidence::barriers::Barriers;
    use crate::report::on_event::OnEvent;
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::Arc;
    use tracing::{Event, Level};

    #[test]
    fn a_poisoned_domain_says_so_once() {
        let errors = Arc::new(AtomicUsize::new(0));
        let heard = errors.clone();
        let subscriber = OnEvent(move |event: &Event<'_>| {
            heard.fetch_add(usize::from(*event.metadata().level() == Level::ERROR), Relaxed);
        });
        let settings = Settings { background: false, ..Settings::default() };
        let domain = Domain::new(Barriers::Fence { asked_for: true }, &settings);
        tracing::subscriber::with_default(subscriber, || {
            domain.told().tell_changes(&domain);
            assert_eq!(errors.load(Relaxed), 0);
            domain.poison();
            let record = domain.acquire();
            // SAFETY: the record is this test's.
            unsafe { domain.flush(record) };
            assert_eq!(errors.load(Relaxed), 1);
            domain.told().tell_changes(&domain);
            assert_eq!(errors.load(Relaxed), 1);
        });
        domain.close();
    }
}
