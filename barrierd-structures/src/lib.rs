//! Concurrent data structures on [`barrierd_reclaim`]: safe interfaces, lock-free, and reads without a fence.
//!
//! | | order | a value of 8 bytes takes |
//! |---|---|---|
//! | [`Queue`] | first in, first out | 9 to 10 bytes |
//! | [`Stack`] | last in, first out | 32 bytes |
//! | [`Map`] | by keys, in no order; it grows | 64 bytes with a key of 8 |
//!
//! ```
//! use barrierd_structures::{Queue, Stack};
//!
//! let (queue, stack) = (Queue::new(), Stack::new());
//! for n in 1..=3 {
//!     queue.push(n);
//!     stack.push(n);
//! }
//! assert_eq!((queue.pop(), stack.pop()), (Some(1), Some(3)));
//! ```
//!
//! # Sections
//! The map's references live as long as a section that its user opens ([`Map::pin`], or any guard of its reclaimer).
//! Operations of the stack and the queue open a section by themselves, on the calling thread's place in the structure's
//! reclaimer; a [`handle`](Queue::handle) spares looking that up. Values are moved out, so nobody needs a guard to hold one.
//! [`Protection`] says what a thread that is stopped in the midst of an operation holds back.
//!
//! A structure that is made by `new` shares the process's own reclaimer ([`Reclaimer::global`](barrierd_reclaim::Reclaimer::global))
//! with all others: a guard that is held for long anywhere on it holds back what is retired meanwhile. On a reclaimer of its
//! own (`with_reclaimer`) a structure waits for its own operations alone.
//!
//! ```
//! use barrierd_structures::{Map, Reclaimer};
//!
//! let ports: Map<String, u16> = Map::with_reclaimer(&Reclaimer::new());
//! ports.pin().insert("http".into(), 80);
//! ```
//!
//! # After a fork
//! A structure goes on working in the child. What it retires to a reclaimer of the parent's is kept for good there, as
//! [`Reclaimer`] says.

#![cfg_attr(docsrs, feature(doc_cfg))]

/// The name by which tests outside know it, for those of them that run inside, too.
#[cfg(test)]
extern crate self as barrierd_structures;

mod backoff;
#[cfg(not(barrierd_loom))]
mod batch;
#[cfg(not(barrierd_loom))]
mod collection;
#[cfg(not(barrierd_loom))]
mod drain;
pub mod map;
#[cfg(all(barrierd_loom, test))]
mod models;
#[cfg_attr(barrierd_loom, allow(dead_code, reason = "its users are left out under loom"))]
mod nodes;
mod protect;
#[cfg(not(barrierd_loom))]
mod protection;
#[cfg(not(barrierd_loom))]
mod queue;
#[cfg_attr(barrierd_loom, allow(dead_code, reason = "its users are left out under loom"))]
mod raw;
#[cfg(not(barrierd_loom))]
mod stack;
mod sync;

/// What the structures' signatures name, so that a program needs no dependency on that crate for them.
pub use barrierd_reclaim::{Guard, Reclaimer};
#[cfg(not(barrierd_loom))]
pub use map::Map;
#[cfg(not(barrierd_loom))]
pub use protection::{Hazards, Plain, Protection, Robust};
#[cfg(not(barrierd_loom))]
pub use queue::{Queue, QueueHandle, QueueIntoIter};
#[cfg(not(barrierd_loom))]
pub use stack::{Stack, StackHandle, StackIntoIter};

/// The README's code runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
