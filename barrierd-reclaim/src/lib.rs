//! Safe memory reclamation whose readers run no fence, no atomic read-modify-write and no system
//! call.
//!
//! A lock-free data structure can't free a removed node at once, since a reader may still hold it. To find out
//! whether one does, other schemes make readers pay for a fence in every section or on every pointer. Here the reader
//! writes a plain word. The writer waits until *every CPU has passed a memory barrier anyway*, because it took an
//! interrupt or switched tasks. Then all those words are visible, and no fence was spent. The barrier daemon
//! (`barrierd`) watches the CPUs and says up to which moment all have passed one. Where it does not run,
//! `membarrier(2)` is used instead.
//!
//! [`Reclaimer`] is the place to start: [`Reclaimer::pin`] to read, [`Reclaimer::retire`] to
//! remove. The protocol and its proof are in the repository's `ARCHITECTURE.md`.
//!
//! # Which guard
//! | guard | what it keeps from being freed | what it costs |
//! |---|---|---|
//! | [`Guard`] | all that is retired while it lives | two loads, a test and two stores for each section |
//! | [`RobustGuard`] | the [`Born`] objects that are older than its last load | one more load and comparison for each pointer |
//! | [`Hazard`] | one object | one more load and a store for each pointer |
//! | [`OwnedGuard`] | the same as `Guard`, on any thread and across an `.await` | a record of its own in the domain |
//!
//! # Who blocks
//! [`Reclaimer::stats`], [`status`](Reclaimer::status) and [`blockers`](Reclaimer::blockers) say how much waits and
//! for which threads. [`Builder::stall_hook`] calls back, and the cargo feature `tracing` emits events: see
//! [`docs::observing`].
//!
//! # Limits
//! - A guard holds back everything that was retired after it was made. Keep sections short, or take a [`RobustGuard`]
//!   or a [`Hazard`] where a reader may stall.
//! - `retire`, `flush` and `synchronize` read the daemon's file (`pin` never does). If someone with write access to
//!   it (root) truncates it, that read ends the process by SIGBUS, as with any shared mapping.
//! - After `fork`, nothing that was retired to a reclaimer of the parent is freed in the child, except up to 126
//!   objects that the forking thread, or one of its handles, had already found safe. `retire` keeps its object for
//!   good, and [`synchronize`](Reclaimer::synchronize) returns [`Forked`](SynchronizeError::Forked). Make a new
//!   reclaimer in the child. The process's own collector of [`epoch`] starts afresh by itself
//!   ([limitations](docs::limitations#fork)).
//! - A signal handler may only call [`pin`](Reclaimer::pin) and [`pin_robust`](Reclaimer::pin_robust), call `protect`
//!   on their guards, and drop them. Even that is allowed only on a thread that has called the same before and used
//!   no other reclaimer since, and not with [`Source::Fence`].
//! - A destructor that panics while the last clone of a reclaimer is dropped, or on the background thread, is
//!   reported by the panic hook and goes no further, so that the objects after it in the queue are freed.
//! - A domain's destructors run one at a time on a background thread. One that blocks keeps the domain waiting; other
//!   domains are served by another thread after 100 ms, as long as no more than three destructors block. Dropping the
//!   last clone waits for the destructor. So the destructor must not wait for the thread that drops the clone: that
//!   is a deadlock, which the stall hook and `tracing` report.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod background;
mod bag;
pub mod docs;
mod domain;
mod engine;
// Its fast path has constants that loom lacks.
#[cfg(not(barrierd_loom))]
pub mod epoch;
mod error;
mod evidence;
mod later;
mod locks;
mod meter;
#[cfg(all(barrierd_loom, test))]
mod models;
mod panics;
mod platform;
mod process;
mod protocol;
mod rcu;
mod report;
/// For the models of the crates that rest on this one.
#[cfg(barrierd_loom)]
#[doc(hidden)]
#[path = "models/search.rs"]
pub mod search;
mod sync;

pub use api::builder::Builder;
pub use api::guard::Guard;
pub use api::handle::Handle;
pub use api::hazard::{Hazard, HazardPair};
pub use api::held::{Held, Section};
pub use api::owned::OwnedGuard;
pub use api::reclaimer::Reclaimer;
pub use api::recycle;
pub use api::robust::{Born, RobustGuard};
pub use domain::limit::OnLimit;
pub use error::{BuildError, MembarrierError, SynchronizeError};
pub use evidence::source::{ActiveSource, Source};
pub use evidence::status::{Status, Why};
pub use meter::stats::Stats;
pub use rcu::Rcu;
pub use rcu::read::{MappedReadGuard, OwnedReadGuard, ReadGuard, Reader};
pub use rcu::retired::Retired;
pub use report::blockers::Blocker;
pub use report::pressure::Pressure;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
