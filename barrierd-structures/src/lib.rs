//! Concurrent data structures on [`barrierd_reclaim`]: safe interfaces, lock-free, and reads without a fence.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod map;
mod queue;
mod stack;

pub use map::Map;
