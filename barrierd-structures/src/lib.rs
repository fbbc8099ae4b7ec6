//! Concurrent data structures on [`barrierd_reclaim`]: safe interfaces, lock-free, and reads without a fence.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
#[cfg(not(barrierd_loom))]
mod drain;
#[cfg(not(barrierd_loom))]
mod map;
#[cfg(all(barrierd_loom, test))]
mod models;
mod protect;
#[cfg(not(barrierd_loom))]
mod protection;
#[cfg(not(barrierd_loom))]
mod queue;
#[cfg_attr(barrierd_loom, allow(dead_code, reason = "its users are left out under loom"))]
mod raw;
#[cfg(not(barrierd_loom))]
mod section;
#[cfg(not(barrierd_loom))]
mod stack;
mod sync;

#[cfg(not(barrierd_loom))]
pub use protection::{Hazards, Plain, Protection, Robust};
#[cfg(not(barrierd_loom))]
pub use queue::{Queue, QueueHandle, QueueIntoIter};
#[cfg(not(barrierd_loom))]
pub use section::Section;
#[cfg(not(barrierd_loom))]
pub use stack::{Stack, StackHandle, StackIntoIter};
