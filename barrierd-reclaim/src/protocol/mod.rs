//! The reader protocol: pin, unpin, fence and stamp, and scan, over a domain's words and its readers.
//!
//! Pure atomics: this file knows nothing of threads, bags, clocks or where barriers come from, so
//! that loom runs these very functions (`models/`). The proof that governs it is in
//! docs/proofs/reclaim.md, "Why a freed item has no reader"; the comments below name its steps:
//!
//! - item p was unlinked, then a thread fenced and took the stamp `t` for it ([`Words::fence_and_stamp`]);
//! - a watermark `w > t` says that every thread of the domain passed a barrier after `t` and before `w` was learned:
//!   its CPU did (the daemon, membarrier), or it fenced and took a stamp itself ([`Reader::fence_and_stamp`]), or it
//!   loaded a stamp that is no earlier, and showed it ([`Reader::open`], [`walk`]);
//! - a scan that learned `w` first and then loaded every slot found only pins that show a stamp `>= t`;
//! - what groups of readers have left behind serves in place of a walk over them (`protocol/bound.rs`);
//! - a scan asks sleeping threads for no evidence, and does not load their slots (`protocol/dormant.rs`).

pub(crate) mod dormant;
pub(crate) mod holders;

mod bound;
mod reader;
mod scan;
#[cfg(all(test, not(barrierd_loom)))]
mod tests;
pub(crate) mod vtime;
mod words;

pub(crate) use bound::{Bound, glance};
pub(crate) use reader::Reader;
pub(crate) use scan::{Learned, Scan, Seen, scan, walk};
pub(crate) use vtime::{Evidence, VtimeMemory, VtimeWord};
pub(crate) use words::{Safe, Stamp, Words, raise};

/// Stamps are multiples of this, nanoseconds; no two stamps of a domain are equal. The rest of a
/// slot says whether its thread holds a guard.
pub(crate) const GRAIN: u64 = 16;
/// In a slot: its owner holds no guard. The stamp stays.
const IDLE: u64 = 1;

/// Returns the stamp in a slot, or in the beginning of an interval.
#[inline]
pub(crate) fn stamp_of(word: u64) -> u64 {
    word & !(GRAIN - 1)
}

/// Returns the watermark that `stamp` proves: a thread that has seen `stamp` has seen all stamps below it.
pub(crate) fn above(stamp: u64) -> u64 {
    stamp.saturating_add(GRAIN)
}
