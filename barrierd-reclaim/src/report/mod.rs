//! Reports for people: sections that block, sections that stall, pressure at limits, and the events of the feature
//! `tracing`.
//!
//! This folder owns reports and their wording. It reads an engine's words, and nothing that it finds is a proof.

pub(crate) mod blockers;
#[cfg(all(test, not(barrierd_loom), feature = "tracing"))]
pub(crate) mod on_event;
pub(crate) mod pressure;
pub(crate) mod stalled;
pub(crate) mod told;
pub(crate) mod trace;
