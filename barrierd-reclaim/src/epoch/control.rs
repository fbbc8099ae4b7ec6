//! What crossbeam-epoch lacks: settings of the process's own collector, and waiting for its garbage.

use super::collector::Collector;
use super::default;
use crate::api::builder::Builder;
use crate::domain::Domain;
use crate::engine::record::Record;
use crate::error::{BuildError, SynchronizeError};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The error of [`configure`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// The collector was in use already: something in the process has pinned before.
    #[error(
        "the process's collector is in use already: call configure() before the first pin(), at the \
         beginning of main"
    )]
    InUse,
    /// The source is not available.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// [`drain`] could not finish. Nothing is lost: what waits is still queued.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{waiting} deferred call(s) still wait: {}",
    reason.as_ref().map_or("other threads have deferred them and are not done".into(), ToString::to_string)
)]
#[non_exhaustive]
pub struct DrainError {
    /// Deferred calls that were not made.
    pub waiting: u64,
    /// The reason why they wait. `None`: other threads hold them, which still defer or have not been idle for long
    /// enough.
    #[source]
    pub reason: Option<SynchronizeError>,
}

/// Chooses the settings of the process's own collector: limits and what happens at them, source, background thread.
/// Call it before anything pins. The settings hold in children of this process as well
/// ([`default_collector`](super::default_collector)).
///
/// ```
/// use barrierd_reclaim::{Reclaimer, epoch};
///
/// let settings = Reclaimer::builder()
///     .limit_bytes(64 << 20)
///     .limit_hook(|pressure| eprintln!("garbage piles up: {pressure:?}"));
/// epoch::configure(settings)?;
/// # Ok::<(), epoch::ConfigureError>(())
/// ```
///
/// # Errors
/// Returns an error if the collector is in use already, or if a source was asked for by name and can't be had.
pub fn configure(builder: Builder) -> Result<(), ConfigureError> {
    let reclaimer = builder.clone().build()?;
    default::establish(reclaimer, Some(builder)).map_err(|_| ConfigureError::InUse)?;
    Ok(())
}

/// Waits until everything that was deferred in the process's own collector has been called.
///
/// Use it at the end of a program, or of a phase. If other threads go on deferring, it waits for them in vain. What
/// idle threads hold is called too, once the background thread has taken it over, some 20 ms after their last call.
/// `Ok` means that all closures have returned, except one that another live thread may be running at that moment as
/// part of its own `defer` or `flush`.
///
/// ```
/// use barrierd_reclaim::epoch;
/// use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
/// use std::time::{Duration, Instant};
///
/// static CALLED: AtomicBool = AtomicBool::new(false);
/// epoch::pin().defer(|| CALLED.store(true, Relaxed));
/// epoch::drain(Instant::now() + Duration::from_secs(5))?;
/// assert!(CALLED.load(Relaxed));
/// # Ok::<(), epoch::DrainError>(())
/// ```
///
/// # Errors
/// Returns an error when `deadline` comes first, or when the wait could never end, for example because this thread
/// has a guard.
pub fn drain(deadline: Instant) -> Result<(), DrainError> {
    if default::existing().is_none() {
        return Ok(());
    }
    // SAFETY: the record is this thread's.
    default::with_record(|record| unsafe { Collector::drain_as(record, deadline) })
}

impl Collector {
    /// Does what [`drain`] does, for this collector. This thread's own guards show as [`SynchronizeError::Readers`],
    /// after the deadline.
    ///
    /// # Errors
    /// Returns an error when `deadline` comes first, or when the wait could never end.
    pub fn drain(&self, deadline: Instant) -> Result<(), DrainError> {
        let handle = self.register();
        // SAFETY: the handle is this thread's.
        unsafe { Self::drain_as(handle.record(), deadline) }
    }

    /// # Safety
    /// The caller owns `record`.
    unsafe fn drain_as(record: &Record, deadline: Instant) -> Result<(), DrainError> {
        let domain = Domain::of(record);
        loop {
            // SAFETY: the caller owns the record.
            if let Err(error) = unsafe { domain.synchronize(record, deadline) } {
                return Err(DrainError { waiting: domain.waiting(), reason: Some(error) });
            }
            let waiting = domain.waiting();
            if waiting == 0 {
                // All have been called. Some of those that other threads took over may not have returned.
                let landed = domain.wait_for_others(deadline);
                return landed.map_err(|error| DrainError { waiting, reason: Some(error) });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(DrainError { waiting, reason: None });
            }
            // Only other threads' queues are left; the background thread is working on them.
            std::thread::sleep(left.min(Duration::from_millis(1)));
        }
    }
}
