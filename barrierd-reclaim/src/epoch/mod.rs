//! The interface of crossbeam-epoch 0.9, on this library's reclaimer.
//!
//! For data structures that are written against `crossbeam-epoch`: they move over by one line in
//! `Cargo.toml`, unchanged (the repository's `compat/crossbeam-epoch`). New ones are better off with
//! [`Reclaimer`](crate::Reclaimer), whose domains are their own.
//!
//! Names, bounds, `Send` and `Sync`, panics and the meaning of tags are as there. [`pin`] runs no fence
//! and no locked instruction; [`Guard::defer`] runs none but once in 64 calls.
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
//! - **`pin` is no fence.** In crossbeam-epoch the outermost [`pin`] runs a full fence, and
//!   crossbeam-deque counts on that: it asks [`is_pinned`], and fences itself if so. Here
//!   `is_pinned` runs the fence when it says no, so that program is right as it stands. One that counts
//!   on the fence of `pin` without that question needs a fence of its own, or
//!   [`Source::Fence`](crate::Source::Fence) ([`configure`]).
//! - **Garbage goes by itself.** A background thread frees what threads hold that do nothing: nobody
//!   has to pin or flush again. Closures and destructors also run there; a thread that defers runs
//!   some in [`Guard::defer`], and none in `pin`.
//! - **The end of a program**: [`drain`] calls all that was deferred; at a clean exit as much is done, and
//!   others are waited for 50 ms at most. A closure that blocks there holds the exit up.
//! - **A stalled guard** can be found ([`Collector::blockers`]), measured ([`Collector::stats`]) and
//!   limited ([`configure`], with [`Builder::limit_bytes`](crate::Builder::limit_bytes)).
//! - **After a fork** the process's own collector begins anew in the child; guards and handles from before hold
//!   back what the child defers. Any other collector of the parent frees nothing there
//!   ([limitations](crate::docs::limitations#fork)).
//! - It needs `std`, and Rust 1.88.

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
