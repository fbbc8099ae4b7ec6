//! The error of a failed compare-exchange, and the deprecated names around it.

use super::pointable::{Pointable, Pointer};
use super::shared::Shared;
use core::fmt;
use core::sync::atomic::Ordering;

/// The error of a compare-exchange that found another pointer than the expected one.
pub struct CompareExchangeError<'g, T: ?Sized + Pointable, P: Pointer<T>> {
    /// The pointer that it found.
    pub current: Shared<'g, T>,

    /// The pointer that it was to store, given back.
    pub new: P,
}

impl<T, P: Pointer<T> + fmt::Debug> fmt::Debug for CompareExchangeError<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CompareExchangeError { current, new } = self;
        f.debug_struct("CompareExchangeError").field("current", current).field("new", new).finish()
    }
}

/// The earlier name of [`CompareExchangeError`].
#[deprecated(note = "Use `CompareExchangeError` instead")]
pub type CompareAndSetError<'g, T, P> = CompareExchangeError<'g, T, P>;

/// One ordering or a pair of them, for the deprecated `compare_and_set`.
#[deprecated(
    note = "`compare_and_set` and `compare_and_set_weak`, which use it, are deprecated: use \
                     `compare_exchange` or `compare_exchange_weak`"
)]
pub trait CompareAndSetOrdering {
    /// The ordering of a successful exchange.
    fn success(&self) -> Ordering;

    /// The ordering of the load of a failed exchange: never Release.
    fn failure(&self) -> Ordering;
}

#[allow(deprecated, reason = "the interface has it still")]
impl CompareAndSetOrdering for Ordering {
    #[inline]
    fn success(&self) -> Ordering {
        *self
    }

    /// The strongest failure ordering that goes with the ordering of success.
    #[inline]
    fn failure(&self) -> Ordering {
        match self {
            Ordering::Relaxed | Ordering::Release => Ordering::Relaxed,
            Ordering::Acquire | Ordering::AcqRel => Ordering::Acquire,
            _ => Ordering::SeqCst,
        }
    }
}

#[allow(deprecated, reason = "the interface has it still")]
impl CompareAndSetOrdering for (Ordering, Ordering) {
    #[inline]
    fn success(&self) -> Ordering {
        self.0
    }

    #[inline]
    fn failure(&self) -> Ordering {
        self.1
    }
}
