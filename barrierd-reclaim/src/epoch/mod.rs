//! The interface of crossbeam-epoch 0.9, on this library's reclaimer.
//!
//! This module is for data structures that are written against `crossbeam-epoch`. They move over unchanged, by one
//! line in `Cargo.toml` (the repository's `compat/crossbeam-epoch`). New structures should rather use
//! [`Reclaimer`](crate::Reclaimer), which gives each its own domain.
//!
//! Names, bounds, `Send` and `Sync`, panics and the meaning of tags are the same as in the original. [`pin`] runs no
//! fence and no locked instruction; [`Guard::defer`] runs one only once in 64 calls.
//!
//! ```
//! use barrierd_reclaim::epoch::{self, Atomic, Owned};
//! use std::sync::atomic::Ordering::{AcqRel, Acquire};
//!
//! let cell = Atomic::new(String::from("old"));
//! let guard = &epoch::pin();
//! let old = cell.swap(Owned::new(String::from("new")), AcqRel, guard);
//! // SAFETY: `old` is not null, and the guard keeps it.
//! assert_eq!(unsafe { old.deref() }, "old");
//! // SAFETY: nobody can reach it any more, and it is destroyed once.
//! unsafe { guard.defer_destroy(old) };
//! # // SAFETY: the last pointer.
//! # drop(unsafe { cell.into_owned() });
//! ```
//!
//! # What is different
//! - **`pin` is no fence.** In crossbeam-epoch the outermost [`pin`] runs a full fence, and crossbeam-deque relies on
//!   that: it asks [`is_pinned`], and runs its own fence only if the answer is yes. Here `is_pinned` runs the fence
//!   when it returns false, so crossbeam-deque is correct unchanged. A program that relies on the fence of `pin`
//!   without asking needs a fence of its own, or [`Source::Fence`](crate::Source::Fence) ([`configure`]).
//! - **Garbage is freed without further calls.** A background thread frees what inactive threads hold, so no thread
//!   has to pin or flush again. Closures and destructors also run on that thread. A thread that defers runs some in
//!   [`Guard::defer`], and none in `pin`.
//! - **The end of a program**: [`drain`] calls everything that was deferred. A clean exit does the same, and waits
//!   for other threads for 50 ms at most. A closure that blocks there delays the exit.
//! - **A stalled guard** can be found ([`Collector::blockers`]), measured ([`Collector::stats`]) and
//!   limited ([`configure`], with [`Builder::limit_bytes`](crate::Builder::limit_bytes)).
//! - **After a fork** the process's own collector starts afresh in the child. Guards and handles from before the fork
//!   hold back what the child defers. Any other collector of the parent frees nothing there
//!   ([limitations](crate::docs::limitations#fork)).
//! - It needs `std`, and Rust 1.85.

mod atomic;
mod child;
mod collector;
mod compare;
mod control;
mod default;
mod deferred;
mod exit;
mod guard;
mod owned;
mod participant;
mod pointable;
mod shared;
mod word;

pub use atomic::Atomic;
pub use collector::{Collector, LocalHandle};
pub use compare::CompareExchangeError;
#[allow(deprecated, reason = "crossbeam-epoch 0.9 has these names still")]
pub use compare::{CompareAndSetError, CompareAndSetOrdering};
pub use control::{ConfigureError, DrainError, configure, drain};
pub use default::{default_collector, is_pinned, pin};
pub use guard::{Guard, unprotected};
pub use owned::Owned;
pub use pointable::{Pointable, Pointer};
pub use shared::Shared;
