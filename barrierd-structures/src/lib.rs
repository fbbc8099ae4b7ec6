//! Concurrent data structures on [`barrierd_reclaim`]: safe interfaces, lock-free, and reads without a fence.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod map;
mod queue;
mod section;
mod stack;

pub use section::Section;
