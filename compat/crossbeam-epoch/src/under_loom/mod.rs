//! The interface on loom's atomics, for models of structures: `--cfg crossbeam_loom` with the feature `loom`.
//!
//! The pointers are [`barrierd_reclaim::epoch`]'s own files. The collector is another one, of some hundred lines
//! (`collector.rs`), which promises to a structure what the library promises, and no more:
//!
//! - What is deferred is called when the last section has ended that was open at that moment: as early as any
//!   collector may, by the thread that ends that section.
//! - **A section that opens synchronises with what was deferred before, and with nothing else. It is no fence.** The
//!   original's `pin` is one, also under loom, where fences join one global order; so a structure that relies on it
//!   passes there and is found here, as is a missing Acquire that the fence covers up.
//! - Ends of sections synchronise with the calls that waited for them.
//! - `is_pinned` runs a fence when it returns false, as the library's.
//!
//! It doesn't have what only the library has (`configure`, `drain`, `Collector::build`, reports), nor the
//! destructors' thread, limits and forks. `Atomic::null` is not const, as in the original under loom.

#[path = "../../../../barrierd-reclaim/src/epoch/atomic.rs"]
mod atomic;
mod collector;
#[path = "../../../../barrierd-reclaim/src/epoch/compare.rs"]
mod compare;
mod default;
mod guard;
#[path = "../../../../barrierd-reclaim/src/epoch/owned.rs"]
mod owned;
#[path = "../../../../barrierd-reclaim/src/epoch/pointable.rs"]
mod pointable;
#[path = "../../../../barrierd-reclaim/src/epoch/shared.rs"]
mod shared;
mod word;

pub use atomic::Atomic;
pub use collector::{Collector, LocalHandle};
pub use compare::CompareExchangeError;
#[allow(deprecated, reason = "crossbeam-epoch 0.9 has these names still")]
pub use compare::{CompareAndSetError, CompareAndSetOrdering};
pub use default::{default_collector, is_pinned, pin};
pub use guard::{Guard, unprotected};
pub use owned::Owned;
pub use pointable::{Pointable, Pointer};
pub use shared::Shared;
