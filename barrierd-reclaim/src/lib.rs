//! Safe memory reclamation whose readers run no fence, no atomic read-modify-write and no system
//! call.
//!
//! A lock-free data structure can't free a removed node at once: a reader may hold it. Schemes that
//! find out whether one does make readers pay, with a fence on every section or on every pointer.
//! Here the reader writes a plain word, and the writer waits until *every CPU has passed a memory
//! barrier anyway*, because it took an interrupt or switched tasks: then all those words are
//! visible, and no fence was spent. The barrier daemon (`barrierd`) watches the CPUs and says up to
//! which moment all have; where it does not run, `membarrier(2)` stands in for it.
//!
//! [`Reclaimer`] is the place to start: [`Reclaimer::pin`] to read, [`Reclaimer::retire`] to
//! remove. The protocol and its proof are in the repository's `ARCHITECTURE.md`.
//!
//! # Which guard
//! | | keeps from being freed | costs |
//! |---|---|---|
//! | [`Guard`] | all that is retired while it lives | a load and two stores a section |
//! | [`RobustGuard`] | the [`Born`] objects that are older than its last load | a load and a compare more a pointer |
//! | [`Hazard`] | one object | a load and a store more a pointer |
//! | [`OwnedGuard`] | as `Guard`, on any thread, across an `.await` | a place of its own in the domain |
//!
//! # Who blocks
//! [`Reclaimer::stats`], [`status`](Reclaimer::status) and [`blockers`](Reclaimer::blockers) say what waits and for
//! whom, [`Builder::stall_hook`] calls back, and the cargo feature `tracing` emits events: [`docs::observing`].
//!
//! # Limits
//! - What a guard holds back is everything that was retired after it was made: keep sections short, or
//!   take a [`RobustGuard`] or a [`Hazard`] where a reader may stall.
//! - `retire`, `flush` and `synchronize` read the daemon's file (`pin` never does). If someone with
//!   write access to it (root) truncates it, that read dies of SIGBUS, as with any shared mapping.
//! - After `fork`, nothing that was retired to a reclaimer of the parent is freed in the child (but for
//!   up to 126 objects that the forking thread, or a handle of its, had already found safe): `retire` keeps it for good,
//!   [`synchronize`](Reclaimer::synchronize) says [`Forked`](SynchronizeError::Forked). Make a new one. The process's own collector of [`epoch`] begins anew by
//!   itself ([limitations](docs::limitations#fork)).
//! - In a signal handler only [`pin`](Reclaimer::pin), [`pin_robust`](Reclaimer::pin_robust), their
//!   guards' `protect` and their end are allowed, on a thread that has called the same before and used
//!   no other reclaimer since, and not with [`Source::Fence`].
//! - A destructor that panics while the last clone of a reclaimer is dropped, or on the background
//!   thread, is reported by the panic hook and goes no further, so that the objects behind it are freed.
//! - A domain's destructors run one at a time on a background thread: one that blocks keeps the domain waiting
//!   (others are served by another thread after 100 ms, with three that block), and dropping the last clone
//!   waits for it. It must not wait for the thread that drops: that is a deadlock, which the stall hook and
//!   `tracing` tell of.

mod api;
mod background;
mod bag;
pub mod docs;
mod domain;
mod engine;
// Its fast path has constants that loom has not.
#[cfg(not(loom))]
pub mod epoch;
mod error;
mod evidence;
mod later;
mod locks;
mod meter;
#[cfg(all(loom, test))]
mod models;
mod process;
mod protocol;
mod report;
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
pub use report::blockers::Blocker;
pub use report::pressure::Pressure;

/// The README's code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
